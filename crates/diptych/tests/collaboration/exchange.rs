//! A service keeps its own copy of the facts of another one.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use diptych::{
    App, Filter, Memory, Store,
    collaboration::{
        FeedError, FeedPage, FeedRead, FeedSource, ForeignEvent, Intake, IntakeStart, IntakeState,
        PublicEvent,
    },
    event::Upcasters,
    store::Read,
};
use serde::{Deserialize, Serialize};

use super::services::{
    Accepted, Due, Ordering, orders, place, quick, shipments, shipping, stalled, until, write,
};

#[tokio::test]
async fn each_published_event_is_taken_in_once_with_its_time_and_cause() {
    let (ordering, feed) = orders(50).await;
    let store = Store::new(Memory::new());
    let app = shipping(&store, feed.clone()).start().await.unwrap();
    until(&app, "shipments", |status| status.position.get() == 50).await;
    let taken = shipments(&app).await;
    assert_eq!(taken.events, 50);
    assert_eq!(taken.sums, (0..50).map(|order| (order, 100 + order)).collect::<BTreeMap<_, _>>());

    let due = store.read(&Filter::types(["shipment-due"]), Read::all().limit(1)).await.unwrap();
    let due = due.get(0).unwrap();
    let first = feed.page(FeedRead::after(diptych::collaboration::FeedCursor::Position(0.into())));
    let first = first.await.unwrap().events.remove(0);
    let metadata = due.metadata();
    assert_eq!(metadata.occurred_at, first.time);
    assert_eq!((metadata.causation, metadata.correlation), (first.eventid, first.correlationid));
    assert_eq!(metadata.extra["diptych:feed"], first.source);
    assert_eq!(metadata.extra["diptych:feed-event"], first.id);
    assert_eq!(metadata.extra["diptych:hops"], "1");
    assert_eq!(metadata.extra["diptych:via"], format!("orders@{}", ordering.identity().id));
    let names: Vec<_> = metadata.extra.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["diptych:feed", "diptych:feed-event", "diptych:hops", "diptych:via"]);

    // A second start goes on where the first one stood.
    app.stop().await.unwrap();
    place(&ordering, 50).await;
    let app = shipping(&store, feed).start().await.unwrap();
    until(&app, "shipments", |status| status.position.get() == 51).await;
    assert_eq!(shipments(&app).await.events, 51);
}

/// A source that is away.
struct Away;

impl FeedSource for Away {
    fn name(&self) -> String {
        "orders".to_owned()
    }

    async fn read(&self, _: FeedRead) -> Result<FeedPage, FeedError> {
        Err(FeedError::Unreachable { reason: "connection refused".to_owned() })
    }
}

#[tokio::test]
async fn a_service_answers_and_rebuilds_while_the_source_is_away() {
    let (_ordering, feed) = orders(20).await;
    let store = Store::new(Memory::new());
    let app = shipping(&store, feed).start().await.unwrap();
    until(&app, "shipments", |status| status.position.get() == 20).await;
    app.stop().await.unwrap();

    // Views are in memory, so this start folds everything anew.
    let app = shipping(&store, Away).start().await.unwrap();
    assert_eq!(shipments(&app).await.events, 20);
    assert!(stalled(&app, "shipments").await.contains("connection refused"));
    assert_eq!(shipments(&app).await.events, 20);
}

#[tokio::test]
async fn a_third_service_catches_up_later_and_changes_nothing_in_the_others() {
    let (ordering, feed) = orders(30).await;
    let first = shipping(&Store::new(Memory::new()), feed.clone()).start().await.unwrap();
    until(&first, "shipments", |status| status.position.get() == 30).await;
    let before = ordering.head();
    let third = shipping(&Store::new(Memory::new()), feed).start().await.unwrap();
    until(&third, "shipments", |status| status.position.get() == 30).await;
    assert_eq!(shipments(&third).await.sums, shipments(&first).await.sums);
    assert_eq!(ordering.head(), before);
}

#[tokio::test]
async fn positions_without_events_for_the_feed_are_passed() {
    let (ordering, feed) = orders(1).await;
    for _ in 0..25 {
        write(&ordering, Ordering::Checked { order: 0 }).await;
    }
    let store = Store::new(Memory::new());
    let mut options = quick();
    options.positions_without_commit = 10;
    let app = App::over_store(store.clone())
        .intake_with::<super::services::ToShipments>(feed, IntakeStart::Beginning, options)
        .start()
        .await
        .unwrap();
    until(&app, "shipments", |status| status.state == IntakeState::Live).await;
    let place = store.tracked("diptych:intake:shipments").await.unwrap().unwrap();
    assert_eq!(place.position.get(), 26);
    assert_eq!(place.origin, Some(ordering.identity()));
}

