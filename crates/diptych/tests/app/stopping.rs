//! Stopping an app: commands in flight, the folder of the log, and failures.

use std::{sync::Arc, task::Poll};

use diptych::{
    App, CommandError, EventStore, ExecuteError, Log, LogOptions, Memory, StopError, Store,
    command::LaneOptions,
};
use diptych_log::{
    Background,
    disk::simulated::{Fault, Operation, SimulatedDisk},
};

use crate::support::{
    bank::{self, deposit, open, withdraw},
    call_hooks::{Moment, around},
    manual_sync::{HeldFuture, Rig, begin, positions, rejected, send},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stopping_waits_for_running_commands() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let app = App::open(folder.path()).unwrap().start().await.unwrap();
        if round == 0 {
            app.execute(open("a")).await.unwrap();
        }
        let before = app.store().head().position().get();
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let app = app.clone();
                tokio::spawn(async move { app.execute(deposit("a", 1)).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let store = app.store().clone();
        app.stop().await.unwrap();
        let head = store.head().position().get();
        let mut committed = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(receipt) => {
                    assert!(receipt.last().get() <= head);
                    committed += 1;
                }
                Err(ExecuteError::Failed(CommandError::Stopped)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(head, before + committed, "a command was written but not answered");
    }
}

/// A future that is kept and not polled holds up a stop only for a limited time.
#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_ever_for_a_future_that_nobody_polls() {
    let rig = Rig::new();
    let mut kept = send(rig.app.execute(open("a")));
    let mut stop = HeldFuture::new(rig.app.clone().stop());
    stop.waits();
    rig.flush();
    stop.waits();
    tokio::time::advance(diptych::AppBuilder::STOP_WITHIN).await;
    let stopped = stop.done();
    assert!(matches!(stopped, Err(StopError::StillRunning { commands: 1 })), "{stopped:?}");
    // Its events are durable, and it learns that when it is polled at last.
    assert_eq!(kept.done().unwrap().events(), 1);
}

/// The test polls each future by hand. The stop lets accepted commands get their answers, and lets
/// waiting commands decide. Later commands fail.
#[tokio::test]
async fn stopping_lets_started_commands_finish() {
    let rig = Rig::new();
    let lane = rig.app.lane_with(LaneOptions { in_flight: 1 });
    let mut accepted = send(rig.app.execute(open("a")));
    let mut first = send(lane.execute(deposit("a", 1)));
    let mut waiting = send(lane.execute(deposit("a", 1)));
    let mut rejection = send(rig.app.execute(open("a")));
    let mut pending = HeldFuture::new(HeldFuture::new(rig.app.execute(open("b")).submit()).done());
    let mut dropped = begin(rig.app.execute(deposit("a", 1)));
    let mut stop = HeldFuture::new(rig.app.clone().stop());
    stop.waits();
    for late in [rig.app.execute(deposit("a", 1)), lane.execute(deposit("a", 1))] {
        let late = begin(late).done();
        assert!(matches!(late, Err(ExecuteError::Failed(CommandError::Stopped))), "{late:?}");
    }
    assert!(
        matches!(dropped.done(), Err(ExecuteError::Failed(CommandError::Stopped))),
        "the command was never polled before the stop"
    );
    rig.flush();
    accepted.done().unwrap();
    first.done().unwrap();
    stop.waits();
    assert_eq!(rejected(rejection.done()), bank::No::AlreadyOpen);
    waiting.waits();
    stop.waits();
    rig.flush();
    assert_eq!(positions(&waiting.done().unwrap()), (4, 4));
    stop.done().unwrap();
    assert_eq!(positions(&pending.done().unwrap()), (3, 3));
    // The app does not own its log, so the log stays open.
    assert!(rig.log.blocking().flush().is_ok());
}

#[tokio::test]
async fn stopping_does_not_wait_for_dropped_commands() {
    let rig = Rig::new();
    let sent = [send(rig.app.execute(open("a"))), send(rig.app.execute(open("a")))];
    let mut stop = HeldFuture::new(rig.app.clone().stop());
    stop.waits();
    drop(sent);
    stop.waits();
    rig.flush();
    stop.done().unwrap();
    assert_eq!(rig.head(), 1, "the accepted commit is durable");
}

/// The commit of a submitted command is durable when the app has stopped, even if its pending
/// answer was dropped.
#[tokio::test]
async fn stopping_waits_for_submitted_commands() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(folder.path()).unwrap().start().await.unwrap();
    let pending = app.execute(open("a")).submit().await;
    drop(app.execute(deposit("a", 5)).submit().await);
    app.stop().await.unwrap();
    assert_eq!(positions(&pending.await.unwrap()), (1, 1));
    let app = App::open(folder.path()).unwrap().start().await.unwrap();
    assert_eq!(app.store().head().position().get(), 2);
}

