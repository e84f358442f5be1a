//! Typed subscriptions, and workers that react to events with commands.

use std::{
    collections::BTreeMap,
    future::Future,
    task::{Context, Waker},
};

use diptych::{
    App, Command, CommandError, DecisionContext, Event, ExecuteError, Filter, Fold, Memory,
    Position, Recorded, SessionToken, Store, Tag, Upcasters,
    event::{Upcast, UpcastError},
    store::{Append, RawEvent, SubscribeOptions},
    subscribe::{Arrival, Events, SubscriptionError},
};

#[derive(Clone, Debug, PartialEq, Event)]
enum Shop {
    #[event("order-placed")]
    Placed {
        #[tag]
        order: u64,
    },
    #[event("order-packed")]
    Packed {
        #[tag]
        order: u64,
    },
}

/// A command that writes its events.
struct Tell(Vec<Shop>);

#[derive(Debug, thiserror::Error)]
#[error("never")]
struct Never;

impl Command for Tell {
    type State = ();
    type Event = Shop;
    type Rejection = Never;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Shop>, Never> {
        Ok(self.0.clone())
    }
}

/// How often each order was packed.
#[derive(Clone, Debug, Default)]
struct PackCounts(BTreeMap<u64, u64>);

impl Fold for PackCounts {
    type Event = Shop;

    fn apply(&mut self, event: &Recorded<Shop>) {
        if let Shop::Packed { order } = event.event {
            *self.0.entry(order).or_default() += 1;
        }
    }
}

fn placed(order: u64) -> Shop {
    Shop::Placed { order }
}

fn packed(order: u64) -> Shop {
    Shop::Packed { order }
}

/// The events up to the place where the subscription has caught up.
async fn rest(events: &mut Events<Shop>) -> Vec<(u64, Shop)> {
    let mut found = Vec::new();
    loop {
        match events.next().await.unwrap() {
            Arrival::Event(event) => found.push((event.position.get(), event.event)),
            Arrival::CaughtUp { .. } => return found,
            other => panic!("{other:?}"),
        }
    }
}

async fn app() -> App {
    App::over(Memory::new()).start().await.unwrap()
}

#[tokio::test]
async fn existing_and_future_events_arrive_typed_and_in_order() {
    let app = app().await;
    app.execute(Tell(vec![placed(1), packed(1)])).await.unwrap();
    let options = SubscribeOptions { batch_events: 1, ..SubscribeOptions::default() };
    let all = app.subscribe::<Shop>(Filter::everything()).options(options);
    let mut all = all.start().await.unwrap();
    assert_eq!(rest(&mut all).await, [(1, placed(1)), (2, packed(1))]);
    // Dropping a wait loses nothing.
    let mut waits = Box::pin(all.next());
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(waits);
    app.execute(Tell(vec![placed(2)])).await.unwrap();
    let Arrival::Event(event) = all.next().await.unwrap() else { panic!("no event") };
    assert_eq!((event.position, event.event), (Position::new(3), placed(2)));
    // A filter by type and tag.
    let of_two = Filter::tag(Tag::new("order", 2));
    let mut some = app.subscribe::<Shop>(of_two).start().await.unwrap();
    assert_eq!(rest(&mut some).await, [(3, placed(2))]);
    let unknown = app.subscribe::<Shop>(Filter::types(["order-lost"])).start().await;
    assert!(matches!(unknown, Err(SubscriptionError::Filter(_))));
}

