//! Gateways beside their calls: lanes, calls that wait, held calls, first runs, and questions.

use std::time::Duration;

use diptych::{
    App, AppBuilder, Command, DecisionContext, Event, Fold, Memory, Query, Recorded, Store,
    process::{
        ActionOutcome, AskError, CallFailure, CallsFrom, CircuitState, GatewayOptions, Process,
        ProcessStart, ReactionContext, Reactions, Trigger,
    },
    testing::{Clock, ControlledClock, StubGateway, given_process},
};
use serde::{Deserialize, Serialize};

use super::orders::{Cancel, Order, Pay, Place, counts, events, idle, quick, shop, until};

type Mails = StubGateway<String, ()>;

fn mails() -> Mails {
    StubGateway::answering(|_| ())
}

fn policy() -> GatewayOptions {
    let mut options = GatewayOptions::default();
    options.first_wait = Duration::from_millis(1);
    options.longest_wait = Duration::from_millis(4);
    options.longest_asked = Duration::from_secs(3_600);
    options.unknown_after = Duration::from_millis(10);
    options
}

/// Mails each order that is placed, an hour later. The mail is replaced once it is paid, and taken
/// back if the order is cancelled.
#[derive(Default)]
struct Confirmation;

const HOUR: Duration = Duration::from_secs(3_600);

impl Process for Confirmation {
    type Event = Order;
    const NAME: &'static str = "confirmation";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, trigger: &Trigger<Order>, cx: &ReactionContext<'_>) -> Reactions {
        let mail = |text: &str| {
            let release = cx.now().saturating_add(HOUR);
            Reactions::none().call_at::<Mails>("mail", release, "mails", &text.to_owned())
        };
        match trigger {
            Trigger::Event(event) => match &event.event {
                Order::Placed { .. } => mail("placed"),
                Order::Paid { .. } => mail("paid"),
                Order::Cancelled { .. } => Reactions::none().cancel_timer("mail"),
                Order::Shipped { .. } => Reactions::none().end(),
            },
            // The timer of a held call does not trigger the process.
            Trigger::Timer(_) => Reactions::none().end(),
            _ => Reactions::none(),
        }
    }
}

#[test]
fn a_held_call_leaves_at_its_time_and_is_replaced_or_taken_back_until_then() {
    let given = || given_process::<Confirmation>().and(Order::Placed { order: 7 });
    let mail = |text: &str| Reactions::none().call::<Mails>("mails", &text.to_owned());
    given().when_time_passes(HOUR).then(mail("placed")).then_pending([]);
    given().and(Order::Paid { order: 7 }).when_time_passes(HOUR).then(mail("paid"));
    let cancelled = Order::Cancelled { order: 7, reason: String::new() };
    given().and(cancelled).when_time_passes(HOUR * 2).then_nothing();
    given().and(Order::Shipped { order: 7 }).when_time_passes(HOUR * 2).then_nothing();
}

#[tokio::test]
async fn a_held_call_survives_restarts_and_is_sent_once() {
    let (clock, mails) = (Clock::new(), mails());
    let store = Store::new(Memory::new());
    let start = async || {
        shop(&store, &clock)
            .gateway("mails", mails.clone(), CallsFrom::Beginning, policy())
            .process_with::<Confirmation>(ProcessStart::Beginning, quick())
            .start()
            .await
            .unwrap()
    };
    let app = start().await;
    for order in 1..=3 {
        app.execute(Place { order }).await.unwrap();
    }
    idle(&app).await;
    app.execute(Cancel { order: 2, reason: String::new() }).await.unwrap();
    clock.advance(HOUR / 2);
    app.execute(Pay { order: 3 }).await.unwrap();
    idle(&app).await;
    drop(app);
    let app = start().await;
    idle(&app).await;
    assert_eq!(mails.calls(), 0, "it is not time yet");
    clock.advance(HOUR / 2);
    until("the first mail is sent", || async { mails.calls() == 1 }).await;
    idle(&app).await;
    drop(app);
    clock.advance(HOUR / 2);
    let app = start().await;
    until("the replaced mail is sent", || async { mails.calls() == 2 }).await;
    idle(&app).await;
    let answers = events(&store, &["diptych:process-action-settled"]).await;
    assert_eq!((answers.len(), mails.calls(), mails.effects().len()), (2, 2, 2));
    app.stop().await.unwrap();
}

#[derive(Debug, Serialize, Deserialize)]
struct Charge {
    order: u64,
}

type Payments = StubGateway<Charge, ()>;

fn payments() -> Payments {
    StubGateway::answering(|_| ())
}

