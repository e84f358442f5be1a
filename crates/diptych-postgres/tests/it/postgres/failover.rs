//! A standby takes over from its primary, with all acknowledged commits and without some.

use diptych_postgres::{PostgresDatabase, PostgresOptions};
use diptych_store::{Append, Filter, Position, Read, ReadError, Store, Unavailable};
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

/// The takeovers of a log in the report of its operator.
fn takeovers(server: &PostgresServer) -> Vec<String> {
    takeovers_of(server, "main")
}

fn takeovers_of(server: &PostgresServer, log: &str) -> Vec<String> {
    let address = server.address("postgres", log);
    let database = PostgresDatabase::at(&address, PostgresOptions::default()).unwrap();
    let warnings = block_on(database.check()).unwrap().warnings;
    warnings.into_iter().filter(|warning| warning.starts_with("takeover: ")).collect()
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
    let warnings = takeovers(&standby);
    let told =
        "at position 3, timeline 2 after 1: a program that had seen events up to 3 found all";
    assert!(warnings.len() == 1 && warnings[0].contains(told), "{warnings:?}");
}

/// Without a memory of the commits before, a program cannot know whether some are missing. So it
/// neither gives the log a new epoch nor hides that it does not know. Tokens, views and projections
/// compare the event that they know, as this test does, and the report stays for the operator.
#[test]
fn the_first_program_after_a_takeover_reports_it_and_what_was_lost_is_refused_by_its_checksum() {
    logged::collect();
    let Some(mut primary) = PostgresServer::start() else { return };
    let store = Store::new(primary.open("quiet"));
    let standby = primary.standby("");
    let was = store.identity();
    append(&store, Append::event(event("kept", "k:1"))).unwrap();
    standby.caught_up(&primary);
    standby.cut();
    append(&store, Append::event(event("lost", "k:1"))).unwrap();
    let known = [1, 2].map(|at| block_on(store.checksum(Position::new(at))).unwrap().unwrap());
    drop(store);
    primary.kill();
    standby.promote();

    let address = standby.address("postgres", "quiet");
    // A command that only reads is the first one.
    let mut options = PostgresOptions::default();
    options.create = false;
    let reader = open(&address, options);
    let names = ["another timeline has the log", "log=\"quiet\"", "head=1"];
    let line = logged::line(&names);
    assert!(line.contains("timeline: Some(1)") && line.contains("timeline: Some(2)"), "{line}");
    assert_eq!(reader.identity(), was, "every commit may be there");
    let second = open(&address, PostgresOptions::default());
    let said = logged::text();
    let times = said.lines().filter(|line| names.iter().all(|name| line.contains(name)));
    assert_eq!(times.count(), 1, "the next program finds the timeline that it expects");
    let told = takeovers_of(&standby, "quiet");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("at position 1, timeline 2 after 1"), "{told:?}");

    // The lost position is taken again.
    append(&second, Append::event(event("lost", "k:1"))).unwrap();
    let found = [1, 2].map(|at| block_on(second.checksum(Position::new(at))).unwrap().unwrap());
    assert_eq!(found[0], known[0]);
    assert_ne!(found[1], known[1], "an equal event at an equal position has another time");
}