#[tokio::test]
async fn from_now_leaves_out_older_events_unless_the_worker_has_a_place() {
    let app = app().await;
    app.execute(Tell(vec![placed(1), packed(1)])).await.unwrap();
    let subscribe = || app.subscribe::<Shop>(Filter::everything()).from_now();
    let built = subscribe();
    // Nothing happens before the first poll.
    app.execute(Tell(vec![placed(2)])).await.unwrap();
    let mut events = built.start().await.unwrap();
    assert_eq!(events.upto(), Position::new(3));
    app.execute(Tell(vec![placed(3)])).await.unwrap();
    assert_eq!(rest(&mut events).await, [(4, placed(3))]);
    let start = events.checkpoint().await.unwrap();
    app.execute(Tell(vec![placed(4)])).await.unwrap();
    // Without an event since then, there is none.
    assert_eq!(rest(&mut subscribe().start().await.unwrap()).await, []);
    // A place that is known goes before the end of the log, in any order of the calls.
    let mut after = subscribe().after(&start).start().await.unwrap();
    assert_eq!(rest(&mut after).await, [(5, placed(4))]);
    let after = app.subscribe::<Shop>(Filter::everything()).after_position(Position::new(1));
    assert_eq!(rest(&mut after.from_now().start().await.unwrap()).await.len(), 4);
    let whole = subscribe().after_position(Position::START).start().await.unwrap();
    assert_eq!(whole.upto(), Position::START);
    // A worker that has reacted to an event continues after it.
    let tracked = || subscribe().tracked_as("packer");
    let mut worker = tracked().start().await.unwrap();
    assert_eq!(worker.upto(), Position::new(5));
    app.execute(Tell(vec![placed(6)])).await.unwrap();
    assert!(matches!(worker.next().await.unwrap(), Arrival::Event(_)));
    app.execute(Tell(vec![packed(6)])).tracking(worker.tracking()).await.unwrap();
    app.execute(Tell(vec![placed(7)])).await.unwrap();
    let mut worker = tracked().start().await.unwrap();
    assert_eq!(rest(&mut worker).await, [(7, packed(6)), (8, placed(7))]);
}

#[tokio::test]
async fn a_checkpoint_continues_after_the_last_event_and_names_its_history() {
    let store = Store::new(Memory::new());
    let app = App::over_store(store.clone()).start().await.unwrap();
    for order in 1..=4 {
        app.execute(Tell(vec![placed(order), packed(order)])).await.unwrap();
    }
    let only = || Filter::types(["order-placed"]);
    let mut events = app.subscribe::<Shop>(only()).start().await.unwrap();
    assert_eq!(events.upto(), Position::START);
    let mut seen = Vec::new();
    // It ends and continues after each event.
    for _ in 0..4 {
        let Arrival::Event(event) = events.next().await.unwrap() else { panic!("no event") };
        seen.push(event.event);
        let checkpoint: SessionToken =
            events.checkpoint().await.unwrap().to_string().parse().unwrap();
        events = app.subscribe::<Shop>(only()).after(&checkpoint).start().await.unwrap();
        assert_eq!(events.upto(), event.position);
    }
    assert_eq!(seen, [placed(1), placed(2), placed(3), placed(4)]);
    assert_eq!(rest(&mut events).await, []);
    // Events that do not match are behind it, too.
    assert_eq!(events.upto(), Position::new(8));
    let checkpoint = events.checkpoint().await.unwrap();
    let other = self::app().await;
    let foreign = other.subscribe::<Shop>(only()).after(&checkpoint).start().await;
    assert!(matches!(foreign, Err(SubscriptionError::Token(_))), "{foreign:?}");
}

/// A worker that packs what was placed. It ends at the given step of its work.
async fn work(app: &App, ends: &mut usize) -> Option<()> {
    let mut step = || {
        *ends = ends.checked_sub(1)?;
        Some(())
    };
    let only = Filter::types(["order-placed"]);
    let events = app.subscribe::<Shop>(only).tracked_as("packer");
    let mut events = events.start().await.unwrap();
    loop {
        let Arrival::Event(event) = events.next().await.unwrap() else { return Some(()) };
        let Shop::Placed { order } = event.event else { panic!("{event:?}") };
        step()?;
        let pack = app.execute(Tell(vec![packed(order)])).caused_by(&event);
        let receipt = pack.tracking(events.tracking()).await.unwrap();
        assert_eq!(receipt.events(), 1);
        step()?;
    }
}

