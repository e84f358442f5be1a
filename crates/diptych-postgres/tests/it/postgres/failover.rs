//! A standby takes over from its primary, with all acknowledged commits and without some.

use diptych_postgres::PostgresOptions;
use diptych_store::{Append, Filter, Read, ReadError, Store, Unavailable};
use pollster::block_on;

use super::{
    append, event, logged, payloads,
    proxy::Proxy,
    replicas::{READ_ONLY, open, read_all, sees},
    server::PostgresServer,
};

/// The address of whichever of the servers takes writes.
fn either([one, two]: [u16; 2]) -> String {
    format!("postgres://postgres@127.0.0.1:{one},127.0.0.1:{two}/postgres?log=main")
}

/// Reads until the handle notices that it goes on no more.
fn noticed(store: &Store) -> Unavailable {
    loop {
        match block_on(store.read(&Filter::everything(), Read::all())) {
            Ok(_) | Err(ReadError::Unavailable(Unavailable::Backend(_))) => {}
            Err(ReadError::Unavailable(why)) => return why,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_standby_with_every_commit_takes_over_and_the_store_goes_on() {
    let Some(mut primary) = PostgresServer::start() else { return };
    drop(primary.open("main"));
    let standby = primary.standby("");
    let store = open(&either([primary.port(), standby.port()]), PostgresOptions::default());
    let (was, pinned) = (store.identity(), store.pinned());
    for number in 1..=3 {
        append(&store, Append::event(event(number, "k:1"))).unwrap();
    }
    standby.caught_up(&primary);
    primary.kill();
    standby.promote();
    append(&pinned, Append::event(event("last", "k:1"))).unwrap();
    assert_eq!((pinned.identity(), store.head().ended().is_none()), (was, true));
    assert_eq!(payloads(&pinned), ["1", "2", "3", "last"]);
    // The log knows the timeline that wrote last.
    assert_eq!(standby.number("select timeline from diptych.log where name = 'main'"), 2);
}

#[test]
fn acknowledged_commits_that_a_new_primary_lacks_are_reported_to_all_that_saw_them() {
    logged::collect();
    let Some(mut primary) = PostgresServer::start() else { return };
    drop(primary.open("main"));
    let (standby, mut replica) = (primary.standby(""), primary.standby(""));
    // The store that wrote them reaches the new primary last.
    let proxies = [Proxy::start(primary.port()), Proxy::start(standby.port())];
    let address = either([proxies[0].port(), proxies[1].port()]);
    let store = open(&address, PostgresOptions::default());
    let (was, pinned) = (store.identity(), store.pinned());
    let at_replica = replica.address("postgres", "main") + READ_ONLY;
    let reader = open(&at_replica, PostgresOptions::default());
    for number in 1..=3 {
        append(&store, Append::event(event(format!("kept {number}"), "k:1"))).unwrap();
    }
    standby.caught_up(&primary);
    standby.cut();
    for number in 4..=5 {
        append(&store, Append::event(event(format!("lost {number}"), "k:1"))).unwrap();
    }
    sees(&reader, 5);
    assert_eq!(read_all(&reader).unwrap()[4], "lost 5");
    proxies[1].set_closed(true);
    primary.kill();
    standby.promote();

    // A store that saw nothing before cannot know. Its replica follows the old timeline, and has
    // an event at the position of a new one.
    let address = standby.address("postgres", "main");
    let with_replica = format!("{address}&replicas=127.0.0.1:{}", replica.port());
    let fresh = open(&with_replica, PostgresOptions::default());
    let fresh_pinned = fresh.pinned();
    assert_eq!(fresh.identity(), was);
    append(&fresh, Append::event(event("new 4", "k:1"))).unwrap();
    let expected = ["kept 1", "kept 2", "kept 3", "new 4"];
    assert_eq!(read_all(&fresh).unwrap(), expected, "not those of the replica");
    let name = format!("127.0.0.1:{}", replica.port());
    let line = logged::line(&[&name]);
    assert!(line.contains("it has another event at position 4 than the primary"), "{line}");
    append(&fresh, Append::event(event("new 5", "k:1"))).unwrap();

    // The replica is made again from the new primary. What it showed before is gone.
    replica.follow_anew(&standby);
    replica.caught_up(&standby);
    let why = noticed(&reader);
    let Unavailable::Server { what } = &why else { panic!("{why:?}") };
    assert!(what.contains("has another event at position 5 than before"), "{what}");
    assert!(matches!(reader.head().ended(), Some(Unavailable::Server { .. })));
    assert!(read_all(&reader).is_err(), "it does not go on with the other history");

    // The store that wrote them finds that they are gone.
    proxies[1].set_closed(false);
    let why = noticed(&pinned);
    let Unavailable::HistoryChanged(changed) = why else { panic!("{why:?}") };
    assert_eq!((changed.was, changed.is.id), (was, was.id));
    assert_eq!(changed.is.epoch.number(), was.epoch.number() + 1);
    logged::line(&["acknowledged commits are gone", "seen=5", "head=5"]);
    append(&store, Append::event(event("new 6", "k:1"))).unwrap();
    assert_eq!(payloads(&store).len(), 6);

    // Others follow into the new epoch, also over the replica.
    noticed(&fresh_pinned);
    assert_eq!(fresh.identity(), changed.is);
    replica.caught_up(&standby);
    let again = open(&at_replica, PostgresOptions::default());
    assert_eq!(again.identity(), changed.is);
    assert_eq!(read_all(&again).unwrap(), payloads(&store));
}

/// Once, a copy of a database on the same server had the identity of its original, epoch included:
/// two logs took other events at the same positions.
#[test]
fn a_log_that_came_to_another_database_by_a_dump_or_a_template_has_a_new_epoch() {
    let Some(server) = PostgresServer::start() else { return };
    server.execute("postgres", "create database original");
    let at = |server: &PostgresServer, database: &str| {
        open(&server.address(database, "main"), PostgresOptions::default())
    };
    let store = at(&server, "original");
    append(&store, Append::event(event(1, "k:1"))).unwrap();
    let was = store.identity();
    assert_eq!(at(&server, "original").identity(), was);
    drop(store);
    // A session that ends may keep the database for a moment.
    let others = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = 'original'";
    server.execute("postgres", others);
    server.execute("postgres", "create database copied template original");
    let mut copies = vec![at(&server, "copied")];
    let dump = server.folder().join("dump");
    let other = PostgresServer::start().unwrap();
    if server.dump("original", dump.to_str().unwrap()).is_some() {
        other.execute("postgres", "create database original");
        let readable = std::fs::read(&dump).unwrap();
        let dump = other.folder().join("dump");
        std::fs::write(&dump, readable).unwrap();
        other.restore("original", dump.to_str().unwrap());
        copies.push(at(&other, "original"));
    }
    for copy in &copies {
        let is = copy.identity();
        assert_eq!((is.id, is.epoch.number()), (was.id, was.epoch.number() + 1));
        assert_eq!(payloads(copy), ["1"]);
        append(copy, Append::event(event("of the copy", "k:1"))).unwrap();
    }
    assert_eq!(at(&server, "copied").identity(), copies[0].identity());
    assert_eq!(at(&server, "original").identity(), was);
}
