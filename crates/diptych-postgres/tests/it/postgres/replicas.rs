//! Reads from real standbys: a store at a replica alone, and one at a primary with replicas.

use std::time::Duration;

use diptych_postgres::{OpenError, PostgresDatabase, PostgresOptions, PostgresStore};
use diptych_store::{
    Append, AppendError, Delivery, Filter, Position, Read, ReadError, Store, SubscribeOptions,
    Unavailable,
};
use pollster::block_on;

use super::{append, event, logged, proxy::Proxy, server::PostgresServer};

pub(super) const READ_ONLY: &str = "&target_session_attrs=read-only";

pub(super) fn open(address: &str, options: PostgresOptions) -> Store {
    Store::new(block_on(PostgresStore::open(address, options)).unwrap())
}

/// The payloads up to the end that the store knows, by reads that a replica may answer.
pub(super) fn read_all(store: &Store) -> Result<Vec<String>, ReadError> {
    let (mut found, mut after) = (Vec::new(), Position::START);
    let head = store.head().position();
    while after < head {
        let read = Read::after(after).upto(head).takes_replica();
        let batch = block_on(store.read(&Filter::everything(), read))?;
        let texts = batch.iter().map(|event| String::from_utf8(event.payload().to_owned()));
        found.extend(texts.map(Result::unwrap));
        after = batch.upto();
    }
    Ok(found)
}

/// Waits until the handle has seen this position.
pub(super) fn sees(store: &Store, position: u64) {
    block_on(store.head().upto(Position::new(position))).unwrap();
}

/// Stops the replay of the changes that the standby receives.
fn pause(standby: &PostgresServer) {
    standby.execute("postgres", "select pg_wal_replay_pause()");
    while standby.number("select (pg_get_wal_replay_pause_state() = 'paused')::int::bigint") == 0 {}
}

fn resume(standby: &PostgresServer) {
    standby.execute("postgres", "select pg_wal_replay_resume()");
}

/// The connections by which stores have read events there.
fn readers(standby: &PostgresServer) -> i64 {
    standby.number(
        "select count(*) from pg_stat_activity
         where application_name = 'diptych' and query like '%diptych.event%'",
    )
}

#[test]
fn a_store_at_a_replica_reads_what_the_replica_has_and_takes_no_appends() {
    let Some(primary) = PostgresServer::start() else { return };
    let writer = Store::new(primary.open("main"));
    for number in 1..=3 {
        append(&writer, Append::event(event(number, "k:1"))).unwrap();
    }
    let standby = primary.standby("");
    let at_standby = standby.address("postgres", "main");
    let error = block_on(PostgresStore::open(&at_standby, PostgresOptions::default())).unwrap_err();
    assert!(matches!(error, OpenError::Server { .. }), "{error:?}");

    let replica = open(&(at_standby.clone() + READ_ONLY), PostgresOptions::default());
    assert!(replica.is_replica() && !writer.is_replica());
    assert_eq!(replica.identity(), writer.identity());
    assert_eq!(read_all(&replica).unwrap(), ["1", "2", "3"]);
    // New events come without a notification, which a standby cannot send.
    let mut events =
        replica.subscribe(Filter::everything(), Position::START, SubscribeOptions::default());
    while !matches!(block_on(events.next()).unwrap(), Delivery::CaughtUp { .. }) {}
    append(&writer, Append::event(event(4, "k:1"))).unwrap();
    let Delivery::Batch(batch) = block_on(events.next()).unwrap() else { panic!("no event") };
    assert_eq!(batch.get(0).unwrap().payload(), b"4");
    assert_eq!(block_on(replica.known_head()).unwrap().get(), 4);

    // A reader that is ahead of the replica waits for it.
    pause(&standby);
    append(&writer, Append::event(event(5, "k:1"))).unwrap();
    let mut ahead =
        replica.subscribe(Filter::everything(), Position::new(5), SubscribeOptions::default());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| block_on(ahead.next()).unwrap());
        assert_eq!(block_on(replica.known_head()).unwrap().get(), 4);
        resume(&standby);
        let delivered = waiting.join().unwrap();
        assert!(matches!(delivered, Delivery::CaughtUp { upto } if upto.get() == 5));
    });

    let refused = append(&replica, Append::event(event(5, "k:1"))).unwrap_err();
    let AppendError::Unavailable(Unavailable::Failed { reason }) = &refused else {
        panic!("{refused:?}")
    };
    assert!(reason.contains("the address of the primary"), "{reason}");
    let unknown = block_on(replica.fresh_head()).unwrap_err().to_string();
    assert!(unknown.contains("read from a replica"), "{unknown}");
    let none = block_on(PostgresStore::open(
        &(standby.address("postgres", "other") + READ_ONLY),
        PostgresOptions::default(),
    ));
    assert!(matches!(none, Err(OpenError::NoLog { .. })), "{none:?}");

    let database = PostgresDatabase::at(&(at_standby + READ_ONLY), PostgresOptions::default());
    let database = database.unwrap();
    let report = block_on(database.check()).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(report.warnings.iter().any(|warning| warning.contains("is a replica")), "{report:?}");
    let error = block_on(database.migrate()).unwrap_err().to_string();
    assert!(error.contains("give the address of the primary"), "{error}");
    // Without a replica, `prefer-standby` reads from the primary, and appends nowhere.
    let preferring = primary.address("postgres", "main") + "&target_session_attrs=prefer-standby";
    let preferring = open(&preferring, PostgresOptions::default());
    assert_eq!(read_all(&preferring).unwrap(), ["1", "2", "3", "4", "5"]);
    assert!(append(&preferring, Append::event(event(5, "k:1"))).is_err());
    block_on(replica.close()).unwrap();
    assert!(matches!(replica.head().ended(), Some(Unavailable::Closed)));
}

