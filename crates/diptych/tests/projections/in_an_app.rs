//! Projections that an app runs, over a target in memory that can fail.

use std::{thread, time::Duration};

use diptych::{
    App, Memory, Position, Receipt, Store,
    follow::{ControlError, FollowState, FollowerControl, NotYet, Refresh, WaitError},
    poster::Poster,
    projection::Checkpoint,
    store::{Epoch, LogIdentity},
    token::TokenError,
};
use diptych_log::disk::simulated::Random;
use diptych_store::Append;
use pollster::block_on;
use tokio::time::{Instant, advance, pause};

use crate::support::{
    bank,
    distant::DistantStore,
    ledger::{HookedLedger, LookInMirror, Mirror, comes, small, write},
    rows::{Place, Rows, Trouble},
};

const LONG: Duration = Duration::from_secs(30);

fn run(store: &Store, rows: &Rows, refresh: Refresh) -> (App, FollowerControl) {
    let app = App::over_store(store.clone()).view::<Mirror>();
    let app = block_on(app.projection_with(rows.clone(), refresh).start()).unwrap();
    let projection = app.projection("rows").unwrap();
    (app, projection)
}

/// Returns a store with one event per amount, each in its own commit.
fn store(ledger: &HookedLedger, amounts: impl IntoIterator<Item = i64>) -> Store {
    let store = Store::new(Memory::new());
    for amount in amounts {
        write(&store, ledger.commit(&[amount]));
    }
    store
}

fn caught_up(projection: &FollowerControl) -> u64 {
    block_on(projection.caught_up(LONG)).unwrap().get()
}

/// Waits until the projection stops. Returns the position and the reason.
#[track_caller]
fn stopped(projection: &FollowerControl) -> (u64, String) {
    comes("its stop", || matches!(projection.status().state, FollowState::Stopped(_)));
    let FollowState::Stopped(stopped) = projection.status().state else { panic!() };
    let error = block_on(projection.caught_up(LONG)).unwrap_err();
    assert_eq!(error, WaitError::Stopped { follower: "rows".to_owned(), stopped: stopped.clone() });
    assert!(error.to_string().starts_with("rows stopped before position"), "{error}");
    (stopped.at.get(), stopped.reason)
}

#[test]
fn a_projection_stops_when_the_history_of_the_log_changes_and_keeps_its_rows() {
    let (ledger, rows, distant) = (HookedLedger::new(), Rows::default(), DistantStore::new());
    write(&distant.store, ledger.commit(&[1]));
    let (app, projection) = run(&Store::new(distant.connect()), &rows, Refresh::Live);
    assert_eq!(caught_up(&projection), 1);

    let changed = distant.restore();
    write(&distant.store, ledger.commit(&[2]));
    let is_told = || projection.status().state == FollowState::HistoryChanged(changed);
    comes("the projection stops", is_told);
    let error = block_on(projection.caught_up(LONG)).unwrap_err();
    assert_eq!(error, WaitError::HistoryChanged(changed));
    assert_eq!(rows.amounts(), [1], "events of the new history are in the rows");
    block_on(app.stop()).unwrap();
}

/// Rows have an effect outside the process, and a poster has none.
#[tokio::test]
async fn a_poster_runs_no_projection_and_executes_no_command() {
    let (ledger, rows) = (HookedLedger::new(), Rows::default());
    let store = store(&ledger, 1..=3);
    let source = rows.clone();
    let poster = Poster::over_store(store.clone()).view::<Mirror>();
    let poster = poster.with(move |builder| builder.projection(source)).open().await.unwrap();
    assert_eq!(poster.views()[0].position, Position::new(3));
    assert_eq!(poster.read_only_app().projections(), []);
    assert!(rows.0.lock().steps.is_empty());
    let refused = poster.read_only_app().store().append(ledger.commit(&[4])).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("send the command to the application"), "{refused}");
    assert_eq!(store.head().position(), Position::new(3));
}

