//! The life of an app: its start waits for its views, it ends by a stop or a drop, and its views
//! run on any runtime.

use std::{
    future::{Future, pending},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Waker},
    thread,
    time::{Duration, Instant},
};

use diptych::{
    App, Log, LogOptions, Memory, Position, QueryError, StartError, Store,
    follow::{ControlError, FollowState},
    view::NoSuchView,
};
use diptych_log::disk::simulated::SimulatedDisk;
use diptych_store::testing::{Call, WrappedStore};
use metrics::{
    Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use pollster::block_on;

use crate::support::{
    bank,
    ledger::{
        Booked, HookedLedger, Ledger, Look, LookInMirror, Mirror, Moment, Remarks, comes, small,
        write,
    },
    manual_sync::{Rig, now},
    rows::Rows,
};

#[test]
fn an_app_has_started_when_its_views_have_all_events() {
    for batch_events in [1, 10, 10_000] {
        let (ledger, store) = (HookedLedger::new(), Store::new(small(batch_events, 100)));
        for amount in 0..3_000 {
            write(&store, ledger.commit(&[amount]));
        }
        let app = App::over_store(store).view::<Ledger>().view::<Remarks>().view::<Mirror>();
        let app = block_on(app.start()).unwrap();
        for status in app.views() {
            assert_eq!((status.position.get(), status.lag.positions), (3_000, 0), "{status:?}");
        }
        assert_eq!(now(app.query(Look).into_future()).unwrap().bookings, 3_000);
        assert_eq!(now(app.query(LookInMirror).into_future()).unwrap().bookings, 3_000);
    }
}

#[test]
fn unknown_and_duplicate_views_are_errors() {
    let app = block_on(App::over(Memory::new()).view::<Mirror>().start()).unwrap();
    let missing = now(app.query(Look).into_future()).unwrap_err();
    assert!(matches!(missing, QueryError::NoSuchView(NoSuchView { .. })));
    assert!(missing.to_string().contains("ledger::Ledger: add it"), "{missing}");
    assert!(app.view::<Ledger>().is_err());
    assert!(block_on(app.watch(Look).next()).is_err());
    assert!(app.projection("rows").is_err());
    let twice = App::over(Memory::new()).view::<Mirror>().view::<Ledger>().view::<Mirror>();
    let error = block_on(twice.start()).unwrap_err();
    assert!(matches!(error, StartError::ViewTwice { .. }), "{error}");
    let rows = Rows::default;
    let twice = App::over(Memory::new()).projection(rows()).projection(rows());
    let error = block_on(twice.start()).unwrap_err();
    assert!(matches!(error, StartError::ProjectionTwice { .. }), "{error}");
}

/// MI-A1: a query of a view that is current uses nothing but memory.
#[test]
fn a_million_reads_touch_no_store() {
    let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
    let reads = Arc::new(AtomicU64::new(0));
    let counted = WrappedStore::over(store.clone()).before({
        let reads = reads.clone();
        move |call| {
            let is_read = matches!(call, Call::Read(..));
            reads.fetch_add(u64::from(is_read), Ordering::SeqCst);
            async { Ok(()) }
        }
    });
    let app = block_on(App::over(counted).view::<Ledger>().start()).unwrap();
    write(&store, ledger.commit(&[7]));
    block_on(app.query(Look).strong().into_future()).unwrap();
    let (before, session) = (reads.load(Ordering::SeqCst), app.session());
    assert!(before > 0);
    for at in 0..1_000_000 {
        let ask = app.query(Look);
        let ask = match at % 4 {
            0 => ask,
            1 => ask.strong(),
            2 => ask.session(&session),
            _ => ask.at_most(Duration::ZERO),
        };
        assert_eq!(now(ask.into_future()).unwrap().sum, 7);
    }
    assert_eq!(reads.load(Ordering::SeqCst), before);
}

/// Appends, queries and rebuilds. Every app can do this, on any runtime or on none.
async fn lives(app: App, ledger: &HookedLedger) {
    let before = app.head().get();
    for amount in 1..=20 {
        let accepted = app.store().append(ledger.commit(&[amount])).await.unwrap();
        accepted.synced().await.unwrap();
        let asked = app.query(Look).strong().within(Duration::from_secs(30));
        assert_eq!(asked.await.unwrap().bookings, before + amount.cast_unsigned());
    }
    app.view::<Ledger>().unwrap().rebuild().await.unwrap();
    app.query(Look).strong().await.unwrap();
}

#[test]
fn views_live_on_any_runtime_and_on_none_and_outlive_it() {
    let ledger = HookedLedger::new();
    let start = || App::over(Memory::new()).view::<Ledger>().start();
    let app = block_on(start()).unwrap();
    block_on(lives(app.clone(), &ledger));
    let mut current = tokio::runtime::Builder::new_current_thread();
    let mut many = tokio::runtime::Builder::new_multi_thread();
    for builder in [&mut current, many.worker_threads(2)] {
        // This app was started outside the runtime.
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(lives(app.clone(), &ledger));
        let here = runtime.block_on(async {
            let here = start().await.unwrap();
            lives(here.clone(), &ledger).await;
            here
        });
        // The runtime is dropped before the app.
        drop(runtime);
        block_on(lives(here.clone(), &ledger));
        block_on(here.stop()).unwrap();
    }
    let runtime = current.enable_all().build().unwrap();
    runtime.block_on(async {
        // A task on the only thread of the runtime drops the app.
        let dropped = start().await.unwrap();
        lives(dropped.clone(), &ledger).await;
        tokio::spawn(async move { drop(dropped) }).await.unwrap();
    });
}

/// Regression: the store needed the thread that waited for the end of the view.
#[test]
fn a_view_that_waits_for_its_store_can_be_stopped() {
    for is_stop in [false, true] {
        for needs_runtime in [false, true] {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
                let is_asked = Arc::new(AtomicBool::new(false));
                let silent = WrappedStore::over(store.clone()).before({
                    let is_asked = is_asked.clone();
                    move |call| {
                        let is_read = matches!(call, Call::Read(..));
                        is_asked.fetch_or(is_read, Ordering::SeqCst);
                        async move {
                            match needs_runtime {
                                _ if !is_read => {}
                                true => tokio::time::sleep(Duration::from_secs(3_600)).await,
                                false => pending().await,
                            }
                            Ok(())
                        }
                    }
                });
                let app = App::over(silent).view::<Ledger>().view::<Mirror>();
                let app = app.projection(Rows::default()).start().await.unwrap();
                let view = app.view::<Ledger>().unwrap();
                write(&store, ledger.commit(&[1]));
                comes("a read", || is_asked.load(Ordering::SeqCst));
                let waiting = app.clone();
                let waiting = tokio::spawn(async move { waiting.query(Look).strong().await });
                tokio::task::yield_now().await;
                match is_stop {
                    true => app.stop().await.unwrap(),
                    false => {
                        waiting.abort();
                        let _ = waiting.await;
                        return drop(app);
                    }
                }
                assert_eq!(waiting.await.unwrap().unwrap_err(), QueryError::AppStopped);
                assert_eq!(view.status().state, FollowState::Closed);
            });
        }
    }
}