/// Once, a program that had lost commits said nothing if another one had given the log its new
/// epoch before.
#[test]
fn each_program_reports_its_own_loss_also_if_another_one_was_faster() {
    logged::collect();
    let Some(mut primary) = PostgresServer::start() else { return };
    drop(primary.open("both"));
    let standby = primary.standby("");
    let late = [Proxy::start(primary.port()), Proxy::start(standby.port())];
    let [one, two] = [primary.port(), standby.port()];
    let address = |ports| either(ports).replace("log=main", "log=both");
    let first = open(&address([one, two]), PostgresOptions::default());
    let second = open(&address([late[0].port(), late[1].port()]), PostgresOptions::default());
    append(&first, Append::event(event("kept", "k:1"))).unwrap();
    standby.caught_up(&primary);
    standby.cut();
    // In turn, and the last two are of the second.
    for store in [&first, &second, &first, &second, &second] {
        append(store, Append::events((0..2).map(|_| event("lost", "k:1")))).unwrap();
    }
    late[1].set_closed(true);
    // Before the first store can reach the new primary.
    let was = first.identity();
    primary.kill();
    standby.promote();
    while first.identity() == was {
        let _ = block_on(first.read(&Filter::everything(), Read::all()));
    }
    let is = first.identity();
    late[1].set_closed(false);
    while second.identity() == was {
        let _ = block_on(second.read(&Filter::everything(), Read::all()));
    }
    assert_eq!(second.identity(), is, "one loss is one new epoch");
    let told = takeovers_of(&standby, "both");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("and 2 commits of its own"), "{told:?}");
    assert!(told[0].contains("events up to 11, and 3 commits of its own"), "{told:?}");
    assert!(told.iter().all(|told| told.contains("acknowledged commits are gone")), "{told:?}");
    // Both know enough of the new history to notice the next loss.
    append(&second, Append::event(event("new", "k:1"))).unwrap();
    assert_eq!(payloads(&first), ["kept", "new"]);
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
    let write = |text: &str| {
        append(&store, Append::event(event(text, "k:1"))).unwrap();
    };
    ["kept 1", "kept 2", "kept 3"].into_iter().for_each(write);
    standby.caught_up(&primary);
    standby.cut();
    ["lost 4", "lost 5"].into_iter().for_each(write);
    sees(&reader, 5);
    assert_eq!(read_all(&reader).unwrap()[4], "lost 5");
    proxies[1].set_closed(true);
    primary.kill();
    standby.promote();

    // A store that saw nothing before cannot know. Its replica follows the old timeline, and has
    // an event at the position of a new one.
    let address = standby.address("postgres", "main");
    assert_eq!(takeovers(&standby), Vec::<String>::new());
    let with_replica = format!("{address}&replicas=127.0.0.1:{}", replica.port());
    let fresh = open(&with_replica, PostgresOptions::default());
    let fresh_pinned = fresh.pinned();
    logged::line(&[
        "another timeline has the log",
        "timeline: Some(1)",
        "timeline: Some(2)",
        "head=3",
    ]);
    assert_eq!(fresh.identity(), was);
    append(&fresh, Append::event(event("new 4", "k:1"))).unwrap();
    let expected = ["kept 1", "kept 2", "kept 3", "new 4"];
    assert_eq!(read_all(&fresh).unwrap(), expected, "not those of the replica");
    let name = format!("127.0.0.1:{}", replica.port());
    let line = logged::line(&[&name]);
    assert!(line.contains("it has another event at position 4 than the primary"), "{line}");
    append(&fresh, Append::event(event("new 5", "k:1"))).unwrap();

    // The replica is made again from the new primary. The events that it showed before are gone.
    replica.follow_anew(&standby);
    replica.caught_up(&standby);
    ends_at_the_other_history(&reader);

    // The store that wrote them finds that they are gone.
    proxies[1].set_closed(false);
    let why = noticed(&pinned);
    let Unavailable::HistoryChanged(changed) = why else { panic!("{why:?}") };
    assert_eq!((changed.was, changed.is.id), (was, was.id));
    assert_eq!(changed.is.epoch.number(), was.epoch.number() + 1);
    loss_is_reported(&standby);
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

/// The replica shows another history than this store has seen.
fn ends_at_the_other_history(reader: &Store) {
    let why = noticed(reader);
    let Unavailable::Server { what } = &why else { panic!("{why:?}") };
    assert!(what.contains("has another event at position 5 than before"), "{what}");
    assert!(matches!(reader.head().ended(), Some(Unavailable::Server { .. })));
    assert!(read_all(reader).is_err(), "it does not go on with the other history");
}

/// The loss is logged, and stays in the database: the newest report is the first.
fn loss_is_reported(standby: &PostgresServer) {
    let line = logged::line(&["acknowledged commits are gone", "seen=5", "head=5"]);
    let loss = "events differ from position 4 on, this program had seen events up to 5, and 2 \
                commits of its own that were acknowledged are missing";
    assert!(line.contains(loss), "{line}");
    let warnings = takeovers(standby);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let loss = loss.replace("this program", "a program");
    assert!(
        warnings[0].contains(&format!("acknowledged commits are gone: {loss}")),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("at position 3, timeline 2 after 1"), "{warnings:?}");
    assert!(warnings[1].contains("it cannot tell"), "{warnings:?}");
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
