//! The schema, its partitions, and servers that do not fit.

use std::time::{Duration, Instant};

use diptych_postgres::{OpenError, PostgresDatabase, PostgresOptions, PostgresStore};
use diptych_store::{
    Append, AppendError, Direction, EventStore, Filter, InvalidRequest, Read, Refusal, Store,
    SyncError, Tag,
};
use pollster::block_on;
use tokio_postgres::error::SqlState;

use super::{
    all, append, event, parallel, payloads,
    server::{PostgresServer, new_name, runtime, shared},
    unless_newer,
};

#[test]
fn several_logs_share_a_database_and_nothing_else() {
    let Some(server) = shared() else { return };
    let names = [new_name(), new_name()];
    let logs = names.clone().map(|name| Store::new(server.open(&name)));
    for (number, store) in logs.iter().enumerate() {
        for turn in 0..=number {
            append(store, Append::event(event(turn, "k:1"))).unwrap();
        }
        let of_type = diptych_store::RawEvent::new(format!("only-{number}"), "");
        append(store, Append::event(of_type)).unwrap();
    }
    assert_ne!(logs[0].identity().id, logs[1].identity().id);
    for (number, store) in logs.iter().enumerate() {
        let events = number as u64 + 2;
        assert_eq!(store.head().position().get(), events);
        assert_eq!(block_on(store.count(&Tag::new("k", 1), events.into())).unwrap(), events - 1);
        let types = block_on(store.types()).unwrap();
        assert_eq!(types, ["noted".to_owned(), format!("only-{number}")]);
        // The condition sees the events of its log only.
        let own = Append::event(event("more", "k:1"));
        append(store, own.condition(unless_newer("k:1", events - 1))).unwrap();
    }
}

#[test]
fn a_log_goes_through_many_partitions() {
    let Some(server) = PostgresServer::start() else { return };
    let mut options = PostgresOptions::default();
    options.partition_events = 10;
    let stores = [(); 2].map(|()| Store::new(server.open_with("main", options.clone())));
    // Commits cross the bounds of partitions, and one spans several.
    for number in 0..30 {
        let events = (0..7).map(|turn| event(format!("{number}-{turn}"), "k:1"));
        append(&stores[number % 2], Append::events(events)).unwrap();
    }
    append(&stores[0], Append::events((0..45).map(|turn| event(turn, "l:1")))).unwrap();
    assert_eq!(payloads(&stores[1]).len(), 255);
    for filter in ["*", "tag=k:1", "type=noted", "type=noted tag=k:1 or tag=l:1"] {
        let filter: Filter = filter.parse().unwrap();
        let forwards: Vec<_> = all(&stores[0], &filter).into_iter().map(|(at, _)| at).collect();
        let read = Read { direction: Direction::Backwards, ..Read::all() };
        let batch = block_on(stores[1].read(&filter, read)).unwrap();
        let backwards: Vec<_> = batch.iter().map(|event| event.position().get()).collect();
        assert_eq!(backwards.into_iter().rev().collect::<Vec<_>>(), forwards, "{filter}");
    }
    let stale = Append::event(event("stale", "k:1")).condition(unless_newer("k:1", 3));
    let refused = append(&stores[1], stale).unwrap_err();
    let expected = Refusal::Conflict { at: 210.into(), after: 3.into() };
    assert!(matches!(refused, AppendError::Refused(refusal) if refusal == expected));
}

