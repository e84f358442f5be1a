//! Rows equal a fold of the log up to the checkpoint, whatever happens on the way.

use std::{sync::Barrier, thread};

use diptych::{
    App, Recorded,
    projection::{ReplacedError, Target, TargetError},
    store::LogIdentity,
};
use diptych_postgres_tables::{Postgres, Projection, Transaction};
use diptych_postgres_testing::{PostgresServer, new_name, shared};
use pollster::block_on;

use super::{
    follow::{End, follow, follow_as, follow_from, refused, trouble},
    shop::{Place, Sales, Trade, app, busy_app, happen, note, position, sold},
};

#[test]
fn rows_equal_a_fold_after_random_events_in_batches_of_any_size() {
    let Some(server) = shared() else { return };
    for (seed, batch) in [(1, 1), (2, 7), (3, 1_000)] {
        let place = Place::new(server);
        let app = busy_app(seed, 300);
        let mut sales = place.sales();
        assert_eq!(position(&mut sales), None);
        follow(app.store(), &mut sales, batch).unwrap();
        let head = app.store().head().position();
        assert_eq!(place.assert_in_step(server, app.store()), head);
        happen(&app, &mut fastrand::Rng::with_seed(seed), 50);
        follow(app.store(), &mut sales, batch).unwrap();
        assert_eq!(place.assert_in_step(server, app.store()).get(), 350);
        assert_eq!(position(&mut place.sales()), Some(350));
    }
}

#[test]
fn a_rebuild_makes_the_same_rows() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    let app = busy_app(4, 200);
    let mut sales = place.sales();
    follow(app.store(), &mut sales, 50).unwrap();
    place.execute(server, "delete from sale; update shop_total set cents = 0");
    sales.reset().unwrap();
    assert_eq!(place.assert_in_step(server, app.store()).get(), 0);
    follow(app.store(), &mut sales, 50).unwrap();
    assert_eq!(place.assert_in_step(server, app.store()).get(), 200);
}

#[test]
fn rows_may_be_in_the_database_of_the_log_and_in_another_one() {
    let Some(server) = shared() else { return };
    let database = new_name();
    server.execute("postgres", &format!("create database \"{database}\""));
    let log = new_name();
    let app = block_on(App::over(server.open(&log)).start()).unwrap();
    happen(&app, &mut fastrand::Rng::with_seed(5), 120);
    for place in [Place::new(server), Place::named(server, &database, "reports")] {
        follow(app.store(), &mut place.sales(), 50).unwrap();
        assert_eq!(place.assert_in_step(server, app.store()).get(), 120);
    }
}

#[test]
fn of_several_programs_one_moves_the_checkpoint_and_nothing_is_doubled() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    let app = busy_app(6, 100);
    let mut random = fastrand::Rng::with_seed(6);
    for _ in 0..10 {
        let barrier = Barrier::new(3);
        let run = |batch| {
            let mut sales = place.sales();
            let at = sales.checkpoint().unwrap();
            barrier.wait();
            follow_from(at, app.store().identity(), app.store(), &mut sales, batch).unwrap()
        };
        let moved: u64 = thread::scope(|scope| {
            let runners: Vec<_> = (1..=3).map(|batch| scope.spawn(move || run(batch))).collect();
            runners.into_iter().map(|runner| runner.join().unwrap()).sum()
        });
        assert!(moved >= 2, "they did not meet");
        assert_eq!(place.assert_in_step(server, app.store()), app.store().head().position());
        happen(&app, &mut random, 100);
    }
}

fn replaced(end: Result<u64, End>) -> ReplacedError {
    match end {
        Err(End::Replaced(error)) => error,
        other => panic!("it was not noticed: {other:?}"),
    }
}

#[test]
fn a_checkpoint_of_another_log_or_history_is_noticed_before_a_row_changes() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    let (one, other) = (busy_app(9, 40), busy_app(10, 80));
    let mut sales = place.sales();
    follow(one.store(), &mut sales, 10).unwrap();
    let error = replaced(follow(other.store(), &mut sales, 10));
    assert!(matches!(error, ReplacedError::OtherLog { .. }), "{error}");
    note(&one, [sold(1, 1, 1)]);
    let identity = one.identity();
    let restored = LogIdentity { epoch: identity.epoch.next(), ..identity };
    let error = replaced(follow_as(restored, one.store(), &mut sales, 10));
    assert!(matches!(error, ReplacedError::OtherEpoch { .. }), "{error}");
    // A restored log that grew again has another event at the position.
    let error = replaced(follow_as(identity, other.store(), &mut sales, 10));
    assert!(matches!(error, ReplacedError::OtherHistory { .. }), "{error}");
    assert_eq!(place.assert_in_step(server, one.store()).get(), 40);
}