#[test]
fn a_folder_can_be_opened_again_right_after_its_app_ended() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = HookedLedger::new();
    let mut kept = Vec::new();
    for amount in 1..=20 {
        let app = App::open(folder.path()).unwrap().view::<Ledger>().view::<Mirror>();
        let app = block_on(app.projection(Rows::default()).start()).unwrap();
        let seen = now(app.query(Look).into_future()).unwrap();
        assert_eq!(seen.bookings, amount - 1);
        kept.push(app.view::<Ledger>().unwrap());
        write(app.store(), ledger.commit(&[amount.cast_signed()]));
        match amount % 3 {
            0 => block_on(app.stop()).unwrap(),
            _ => drop(app),
        }
    }
    for (before, view) in (0..).zip(kept) {
        assert_eq!(view.status().state, FollowState::Closed);
        assert_eq!(block_on(view.pause()), Err(ControlError::Closed));
        assert_eq!(block_on(view.step()), Err(ControlError::Closed));
        assert_eq!(block_on(view.resume()), Err(ControlError::Closed));
        assert_eq!(block_on(view.rebuild()), Err(ControlError::Closed));
        // It had what was there at the start. The app may have ended before the commit was folded.
        assert!([before, before + 1].contains(&view.position().get()), "{}", view.position());
    }
}

