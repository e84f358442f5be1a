//! The flow of an event: each step is found from any other, and carries the correlation.

use std::time::Duration;

use diptych::{
    App, Memory, Position, Store, Uuid,
    process::{
        ActionOutcome, CallsFrom, GatewayOptions, Process, ProcessOperations, ProcessStart,
        ReactionContext, Reactions, StepKind, Trace, TraceError, TraceOptions, TraceTarget,
        Trigger,
    },
    store::{Filter, Read},
    testing::{Clock, StubGateway},
};
use serde::{Deserialize, Serialize};

use super::orders::{Cancel, Order, Pay, Place, Ship, events, idle, quick, shop, until};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Charge {
    order: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChargeReceipt {}

/// Charges an order, pays it when that is answered, and ships it a minute later.
#[derive(Default)]
pub(crate) struct Flow {
    order: u64,
}

impl Process for Flow {
    type Event = Order;
    const NAME: &'static str = "flow";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<Order>) {
        if let Some(Order::Placed { order }) = trigger.event() {
            self.order = *order;
        }
    }

    fn react(&self, trigger: &Trigger<Order>, cx: &ReactionContext<'_>) -> Reactions {
        let order = self.order;
        let nothing = Reactions::none();
        match trigger {
            Trigger::Event(event) => match event.event {
                Order::Placed { .. } => nothing
                    .call::<StubGateway<Charge, ChargeReceipt>>("payments", &Charge { order }),
                Order::Paid { .. } => {
                    let minute = Duration::from_secs(60);
                    nothing.set_timer("ship-by", cx.now().saturating_add(minute))
                }
                Order::Cancelled { .. } => nothing.end(),
                Order::Shipped { .. } => nothing,
            },
            Trigger::Timer(_) => nothing.send("ship-order", &Ship { order }),
            Trigger::Settled(settled) => match &settled.outcome {
                ActionOutcome::Answered(_) => nothing.send("pay-order", &Pay { order }),
                _ => {
                    let reason = "no goods".to_owned();
                    nothing.send("cancel-order", &Cancel { order, reason })
                }
            },
            _ => nothing,
        }
    }
}

/// An order that is out of stock, from its placement to its end.
const ORDER: u64 = 1_000_007;

async fn whole_flow(store: &Store, clock: &Clock) -> App {
    let payments: StubGateway<Charge, ChargeReceipt> = StubGateway::answering(|_| ChargeReceipt {});
    let app = shop(store, clock)
        .gateway("payments", payments, CallsFrom::Beginning, GatewayOptions::default())
        .process_with::<Flow>(ProcessStart::Beginning, quick());
    let app = app.start().await.unwrap();
    app.execute(Place { order: 1 }).await.unwrap();
    app.execute(Place { order: ORDER }).actor("ann").await.unwrap();
    idle(&app).await;
    until("they are paid", || async { events(store, &["order-paid"]).await.len() == 2 }).await;
    idle(&app).await;
    clock.advance(Duration::from_secs(61));
    let ended = || async { events(store, &["order-cancelled"]).await.len() == 1 };
    until("the order ends", ended).await;
    idle(&app).await;
    app
}

/// The words of the tree without positions and times.
fn words(trace: &Trace) -> Vec<(u32, String)> {
    let word = |kind: &StepKind| match kind {
        StepKind::Event { event_type, .. } => event_type.clone(),
        StepKind::Reaction { process, instance, .. } => format!("{process} of {instance}"),
        StepKind::Command { command, outcome, .. } => {
            let outcome = outcome.to_string();
            format!("{command} {}", outcome.split(' ').next().unwrap())
        }
        StepKind::Call { gateway, outcome, .. } => {
            let outcome = outcome.to_string();
            format!("{gateway} {}", outcome.split(' ').next().unwrap())
        }
        StepKind::Timer { timer, outcome, .. } => {
            let outcome = outcome.to_string();
            format!("{timer} {}", outcome.split(' ').next().unwrap())
        }
        other => other.to_string(),
    };
    trace.steps.iter().map(|step| (step.depth, word(&step.kind))).collect()
}

fn step(depth: u32, text: &str) -> (u32, String) {
    (depth, text.to_owned())
}

#[tokio::test]
async fn a_flow_is_found_from_each_of_its_events_with_one_correlation() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = whole_flow(&store, &clock).await;
    let placed = events(&store, &["order-placed"]).await[1].0;
    let trace = app.trace(placed).await.unwrap();
    let of = format!("flow of order:{ORDER}");
    let expected = vec![
        step(0, "order-placed"),
        step(1, &of),
        step(2, "payments answered"),
        step(3, &of),
        step(4, "pay-order event"),
        step(5, "order-paid"),
        step(6, &of),
        step(7, "ship-by fired"),
        step(8, &of),
        step(9, "ship-order rejected"),
        step(10, &of),
        step(11, "cancel-order event"),
        step(12, "order-cancelled"),
        step(13, &of),
        step(14, "ends"),
    ];
    assert_eq!(words(&trace), expected);
    let text = trace.to_string();
    assert!(text.contains("by ann") && text.contains("begun at"), "{text}");
    // Each event of the flow carries the correlation, and leads to the whole flow.
    let all = store.read(&Filter::everything(), Read::all()).await.unwrap();
    let mut count = 0;
    for event in all.iter() {
        if event.metadata().correlation == Some(trace.correlation) {
            count += 1;
            assert!(event.metadata().causation.is_some(), "{}", event.event_type());
            assert_eq!(app.trace(event.position()).await.unwrap(), trace);
        }
    }
    assert_eq!(count, 12, "all of the order but the first event");
    assert_eq!(app.trace(trace.correlation).await.unwrap(), trace);
    let StepKind::Event { id, .. } = &trace.steps[5].kind else { panic!("it is paid") };
    assert_eq!(app.trace(*id).await.unwrap(), trace);
    // Programs get the same.
    let json = serde_json::to_value(&trace).unwrap();
    assert_eq!(json["steps"][2]["step"], "call");
    assert_eq!(json["steps"][2]["outcome"]["is"], "answered");
    assert_eq!(json["steps"][9]["outcome"]["text"], format!("order {ORDER} cannot be changed so"));
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_large_flow_is_cut_with_words() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = whole_flow(&store, &clock).await;
    let mut options = TraceOptions::default();
    options.steps = 4;
    let placed = events(&store, &["order-placed"]).await[0].0;
    let trace = app.process_operations().trace(placed, options).await.unwrap();
    assert_eq!(trace.steps.len(), 4);
    assert!(trace.remarks[0].contains("more than these 4 steps"), "{:?}", trace.remarks);
    app.stop().await.unwrap();
}