#[test]
fn a_server_that_was_killed_is_used_again_and_loses_and_doubles_nothing() {
    let Some(mut server) = PostgresServer::start() else { return };
    let place = Place::named(&server, "postgres", "reports");
    let app = busy_app(11, 50);
    let mut sales = place.sales();
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..5 {
        let writes = thread::scope(|scope| {
            let writes = scope.spawn(|| follow(app.store(), &mut sales, 1));
            // It is killed among the transactions: the batch after this one has begun or not.
            while place_position(&server, &place) < app.store().head().position().get() / 2 {
                thread::yield_now();
            }
            server.kill();
            writes.join().unwrap()
        });
        if let Err(end) = writes {
            let error = trouble(Err(end));
            assert!(matches!(error, TargetError::Unavailable { .. }), "{error}");
        }
        server.restart();
        place.assert_in_step(&server, app.store());
        follow(app.store(), &mut sales, 10).unwrap();
        assert_eq!(place.assert_in_step(&server, app.store()), app.store().head().position());
        happen(&app, &mut random, 200);
    }
}

/// The checkpoint as another program sees it; 0 before there is one.
fn place_position(server: &PostgresServer, place: &Place) -> u64 {
    let known = "select 1 from pg_tables
        where schemaname = current_schema() and tablename = 'diptych_checkpoint'";
    if place.ask(server, [known])[0].is_empty() {
        return 0;
    }
    let [at] = place.ask(server, ["select position from diptych_checkpoint"]);
    at.first().and_then(|row| row.get::<_, Option<i64>>(0)).unwrap_or(0).cast_unsigned()
}

#[test]
fn a_server_that_does_not_answer_is_tried_again_later() {
    let mut nowhere = Postgres::at("postgres://ann:secret@127.0.0.1:1/reports").projection(Sales);
    let error = nowhere.checkpoint().unwrap_err();
    assert!(matches!(error, TargetError::Unavailable { .. }), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    let mut wrong = Postgres::at("mysql://ann:secret@127.0.0.1/reports").projection(Sales);
    let error = wrong.checkpoint().unwrap_err();
    assert!(matches!(error, TargetError::Broken { .. }), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn tables_that_were_changed_from_outside_are_noticed_and_rebuilt_by_a_reset() {
    let Some(server) = shared() else { return };
    for change in [
        "alter table sale add column note text",
        "alter table sale alter column month drop not null",
        "drop index sale_by_month",
        "drop table sale",
        "create unique index sale_once on sale (shop, month, cents)",
    ] {
        let place = Place::new(server);
        let app = app();
        note(&app, [sold(1, 1, 5)]);
        let mut sales = place.sales();
        follow(app.store(), &mut sales, 10).unwrap();
        place.execute(server, change);
        note(&app, [sold(1, 1, 6)]);
        let error = trouble(follow(app.store(), &mut sales, 10));
        assert!(matches!(error, TargetError::Broken { .. }), "{change}: {error}");
        if !change.contains("unique") {
            sales.reset().unwrap();
            follow(app.store(), &mut sales, 10).unwrap();
            assert_eq!(place.assert_in_step(server, app.store()).get(), 2, "{change}");
        }
    }
}

/// A projection as a test wants it.
struct TestProjection {
    version: u32,
    create: &'static [&'static str],
    apply: fn(&mut Transaction<'_>, &Recorded<Trade>) -> diptych_postgres_tables::Result,
}

impl Projection for TestProjection {
    type Event = Trade;

    fn name(&self) -> &str {
        "made"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn create(&self) -> Vec<String> {
        self.create.iter().map(|&sql| sql.to_owned()).collect()
    }

    fn apply(
        &self,
        tx: &mut Transaction<'_>,
        event: &Recorded<Trade>,
    ) -> diptych_postgres_tables::Result {
        (self.apply)(tx, event)
    }
}

fn nothing(_: &mut Transaction<'_>, _: &Recorded<Trade>) -> diptych_postgres_tables::Result {
    Ok(())
}

#[test]
fn a_changed_create_needs_a_new_version_which_makes_the_tables_anew() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    let made = |version, create| {
        place.tables().projection(TestProjection { version, create, apply: nothing })
    };
    let (one, two) = (&["create table a (b text)"][..], &["create table a (c bigint)"][..]);
    made(1, one).checkpoint().unwrap();
    let error = made(1, two).checkpoint().unwrap_err();
    assert!(error.to_string().contains("raise the version"), "{error}");
    made(2, two).checkpoint().unwrap();
    place.execute(server, "select c from a");
    let error = made(1, one).checkpoint().unwrap_err();
    assert!(error.to_string().contains("have version 2"), "{error}");
}

#[test]
fn create_that_is_refused_leaves_nothing() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    place.execute(
        server,
        &format!("create schema \"{}\"; create table other (id bigint primary key)", place.schema),
    );
    for (create, told) in [
        ("create unlogged table a ()", "leave out UNLOGGED"),
        ("commit", "makes tables"),
        ("create table other ()", "already exists"),
        ("create table a (b bigint references nowhere)", "nowhere"),
    ] {
        let create: &'static [&'static str] = Box::leak(Box::new([create]));
        let mut made =
            place.tables().projection(TestProjection { version: 1, create, apply: nothing });
        let error = made.checkpoint().unwrap_err();
        assert!(matches!(error, TargetError::Broken { .. }), "{error}");
        assert!(error.to_string().contains(told), "{error}");
        let [tables] = place.ask(
            server,
            ["select relname::text from pg_class c
            join pg_namespace n on n.oid = relnamespace
            where nspname = current_schema() and relkind = 'r'"],
        );
        assert_eq!(tables.len(), 1, "{told}");
    }
}

const NUMBERS: &[&str] = &["create table number (cents bigint primary key check (cents < 100))"];

#[test]
fn a_row_that_is_refused_in_a_bulk_insert_is_the_error_of_its_event() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    let app = app();
    note(&app, [sold(1, 1, 1), sold(1, 1, 2), sold(1, 1, 2), sold(1, 1, 3)]);
    let apply = |tx: &mut Transaction<'_>, event: &Recorded<Trade>| {
        let Trade::Sold { cents, .. } = &event.event else { return Ok(()) };
        tx.insert("number", &["cents"], &[cents])?;
        Ok(())
    };
    let mut made = place.tables().projection(TestProjection { version: 1, create: NUMBERS, apply });
    let (position, reason) = refused(follow(app.store(), &mut made, 10));
    assert_eq!(position, 3);
    assert!(reason.contains("duplicate key"), "{reason}");
    let [rows] = place.ask(server, ["select cents from number order by cents"]);
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1, 2]);
}