#[test]
fn existing_events_are_applied_in_pages_and_new_events_as_they_come() {
    let (ledger, rows) = (HookedLedger::new(), Rows::default());
    let store = store(&ledger, 1..=5_000);
    let (app, projection) = run(&store, &rows, Refresh::Live);
    assert_eq!(caught_up(&projection), 5_000);
    assert!(rows.0.lock().steps.len() < 20, "{:?}", rows.0.lock().steps);
    for amount in 5_001..=5_050 {
        let at = write(&store, ledger.commit(&[amount]));
        assert_eq!(caught_up(&projection), at.get());
        assert_eq!(rows.0.lock().position(), at);
    }
    assert_eq!(rows.amounts(), (1..=5_050).collect::<Vec<_>>());
    let status = projection.status();
    assert_eq!((status.name.as_str(), status.events, status.lag.positions), ("rows", 5_050, 0));
    comes("rest", || projection.status().state == FollowState::Live);
    assert_eq!(app.projections(), [projection.status()]);
    block_on(app.stop()).unwrap();
    // A second run applies no event twice.
    let (_app, projection) = run(&store, &rows, Refresh::Live);
    assert_eq!((caught_up(&projection), projection.status().events), (5_050, 0));
    assert_eq!(rows.amounts().len(), 5_050);
}

#[test]
fn events_of_other_types_move_the_checkpoint_rarely_and_at_the_end() {
    for begins_with_one in [true, false] {
        let (ledger, rows) = (HookedLedger::new(), Rows::default());
        let store = store(&ledger, begins_with_one.then_some(7));
        let (app, projection) = run(&store, &rows, Refresh::Live);
        let first = caught_up(&projection);
        for _ in 0..50 {
            let at = write(&store, Append::event(ledger.remark()));
            assert_eq!(caught_up(&projection), at.get());
        }
        assert_eq!(rows.0.lock().position().get(), first);
        assert_eq!(projection.status().position.get(), first + 50);
        block_on(app.stop()).unwrap();
        assert_eq!(rows.0.lock().position().get(), first + 50);

        let (app, projection) = run(&store, &rows, Refresh::Live);
        for _ in 0..20 {
            write(&store, Append::events(vec![ledger.remark(); 1_000]));
            caught_up(&projection);
        }
        let stored = rows.0.lock().position().get();
        assert!(stored > first + 16_000, "{stored}");
        assert!(rows.0.lock().steps.len() <= 4, "{:?}", rows.0.lock().steps);
        // Dropping the app stores the checkpoint as well.
        drop(app);
        assert_eq!(rows.0.lock().position().get(), first + 20_050);
        assert_eq!(rows.amounts().len() as u64, first);
    }
}

#[test]
fn a_projection_stops_before_a_refused_event_and_resumes_after_a_fix() {
    for refused in [1, 2, 7, 10] {
        let (ledger, rows) = (HookedLedger::new(), Rows::default());
        rows.0.lock().refused = vec![refused];
        let store = Store::new(Memory::new());
        write(&store, ledger.commit(&[1]));
        write(&store, ledger.commit(&(2..=10).collect::<Vec<_>>()));
        let (app, projection) = run(&store, &rows, Refresh::Live);
        let (at, reason) = stopped(&projection);
        assert_eq!(at, refused.cast_unsigned());
        assert!(reason.contains("was refused: not this one"), "{reason}");
        assert_eq!(rows.amounts(), (1..refused).collect::<Vec<_>>());
        let status = projection.status();
        assert_eq!((status.position.get(), status.events), (at - 1, at - 1));
        assert_eq!(block_on(projection.pause()).unwrap_err().to_string(), {
            let FollowState::Stopped(stopped) = status.state else { panic!() };
            stopped.to_string()
        });
        // Views and commands are not affected.
        block_on(app.query(LookInMirror).strong().into_future()).unwrap();
        block_on(app.execute(bank::open("anna")).into_future()).unwrap();

        rows.0.lock().refused.clear();
        block_on(projection.resume()).unwrap();
        assert_eq!(caught_up(&projection), 11);
        assert_eq!(rows.amounts(), (1..=10).collect::<Vec<_>>());
        assert_eq!(projection.status().events, 10);
    }
}

#[test]
fn several_runners_of_one_projection_apply_each_event_once() {
    let mut random = Random::new(5);
    for round in 0..10 {
        let (ledger, rows) = (HookedLedger::new(), Rows::default());
        let store = Store::new(small(10, 100));
        let runs: Vec<_> = (0..3).map(|_| run(&store, &rows, Refresh::Live)).collect();
        let mut next = 0;
        while next < 1_000 {
            let some: Vec<_> = (next..next + 1 + random.below(20) as i64).collect();
            next += some.len() as i64;
            write(&store, ledger.commit(&some));
            let projection = &runs[random.below(3) as usize].1;
            match random.below(30) {
                // This rebuilds in every second round only, because each rebuild applies all events
                // again.
                0 if round % 2 == 0 => block_on(projection.rebuild()).unwrap(),
                1 => drop(block_on(projection.pause())),
                2 | 3 => drop(block_on(projection.resume())),
                _ => {}
            }
        }
        for (_, projection) in &runs {
            block_on(projection.resume()).unwrap();
        }
        comes("all rows", || rows.0.lock().rows.len() as i64 == next);
        assert_eq!(rows.amounts(), (0..next).collect::<Vec<_>>());
        for (_, projection) in &runs {
            comes("all of them", || caught_up(projection) == next.cast_unsigned());
            assert!(!matches!(projection.status().state, FollowState::Stopped(_)));
        }
    }
}

