//! The two copies of a view. No reader sees part of a commit, and no reader goes back to an older
//! position. Folding continues during a long query. The number of copies stays within its limit.

use std::{
    ops::Deref,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use diptych::{
    App, Memory, Position, Query, QueryError, Store, digest,
    follow::FollowState,
    store::{Limits, TimeSource},
    view::ViewOptions,
};
use diptych_log::disk::simulated::Random;
use parking_lot::Mutex;
use pollster::block_on;

use crate::support::{
    ledger::{HookedLedger, Ledger, Look, Mirror, Moment, Totals, comes, small, write, write_at},
    manual_sync::now,
    view_digest::view_digest,
};

/// Random amounts of one commit. The last amount makes their sum zero.
fn balanced(random: &mut Random, most: u64) -> Vec<i64> {
    let some = 1 + random.below(most - 1);
    let mut amounts: Vec<_> = (0..some).map(|_| random.below(100) as i64 + 1).collect();
    amounts.push(-amounts.iter().sum::<i64>());
    amounts
}

#[test]
fn readers_beside_a_writer_see_whole_commits_and_never_go_back() {
    const COMMITS: usize = 4_000;
    let (ledger, mut random) = (HookedLedger::new(), Random::new(1));
    let app = block_on(App::over(Memory::new()).view::<Ledger>().start()).unwrap();
    let commits: Vec<_> = (0..COMMITS).map(|_| balanced(&mut random, 5)).collect();
    let totals = Totals::after_each(commits.iter().flatten().copied());
    let end = Position::new(totals.len() as u64 - 1);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (mut last, mut states) = (Position::START, 0);
                while last < end {
                    let answer = now(app.query(Look).into_future()).unwrap();
                    assert!(answer.position >= last, "{} after {last}", answer.position);
                    states += u64::from(answer.position > last);
                    last = answer.position;
                    assert_eq!(answer.value.sum, 0, "a reader saw part of a commit at {last}");
                    assert_eq!(answer.value, totals[last.get() as usize], "at {last}");
                }
                states
            });
        }
        for commit in &commits {
            write(app.store(), ledger.commit(commit));
        }
    });
    block_on(app.stop()).unwrap();
}

/// Queries the view at each event that it folds. Returns the totals of these queries and the totals
/// at the end. Each state that the view shows is seen at the next event, except the last state.
fn shown_while_catching_up(
    memory: Memory,
    commits: &[Vec<i64>],
    time: impl Fn(usize) -> i64,
) -> (Vec<Totals>, Totals) {
    let (ledger, store) = (HookedLedger::new(), Store::new(memory.time(TimeSource::Caller)));
    let app = block_on(App::over_store(store.clone()).view::<Ledger>().start()).unwrap();
    let view = app.view::<Ledger>().unwrap();
    block_on(view.pause()).unwrap();
    for (at, commit) in commits.iter().enumerate() {
        let mut append = ledger.commit(commit);
        // A remark, which the view does not read, stands among the bookings.
        append.events.insert(at % append.events.len(), ledger.remark());
        write_at(&store, append, time(at));
    }
    let shown = Arc::new(Mutex::new(Vec::new()));
    ledger.set({
        let (app, shown) = (app.clone(), shown.clone());
        move |moment| {
            if let Moment::Apply(_) = moment {
                shown.lock().push(now(app.query(Look).into_future()).unwrap().value);
            }
        }
    });
    block_on(view.resume()).unwrap();
    let last = block_on(app.query(Look).strong().into_future()).unwrap().value;
    let status = view.status();
    assert_eq!(status.events, commits.iter().map(Vec::len).sum::<usize>() as u64);
    ledger.clear();
    block_on(app.stop()).unwrap();
    let shown = std::mem::take(&mut *shown.lock());
    (shown, last)
}

