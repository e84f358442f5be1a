//! The lists that operators see of a log without the types of its program, and their answers.

use std::time::Duration;

use diptych::{
    App, Event, Memory, Store, Upcasters,
    process::{
        Action, CallAnswer, CallsFrom, GatewayOptions, LetterAnswer, LetterError, OperationError,
        Process, ProcessOperations, ProcessStart, ReactionContext, Reactions, StepKind,
        TraceOptions, Trigger,
    },
    store::{Append, RawEvent, Tag},
    testing::{Clock, StubGateway},
};
use serde::{Deserialize, Serialize};

use super::{
    orders::{Order, Pay, Place, counts, events, idle, quick, running, shop, until},
    trace::{Charge, ChargeReceipt, Flow},
};

/// An event of processes about `fulfilment` that no program can read.
fn unreadable(event_type: &'static str) -> RawEvent {
    RawEvent::new(event_type, "{}").tag(Tag::new("diptych", "process:fulfilment"))
}

/// Parks each order that is placed.
#[derive(Default)]
struct Broken;

impl Process for Broken {
    type Event = Order;
    const NAME: &'static str = "broken";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, _: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        panic!("it is broken")
    }
}

#[tokio::test]
async fn instances_and_timers_are_listed_without_the_types_of_the_program() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = running(&store, &clock).await;
    for order in 1..=5 {
        app.execute(Place { order }).await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    idle(&app).await;
    app.execute(Pay { order: 2 }).await.unwrap();
    idle(&app).await;
    app.stop().await.unwrap();
    let operations = ProcessOperations::over(store);
    let [process] = &*operations.processes().await.unwrap() else { panic!("there is one") };
    assert_eq!((&*process.name, &*process.tag), ("fulfilment", "order"));
    let (timers, count) = operations.timers(Some("fulfilment"), 3).await.unwrap();
    let due: Vec<_> = timers.iter().map(|timer| &*timer.instance).collect();
    assert_eq!((due, count), (vec!["order:1", "order:3", "order:4"], 4), "order 2 is paid");
    assert!(timers.is_sorted_by_key(|timer| timer.due));
    assert!(timers.iter().all(|timer| timer.timer == "pay-by"));
    let instances = operations.instances(None, 2).await.unwrap();
    let [newest, second] = &*instances else { panic!("{instances:?}") };
    assert_eq!((&*newest.instance, newest.is_ended), ("order:2", true));
    assert_eq!((&*second.instance, second.is_ended), ("order:5", false));
    let unknown = operations.letters(Some("fulfillment")).await.unwrap_err();
    assert!(matches!(unknown, OperationError::NoSuchProcess { .. }));
    assert!(unknown.to_string().contains("\"fulfilment\""), "{unknown}");
}

#[tokio::test]
async fn a_letter_and_a_call_that_cannot_be_read_hide_no_others() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = shop(&store, &clock).process_with::<Broken>(ProcessStart::Beginning, quick());
    let app = app.start().await.unwrap();
    let events = ["process-parked", "process-call-unknown"];
    for (order, event) in (1..).zip(events) {
        app.execute(Place { order }).await.unwrap();
        idle(&app).await;
        let event = RawEvent::new(format!("diptych:{event}"), "no JSON");
        let event = event.tag(Tag::new("diptych", "process:broken"));
        store.append(Append::event(event)).await.unwrap().synced().await.unwrap();
    }
    idle(&app).await;
    app.stop().await.unwrap();
    let operations = ProcessOperations::over(store);
    let letters = operations.letters(Some("broken")).await.unwrap();
    let listed: Vec<_> = letters.iter().map(|letter| &*letter.instance).collect();
    assert_eq!(listed, ["order:1", "", "order:2"]);
    assert!(letters[1].reason.contains("cannot be read"), "{}", letters[1].reason);
    let trigger = operations.trigger(&letters[0]).await.unwrap().unwrap();
    assert_eq!(trigger.event_type, "order-placed");
    let skipped = operations.answer(&letters[1], LetterAnswer::Skip, "ann", "why").await;
    let refused = skipped.unwrap_err().to_string();
    assert!(refused.contains("as new as the one that wrote it"), "{refused}");
    let calls = operations.waiting_calls(None).await.unwrap();
    assert!(calls[0].reason.contains("cannot be read"), "{calls:?}");
    let answered = operations.answer_call(&calls[0], CallAnswer::SendAgain, "ann", "why").await;
    assert!(matches!(answered, Err(LetterError::Malformed(_))));
}