#[test]
fn rows_of_another_log_are_not_changed_before_a_rebuild() {
    let ledger = HookedLedger::new();
    let store = store(&ledger, 1..=5);
    let log = store.identity();
    let later = LogIdentity { epoch: Epoch::next(log.epoch), ..log };
    let cases = [
        (LogIdentity::random(), 3, "the rows are of log"),
        (later, 3, "the rows are of epoch"),
        (log, 6, "and the log ends at 5"),
    ];
    for (log, position, message) in cases {
        let rows = Rows::default();
        let found = Some(Checkpoint { log, position: Position::new(position), checksum: None });
        rows.0.lock().checkpoint = found;
        let (_app, projection) = run(&store, &rows, Refresh::Live);
        let (at, reason) = stopped(&projection);
        assert_eq!(at, 1);
        assert!(reason.contains(message), "{reason}");
        let again = block_on(projection.resume()).unwrap_err().to_string();
        assert!(again.contains(message), "{again}");
        assert_eq!(stopped(&projection), (at, reason));
        assert_eq!((rows.amounts(), rows.0.lock().checkpoint), (vec![], found));
        block_on(projection.rebuild()).unwrap();
        assert_eq!(caught_up(&projection), 5);
        assert_eq!(rows.amounts(), [1, 2, 3, 4, 5]);
    }
}

#[test]
fn a_target_that_is_replaced_during_a_run_is_noticed() {
    let (ledger, rows) = (HookedLedger::new(), Rows::default());
    let store = store(&ledger, 1..=5);
    let (_app, projection) = run(&store, &rows, Refresh::Live);
    caught_up(&projection);
    // Another program empties the target.
    *rows.0.lock() = Place::default();
    write(&store, ledger.commit(&[6]));
    comes("all rows", || rows.amounts() == [1, 2, 3, 4, 5, 6]);
    // Another program stores the checkpoint of another log.
    let (log, position) = (LogIdentity::random(), Position::new(2));
    rows.0.lock().checkpoint = Some(Checkpoint { log, position, checksum: None });
    write(&store, ledger.commit(&[7]));
    let (at, reason) = stopped(&projection);
    assert_eq!(at, 7);
    assert!(reason.contains("the rows are of log"), "{reason}");
}

#[tokio::test]
async fn an_unavailable_target_is_retried_after_growing_waits() {
    for at_first in [true, false] {
        let (ledger, rows) = (HookedLedger::new(), Rows::default());
        let store = store(&ledger, 1..=5);
        // The first call reads the checkpoint.
        let ready = if at_first { 0 } else { 1 };
        let trouble = [&[Trouble::None; 1][..ready], &[Trouble::Unavailable; 6]].concat();
        rows.next(&trouble);
        pause();
        let began = Instant::now();
        let (_app, projection) = run(&store, &rows, Refresh::Live);
        comes("a stall", || matches!(projection.status().state, FollowState::Stalled { .. }));
        let FollowState::Stalled { reason } = projection.status().state else { panic!() };
        assert!(reason.contains("the place is away; it can be tried again"), "{reason}");
        let (mut calls, mut times) = (0, Vec::new());
        while rows.amounts().is_empty() {
            let now = rows.0.lock().calls;
            times.extend((calls..now).map(|_| began.elapsed()));
            calls = now;
            // The real sleep lets the follower thread keep up with the paused clock.
            thread::sleep(Duration::from_millis(1));
            advance(Duration::from_millis(1)).await;
        }
        let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).skip(ready).collect();
        let least = [10, 20, 40, 80, 160].map(Duration::from_millis);
        assert!(waits.len() >= least.len(), "{times:?}");
        let is_enough = waits.iter().zip(least).all(|(wait, least)| {
            // The test may observe a call some steps late.
            *wait + Duration::from_millis(3) >= least
        });
        assert!(is_enough, "{times:?}");
        comes("its rest", || projection.status().state == FollowState::Live);
        assert_eq!(rows.amounts(), [1, 2, 3, 4, 5]);
        tokio::time::resume();
    }
}