#[tokio::test]
async fn an_intake_that_begins_now_leaves_out_what_was_before() {
    let (ordering, feed) = orders(5).await;
    let store = Store::new(Memory::new());
    let app = || {
        App::over_store(store.clone())
            .view::<super::services::Shipments>()
            .intake_with::<super::services::ToShipments>(feed.clone(), IntakeStart::Now, quick())
    };
    let first = app().start().await.unwrap();
    until(&first, "shipments", |status| status.position.get() == 5).await;
    first.stop().await.unwrap();
    // It began at its first contact, so this order counts.
    place(&ordering, 5).await;
    let second = app().start().await.unwrap();
    until(&second, "shipments", |status| status.position.get() == 6).await;
    assert_eq!(shipments(&second).await.sums, BTreeMap::from([(5, 105)]));
}

static CALLS: AtomicU64 = AtomicU64::new(0);
static FAILURES: AtomicU64 = AtomicU64::new(0);

/// An intake that counts its calls.
struct Steady;

impl Intake for Steady {
    const NAME: &'static str = "steady";
    type Public = Accepted;
    type Event = Due;

    fn translate(event: &ForeignEvent<Accepted>) -> Result<Vec<Due>, Box<dyn Error + Send + Sync>> {
        CALLS.fetch_add(1, SeqCst);
        Ok(vec![Due { order: event.event.order, cents: event.event.cents }])
    }
}

/// An intake of the same feed that fails.
struct Failing;

impl Intake for Failing {
    const NAME: &'static str = "failing";
    type Public = Accepted;
    type Event = Due;

    fn translate(_: &ForeignEvent<Accepted>) -> Result<Vec<Due>, Box<dyn Error + Send + Sync>> {
        FAILURES.fetch_add(1, SeqCst);
        Err("no".into())
    }
}

#[tokio::test]
async fn an_intake_that_fails_ten_times_causes_no_call_of_its_sibling() {
    let (_ordering, feed) = orders(1).await;
    let app = App::over(Memory::new())
        .intake_with::<Steady>(feed.clone(), IntakeStart::Beginning, quick())
        .intake_with::<Failing>(feed, IntakeStart::Beginning, quick())
        .start()
        .await
        .unwrap();
    until(&app, "failing", |status| status.waiting == 1).await;
    let failing = app.intake("failing").unwrap();
    while FAILURES.load(SeqCst) < 10 {
        let letters = failing.letters().await.unwrap();
        let retry = diptych::collaboration::IntakeAnswer::Retry;
        // An answer that the intake has not followed yet is refused.
        let _ = failing.answer(&letters[0], retry, "ann", "try again").await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    until(&app, "steady", |status| status.position.get() == 1).await;
    assert_eq!(CALLS.load(SeqCst), 1);
}

/// The language of a consumer that knows the event under a newer name and version.
#[derive(PublicEvent, Serialize, Deserialize)]
#[event("order-taken", version = 2)]
struct Taken {
    #[tag]
    number: u64,
    cents: u64,
}

struct Renaming;

impl Intake for Renaming {
    const NAME: &'static str = "renaming";
    type Public = Taken;
    type Event = Due;

    fn translate(event: &ForeignEvent<Taken>) -> Result<Vec<Due>, Box<dyn Error + Send + Sync>> {
        Ok(vec![Due { order: event.event.number, cents: event.event.cents }])
    }
}

#[tokio::test]
async fn an_upcaster_at_the_consumer_reads_a_renamed_event_and_others_are_left_out() {
    let (_ordering, feed) = orders(3).await;
    let upcasters = Upcasters::new().rename("order-accepted", "order-taken").object(
        "order-taken",
        1,
        |event| event.rename("order", "number").map(drop),
    );
    let app = |options| {
        App::over(Memory::new()).view::<super::services::Shipments>().intake_with::<Renaming>(
            feed.clone(),
            IntakeStart::Beginning,
            options,
        )
    };
    let renaming = app(quick().upcasters(upcasters)).start().await.unwrap();
    until(&renaming, "renaming", |status| status.position.get() == 3).await;
    assert_eq!(shipments(&renaming).await.events, 3);

    // Without the upcaster the type is unknown. It is left out, and counted.
    let tolerant = app(quick()).start().await.unwrap();
    let status = until(&tolerant, "renaming", |status| status.position.get() == 3).await;
    assert_eq!(status.left_out, BTreeMap::from([("order-accepted.v1".to_owned(), 3)]));
    assert_eq!(shipments(&tolerant).await.events, 0);

    // A strict intake parks it.
    let strict = app(quick().strict()).start().await.unwrap();
    until(&strict, "renaming", |status| status.waiting == 3).await;
    let letters = strict.intake("renaming").unwrap().letters().await.unwrap();
    assert!(letters[0].reason.contains("does not know the type"), "{}", letters[0].reason);
}
