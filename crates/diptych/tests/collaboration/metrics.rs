//! The metrics of feeds and intakes.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use diptych::{
    App, AppBuilder, Memory, Store,
    collaboration::{
        FeedError, FeedPage, FeedRead, FeedSource, ForeignEvent, Intake, IntakeAnswer, IntakeStart,
        PublicEvent,
    },
    store::RawEvent,
};
use serde::{Deserialize, Serialize};

use super::{
    measured::MetricsRecorder,
    services::{Accepted, Due, Orders, orders, place, quick, until, write_raw},
};

static IS_FIXED: AtomicBool = AtomicBool::new(false);

/// An intake that cannot take in order 3 until it is fixed.
struct Touchy;

impl Intake for Touchy {
    const NAME: &'static str = "touchy";
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

/// A source that can be away.
struct Line<S> {
    source: S,
    is_away: Arc<AtomicBool>,
}

impl<S: FeedSource> FeedSource for Line<S> {
    fn name(&self) -> String {
        self.source.name()
    }

    async fn read(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        match self.is_away.load(SeqCst) {
            true => Err(FeedError::Unreachable { reason: "no line".to_owned() }),
            false => self.source.read(read).await,
        }
    }
}

async fn comes(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no {what}");
}

/// A language without the events of ordering.
#[derive(PublicEvent, Serialize, Deserialize)]
#[event("parcel-sent")]
struct Sent {
    #[tag]
    order: u64,
}

/// An intake that knows no event of the feed.
struct Deaf;

impl Intake for Deaf {
    const NAME: &'static str = "deaf";
    type Public = Sent;
    type Event = Due;

    fn translate(event: &ForeignEvent<Sent>) -> Result<Vec<Due>, Box<dyn Error + Send + Sync>> {
        Ok(vec![Due { order: event.event.order, cents: 0 }])
    }
}

#[tokio::test]
async fn events_of_unknown_types_are_counted_by_type() {
    let measured = MetricsRecorder::default();
    // A type is known when it comes, and the task of the intake runs on this thread.
    let _recorder = metrics::set_default_local_recorder(&measured);
    let (_ordering, feed) = orders(3).await;
    let app = App::over(Memory::new());
    let app = app.intake_with::<Deaf>(feed, IntakeStart::Beginning, quick()).start().await.unwrap();
    until(&app, "deaf", |status| status.position.get() == 3).await;
    let left_out = "diptych_intake_left_out_total intake=deaf type=order-accepted.v1";
    assert_eq!(measured.of(left_out), 3);
    assert_eq!(measured.of("diptych_intake_events_total intake=deaf outcome=left-out"), 3);
    assert_eq!(measured.of("diptych_intake_events_total intake=deaf outcome=taken"), 0);
}

fn start(measured: &MetricsRecorder, app: AppBuilder) -> App {
    metrics::with_local_recorder(measured, || pollster::block_on(app.start()).unwrap())
}

#[tokio::test]
async fn intakes_and_feeds_show_what_they_did_and_how_late_they_are() {
    let measured = MetricsRecorder::default();
    let ordering = start(&measured, App::over(Memory::new()).feed::<Orders>());
    for order in 0..5 {
        place(&ordering, order).await;
    }
    place(&ordering, 3).await;
    let is_away = Arc::new(AtomicBool::new(false));
    let source = Line { source: ordering.feed("orders").unwrap(), is_away: is_away.clone() };
    let store = Store::new(Memory::new());
    let app = App::over_store(store.clone()).intake_with::<Touchy>(
        source,
        IntakeStart::Beginning,
        quick(),
    );
    let app = start(&measured, app);

    let of = |name: &str| measured.of(name);
    let events =
        |outcome: &str| of(&format!("diptych_intake_events_total intake=touchy outcome={outcome}"));
    let is = |state: &str| of(&format!("diptych_intake_state intake=touchy state={state}")) == 1;
    comes("live intake", || is("live")).await;
    assert_eq!((events("taken"), events("parked"), events("left-out")), (4, 2, 0));
    assert_eq!(of("diptych_intake_waiting intake=touchy"), 2);
    assert_eq!(of("diptych_lag_positions kind=intake name=touchy"), 0);
    assert_eq!(of("diptych_lag_seconds kind=intake name=touchy"), 0);
    assert!(of("diptych_intake_pages_total intake=touchy") >= 1);
    assert_eq!(of("diptych_intake_failures_total intake=touchy"), 0);
    assert!(of("diptych_feed_reads_total feed=orders") >= 1);
    assert_eq!(of("diptych_feed_events_total feed=orders"), 6);
    let status = ordering.feed("orders").unwrap().status();
    assert_eq!((status.events, status.failures, status.read_upto.get()), (6, 0, 6));

    // The source is away: the failures count, the lag in seconds grows, and one state is 1.
    is_away.store(true, SeqCst);
    comes("failures", || of("diptych_intake_failures_total intake=touchy") > 1).await;
    assert!(is("stalled") && !is("live") && !is("stopped"));
    assert!(of("diptych_lag_seconds kind=intake name=touchy") >= 1);
    assert_eq!(of("diptych_stopped kind=intake name=touchy"), 0);
    is_away.store(false, SeqCst);
    comes("live intake", || is("live") && !is("stalled")).await;

    // An answer skips the first event of the subject, and the other one is taken in.
    let intake = app.intake("touchy").unwrap();
    let letter = intake.letters().await.unwrap().remove(0);
    IS_FIXED.store(true, SeqCst);
    intake.answer(&letter, IntakeAnswer::Skip, "ann", "a test order").await.unwrap();
    until(&app, "touchy", |status| status.waiting == 0).await;
    comes("answers", || (events("skipped"), events("resumed")) == (1, 1)).await;
    assert_eq!(of("diptych_intake_waiting intake=touchy"), 0);

    // An event that cannot be published fails the question.
    write_raw(&ordering, RawEvent::new("order-placed", b"{}".to_vec())).await;
    comes("failed reads", || of("diptych_feed_failures_total feed=orders") > 0).await;
    assert!(ordering.feed("orders").unwrap().status().failures > 0);
}
