//! The instances of a process are spread over shards.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use diptych::{
    App, Memory, Store,
    process::{ProcessOptions, ProcessStart},
    testing::Clock,
};
use diptych_store::testing::{Call, WrappedStore};

use super::{
    orders::{Fulfilment, PAY_WITHIN, Pay, Place, counts, events, idle, quick, shop, until},
    reactions::text,
};

const ORDERS: u64 = 60;
const SHARDS: u32 = 3;

fn sharded(shards: u32, only: Option<Vec<u32>>) -> ProcessOptions {
    let mut options = quick();
    (options.shards, options.only_shards) = (shards, only);
    options
}

async fn start(store: &Store, clock: &Clock, options: ProcessOptions) -> App {
    let app = shop(store, clock).process_with::<Fulfilment>(ProcessStart::Beginning, options);
    app.start().await.unwrap()
}

/// Places all orders, pays for two thirds, and lets the time of the others pass.
async fn trade(app: &App, store: &Store, clock: &Clock) {
    for order in 1..=ORDERS {
        app.execute(Place { order }).await.unwrap();
        if order % 3 != 0 {
            app.execute(Pay { order }).await.unwrap();
        }
    }
    until("all paid orders are shipped", || async {
        counts(store, "order-shipped").await.len() as u64 == ORDERS - ORDERS / 3
    })
    .await;
    until("all others are cancelled", || async {
        // A late reaction sets its timer by the clock of that time.
        clock.advance(PAY_WITHIN);
        counts(store, "order-cancelled").await.len() as u64 == ORDERS / 3
    })
    .await;
    for name in ["order-shipped", "order-cancelled"] {
        assert!(counts(store, name).await.values().all(|count| *count == 1), "{name}");
    }
}

/// The positions of the triggers in the order of the reactions, for each instance.
async fn triggers(store: &Store) -> BTreeMap<String, Vec<u64>> {
    let mut triggers = BTreeMap::<_, Vec<_>>::new();
    for (_, event) in events(store, &["diptych:process-reacted"]).await {
        let event = text(&event.payload);
        let part = |before: &str, end: char| {
            let (_, part) = event.split_once(before).unwrap();
            part.split_once(end).unwrap().0.to_owned()
        };
        let instance = part(r#""instance":""#, '"');
        let position = part(r#""trigger":{"position":"#, '}').parse().unwrap();
        triggers.entry(instance).or_default().push(position);
    }
    triggers
}

#[tokio::test]
async fn all_instances_of_all_shards_react_once_and_each_in_order() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = start(&store, &clock, sharded(SHARDS, None)).await;
    trade(&app, &store, &clock).await;
    idle(&app).await;
    let status = app.processes();
    assert_eq!((status.len(), status[0].timers), (1, 0), "the status is that of all shards");
    app.stop().await.unwrap();
    let triggers = triggers(&store).await;
    assert_eq!(triggers.len() as u64, ORDERS);
    for (instance, positions) in triggers {
        assert!(positions.is_sorted_by(|one, next| one < next), "{instance}: {positions:?}");
    }
    let fired = events(&store, &["diptych:process-timer-fired"]).await;
    assert_eq!(fired.len() as u64, ORDERS / 3, "no timer fired twice");
}

#[tokio::test]
async fn two_programs_with_some_shards_each_do_the_work_of_all() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    // The tags of the reactions that each program committed.
    let node = |only: Vec<u32>| {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let note = seen.clone();
        let wrapped = WrappedStore::over(store.clone()).before(move |call| {
            if let Call::Append(append) = call {
                let events = append.events.iter();
                let own = events.filter(|event| event.event_type == "diptych:process-reacted");
                let tags = own.flat_map(|event| event.tags.iter().map(|tag| tag.to_string()));
                let shards = tags.filter(|tag| tag.starts_with("diptych:process-shard:"));
                note.lock().unwrap().extend(shards);
            }
            async { Ok(()) }
        });
        let (store, clock) = (Store::new(wrapped), clock.clone());
        async move { (start(&store, &clock, sharded(SHARDS, Some(only))).await, seen) }
    };
    let (one, by_one) = node(vec![0, 2]).await;
    let (other, by_other) = node(vec![1]).await;
    trade(&one, &store, &clock).await;
    idle(&one).await;
    idle(&other).await;
    let tags = |shards: &[u32]| {
        let tag = |shard: &u32| format!("diptych:process-shard:fulfilment:{shard}");
        shards.iter().map(tag).collect::<BTreeSet<_>>()
    };
    assert_eq!(*by_one.lock().unwrap(), tags(&[0, 2]));
    assert_eq!(*by_other.lock().unwrap(), tags(&[1]));
    assert_eq!(triggers(&store).await.len() as u64, ORDERS);
    one.stop().await.unwrap();
    other.stop().await.unwrap();
}

#[tokio::test]
async fn a_restart_goes_on_with_each_shard() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    for order in 1..=ORDERS {
        // Every start but the first runs one shard alone.
        let only = (order > 1).then(|| vec![u32::try_from(order).unwrap() % SHARDS]);
        let app = start(&store, &clock, sharded(SHARDS, only)).await;
        app.execute(Place { order }).await.unwrap();
        drop(app);
    }
    let app = start(&store, &clock, sharded(SHARDS, None)).await;
    idle(&app).await;
    let triggers = triggers(&store).await;
    assert_eq!(triggers.len() as u64, ORDERS);
    assert!(triggers.values().all(|positions| positions.len() == 1), "{triggers:?}");
    app.stop().await.unwrap();
}

#[tokio::test]
async fn another_number_of_shards_is_refused_with_the_number_of_the_log() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    start(&store, &clock, sharded(SHARDS, None)).await.stop().await.unwrap();
    let refused = |options: ProcessOptions| {
        let app = shop(&store, &clock).process_with::<Fulfilment>(ProcessStart::Now, options);
        async { app.start().await.unwrap_err().to_string() }
    };
    let other = refused(sharded(4, None)).await;
    assert!(other.contains("has 3 shards in this log, and the program says 4"), "{other}");
    assert!(other.contains("set `shards` to 3"), "{other}");
    let none = refused(sharded(SHARDS, Some(vec![0, 3]))).await;
    assert!(none.contains("has no shard 3: it has 3, counted from 0"), "{none}");
    for count in [0, 257] {
        let wrong = refused(sharded(count, None)).await;
        assert!(wrong.contains(&format!("cannot have {count} shards: 1 to 256")), "{wrong}");
    }
}