#[test]
fn an_error_that_apply_ignores_commits_nothing_of_the_event() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    let app = app();
    note(&app, [sold(1, 1, 1), sold(1, 1, 100), sold(1, 1, 3)]);
    let apply = |tx: &mut Transaction<'_>, event: &Recorded<Trade>| {
        let Trade::Sold { cents, .. } = &event.event else { return Ok(()) };
        let _ = tx.execute("insert into number values ($1)", &[cents]);
        Ok(())
    };
    let mut made = place.tables().projection(TestProjection { version: 1, create: NUMBERS, apply });
    let (position, reason) = refused(follow(app.store(), &mut made, 10));
    assert_eq!(position, 2);
    assert!(reason.contains("did not return its error"), "{reason}");
    let [rows] = place.ask(server, ["select cents from number"]);
    assert_eq!(rows.len(), 1);
}

#[test]
fn apply_cannot_end_its_transaction() {
    let Some(server) = shared() else { return };
    let app = app();
    note(&app, [sold(1, 1, 1)]);
    for sql in ["commit", "rollback", "select 1; commit", "set role postgres"] {
        static SQL: std::sync::Mutex<&str> = std::sync::Mutex::new("");
        *SQL.lock().unwrap() = sql;
        let apply = |tx: &mut Transaction<'_>, _: &Recorded<Trade>| {
            let sql = *SQL.lock().unwrap();
            tx.execute(sql, &[])?;
            Ok(())
        };
        let place = Place::new(server);
        let mut made =
            place.tables().projection(TestProjection { version: 1, create: NUMBERS, apply });
        assert_eq!(refused(follow(app.store(), &mut made, 10)).0, 1, "{sql}");
        assert_eq!(position(&mut made), None);
    }
}

#[test]
fn rows_given_for_bulk_insert_are_seen_by_the_next_statement() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    let app = app();
    note(&app, [sold(1, 1, 1), sold(1, 1, 2), sold(1, 1, 3)]);
    let apply = |tx: &mut Transaction<'_>, event: &Recorded<Trade>| {
        let Trade::Sold { cents, .. } = &event.event else { return Ok(()) };
        tx.insert("number", &["cents"], &[cents])?;
        let count: i64 = tx.query("select count(*) from number", &[])?[0].get(0);
        match count == *cents {
            true => Ok(()),
            false => Err(format!("{count} rows after {cents}").into()),
        }
    };
    let mut made = place.tables().projection(TestProjection { version: 1, create: NUMBERS, apply });
    follow(app.store(), &mut made, 10).unwrap();
    // A value that its column cannot hold is told with its column.
    note(&app, [sold(1, 1, 4)]);
    let apply = |tx: &mut Transaction<'_>, _: &Recorded<Trade>| {
        tx.insert("number", &["cents"], &[&"four"])?;
        Ok(())
    };
    let mut made = place.tables().projection(TestProjection { version: 1, create: NUMBERS, apply });
    let (at, reason) = refused(follow(app.store(), &mut made, 10));
    assert_eq!(at, 4);
    assert!(reason.contains("column cents of table number"), "{reason}");
}