/// A page must end where a commit ends. The log does not mark the end of a commit. It only
/// guarantees that all events of a commit have one `recorded_at`.
#[test]
fn catching_up_never_shows_part_of_a_commit_whatever_the_clock_does() {
    type Clock = fn(usize) -> i64;
    // The number is the minimum count of different states that the queries must see.
    let clocks: [(&str, Clock, usize); 5] = [
        ("stands still", |_| 7, 1),
        ("moves", |at| at as i64, 20),
        ("moves now and then", |at| (at / 40) as i64, 5),
        ("moves once", |at| i64::from(at > 150), 1),
        ("stands still, then moves", |at| at.saturating_sub(250) as i64, 5),
    ];
    let mut random = Random::new(2);
    let commits: Vec<_> = (0..300).map(|_| balanced(&mut random, 7)).collect();
    let totals = Totals::after_each(commits.iter().flatten().copied());
    for (clock, time, states) in clocks {
        for batch_events in [1, 3, 7, 64] {
            let memory = small(batch_events, 9);
            let (mut shown, last) = shown_while_catching_up(memory, &commits, time);
            assert_eq!(last, totals[totals.len() - 1], "{clock}, {batch_events}");
            let half = shown.iter().find(|shown| shown.sum != 0);
            assert_eq!(half, None, "part of a commit: clock {clock}, batches of {batch_events}");
            assert!(shown.iter().all(|shown| *shown == totals[shown.bookings as usize]));
            shown.dedup();
            assert!(shown.len() >= states, "{clock}, {batch_events}: {} states", shown.len());
        }
    }
}

#[test]
fn a_commit_that_is_larger_than_a_page_or_a_batch_is_shown_whole() {
    let mut random = Random::new(3);
    let mut commits: Vec<_> = (0..20).map(|_| balanced(&mut random, 7)).collect();
    for at in [18, 10, 0] {
        commits.insert(at, balanced(&mut random, 9_000));
    }
    let mut limits = Limits::default();
    // A batch holds about a dozen events.
    limits.batch_bytes = 1_000;
    let memories = [Memory::new(), Memory::new().limits(limits)];
    for memory in memories {
        let (shown, last) = shown_while_catching_up(memory, &commits, |at| at as i64 / 2);
        assert_eq!(last.sum, 0);
        assert_eq!(shown.iter().find(|shown| shown.sum != 0), None);
    }
}

#[test]
fn a_rebuilt_copy_replaces_the_shown_one_when_it_is_as_far() {
    let (ledger, store) = (HookedLedger::new(), Store::new(small(7, 9)));
    for amount in 1..=500 {
        write(&store, ledger.commit(&[amount, -amount]));
    }
    let app = App::over_store(store.clone()).view::<Ledger>().view::<Mirror>();
    let app = block_on(app.start()).unwrap();
    let view = app.view::<Ledger>().unwrap();
    let before = block_on(view_digest::<Ledger>(&app));
    let shown = Arc::new(Mutex::new(Vec::new()));
    ledger.set({
        let (app, shown) = (app.clone(), shown.clone());
        move |moment| {
            if let Moment::Apply(_) = moment {
                let answer = now(app.query(Look).into_future()).unwrap();
                shown.lock().push((answer.position, answer.value.bookings));
            }
        }
    });
    block_on(view.rebuild()).unwrap();
    comes("the rebuilt view", || view.status().events >= 2_000);
    assert_eq!(block_on(view_digest::<Ledger>(&app)), before);
    write(&store, ledger.commit(&[4, -4]));
    let last = block_on(app.query(Look).strong().into_future()).unwrap();
    let shown = std::mem::take(&mut *shown.lock());
    let other = shown.iter().find(|(at, bookings)| *bookings < 1_000 || *bookings != at.get());
    assert!(shown.len() >= 1_002);
    assert_eq!(other, None);
    assert_eq!(last.bookings, 1_002);
    assert!(view.status().memory.unwrap().copies <= 2, "{:?}", view.status().memory);
}

/// A query that runs until the test drops the sender of `end`.
struct Long {
    began: mpsc::SyncSender<()>,
    end: Mutex<mpsc::Receiver<()>>,
}

impl Query for Long {
    type View = Ledger;
    type Answer = Totals;

    fn answer(&self, ledger: &Ledger) -> Totals {
        self.began.send(()).unwrap();
        // If the test fails, the sender is dropped too. The query then ends without a panic.
        let _ = self.end.lock().recv();
        ledger.totals
    }
}

