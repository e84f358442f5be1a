//! Logs that move into a database and out of it: the row that fences them, and connections that are
//! lost at every message of a step.

use diptych_postgres::{
    Arrival, MoveError, MoveTarget, OpenError, PostgresDatabase, PostgresOptions, PostgresStore,
};
use diptych_store::{
    Append, AppendError, EventStore, Fence, LogIdentity, Store, Tracking, Unavailable,
};
use pollster::block_on;

use super::{
    append, event, payloads,
    proxy::Proxy,
    server::{PostgresServer, new_name, runtime, shared},
};

const ELSEWHERE: &str = "/mnt/bank";

fn refusal(answer: Result<impl std::fmt::Debug, AppendError>) -> String {
    match answer.unwrap_err() {
        AppendError::Unavailable(Unavailable::Server { what }) => what.to_string(),
        other => panic!("{other:?}"),
    }
}

fn begin(address: &str, identity: LogIdentity) -> Result<Arrival, MoveError> {
    let options = PostgresOptions::default();
    match block_on(Arrival::begin(address, identity, ELSEWHERE, options))? {
        MoveTarget::Incomplete(arrival) => Ok(arrival),
        MoveTarget::Complete => panic!("it is complete"),
    }
}

/// An append with the time that a move gives it.
fn moved(payload: &str) -> Append {
    let mut append = Append::event(event(payload, "k:1"));
    append.recorded_at = Some(diptych_store::Timestamp::from_micros(7));
    append
}

#[test]
fn a_fence_refuses_commits_of_every_kind_and_every_program_and_reads_go_on() {
    let Some(server) = shared() else { return };
    let name = new_name();
    let stores = [(); 2].map(|()| Store::new(server.open(&name)));
    append(&stores[0], Append::event(event(1, "k:1")).tracking(Tracking::new("feed", 1))).unwrap();
    let open = server.open(&name);
    assert_eq!(block_on(open.fenced(ELSEWHERE)).unwrap(), None);
    let fence = block_on(open.fence(open.identity(), ELSEWHERE)).unwrap();
    assert_eq!(fence, Fence::new(open.identity(), 1.into()));
    assert_eq!(block_on(open.fence(open.identity(), ELSEWHERE)).unwrap(), fence);
    assert_eq!(block_on(open.fenced(ELSEWHERE)).unwrap(), Some(fence));
    for store in stores.iter().chain([&Store::new(server.open(&name))]) {
        let late = [
            Append::event(event(2, "k:1")),
            Append::events([]).tracking(Tracking::new("feed", 2)),
            Append::event(event(3, "k:1")).tracking(Tracking::new("other", 1)),
        ];
        for late in late {
            let what = refusal(append(store, late));
            assert!(what.contains("moved to /mnt/bank and takes commits there (DP005)"), "{what}");
        }
        assert_eq!(payloads(store), ["1"]);
    }
    // A program that does not know moves changes the row in the same way.
    let raise = format!("update diptych.log set head = head + 1 where name = '{name}'");
    runtime().block_on(async {
        let client = server.client("postgres").await;
        let refused = client.batch_execute(&raise).await.unwrap_err();
        assert_eq!(refused.code().map(|code| code.code()), Some("DP005"));
    });
    let other = block_on(open.fence(open.identity(), "/mnt/other")).unwrap_err();
    assert!(matches!(other, MoveError::Source { .. }), "{other}");
    let address = server.address("postgres", &name);
    let back = begin(&address, open.identity()).unwrap_err();
    assert!(back.to_string().contains("does not come back"), "{back}");
}

#[test]
fn a_log_in_a_new_epoch_is_not_fenced() {
    let Some(server) = shared() else { return };
    let open = server.open(&new_name());
    let other = LogIdentity { epoch: open.identity().epoch.next(), ..open.identity() };
    let error = block_on(open.fence(other, ELSEWHERE)).unwrap_err();
    assert!(matches!(&error, MoveError::Source { .. }), "{error}");
    assert!(error.to_string().contains("begin the move anew"), "{error}");
    append(&Store::new(open), Append::event(event(1, "k:1"))).unwrap();
}

