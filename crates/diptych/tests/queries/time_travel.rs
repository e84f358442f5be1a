//! Queries of the past through the API of an app.

use std::{
    collections::BTreeMap,
    future::{Future as _, poll_fn},
    sync::Arc,
    time::Duration,
};

use diptych::{
    App, Event, Filter, Fold, Log, LogOptions, Memory, Point, Position, Query, QueryError,
    Recorded, Tag, Timestamp,
    fold::FoldFailure,
    store::{RawEvent, ReadError, TimeSource},
    testing::{Clock, ControlledClock},
};
use diptych_log::disk::simulated::{Fault, Operation, SimulatedDisk};
use diptych_store::{Append, EventStore};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::support::{
    counted_store::{self, CountedStore},
    journal::{
        Entry, Journal, Lines, When, Whole, micros, oracle, plain, write, write_as_recorded,
    },
    probe::HeardEvents,
    releases::{Today, expected, history, memory, of, questions, upcasters},
};

fn log() -> Log {
    let disk = Arc::new(SimulatedDisk::new(1));
    Log::open("/log", LogOptions { disk, ..LogOptions::default() }).unwrap()
}

/// Compares answers at 100 random positions with a fresh fold, with a scope and without one.
async fn travels(app: App, seed: u64) {
    let entries = plain(3_000, 20, 7);
    write(&app, &entries).await;
    let mut rng = Rng::with_seed(seed);
    for _ in 0..100 {
        let at = rng.u64(0..=3_000);
        let (_, journal) = oracle(&entries, When { position: Some(at), ..When::default() });
        let position = Position::new(at);
        let whole = app.query(Whole).as_of(position).await.unwrap();
        assert_eq!(whole.value, journal, "seed {seed}, as of {at}");
        assert_eq!(whole.position, position);
        let account = rng.u64(0..20);
        let lines = app.query(Lines(account)).as_of(position).await.unwrap();
        let known = journal.0.get(&account).cloned().unwrap_or_default();
        assert_eq!(lines.value, known, "seed {seed}, {account} as of {at}");
        if lines.cost.from == Position::START {
            assert_eq!(lines.cost.events, known.len() as u64, "seed {seed}, {account} as of {at}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_the_past_equals_that_of_a_fresh_fold() {
    for seed in 0..2 {
        println!("seed {seed}");
        travels(App::over(Memory::new()).start().await.unwrap(), seed).await;
        travels(App::over(Memory::new()).view::<Journal>().start().await.unwrap(), seed).await;
        travels(App::over(log()).start().await.unwrap(), seed).await;
        travels(App::over(log()).view::<Journal>().start().await.unwrap(), seed).await;
    }
}

/// Regression: the search in a log of a million events read 21 events in one poll. Each read may
/// wait for the disk, so the search delayed the other tasks of its thread by all 21 reads.
#[tokio::test]
async fn the_search_for_an_instant_reads_one_event_per_poll() {
    const EVENTS: u64 = 1_000;
    let store = CountedStore::new(Memory::new().time(TimeSource::Caller));
    for at in 1..=EVENTS {
        let append = Append::event(RawEvent::new("counted", "1"));
        let recorded_at = Some(micros(at as i64));
        counted_store::write(store.inner(), Append { recorded_at, ..append });
    }
    let app = App::over(store.store()).start().await.unwrap();
    for instant in [1, 2, 500, 777, EVENTS] {
        let before = store.reads();
        let mut search = Box::pin(app.position_before(micros(instant as i64)));
        let mut turns = 0;
        let found = poll_fn(|context| {
            turns += 1;
            assert!(store.reads() - before <= turns, "{} reads", store.reads() - before);
            search.as_mut().poll(context)
        });
        assert_eq!(found.await.unwrap(), Position::new(instant - 1));
        // The search needs a first probe, at most ten halvings and a final poll.
        assert!((2..=12).contains(&turns), "{turns} turns");
    }
}

#[tokio::test]
async fn a_scope_reduces_the_events_read_and_the_reported_cost() {
    let store = CountedStore::new(Memory::new());
    let app = App::over(store.store()).start().await.unwrap();
    write(&app, &plain(5_000, 500, 10_000)).await;
    let before = store.events_read();
    let lines = app.query(Lines(7)).as_of(Position::new(4_000)).await.unwrap();
    assert_eq!((lines.value.len(), lines.cost.events), (8, 8));
    assert_eq!(store.events_read() - before, 8);
    let whole = app.query(Whole).as_of(Position::new(4_000)).await.unwrap();
    assert_eq!((whole.cost.events, whole.cost.from), (4_000, Position::START));
    assert_eq!(store.events_read() - before, 4_008);
    let explained = app.explain(Lines(7)).await.unwrap();
    assert_eq!((explained.events.len(), explained.cost.events), (10, 10));
}

#[tokio::test]
async fn the_view_in_memory_answers_where_its_state_is_the_same() {
    let store = CountedStore::new(Memory::new());
    let app = App::over(store.store()).view::<Journal>().start().await.unwrap();
    let mut entries = plain(1_000, 10, 2_000);
    entries.extend([Entry { account: None, ..entries[0] }; 10]);
    write(&app, &entries).await;
    let live = app.query(Whole).strong().await.unwrap();
    assert_eq!((live.cost.events, live.cost.from), (0, Position::new(1_010)));
    let before = store.events_read();
    // The view does not read the events after position 1000.
    for at in 1_000..=1_010 {
        let answer = app.query(Whole).as_of(Position::new(at)).await.unwrap();
        assert_eq!((&answer.value, answer.position.get()), (&live.value, at));
        assert_eq!((answer.cost.events, answer.cost.from.get()), (0, 1_010));
    }
    let now = app.query(Whole).at(Point::now()).await.unwrap();
    assert_eq!((now.value, now.cost.events), (live.value, 0));
    assert_eq!(store.events_read(), before);
    let earlier = app.query(Whole).as_of(Position::new(999)).await.unwrap();
    assert_eq!(earlier.cost.events, 999);
    // The view folds in log order, so it cannot answer in order of occurrence.
    let occurred = app.query(Whole).occurred_before(Timestamp::now()).await.unwrap();
    assert_eq!(occurred.cost.events, 1_000);
}

/// A paused view lacks the requested events, so the app folds them from the log.
#[tokio::test]
async fn a_query_of_the_past_does_not_wait_for_a_paused_view() {
    let app = App::over(Memory::new()).view::<Journal>().start().await.unwrap();
    let entries = plain(100, 5, 1_000);
    write(&app, &entries[..50]).await;
    app.query(Whole).strong().await.unwrap();
    app.view::<Journal>().unwrap().pause().await.unwrap();
    write(&app, &entries[50..]).await;
    for point in [Point::now(), Point::at(Position::new(100))] {
        let answer = app.query(Whole).at(point).await.unwrap();
        assert_eq!(
            (&answer.value, answer.cost.events),
            (&oracle(&entries, When::default()).1, 100)
        );
    }
    assert_eq!(app.query(Whole).as_of(Position::new(50)).await.unwrap().cost.events, 0);
}

#[tokio::test]
async fn a_diff_folds_the_later_answer_from_the_earlier() {
    let app = App::over(Memory::new()).start().await.unwrap();
    write(&app, &plain(3_000, 10, 5_000)).await;
    let [low, high] = [1_000, 2_500].map(Position::new);
    let there = app.diff(Whole, low, high).await.unwrap();
    assert!(there.is_changed());
    assert_eq!((there.before.cost.events, there.before.cost.from), (1_000, Position::START));
    assert_eq!((there.after.cost.events, there.after.cost.from), (1_500, low));
    let back = app.diff(Whole, high, low).await.unwrap();
    assert_eq!((&back.after, &back.before), (&there.before, &there.after));
    assert!(!app.diff(Whole, low, low).await.unwrap().is_changed());
    let first = app.diff(Whole, Position::START, Point::now()).await.unwrap();
    assert_eq!(first.before.value, Journal::default());
    assert_eq!(first.after.position, Position::new(3_000));
}

#[tokio::test]
async fn a_position_above_the_head_is_an_error() {
    let app = App::over(Memory::new()).view::<Journal>().start().await.unwrap();
    write(&app, &plain(3, 1, 10)).await;
    let above = Position::new(4);
    let error = app.query(Whole).as_of(above).await.unwrap_err();
    assert_eq!(error, QueryError::AboveHead { position: above, head: Position::new(3) });
    assert!(error.to_string().contains("ask for that or less"), "{error}");
    assert_eq!(app.diff(Whole, Position::START, above).await.unwrap_err(), error);
    assert_eq!(app.explain(Whole).as_of(above).await.unwrap_err(), error);
    let mut history = app.history(Whole, Position::START, above);
    assert_eq!(history.next().await.unwrap_err(), error);
    assert_eq!(history.next().await.unwrap_err(), error);
    let empty = app.query(Whole).as_of(Position::START).await.unwrap();
    assert_eq!((empty.value.clone(), empty.position), (Journal::default(), Position::START));
}

/// A query of the past checks the token of its caller too.
#[tokio::test]
async fn a_token_of_another_log_is_an_error_in_the_past_too() {
    let (app, other) = (App::over(Memory::new()), App::over(Memory::new()));
    let (app, other) = (app.start().await.unwrap(), other.start().await.unwrap());
    let token = other.session().token().await.unwrap();
    let answer = app.query(Whole).token(&token).as_of(Position::START).await;
    assert!(matches!(answer, Err(QueryError::Token(_))), "{answer:?}");
}

/// A query with a given scope.
struct ScopedQuery(Filter);

impl Query for ScopedQuery {
    type View = Journal;
    type Answer = Journal;

    fn answer(&self, journal: &Journal) -> Journal {
        journal.clone()
    }

    fn scope(&self) -> Filter {
        self.0.clone()
    }
}

#[tokio::test]
async fn a_scope_that_cannot_match_is_an_error() {
    let app = App::over(Memory::new()).start().await.unwrap();
    write(&app, &plain(3, 1, 10)).await;
    let wrong = [
        (Filter::tag(Tag::new("acount", 1)), "acount"),
        (Filter::event_type("bell-rung"), "bell-rung"),
        (Filter::tag(Tag::new("account", "x".repeat(1_000))), "1008 bytes"),
    ];
    for (scope, about) in wrong {
        let error =
            app.query(ScopedQuery(scope.clone())).as_of(Position::new(1)).await.unwrap_err();
        assert!(matches!(error, QueryError::Scope { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(about) && text.contains("the scope of"), "{text}");
        assert!(!text.contains("boundary"), "{text}");
        assert_eq!(app.explain(ScopedQuery(scope)).await.unwrap_err(), error);
    }
    // A filter that matches nothing is a valid scope.
    let nothing = app.query(ScopedQuery(Filter::nothing())).as_of(Position::new(3)).await.unwrap();
    assert_eq!((nothing.value, nothing.cost.events), (Journal::default(), 0));
}

/// Returns the upcast events within a given scope.
struct Story(Filter);

impl Query for Story {
    type View = HeardEvents<Today>;
    type Answer = Vec<String>;

    fn answer(&self, heard: &HeardEvents<Today>) -> Vec<String> {
        heard.lines.clone()
    }

    fn scope(&self) -> Filter {
        self.0.clone()
    }
}

#[tokio::test]
async fn queries_of_the_past_upcast_events_of_older_programs() {
    let store = memory();
    store.write(Append::events(history()));
    let app = App::over(store.store()).upcasters(upcasters()).start().await.unwrap();
    let position = |line: &String| line.split(' ').next().unwrap().parse::<u64>().unwrap();
    for (scope, is) in questions() {
        for at in 0..=history().len() as u64 {
            let mut known = expected(is);
            known.retain(|line| position(line) <= at);
            let point = Position::new(at);
            let story = app.query(Story(scope.clone())).as_of(point).await.unwrap();
            assert_eq!(story.value, known, "{scope} as of {at}");
            let ever = Point::at(point).occurred_before(Timestamp::from_micros(i64::MAX));
            let story = app.query(Story(scope.clone())).at(ever).await.unwrap();
            assert_eq!(story.value, known, "{scope} as of {at}");
            let explained = app.explain(Story(scope.clone())).as_of(point).await.unwrap();
            let lines = explained.events.iter();
            let lines: Vec<_> =
                lines.map(|event| format!("{} {:?}", event.position, event.event)).collect();
            assert_eq!(lines, known, "{scope} as of {at}");
        }
    }
}

/// An upcaster splits the second event in two. A limit includes both parts or none.
#[tokio::test]
async fn a_limit_does_not_separate_the_parts_of_a_split_event() {
    let store = memory();
    store.write(Append::events(history()));
    let app = App::over(store.store()).upcasters(upcasters()).start().await.unwrap();
    for (limit, events, upto) in [(0, 0, 0), (1, 1, 1), (2, 1, 1), (3, 3, 3), (4, 4, 4)] {
        let explained = app.explain(Story(of(&[]))).limit(limit).await.unwrap();
        assert_eq!(explained.events.len(), events, "{limit}");
        assert_eq!((explained.upto.get(), explained.is_whole), (upto, false), "{limit}");
    }
    let explained = app.explain(Story(of(&[]))).limit(8).await.unwrap();
    assert_eq!((explained.events.len(), explained.upto.get()), (8, 9));
    assert!(explained.is_whole);
}

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
enum Door {
    #[event("door-opened")]
    Opened {},
    #[event("door-passed")]
    Passed {},
}

/// A fold that panics if a closed door is passed.
#[derive(Clone, Debug, Default, PartialEq)]
struct Passes {
    is_open: bool,
    passes: u64,
}

impl Fold for Passes {
    type Event = Door;

    fn apply(&mut self, door: &Recorded<Door>) {
        match door.event {
            Door::Opened {} => self.is_open = true,
            Door::Passed {} => {
                assert!(self.is_open, "through a closed door");
                self.passes += 1;
            }
        }
    }
}

struct HowMany;

impl Query for HowMany {
    type View = Passes;
    type Answer = u64;

    fn answer(&self, passes: &Passes) -> u64 {
        passes.passes
    }
}

fn at(event: &Door, occurred_at: i64) -> RawEvent {
    let mut raw = event.encode().unwrap();
    raw.metadata.occurred_at = Some(micros(occurred_at));
    raw
}

/// The fold fails in log order and succeeds in order of occurrence.
#[tokio::test]
async fn late_events_are_folded_in_order_of_occurrence() {
    let app = App::over(Memory::new()).past_events(4).start().await.unwrap();
    let door = [
        at(&Door::Passed {}, 20),
        at(&Door::Passed {}, 30),
        at(&Door::Opened {}, 10),
        at(&Door::Passed {}, 25),
    ];
    app.store().append(Append::events(door)).await.unwrap().synced().await.unwrap();
    let error = app.query(HowMany).as_of(Position::new(4)).await.unwrap_err();
    let QueryError::Fold(error) = error else { panic!("{error}") };
    assert_eq!(error.position, Position::new(1));
    let FoldFailure::Panicked(text) = &error.cause else { panic!("{error}") };
    assert!(text.contains("closed door"), "{text}");
    for (before, passes) in [(10, 0), (20, 0), (21, 1), (26, 2), (31, 3)] {
        let answer = app.query(HowMany).occurred_before(micros(before)).await.unwrap();
        assert_eq!(answer.value, passes, "before {before}");
    }
    for (upto, passes) in [(9, 0), (10, 0), (19, 0), (20, 1), (25, 2), (29, 2), (30, 3)] {
        let answer = app.query(HowMany).occurred_upto(micros(upto)).await.unwrap();
        assert_eq!(answer.value, passes, "up to {upto}");
        let at = app.query(HowMany).at(Point::now().occurred_upto(micros(upto))).await.unwrap();
        assert_eq!(at.value, passes, "up to {upto}");
    }
    let ever = app.query(HowMany).occurred_upto(Timestamp::MAX).await.unwrap();
    assert_eq!(ever.value, 3);
    let explained = app.explain(HowMany).occurred_upto(micros(20)).await.unwrap();
    // The door opened, and somebody passed.
    assert_eq!(explained.events.len(), 2);
    // The log up to position 2 does not hold the opening of the door, so the fold fails.
    let known = app.query(HowMany).as_of(Position::new(2)).occurred_before(micros(31)).await;
    let Err(QueryError::Fold(error)) = known else { panic!("{known:?}") };
    assert_eq!(error.position, Position::new(1));
}

#[tokio::test]
async fn recorded_upto_includes_the_instant_and_recorded_before_does_not() {
    let clock = Clock::new();
    let app = App::over(ControlledClock::new(clock.clone())).start().await.unwrap();
    let mut times = Vec::new();
    for event in [Door::Opened {}, Door::Passed {}, Door::Passed {}] {
        times.push(clock.now());
        let append = Append::event(event.encode().unwrap());
        app.store().append(append).await.unwrap().synced().await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    for (instant, before, upto) in [(times[1], 0, 1), (times[2], 1, 2)] {
        let answer = app.query(HowMany).recorded_before(instant).await.unwrap();
        assert_eq!(answer.value, before);
        let answer = app.query(HowMany).recorded_upto(instant).await.unwrap();
        assert_eq!(answer.value, upto);
        let answer = app.query(HowMany).as_of(Position::new(3)).recorded_upto(instant).await;
        assert_eq!(answer.unwrap().value, upto);
        let explained = app.explain(HowMany).recorded_upto(instant).await.unwrap();
        assert_eq!(explained.events.len() as u64, 1 + upto);
    }
    let ever = app.query(HowMany).recorded_upto(Timestamp::MAX).await.unwrap();
    assert_eq!(ever.value, 2);
}

#[tokio::test]
async fn the_number_of_events_to_sort_is_bounded() {
    let app = App::over(Memory::new()).past_events(99).start().await.unwrap();
    let entries = plain(100, 2, 1_000);
    write(&app, &entries).await;
    // Events that arrive in order of occurrence need no sort buffer.
    let answer = app.query(Whole).occurred_before(micros(i64::MAX)).await.unwrap();
    assert_eq!((answer.value, answer.cost.events), (oracle(&entries, When::default()).1, 100));
    write(&app, &entries[..1]).await;
    let error = app.query(Whole).occurred_before(micros(i64::MAX)).await.unwrap_err();
    assert_eq!(error, QueryError::TooManyEvents { limit: 99 });
    assert!(error.to_string().contains("give the query a scope"), "{error}");
    let lines = app.query(Lines(1)).occurred_before(micros(i64::MAX)).await.unwrap();
    assert_eq!(lines.value.len(), 51);
    assert_eq!(lines.value[0].split(' ').next(), Some("1"));
    assert_eq!(lines.value[1].split(' ').next(), Some("101"));
}

#[tokio::test]
async fn events_are_sorted_across_many_pages() {
    let app = App::over(Memory::new()).start().await.unwrap();
    let mut entries = plain(20_000, 10, 100_000);
    entries.reverse();
    write(&app, &entries).await;
    let answer = app.query(Lines(1)).occurred_before(micros(i64::MAX)).await.unwrap();
    let first: Vec<_> = answer.value.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
    let amounts: Vec<_> = (0..2_000).map(|at| (at * 10 + 1).to_string()).collect();
    assert_eq!(first, amounts);
}

fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

/// The futures run on any executor and are `Send`.
#[test]
fn time_travel_runs_without_a_runtime_and_its_futures_are_send() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    let memory = Memory::new().time(TimeSource::Caller);
    let entries: Vec<_> = (1..=10)
        .map(|at| Entry {
            account: Some(1),
            amount: at,
            recorded_at: micros(at as i64),
            occurred_at: None,
        })
        .collect();
    pollster(write_as_recorded(&memory, &entries));
    let app = pollster(App::over(memory).view::<Journal>().start()).unwrap();
    let past = app.query(Lines(1)).recorded_before(micros(5)).into_future();
    assert_eq!(pollster(sent(past)).unwrap().value.len(), 4);
    let difference = sent(app.diff(Whole, Position::new(4), Point::now()));
    assert!(pollster(difference).unwrap().is_changed());
    assert!(pollster(sent(app.check_scope(&Lines(1), Point::now()))).is_ok());
    let mut history = app.history(Lines(1), Position::START, Position::new(10));
    assert!(pollster(sent(history.next())).unwrap().is_some());
    let explained = pollster(sent(app.explain(Lines(1)).into_future())).unwrap();
    assert_eq!(explained.events.len(), 10);
}

/// Polls the future until it is ready.
fn pollster<F: Future>(future: F) -> F::Output {
    let mut future = Box::pin(future);
    loop {
        if let Some(output) = futures_now(&mut future) {
            return output;
        }
        std::thread::yield_now();
    }
}

/// Counts the lines of every account, but declares a scope of one account.
struct HighestOf(u64);

impl Query for HighestOf {
    type View = Journal;
    type Answer = BTreeMap<u64, usize>;

    fn answer(&self, journal: &Journal) -> BTreeMap<u64, usize> {
        journal.0.iter().map(|(account, lines)| (*account, lines.len())).collect()
    }

    fn scope(&self) -> Filter {
        Filter::tag(Tag::new("account", self.0))
    }
}

#[tokio::test]
async fn a_scope_that_is_too_narrow_is_found() {
    let app = App::over(Memory::new()).view::<Journal>().start().await.unwrap();
    let mut entries = plain(30, 3, 1_000);
    entries.sort_by_key(|entry| entry.account != Some(1));
    write(&app, &entries).await;
    for point in [Point::now(), Point::now().occurred_before(micros(i64::MAX))] {
        app.check_scope(&Lines(1), point).await.unwrap();
        app.check_scope(&Whole, point).await.unwrap();
        let error = app.check_scope(&HighestOf(1), point).await.unwrap_err();
        let diptych::past::ScopeError::TooNarrow(narrow) = &error else { panic!("{error}") };
        assert_eq!(narrow.scoped, BTreeMap::from([(1, 10)]));
        assert_eq!(narrow.whole, BTreeMap::from([(0, 10), (1, 10), (2, 10)]));
        let text = error.to_string();
        for part in ["HighestOf", "{1: 10}", "{0: 10, 1: 10, 2: 10}", "account:1", "widen"] {
            assert!(text.contains(part), "{text}");
        }
    }
    // The first ten events are all of account 1, so the check finds no difference.
    app.check_scope(&HighestOf(1), Position::new(10)).await.unwrap();
    let error = app.check_scope(&HighestOf(1), Position::new(31)).await.unwrap_err();
    assert!(matches!(error, diptych::past::ScopeError::Query(QueryError::AboveHead { .. })));
}

/// An explanation that a limit cuts off explains the answer at its position `upto`.
#[tokio::test]
async fn a_limited_explanation_explains_the_answer_at_its_end() {
    let app = App::over(log()).start().await.unwrap();
    let entries = plain(2_000, 7, 5);
    write(&app, &entries).await;
    for limit in [1, 10, 100, 1_000] {
        let explained = app.explain(Whole).limit(limit).await.unwrap();
        assert_eq!((explained.events.len(), explained.is_whole), (limit, false));
        let mut journal = Journal::default();
        explained.events.iter().for_each(|event| journal.apply(event));
        assert_eq!(app.query(Whole).as_of(explained.upto).await.unwrap().value, journal);
    }
    let explained = app.explain(Whole).limit(1_600).await.unwrap();
    assert_eq!((explained.events.len(), explained.is_whole), (1_600, true));
    assert_eq!(explained.upto, Position::new(2_000));
    // In order of occurrence, the limit keeps the first events of that order.
    write(&app, &entries[..3]).await;
    let ever = Point::now().occurred_before(micros(i64::MAX));
    let explained = app.explain(Whole).at(ever).limit(3).await.unwrap();
    let positions: Vec<_> = explained.events.iter().map(|event| event.position.get()).collect();
    assert_eq!((positions, explained.is_whole), (vec![1, 2_001, 2], false));
    assert_eq!(explained.upto, Position::new(2_003));
}

/// Each list begins where the one before was cut off, in both orders.
#[tokio::test]
async fn lists_of_an_explanation_that_follow_each_other_hold_each_event_once() {
    let app = App::over(log()).start().await.unwrap();
    let entries = plain(40, 7, 5);
    write(&app, &entries).await;
    // These occurred among the first ones.
    write(&app, &entries[..9]).await;
    let head = Position::new(49);
    let ever = Point::now().occurred_before(micros(i64::MAX));
    for point in [Point::now(), ever.as_of(head)] {
        let whole = app.explain(Whole).at(point).await.unwrap();
        assert_eq!((whole.is_whole, whole.next), (true, None));
        for limit in [1, 4, 1_000] {
            let (mut events, mut next) = (Vec::new(), None);
            loop {
                let list = app.explain(Whole).at(point).limit(limit);
                let list = match next {
                    Some(next) => list.start_after(next).await.unwrap(),
                    None => list.await.unwrap(),
                };
                assert!(list.events.len() <= limit);
                assert_eq!(list.next.is_none(), list.is_whole);
                events.extend(list.events);
                next = list.next;
                if next.is_none() {
                    break;
                }
            }
            assert_eq!(events, whole.events, "{point:?}, {limit}");
        }
    }
    let beyond = Position::new(50);
    let error = app.explain(Whole).at(ever).start_after(beyond).await.unwrap_err();
    assert_eq!(error, QueryError::NotListed { position: beyond });
}

/// An upcaster splits the second event in two. The list after it has neither part.
#[tokio::test]
async fn a_list_that_begins_after_a_split_event_has_none_of_its_parts() {
    let store = memory();
    store.write(Append::events(history()));
    let app = App::over(store.store()).upcasters(upcasters()).start().await.unwrap();
    let ever = Point::now().occurred_before(micros(i64::MAX));
    for point in [Point::now(), ever] {
        let whole = app.explain(Story(of(&[]))).at(point).await.unwrap().events;
        assert_eq!((whole[1].position.get(), whole[2].position.get()), (2, 2));
        let rest = app.explain(Story(of(&[]))).at(point).start_after(Position::new(2)).await;
        assert_eq!(rest.unwrap().events, whole[3..]);
        let none = app.explain(Story(of(&[]))).at(point).start_after(Position::new(1)).limit(1);
        let none = none.await.unwrap();
        assert_eq!((none.events.len(), none.is_whole, none.next), (0, false, None));
    }
}

/// A closed log gives an error and not an empty answer.
#[tokio::test]
async fn a_closed_log_is_an_error() {
    let log = log();
    let app = App::over(log.clone()).start().await.unwrap();
    write(&app, &plain(3, 1, 10)).await;
    assert_eq!(EventStore::head(&log).position(), Position::new(3));
    log.close().unwrap();
    let answer = app.query(Whole).as_of(Position::new(3)).await;
    assert!(matches!(answer, Err(QueryError::Unavailable { .. })), "{answer:?}");
}

/// A log whose disk failed can still be read. The events after its last known event are unknown,
/// because another program may have opened the log and written to it.
#[tokio::test]
async fn the_last_position_of_a_failed_log_is_unknown() {
    let disk = SimulatedDisk::new(1);
    let options = LogOptions { disk: Arc::new(disk.clone()), ..LogOptions::default() };
    let app = App::over(Log::open("/log", options).unwrap()).start().await.unwrap();
    write(&app, &plain(3, 1, 10)).await;
    let (long_ago, later) = (micros(0), micros(i64::MAX));
    assert_eq!(app.position_before(later).await.unwrap(), Position::new(3));
    disk.fail_after(0, Fault::Io(Operation::Sync));
    let append = Append::event(RawEvent::new("counted", "1"));
    app.store().append(append).await.unwrap().synced().await.unwrap_err();
    assert_eq!(app.head(), Position::new(3));
    let found = app.position_before(later).await;
    assert!(matches!(found, Err(ReadError::Unavailable(_))), "{found:?}");
    // No later event was recorded before the known ones.
    assert_eq!(app.position_before(long_ago).await.unwrap(), Position::START);
}