/// A condition or a bound that the server cannot compare with those of the partitions would give
/// the right answers, and take longer with each partition.
#[test]
fn an_append_and_a_read_of_recent_events_leave_older_partitions_alone() {
    let Some(server) = PostgresServer::start() else { return };
    let mut options = PostgresOptions::default();
    options.partition_events = 10;
    let open = || Store::new(server.open_with("main", options.clone()));
    let looks = |partitions: &str| {
        server.number(&format!(
            "select sum(idx_scan + seq_scan)::bigint from pg_stat_all_tables
            where schemaname = 'diptych' and relname ~ '^(event|tag)_p'
              and substring(relname from '[0-9]+$')::integer {partitions}"
        ))
    };
    // A server counts the looks of a session at the latest when that ends.
    let closed = |store: Store, before: i64| {
        drop(store);
        let start = Instant::now();
        while looks(">= 20") <= before {
            assert!(start.elapsed() < Duration::from_secs(30), "no look was counted");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let store = open();
    append(&store, Append::events((0..205).map(|turn| event(turn, "k:1")))).unwrap();
    append(&store, Append::event(event("last", "k:1"))).unwrap();
    closed(store, 0);
    let (older, newer) = (looks("< 20"), looks(">= 20"));

    // After a few calls a server uses one plan for all parameters.
    let store = open();
    for turn in 0..12 {
        let after = 206 + turn - 3;
        let new = Append::event(event(turn, "l:1")).condition(unless_newer("l:2", after));
        append(&store, new).unwrap();
        for filter in ["tag=k:1", "tag=k:1 or tag=l:1", "type=noted", "*"] {
            let read = Read { after: after.into(), ..Read::all() };
            block_on(store.read(&filter.parse::<Filter>().unwrap(), read)).unwrap();
        }
    }
    closed(store, newer + 12);
    assert_eq!(looks("< 20"), older);
}

#[test]
fn processes_that_open_a_new_database_at_once_make_one_log() {
    let Some(server) = PostgresServer::start() else { return };
    server.execute("postgres", "create database fresh");
    let address = server.address("fresh", "main");
    let stores = parallel(12, |_| {
        block_on(PostgresStore::open(&address, PostgresOptions::default())).unwrap()
    });
    assert!(stores.iter().all(|store| store.identity() == stores[0].identity()));
    let stores: Vec<_> = stores.into_iter().map(Store::new).collect();
    parallel(12, |number| append(&stores[number], Append::event(event(number, "k:1"))).unwrap());
    assert_eq!(payloads(&stores[0]).len(), 12);
}

#[test]
fn nothing_is_made_unless_the_options_say_so() {
    let Some(server) = PostgresServer::start() else { return };
    let mut options = PostgresOptions::default();
    options.create = false;
    let open = |options: &PostgresOptions| {
        let address = server.address("postgres", "main");
        block_on(PostgresStore::open(&address, options.clone())).map(drop)
    };
    let error = open(&options).unwrap_err();
    assert!(matches!(error, OpenError::Schema { .. }), "{error}");
    drop(server.open("other"));
    let error = open(&options).unwrap_err();
    assert!(matches!(error, OpenError::NoLog { .. }), "{error}");
    server.execute("postgres", "insert into diptych.schema_version (version) values (1000)");
    let error = open(&PostgresOptions::default()).unwrap_err();
    assert!(error.to_string().contains("1000"), "{error}");
}

/// A database as the first version of the schema made it, with an empty log.
fn of_first_version() -> Option<PostgresServer> {
    let server = PostgresServer::start()?;
    let first = include_str!("../../../src/sql/0001.sql");
    let made = "create schema diptych;
        create table diptych.schema_version (
          version integer primary key, applied_at timestamptz not null default now());
        insert into diptych.schema_version (version) values (1);";
    server.execute("postgres", &format!("{made} {first}"));
    server.execute("postgres", "insert into diptych.setting (partition_events) values (1000)");
    let log = "insert into diptych.log (name, uuid, epoch) values ('main', gen_random_uuid(), 1)";
    server.execute("postgres", log);
    Some(server)
}

/// Once, a migration waited for the lock of a dump, and every program waited behind it.
#[test]
fn a_migration_waits_for_a_long_transaction_and_programs_do_not_wait_for_the_migration() {
    let Some(server) = of_first_version() else { return };
    let address = server.address("postgres", "main");
    runtime().block_on(async {
        let long = server.client("postgres").await;
        long.batch_execute("begin; select head from diptych.log").await.unwrap();
        let mut options = PostgresOptions::default();
        let migrate = |options: &PostgresOptions| {
            let database = PostgresDatabase::at(&address, options.clone()).unwrap();
            std::thread::spawn(move || block_on(database.migrate()))
        };
        let (migration, program) = (migrate(&options), server.client("postgres").await);
        let start = Instant::now();
        let mut longest = Duration::ZERO;
        while start.elapsed() < Duration::from_secs(2) {
            let asked = Instant::now();
            program.batch_execute("select head from diptych.log").await.unwrap();
            longest = longest.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(longest < Duration::from_secs(1), "a program waited for {longest:?}");
        assert!(!migration.is_finished());
        // The migration does not wait for ever, and says for what.
        options.answer_time = Duration::from_secs(1);
        let error = migrate(&options).join().unwrap().unwrap_err();
        assert!(error.to_string().contains("another session holds a table"), "{error}");
        long.batch_execute("commit").await.unwrap();
        assert_eq!(migration.join().unwrap().unwrap().was, 1);
    });
    let store = Store::new(server.open("main"));
    append(&store, Append::event(event(1, "k:1"))).unwrap();
}

#[test]
fn a_database_of_the_first_version_is_migrated_and_its_log_goes_on() {
    let Some(server) = of_first_version() else { return };
    let address = server.address("postgres", "main");
    let mut options = PostgresOptions::default();
    options.create = false;
    let error = block_on(PostgresStore::open(&address, options.clone())).unwrap_err();
    assert!(matches!(error, OpenError::Schema { .. }), "{error}");
    let database = PostgresDatabase::at(&address, options.clone()).unwrap();
    let report = block_on(database.check()).unwrap();
    assert_eq!((report.schema, report.inline), (1, vec![]));
    let migrated = block_on(database.migrate()).unwrap();
    assert_eq!((migrated.was, migrated.is), (1, report.newest_schema));
    let store = Store::new(block_on(PostgresStore::open(&address, options)).unwrap());
    append(&store, Append::event(event(1, "k:1"))).unwrap();
    assert_eq!(payloads(&store), ["1"]);
}

#[test]
fn a_server_that_can_lose_commits_is_refused_unless_the_options_allow_it() {
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let Some(server) = PostgresServer::with(&format!("{setting} = off\n")) else { return };
        let address = server.address("postgres", "main");
        let mut options = PostgresOptions::default();
        let error = block_on(PostgresStore::open(&address, options.clone())).unwrap_err();
        assert!(matches!(error, OpenError::Unsuitable { .. }), "{error}");
        assert!(error.to_string().contains(setting), "{error}");
        options.allow_unsafe_settings = true;
        let store = Store::new(server.open_with("main", options));
        append(&store, Append::event(event(0, "k:1"))).unwrap();
    }
}

#[test]
fn a_database_in_another_encoding_is_refused_with_the_next_step() {
    let Some(server) = shared() else { return };
    let latin = "create database latin encoding 'LATIN1' template template0";
    server.execute("postgres", latin);
    let address = server.address("latin", "main");
    let error = block_on(PostgresStore::open(&address, PostgresOptions::default())).unwrap_err();
    assert!(matches!(error, OpenError::Unsuitable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("its encoding is LATIN1: create it with the encoding UTF8"), "{text}");
    let options = PostgresOptions::default();
    let report = block_on(PostgresDatabase::at(&address, options).unwrap().check()).unwrap();
    assert!(report.problems.iter().any(|problem| problem.contains("LATIN1")), "{report:?}");
    assert_eq!(report.schema, 0, "nothing was made");
}

/// Once, only the first connection looked: a standby that took over with `fsync` off was taken.
#[test]
fn a_server_whose_settings_become_unsafe_is_refused_by_the_next_connection() {
    let Some(server) = PostgresServer::start() else { return };
    let store = Store::new(server.open("main"));
    append(&store, Append::event(event(0, "k:1"))).unwrap();
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'diptych'";
    server.execute("postgres", "alter role postgres set synchronous_commit = off");
    server.execute("postgres", cut);
    // The first one was sent over the connection that was cut, so its outcome is not known.
    for _ in 0..2 {
        let error = append(&store, Append::event(event("refused", "k:1"))).unwrap_err();
        let (AppendError::Unavailable(cause) | AppendError::OutcomeUnknown(SyncError { cause })) =
            &error
        else {
            panic!("{error:?}")
        };
        assert!(cause.to_string().contains("synchronous_commit is off"), "{error}");
    }
    server.execute("postgres", "alter role postgres reset synchronous_commit");
    append(&store, Append::event(event(1, "k:1"))).unwrap();
    assert_eq!(payloads(&store), ["0", "1"]);
}

#[test]
fn a_tag_with_the_hash_of_another_matches_only_itself() {
    let Some(server) = PostgresServer::start() else { return };
    let store = Store::new(server.open("main"));
    append(&store, Append::event(event(1, "k:1"))).unwrap();
    append(&store, Append::event(event(2, "k:2"))).unwrap();
    append(&store, Append::event(event(3, "k:1"))).unwrap();
    // Now both tags have one hash.
    let collide = "update diptych.tag set h = (select h from diptych.tag where pos = 1) \
                   where pos = 2";
    server.execute("postgres", collide);
    let positions = |filter: &str| {
        let found = all(&store, &filter.parse().unwrap());
        found.into_iter().map(|(position, _)| position).collect::<Vec<_>>()
    };
    assert_eq!(positions("tag=k:1"), [1, 3]);
    assert_eq!(positions("type=noted tag=k:1"), [1, 3]);
    assert_eq!(block_on(store.count(&Tag::new("k", 1), 3.into())).unwrap(), 2);
    let last = block_on(store.last(&Filter::tag(Tag::new("k", 1)), 2.into())).unwrap();
    assert_eq!(last.map(|at| at.get()), Some(1));
    append(&store, Append::event(event(4, "l:1")).condition(unless_newer("k:1", 3))).unwrap();
    let refused = append(&store, Append::event(event(5, "l:1")).condition(unless_newer("k:1", 2)));
    assert!(matches!(
        refused,
        Err(AppendError::Refused(Refusal::Conflict { at, .. })) if at.get() == 3
    ));
}

/// The arrays of a call without commits.
const NO_COMMITS: &str = "'{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}',\
    '{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}'";

#[test]
fn the_function_refuses_a_session_on_which_its_checks_mean_nothing() {
    let Some(server) = PostgresServer::start() else { return };
    drop(server.open("main"));
    let call = |writer: &str| {
        format!("select diptych.append(1::smallint, 0, '{writer}', 1, 10, {NO_COMMITS})")
    };
    let own = "00000000-0000-0000-0000-000000000007";
    runtime().block_on(async {
        let client = server.client("postgres").await;
        client.batch_execute(&format!("set diptych.session = '{own}'")).await.unwrap();
        client.batch_execute(&call(own)).await.unwrap();
        // A pooler gave the transaction to a connection with other settings.
        let other = call("00000000-0000-0000-0000-000000000008");
        let refused = client.batch_execute(&other).await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::from_code("DP002")));
        client.batch_execute("begin isolation level repeatable read").await.unwrap();
        let refused = client.batch_execute(&call(own)).await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::from_code("DP001")));
    });
}

#[test]
fn a_read_beyond_the_head_is_an_error_of_the_caller() {
    let Some(server) = shared() else { return };
    let store = Store::new(server.open(&new_name()));
    append(&store, Append::event(event(1, "k:1"))).unwrap();
    let error = block_on(store.read(&Filter::everything(), Read::after(2.into()))).unwrap_err();
    let expected = InvalidRequest::AboveHead { position: 2.into(), head: 1.into() };
    assert!(matches!(
        error,
        diptych_store::ReadError::Invalid(invalid) if invalid == expected
    ));
}