#[test]
fn a_log_that_arrives_takes_the_commits_of_the_last_run_of_its_move_alone() {
    let Some(server) = shared() else { return };
    let (name, identity) = (new_name(), LogIdentity::random());
    let address = server.address("postgres", &name);
    let first = begin(&address, identity).unwrap();
    append(&Store::new(first.store().clone()), moved("1")).unwrap();
    let user = Store::new(server.open(&name));
    assert_eq!(user.identity(), identity);
    let what = refusal(append(&user, Append::event(event("early", "k:1"))));
    assert!(what.contains("moves here from /mnt/bank") && what.contains("(DP006)"), "{what}");
    let second = begin(&address, identity).unwrap();
    append(&Store::new(second.store().clone()), moved("2")).unwrap();
    let what = refusal(append(&Store::new(first.store().clone()), moved("late")));
    assert!(what.contains("(DP006)"), "{what}");
    let fence = Fence::new(identity, 2.into());
    let error = block_on(first.complete(&fence)).unwrap_err();
    assert!(error.to_string().contains("another run of the move"), "{error}");
    let short =
        block_on(begin(&address, identity).unwrap().complete(&Fence::new(identity, 3.into())));
    assert!(matches!(short, Err(MoveError::Target { .. })), "{short:?}");
    refusal(append(&user, Append::event(event("early", "k:1"))));
    let third = begin(&address, identity).unwrap();
    block_on(third.complete(&fence)).unwrap();
    append(&user, Append::event(event("3", "k:1"))).unwrap();
    assert_eq!(payloads(&user), ["1", "2", "3"]);
    let again = block_on(Arrival::begin(&address, identity, ELSEWHERE, PostgresOptions::default()));
    assert!(matches!(again, Ok(MoveTarget::Complete)), "{again:?}");
    let other = begin(&address, LogIdentity::random()).unwrap_err();
    assert!(matches!(other, MoveError::Target { .. }), "{other}");
}

#[test]
fn a_connection_that_is_lost_at_any_message_leaves_one_place_or_none_that_takes_commits() {
    let Some(server) = PostgresServer::start() else { return };
    drop(server.open("main"));
    let proxy = Proxy::start(server.port());
    let mut options = PostgresOptions::default();
    options.answer_time = std::time::Duration::from_secs(5);
    let repeat = |step: &dyn Fn() -> Result<(), MoveError>| {
        let mut tries = 0;
        while let Err(error) = step() {
            let is_of_connection = matches!(error, MoveError::Open(OpenError::Server { .. }));
            assert!(is_of_connection, "{error:?}");
            tries += 1;
            assert!(tries < 20, "{error}");
        }
    };
    for pieces in 0..24 {
        let (from, to) = (format!("from-{pieces}"), format!("to-{pieces}"));
        let [here, there] =
            [&from, &to].map(|name| server.address_at(proxy.port(), "postgres", name));
        let users = [(); 2].map(|()| Store::new(server.open(&from)));
        append(&users[0], Append::event(event("1", "k:1"))).unwrap();
        let identity = users[0].identity();
        let place = PostgresDatabase::at(&there, options.clone()).unwrap().bare_address();
        // Each step as the command repeats it, until it has an answer.
        proxy.cut_after(pieces);
        repeat(&|| {
            let arrival = Arrival::begin(&there, identity, &here, options.clone());
            let MoveTarget::Incomplete(arrival) = block_on(arrival)? else { panic!("complete") };
            // An outcome that is not known is found by the last step.
            drop(append(&Store::new(arrival.store().clone()), moved("1")));
            Ok(())
        });
        append(&users[1], Append::event(event("2", "k:1"))).unwrap();
        proxy.cut_after(pieces);
        let fence = std::cell::Cell::new(None);
        repeat(&|| {
            let source = block_on(PostgresStore::open(&here, options.clone()))?;
            fence.set(Some(block_on(source.fence(identity, &place))?));
            Ok(())
        });
        let fence = fence.take().unwrap();
        assert_eq!(fence.upto().get(), 2);
        for user in &users {
            assert!(refusal(append(user, Append::event(event("late", "k:1")))).contains("DP005"));
        }
        let reader = Store::new(server.open(&to));
        assert!(refusal(append(&reader, Append::event(event("early", "k:1")))).contains("DP006"));
        proxy.cut_after(pieces);
        repeat(&|| {
            let arrival = Arrival::begin(&there, identity, &here, options.clone());
            let MoveTarget::Incomplete(arrival) = block_on(arrival)? else { return Ok(()) };
            let target = Store::new(arrival.store().clone());
            for payload in ["1", "2"].into_iter().skip(payloads(&target).len()) {
                append(&target, moved(payload)).unwrap();
            }
            block_on(arrival.complete(&fence))
        });
        append(&reader, Append::event(event("3", "k:1"))).unwrap();
        assert_eq!(payloads(&reader), ["1", "2", "3"], "cut after {pieces}");
        assert_eq!(payloads(&users[0]), ["1", "2"]);
    }
    assert!(proxy.cuts() > 24, "{} connections were cut", proxy.cuts());
}

