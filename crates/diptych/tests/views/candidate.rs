//! A view that is built beside another view, and takes its place.

use std::{
    collections::BTreeMap,
    future::{self, Future},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use diptych::{
    App, Fold, Memory, Position, Query, QueryError, Recorded, StartError,
    follow::{
        ControlError, FollowState, FollowerControl, Switch, SwitchPolicy, VersionState,
        VersionStatus,
    },
    query::Candidate,
    view::ViewOptions,
};
use pollster::block_on;
use serde::Serialize;

use super::basics::{Counted, counted, write};

/// Never reached unless something is wrong.
const LONG: Duration = Duration::from_secs(60);

/// How much there is of each thing, and of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Stock(BTreeMap<String, u64>);

impl Fold for Stock {
    type Event = Counted;

    fn apply(&mut self, counted: &Recorded<Counted>) {
        *self.0.entry(counted.what.clone()).or_default() += counted.by;
    }
}

struct StockOf(&'static str);

impl Query for StockOf {
    type View = Stock;
    type Answer = u64;

    fn answer(&self, stock: &Stock) -> u64 {
        stock.0.get(self.0).copied().unwrap_or(0)
    }
}

/// The next version, which knows the number of deliveries, too, and loses a piece of each pear.
#[derive(Clone, Default)]
struct NextStock {
    stock: Stock,
    deliveries: u64,
}

impl Fold for NextStock {
    type Event = Counted;

    fn apply(&mut self, counted: &Recorded<Counted>) {
        assert!(counted.what != "poison", "it was poison");
        let lost = u64::from(counted.what == "pear");
        *self.stock.0.entry(counted.what.clone()).or_default() += counted.by - lost;
        self.deliveries += 1;
    }
}

impl AsRef<Stock> for NextStock {
    fn as_ref(&self) -> &Stock {
        &self.stock
    }
}

struct Deliveries;

impl Query for Deliveries {
    type View = NextStock;
    type Answer = u64;

    fn answer(&self, stock: &NextStock) -> u64 {
        stock.deliveries
    }
}

fn candidate(policy: SwitchPolicy) -> Candidate<Stock, NextStock> {
    Candidate::new(policy).by_digest()
}

async fn started(writer: &App, candidate: Candidate<Stock, NextStock>) -> (App, FollowerControl) {
    let builder = writer.beside().view::<Stock>().view_candidate(candidate);
    let app = builder.start().await.unwrap();
    let control = app.view::<NextStock>().unwrap();
    (app, control)
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>, told: impl Fn() -> String) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LONG, "{}", told());
        thread::yield_now();
    }
}

/// Waits until the candidate is in such a state.
fn wait_until(control: &FollowerControl, wanted: impl Fn(&VersionState) -> bool) -> VersionStatus {
    let look = || {
        let versions = control.status().versions;
        versions.into_iter().find(|it| it.version == 2 && wanted(&it.state))
    };
    wait_for(look, || format!("it is {:?}", control.status()))
}