#[tokio::test]
async fn an_answer_without_a_name_or_a_reason_is_refused() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = shop(&store, &clock).process_with::<Broken>(ProcessStart::Beginning, quick());
    let app = app.start().await.unwrap();
    app.execute(Place { order: 1 }).await.unwrap();
    idle(&app).await;
    let operations = app.process_operations();
    let letters = operations.letters(None).await.unwrap();
    for (who, why) in [("", "fixed"), ("ann", " ")] {
        let refused = operations.answer(&letters[0], LetterAnswer::Skip, who, why).await;
        assert!(matches!(refused, Err(LetterError::Malformed(_))), "{refused:?}");
    }
    app.stop().await.unwrap();
}

/// The folder is not open then. The next start of the app takes the answer.
#[tokio::test]
async fn an_answer_that_is_given_while_no_app_runs_is_taken_by_the_next_start() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let start = async || {
        let app = shop(&store, &clock).process_with::<Broken>(ProcessStart::Beginning, quick());
        app.start().await.unwrap()
    };
    let app = start().await;
    app.execute(Place { order: 1 }).await.unwrap();
    idle(&app).await;
    app.stop().await.unwrap();
    let operations = ProcessOperations::over(store.clone());
    let letters = operations.letters(None).await.unwrap();
    let body = r#"[{"send":{"command":"pay-order","body":{"order":1}}}]"#;
    let actions: Vec<Action> = serde_json::from_str(body).unwrap();
    let replace = LetterAnswer::Replace(Reactions::of(actions));
    operations.answer(&letters[0], replace, "ann", "by hand").await.unwrap();
    let app = start().await;
    until("it is paid", || async { counts(&store, "order-paid").await.contains_key("1") }).await;
    app.stop().await.unwrap();
}

#[tokio::test]
async fn the_status_counts_parked_instances_unknown_calls_and_the_next_timer() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = shop(&store, &clock).process_with::<Broken>(ProcessStart::Beginning, quick());
    let app = app
        .process_with::<super::orders::Fulfilment>(ProcessStart::Beginning, quick())
        .start()
        .await
        .unwrap();
    app.execute(Place { order: 1 }).await.unwrap();
    let parked = |expected: usize| {
        let app = app.clone();
        async move { app.processes()[0].parked == expected }
    };
    until("it is counted", || parked(1)).await;
    let control = app.process("broken").unwrap();
    let letters = control.letters().await.unwrap();
    control.answer(&letters[0], LetterAnswer::Skip, "ann", "a test").await.unwrap();
    until("it is no longer counted", || parked(0)).await;
    let lost = unreadable("diptych:process-call-unknown");
    store.append(Append::event(lost)).await.unwrap().synced().await.unwrap();
    idle(&app).await;
    let status = app.process("fulfilment").unwrap().status();
    let (timers, _) = app.process_operations().timers(None, 10).await.unwrap();
    assert_eq!((status.next_timer, status.timers), (Some(timers[0].due), 1));
    assert_eq!((status.lag.positions, status.unknown_calls), (0, 0), "it cannot be read");
    app.stop().await.unwrap();
}

async fn with_unknown_call(store: &Store) -> App {
    let payments: StubGateway<Charge, ChargeReceipt> = StubGateway::answering(|_| ChargeReceipt {});
    payments.die_after_effect();
    let start = async || {
        let mut options = GatewayOptions::default();
        options.unknown_after = Duration::from_millis(10);
        let (gateway, from) = (payments.clone(), CallsFrom::Beginning);
        let app = shop(store, &Clock::new()).gateway("payments", gateway, from, options);
        let app = app.process_with::<Flow>(ProcessStart::Beginning, quick());
        app.start().await.unwrap()
    };
    let app = start().await;
    app.execute(Place { order: 1 }).await.unwrap();
    until("the call is made", || async { payments.calls() == 1 }).await;
    drop(app);
    let app = start().await;
    until("it is counted", || async { app.processes()[0].unknown_calls == 1 }).await;
    app
}