#[test]
fn a_broken_or_panicking_target_stops_the_projection_until_it_is_fixed() {
    let troubles =
        [(Trouble::Broken, "the place is broken"), (Trouble::Panics, "it panicked: the")];
    for (trouble, message) in troubles {
        let (ledger, rows) = (HookedLedger::new(), Rows::default());
        rows.next(&[trouble]);
        let store = store(&ledger, 1..=5);
        let (_app, projection) = run(&store, &rows, Refresh::Live);
        let (at, reason) = stopped(&projection);
        assert!(at == 1 && reason.contains(message), "{reason}");
        block_on(projection.resume()).unwrap();
        assert_eq!(caught_up(&projection), 5);
        rows.next(&[trouble]);
        write(&store, ledger.commit(&[6, 7]));
        let (at, reason) = stopped(&projection);
        assert!(at == 6 && reason.contains(message), "{reason}");
        assert_eq!(rows.amounts(), [1, 2, 3, 4, 5]);
        // A reset fails with the same error.
        rows.next(&[trouble]);
        let error = block_on(projection.rebuild()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(rows.amounts(), [1, 2, 3, 4, 5]);
        block_on(projection.rebuild()).unwrap();
        assert_eq!(caught_up(&projection), 7);
        assert_eq!(rows.amounts(), [1, 2, 3, 4, 5, 6, 7]);
    }
}

#[test]
fn a_rebuild_starts_anew_in_any_state() {
    let (ledger, rows) = (HookedLedger::new(), Rows::default());
    let store = store(&ledger, 1..=5);
    let (_app, projection) = run(&store, &rows, Refresh::Live);
    for is_paused in [false, true] {
        caught_up(&projection);
        if is_paused {
            block_on(projection.pause()).unwrap();
        }
        block_on(projection.rebuild()).unwrap();
        assert_eq!(caught_up(&projection), 5);
        assert_eq!(rows.amounts(), [1, 2, 3, 4, 5]);
    }
    // After a rebuild, `caught_up` waits again for a position that was reached before.
    block_on(projection.pause()).unwrap();
    rows.next(&[Trouble::None, Trouble::Unavailable, Trouble::Unavailable]);
    block_on(projection.rebuild()).unwrap();
    assert_eq!(caught_up(&projection), 5);
    assert_eq!((rows.amounts().len(), rows.0.lock().resets), (5, 3));
    assert_eq!(projection.status().events, 20);
}

#[test]
fn a_paused_projection_steps_one_event_or_reports_the_failure() {
    let (ledger, rows) = (HookedLedger::new(), Rows::default());
    let store = Store::new(Memory::new());
    let (_app, projection) = run(&store, &rows, Refresh::Live);
    assert_eq!(block_on(projection.step()), Err(ControlError::NotPaused));
    block_on(projection.pause()).unwrap();
    for amount in 1..=3 {
        write(&store, Append::events(vec![ledger.remark(); 3]));
        write(&store, ledger.commit(&[amount, amount * 10]));
    }
    // Regression: a step with a stall was reported as an applied event, and it ended the pause.
    rows.next(&[Trouble::Unavailable]);
    let error = block_on(projection.step()).unwrap_err();
    assert!(matches!(&error, ControlError::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains("the place is away"), "{error}");
    assert_eq!((projection.status().state, rows.amounts()), (FollowState::Paused, vec![]));
    let mut amounts = Vec::new();
    for (at, amount) in [(4, 1), (5, 10), (9, 2), (10, 20), (14, 3), (15, 30)] {
        assert_eq!(block_on(projection.step()).unwrap(), Position::new(at));
        amounts.push(amount);
        assert_eq!((rows.amounts(), projection.status().position.get()), (amounts.clone(), at));
    }
    // A step without an event of the projection moves to the head and does not fail.
    write(&store, Append::event(ledger.remark()));
    assert_eq!(block_on(projection.step()).unwrap(), Position::new(16));
    assert_eq!(block_on(projection.step()).unwrap(), Position::new(16));
    assert_eq!(projection.status().state, FollowState::Paused);
    let late = block_on(projection.caught_up(LONG)).unwrap();
    assert_eq!(late.get(), 16);
}

#[tokio::test]
async fn the_refresh_option_decides_when_events_are_applied() {
    let (ledger, demanded, timed) = (HookedLedger::new(), Rows::default(), Rows::default());
    let store = store(&ledger, [1]);
    pause();
    let (_app, projection) = run(&store, &demanded, Refresh::OnDemand);
    let every = Refresh::Every(Duration::from_millis(40));
    let (_other, clocked) = run(&store, &timed, every);
    // Both projections apply the existing event at the start.
    comes("a row", || demanded.amounts() == [1] && timed.amounts() == [1]);
    comes("rest", || clocked.status().state == FollowState::Live);
    comes("rest", || projection.status().state == FollowState::Live);
    for amount in 2..=4 {
        write(&store, ledger.commit(&[amount]));
        let so_far: Vec<_> = (1..amount).collect();
        comes("its rest", || projection.status().state == FollowState::Resting);
        comes("its rest", || clocked.status().state == FollowState::Resting);
        assert_eq!((demanded.amounts(), timed.amounts()), (so_far.clone(), so_far.clone()));
        projection.refresh().await.unwrap();
        comes("a row", || demanded.amounts().len() as i64 == amount);
        // The timed projection wakes every 40 ms.
        advance(Duration::from_millis(39)).await;
        assert_eq!(timed.amounts(), so_far);
        advance(Duration::from_millis(2)).await;
        comes("a row", || timed.amounts().len() as i64 == amount);
        comes("rest", || clocked.status().state == FollowState::Live);
        comes("rest", || projection.status().state == FollowState::Live);
    }
    write(&store, ledger.commit(&[5]));
    let (need, have, within) = (Position::new(5), Position::new(4), Duration::from_secs(9));
    let late = projection.caught_up(within).await.unwrap_err();
    assert_eq!(late, WaitError::NotYet(NotYet { need, have, within }));
}

#[test]
fn a_projection_can_be_awaited_after_a_receipt() {
    let (ledger, rows) = (HookedLedger::new(), Rows::default());
    let store = Store::new(Memory::new());
    let (app, projection) = run(&store, &rows, Refresh::Live);
    let opened: Receipt = block_on(app.execute(bank::open("anna")).into_future()).unwrap();
    write(&store, ledger.commit(&[1]));
    assert!(block_on(projection.after(&opened, LONG)).unwrap() >= opened.last());
    let (there, _) = run(&Store::new(Memory::new()), &Rows::default(), Refresh::Live);
    let foreign = block_on(there.execute(bank::open("eve")).into_future()).unwrap();
    let refused = block_on(projection.after(&foreign, LONG)).unwrap_err();
    assert!(matches!(refused, WaitError::Token(TokenError::OtherLog { .. })), "{refused}");
    block_on(app.stop()).unwrap();
    assert_eq!(projection.status().state, FollowState::Closed);
    assert_eq!(block_on(projection.resume()), Err(ControlError::Closed));
    // The rows hold all events that the app saw. The log may hold later events.
    assert_eq!(block_on(projection.caught_up(LONG)), Err(WaitError::AppStopped));
    write(&store, ledger.commit(&[2]));
    assert_eq!(block_on(projection.caught_up(LONG)), Err(WaitError::AppStopped));
}

/// Projections share reads with views. A projection must not depend on the position of a view.
#[test]
fn a_projection_beside_a_paused_view_reads_for_itself() {
    let (ledger, rows) = (HookedLedger::new(), Rows::default());
    let store = Store::new(small(50, 100));
    let app = App::over_store(store.clone()).view::<Mirror>().projection(rows.clone());
    let app = block_on(app.start()).unwrap();
    let (view, projection) = (app.view::<Mirror>().unwrap(), app.projection("rows").unwrap());
    for round in 0..30 {
        match round % 3 {
            0 => drop(block_on(view.pause()).unwrap()),
            1 => drop(block_on(view.resume()).unwrap()),
            _ => drop(block_on(view.step())),
        }
        write(&store, ledger.commit(&[round, -round, 1]));
        caught_up(&projection);
    }
    block_on(view.resume()).unwrap();
    let seen = block_on(app.query(LookInMirror).strong().into_future()).unwrap();
    let rows = rows.amounts();
    assert_eq!((seen.bookings, seen.sum, rows.len()), (90, 30, 90));
    assert_eq!(rows.iter().sum::<i64>(), 30);
}