#[test]
fn folding_continues_during_long_queries_until_the_copies_run_out() {
    for copies in [0, 2, 3, 5] {
        let (ledger, most) = (HookedLedger::new(), copies.max(2));
        let app = App::over(Memory::new())
            .view_with::<Ledger>(ViewOptions { copies, ..ViewOptions::default() });
        let app = block_on(app.start()).unwrap();
        let view = app.view::<Ledger>().unwrap();
        thread::scope(|scope| {
            let mut ends = Vec::new();
            // Each query holds a copy at a different position.
            for amount in 0..most as i64 {
                let (began, has_begun) = mpsc::sync_channel(1);
                let (end, until) = mpsc::channel();
                let query = Long { began, end: Mutex::new(until) };
                let held = view.position();
                let app = &app;
                let totals = scope.spawn(move || block_on(app.query(query).into_future()).unwrap());
                has_begun.recv().unwrap();
                ends.push((end, totals, held));
                let at = write(app.store(), ledger.commit(&[amount]));
                if amount + 1 < most as i64 {
                    block_on(app.query(Look).strong().into_future()).unwrap();
                    assert_eq!(view.position(), at);
                    assert_eq!(view.status().memory.unwrap().copies, amount as usize + 2);
                }
            }
            let is_stalled = || matches!(view.status().state, FollowState::Stalled { .. });
            comes("a view without a copy", is_stalled);
            assert_eq!(
                (view.status().memory.unwrap().copies, view.position().get()),
                (most, most as u64 - 1)
            );
            assert_eq!(view.status().lag.positions, 1);
            // Queries of the shown state are still answered.
            assert_eq!(now(app.query(Look).into_future()).unwrap().bookings, most as u64 - 1);
            ends.reverse();
            let (end, totals, held) = ends.pop().unwrap();
            drop(end);
            assert_eq!(totals.join().unwrap().position, held);
            if most > 2 {
                block_on(app.query(Look).strong().into_future()).unwrap();
            }
            for (end, totals, held) in ends {
                drop(end);
                let answer = totals.join().unwrap();
                assert_eq!((answer.position, answer.bookings), (held, held.get()));
            }
        });
        write(app.store(), ledger.commit(&[1]));
        assert_eq!(
            block_on(app.query(Look).strong().into_future()).unwrap().bookings,
            most as u64 + 1
        );
        comes("a view that is live", || view.status().state == FollowState::Live);
        assert!(view.status().memory.unwrap().copies <= most);
    }
}

struct Broken;

impl Query for Broken {
    type View = Ledger;
    type Answer = ();

    fn answer(&self, _: &Ledger) {
        panic!("this cannot be answered");
    }
}

#[test]
fn a_query_that_panics_affects_no_other_query() {
    let ledger = HookedLedger::new();
    let app = block_on(App::over(Memory::new()).view::<Ledger>().start()).unwrap();
    for amount in 1..=50 {
        write(app.store(), ledger.commit(&[amount]));
        let broken = block_on(app.query(Broken).strong().into_future()).unwrap_err();
        let QueryError::Panicked(panicked) = &broken else { panic!("{broken}") };
        assert_eq!(panicked.message, "this cannot be answered");
        let answer = block_on(app.query(Look).strong().into_future()).unwrap();
        assert_eq!(answer.bookings, amount.cast_unsigned());
    }
    let status = app.view::<Ledger>().unwrap().status();
    assert!(status.memory.unwrap().copies <= 2, "{status:?}");
}

#[test]
fn the_digest_belongs_to_the_position_returned_with_it() {
    let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
    let app = App::over_store(store.clone()).view::<Mirror>();
    let app = block_on(app.start()).unwrap();
    let totals = Totals::after_each((1..=2_000).map(i64::from));
    thread::scope(|scope| {
        scope.spawn(|| {
            for amount in 1..=2_000 {
                write(&store, ledger.commit(&[amount]));
            }
        });
        loop {
            let (position, found) = block_on(view_digest::<Mirror>(&app));
            let expected = digest(&Mirror(totals[position.get() as usize])).unwrap();
            assert_eq!(found, expected, "at {position}");
            if position.get() == 2_000 {
                break;
            }
        }
    });
}

/// Regression: the query computed a deadline that no clock can represent, and panicked.
#[tokio::test]
async fn a_query_may_wait_for_ever() {
    let ledger = HookedLedger::new();
    let app = App::over(Memory::new()).view::<Ledger>().start().await.unwrap();
    let view = app.view::<Ledger>().unwrap();
    view.pause().await.unwrap();
    write(app.store(), ledger.commit(&[5]));
    let asked = app.query(Look).strong().within(Duration::MAX).into_future();
    let (answer, resumed) = tokio::join!(asked, view.resume());
    resumed.unwrap();
    assert_eq!(answer.unwrap().deref().sum, 5);
}
