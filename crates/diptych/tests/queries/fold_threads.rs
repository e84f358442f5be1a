//! Folds of the past run on a few threads of their own. Commands and live queries go on meanwhile,
//! however many callers ask for the past.

use std::{
    collections::BTreeSet,
    future::{Future, IntoFuture, pending},
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use diptych::{
    App, AppBuilder, Fold, Log, LogOptions, Memory, Position, Query, QueryError, Recorded, Store,
    Timestamp, query::QueryPanic,
};
use diptych_log::disk::simulated::SimulatedDisk;
use diptych_store::testing::{Call, WrappedStore};
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::support::{
    journal::{Journal, Lines, Moved, Whole, plain, write},
    manual_sync::HeldFuture,
};

/// A time limit that a test exceeds only if its rule is broken.
const LONG: Duration = Duration::from_secs(10);
/// The number of events in one page of a past fold.
const PAGE_EVENTS: u64 = 1_024;

/// A gate at which a fold waits until a test opens it.
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    /// The number of events that reached the gate.
    came: AtomicU64,
}

impl Gate {
    const fn new() -> Gate {
        Gate { is_open: Mutex::new(false), opened: Condvar::new(), came: AtomicU64::new(0) }
    }

    fn open(&self) {
        *self.is_open.lock() = true;
        self.opened.notify_all();
    }

    /// Blocks the thread until the gate is open, like a long fold.
    fn pass(&self) {
        self.came.fetch_add(1, Ordering::SeqCst);
        let mut is_open = self.is_open.lock();
        while !*is_open {
            let waited = self.opened.wait_for(&mut is_open, LONG);
            assert!(!waited.timed_out(), "the test did not open the gate during the fold");
        }
    }
}

static BESIDE: Gate = Gate::new();
static DROPPED: Gate = Gate::new();

/// Declares a view that the app does not hold. Its fold waits at a gate for each event.
macro_rules! slow_view {
    ($view:ident, $question:ident, $gate:ident) => {
        #[derive(Clone, Default)]
        struct $view(u64);

        impl Fold for $view {
            type Event = Moved;

            fn apply(&mut self, _: &Recorded<Moved>) {
                $gate.pass();
                self.0 += 1;
            }
        }

        struct $question;

        impl Query for $question {
            type View = $view;
            type Answer = u64;

            fn answer(&self, view: &$view) -> u64 {
                view.0
            }
        }
    };
}

slow_view!(Beside, HowManyBeside, BESIDE);
slow_view!(Dropped, HowManyDropped, DROPPED);

fn one_at_a_time(builder: AppBuilder, waiting: usize) -> AppBuilder {
    builder.past_folds(NonZeroUsize::MIN).past_waiting(waiting)
}

/// Counts the reads of a store. A test can make the next read hang for ever.
struct Reads {
    reads: watch::Sender<usize>,
    is_held: Arc<AtomicBool>,
}

impl Reads {
    fn of(store: Store) -> (WrappedStore, Reads) {
        let reads = Reads { reads: watch::Sender::default(), is_held: Arc::default() };
        let (counted, is_held) = (reads.reads.clone(), reads.is_held.clone());
        let store = WrappedStore::over(store).before(move |call| {
            let is_read = matches!(call, Call::Read(..));
            counted.send_modify(|reads| *reads += usize::from(is_read));
            let is_held = is_read && is_held.swap(false, Ordering::SeqCst);
            async move {
                match is_held {
                    true => pending().await,
                    false => Ok(()),
                }
            }
        });
        (store, reads)
    }

    /// Makes the next read hang for ever and resets the count.
    fn hold_next(&self) {
        self.reads.send_replace(0);
        self.is_held.store(true, Ordering::SeqCst);
    }