fn is_equal(state: &VersionState) -> bool {
    matches!(state, VersionState::Equal { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_takes_the_place_of_a_view_under_load_and_no_answer_goes_back() {
    let writer = App::over(Memory::new()).start().await.unwrap();
    for _ in 0..2_000 {
        write(&writer, counted("apple", 1)).await;
    }
    let (app, control) = started(&writer, candidate(SwitchPolicy::Automatic)).await;
    let is_done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (app, is_done) = (app.clone(), is_done.clone());
            thread::spawn(move || {
                let mut last = Position::START;
                while !is_done.load(Ordering::SeqCst) {
                    let answer = block_on(app.query(StockOf("apple"))).unwrap();
                    assert_eq!(answer.value, answer.position.get());
                    assert!(answer.position >= last, "from {last} back to {}", answer.position);
                    last = answer.position;
                }
            })
        })
        .collect();
    let mut switched = None;
    for _ in 0..5_000 {
        write(&writer, counted("apple", 1)).await;
        let is_served = |it: &VersionStatus| it.version == 2 && it.state == VersionState::Served;
        if switched.is_none() && control.status().versions.iter().any(is_served) {
            switched = Some(writer.head());
        }
    }
    wait_until(&control, |state| *state == VersionState::Served);
    let strong = app.query(StockOf("apple")).strong().await.unwrap();
    assert_eq!((strong.value, strong.position), (7_000, Position::new(7_000)));
    assert_eq!(*app.query(Deliveries).strong().await.unwrap(), 7_000);
    is_done.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.join().unwrap();
    }
    println!("switched while the log was at {switched:?}");
    let view = app.view::<Stock>().unwrap().status();
    assert_eq!(view.versions[0].version, 2, "the view tells it, too: {view:?}");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_differs_is_not_switched_and_tells_the_difference() {
    let writer = App::over(Memory::new()).start().await.unwrap();
    for what in ["apple", "pear", "apple"] {
        write(&writer, counted(what, 5)).await;
    }
    let sampled = Candidate::new(SwitchPolicy::Automatic).sample(StockOf("pear")).by_digest();
    let (app, control) = started(&writer, sampled).await;
    let status = wait_until(&control, |state| matches!(state, VersionState::Different { .. }));
    let VersionState::Different { at, difference } = status.state else { unreachable!() };
    assert_eq!(at, Position::new(3));
    assert!(difference.ends_with("StockOf: the view answers 5, the candidate 4"), "{difference}");
    assert_eq!(*app.query(StockOf("pear")).strong().await.unwrap(), 5);
    let refused = control.switch(Switch::forward()).await.unwrap_err();
    assert!(matches!(refused, ControlError::Different { .. }), "{refused}");
    assert!(matches!(control.compare().await, Err(ControlError::Different { .. })));
    control.switch(Switch::forward().accept_difference()).await.unwrap();
    assert_eq!(*app.query(StockOf("pear")).strong().await.unwrap(), 4);
    let refused = app.view::<Stock>().unwrap().switch(Switch::back()).await.unwrap_err();
    assert!(refused.to_string().contains("to the candidate of the view"), "{refused}");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_by_command_goes_forward_and_back_until_the_view_is_dropped() {
    let writer = App::over(Memory::new()).start().await.unwrap();
    write(&writer, counted("apple", 1)).await;
    let (app, control) = started(&writer, candidate(SwitchPolicy::ByCommand)).await;
    let mut watch = app.watch(StockOf("apple"));
    assert_eq!(watch.next().await.unwrap().value, 1);
    wait_until(&control, is_equal);
    let refused = control.drop_version(1).await.unwrap_err();
    assert!(refused.to_string().contains("switch to its candidate first"), "{refused}");
    control.switch(Switch::forward()).await.unwrap();
    assert_eq!(write(&writer, counted("apple", 1)).await, Position::new(2));
    assert_eq!(watch.next().await.unwrap().value, 2);

    control.switch(Switch::back()).await.unwrap();
    let kept = wait_until(&control, |state| *state == VersionState::Kept);
    assert_eq!(kept.position, Position::new(2));
    write(&writer, counted("pear", 3)).await;
    assert_eq!(*app.query(StockOf("pear")).strong().await.unwrap(), 3, "the view answers");
    control.switch(Switch::forward().accept_difference()).await.unwrap();
    assert_eq!(*app.query(StockOf("pear")).strong().await.unwrap(), 2, "the candidate answers");

    let view = app.view::<Stock>().unwrap();
    control.drop_version(1).await.unwrap();
    let is_gone = |state: &FollowState| matches!(state, FollowState::Beside { .. });
    wait_for(|| is_gone(&view.status().state).then_some(()), || format!("{:?}", view.status()));
    write(&writer, counted("apple", 1)).await;
    assert_eq!(*app.query(StockOf("apple")).strong().await.unwrap(), 3);
    assert_eq!(watch.next().await.unwrap().value, 3);
    let past = app.query(StockOf("pear")).as_of(Position::new(3)).await.unwrap();
    assert_eq!(past.value, 3, "the past is answered by the fold of the view");
    let refused = control.switch(Switch::back()).await.unwrap_err();
    assert!(refused.to_string().contains("no way back"), "{refused}");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_does_not_pass_a_view_that_is_paused() {
    let writer = App::over(Memory::new()).start().await.unwrap();
    write(&writer, counted("apple", 1)).await;
    let (app, control) = started(&writer, candidate(SwitchPolicy::ByCommand)).await;
    wait_until(&control, is_equal);
    let view = app.view::<Stock>().unwrap();
    view.pause().await.unwrap();
    write(&writer, counted("apple", 1)).await;
    // A command is served after the events that the candidate may apply.
    control.compare().await.unwrap();
    control.compare().await.unwrap();
    assert_eq!(control.position(), Position::new(1));
    let FollowState::Beside { reason } = control.status().state else {
        panic!("it is {:?}", control.status())
    };
    assert!(reason.contains("waits at position 1 beside the view"), "{reason}");
    // A query that waits for the paused view is answered by the candidate after the switch.
    let late = {
        let app = app.clone();
        tokio::spawn(async move { app.query(StockOf("apple")).strong().within(LONG).await })
    };
    control.switch(Switch::forward()).await.unwrap();
    assert_eq!(*late.await.unwrap().unwrap(), 2);
    let unequal = control.switch(Switch::back().within(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(unequal, ControlError::Unequal { .. }), "{unequal}");
    control.switch(Switch::back().at_any_position()).await.unwrap();
    assert_eq!(*app.query(StockOf("apple")).await.unwrap(), 1);
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_fails_leaves_the_app_and_its_answers_alone() {
    let writer = App::over(Memory::new()).start().await.unwrap();
    write(&writer, counted("poison", 1)).await;
    let candidate = candidate(SwitchPolicy::Automatic);
    let builder = writer.beside().view::<Stock>().view_candidate(candidate).require_views();
    let app = builder.start().await.unwrap();
    let control = app.view::<NextStock>().unwrap();
    let is_stopped = |state: &FollowState| matches!(state, FollowState::Stopped(_));
    let look = || is_stopped(&control.status().state).then_some(());
    wait_for(look, || format!("{:?}", control.status()));
    assert_eq!(*app.query(StockOf("poison")).strong().await.unwrap(), 1);
    let refused = control.switch(Switch::forward()).await.unwrap_err();
    assert!(matches!(refused, ControlError::Stopped(_)), "{refused}");
    let stopped = app.query(Deliveries).strong().await.unwrap_err();
    assert!(matches!(stopped, QueryError::Stopped { .. }), "{stopped}");
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_candidate_needs_a_view_of_its_own_to_replace() {
    let alone = App::over(Memory::new()).view_candidate(candidate(SwitchPolicy::Automatic));
    let error = alone.start().await.unwrap_err();
    assert!(matches!(error, StartError::CandidateAlone { .. }), "{error}");
    assert!(error.to_string().contains("Stock"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_candidate_is_compared_again() {
    let writer = App::over(Memory::new()).start().await.unwrap();
    for _ in 0..100 {
        write(&writer, counted("apple", 1)).await;
    }
    let (app, control) = started(&writer, candidate(SwitchPolicy::ByCommand)).await;
    wait_until(&control, is_equal);
    control.rebuild().await.unwrap();
    wait_until(&control, is_equal);
    control.switch(Switch::forward()).await.unwrap();
    assert_eq!(*app.query(StockOf("apple")).strong().await.unwrap(), 100);
    app.stop().await.unwrap();
}

/// Regression: the thread of the candidate had not begun, and the command failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_right_after_the_start_waits_for_the_candidate() {
    let writer = App::over(Memory::new()).start().await.unwrap();
    for events in 0..20 {
        let (app, control) = started(&writer, candidate(SwitchPolicy::ByCommand)).await;
        control.switch(Switch::forward().within(LONG)).await.unwrap();
        assert_eq!(*app.query(Deliveries).strong().await.unwrap(), events);
        assert_eq!(*app.query(StockOf("apple")).strong().await.unwrap(), events);
        app.stop().await.unwrap();
        write(&writer, counted("apple", 1)).await;
    }
}

/// Regression: the comparison of an earlier position counted at the switch.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_by_command_compares_again_at_its_position() {
    let writer = App::over(Memory::new()).start().await.unwrap();
    write(&writer, counted("apple", 1)).await;
    let (app, control) = started(&writer, candidate(SwitchPolicy::ByCommand)).await;
    wait_until(&control, is_equal);
    write(&writer, counted("pear", 3)).await;
    assert_eq!(*app.query(StockOf("pear")).strong().await.unwrap(), 3);
    assert_eq!(*app.query(Deliveries).strong().await.unwrap(), 2, "the candidate is there, too");
    let refused = control.switch(Switch::forward()).await.unwrap_err();
    assert!(matches!(refused, ControlError::Different { .. }), "{refused}");
    assert_eq!(*app.query(StockOf("pear")).strong().await.unwrap(), 3, "the view answers");
    app.stop().await.unwrap();
}

/// A version that cannot apply pears, and poisons their key.
#[derive(Clone, Default)]
struct NoPears(Stock);

impl Fold for NoPears {
    type Event = Counted;

    const KEY: Option<&'static str> = Some("what");

    fn apply(&mut self, counted: &Recorded<Counted>) {
        assert!(counted.what != "pear", "no pears here");
        self.0.apply(counted);
    }
}

impl AsRef<Stock> for NoPears {
    fn as_ref(&self) -> &Stock {
        &self.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_poisoned_in_the_candidate_only_is_a_difference() {
    let writer = App::over(Memory::new()).start().await.unwrap();
    write(&writer, counted("apple", 1)).await;
    write(&writer, counted("pear", 1)).await;
    let candidate = Candidate::<Stock, NoPears>::new(SwitchPolicy::Automatic);
    let builder = writer.beside().view::<Stock>().view_candidate(candidate);
    let app = builder.start().await.unwrap();
    let control = app.view::<NoPears>().unwrap();
    let decided = |state: &VersionState| *state != VersionState::Building;
    let VersionState::Different { at, difference } = wait_until(&control, decided).state else {
        panic!("{:?}", control.status())
    };
    assert_eq!(at, Position::new(2));
    assert!(difference.contains("what:pear is poisoned in the candidate only"), "{difference}");
    assert!(difference.contains("no pears here"), "{difference}");
    assert_eq!(*app.query(StockOf("pear")).strong().await.unwrap(), 1);
    control.switch(Switch::forward().accept_difference()).await.unwrap();
    app.stop().await.unwrap();
}

/// A comparison that begins, and ends once the test lets it.
struct GatedSample {
    began: mpsc::Sender<()>,
    ends: Mutex<mpsc::Receiver<()>>,
}

impl Query for GatedSample {
    type View = Stock;
    type Answer = u64;

    fn answer(&self, stock: &Stock) -> u64 {
        // Later comparisons do not wait: the test has ended the channel.
        if self.began.send(()).is_ok() {
            let _ = self.ends.lock().unwrap().recv();
        }
        stock.0.get("apple").copied().unwrap_or(0)
    }
}

/// Regression: after a failed try the candidate took the place without another comparison.
#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_takes_the_place_by_itself_compares_again_if_the_view_moved_on() {
    for round in 0.. {
        let (began, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        let gated = GatedSample { began, ends: Mutex::new(ends) };
        let writer = App::over(Memory::new()).start().await.unwrap();
        write(&writer, counted("apple", 1)).await;
        let gated = Candidate::new(SwitchPolicy::Automatic).sample(gated).by_digest();
        let (app, control) = started(&writer, gated).await;
        begins.recv().unwrap();
        let began = Instant::now();
        write(&writer, counted("pear", 3)).await;
        let pears = *app.query(StockOf("pear")).strong().await.unwrap();
        drop((begins, end));
        let is_long = began.elapsed() >= Duration::from_millis(100);
        if pears != 3 || is_long {
            // A comparison that takes so long counts for the next try.
            app.stop().await.unwrap();
            assert!(round < 1_000, "no comparison was short");
            continue;
        }
        let decided = |state: &VersionState| {
            matches!(state, VersionState::Different { .. } | VersionState::Served)
        };
        let status = wait_until(&control, decided);
        let VersionState::Different { at, .. } = status.state else { panic!("{status:?}") };
        assert_eq!(at, Position::new(2));
        assert_eq!(*app.query(StockOf("pear")).strong().await.unwrap(), 3, "the view answers");
        app.stop().await.unwrap();
        return;
    }
}

/// The candidate waits at the event of that name until the test opens the gate.
static GATES: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

/// A candidate that waits at some events, and fails at poison.
#[derive(Clone, Default)]
struct SlowStock(Stock);

impl Fold for SlowStock {
    type Event = Counted;

    fn apply(&mut self, counted: &Recorded<Counted>) {
        assert!(counted.what != "poison", "it was poison");
        if let Some(gate) = counted.what.strip_prefix("gate-") {
            let gate = &GATES[gate.parse::<usize>().unwrap()];
            let is_open = || gate.load(Ordering::SeqCst).then_some(());
            wait_for(is_open, || format!("the gate of {} stays closed", counted.what));
        }
        self.0.apply(counted);
    }
}

impl AsRef<Stock> for SlowStock {
    fn as_ref(&self) -> &Stock {
        &self.0
    }
}

async fn with_two_copies(writer: &App) -> (App, FollowerControl) {
    let candidate = Candidate::<Stock, SlowStock>::new(SwitchPolicy::ByCommand);
    let options = ViewOptions { copies: 2, ..ViewOptions::default() };
    let builder = writer.beside().view_with::<Stock>(options).view_candidate(candidate);
    let app = builder.start().await.unwrap();
    let control = app.view::<SlowStock>().unwrap();
    (app, control)
}

fn wait_until_live(app: &App) {
    let view = app.view::<Stock>().unwrap();
    let look = || (view.status().state == FollowState::Live).then_some(());
    wait_for(look, || format!("{:?}", view.status()));
}

/// The view folds further events, each by itself.
async fn assert_goes_on(writer: &App, app: &App) {
    for _ in 0..4 {
        let at = write(writer, counted("apple", 1)).await;
        let answer = app.query(StockOf("apple")).strong().within(LONG).await.unwrap();
        assert_eq!(answer.position, at);
    }
}

/// Regression: the candidate held a copy of the view, which waited for it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_stopped_holds_no_copy_of_the_view() {
    let writer = App::over(Memory::new()).start().await.unwrap();
    for what in ["apple", "poison", "apple"] {
        write(&writer, counted(what, 1)).await;
    }
    let (app, control) = with_two_copies(&writer).await;
    wait_until_live(&app);
    let is_stopped = || matches!(control.status().state, FollowState::Stopped(_)).then_some(());
    let told = || format!("{:?}", control.status());
    wait_for(is_stopped, told);
    // The view is at the end of the log now, so the candidate would compare with it.
    control.resume().await.unwrap();
    wait_for(is_stopped, told);
    assert_goes_on(&writer, &app).await;
    app.stop().await.unwrap();
}

/// Regression: the candidate held a copy of the view, which waited for it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_is_paused_holds_no_copy_of_the_view() {
    let writer = App::over(Memory::new()).start().await.unwrap();
    // The candidate is at the first gate in its first slice, and at the second one in its second.
    write(&writer, counted("gate-0", 1)).await;
    for _ in 0..1_100 {
        write(&writer, counted("apple", 1)).await;
    }
    write(&writer, counted("gate-1", 1)).await;
    let (app, control) = with_two_copies(&writer).await;
    wait_until_live(&app);
    let [first, second] = &GATES;
    first.store(true, Ordering::SeqCst);
    let is_at_the_second = || (control.position() > Position::new(1_000)).then_some(());
    wait_for(is_at_the_second, || format!("{:?}", control.status()));
    let mut pause = Box::pin(control.pause());
    let asked = future::poll_fn(|context| Poll::Ready(pause.as_mut().poll(context)));
    assert!(asked.await.is_pending());
    second.store(true, Ordering::SeqCst);
    pause.await.unwrap();
    assert_goes_on(&writer, &app).await;
    app.stop().await.unwrap();
}