#[test]
fn calls_that_control_a_view_are_answered_while_its_app_ends() {
    for round in 0..100 {
        let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
        let app = block_on(App::over_store(store.clone()).view::<Ledger>().start()).unwrap();
        let view = app.view::<Ledger>().unwrap();
        thread::scope(|scope| {
            for at in 0..4 {
                let view = &view;
                scope.spawn(move || {
                    loop {
                        let answer = match at {
                            0 => block_on(view.pause()),
                            1 => block_on(view.step()),
                            2 => block_on(view.resume()),
                            _ => block_on(view.rebuild()).map(|()| Position::START),
                        };
                        match answer {
                            Ok(_) | Err(ControlError::NotPaused) => {}
                            Err(ControlError::Closed) => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            for amount in 0..round {
                write(&store, ledger.commit(&[amount]));
            }
            match round % 2 {
                0 => drop(app),
                _ => block_on(app.stop()).unwrap(),
            }
        });
        assert_eq!(view.status().state, FollowState::Closed);
    }
}

#[test]
fn waiting_queries_and_watches_fail_when_the_app_stops() {
    let ledger = HookedLedger::new();
    let app = block_on(App::over(Memory::new()).view::<Ledger>().start()).unwrap();
    write(app.store(), ledger.commit(&[1]));
    block_on(app.query(Look).strong().into_future()).unwrap();
    block_on(app.view::<Ledger>().unwrap().pause()).unwrap();
    write(app.store(), ledger.commit(&[2]));
    let mut asked = pin!(app.query(Look).strong().into_future());
    let mut context = Context::from_waker(Waker::noop());
    assert!(asked.as_mut().poll(&mut context).is_pending());
    let mut watch = app.watch(Look);
    assert_eq!(block_on(watch.next()).unwrap().sum, 1);
    block_on(app.clone().stop()).unwrap();
    assert_eq!(block_on(asked).unwrap_err(), QueryError::AppStopped);
    assert_eq!(block_on(watch.next()).unwrap_err(), QueryError::AppStopped);
    // Queries still get the current state of the view, and a stale answer if they allow one.
    assert_eq!(now(app.query(Look).into_future()).unwrap().sum, 1);
    let stale = now(app.query(Look).strong().or_stale().into_future()).unwrap();
    assert_eq!((stale.sum, stale.stale), (1, Some(Position::new(2))));
    assert!(block_on(app.execute(bank::open("anna")).into_future()).is_err());
    block_on(app.stop()).unwrap();
}

#[test]
fn views_still_answer_after_a_failed_sync() {
    let ledger = HookedLedger::new();
    let rig = Rig::with(SimulatedDisk::new(1), |app| app.view::<Ledger>().view::<Mirror>());
    rig.write(ledger.commit(&[1]).events.remove(0));
    rig.flush();
    block_on(rig.app.query(Look).strong().into_future()).unwrap();
    block_on(rig.app.view::<Mirror>().unwrap().pause()).unwrap();
    rig.write(ledger.commit(&[2]).events.remove(0));
    rig.flush();
    block_on(rig.app.query(Look).strong().into_future()).unwrap();
    rig.write(ledger.commit(&[4]).events.remove(0));
    rig.fail();
    let view = rig.app.view::<Ledger>().unwrap();
    comes("the end of the log", || matches!(view.status().state, FollowState::Ended { .. }));
    assert_eq!(now(rig.app.query(Look).into_future()).unwrap().sum, 3);
    // It is unknown whether the third event is durable.
    let strong = now(rig.app.query(Look).strong().into_future()).unwrap_err();
    assert!(matches!(strong, QueryError::Ended { .. }), "{strong}");
    assert!(matches!(block_on(view.resume()), Err(ControlError::Ended { .. })));
    // A view that is behind folds all events that it can still read.
    let mirror = rig.app.view::<Mirror>().unwrap();
    block_on(mirror.resume()).unwrap();
    comes("an ended view", || matches!(mirror.status().state, FollowState::Ended { .. }));
    assert_eq!(now(rig.app.query(LookInMirror).into_future()).unwrap().sum, 3);
}

#[test]
fn a_log_that_is_closed_ends_its_views() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = HookedLedger::new();
    let log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let app = block_on(App::over(log.clone()).view::<Ledger>().view::<Mirror>().start()).unwrap();
    block_on(app.view::<Mirror>().unwrap().pause()).unwrap();
    write(app.store(), ledger.commit(&[1]));
    block_on(app.query(Look).strong().into_future()).unwrap();
    log.close().unwrap();
    for (view, at) in [(0, 1), (1, 0)] {
        if view == 1 {
            block_on(app.view::<Mirror>().unwrap().resume()).unwrap();
        }
        comes("an ended view", || matches!(app.views()[view].state, FollowState::Ended { .. }));
        // A view may fold events that it can still read, but it does not have to.
        assert!(app.views()[view].position.get() >= at);
    }
    assert_eq!(now(app.query(Look).into_future()).unwrap().sum, 1);
    let strong = now(app.query(Look).strong().into_future()).unwrap_err();
    assert!(matches!(strong, QueryError::Ended { .. }), "{strong}");
}

/// Calls a closure when a gauge is set.
struct Meddler(Arc<dyn Fn(&str) + Send + Sync>);

struct Meddling(String, Arc<dyn Fn(&str) + Send + Sync>);

impl GaugeFn for Meddling {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, _: f64) {
        self.1(&self.0);
    }
}

impl Recorder for Meddler {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Meddling(key.name().to_owned(), self.0.clone())))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Regression: an event arrived after the view had looked for work and before it slept. The view
/// slept for a second without noticing the event.
#[test]
fn a_view_notices_an_event_that_arrives_right_before_it_sleeps() {
    for gauge in ["diptych_stopped", "diptych_lag_positions", "diptych_lag_seconds"] {
        let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
        let is_armed = Arc::new(AtomicBool::new(false));
        let meddler = Meddler(Arc::new({
            let (booked, store) = (Booked { ledger: ledger.0, amount: 1 }, store.clone());
            let is_armed = is_armed.clone();
            move |name| {
                if name == gauge && is_armed.swap(false, Ordering::SeqCst) {
                    use diptych::Event;
                    write(&store, diptych_store::Append::event(booked.encode().unwrap()));
                }
            }
        }));
        let app = App::over_store(store.clone()).view::<Ledger>();
        let app = metrics::with_local_recorder(&meddler, || block_on(app.start())).unwrap();
        let (mut shortest, mut expected) = (Duration::MAX, 0);
        for _ in 0..4 {
            is_armed.store(true, Ordering::SeqCst);
            write(&store, ledger.commit(&[1]));
            let began = Instant::now();
            comes("the second event", || !is_armed.load(Ordering::SeqCst));
            expected += 2;
            comes("all events", || app.view::<Ledger>().unwrap().position().get() == expected);
            shortest = shortest.min(began.elapsed());
        }
        assert!(shortest < Duration::from_millis(700), "{gauge}: {shortest:?}");
    }
}

#[test]
fn dropping_an_app_waits_for_the_event_being_folded() {
    let ledger = HookedLedger::new();
    let (enter, entered) = std::sync::mpsc::channel();
    let is_over = Arc::new(AtomicBool::new(false));
    ledger.set({
        let is_over = is_over.clone();
        let enter = parking_lot::Mutex::new(enter);
        move |moment| {
            if let Moment::Apply(_) = moment {
                let _ = enter.lock().send(());
                comes("the drop has begun", || is_over.load(Ordering::SeqCst));
            }
        }
    });
    let app = block_on(App::over(Memory::new()).view::<Ledger>().start()).unwrap();
    let view = app.view::<Ledger>().unwrap();
    write(app.store(), ledger.commit(&[1]));
    entered.recv().unwrap();
    let dropped = thread::spawn(move || drop(app));
    assert!(!dropped.is_finished());
    is_over.store(true, Ordering::SeqCst);
    dropped.join().unwrap();
    assert_eq!(view.status().state, FollowState::Closed);
}