/// The reaction to the answer began a flow of its own, and the count of reactions in a row began
/// anew.
#[tokio::test]
async fn the_answer_of_an_operator_stays_in_the_flow_of_its_call() {
    let store = Store::new(Memory::new());
    let app = with_unknown_call(&store).await;
    let operations = app.process_operations();
    let calls = operations.waiting_calls(Some("flow")).await.unwrap();
    assert!(calls[0].reason.contains("may have been sent"), "{}", calls[0].reason);
    let answer = CallAnswer::Answered(serde_json::json!({}));
    operations.answer_call(&calls[0], answer, "ann", "the bank says so").await.unwrap();
    until("it is paid", || async { counts(&store, "order-paid").await.contains_key("1") }).await;
    until("it is settled", || async { app.processes()[0].unknown_calls == 0 }).await;
    let paid = events(&store, &["order-paid"]).await[0].clone();
    let placed = events(&store, &["order-placed"]).await[0].clone();
    let trace = operations.trace(paid.0, TraceOptions::default()).await.unwrap();
    let first = &trace.steps[0].kind;
    assert!(matches!(first, StepKind::Event { position, .. } if *position == placed.0));
    let correlation = paid.1.metadata.correlation;
    assert_eq!(correlation, Some(trace.correlation), "that of the order");
    assert!(trace.to_string().contains("by ann, \"the bank says so\""), "{trace}");
    app.stop().await.unwrap();
}

#[derive(Debug, Default, Event, Serialize, Deserialize)]
#[event("noted")]
struct Noted {
    #[tag]
    note: u64,
}

#[derive(Debug, Default, Event, Serialize, Deserialize)]
#[event("noted", version = 2)]
struct NotedAgain {
    #[tag]
    note: u64,
}

/// Sets a timer for each note.
#[derive(Default)]
struct Notes<E>(std::marker::PhantomData<fn() -> E>);

impl<E: Event + Default> Process for Notes<E> {
    type Event = E;
    const NAME: &'static str = "notes";
    const TAG: &'static str = "note";

    fn apply(&mut self, _: &Trigger<E>) {}

    fn react(&self, _: &Trigger<E>, cx: &ReactionContext<'_>) -> Reactions {
        Reactions::none().set_timer("remind", cx.now().saturating_add(Duration::from_secs(60)))
    }
}

#[tokio::test]
async fn a_retry_reads_the_trigger_through_the_upcasters_of_a_corrected_program() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    // An older program wrote the number as a text.
    let old = RawEvent::new("noted", r#"{"note":"7"}"#).tag(Tag::new("note", 7));
    store.append(Append::event(old)).await.unwrap().synced().await.unwrap();
    let app = shop(&store, &clock).process_with::<Notes<Noted>>(ProcessStart::Beginning, quick());
    let app = app.start().await.unwrap();
    idle(&app).await;
    app.stop().await.unwrap();
    let operations = ProcessOperations::over(store.clone());
    let letters = operations.letters(Some("notes")).await.unwrap();
    assert_eq!(letters[0].instance, "note:7");
    operations.answer(&letters[0], LetterAnswer::Retry, "ann", "corrected").await.unwrap();
    let upcasters = Upcasters::new().payload("noted", 1, |old| {
        let old: serde_json::Value = serde_json::from_slice(old.payload)?;
        let note: u64 = old["note"].as_str().unwrap_or_default().parse()?;
        Ok(serde_json::to_vec(&NotedAgain { note })?)
    });
    let app = shop(&store, &clock)
        .upcasters(upcasters)
        .process_with::<Notes<NotedAgain>>(ProcessStart::Beginning, quick());
    let app = app.start().await.unwrap();
    idle(&app).await;
    app.stop().await.unwrap();
    assert_eq!(operations.letters(None).await.unwrap(), []);
    let (timers, _) = operations.timers(None, 10).await.unwrap();
    assert_eq!(timers[0].instance, "note:7");
}