#[tokio::test]
async fn every_handle_of_a_stopped_app_answers_stopped() {
    let app = App::over(Memory::new()).start().await.unwrap();
    app.execute(open("a")).key("k").await.unwrap();
    let (clone, lane) = (app.clone(), app.lane());
    app.stop().await.unwrap();
    let stopped = |answer: Result<_, ExecuteError<bank::No>>| {
        assert!(matches!(answer, Err(ExecuteError::Failed(CommandError::Stopped))), "{answer:?}");
    };
    stopped(clone.execute(open("b")).await);
    stopped(clone.execute(open("a")).key("k").await);
    stopped(clone.execute(deposit("a", 2_000_000)).await);
    stopped(clone.execute(open("b")).submit().await.await);
    stopped(lane.execute(open("b")).await);
    stopped(lane.execute(open("b")).submit().await.await);
    assert_eq!(clone.store().head().position().get(), 1);
    clone.clone().stop().await.unwrap();
    clone.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_folder_is_free_as_soon_as_its_app_has_stopped() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=20 {
        let app = App::open(folder.path()).unwrap().start().await.unwrap();
        let kept = app.clone();
        app.execute(open(&round.to_string())).await.unwrap();
        app.stop().await.unwrap();
        // A clone of the app and its store still exist.
        assert_eq!(kept.store().head().position().get(), round);
        if round % 2 == 0 {
            kept.stop().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_folder_is_free_as_soon_as_its_app_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=20 {
        let app = App::open(folder.path()).unwrap().start().await.unwrap();
        app.execute(open(&round.to_string())).await.unwrap();
        // This command is in flight, and is dropped before the app or after it.
        let mut sent = begin(app.execute(open(&format!("also {round}"))));
        let _ = sent.poll();
        if round % 2 == 0 {
            drop(app);
            drop(sent);
        } else {
            drop(sent);
            drop(app);
        }
    }
    let app = App::open(folder.path()).unwrap().start().await.unwrap();
    // The close made the accepted commits durable.
    assert_eq!(app.store().head().position().get(), 40);
}

/// Regression: a second stop returned before the first stop had released the folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_of_several_stops_returns_when_the_folder_is_free() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..40 {
        let app = App::open(folder.path()).unwrap().start().await.unwrap();
        app.execute(open(&round.to_string())).await.unwrap();
        let clone = app.clone();
        let first = tokio::spawn(app.stop());
        let second = tokio::spawn(clone.stop());
        let quicker = tokio::select! {
            first = first => first,
            second = second => second,
        };
        quicker.unwrap().unwrap();
        drop(App::open(folder.path()).unwrap());
    }
}

#[tokio::test]
async fn commands_in_flight_of_a_dropped_app_are_answered() {
    let Rig { log, app, .. } = Rig::new();
    let mut opened = send(app.execute(open("a")));
    let mut over = send(app.execute(withdraw("a", 1)));
    let pending = HeldFuture::new(app.execute(deposit("a", 3)).submit()).done();
    let mut pending = HeldFuture::new(pending);
    drop(app);
    log.blocking().flush().unwrap();
    opened.done().unwrap();
    assert_eq!(rejected(over.done()), bank::No::Overdrawn { balance: 0, amount: 1 });
    assert_eq!(positions(&pending.done().unwrap()), (2, 2));
}

#[tokio::test]
async fn stopping_on_a_failed_store_reports_commits_that_are_not_durable() {
    let rig = Rig::new();
    let mut opened = send(rig.app.execute(open("a")));
    rig.flush();
    opened.done().unwrap();
    let mut lost = send(rig.app.execute(deposit("a", 1)));
    rig.fail();
    let mut stop = HeldFuture::new(rig.app.clone().stop());
    stop.waits();
    assert!(matches!(lost.done(), Err(ExecuteError::Failed(CommandError::OutcomeUnknown(_)))));
    assert!(matches!(stop.done(), Err(StopError::NotSynced(_))));
    // A stop of another clone fails too.
    assert!(matches!(rig.app.clone().stop().await, Err(StopError::NotSynced(_))));
    // Here the failed sync held a commit of another writer. All commits of the app are durable.
    let rig = Rig::new();
    let mut opened = send(rig.app.execute(open("a")));
    rig.flush();
    opened.done().unwrap();
    rig.write(diptych::store::RawEvent::new("x", b""));
    rig.fail();
    rig.app.clone().stop().await.unwrap();
}

/// The app opened the log itself, so the stop closes the log. The close reports the failed sync.
#[tokio::test]
async fn stopping_reports_a_failed_close() {
    let disk = SimulatedDisk::new(1);
    let options = LogOptions {
        background: Background::Threads,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    };
    let app = App::open_with("/data/log", options).unwrap().start().await.unwrap();
    app.execute(open("a")).await.unwrap();
    disk.fail_after(0, Fault::Io(Operation::Sync));
    let pending = app.execute(deposit("a", 1)).submit().await;
    let clone = app.clone();
    assert!(matches!(app.stop().await, Err(StopError::NotSynced(_))));
    assert!(matches!(pending.await, Err(ExecuteError::Failed(CommandError::OutcomeUnknown(_)))));
    assert!(matches!(clone.stop().await, Err(StopError::NotSynced(_))));
}

/// The store accepted a commit, but its append has not returned when the app is stopped.
#[tokio::test]
async fn stopping_waits_for_a_commit_whose_append_has_not_returned() {
    let log = Rig::new().log;
    let (sender, gate) = tokio::sync::watch::channel(false);
    let store = around(Store::new(log.clone()), move |moment| {
        let mut gate = gate.clone();
        async move {
            if moment == Moment::AfterAppend {
                gate.wait_for(|open| *open).await.unwrap();
            }
        }
    });
    let app = App::over(store).start().await.unwrap();
    let mut sent = send(app.execute(open("a")));
    let mut stop = HeldFuture::new(app.stop());
    stop.waits();
    log.blocking().flush().unwrap();
    stop.waits();
    sender.send(true).unwrap();
    assert!(matches!(sent.poll(), Poll::Ready(Ok(_))));
    stop.done().unwrap();
    assert_eq!(EventStore::head(&log).position().get(), 1);
}

#[test]
fn an_app_whose_log_was_closed_refuses_commands() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let app = crate::support::manual_sync::now(App::over(log.clone()).start()).unwrap();
    pollster::block_on(app.execute(open("a")).into_future()).unwrap();
    log.close().unwrap();
    let answer = pollster::block_on(app.execute(deposit("a", 1)).into_future());
    assert!(
        matches!(answer, Err(ExecuteError::Failed(CommandError::Unavailable(_)))),
        "{answer:?}"
    );
}
