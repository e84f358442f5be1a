//! The flow of several services as one tree.

use std::{error::Error, time::Duration};

use diptych::{
    App, Event, Memory, Position, Recorded, Uuid,
    collaboration::{Feed, ForeignEvent, Intake, IntakeAnswer, IntakeStart, PublicEvent},
    process::{
        JoinedStep, JoinedTrace, OperatorAnswer, StepKind, Trace, TraceOptions, TraceSource,
        TraceSourceError, TraceSources, TraceTarget,
    },
    store::RawEvent,
};
use serde::{Deserialize, Serialize};

use super::{
    loops::{Later, Playing, player},
    services::{Accepted, Ordering, Orders, orders, quick, until, write, write_raw},
};

/// Billing takes in orders, and publishes bills.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("order-billed")]
struct Billed {
    #[tag]
    order: u64,
}

struct ToBills;

impl Intake for ToBills {
    const NAME: &'static str = "orders-to-bill";
    type Public = Accepted;
    type Event = Billed;

    fn translate(
        event: &ForeignEvent<Accepted>,
    ) -> Result<Vec<Billed>, Box<dyn Error + Send + Sync>> {
        Ok(vec![Billed { order: event.event.order }])
    }
}

#[derive(PublicEvent, Serialize, Deserialize)]
#[event("bill-sent")]
struct BillSent {
    #[tag]
    order: u64,
}

struct Bills;

impl Feed for Bills {
    const NAME: &'static str = "bills";
    type Private = Billed;
    type Public = BillSent;

    fn publish(event: &Recorded<Billed>) -> impl IntoIterator<Item = BillSent> {
        Some(BillSent { order: event.event.order })
    }
}

/// Shipping takes in bills, and cannot ship order 3.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("parcel-due")]
struct ParcelDue {
    #[tag]
    order: u64,
}

struct ToParcels;

impl Intake for ToParcels {
    const NAME: &'static str = "bills-to-parcels";
    type Public = BillSent;
    type Event = ParcelDue;

    fn translate(
        event: &ForeignEvent<BillSent>,
    ) -> Result<Vec<ParcelDue>, Box<dyn Error + Send + Sync>> {
        match event.event.order {
            3 => Err("no parcel is so large".into()),
            order => Ok(vec![ParcelDue { order }]),
        }
    }
}

struct Chain {
    ordering: App,
    billing: App,
    shipping: App,
}

/// Ordering, billing and shipping, with these orders.
async fn chain(orders: &[u64]) -> Chain {
    let ordering = App::over(Memory::new()).feed::<Orders>().start().await.unwrap();
    for order in orders {
        write(&ordering, Ordering::Placed { order: *order, cents: 5 }).await;
    }
    let (from, count) = (IntakeStart::Beginning, orders.len() as u64);
    let feed = ordering.feed("orders").unwrap();
    let billing = App::over(Memory::new()).intake_with::<ToBills>(feed, from, quick());
    let billing = billing.feed::<Bills>().start().await.unwrap();
    until(&billing, "orders-to-bill", |status| status.position.get() == count).await;
    let feed = billing.feed("bills").unwrap();
    let shipping = App::over(Memory::new()).intake_with::<ToParcels>(feed, from, quick());
    let shipping = shipping.start().await.unwrap();
    let head = billing.head();
    until(&shipping, "bills-to-parcels", |status| status.position == head).await;
    Chain { ordering, billing, shipping }
}

impl Chain {
    fn sources(&self) -> TraceSources {
        TraceSources::new()
            .with("ordering", self.ordering.clone())
            .with("billing", self.billing.clone())
            .with("shipping", self.shipping.clone())
    }
}

/// The service, the depth and the type of each event.
fn events(trace: &JoinedTrace) -> Vec<(u32, &str, &str)> {
    let named = trace.steps.iter().map(|step| match &step.kind {
        StepKind::Event { event_type, .. } => {
            (step.depth, step.service.as_str(), event_type.as_str())
        }
        other => panic!("{other}"),
    });
    named.collect()
}

fn event_id(trace: &Trace) -> Uuid {
    let StepKind::Event { id, .. } = &trace.steps[0].kind else { panic!("{trace}") };
    *id
}

/// The first event of ordering.
const FIRST: Position = Position::new(1);

const WHOLE: [(u32, &str, &str); 3] = [
    (0, "ordering", "order-placed"),
    (1, "billing", "order-billed"),
    (2, "shipping", "parcel-due"),
];

