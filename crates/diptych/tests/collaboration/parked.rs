//! A published event that cannot be taken in holds back its subject, and nothing else.

use std::{
    error::Error,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use diptych::{
    App, AppBuilder, Event, Filter, Memory, Store,
    collaboration::{
        FeedError, FeedHandle, FeedPage, FeedRead, FeedSource, ForeignEvent, Intake, IntakeAnswer,
        IntakeAnswerError, IntakeControl, IntakeStart, IntakeState, ParkedForeignEvent,
    },
    store::Read,
};
use diptych_store::testing::{Call, WrappedStore};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::services::{Accepted, Due, Shipments, orders, place, quick, shipments, stopped, until};

/// One test at a time decides what cannot be taken in.
static TURN: Mutex<()> = Mutex::new(());
static IS_FIXED: AtomicBool = AtomicBool::new(false);

/// An intake that cannot take in order 3 until it is fixed.
struct PoisonedIntake;

impl Intake for PoisonedIntake {
    const NAME: &'static str = "poisoned";
    type Public = Accepted;
    type Event = Due;

    fn translate(event: &ForeignEvent<Accepted>) -> Result<Vec<Due>, Box<dyn Error + Send + Sync>> {
        let Accepted { order, cents } = event.event;
        match order {
            3 if !IS_FIXED.load(SeqCst) => Err("order 3 is poison".into()),
            _ => Ok(vec![Due { order, cents }]),
        }
    }
}

fn poisoned(store: &Store, feed: &FeedHandle) -> AppBuilder {
    App::over_store(store.clone()).view::<Shipments>().intake_with::<PoisonedIntake>(
        feed.clone(),
        IntakeStart::Beginning,
        quick(),
    )
}

async fn only_letter(intake: &IntakeControl) -> ParkedForeignEvent {
    let mut letters = intake.letters().await.unwrap();
    assert_eq!(letters.len(), 1);
    letters.remove(0)
}

#[tokio::test]
// The guard keeps tests apart that share the flag, and each has a thread of its own.
#[allow(clippy::await_holding_lock)]
async fn a_poison_subject_among_a_hundred_waits_in_order_until_it_is_fixed() {
    let _turn = TURN.lock();
    IS_FIXED.store(false, SeqCst);
    let (ordering, feed) = orders(100).await;
    for _ in 0..4 {
        place(&ordering, 3).await;
    }
    let store = Store::new(Memory::new());
    let app = poisoned(&store, &feed).start().await.unwrap();
    until(&app, "poisoned", |status| status.position.get() == 104).await;
    let taken = shipments(&app).await;
    assert_eq!((taken.events, taken.sums.contains_key(&3)), (99, false));
    let intake = app.intake("poisoned").unwrap();
    let letter = only_letter(&intake).await;
    assert_eq!((letter.subject.as_str(), letter.waiting), ("order:3", 4));
    assert_eq!(letter.reason, "order 3 is poison");
    assert_eq!(letter.event.as_ref().unwrap().data.get(), r#"{"order":3,"cents":103}"#);

    // A retry without a fix parks it again, under the new reason, and a restart keeps it.
    let retried = intake.answer(&letter, IntakeAnswer::Retry, "ann", "maybe").await.unwrap();
    let again = intake.answer(&letter, IntakeAnswer::Retry, "ben", "maybe").await;
    // The intake follows an answer at once, so a second one may find the letter waiting again.
    if let Err(error) = again {
        assert!(matches!(error, IntakeAnswerError::Answered { .. }), "{error}");
    }
    app.stop().await.unwrap();
    let app = poisoned(&store, &feed).start().await.unwrap();
    until(&app, "poisoned", |status| status.waiting == 5).await;
    assert!(store.head().position() >= retried);

    IS_FIXED.store(true, SeqCst);
    let intake = app.intake("poisoned").unwrap();
    while let Some(letter) = intake.letters().await.unwrap().first() {
        let _ = intake.answer(letter, IntakeAnswer::Retry, "ann", "fixed").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let taken = shipments(&app).await;
    assert_eq!((taken.events, taken.sums[&3]), (104, 5 * 103));

    // Later events of the subject are taken in at once.
    place(&ordering, 3).await;
    until(&app, "poisoned", |status| status.position.get() == 105).await;
    assert_eq!(shipments(&app).await.sums[&3], 6 * 103);
    assert_eq!(app.intake("poisoned").unwrap().status().waiting, 0);
}

#[tokio::test]
#[allow(clippy::await_holding_lock)]
async fn a_skipped_event_is_left_out_and_those_behind_it_are_taken_in() {
    let _turn = TURN.lock();
    IS_FIXED.store(false, SeqCst);
    let (ordering, feed) = orders(4).await;
    place(&ordering, 3).await;
    let store = Store::new(Memory::new());
    let app = poisoned(&store, &feed).start().await.unwrap();
    until(&app, "poisoned", |status| status.waiting == 2).await;
    let intake = app.intake("poisoned").unwrap();
    let letter = only_letter(&intake).await;
    IS_FIXED.store(true, SeqCst);
    intake.answer(&letter, IntakeAnswer::Skip, "ann", "a test order").await.unwrap();
    until(&app, "poisoned", |status| status.waiting == 0).await;
    let taken = shipments(&app).await;
    assert_eq!((taken.events, taken.sums[&3]), (4, 103));
    let again = intake.answer(&letter, IntakeAnswer::Skip, "ben", "too late").await;
    assert!(matches!(again, Err(IntakeAnswerError::Answered { .. })));
}

/// An intake that cannot take in an order without a price.
struct PricedIntake;

impl Intake for PricedIntake {
    const NAME: &'static str = "priced";
    type Public = Accepted;
    type Event = Due;

    fn translate(event: &ForeignEvent<Accepted>) -> Result<Vec<Due>, Box<dyn Error + Send + Sync>> {
        let Accepted { order, cents } = event.event;
        match cents {
            0 => Err("an order without a price".into()),
            cents => Ok(vec![Due { order, cents }]),
        }
    }
}

#[tokio::test]
async fn an_event_is_taken_in_with_the_payload_that_an_operator_gives() {
    let (ordering, feed) = orders(0).await;
    for cents in [0, 5] {
        super::services::write(&ordering, super::services::Ordering::Placed { order: 7, cents })
            .await;
    }
    let store = Store::new(Memory::new());
    let app = App::over_store(store.clone()).view::<Shipments>();
    let app = app.intake_with::<PricedIntake>(feed, IntakeStart::Beginning, quick());
    let app = app.start().await.unwrap();
    until(&app, "priced", |status| status.waiting == 2).await;
    // The log alone tells operators what waits.
    let operations = app.intake_operations();
    let known = operations.intakes().await.unwrap();
    assert_eq!((known[0].name.as_str(), known[0].position.get()), ("priced", 2));
    assert_eq!(known[0].log, Some(ordering.identity()));
    let unknown = operations.letters(Some("orders")).await.unwrap_err().to_string();
    assert!(unknown.contains("no intake \"orders\" (it knows: [\"priced\"])"), "{unknown}");
    // Another wrong payload leaves it there, with the reason, and a good one takes both in.
    let replace = |data| IntakeAnswer::Replace(data);
    let letter = operations.letters(Some("priced")).await.unwrap().remove(0);
    let wrong = replace(serde_json::json!({ "order": 7, "cents": "many" }));
    operations.answer(&letter, wrong, "ann", "a guess").await.unwrap();
    let letter = loop {
        let letter = operations.letters(None).await.unwrap().remove(0);
        if letter.reason != "an order without a price" {
            break letter;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(letter.reason.contains("many"), "{}", letter.reason);
    assert_eq!(letter.event.as_ref().unwrap().data.get(), r#"{"order":7,"cents":0}"#);
    let right = replace(serde_json::json!({ "order": 7, "cents": 90 }));
    operations.answer(&letter, right, "ann", "the price of the list").await.unwrap();
    until(&app, "priced", |status| status.waiting == 0).await;
    assert_eq!(shipments(&app).await.sums[&7], 95);
    assert!(operations.letters(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn answers_are_followed_while_the_source_is_away() {
    let (ordering, feed) = orders(0).await;
    for cents in [0, 5] {
        super::services::write(&ordering, super::services::Ordering::Placed { order: 7, cents })
            .await;
    }
    let store = Store::new(Memory::new());
    let mut options = quick();
    let app = |source: Arc<dyn Fn() -> Option<FeedHandle> + Send + Sync>, options| {
        App::over_store(store.clone()).view::<Shipments>().intake_with::<PricedIntake>(
            Line(source),
            IntakeStart::Beginning,
            options,
        )
    };
    let near = app(Arc::new(move || Some(feed.clone())), options.clone()).start().await.unwrap();
    until(&near, "priced", |status| status.waiting == 2).await;
    near.stop().await.unwrap();
    // The source refuses at once, and the intake rests for long between two questions.
    (options.first_wait, options.longest_wait) =
        (Duration::from_secs(600), Duration::from_secs(600));
    let away = app(Arc::new(|| None), options).start().await.unwrap();
    let status = until(&away, "priced", |status| status.waiting == 2).await;
    assert_eq!(status.position.get(), 2);
    let intake = away.intake("priced").unwrap();
    let letter = only_letter(&intake).await;
    intake.answer(&letter, IntakeAnswer::Skip, "ann", "a test order").await.unwrap();
    let status = until(&away, "priced", |status| status.waiting == 0).await;
    assert!(matches!(status.state, IntakeState::Stalled { .. }), "{status:?}");
    assert_eq!(shipments(&away).await.sums[&7], 5);
}

/// A source that is away if it gives no feed.
struct Line(Arc<dyn Fn() -> Option<FeedHandle> + Send + Sync>);

impl FeedSource for Line {
    fn name(&self) -> String {
        "orders".to_owned()
    }

    async fn read(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        let away = FeedError::Unreachable { reason: "connection refused".to_owned() };
        (self.0)().ok_or(away)?.page(read).await
    }
}

#[tokio::test]
#[allow(clippy::await_holding_lock)]
async fn too_many_waiting_events_stop_the_intake() {
    let _turn = TURN.lock();
    IS_FIXED.store(false, SeqCst);
    let (ordering, feed) = orders(4).await;
    for _ in 0..5 {
        place(&ordering, 3).await;
    }
    let mut options = quick();
    options.waiting_events = 3;
    let app = App::over(Memory::new())
        .intake_with::<PoisonedIntake>(feed, IntakeStart::Beginning, options)
        .start()
        .await
        .unwrap();
    let reason = stopped(&app, "poisoned").await;
    assert!(reason.contains("3 events wait"), "{reason}");
}

/// An intake that makes more events of order 3 than a commit may have.
struct Flood;

impl Intake for Flood {
    const NAME: &'static str = "flood";
    type Public = Accepted;
    type Event = Due;

    fn translate(event: &ForeignEvent<Accepted>) -> Result<Vec<Due>, Box<dyn Error + Send + Sync>> {
        let Accepted { order, cents } = event.event;
        let events = match (order, cents) {
            (3, 103) => 70_000,
            _ => 1,
        };
        Ok(vec![Due { order, cents }; events])
    }
}

/// An intake that parks order 3, and makes more events of order 2 than fit beside others.
struct Heavy;

impl Intake for Heavy {
    const NAME: &'static str = "heavy";
    type Public = Accepted;
    type Event = Due;

    fn translate(event: &ForeignEvent<Accepted>) -> Result<Vec<Due>, Box<dyn Error + Send + Sync>> {
        let Accepted { order, cents } = event.event;
        match order {
            3 => Err("order 3 is poison".into()),
            2 => Ok(vec![Due { order, cents }; 40_000]),
            _ => Ok(vec![Due { order, cents }]),
        }
    }
}

/// Events that were committed in the middle of a page were counted twice, and the intake stopped.
#[tokio::test]
async fn each_waiting_event_of_a_long_page_counts_once() {
    let (ordering, feed) = orders(0).await;
    for order in [3, 3, 2, 1, 3] {
        place(&ordering, order).await;
    }
    let mut options = quick();
    options.waiting_events = 3;
    let app = App::over(Memory::new());
    let app = app.intake_with::<Heavy>(feed, IntakeStart::Beginning, options);
    let app = app.start().await.unwrap();
    until(&app, "heavy", |status| status.waiting == 3).await;
    place(&ordering, 1).await;
    let head = ordering.head();
    until(&app, "heavy", |status| status.position == head).await;
    app.stop().await.unwrap();
}

/// An intake whose reasons fit in no event.
struct Wordy;

impl Intake for Wordy {
    const NAME: &'static str = "wordy";
    type Public = Accepted;
    type Event = Due;

    fn translate(_: &ForeignEvent<Accepted>) -> Result<Vec<Due>, Box<dyn Error + Send + Sync>> {
        Err("no ".repeat(2 << 20).into())
    }
}

#[tokio::test]
async fn a_reason_that_fits_in_no_event_is_shortened() {
    let (_ordering, feed) = orders(1).await;
    let app = App::over(Memory::new());
    let app = app.intake_with::<Wordy>(feed, IntakeStart::Beginning, quick());
    let app = app.start().await.unwrap();
    until(&app, "wordy", |status| status.waiting == 1).await;
    let intake = app.intake("wordy").unwrap();
    let letter = only_letter(&intake).await;
    assert!(letter.reason.ends_with(" ... (6291456 bytes)"), "{}", letter.reason);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_that_fits_in_no_commit_is_retried_in_vain_and_skipped_and_the_intake_goes_on() {
    let (ordering, feed) = orders(4).await;
    super::services::write(&ordering, super::services::Ordering::Split { order: 3, parts: 2 })
        .await;
    let app = App::over(Memory::new()).view::<Shipments>();
    let app = app.intake_with::<Flood>(feed, IntakeStart::Beginning, quick());
    let app = app.start().await.unwrap();
    until(&app, "flood", |status| status.waiting == 3).await;
    let intake = app.intake("flood").unwrap();
    let letter = only_letter(&intake).await;
    assert!(letter.reason.contains("commit_events"), "{}", letter.reason);
    intake.answer(&letter, IntakeAnswer::Retry, "ann", "again").await.unwrap();
    // The answer is followed when the event can be answered anew.
    while let Err(error) = intake.answer(&letter, IntakeAnswer::Skip, "ann", "too large").await {
        assert!(matches!(error, IntakeAnswerError::Answered { .. }), "{error}");
        let state = intake.status().state;
        assert!(!matches!(state, IntakeState::Stopped { .. }), "{state:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until(&app, "flood", |status| status.waiting == 0).await;
    let taken = shipments(&app).await;
    assert_eq!((taken.events, taken.sums[&3]), (5, 1 + 2));
    place(&ordering, 5).await;
    until(&app, "flood", |status| status.position.get() == 6).await;
    app.stop().await.unwrap();
}

/// An event whose tag can be longer than a store takes.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("parcel-labelled")]
struct Labelled {
    #[tag]
    order: u64,
    #[tag]
    label: String,
    cents: u64,
}

/// An intake whose events of free orders fit in no store.
struct Labels;

impl Intake for Labels {
    const NAME: &'static str = "labels";
    type Public = Accepted;
    type Event = Labelled;

    fn translate(
        event: &ForeignEvent<Accepted>,
    ) -> Result<Vec<Labelled>, Box<dyn Error + Send + Sync>> {
        let Accepted { order, cents } = event.event;
        let label = "x".repeat(if cents == 0 { 600 } else { 6 });
        Ok(vec![Labelled { order, label, cents }])
    }
}

/// The orders and prices of all labels, in the order of the log.
async fn labelled(app: &App) -> Vec<(u64, u64)> {
    let store = app.store();
    let batch = store.read(&Filter::types(["parcel-labelled"]), Read::all()).await.unwrap();
    let labels = batch.iter().map(|event| {
        let label: Labelled = serde_json::from_slice(event.payload()).unwrap();
        (label.order, label.cents)
    });
    labels.collect()
}

/// Regression: the later events of the page were translated before the first was parked, and
/// overtook it.
#[tokio::test]
async fn later_events_of_a_page_wait_behind_one_that_the_store_cannot_hold() {
    let (ordering, feed) = orders(0).await;
    for (order, cents) in [(8, 1), (7, 0), (7, 2), (8, 3), (7, 4)] {
        super::services::write(&ordering, super::services::Ordering::Placed { order, cents }).await;
    }
    let app = App::over(Memory::new());
    let app = app.intake_with::<Labels>(feed, IntakeStart::Beginning, quick());
    let app = app.start().await.unwrap();
    until(&app, "labels", |status| status.position.get() == 5).await;
    assert_eq!(app.intake("labels").unwrap().status().waiting, 3);
    assert_eq!(labelled(&app).await, [(8, 1), (8, 3)]);
    let intake = app.intake("labels").unwrap();
    let letter = only_letter(&intake).await;
    assert_eq!((letter.subject.as_str(), letter.waiting), ("order:7", 2));
    assert!(letter.reason.contains("tag_bytes"), "{}", letter.reason);
    intake.answer(&letter, IntakeAnswer::Skip, "ann", "it is free").await.unwrap();
    until(&app, "labels", |status| status.waiting == 0).await;
    assert_eq!(labelled(&app).await, [(8, 1), (8, 3), (7, 2), (7, 4)]);
    app.stop().await.unwrap();
}

/// Regression: for a moment after a start, the status had the place and no waiting event.
#[tokio::test]
async fn a_status_with_the_place_never_lacks_the_events_that_wait_there() {
    let (ordering, feed) = orders(0).await;
    for cents in [0, 1] {
        super::services::write(&ordering, super::services::Ordering::Placed { order: 7, cents })
            .await;
    }
    let store = Store::new(Memory::new());
    let labels = |store: &Store| {
        let app = App::over_store(store.clone());
        app.intake_with::<Labels>(feed.clone(), IntakeStart::Beginning, quick())
    };
    let app = labels(&store).start().await.unwrap();
    until(&app, "labels", |status| status.waiting == 2).await;
    app.stop().await.unwrap();
    let (looks, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (looking, gate) = (looks.clone(), goes_on.clone());
    let slow = WrappedStore::over(store).before(move |call| {
        let is_look = matches!(&call, Call::Read(filter, _)
            if filter.to_string().contains("diptych:intake-parked"));
        let (looking, gate) = (looking.clone(), gate.clone());
        async move {
            if is_look {
                looking.notify_one();
                gate.notified().await;
            }
            Ok(())
        }
    });
    let app = labels(&Store::new(slow)).start().await.unwrap();
    looks.notified().await;
    let status = app.intake("labels").unwrap().status();
    assert_eq!((status.position.get(), status.waiting), (0, 0), "nothing is known yet");
    goes_on.notify_one();
    until(&app, "labels", |status| (status.position.get(), status.waiting) == (2, 2)).await;
    app.stop().await.unwrap();
}

/// Regression: the event behind the half that the store could hold got the reason of the store,
/// and waited for another answer.
#[tokio::test]
async fn an_answer_takes_in_all_events_before_the_one_that_the_store_cannot_hold() {
    let (ordering, feed) = orders(0).await;
    for cents in [0, 1, 2, 3, 0, 5] {
        super::services::write(&ordering, super::services::Ordering::Placed { order: 7, cents })
            .await;
    }
    let app = App::over(Memory::new());
    let app = app.intake_with::<Labels>(feed, IntakeStart::Beginning, quick());
    let app = app.start().await.unwrap();
    until(&app, "labels", |status| status.waiting == 6).await;
    let intake = app.intake("labels").unwrap();
    let letter = only_letter(&intake).await;
    let priced = IntakeAnswer::Replace(serde_json::json!({ "order": 7, "cents": 9 }));
    intake.answer(&letter, priced, "ann", "the price of the list").await.unwrap();
    until(&app, "labels", |status| status.waiting == 2).await;
    assert_eq!(labelled(&app).await, [(7, 9), (7, 1), (7, 2), (7, 3)]);
    let letter = only_letter(&intake).await;
    let event = letter.event.as_ref().unwrap();
    assert_eq!((event.data.get(), letter.waiting), (r#"{"order":7,"cents":0}"#, 1));
    assert!(letter.reason.contains("tag_bytes"), "{}", letter.reason);
    intake.answer(&letter, IntakeAnswer::Skip, "ann", "it is free").await.unwrap();
    until(&app, "labels", |status| status.waiting == 0).await;
    assert_eq!(labelled(&app).await.last(), Some(&(7, 5)));
    app.stop().await.unwrap();
}

/// Regression: each answer took in a hundred events at most, and the others waited for another.
#[tokio::test]
#[allow(clippy::await_holding_lock)]
async fn one_answer_takes_in_any_number_of_waiting_events() {
    let _turn = TURN.lock();
    IS_FIXED.store(false, SeqCst);
    let (ordering, feed) = orders(0).await;
    for _ in 0..250 {
        place(&ordering, 3).await;
    }
    let app = poisoned(&Store::new(Memory::new()), &feed).start().await.unwrap();
    until(&app, "poisoned", |status| status.waiting == 250).await;
    let intake = app.intake("poisoned").unwrap();
    let letter = only_letter(&intake).await;
    IS_FIXED.store(true, SeqCst);
    intake.answer(&letter, IntakeAnswer::Retry, "ann", "fixed").await.unwrap();
    until(&app, "poisoned", |status| status.waiting == 0).await;
    assert_eq!(shipments(&app).await.sums[&3], 250 * 103);
    app.stop().await.unwrap();
}
