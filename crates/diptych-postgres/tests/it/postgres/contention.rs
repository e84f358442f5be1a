//! Many writers on one log, in one process and in several.

use std::sync::{
    Barrier,
    atomic::{AtomicUsize, Ordering},
};

use diptych_store::{
    Append, AppendError, Delivery, Digest, Filter, Key, Position, Refusal, Store, SubscribeOptions,
    Tag, Tracking,
};
use pollster::block_on;

use super::{
    all, append, event, handles, parallel, payloads,
    server::{PostgresServer, new_name, runtime, shared},
    unless_newer,
};

#[test]
fn one_of_16_racers_on_a_boundary_wins() {
    let Some(server) = shared() else { return };
    let name = new_name();
    for racers_of_a_handle in [1, 4, 16] {
        let stores = handles(|| server.open(&name), 16 / racers_of_a_handle);
        for round in 0..10 {
            let start = Barrier::new(16);
            let won = parallel(16, |racer| {
                let store = &stores[racer / racers_of_a_handle];
                let tag = format!("seat:{racers_of_a_handle}-{round}");
                start.wait();
                // First fetch, each a little later than the one before, then append.
                let seat = Filter::tag(Tag::parse(&tag).unwrap());
                for _ in 0..racer % 4 {
                    block_on(store.fresh_head()).unwrap();
                }
                let head = block_on(store.fresh_head()).unwrap();
                if block_on(store.last(&seat, head)).unwrap().is_some() {
                    return false;
                }
                let own = Append::event(event(racer, &tag));
                match append(store, own.condition(unless_newer(&tag, head.get()))) {
                    Ok(_) => true,
                    Err(AppendError::Refused(Refusal::Conflict { .. })) => false,
                    Err(other) => panic!("{other}"),
                }
            });
            let winners = won.iter().filter(|won| **won).count();
            assert_eq!(winners, 1, "round {round}, {racers_of_a_handle} racers of one handle");
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

#[test]
fn a_subscriber_skips_no_event_of_200_slow_appenders() {
    let Some(server) = PostgresServer::start() else { return };
    let reader = Store::new(server.open("main"));
    server.execute("postgres", SLOW);
    let stores = handles(|| server.open("main"), 20);
    let left = AtomicUsize::new(200);
    let everything = || Filter::everything();
    let seen = parallel(201, |number| {
        if number < 200 {
            let tag = format!("writer:{number}");
            for turn in 0..3 {
                append(&stores[number % 20], Append::event(event(turn, &tag))).unwrap();
            }
            left.fetch_sub(1, Ordering::SeqCst);
            return Vec::new();
        }
        let options = SubscribeOptions::default();
        let mut subscription = reader.subscribe(everything(), Position::START, options);
        let mut seen = Vec::new();
        while seen.len() < 600 {
            if let Delivery::Batch(batch) = block_on(subscription.next()).unwrap() {
                seen.extend(batch.iter().map(|event| event.position().get()));
            }
        }
        seen
    });
    assert_eq!(seen[200], (1..=600).collect::<Vec<_>>(), "in order, and none left out");
    assert_eq!(left.into_inner(), 0);
    for number in 0..200 {
        let own = all(&reader, &Filter::tag(Tag::new("writer", number)));
        let payloads: Vec<_> = own.iter().map(|(_, payload)| payload.as_str()).collect();
        assert_eq!(payloads, ["0", "1", "2"], "the commits of one writer are in its order");
    }
}

#[test]
fn a_foreign_transaction_that_stays_open_delays_no_reader() {
    let Some(server) = PostgresServer::start() else { return };
    let [writer, reader] = [server.open("main"), server.open("main")].map(Store::new);
    append(&writer, Append::event(event(0, "k:1"))).unwrap();
    let runtime = runtime();
    let open = runtime.block_on(async {
        let foreign = server.client("postgres").await;
        foreign.batch_execute("create table public.other (id bigint)").await.unwrap();
        // It writes before the commits that follow, and never ends.
        let write = "begin; insert into public.other values (1); \
                     select count(*) from diptych.event;";
        foreign.batch_execute(write).await.unwrap();
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
fn a_dump_that_runs_delays_neither_writer_nor_reader() {
    let Some(server) = PostgresServer::start() else { return };
    let store = Store::new(server.open("main"));
    append(&store, Append::event(event(0, "k:1"))).unwrap();
    let runtime = runtime();
    let dump = runtime.block_on(async {
        let dump = server.client("postgres").await;
        // The locks and the snapshot of a dump.
        let locks = "begin isolation level repeatable read read only; \
                     lock table diptych.event, diptych.tag, diptych.log, diptych.key, \
                     diptych.type_name, diptych.writer in access share mode";
        dump.batch_execute(locks).await.unwrap();
        dump
    });
    for number in 1..=50 {
        append(&store, Append::event(event(number, "k:1"))).unwrap();
        assert_eq!(payloads(&store).len(), number + 1);
    }
    drop(dump);
}