#[tokio::test]
async fn the_flow_of_three_services_is_one_tree_from_each_of_its_events() {
    let chain = chain(&[7, 8]).await;
    let sources = chain.sources();
    let whole = sources.trace(FIRST, TraceOptions::default()).await.unwrap();
    assert_eq!(events(&whole), WHOLE);
    assert!(whole.remarks.is_empty(), "{:?}", whole.remarks);
    assert!(whole.services.iter().all(|service| service.steps == 1 && service.away.is_none()));
    let text = whole.to_string();
    let (ordering, billing) = (chain.ordering.identity().id, chain.billing.identity().id);
    for part in [
        "ordering: 1  order-placed order:7".to_owned(),
        ", published to feed orders as order-accepted.v1".to_owned(),
        "└─ billing: 2  order-billed order:7".to_owned(),
        format!(", from feed orders of log {ordering} at position 1, published to feed bills"),
        "   └─ shipping: 2  parcel-due order:7".to_owned(),
        format!(", from feed bills of log {billing} at position 2"),
    ] {
        assert!(text.contains(&part), "{part}:\n{text}");
    }
    // The id of an event of any service leads to the same tree, and the order of services is free.
    for app in [&chain.ordering, &chain.billing, &chain.shipping] {
        let at = if app.feed("orders").is_some() { 1 } else { 2 };
        let own = app.trace(Position::new(at)).await.unwrap();
        assert_eq!(own.correlation, whole.correlation);
        let found = sources.trace(event_id(&own), TraceOptions::default()).await.unwrap();
        assert_eq!(found, whole);
    }
    let turned = TraceSources::new()
        .with("shipping", chain.shipping.clone())
        .with("ordering", chain.ordering.clone())
        .with("billing", chain.billing.clone());
    let found = turned.trace(whole.correlation, TraceOptions::default()).await.unwrap();
    assert_eq!(events(&found), WHOLE);
    let unknown = sources.trace(Uuid::from_u128(7), TraceOptions::default()).await.unwrap_err();
    assert!(unknown.to_string().contains("shipping: no event has the id"), "{unknown}");
    let mut few = TraceOptions::default();
    few.steps = 2;
    let cut = sources.trace(FIRST, few).await.unwrap();
    assert_eq!(cut.steps.len(), 2);
    assert!(cut.remarks[0].contains("more than these 2 steps"), "{:?}", cut.remarks);
}

#[tokio::test]
async fn the_tree_of_one_service_tells_the_feeds_to_and_from_others() {
    let chain = chain(&[7]).await;
    let own = chain.billing.trace(Position::new(2)).await.unwrap();
    let StepKind::Event { origin: Some(origin), published, .. } = &own.steps[0].kind else {
        panic!("{own}")
    };
    let placed = chain.ordering.trace(FIRST).await.unwrap();
    assert_eq!((origin.feed.as_str(), origin.position), ("orders", 1));
    assert_eq!(origin.log, placed.log);
    assert_eq!(origin.cause, Some(event_id(&placed)));
    assert_eq!((origin.hops, origin.place.as_str()), (1, "00000000000000000001"));
    let public = (published[0].feed.as_str(), published[0].event_type.as_str());
    assert_eq!(public, ("bills", "bill-sent.v1"));
    assert!(own.remarks.is_empty(), "{:?}", own.remarks);
    // It is the same after it was JSON.
    let json = serde_json::to_string(&own).unwrap();
    assert_eq!(serde_json::from_str::<Trace>(&json).unwrap(), own);
}

#[tokio::test]
async fn a_parked_event_stands_in_the_tree_below_its_cause_with_its_answer() {
    let chain = chain(&[3]).await;
    let whole = chain.sources().trace(FIRST, TraceOptions::default()).await.unwrap();
    let parked = &whole.steps[2];
    assert_eq!((parked.depth, parked.service.as_str()), (2, "shipping"));
    let StepKind::ForeignParked { reason, answer: None, subject, .. } = &parked.kind else {
        panic!("{whole}")
    };
    assert_eq!((reason.as_deref(), subject.as_str()), (Some("no parcel is so large"), "order:3"));
    let intake = chain.shipping.intake("bills-to-parcels").unwrap();
    let letter = intake.letters().await.unwrap().remove(0);
    intake.answer(&letter, IntakeAnswer::Skip, "ann", "it was sold twice").await.unwrap();
    let whole = chain.sources().trace(FIRST, TraceOptions::default()).await.unwrap();
    let StepKind::ForeignParked { answer, by: Some(by), .. } = &whole.steps[2].kind else {
        panic!("{whole}")
    };
    assert_eq!((*answer, by.who.as_str()), (Some(OperatorAnswer::Skip), "ann"));
    let text = whole.to_string();
    let told = "bill-sent.v1 is parked by the intake bills-to-parcels, from feed bills of log";
    assert!(text.contains(told) && text.contains("skip by ann, \"it was sold twice\""), "{text}");
    let json =
        serde_json::to_string(&chain.shipping.trace(Position::new(2)).await.unwrap()).unwrap();
    serde_json::from_str::<Trace>(&json).unwrap();
}

/// A service that is away.
struct Away;

impl TraceSource for Away {
    async fn trace(&self, _: TraceTarget, _: TraceOptions) -> Result<Trace, TraceSourceError> {
        Err(TraceSourceError::Away { reason: "connection refused".to_owned() })
    }
}

