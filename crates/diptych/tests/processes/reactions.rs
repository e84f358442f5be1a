use diptych::{
    Memory, Store,
    catalogue::EntryKind,
    process::{Process, ProcessStart, ReactionContext, Reactions, Trigger},
    testing::Clock,
};
use diptych_store::testing::{Call, WrappedStore};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::orders::{
    Fulfilment, LiveOnly, Order, Pay, Place, counts, events, idle, quick, running, shop,
};

fn memory() -> Store {
    Store::new(Memory::new())
}

#[tokio::test]
async fn a_reaction_sends_its_command_once_and_carries_the_conversation_on() {
    let (store, clock) = (memory(), Clock::new());
    let app = running(&store, &clock).await;
    app.execute(Place { order: 7 }).await.unwrap();
    app.execute(Pay { order: 7 }).await.unwrap();
    idle(&app).await;
    let shipped = events(&store, &["order-shipped"]).await;
    let [(_, shipped)] = shipped.as_slice() else { panic!("{shipped:?}") };
    let reacted = events(&store, &["diptych:process-reacted"]).await;
    let actions: Vec<_> = reacted.iter().map(|(_, event)| text(&event.payload)).collect();
    assert_eq!(actions.len(), 3, "{actions:?}");
    assert!(actions[1].contains(r#"{"send":{"command":"ship-order","body":{"order":7}}}"#));
    assert!(actions[2].ends_with(r#""actions":["end"]}"#), "{}", actions[2]);
    // The event of the command belongs to the conversation of the trigger.
    let correlation = reacted[1].1.metadata.correlation;
    assert!(correlation.is_some());
    assert_eq!(shipped.metadata.correlation, correlation);
    assert_eq!(shipped.metadata.extra["diptych:process"], "fulfilment");
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_rejection_and_nothing_to_do_come_back_as_triggers() {
    let (store, clock) = (memory(), Clock::new());
    let app = running(&store, &clock).await;
    for order in [1_000_001, 2_000_001] {
        app.execute(Place { order }).await.unwrap();
        app.execute(Pay { order }).await.unwrap();
    }
    idle(&app).await;
    let cancelled = events(&store, &["order-cancelled"]).await;
    let mut reasons: Vec<_> = cancelled.iter().map(|(_, event)| text(&event.payload)).collect();
    reasons.sort();
    assert_eq!(reasons.len(), 2);
    assert!(reasons[0].contains("out of stock"), "{reasons:?}");
    assert!(reasons[1].contains("nothing to ship"), "{reasons:?}");
    assert_eq!(events(&store, &["diptych:process-action-settled"]).await.len(), 2);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn triggers_without_a_reaction_write_nothing() {
    let clock = Clock::new();
    let appends = Arc::new(AtomicU64::new(0));
    let counter = appends.clone();
    let store = Store::new(WrappedStore::new(Memory::new()).before(move |call| {
        if let Call::Append(append) = call
            && append.tracking.is_some()
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        async { Ok(()) }
    }));
    let mut options = quick();
    options.positions_without_commit = 100;
    let app = shop(&store, &clock).process_with::<Silent>(ProcessStart::Now, options);
    let app = app.start().await.unwrap();
    for order in 0..50 {
        app.execute(Place { order }).await.unwrap();
    }
    idle(&app).await;
    // The start of the process alone.
    assert_eq!(appends.load(Ordering::Relaxed), 1);
    for order in 50..110 {
        app.execute(Place { order }).await.unwrap();
    }
    idle(&app).await;
    assert_eq!(appends.load(Ordering::Relaxed), 2, "the place is stored alone after 100 positions");
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_live_only_process_ignores_the_events_before_it() {
    let (store, clock) = (memory(), Clock::new());
    let app = shop(&store, &clock).start().await.unwrap();
    for order in 0..18_000 {
        drop(app.execute(Place { order }).submit().await);
    }
    app.stop().await.unwrap();
    let app = shop(&store, &clock).process_with::<LiveOnly>(ProcessStart::Beginning, quick());
    let app = app.start().await.unwrap();
    idle(&app).await;
    assert_eq!(counts(&store, "order-cancelled").await.len(), 0);
    app.execute(Place { order: 18_000 }).await.unwrap();
    idle(&app).await;
    let cancelled = counts(&store, "order-cancelled").await;
    assert_eq!(cancelled.into_iter().collect::<Vec<_>>(), [("18000".to_owned(), 1)]);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_state_that_left_the_memory_is_folded_from_the_log() {
    let (store, clock) = (memory(), Clock::new());
    let mut options = quick();
    options.instances_in_memory = 3;
    let app = shop(&store, &clock).process_with::<Fulfilment>(ProcessStart::Beginning, options);
    let app = app.start().await.unwrap();
    for order in 1..=40 {
        app.execute(Place { order }).await.unwrap();
    }
    idle(&app).await;
    for order in 1..=40 {
        app.execute(Pay { order }).await.unwrap();
    }
    idle(&app).await;
    let shipped = counts(&store, "order-shipped").await;
    assert_eq!(shipped.len(), 40);
    assert!(shipped.values().all(|count| *count == 1));
    assert_eq!(app.processes()[0].timers, 0, "each payment cancelled its timer");
    app.stop().await.unwrap();
}

#[tokio::test]
async fn reactions_that_cause_each_other_are_cut_with_both_names() {
    let (store, clock) = (memory(), Clock::new());
    let mut options = quick();
    options.reactions_in_a_row = 10;
    let app = shop(&store, &clock)
        .catalogue(diptych::catalogue::Catalogue::new().command::<Place>("place-order"))
        .process_with::<Ping>(ProcessStart::Now, options.clone())
        .process_with::<Pong>(ProcessStart::Now, options);
    let app = app.start().await.unwrap();
    app.execute(Place { order: 1 }).await.unwrap();
    idle(&app).await;
    let mut letters = app.process("ping").unwrap().letters().await.unwrap();
    letters.extend(app.process("pong").unwrap().letters().await.unwrap());
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert!(letter.reason.contains("more than 10 reactions"), "{}", letter.reason);
    assert!(letter.reason.contains("ping") && letter.reason.contains("pong"));
    assert_eq!(events(&store, &["diptych:process-reacted"]).await.len(), 10);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn the_catalogue_lists_processes() {
    let app = running(&memory(), &Clock::new()).await;
    let listing = app.catalogue().listing();
    assert!(listing.entry(EntryKind::Process, "fulfilment").is_some());
    app.stop().await.unwrap();
}

/// Reacts to nothing.
#[derive(Default)]
struct Silent;

impl Process for Silent {
    type Event = Order;
    const NAME: &'static str = "silent";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, _: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        Reactions::none()
    }
}

/// Pays each order that is placed.
#[derive(Default)]
struct Ping;

/// Places each order again that is paid.
#[derive(Default)]
struct Pong;

impl Process for Ping {
    type Event = Order;
    const NAME: &'static str = "ping";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        match trigger.event() {
            Some(Order::Placed { order }) => {
                Reactions::none().send("pay-order", &Pay { order: *order })
            }
            _ => Reactions::none(),
        }
    }
}

impl Process for Pong {
    type Event = Order;
    const NAME: &'static str = "pong";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        match trigger.event() {
            Some(Order::Paid { order }) => {
                Reactions::none().send("place-order", &Place { order: *order })
            }
            _ => Reactions::none(),
        }
    }
}

pub(crate) fn text(payload: &[u8]) -> String {
    String::from_utf8(payload.to_vec()).unwrap()
}