/// Charges each order that is placed.
#[derive(Default)]
struct Till {
    order: u64,
}

impl Process for Till {
    type Event = Order;
    const NAME: &'static str = "till";
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
            Trigger::Settled(settled) if matches!(settled.outcome, ActionOutcome::Answered(_)) => {
                Reactions::none().send("pay-order", &Pay { order })
            }
            _ => Reactions::none(),
        }
    }
}

fn till(store: &Store, payments: &Payments, options: GatewayOptions) -> AppBuilder {
    let mut few = quick();
    (few.waiting_reactions, few.commands_at_once) = (4, 2);
    shop(store, &Clock::new())
        .gateway("payments", payments.clone(), CallsFrom::Beginning, options)
        .process_with::<Till>(ProcessStart::Beginning, few)
}

#[tokio::test]
async fn calls_that_wait_for_another_try_hold_no_place_from_others() {
    let (store, payments) = (Store::new(Memory::new()), payments());
    let later = CallFailure::NotSent { reason: "away".to_owned(), retry_after: Some(HOUR) };
    // More than the places for calls, for commands, and for reactions together.
    payments.fail_next((0..30).map(|_| later.clone()));
    let mut options = policy();
    (options.calls_at_once, options.failures_to_open) = (2, u32::MAX);
    let app = till(&store, &payments, options).start().await.unwrap();
    for order in 1..=40 {
        app.execute(Place { order }).await.unwrap();
    }
    until("the others are paid", || async { counts(&store, "order-paid").await.len() == 10 }).await;
    let status = app.process("till").unwrap().status();
    assert_eq!(status.troubles.len(), 30);
    assert_eq!(status.troubles[0].1, "away");
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_call_that_was_begun_before_holds_no_place_while_its_outcome_is_awaited() {
    let (store, payments) = (Store::new(Memory::new()), payments());
    let mut options = policy();
    options.calls_at_once = 2;
    (0..2).for_each(|_| payments.die_after_effect());
    let app = till(&store, &payments, options.clone()).start().await.unwrap();
    for order in 1..=2 {
        app.execute(Place { order }).await.unwrap();
    }
    until("both calls are made", || async { payments.calls() == 2 }).await;
    drop(app);
    options.unknown_after = HOUR;
    let app = till(&store, &payments, options).start().await.unwrap();
    app.execute(Place { order: 3 }).await.unwrap();
    until("the third is paid", || async { counts(&store, "order-paid").await.len() == 1 }).await;
    let control = app.process("till").unwrap();
    until("both wait", || async { control.status().troubles.len() == 2 }).await;
    let why = &control.status().troubles[0].1;
    assert!(why.contains("counts as unknown after 3600s"), "{why}");
    assert_eq!((payments.calls(), app.gateways()[0].calling), (3, 0));
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_slow_call_holds_its_lane_and_no_other_and_the_status_counts_both() {
    let (store, payments) = (Store::new(Memory::new()), payments());
    let payments = payments.in_lanes(|charge| (charge.order % 2).to_string());
    payments.die_before_effect();
    let app = till(&store, &payments, policy()).start().await.unwrap();
    app.execute(Place { order: 1 }).await.unwrap();
    until("the first call is made", || async { payments.calls() == 1 }).await;
    for order in 2..=4 {
        app.execute(Place { order }).await.unwrap();
    }
    until("the even are paid", || async { counts(&store, "order-paid").await.len() == 2 }).await;
    until("the third waits", || async { app.gateways()[0].waiting == 1 }).await;
    assert_eq!((payments.calls(), app.gateways()[0].calling), (3, 1));
    // It was not claimed, because it could not leave.
    assert_eq!(events(&store, &["diptych:process-call-started"]).await.len(), 3);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn the_status_of_a_gateway_tells_that_its_circuit_is_open() {
    let (store, payments) = (Store::new(Memory::new()), payments());
    let busy = CallFailure::NotSent { reason: "busy".to_owned(), retry_after: None };
    payments.fail_next((0..3).map(|_| busy.clone()));
    let mut options = policy();
    (options.failures_to_open, options.open_for) = (3, HOUR);
    let app = till(&store, &payments, options).start().await.unwrap();
    assert_eq!(app.gateways()[0].circuit, CircuitState::Closed { failures: 0 });
    app.execute(Place { order: 1 }).await.unwrap();
    let is_open = || matches!(app.gateways()[0].circuit, CircuitState::Open { .. });
    until("the circuit is open", || async { is_open() }).await;
    until("the call waits", || async { app.gateways()[0].waiting == 1 }).await;
    assert_eq!(payments.calls(), 3);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn the_key_outside_differs_between_logs_with_like_positions() {
    let payments = payments();
    for _ in 0..2 {
        let store = Store::new(Memory::new());
        let app = till(&store, &payments, policy()).start().await.unwrap();
        app.execute(Place { order: 1 }).await.unwrap();
        idle(&app).await;
        app.stop().await.unwrap();
    }
    assert_eq!(payments.effects().into_values().collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn a_first_run_over_old_events_is_listed_before_it_sends() {
    for (choice, withheld) in [("all", 0), ("from a date", 2), ("new ones", 2), ("none", 3)] {
        let clock = Clock::new();
        let store = Store::new(ControlledClock::new(clock.clone()));
        let app = shop(&store, &clock).start().await.unwrap();
        app.execute(Place { order: 1 }).await.unwrap();
        app.execute(Place { order: 2 }).await.unwrap();
        clock.advance(HOUR);
        let from = match choice {
            "all" => CallsFrom::Beginning,
            "from a date" => CallsFrom::Instant(clock.now()),
            "new ones" => CallsFrom::Within(HOUR / 2),
            _ => CallsFrom::Never,
        };
        app.execute(Place { order: 3 }).await.unwrap();
        app.stop().await.unwrap();
        let (payments, head) = (payments(), store.head().position());
        let app = || shop(&store, &clock).gateway("payments", payments.clone(), from, policy());
        let first = app().start().await.unwrap();
        let preview = first.preview_process::<Till>(ProcessStart::Beginning, 2).await.unwrap();
        let counts = preview.gateways["payments"];
        assert_eq!((counts.sent, counts.withheld), (3 - withheld, withheld), "{choice}");
        let calls = preview.calls.iter();
        let listed: Vec<_> = calls.map(|call| (&*call.instance, &*call.call)).collect();
        assert_eq!(listed, [("order:1", r#"{"order":1}"#), ("order:2", r#"{"order":2}"#)]);
        assert_eq!(preview.calls[0].is_withheld, withheld > 0);
        assert_eq!((payments.calls(), store.head().position()), (0, head), "nothing happened");
        first.stop().await.unwrap();
        // The run then sends as many as the list said.
        let run = app().process_with::<Till>(ProcessStart::Beginning, quick());
        let run = run.start().await.unwrap();
        idle(&run).await;
        assert_eq!((payments.calls(), run.gateways()[0].withheld), (3 - withheld, withheld));
        run.stop().await.unwrap();
    }
}

#[tokio::test]
async fn catching_up_over_18_000_events_makes_no_call_that_is_meant_for_new_events_only() {
    let clock = Clock::new();
    let store = Store::new(ControlledClock::new(clock.clone()));
    let placed = |order| Order::Placed { order }.encode().unwrap();
    for orders in (0..18_000_u64).collect::<Vec<_>>().chunks(1_000) {
        let events = orders.iter().map(|order| placed(*order));
        drop(store.append(diptych::store::Append::events(events)).await.unwrap());
    }
    clock.advance(HOUR);
    let payments = payments();
    let from = CallsFrom::Within(Duration::from_secs(60));
    let start = async || {
        shop(&store, &clock)
            .gateway("payments", payments.clone(), from, policy())
            .process_with::<Till>(ProcessStart::Beginning, quick())
            .start()
            .await
            .unwrap()
    };
    let app = start().await;
    idle(&app).await;
    assert_eq!((payments.calls(), app.gateways()[0].withheld), (0, 18_000));
    app.execute(Place { order: 18_000 }).await.unwrap();
    until("the new order is paid", || async { !counts(&store, "order-paid").await.is_empty() })
        .await;
    idle(&app).await;
    app.stop().await.unwrap();
    // A start from the log alone calls nothing.
    let app = start().await;
    idle(&app).await;
    assert_eq!((payments.calls(), app.gateways()[0].withheld), (1, 0));
    app.stop().await.unwrap();
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct RateOf {
    currency: String,
}

type Rates = StubGateway<RateOf, f64>;

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("invoice-issued")]
struct Issued {
    #[tag]
    invoice: u64,
    cents: u64,
    rate: f64,
}

#[derive(Serialize)]
struct Issue {
    invoice: u64,
    cents: u64,
    rate: f64,
}

impl Command for Issue {
    type State = ();
    type Event = Issued;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Issued>, Self::Rejection> {
        let Issue { invoice, cents, rate } = *self;
        Ok(vec![Issued { invoice, cents, rate }])
    }
}

/// The sum of all invoices in another currency.
#[derive(Clone, Default)]
struct Turnover(f64);

impl Fold for Turnover {
    type Event = Issued;

    fn apply(&mut self, event: &Recorded<Issued>) {
        self.0 += event.cents as f64 * event.rate;
    }
}

/// The turnover now, or in the past.
struct HowMuch;

impl Query for HowMuch {
    type View = Turnover;
    type Answer = f64;

    fn answer(&self, turnover: &Turnover) -> f64 {
        turnover.0
    }
}

/// Issues an invoice with the rate of today, which is recorded under the key of the request.
async fn issue(app: &App, invoice: u64) -> f64 {
    let key = format!("invoice-{invoice}");
    let question = RateOf { currency: "USD".to_owned() };
    let rate = app.ask::<Rates>("rates", &question, &key).await.unwrap().answer;
    app.execute(Issue { invoice, cents: 100, rate }).key(&key).await.unwrap();
    rate
}

#[tokio::test]
async fn a_decision_keeps_the_rate_that_was_recorded_on_retry_rebuild_and_time_travel() {
    let store = Store::new(Memory::new());
    let quotes = std::sync::Mutex::new(vec![1.50, 1.10]);
    let rates = Rates::answering(move |_| quotes.lock().unwrap().pop().unwrap());
    let start = async || {
        let app = App::over_store(store.clone());
        let app = app.gateway("rates", rates.clone(), CallsFrom::Beginning, policy());
        app.view::<Turnover>().start().await.unwrap()
    };
    let app = start().await;
    assert_eq!(issue(&app, 1).await, 1.10);
    let then = app.head();
    assert_eq!(issue(&app, 1).await, 1.10, "a retry is not asked again");
    assert_eq!(issue(&app, 2).await, 1.50);
    app.stop().await.unwrap();
    let app = start().await;
    assert_eq!(issue(&app, 1).await, 1.10, "nor after a restart");
    let invoices = events(&store, &["invoice-issued"]).await;
    assert_eq!(invoices.len(), 2);
    let before = *app.query(HowMuch).as_of(then).await.unwrap();
    let now = *app.query(HowMuch).await.unwrap();
    assert!((before - 110.0).abs() < 0.001 && (now - 260.0).abs() < 0.001, "{before} {now}");
    assert_eq!(rates.calls(), 2);
    // Code that asks another question under the key of an old decision is told so.
    let other = RateOf { currency: "EUR".to_owned() };
    let asked = app.ask::<Rates>("rates", &other, "invoice-1").await;
    assert!(matches!(asked, Err(AskError::AnotherQuestion { .. })), "{asked:?}");
    assert_eq!(rates.calls(), 2);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_question_without_an_answer_records_nothing_and_is_asked_again() {
    let store = Store::new(Memory::new());
    let rates = Rates::answering(|_| 1.10);
    let away = CallFailure::NotSent { reason: "away".to_owned(), retry_after: None };
    rates.fail_next([away.clone()]);
    let app = App::over_store(store.clone());
    let app = app.gateway("rates", rates.clone(), CallsFrom::Beginning, policy());
    let app = app.start().await.unwrap();
    let question = RateOf { currency: "USD".to_owned() };
    let failed = app.ask::<Rates>("rates", &question, "k").await;
    assert!(matches!(failed, Err(AskError::NoAnswer { failure, .. }) if failure == away));
    assert_eq!(app.head(), diptych::Position::START);
    let answer = app.ask::<Rates>("rates", &question, "k").await.unwrap();
    assert_eq!((answer.answer, answer.position), (1.10, app.head()));
    let missing = app.ask::<Rates>("quotes", &question, "k").await;
    assert!(matches!(missing, Err(AskError::NoSuchGateway { .. })), "{missing:?}");
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_panics_under_a_question_gives_no_answer_and_the_app_goes_on() {
    let store = Store::new(Memory::new());
    let quotes = std::sync::Mutex::new(vec![Some(1.10), None]);
    let next = move || quotes.lock().unwrap().pop().unwrap();
    let rates = Rates::answering(move |_| next().expect("no rate today"));
    let app = App::over_store(store.clone());
    let app = app.gateway("rates", rates, CallsFrom::Beginning, policy());
    let app = app.start().await.unwrap();
    let question = RateOf { currency: "USD".to_owned() };
    let failed = app.ask::<Rates>("rates", &question, "k").await;
    let Err(AskError::NoAnswer { failure: CallFailure::Unknown { reason }, .. }) = failed else {
        panic!("{failed:?}")
    };
    assert!(reason.contains("no rate today"), "{reason}");
    let answer = app.ask::<Rates>("rates", &question, "k").await.unwrap();
    assert_eq!(answer.answer, 1.10);
    app.stop().await.unwrap();
}