/// A service that never answers.
struct Silent;

impl TraceSource for Silent {
    async fn trace(&self, _: TraceTarget, _: TraceOptions) -> Result<Trace, TraceSourceError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_service_that_is_away_is_marked_and_the_others_are_joined() {
    let chain = chain(&[7]).await;
    let sources = TraceSources::new()
        .with("ordering", chain.ordering.clone())
        .with("billing", Away)
        .with("shipping", chain.shipping.clone())
        .with("printing", Silent)
        .answer_within(Duration::from_millis(500));
    let part = sources.trace(FIRST, TraceOptions::default()).await.unwrap();
    // The parcel has no cause in the tree, so it begins a tree of its own.
    assert_eq!(events(&part), [WHOLE[0], (0, "shipping", "parcel-due")]);
    assert_eq!(part.services[1].away.as_deref(), Some("connection refused"));
    assert_eq!(part.services[3].away.as_deref(), Some("no answer within 500ms"));
    let text = part.to_string();
    assert!(text.contains("billing could not be asked: connection refused"), "{text}");
    let log = format!("feed bills of log {}", chain.billing.identity().id);
    assert!(part.remarks[0].contains(&log), "{:?}", part.remarks);
    // The first one decides whether a position is known.
    let lost = TraceSources::new().with("billing", Away).with("ordering", chain.ordering.clone());
    let lost = lost.trace(FIRST, TraceOptions::default()).await.unwrap_err();
    assert!(lost.to_string().contains("billing: could not be asked"), "{lost}");
}

#[tokio::test]
async fn a_service_that_is_named_twice_counts_once() {
    let chain = chain(&[7]).await;
    let sources = chain.sources().with("ordering again", chain.ordering.clone());
    let whole = sources.trace(FIRST, TraceOptions::default()).await.unwrap();
    assert_eq!(events(&whole), WHOLE);
    assert!(whole.remarks[0].contains("the same log as ordering"), "{:?}", whole.remarks);
}

#[tokio::test]
async fn a_loop_of_two_services_is_shown_and_cut_at_a_depth_with_both_names() {
    let (one, two) = (Later::default(), Later::default());
    let (first, second) = (player(two.clone()).await, player(one.clone()).await);
    one.set(&first);
    two.set(&second);
    let served = write(&first, Playing::Hit { ball: 1 }).await;
    until(&second, "their-hits", |status| status.waiting == 1).await;
    let sources = TraceSources::new().with("ann", first.clone()).with("ben", second.clone());
    let names = [&first, &second].map(|app| format!("hits@{}", app.identity().id));

    // The whole rally: each hit of one is below a hit of the other, and the last is refused.
    let whole = sources.trace(served, TraceOptions::default()).await.unwrap();
    assert!(whole.remarks.is_empty(), "{:?}", whole.remarks);
    let last = whole.steps.last().unwrap();
    let StepKind::ForeignParked { reason: Some(reason), origin: Some(origin), .. } = &last.kind
    else {
        panic!("{whole}")
    };
    assert_eq!((last.service.as_str(), origin.hops), ("ben", 17));
    assert!(names.iter().all(|name| reason.contains(name)), "{reason}");
    let is_cut = |step: &&JoinedStep| matches!(step.kind, StepKind::Cut { .. });
    assert_eq!(whole.steps.iter().filter(is_cut).count(), 0);
    let depths: Vec<_> = whole.steps.iter().map(|step| step.depth).collect();
    assert!(depths.is_sorted(), "one branch: {depths:?}");

    // A smaller depth cuts it.
    let mut few = TraceOptions::default();
    few.feeds = 3;
    let cut = sources.trace(served, few).await.unwrap();
    let last = cut.steps.last().unwrap();
    let StepKind::Cut { feeds, via } = &last.kind else { panic!("{cut}") };
    assert_eq!((*feeds, cut.steps.iter().filter(is_cut).count()), (4, 1));
    assert!(names.iter().all(|name| via.contains(name)), "{via:?}");
    let text = cut.to_string();
    assert!(text.contains("cut after 4 feeds") && text.contains(&names[1]), "{text}");
}

/// Regression: such an event looked like one that the feed does not publish.
#[tokio::test]
async fn a_trace_remarks_that_an_event_could_not_be_published() {
    let (app, _) = orders(1).await;
    let fine = app.trace(Position::new(1)).await.unwrap();
    assert!(fine.remarks.is_empty(), "{:?}", fine.remarks);
    let at = write_raw(&app, RawEvent::new("order-placed", b"{}".to_vec())).await;
    let trace = app.trace(at).await.unwrap();
    let [remark] = &trace.remarks[..] else { panic!("{:?}", trace.remarks) };
    assert!(remark.starts_with("feed orders: the trace does not tell"), "{remark}");
    assert!(remark.contains("position 2"), "{remark}");
}
