use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use diptych::{
    App, AppBuilder, Memory, Store,
    process::{
        ActionOutcome, ActionRejection, CallAnswer, CallFailure, CallPhase, CallQuestion,
        CallsFrom, GatewayCallState, GatewayOptions, Process, ProcessOperations, ProcessStart,
        ReactionContext, Reactions, Trigger, WaitingCall,
    },
    testing::{Clock, StubGateway, given_process},
};
use diptych_store::testing::{Call, Reply, WrappedStore};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::orders::{Cancel, Order, Pay, Place, counts, events, idle, quick, shop, until};

#[derive(Debug, Serialize, Deserialize)]
struct Charge {
    order: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ChargeReceipt {
    receipt: String,
}

type Payments = StubGateway<Charge, ChargeReceipt>;

/// Charges each order that is placed.
#[derive(Default)]
struct Checkout {
    order: u64,
}

impl Process for Checkout {
    type Event = Order;
    const NAME: &'static str = "checkout";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<Order>) {
        if let Some(Order::Placed { order }) = trigger.event() {
            self.order = *order;
        }
    }

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        let order = self.order;
        match trigger {
            Trigger::Event(event) if matches!(event.event, Order::Placed { .. }) => {
                Reactions::none().call::<Payments>("payments", &Charge { order })
            }
            Trigger::Settled(settled) => match &settled.outcome {
                ActionOutcome::Answered(_) => Reactions::none().send("pay-order", &Pay { order }),
                outcome => {
                    let reason = format!("{outcome:?}");
                    Reactions::none().send("cancel-order", &Cancel { order, reason })
                }
            },
            _ => Reactions::none(),
        }
    }
}

fn payments() -> Payments {
    StubGateway::answering(|charge: &Charge| ChargeReceipt {
        receipt: format!("r{}", charge.order),
    })
}

fn policy() -> GatewayOptions {
    let mut options = GatewayOptions::default();
    options.first_wait = Duration::from_millis(1);
    options.longest_wait = Duration::from_millis(4);
    options.open_for = Duration::from_millis(2);
    options.unknown_after = Duration::from_millis(10);
    options.longest_call = Duration::from_millis(300);
    options.attempts = 5;
    options
}

fn till(store: &Store, payments: &Payments, options: GatewayOptions) -> AppBuilder {
    shop(store, &Clock::new())
        .gateway("payments", payments.clone(), CallsFrom::Beginning, options)
        .process_with::<Checkout>(ProcessStart::Beginning, quick())
}

async fn settled(store: &Store) -> usize {
    events(store, &["diptych:process-action-settled"]).await.len()
}

/// Places an order whose call dies half-way, and ends the program then.
async fn killed_in_the_call(payments: &Payments, options: GatewayOptions) -> Store {
    let store = Store::new(Memory::new());
    let app = till(&store, payments, options).start().await.unwrap();
    app.execute(Place { order: 1 }).await.unwrap();
    until("the call is made", || async { payments.calls() == 1 }).await;
    drop(app);
    store
}

async fn again(store: &Store, payments: &Payments, options: GatewayOptions) -> App {
    till(store, payments, options).start().await.unwrap()
}

#[tokio::test]
async fn an_answer_comes_back_and_a_new_start_calls_nothing() {
    let (store, payments) = (Store::new(Memory::new()), payments());
    let app = again(&store, &payments, policy()).await;
    for order in 1..=20 {
        app.execute(Place { order }).await.unwrap();
    }
    idle(&app).await;
    app.stop().await.unwrap();
    assert_eq!(counts(&store, "order-paid").await.len(), 20);
    assert_eq!(events(&store, &["diptych:process-call-started"]).await.len(), 20);
    assert_eq!((payments.calls(), payments.effects().len()), (20, 20));
    let app = again(&store, &payments, policy()).await;
    idle(&app).await;
    app.stop().await.unwrap();
    assert_eq!(payments.calls(), 20, "the answers are in the log");
}