/// The log has no index of ids that a program chose, nor of the causes that it named.
#[tokio::test]
async fn chosen_correlations_and_causes_are_found_by_a_search() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = shop(&store, &clock).start().await.unwrap();
    let correlation = Uuid::from_u128(77);
    app.execute(Place { order: 1 }).correlation(correlation).await.unwrap();
    app.execute(Place { order: 2 }).await.unwrap();
    let first = store.read(&Filter::everything(), Read::all().limit(1)).await.unwrap();
    let first = first.get(0).unwrap();
    let cause = app.trace(first.position()).await.unwrap();
    let StepKind::Event { id, .. } = cause.steps[0].kind else { panic!("an event") };
    app.execute(Pay { order: 1 }).causation(id).correlation(correlation).await.unwrap();
    let operations = ProcessOperations::over(store.clone());
    let mut options = TraceOptions::default();
    let roots = operations.trace(correlation, options.clone()).await.unwrap();
    assert_eq!(words(&roots), [step(0, "order-placed"), step(0, "order-paid")]);
    options.whole_log = true;
    let tree = operations.trace(Position::new(3), options.clone()).await.unwrap();
    assert_eq!(words(&tree), [step(0, "order-placed"), step(1, "order-paid")]);
    assert_eq!(operations.trace(correlation, options.clone()).await.unwrap(), tree);
    options.searched_events = 1;
    let cut = operations.trace(correlation, options).await.unwrap();
    assert!(cut.remarks.iter().any(|remark| remark.contains("not searched")), "{cut}");
    let missing = operations.trace(Uuid::from_u128(78), TraceOptions::default()).await;
    assert!(matches!(missing, Err(TraceError::NoSuchId { .. })), "{missing:?}");
    let missing = operations.trace(Position::new(4), TraceOptions::default()).await;
    assert!(matches!(missing, Err(TraceError::NoSuchPosition { .. })), "{missing:?}");
    assert!("x".parse::<TraceTarget>().is_err());
    app.stop().await.unwrap();
}

/// Sets a timer again each time that it fires.
#[derive(Default)]
struct Repeating<const SECONDS: u64>;

impl<const SECONDS: u64> Process for Repeating<SECONDS> {
    type Event = Order;
    const NAME: &'static str = "repeating";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, _: &Trigger<Order>, cx: &ReactionContext<'_>) -> Reactions {
        let next = cx.now().saturating_add(Duration::from_secs(SECONDS));
        Reactions::none().set_timer("again", next)
    }
}

async fn repeating<const SECONDS: u64>(store: &Store, clock: &Clock) -> App {
    let mut options = quick();
    options.reactions_in_a_row = 5;
    let app = shop(store, clock).process_with::<Repeating<SECONDS>>(ProcessStart::Now, options);
    let app = app.start().await.unwrap();
    app.execute(Place { order: 1 }).await.unwrap();
    app
}

/// Each firing began a new chain, so such a loop went on for ever at the speed of the machine.
#[tokio::test]
async fn a_loop_of_timers_that_take_no_time_is_cut_and_its_trace_tells_why() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = repeating::<0>(&store, &clock).await;
    until("it is parked", || async { app.processes()[0].parked == 1 }).await;
    assert_eq!(events(&store, &["diptych:process-reacted"]).await.len(), 5);
    app.execute(Pay { order: 1 }).await.unwrap();
    idle(&app).await;
    let trace = app.trace(Position::new(2)).await.unwrap();
    let last = trace.steps.last().unwrap().kind.to_string();
    assert!(last.contains("more than 5 reactions") && last.contains("repeating"), "{last}");
    let paid = events(&store, &["order-paid"]).await[0].0;
    let behind = app.trace(paid).await.unwrap().to_string();
    assert!(behind.contains("does not take it yet"), "{behind}");
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_timer_that_takes_time_begins_a_new_chain() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = repeating::<1>(&store, &clock).await;
    for fired in 1..=20 {
        until("it waits", || async {
            events(&store, &["diptych:process-reacted"]).await.len() == fired
        })
        .await;
        clock.advance(Duration::from_secs(1));
    }
    until("it fired", || async { events(&store, &["diptych:process-reacted"]).await.len() == 21 })
        .await;
    assert_eq!(app.process("repeating").unwrap().letters().await.unwrap(), []);
    app.stop().await.unwrap();
}