#[test]
fn long_reads_go_to_a_replica_and_others_to_the_primary() {
    let Some(primary) = PostgresServer::start() else { return };
    let writer = Store::new(primary.open("main"));
    append(&writer, Append::event(event(1, "k:1"))).unwrap();
    let mut standby = primary.standby("");
    let proxy = Proxy::start(primary.port());
    let address = primary.address_at(proxy.port(), "postgres", "main");
    let address = format!("{address}&replicas=127.0.0.1:{}", standby.port());
    let mut options = PostgresOptions::default();
    (options.answer_time, options.connect_time) = (Duration::from_secs(1), Duration::from_secs(30));
    options.replica_wait = Duration::from_secs(20);
    let store = open(&address, options.clone());
    append(&store, Append::event(event(2, "k:1"))).unwrap();
    // Without the primary, only a replica can answer.
    proxy.set_closed(true);
    assert_eq!(read_all(&store).unwrap(), ["1", "2"]);
    let plain = block_on(store.read(&Filter::everything(), Read::all()));
    assert!(matches!(plain, Err(ReadError::Unavailable(_))), "{plain:?}");
    assert!(block_on(store.fresh_head()).is_err());
    proxy.set_closed(false);

    // A replica that is behind is waited for.
    pause(&standby);
    while append(&store, Append::event(event(3, "k:1"))).is_err() {}
    proxy.set_closed(true);
    let late = std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_all(&store));
        while readers(&standby) == 0 {}
        resume(&standby);
        reading.join().unwrap().unwrap()
    });
    assert_eq!(late, ["1", "2", "3"]);
    proxy.set_closed(false);
    drop(store);

    // After the wait the primary answers, and later reads do not wait for a while.
    options.replica_wait = Duration::from_millis(50);
    let store = open(&address, options);
    pause(&standby);
    append(&store, Append::event(event(4, "k:1"))).unwrap();
    assert_eq!(read_all(&store).unwrap(), ["1", "2", "3", "4"]);
    resume(&standby);
    // One that is away is left alone.
    standby.stop();
    append(&store, Append::event(event(5, "k:1"))).unwrap();
    for _ in 0..20 {
        assert_eq!(read_all(&store).unwrap(), ["1", "2", "3", "4", "5"]);
    }
}

#[test]
fn several_replicas_answer_in_turn_and_the_rest_answer_for_one_that_is_away() {
    let Some(primary) = PostgresServer::start() else { return };
    let mut standbys = [(); 2].map(|()| primary.standby(""));
    let proxy = Proxy::start(primary.port());
    let [one, two] = [standbys[0].port(), standbys[1].port()];
    let address = primary.address_at(proxy.port(), "postgres", "main");
    let address = format!("{address}&replicas=127.0.0.1:{one},127.0.0.1:{two}");
    let mut options = PostgresOptions::default();
    options.replica_wait = Duration::from_secs(20);
    let store = open(&address, options);
    append(&store, Append::event(event(1, "k:1"))).unwrap();
    // Without the primary, only the replicas can answer.
    proxy.set_closed(true);
    for _ in 0..4 {
        assert_eq!(read_all(&store).unwrap(), ["1"]);
    }
    assert!(standbys.iter().all(|standby| readers(standby) == 1));
    standbys[0].stop();
    for _ in 0..4 {
        assert_eq!(read_all(&store).unwrap(), ["1"]);
    }
    standbys[1].stop();
    assert!(matches!(read_all(&store), Err(ReadError::Unavailable(_))));
    proxy.set_closed(false);
    for _ in 0..4 {
        assert_eq!(read_all(&store).unwrap(), ["1"]);
    }
}

#[test]
fn a_server_that_is_no_replica_of_the_primary_is_refused_by_name() {
    logged::collect();
    let Some(primary) = PostgresServer::start() else { return };
    let other = PostgresServer::start().unwrap();
    let foreign = Store::new(other.open("main"));
    for number in 1..=9 {
        append(&foreign, Append::event(event(format!("foreign {number}"), "k:1"))).unwrap();
    }
    let of_other = other.standby("");
    for (wrong, reason) in
        [(&other, "it takes writes, so it is no replica"), (&of_other, "and that of the primary")]
    {
        let name = format!("127.0.0.1:{}", wrong.port());
        let address = format!("{}&replicas={name}", primary.address("postgres", "main"));
        let store = open(&address, PostgresOptions::default());
        append(&store, Append::event(event("own", "k:1"))).unwrap();
        for _ in 0..3 {
            let all = read_all(&store).unwrap();
            assert!(all.iter().all(|payload| payload == "own"), "{all:?}");
        }
        logged::line(&[&name, reason]);
        assert_eq!(logged::text().matches(&name).count(), 1, "it is told once");
    }
}
