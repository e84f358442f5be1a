//! Live queries. A watch returns the first answer and then each changed answer. A slow caller gets
//! the latest answer. A watch can continue from a position or a token.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use diptych::{
    Answer, App, Memory, Position, Query, QueryError, Store, follow::FollowState, query::Watch,
    token::TokenError,
};
use diptych_log::disk::simulated::Random;
use diptych_store::Append;
use pollster::block_on;

use crate::support::ledger::{HookedLedger, Ledger, Look, Mirror, Moment, Totals, comes, write};

/// The sum in hundreds. Only some bookings change this answer.
#[derive(Clone, Copy)]
struct Hundreds;

impl Query for Hundreds {
    type View = Ledger;
    type Answer = i64;

    fn answer(&self, ledger: &Ledger) -> i64 {
        assert!(ledger.totals.sum != 666, "not this number");
        ledger.totals.sum / 100
    }
}

fn start() -> (HookedLedger, App) {
    let app = App::over_store(Store::new(Memory::new())).view::<Ledger>().view::<Mirror>();
    (HookedLedger::new(), block_on(app.start()).unwrap())
}

/// Writes a booking and waits until the view has folded it.
fn book(app: &App, ledger: &HookedLedger, amount: i64) -> Position {
    let at = write(app.store(), ledger.commit(&[amount]));
    block_on(app.query(Look).strong().into_future()).unwrap();
    at
}