    async fn begun(&self) {
        let mut reads = self.reads.subscribe();
        let begun = reads.wait_for(|reads| *reads > 0);
        tokio::time::timeout(LONG, begun).await.unwrap().unwrap();
    }
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls the future once and asserts that it is pending.
#[track_caller]
fn waits<F: Future + Unpin>(future: &mut F) {
    assert!(poll(future).is_pending(), "the future should be pending");
}

/// Regression: a query of the past was folded on the task of its caller, in pages of 1,024 events.
/// 64 callers without a key took all threads of the runtime in turns, and commands became 70 times
/// slower. Here a fold keeps its thread until the only thread of the runtime has answered a command
/// and a live query.
#[tokio::test]
async fn commands_and_live_queries_go_on_while_the_past_is_folded() {
    let app = App::over(Memory::new()).view::<Journal>().start().await.unwrap();
    write(&app, &plain(3, 1, 10)).await;
    let (looked, ()) = tokio::join!(app.query(HowManyBeside).as_of(Position::new(3)), async {
        while BESIDE.came.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        write(&app, &plain(2, 1, 10)).await;
        let lines = app.query(Lines(0)).strong().await.unwrap();
        assert_eq!(lines.value.len(), 5);
        BESIDE.open();
    });
    assert_eq!(looked.unwrap().value, 3);
}

#[tokio::test]
async fn a_query_beyond_the_waiting_limit_gets_busy() {
    let (store, reads) = Reads::of(Store::new(Memory::new()));
    let app = one_at_a_time(App::over(store), 1).start().await.unwrap();
    write(&app, &plain(3, 1, 10)).await;
    let mut history = app.history(Whole, Position::START, Position::new(3));
    let at = Position::new(2);
    reads.hold_next();
    let mut first = app.query(Whole).as_of(at).into_future();
    waits(&mut first);
    reads.begun().await;
    let mut second = app.query(Whole).as_of(at).into_future();
    waits(&mut second);

    let busy = QueryError::Busy { folds: 1, waiting: 1 };
    let third = tokio::time::timeout(LONG, app.query(Whole).as_of(at).into_future());
    assert_eq!(third.await.expect("the query waits").unwrap_err(), busy);
    assert_eq!(app.query(Lines(0)).occurred_before(Timestamp::now()).await.unwrap_err(), busy);
    assert_eq!(app.diff(Whole, Position::START, at).await.unwrap_err(), busy);
    assert_eq!(app.explain(Whole).await.unwrap_err(), busy);
    assert_eq!(history.next().await.unwrap_err(), busy);
    let checked = app.check_scope(&Lines(0), at).await.unwrap_err();
    assert_eq!(checked, diptych::past::ScopeError::Query(busy.clone()));
    let text = busy.to_string();
    assert!(text.contains("ask again later") && text.contains("past_folds"), "{text}");

    drop(first);
    assert_eq!(second.await.unwrap().cost.events, 2);
    // The refused history had not begun, so it starts now at its first position.
    assert_eq!(history.next().await.unwrap().unwrap().position, Position::START);
}

#[tokio::test]
async fn an_answer_from_the_view_in_memory_waits_for_no_fold() {
    let (store, reads) = Reads::of(Store::new(Memory::new()));
    let app = one_at_a_time(App::over(store).view::<Journal>(), 0).start().await.unwrap();
    write(&app, &plain(3, 1, 10)).await;
    app.query(Whole).strong().await.unwrap();
    reads.hold_next();
    let mut held = app.query(Whole).as_of(Position::new(1)).into_future();
    waits(&mut held);
    reads.begun().await;
    let now = app.query(Whole).as_of(Position::new(3)).await.unwrap();
    assert_eq!((now.value.0[&0].len(), now.cost.events), (3, 0));
    let busy = app.query(Whole).as_of(Position::new(2)).await.unwrap_err();
    assert_eq!(busy, QueryError::Busy { folds: 1, waiting: 0 });
}

/// A fold frees its slot before the caller gets the answer, so the next query is never refused.
#[tokio::test]
async fn sequential_queries_need_no_waiting_slot() {
    let app = one_at_a_time(App::over(Memory::new()), 0).start().await.unwrap();
    write(&app, &plain(3, 1, 10)).await;
    for _ in 0..1_000 {
        assert_eq!(app.query(Whole).as_of(Position::new(2)).await.unwrap().cost.events, 2);
    }
}

#[tokio::test]
async fn a_dropped_query_frees_its_slot_for_the_next() {
    let (store, reads) = Reads::of(Store::new(Memory::new()));
    let app = one_at_a_time(App::over(store), 2).start().await.unwrap();
    write(&app, &plain(3, 1, 10)).await;
    let at = Position::new(2);
    reads.hold_next();
    // The read of this query hangs for ever.
    let mut gone = app.query(Whole).as_of(at).into_future();
    waits(&mut gone);
    reads.begun().await;
    let mut also_gone = app.query(Whole).as_of(at).into_future();
    waits(&mut also_gone);
    let mut stays = app.query(Whole).as_of(at).into_future();
    waits(&mut stays);
    drop(also_gone);
    drop(gone);
    let answer = tokio::time::timeout(LONG, stays).await.expect("no thread came free");
    assert_eq!(answer.unwrap().cost.events, 2);
}

#[tokio::test]
async fn a_fold_without_a_caller_ends_within_a_page() {
    let app = one_at_a_time(App::over(Memory::new()), 1).start().await.unwrap();
    let events = 5 * PAGE_EVENTS;
    write(&app, &plain(events, 1, events + 1)).await;
    let mut gone = app.query(HowManyDropped).as_of(Position::new(events)).into_future();
    waits(&mut gone);
    while DROPPED.came.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    drop(gone);
    DROPPED.open();
    // The app has one fold thread, so the dropped fold has ended when this query is answered.
    assert_eq!(app.query(Whole).as_of(Position::new(1)).await.unwrap().cost.events, 1);
    assert_eq!(DROPPED.came.load(Ordering::SeqCst), PAGE_EVENTS);
}

#[tokio::test]
async fn stopping_the_app_ends_folds_of_the_past() {
    let (store, reads) = Reads::of(Store::new(Memory::new()));
    let app = one_at_a_time(App::over(store), 1).start().await.unwrap();
    write(&app, &plain(3, 1, 10)).await;
    let at = Position::new(2);
    reads.hold_next();
    let mut runs = app.query(Whole).as_of(at).into_future();
    waits(&mut runs);
    reads.begun().await;
    let mut queued = app.query(Whole).as_of(at).into_future();
    waits(&mut queued);
    tokio::time::timeout(LONG, app.clone().stop()).await.expect("the stop hangs").unwrap();
    assert_eq!(runs.await.unwrap_err(), QueryError::AppStopped);
    assert_eq!(queued.await.unwrap_err(), QueryError::AppStopped);
    assert_eq!(app.query(Whole).as_of(at).await.unwrap_err(), QueryError::AppStopped);
    assert_eq!(app.explain(Whole).await.unwrap_err(), QueryError::AppStopped);
}

/// The fold threads read the log. They release it before the drop of the app returns.
#[tokio::test]
async fn dropping_the_app_releases_the_log_during_a_fold() {
    let disk = Arc::new(SimulatedDisk::new(1));
    let open = || Log::open("/log", LogOptions { disk: disk.clone(), ..LogOptions::default() });
    for _ in 0..20 {
        let app = App::over(open().unwrap()).start().await.unwrap();
        write(&app, &plain(2_000, 1, 3_000)).await;
        let mut gone = app.query(Whole).as_of(app.head()).into_future();
        waits(&mut gone);
        drop(gone);
        drop(app);
    }
    open().unwrap();
}

#[tokio::test]
async fn a_panic_of_the_store_fails_only_its_query() {
    let is_broken = Arc::new(AtomicBool::new(false));
    let breaks = is_broken.clone();
    let store = WrappedStore::new(Memory::new()).before(move |call| {
        if let Call::Read(..) = call {
            assert!(!breaks.swap(false, Ordering::SeqCst), "the store is broken");
        }
        async { Ok(()) }
    });
    let app = one_at_a_time(App::over(store), 0).start().await.unwrap();
    write(&app, &plain(3, 1, 10)).await;
    is_broken.store(true, Ordering::SeqCst);
    let error = app.query(Whole).as_of(Position::new(2)).await.unwrap_err();
    let QueryError::Panicked(QueryPanic { message, .. }) = &error else { panic!("{error}") };
    assert!(message.contains("the store is broken"), "{message}");
    assert_eq!(app.query(Whole).as_of(Position::new(2)).await.unwrap().cost.events, 2);
}

/// A history computes its next answer on a fold thread. A caller that drops the future gets that
/// answer from the next call.
#[tokio::test]
async fn a_history_loses_no_answer_to_dropped_futures() {
    let app = App::over(Memory::new()).start().await.unwrap();
    // The history is longer than its read-ahead and than a page. Some events change no answer.
    let entries = plain(3_000, 2, 3);
    write(&app, &entries).await;
    let range = || app.history(Lines(1), Position::START, Position::new(3_000));
    let (mut whole, mut answers) = (range(), Vec::new());
    while let Some(answer) = whole.next().await.unwrap() {
        answers.push(answer);
    }
    let (mut interrupted, mut again) = (range(), Vec::new());
    loop {
        {
            let mut dropped = Box::pin(interrupted.next());
            if let Poll::Ready(answer) = poll(&mut dropped) {
                match answer.unwrap() {
                    Some(answer) => again.push(answer),
                    None => break,
                }
                continue;
            }
        }
        match interrupted.next().await.unwrap() {
            Some(answer) => again.push(answer),
            None => break,
        }
    }
    assert_eq!(again, answers);
    let positions: BTreeSet<_> = answers.iter().map(|answer| answer.position).collect();
    assert_eq!(positions.len(), answers.len());
    let events: u64 = answers.iter().map(|answer| answer.cost.events).sum();
    assert!(answers.len() as u64 <= events + 1 && answers.len() > 900, "{}", answers.len());
}

/// The app owns its fold threads, so it needs no async runtime.
#[test]
fn the_past_is_folded_without_a_runtime() {
    let app = HeldFuture::new(App::over(Memory::new()).start()).done().unwrap();
    let mut past = HeldFuture::new(async move {
        write(&app, &plain(2_000, 1, 3_000)).await;
        app.query(Whole).as_of(Position::new(1_500)).await
    });
    loop {
        if let Poll::Ready(answer) = past.poll() {
            assert_eq!(answer.unwrap().cost.events, 1_500);
            return;
        }
        std::thread::yield_now();
    }
}