#[test]
fn an_append_whose_refusal_is_lost_with_the_connection_is_known_to_be_refused() {
    let Some(server) = PostgresServer::start() else { return };
    let mover = server.open("main");
    let proxy = Proxy::start(server.port());
    let address = server.address_at(proxy.port(), "postgres", "main");
    let store = block_on(PostgresStore::open(&address, PostgresOptions::default())).unwrap();
    let store = Store::new(store);
    append(&store, Append::event(event("1", "k:1"))).unwrap();
    block_on(mover.fence(mover.identity(), ELSEWHERE)).unwrap();
    for pieces in 0..3 {
        proxy.cut_after(pieces);
        let error = append(&store, Append::event(event("late", "k:1"))).unwrap_err();
        assert!(matches!(error, AppendError::Unavailable(_)), "cut after {pieces}: {error:?}");
        assert!(error.to_string().contains("DP005"), "{error}");
    }
    assert!(proxy.cuts() > 0);
    assert_eq!(payloads(&store), ["1"]);
}

/// Takes the schema back to the version before moves.
const WITHOUT_MOVES: &str = "drop function diptych.end_arrival(text);
    drop trigger check_move on diptych.log;
    drop function diptych.check_move();
    alter table diptych.log drop column moved_to, drop column moving_from, drop column mover,
      drop column database_id;
    drop table diptych.takeover;
    delete from diptych.schema_version where version > 2";

#[test]
fn a_program_that_worked_before_the_migration_is_refused_after_the_fence() {
    let Some(server) = PostgresServer::start() else { return };
    // The statements of the version before are the same.
    let before = Store::new(server.open("main"));
    server.execute("postgres", WITHOUT_MOVES);
    append(&before, Append::event(event("0", "k:1"))).unwrap();
    let migrating = std::thread::scope(|scope| {
        let appending = scope.spawn(|| {
            (1..200).try_for_each(|number| {
                append(&before, Append::event(event(number, "k:1"))).map(drop)
            })
        });
        let database =
            PostgresDatabase::at(&server.address("postgres", "main"), Default::default());
        let migrated = block_on(database.unwrap().migrate()).unwrap();
        appending.join().unwrap().unwrap();
        migrated
    });
    assert_eq!((migrating.was, migrating.is), (2, 7));
    let mover = server.open("main");
    block_on(mover.fence(mover.identity(), ELSEWHERE)).unwrap();
    assert!(refusal(append(&before, Append::event(event("late", "k:1")))).contains("DP005"));
    assert_eq!(payloads(&before).len(), 200);
}

#[test]
fn a_fence_that_a_standby_may_not_have_is_an_error_and_is_repeated() {
    let Some(server) = PostgresServer::start() else { return };
    let open = server.open("main");
    // No standby has this name.
    server.execute("postgres", "alter system set synchronous_standby_names = 'missing'");
    server.execute("postgres", "select pg_reload_conf()");
    let cancel = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'";
    let error = loop {
        // The server may read its settings a little later.
        let fenced = std::thread::scope(|scope| {
            let fencing = scope.spawn(|| block_on(open.fence(open.identity(), ELSEWHERE)));
            while !fencing.is_finished() {
                server.execute("postgres", cancel);
            }
            fencing.join().unwrap()
        });
        if let Err(error) = fenced {
            break error;
        }
    };
    assert!(error.to_string().contains("repeat the move when the standby is there"), "{error}");
    server.execute("postgres", "alter system reset synchronous_standby_names");
    server.execute("postgres", "select pg_reload_conf()");
    while block_on(open.fence(open.identity(), ELSEWHERE)).is_err() {
        server.execute("postgres", cancel);
    }
}