/// Polls the watch once. Returns a changed answer if one is ready.
fn poll<Q>(watch: &mut Watch<Q>) -> Option<Result<Answer<Q::Answer>, QueryError>>
where
    Q: Query<Answer: Clone + PartialEq>,
{
    match pin!(watch.next()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[test]
fn a_watch_returns_the_first_answer_and_then_each_changed_one() {
    let (ledger, app) = start();
    let mut watch = app.watch(Hundreds);
    let first = block_on(watch.next()).unwrap();
    assert_eq!((first.value, first.position, first.stale), (0, Position::START, None));
    for _ in 0..3 {
        assert!(poll(&mut watch).is_none());
    }
    for amount in [50, 49] {
        book(&app, &ledger, amount);
        assert!(poll(&mut watch).is_none(), "an unchanged answer was returned again");
    }
    let at = book(&app, &ledger, 1);
    let next = poll(&mut watch).unwrap().unwrap();
    assert_eq!((next.value, next.position), (1, at));
    // The view does not read remarks, so its answer does not change.
    write(app.store(), Append::event(ledger.remark()));
    block_on(app.query(Look).strong().into_future()).unwrap();
    assert!(poll(&mut watch).is_none());
    // The answer changes and changes back between two polls, so the watch has nothing to return.
    book(&app, &ledger, 100);
    book(&app, &ledger, -100);
    assert!(poll(&mut watch).is_none());
    // A slow caller gets only the latest answer.
    for _ in 0..5 {
        book(&app, &ledger, 100);
    }
    let next = poll(&mut watch).unwrap().unwrap();
    assert_eq!((next.value, next.position), (6, app.head()));
    assert!(poll(&mut watch).is_none());
}

#[test]
fn a_watch_continues_from_a_received_position() {
    let (ledger, app) = start();
    for _ in 0..3 {
        book(&app, &ledger, 100);
    }
    let mut behind = app.watch(Hundreds).from(Position::new(2));
    assert_eq!(poll(&mut behind).unwrap().unwrap().position.get(), 3);
    let mut here = app.watch(Hundreds).from(Position::new(3));
    assert_eq!(poll(&mut here).unwrap().unwrap().value, 3);
    // The view has not reached position 5, as on a slower replica, so the watch waits.
    let mut ahead = app.watch(Hundreds).from(Position::new(5));
    assert!(poll(&mut ahead).is_none());
    book(&app, &ledger, 100);
    assert!(poll(&mut ahead).is_none());
    book(&app, &ledger, 0);
    let first = poll(&mut ahead).unwrap().unwrap();
    assert_eq!((first.value, first.position.get()), (4, 5));
}

#[test]
fn a_watch_waits_for_a_paused_view_and_reports_a_stopped_one() {
    let (ledger, app) = start();
    let view = app.view::<Ledger>().unwrap();
    let mut watch = app.watch(Hundreds);
    assert_eq!(poll(&mut watch).unwrap().unwrap().value, 0);
    block_on(view.pause()).unwrap();
    write(app.store(), ledger.commit(&[100]));
    write(app.store(), ledger.commit(&[100]));
    assert!(poll(&mut watch).is_none());
    block_on(view.step()).unwrap();
    assert_eq!(poll(&mut watch).unwrap().unwrap().value, 1);
    block_on(view.resume()).unwrap();
    assert_eq!(block_on(watch.next()).unwrap().value, 2);

    ledger.set(|moment| {
        if let Moment::Apply(booked) = moment {
            assert!(booked.amount != 500, "too much");
        }
    });
    write(app.store(), ledger.commit(&[100]));
    write(app.store(), ledger.commit(&[500]));
    comes("a stop", || matches!(view.status().state, FollowState::Stopped(_)));
    // The watch returns the answer before the stop first.
    assert_eq!(poll(&mut watch).unwrap().unwrap().value, 3);
    for _ in 0..2 {
        let error = poll(&mut watch).unwrap().unwrap_err();
        assert!(matches!(error, QueryError::Stopped { .. }), "{error}");
    }
    ledger.clear();
    block_on(view.resume()).unwrap();
    assert_eq!(block_on(watch.next()).unwrap().value, 8);
    // A rebuild gives the same answer, so the watch has nothing to return.
    block_on(view.rebuild()).unwrap();
    book(&app, &ledger, 0);
    assert!(poll(&mut watch).is_none());
    block_on(app.stop()).unwrap();
    assert_eq!(poll(&mut watch).unwrap().unwrap_err(), QueryError::AppStopped);
}

#[test]
fn a_watch_reports_a_panic_and_then_returns_the_next_answer() {
    let (ledger, app) = start();
    let mut watch = app.watch(Hundreds);
    assert_eq!(poll(&mut watch).unwrap().unwrap().value, 0);
    book(&app, &ledger, 666);
    let error = poll(&mut watch).unwrap().unwrap_err();
    assert!(matches!(error, QueryError::Panicked(_)), "{error}");
    book(&app, &ledger, 1);
    assert_eq!(poll(&mut watch).unwrap().unwrap().value, 6);
}

/// Each watcher drops many pending futures and still receives the last answer.
#[test]
fn dropped_futures_lose_no_answer() {
    let (ledger, app) = start();
    const COMMITS: i64 = 3_000;
    thread::scope(|scope| {
        for seed in 0..3 {
            let app = &app;
            scope.spawn(move || {
                let (mut random, mut watch) = (Random::new(seed), app.watch(Look));
                let mut last: Option<Answer<Totals>> = None;
                while last.as_ref().is_none_or(|last| last.value.sum < COMMITS) {
                    let next = match random.chance(60) {
                        true => poll(&mut watch),
                        false => Some(block_on(watch.next())),
                    };
                    let Some(next) = next else { continue };
                    let next = next.unwrap();
                    if let Some(last) = last {
                        assert!(next.position > last.position && next.value != last.value);
                    }
                    assert_eq!(next.value.bookings, next.position.get());
                    last = Some(next);
                }
            });
        }
        for _ in 0..COMMITS {
            write(app.store(), ledger.commit(&[1]));
        }
    });
}

#[tokio::test]
async fn a_watch_wakes_its_caller_after_many_dropped_futures() {
    let (ledger, app) = start();
    let mut watch = app.watch(Look);
    watch.next().await.unwrap();
    // The caller drops the pending future many times before a write.
    for _ in 0..50 {
        let next = tokio::time::timeout(Duration::from_micros(10), watch.next()).await;
        assert!(next.is_err());
    }
    let waiting = tokio::spawn(async move { watch.next().await.unwrap().value.sum });
    tokio::task::yield_now().await;
    write(app.store(), ledger.commit(&[7]));
    assert_eq!(waiting.await.unwrap(), 7);
}

/// A client keeps the token of its last answer. It may present the token to another log that has
/// replaced the first one.
#[test]
fn a_watch_continues_from_a_token_only_in_the_log_of_the_token() {
    let (ledger, app) = start();
    let at = book(&app, &ledger, 250);
    let token = block_on(app.token_at(at)).unwrap();
    let mut watch = app.watch(Hundreds).token(&token);
    let answer = block_on(watch.next()).unwrap();
    assert_eq!((answer.value, answer.position), (2, at));

    let (_, other) = start();
    let mut elsewhere = other.watch(Hundreds).token(&token);
    let refused = block_on(elsewhere.next()).unwrap_err();
    assert!(matches!(refused, QueryError::Token(TokenError::OtherLog { .. })), "{refused}");
    // A position above the head has no token.
    let above = block_on(app.token_at(at.plus(1))).unwrap_err();
    assert!(matches!(above, QueryError::AboveHead { .. }), "{above}");
}