#[tokio::test]
async fn a_worker_that_ends_anywhere_reacts_once_to_each_event() {
    for first_ends in 0..=12 {
        let app = App::over(Memory::new()).view::<PackCounts>().start().await.unwrap();
        for order in 1..=5 {
            app.execute(Tell(vec![placed(order)])).await.unwrap();
        }
        let mut ends = first_ends;
        while work(&app, &mut ends).await.is_none() {
            ends = first_ends + 3;
        }
        let packs = app.subscribe::<Shop>(Filter::types(["order-packed"])).start().await;
        let packs = rest(&mut packs.unwrap()).await;
        let packs: Vec<_> = packs.into_iter().map(|(_, event)| event).collect();
        assert_eq!(packs, [1, 2, 3, 4, 5].map(packed));
    }
}

#[tokio::test]
async fn two_workers_of_one_name_react_once() {
    let app = app().await;
    let placed_at = app.execute(Tell(vec![placed(1)])).await.unwrap();
    let begin = async || {
        let events = app.subscribe::<Shop>(Filter::types(["order-placed"])).tracked_as("packer");
        let mut events = events.start().await.unwrap();
        assert!(matches!(events.next().await.unwrap(), Arrival::Event(_)));
        events
    };
    let (one, two) = (begin().await, begin().await);
    app.execute(Tell(vec![packed(1)])).tracking(one.tracking()).await.unwrap();
    let again = app.execute(Tell(vec![packed(1)])).tracking(two.tracking()).await.unwrap_err();
    let ExecuteError::Failed(CommandError::Tracking(refusal)) = &again else { panic!("{again:?}") };
    assert!(refusal.to_string().contains("packer"), "{refusal}");
    assert_eq!(app.head().get(), placed_at.last().get() + 1);
    // The app goes on, and a later worker begins behind it.
    app.execute(Tell(vec![placed(2)])).await.unwrap();
    let events = app.subscribe::<Shop>(Filter::everything()).tracked_as("packer");
    assert_eq!(events.start().await.unwrap().upto(), placed_at.last());
    // Without a name there is no place to store.
    let mut unnamed = app.subscribe::<Shop>(Filter::everything()).start().await.unwrap();
    assert!(matches!(unnamed.next().await.unwrap(), Arrival::Event(_)));
    assert_eq!(unnamed.tracking(), None);
}

/// Splits an old event into two events of today.
fn both(_: &diptych::event::EncodedEvent<'_>) -> Result<Vec<Upcast>, UpcastError> {
    let order = serde_json::json!({"order": 7});
    Ok(vec![Upcast::json("order-placed", 1, &order)?, Upcast::json("order-packed", 1, &order)?])
}

#[tokio::test]
async fn events_arrive_as_they_are_today_and_a_split_one_counts_as_one_place() {
    let store = Store::new(Memory::new());
    let old = |name: &'static str| Append::events(vec![RawEvent::new(name, *b"{}")]);
    for name in ["order-sold", "order-lost"] {
        store.append(old(name)).await.unwrap().synced().await.unwrap();
    }
    let upcasters = Upcasters::new()
        .split("order-sold", 1, &["order-placed", "order-packed"], both)
        .rename("order-lost", "order-placed");
    let app = App::over_store(store).upcasters(upcasters).start().await.unwrap();
    let events = app.subscribe::<Shop>(Filter::everything()).tracked_as("worker");
    let mut events = events.start().await.unwrap();
    let Arrival::Event(first) = events.next().await.unwrap() else { panic!("no event") };
    assert_eq!((first.event, events.upto()), (placed(7), Position::START));
    assert_eq!(events.tracking(), None);
    let Arrival::Event(second) = events.next().await.unwrap() else { panic!("no event") };
    assert_eq!((second.event, events.upto()), (packed(7), Position::new(1)));
    assert_eq!(events.tracking().unwrap().position, Position::new(1));
    // An event that cannot be read is an error, and is not passed over.
    for _ in 0..2 {
        let error = events.next().await.unwrap_err();
        let SubscriptionError::Event { position, .. } = error else { panic!("{error}") };
        assert_eq!((position, events.upto()), (Position::new(2), Position::new(1)));
    }
}