#[tokio::test]
async fn an_idempotent_gateway_is_called_again_with_the_key() {
    let payments = payments().once_for_each_key();
    payments.die_after_effect();
    let options = policy().idempotent();
    let store = killed_in_the_call(&payments, options.clone()).await;
    let app = again(&store, &payments, options).await;
    until("it is settled", || async { settled(&store).await == 1 }).await;
    idle(&app).await;
    assert_eq!(payments.calls(), 2);
    assert_eq!(payments.effects().into_values().collect::<Vec<_>>(), [1]);
    assert_eq!(counts(&store, "order-paid").await["1"], 1);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_call_that_may_have_been_sent_waits_for_an_operator() {
    let payments = payments();
    payments.die_after_effect();
    let store = killed_in_the_call(&payments, policy()).await;
    let app = again(&store, &payments, policy()).await;
    let control = app.process("checkout").unwrap();
    until("it is listed", || async { !control.waiting_calls().await.unwrap().is_empty() }).await;
    let waiting = control.waiting_calls().await.unwrap();
    assert!(waiting[0].reason.contains("may have been sent"), "{}", waiting[0].reason);
    assert_eq!((&*waiting[0].instance, &*waiting[0].call), ("order:1", r#"{"order":1}"#));
    assert_eq!(payments.effects().keys().next(), Some(&waiting[0].key));
    assert_eq!((payments.calls(), settled(&store).await), (1, 0), "it is not sent again");
    let answer = CallAnswer::Answered(serde_json::json!({ "receipt": "seen" }));
    control.answer_call(&waiting[0], answer, "ann", "the provider says so").await.unwrap();
    idle(&app).await;
    assert_eq!(counts(&store, "order-paid").await["1"], 1);
    assert!(control.waiting_calls().await.unwrap().is_empty());
    let twice = CallAnswer::SendAgain;
    assert!(control.answer_call(&waiting[0], twice, "bob", "late").await.is_ok());
    idle(&app).await;
    assert_eq!(payments.calls(), 1, "a settled call is not sent again");
    app.stop().await.unwrap();
}

#[tokio::test]
async fn an_operator_lets_a_call_leave_again() {
    let payments = payments();
    payments.die_before_effect();
    let store = killed_in_the_call(&payments, policy()).await;
    let app = again(&store, &payments, policy()).await;
    let control = app.process("checkout").unwrap();
    until("it is listed", || async { !control.waiting_calls().await.unwrap().is_empty() }).await;
    let waiting = control.waiting_calls().await.unwrap();
    let answer = CallAnswer::SendAgain;
    control.answer_call(&waiting[0], answer, "ann", "it was not made").await.unwrap();
    until("it is settled", || async { settled(&store).await == 1 }).await;
    idle(&app).await;
    assert_eq!(payments.effects().into_values().collect::<Vec<_>>(), [1]);
    assert_eq!(counts(&store, "order-paid").await["1"], 1);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_call_without_an_answer_is_given_up_and_listed() {
    let (store, payments) = (Store::new(Memory::new()), payments());
    payments.die_after_effect();
    let app = again(&store, &payments, policy()).await;
    app.execute(Place { order: 1 }).await.unwrap();
    let control = app.process("checkout").unwrap();
    until("it is listed", || async { !control.waiting_calls().await.unwrap().is_empty() }).await;
    let waiting = control.waiting_calls().await.unwrap();
    assert!(waiting[0].reason.contains("no answer came within 300ms"), "{}", waiting[0].reason);
    assert_eq!(payments.calls(), 1);
    app.stop().await.unwrap();
}

/// Regression: the first program made its late try under the old claim, and the call had two
/// effects.
#[tokio::test]
async fn a_late_try_has_a_claim_of_its_own() {
    let (store, payments) = (Store::new(Memory::new()), payments().reconciling());
    let retry_after = Some(Duration::from_millis(400));
    payments.fail_next([CallFailure::NotSent { reason: "busy".to_owned(), retry_after }]);
    let mut patient = policy();
    patient.unknown_after = Duration::from_millis(20);
    patient.longest_call = Duration::from_millis(10);
    let first = again(&store, &payments, patient.clone()).await;
    first.execute(Place { order: 1 }).await.unwrap();
    until("the first try has failed", || async { payments.calls() == 1 }).await;
    let second = again(&store, &payments, patient).await;
    until("the second program has made the call", || async { settled(&store).await == 1 }).await;
    idle(&first).await;
    idle(&second).await;
    assert_eq!(payments.effects().into_values().collect::<Vec<_>>(), [1]);
    assert_eq!(counts(&store, "order-paid").await["1"], 1);
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

/// A policy whose claims protect a call for some time.
fn protected() -> GatewayOptions {
    let mut options = policy();
    options.unknown_after = Duration::from_millis(200);
    options.longest_call = Duration::from_millis(50);
    options
}

/// The part of an append that waits.
#[derive(Clone, Copy, PartialEq)]
enum Hold {
    /// The append with this number, before it is made.
    Append(u32),
    /// The answer to the first one.
    Answer,
}

/// The store, where an append of an event of this type waits until it is let go.
fn held(store: &Store, event_type: &'static str, hold: Hold, gate: &Arc<Notify>) -> Store {
    let (seen, is_held) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let (before, after, holds) = (gate.clone(), gate.clone(), is_held.clone());
    let store = WrappedStore::over(store.clone()).before(move |call| {
        let is_one = matches!(&call, Call::Append(append)
            if append.events.first().is_some_and(|event| event.event_type == event_type));
        let number = if is_one { seen.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
        is_held.fetch_or(number == 1 && hold == Hold::Answer, Ordering::SeqCst);
        let gate = before.clone();
        async move {
            if is_one && hold == Hold::Append(number) {
                gate.notified().await;
            }
            Ok(())
        }
    });
    Store::new(store.after(move |reply| {
        let waits = matches!(reply, Reply::Append(_)) && holds.swap(false, Ordering::SeqCst);
        let gate = after.clone();
        async move {
            if waits {
                gate.notified().await;
            }
        }
    }))
}

/// The calls that wait for an operator, once there are some.
async fn for_operator(app: &App) -> Vec<WaitingCall> {
    let control = app.process("checkout").unwrap();
    until("it is listed", || async { !control.waiting_calls().await.unwrap().is_empty() }).await;
    control.waiting_calls().await.unwrap()
}

/// An operator lets the call leave.
async fn sent_again(app: &App, call: &WaitingCall) {
    let control = app.process("checkout").unwrap();
    control.answer_call(call, CallAnswer::SendAgain, "ann", "it was not made").await.unwrap();
}

/// Waits until the one call is settled and both programs rest. It had one effect.
async fn had_one_effect(store: &Store, payments: &Payments, apps: [App; 2]) {
    until("it is settled", || async { settled(store).await == 1 }).await;
    for app in &apps {
        idle(app).await;
    }
    assert_eq!(payments.effects().into_values().collect::<Vec<_>>(), [1]);
    for app in apps {
        app.stop().await.unwrap();
    }
}

/// Places an order. The first try of its call fails, and the next one comes after its claim is
/// over.
async fn first_try_fails(store: &Store, payments: &Payments) -> App {
    let retry_after = Some(Duration::from_millis(400));
    payments.fail_next([CallFailure::NotSent { reason: "busy".to_owned(), retry_after }]);
    let app = again(store, payments, protected()).await;
    app.execute(Place { order: 1 }).await.unwrap();
    until("the first try has failed", || async { payments.calls() == 1 }).await;
    app
}

const CLAIMED: &str = "diptych:process-call-started";
const LISTED: &str = "diptych:process-call-unknown";

/// Regression: the answer to the claim of the first program came after the call had been listed and
/// sent again, and the first program sent it, too.
#[tokio::test]
async fn a_claim_that_is_answered_late_lets_no_call_leave() {
    let (store, payments, gate) = (Store::new(Memory::new()), payments(), Arc::default());
    let slow = held(&store, CLAIMED, Hold::Answer, &gate);
    let first = again(&slow, &payments, protected()).await;
    first.execute(Place { order: 1 }).await.unwrap();
    let claims = || async { events(&store, &[CLAIMED]).await.len() };
    until("the first program has claimed the call", || async { claims().await == 1 }).await;
    let second = again(&store, &payments, protected()).await;
    let waiting = for_operator(&second).await;
    assert_eq!(payments.calls(), 0);
    sent_again(&second, &waiting[0]).await;
    until("it is settled", || async { settled(&store).await == 1 }).await;
    gate.notify_one();
    had_one_effect(&store, &payments, [first, second]).await;
}

#[tokio::test]
async fn a_call_that_is_listed_is_not_claimed_again() {
    let (store, payments, gate) = (Store::new(Memory::new()), payments(), Arc::default());
    // Its second claim is on its way while the other program lists the call.
    let slow = held(&store, CLAIMED, Hold::Append(2), &gate);
    let first = first_try_fails(&slow, &payments).await;
    let second = again(&store, &payments, protected()).await;
    let waiting = for_operator(&second).await;
    gate.notify_one();
    idle(&first).await;
    assert_eq!(payments.calls(), 1, "an operator decides");
    assert_eq!(events(&store, &[CLAIMED]).await.len(), 1);
    sent_again(&second, &waiting[0]).await;
    had_one_effect(&store, &payments, [first, second]).await;
}

#[tokio::test]
async fn a_call_that_is_claimed_again_is_not_listed() {
    let (store, payments, gate) = (Store::new(Memory::new()), payments(), Arc::default());
    let first = first_try_fails(&store, &payments).await;
    let slow = held(&store, LISTED, Hold::Append(1), &gate);
    let second = again(&slow, &payments, protected()).await;
    until("it is settled", || async { settled(&store).await == 1 }).await;
    gate.notify_one();
    had_one_effect(&store, &payments, [first, second]).await;
    assert_eq!(events(&store, &[LISTED]).await.len(), 0);
}

#[tokio::test]
async fn a_call_that_was_claimed_again_and_listed_stays_so_after_a_restart() {
    let (store, payments) = (Store::new(Memory::new()), payments().reconciling());
    let busy = || CallFailure::NotSent { reason: "busy".to_owned(), retry_after: None };
    payments.fail_next((0..5).map(|_| busy()));
    // Each try has a claim, because other programs wait for less than a call may take.
    let app = again(&store, &payments, policy()).await;
    app.execute(Place { order: 1 }).await.unwrap();
    let control = app.process("checkout").unwrap();
    until("it is listed", || async { !control.waiting_calls().await.unwrap().is_empty() }).await;
    app.stop().await.unwrap();
    assert_eq!(events(&store, &["diptych:process-call-started"]).await.len(), 5);
    let app = again(&store, &payments, policy()).await;
    idle(&app).await;
    assert_eq!((payments.calls(), payments.effects().len()), (5, 0), "an operator decides");
    let control = app.process("checkout").unwrap();
    let waiting = control.waiting_calls().await.unwrap();
    control.answer_call(&waiting[0], CallAnswer::SendAgain, "ann", "it is up").await.unwrap();
    until("it is settled", || async { settled(&store).await == 1 }).await;
    idle(&app).await;
    assert_eq!(payments.effects().into_values().collect::<Vec<_>>(), [1]);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_can_tell_is_asked() {
    for has_effect in [true, false] {
        let payments = payments().reconciling();
        match has_effect {
            true => payments.die_after_effect(),
            false => payments.die_before_effect(),
        }
        let store = killed_in_the_call(&payments, policy()).await;
        let app = again(&store, &payments, policy()).await;
        until("it is settled", || async { settled(&store).await == 1 }).await;
        idle(&app).await;
        assert_eq!(payments.effects().into_values().collect::<Vec<_>>(), [1]);
        assert_eq!(payments.calls(), if has_effect { 1 } else { 2 });
        assert_eq!(counts(&store, "order-paid").await["1"], 1);
        app.stop().await.unwrap();
    }
}

#[tokio::test]
async fn failures_are_tried_again_and_listed_beyond_the_policy() {
    let (store, payments) = (Store::new(Memory::new()), payments());
    let busy = || CallFailure::NotSent { reason: "busy".to_owned(), retry_after: None };
    payments.fail_next((0..3).map(|_| busy()));
    let app = again(&store, &payments, policy()).await;
    app.execute(Place { order: 1 }).await.unwrap();
    idle(&app).await;
    assert_eq!((payments.calls(), counts(&store, "order-paid").await["1"]), (4, 1));
    payments.fail_next((0..5).map(|_| busy()));
    app.execute(Place { order: 2 }).await.unwrap();
    idle(&app).await;
    let control = app.process("checkout").unwrap();
    let waiting = control.waiting_calls().await.unwrap();
    assert_eq!(waiting[0].reason, "5 tries failed, lately: busy");
    // A refusal is an answer.
    let no = ActionRejection::new("no funds", serde_json::Value::Null);
    payments.fail_next([CallFailure::Refused(no)]);
    app.execute(Place { order: 3 }).await.unwrap();
    idle(&app).await;
    assert_eq!(counts(&store, "order-cancelled").await.len(), 1);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_new_gateway_over_old_events_sends_what_was_chosen() {
    let clock = Clock::new();
    let store = Store::new(diptych::testing::ControlledClock::new(clock.clone()));
    let app = shop(&store, &clock).start().await.unwrap();
    app.execute(Place { order: 1 }).await.unwrap();
    clock.advance(Duration::from_secs(60));
    app.execute(Place { order: 2 }).await.unwrap();
    let from = clock.now();
    app.stop().await.unwrap();
    let payments = payments();
    let app = shop(&store, &clock)
        .gateway("payments", payments.clone(), CallsFrom::Instant(from), policy())
        .process_with::<Checkout>(ProcessStart::Beginning, quick());
    let app = app.start().await.unwrap();
    idle(&app).await;
    assert_eq!(payments.calls(), 1);
    assert_eq!(counts(&store, "order-paid").await.into_keys().collect::<Vec<_>>(), ["2"]);
    let cancelled = events(&store, &["order-cancelled"]).await;
    assert!(String::from_utf8_lossy(&cancelled[0].1.payload).contains("Withheld"));
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_program_that_is_killed_around_its_calls_charges_once_or_lists_the_call() {
    const ORDERS: u64 = 12;
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (store, payments) = (Store::new(Memory::new()), payments());
        let is_idempotent = seed % 2 == 0;
        let (payments, options) = match is_idempotent {
            true => (payments.once_for_each_key(), policy().idempotent()),
            false => (payments, policy()),
        };
        let client = shop(&store, &Clock::new()).start().await.unwrap();
        for order in 1..=ORDERS {
            client.execute(Place { order }).await.unwrap();
        }
        for _ in 0..12 {
            if random.bool() {
                payments.die_after_effect();
            }
            let (dead, end) = (Arc::new(Notify::new()), random.u32(1..14));
            let (killed, appends) = (dead.clone(), AtomicU32::new(0));
            let mortal = WrappedStore::over(store.clone()).before(move |call| {
                let is_append = matches!(call, Call::Append(_));
                let count = appends.fetch_add(is_append.into(), Ordering::SeqCst);
                let is_dead = count + u32::from(is_append) >= end;
                if is_dead {
                    killed.notify_one();
                }
                async move {
                    if is_dead {
                        std::future::pending::<()>().await;
                    }
                    Ok(())
                }
            });
            let life = async {
                let app = again(&Store::new(mortal), &payments, options.clone()).await;
                tokio::time::sleep(Duration::from_millis(random.u64(1..20))).await;
                drop(app);
            };
            tokio::select! {
                () = dead.notified() => {}
                () = life => {}
            }
        }
        // A call that does not answer is given up, so faults that are left over end by themselves.
        let app = again(&store, &payments, options).await;
        let control = app.process("checkout").unwrap();
        until("each order is paid or listed", || async {
            let paid = counts(&store, "order-paid").await.len();
            (paid + control.waiting_calls().await.unwrap().len()) as u64 == ORDERS
        })
        .await;
        idle(&app).await;
        let effects = payments.effects();
        assert!(effects.values().all(|effects| *effects == 1), "seed {seed}: {effects:?}");
        let listed = control.waiting_calls().await.unwrap();
        assert!(!is_idempotent || listed.is_empty(), "seed {seed}");
        let paid = counts(&store, "order-paid").await;
        assert!(paid.values().all(|count| *count == 1), "seed {seed}");
        assert!(effects.len() <= paid.len() + listed.len());
        app.stop().await.unwrap();
    }
}

#[test]
fn the_kit_compares_calls_and_gives_answers() {
    let call = Reactions::none().call::<Payments>("payments", &Charge { order: 7 });
    let charged = ChargeReceipt { receipt: "r7".to_owned() };
    given_process::<Checkout>()
        .when(Order::Placed { order: 7 })
        .then(call)
        .when_answered("payments", &charged)
        .then(Reactions::none().send("pay-order", &Pay { order: 7 }));
}

/// The phases of all calls of the gateway, the newest first, each with its order.
async fn listed(app: &App, question: &CallQuestion) -> Vec<(String, CallPhase)> {
    let calls = app.process_operations().calls(question).await.unwrap();
    calls.into_iter().map(|call| (call.call, call.state.phase())).collect()
}

fn charge(order: u64, phase: CallPhase) -> (String, CallPhase) {
    (format!(r#"{{"order":{order}}}"#), phase)
}

#[tokio::test]
async fn every_call_is_listed_with_its_outcome_the_newest_first() {
    let (store, payments) = (Store::new(Memory::new()), payments());
    let mut options = policy();
    (options.attempts, options.calls_at_once) = (2, 1);
    let app = again(&store, &payments, options).await;
    let busy = || CallFailure::NotSent { reason: "busy".to_owned(), retry_after: None };
    app.execute(Place { order: 1 }).await.unwrap();
    idle(&app).await;
    let no = ActionRejection::new("no funds", serde_json::Value::Null);
    payments.fail_next([CallFailure::Refused(no)]);
    app.execute(Place { order: 2 }).await.unwrap();
    idle(&app).await;
    payments.fail_next([busy(), busy()]);
    app.execute(Place { order: 3 }).await.unwrap();
    idle(&app).await;
    let all = CallQuestion::of_gateway("payments");
    let expected = [
        charge(3, CallPhase::Waiting),
        charge(2, CallPhase::Refused),
        charge(1, CallPhase::Answered),
    ];
    assert_eq!(listed(&app, &all).await, expected);
    let calls = app.process_operations().calls(&all).await.unwrap();
    assert!(payments.effects().contains_key(&calls[2].key), "the key is that of the call");
    match &calls[2].state {
        GatewayCallState::Answered { answer, at } => {
            assert_eq!(answer["receipt"], "r1");
            assert!(*at >= calls[2].since);
        }
        other => panic!("{other:?}"),
    }
    match &calls[1].state {
        GatewayCallState::Refused { rejection, .. } => assert_eq!(rejection.text, "no funds"),
        other => panic!("{other:?}"),
    }
    let control = app.process("checkout").unwrap();
    let waiting = control.waiting_calls().await.unwrap();
    match &calls[0].state {
        GatewayCallState::Waiting { reason, listed_at } => {
            assert_eq!((reason, *listed_at), (&waiting[0].reason, waiting[0].listed_at));
        }
        other => panic!("{other:?}"),
    }
    // A call that leaves again is pending until it has its outcome.
    let again = CallAnswer::SendAgain;
    control.answer_call(&waiting[0], again, "ann", "the provider is back").await.unwrap();
    until("it is settled", || async { settled(&store).await == 3 }).await;
    assert_eq!(listed(&app, &all).await[0], charge(3, CallPhase::Answered));
    app.stop().await.unwrap();
    // The log alone has the list, without the types of the program.
    let operations = ProcessOperations::over(store.clone());
    assert_eq!(operations.calls(&all).await.unwrap()[2].key, calls[2].key);
}

#[tokio::test]
async fn the_list_of_calls_is_cut_and_goes_on_and_knows_gateways_and_phases() {
    let (store, payments) = (Store::new(Memory::new()), payments());
    let app = again(&store, &payments, policy()).await;
    for order in 1..=5 {
        app.execute(Place { order }).await.unwrap();
        idle(&app).await;
    }
    let mut question = CallQuestion::of_gateway("payments");
    question.most = 2;
    let (mut seen, mut pages) = (Vec::new(), 0);
    loop {
        let page = app.process_operations().calls(&question).await.unwrap();
        let Some(last) = page.last() else { break };
        question.before = Some(last.asked_at);
        seen.extend(page.into_iter().map(|call| call.instance));
        pages += 1;
    }
    assert_eq!((seen.concat(), pages), ("order:5order:4order:3order:2order:1".to_owned(), 3));
    let mut question = CallQuestion::default();
    question.phase = Some(CallPhase::Refused);
    assert_eq!(listed(&app, &question).await, []);
    question.phase = Some(CallPhase::Answered);
    assert_eq!(listed(&app, &question).await.len(), 5);
    assert_eq!(listed(&app, &CallQuestion::of_gateway("mail")).await, []);
    question.process = Some("missing".to_owned());
    assert!(app.process_operations().calls(&question).await.is_err());
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_pending_call_tells_its_failed_tries_and_its_next_one() {
    let (store, payments) = (Store::new(Memory::new()), payments());
    let mut options = policy();
    (options.first_wait, options.jitter) = (Duration::from_secs(3_600), 0.0);
    options.longest_wait = options.first_wait;
    payments.fail_next([CallFailure::NotSent { reason: "away".to_owned(), retry_after: None }]);
    let clock = Clock::new();
    let app = shop(&store, &clock)
        .gateway("payments", payments.clone(), CallsFrom::Beginning, options)
        .process_with::<Checkout>(ProcessStart::Beginning, quick());
    let app = app.start().await.unwrap();
    app.execute(Place { order: 1 }).await.unwrap();
    let question = CallQuestion::of_gateway("payments");
    let tries = || async {
        match app.process_operations().calls(&question).await.unwrap().pop()?.state {
            GatewayCallState::Pending { tries } => tries,
            other => panic!("{other:?}"),
        }
    };
    until("a try has failed", || async { tries().await.is_some() }).await;
    let tries = tries().await.unwrap();
    assert_eq!((tries.failures, &*tries.reason), (1, "away"));
    assert_eq!(tries.next_at, clock.now().saturating_add(Duration::from_secs(3_600)));
    // Another program knows that it is pending, and not its tries.
    let outside = ProcessOperations::over(store.clone()).calls(&question).await.unwrap();
    assert_eq!(outside[0].state, GatewayCallState::Pending { tries: None });
    drop(app);
}
