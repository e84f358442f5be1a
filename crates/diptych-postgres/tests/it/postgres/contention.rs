//! Many writers on one log, in one process and in several.

use std::{
    io::{Read, Write},
    process::Stdio,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use diptych_postgres::{PostgresOptions, PostgresStore};
use diptych_store::{
    Append, AppendError, Delivery, Digest, Filter, Key, Position, Refusal, Store, SubscribeError,
    SubscribeOptions, Tag, Tracking,
};
use pollster::block_on;

use super::{
    all, append, event, handles, parallel, payloads,
    proxy::Proxy,
    server::{PostgresServer, new_name, runtime, shared},
    unless_newer,
};

/// 16 racers on the boundary of this tag, on these handles. First each fetches, some a little later
/// than others, then it appends if it found nothing. Returns how many won.
pub(super) fn race(stores: &[Store], tag: &str) -> usize {
    let (start, racers_of_a_handle) = (Barrier::new(16), 16 / stores.len());
    let won = parallel(16, |racer| {
        let store = &stores[racer / racers_of_a_handle];
        start.wait();
        let seat = Filter::tag(Tag::parse(tag).unwrap());
        for _ in 0..racer % 4 {
            block_on(store.fresh_head()).unwrap();
        }
        let head = block_on(store.fresh_head()).unwrap();
        if block_on(store.last(&seat, head)).unwrap().is_some() {
            return false;
        }
        let own = Append::event(event(racer, tag));
        match append(store, own.condition(unless_newer(tag, head.get()))) {
            Ok(_) => true,
            Err(AppendError::Refused(Refusal::Conflict { .. })) => false,
            Err(other) => panic!("{other}"),
        }
    });
    won.into_iter().filter(|won| *won).count()
}

#[test]
fn one_of_16_racers_on_a_boundary_wins() {
    let Some(server) = shared() else { return };
    let name = new_name();
    for handles_of_all in [1, 4, 16] {
        let stores = handles(|| server.open(&name), handles_of_all);
        for round in 0..10 {
            let winners = race(&stores, &format!("seat:{handles_of_all}-{round}"));
            assert_eq!(winners, 1, "round {round}, {handles_of_all} handles");
        }
    }
    assert_eq!(payloads(&Store::new(server.open(&name))).len(), 30);
}

#[test]
fn commits_of_one_batch_are_decided_one_after_another() {
    let Some(server) = shared() else { return };
    let store = Store::new(server.open(&new_name()));
    for round in 0..5_u64 {
        let tag = format!("k:{round}");
        let (head, start) = (store.head().position().get(), Barrier::new(64));
        let answers = parallel(64, |number| {
            let number = number as u64;
            let plain = Append::event(event(number, &tag));
            let commit = match number % 4 {
                0 => plain.condition(unless_newer(&tag, head)),
                1 => plain.key(Key::new(format!("key-{round}"), Digest::of(b"r"))),
                2 => plain.tracking(Tracking::new("s", round + 1)),
                // Only a check of what the others write.
                _ => Append::default().condition(unless_newer(&tag, head)),
            };
            start.wait();
            (number % 4, append(&store, commit))
        });
        let accepted = |kind: u64| answers.iter().filter(move |(of, ok)| *of == kind && ok.is_ok());
        // A condition may be refused because of a commit with a key or a tracking.
        assert!(accepted(0).count() <= 1, "round {round}");
        assert_eq!(accepted(1).count(), 1, "round {round}");
        assert_eq!(accepted(2).count(), 1, "round {round}");
    }
    payloads(&store);
}

/// Each insertion of events takes a while, so that the commits of many sessions overlap.
const SLOW: &str = "create or replace function public.slow() returns trigger language plpgsql as
    $$ begin perform pg_sleep(random() * 0.02); return null; end $$;
    create or replace trigger slow after insert on diptych.event for each statement
    execute function public.slow();";

/// The positions that a subscriber sees while 200 slow appenders on 20 handles write 3 events each,
/// up to the last one.
pub(super) fn seen_among_slow_appenders(
    server: &PostgresServer,
) -> Result<Vec<u64>, SubscribeError> {
    let reader = Store::new(server.open("main"));
    server.execute("postgres", SLOW);
    let (stores, is_over) = (handles(|| server.open("main"), 20), AtomicBool::new(false));
    let seen = parallel(201, |number| {
        if number < 200 {
            let tag = format!("writer:{number}");
            // A subscriber that failed needs no more events.
            for turn in (0..3).take_while(|_| !is_over.load(Ordering::SeqCst)) {
                append(&stores[number % 20], Append::event(event(turn, &tag))).unwrap();
            }
            return Ok(Vec::new());
        }
        let seen = followed(&reader, 600);
        is_over.store(true, Ordering::SeqCst);
        seen
    });
    seen.into_iter().next_back().unwrap()
}

/// The positions that a subscriber sees up to this one.
fn followed(reader: &Store, last: u64) -> Result<Vec<u64>, SubscribeError> {
    let everything = Filter::everything();
    let mut subscription =
        reader.subscribe(everything, Position::START, SubscribeOptions::default());
    let mut seen = Vec::new();
    while seen.last() < Some(&last) {
        if let Delivery::Batch(batch) = block_on(subscription.next())? {
            seen.extend(batch.iter().map(|event| event.position().get()));
        }
    }
    Ok(seen)
}

#[test]
fn a_subscriber_skips_no_event_of_200_slow_appenders() {
    let Some(server) = PostgresServer::start() else { return };
    let seen = seen_among_slow_appenders(&server).unwrap();
    assert_eq!(seen, (1..=600).collect::<Vec<_>>(), "in order, and none left out");
    let reader = Store::new(server.open("main"));
    for number in 0..200 {
        let own = all(&reader, &Filter::tag(Tag::new("writer", number)));
        let payloads: Vec<_> = own.iter().map(|(_, payload)| payload.as_str()).collect();
        assert_eq!(payloads, ["0", "1", "2"], "the commits of one writer are in its order");
    }
}

/// Whether a subscriber sees commits whose notifications nobody took: the connections of the reader
/// were cut meanwhile. The bound is for one that waits for ever.
pub(super) fn sees_commits_without_hints(
    server: &PostgresServer,
    proxy: &Proxy,
    reader: &Store,
    within: Duration,
) -> bool {
    let head = reader.head().position();
    let mut subscription =
        reader.subscribe(Filter::everything(), head, SubscribeOptions::default());
    (0..3).all(|number| {
        proxy.set_closed(true);
        let writer = Store::new(server.open("main"));
        let committed = append(&writer, Append::event(event(number, "k:1"))).unwrap();
        // It sends no notification any more.
        block_on(writer.close()).unwrap();
        proxy.set_closed(false);
        let delivered = async {
            loop {
                if let Delivery::Batch(batch) = subscription.next().await.unwrap()
                    && batch.upto() >= committed.last
                {
                    return;
                }
            }
        };
        runtime().block_on(async { tokio::time::timeout(within, delivered).await.is_ok() })
    })
}

#[test]
fn a_subscriber_sees_commits_whose_notifications_were_lost() {
    let Some(server) = PostgresServer::start() else { return };
    drop(server.open("main"));
    let proxy = Proxy::start(server.port());
    let address = server.address_at(proxy.port(), "postgres", "main");
    let reader = block_on(PostgresStore::open(&address, PostgresOptions::default())).unwrap();
    let within = Duration::from_secs(60);
    assert!(sees_commits_without_hints(&server, &proxy, &Store::new(reader), within));
}

#[test]
fn a_foreign_transaction_that_stays_open_delays_no_reader() {
    let Some(server) = PostgresServer::start() else { return };
    let [writer, reader] = [server.open("main"), server.open("main")].map(Store::new);
    append(&writer, Append::event(event(0, "k:1"))).unwrap();
    server.execute("postgres", "create database other");
    let runtime = runtime();
    let open = runtime.block_on(async {
        let foreign = [server.client("postgres").await, server.client("other").await];
        for client in &foreign {
            client.batch_execute("create table public.other (id bigint)").await.unwrap();
            // It writes before the commits that follow, and never ends.
            let write = "begin; insert into public.other values (1)";
            client.batch_execute(write).await.unwrap();
        }
        foreign[0].batch_execute("select count(*) from diptych.event").await.unwrap();
        foreign
    });
    for number in 1..=50 {
        let committed = append(&writer, Append::event(event(number, "k:1"))).unwrap();
        assert_eq!(block_on(reader.fresh_head()).unwrap(), committed.last);
        assert_eq!(payloads(&reader).len(), number + 1);
    }
    // The reader that only follows sees them, too.
    assert!(block_on(reader.head().upto(51.into())).is_ok());
    drop(open);
}

#[test]
fn a_dump_that_runs_delays_neither_writer_nor_reader_and_has_one_moment_of_the_log() {
    let Some(server) = PostgresServer::start() else { return };
    server.execute("postgres", "create database bank");
    let mut options = PostgresOptions::default();
    options.partition_events = 400;
    let open = || {
        let address = server.address("bank", "main");
        Store::new(block_on(PostgresStore::open(&address, options.clone())).unwrap())
    };
    let [writer, reader] = [open(), open()];
    // More than the buffers between the server and the reader of the dump hold.
    let large = "x".repeat(100_000);
    for number in 0..100 {
        append(&writer, Append::event(event(format!("{number} {large}"), "k:1"))).unwrap();
    }
    let Some(mut dump) = server.program("pg_dump") else { return };
    let dump = dump.args(["--format=plain", "bank"]).stdout(Stdio::piped());
    let mut dump = dump.spawn().unwrap();
    let mut out = dump.stdout.take().unwrap();
    let mut dumped = vec![0; 100_000];
    // It has its snapshot and its locks now, and waits until more of it is read.
    out.read_exact(&mut dumped).unwrap();
    let running = "select count(*) from pg_stat_activity where application_name = 'pg_dump'";
    let is_running = || {
        let counted = async { server.client("bank").await.query_one(running, &[]).await };
        runtime().block_on(counted).unwrap().get::<_, i64>(0) > 0
    };
    for number in 100..400 {
        // A new partition is needed on the way.
        let committed = append(&writer, Append::event(event(number, "l:1"))).unwrap();
        if number % 50 == 0 {
            assert_eq!(block_on(reader.fresh_head()).unwrap(), committed.last);
            let own = all(&reader, &Filter::tag(Tag::new("l", 1)));
            assert_eq!(own.len(), number - 99);
        }
    }
    assert!(is_running(), "the dump has ended before");
    out.read_to_end(&mut dumped).unwrap();
    assert!(dump.wait().unwrap().success());
    // The restored log has one moment of it, and goes on.
    server.execute("bank", "create database copy");
    let mut restore = server.program("psql").unwrap();
    restore.args(["--quiet", "--set", "ON_ERROR_STOP=1", "copy"]).stdin(Stdio::piped());
    let mut restore = restore.stdout(Stdio::null()).spawn().unwrap();
    restore.stdin.take().unwrap().write_all(&dumped).unwrap();
    assert!(restore.wait().unwrap().success());
    let address = server.address("copy", "main");
    let copy = block_on(PostgresStore::open(&address, PostgresOptions::default())).unwrap();
    let copy = Store::new(copy);
    assert_eq!(payloads(&copy), payloads(&reader)[..100]);
    append(&copy, Append::event(event("new", "k:1"))).unwrap();
}
