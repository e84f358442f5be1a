//! Connections that are lost in a commit, databases that go back in time, and a full disk.

use std::time::Duration;

use diptych::{
    App,
    projection::{ReplacedError, Target, TargetError},
};
use diptych_postgres::{PostgresOptions, PostgresStore};
use diptych_postgres_tables::Postgres;
use diptych_postgres_testing::{PostgresServer, SmallDisk, shared};
use pollster::block_on;

use super::{
    commit_proxy::CommitProxy,
    follow::{End, follow, follow_from, trouble},
    shop::{Place, Sales, app, busy_app, happen, note, position, sold},
};

/// Never reached unless something is wrong.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_connection_that_is_lost_in_a_commit_loses_and_doubles_no_row() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    let log = busy_app(31, 60);
    let proxy = CommitProxy::start(server.port());
    let address = server.address_at(proxy.port(), "postgres", "main");
    let mut sales = Postgres::at(&address).schema(&place.schema).projection(Sales);
    let (mut at, mut lost) = (None, 0);
    // The runner keeps what it knows of the checkpoint, or reads it again.
    for round in 0.. {
        let known = match round % 2 {
            0 => Ok(at),
            _ => sales.checkpoint(),
        };
        let ended = known.map_err(End::Target).and_then(|known| {
            at = known;
            follow_from(known, log.identity(), log.store(), &mut sales, 3)
        });
        match ended {
            Ok(_) => break,
            Err(end) => {
                let error = trouble(Err(end));
                assert!(matches!(error, TargetError::Unavailable { .. }), "{error}");
                lost += 1;
            }
        }
        if round % 8 == 7 {
            place.assert_in_step(server, log.store());
        }
    }
    assert_eq!(place.assert_in_step(server, log.store()), log.store().head().position());
    println!("{lost} of {} commits were cut", proxy.commits());
    assert!(lost > 10, "{lost} of {} commits were cut", proxy.commits());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_projection_goes_on_after_connections_that_are_lost_in_commits() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    let log = app();
    let proxy = CommitProxy::start(server.port());
    let address = server.address_at(proxy.port(), "postgres", "main");
    let target = Postgres::at(&address).schema(&place.schema).projection(Sales);
    let app = log.beside().projection(target).start().await.unwrap();
    let control = app.projection("sales").unwrap();
    for turn in 0..6 {
        tokio::task::block_in_place(|| note(&log, [sold(1, 1, turn), sold(2, 2, turn)]));
        control.caught_up(LONG).await.unwrap();
    }
    app.stop().await.unwrap();
    let check = || place.assert_in_step(server, log.store()).get();
    assert_eq!(std::thread::scope(|scope| scope.spawn(check).join().unwrap()), 12);
    assert!(proxy.commits() > 6, "{} commits", proxy.commits());
}

fn open(server: &PostgresServer, database: &str) -> App {
    let address = server.address(database, "main");
    let store = block_on(PostgresStore::open(&address, PostgresOptions::default())).unwrap();
    block_on(App::over(store).start()).unwrap()
}

fn replaced(end: Result<u64, End>) -> ReplacedError {
    match end {
        Err(End::Replaced(error)) => error,
        other => panic!("it was not noticed: {other:?}"),
    }
}

#[test]
fn reports_that_were_restored_from_an_older_dump_go_on_from_there() {
    let Some(server) = PostgresServer::start() else { return };
    server.execute("postgres", "create database reports");
    let place = Place::named(&server, "reports", "shop");
    let log = busy_app(32, 100);
    let mut sales = place.sales();
    follow(log.store(), &mut sales, 30).unwrap();
    let Some(()) = server.dump("reports", "older") else { return };
    happen(&log, &mut fastrand::Rng::with_seed(33), 100);
    follow(log.store(), &mut sales, 30).unwrap();
    let newest = sales.checkpoint().unwrap();
    server.restore("reports", "older");
    assert_eq!(place.assert_in_step(&server, log.store()).get(), 100);
    happen(&log, &mut fastrand::Rng::with_seed(34), 50);
    // The runner believes that the rows are newer. Its connection is gone, and then they are not.
    let mut ended = follow_from(newest, log.identity(), log.store(), &mut sales, 30);
    while let Err(end) = ended {
        let error = trouble(Err(end));
        assert!(matches!(error, TargetError::Unavailable { .. }), "{error}");
        ended = follow_from(newest, log.identity(), log.store(), &mut sales, 30);
    }
    assert_eq!(place.assert_in_step(&server, log.store()).get(), 250);
}

#[test]
fn reports_of_a_log_that_was_restored_from_an_older_dump_are_told_and_rebuilt_by_a_reset() {
    let Some(server) = PostgresServer::start() else { return };
    server.execute("postgres", "create database bank");
    let place = Place::named(&server, "postgres", "reports");
    let log = open(&server, "bank");
    happen(&log, &mut fastrand::Rng::with_seed(35), 60);
    let Some(()) = server.dump("bank", "older") else { return };
    happen(&log, &mut fastrand::Rng::with_seed(36), 60);
    let mut sales = place.sales();
    follow(log.store(), &mut sales, 25).unwrap();
    block_on(log.stop()).unwrap();
    server.restore("bank", "older");
    let log = open(&server, "bank");
    assert_eq!(log.store().head().position().get(), 60);
    let error = replaced(follow(log.store(), &mut sales, 25));
    println!("{error}");
    // Other events take the positions of those that are gone.
    happen(&log, &mut fastrand::Rng::with_seed(37), 90);
    let error = replaced(follow(log.store(), &mut sales, 25));
    println!("{error}");
    assert_eq!(position(&mut sales), Some(120), "no row was changed");
    sales.reset().unwrap();
    follow(log.store(), &mut sales, 25).unwrap();
    assert_eq!(place.assert_in_step(&server, log.store()).get(), 150);
    block_on(log.stop()).unwrap();
}

#[test]
fn a_full_disk_of_the_reports_is_told_and_the_rows_go_on_once_it_has_space() {
    let Some(mut disk) = SmallDisk::new(20) else { return };
    let Some(server) = PostgresServer::start() else { return };
    let place = disk.path();
    let tablespace = format!("create tablespace small location '{}'", place.display());
    server.execute("postgres", &tablespace);
    server.execute("postgres", "create database reports tablespace small");
    let place = Place::named(&server, "reports", "shop");
    let log = busy_app(38, 100);
    let mut sales = place.sales();
    follow(log.store(), &mut sales, 30).unwrap();
    disk.fill();
    let mut random = fastrand::Rng::with_seed(39);
    let error = loop {
        happen(&log, &mut random, 200);
        match follow(log.store(), &mut sales, 100) {
            Ok(_) => assert!(log.store().head().position().get() < 20_000, "it is never full"),
            Err(end) => break trouble(Err(end)),
        }
    };
    assert!(matches!(error, TargetError::Unavailable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("No space left on device"), "{text}");
    assert!(place.assert_in_step(&server, log.store()) < log.store().head().position());
    disk.free();
    follow(log.store(), &mut sales, 100).unwrap();
    assert_eq!(place.assert_in_step(&server, log.store()), log.store().head().position());
}
