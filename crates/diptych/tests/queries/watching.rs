//! Live queries: the first answer, each changed answer, the latest for whoever is slow, and where
//! to go on.

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

use crate::support::ledger::{Hooked, Ledger, Look, Mirror, Moment, Totals, comes, write};

/// The sum in hundreds: it changes now and then.
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

fn start() -> (Hooked, App) {
    let app = App::over_store(Store::new(Memory::new())).view::<Ledger>().view::<Mirror>();
    (Hooked::new(), block_on(app.start()).unwrap())
}

/// Writes it and waits until it is in the view.
fn book(app: &App, ledger: &Hooked, amount: i64) -> Position {
    let at = write(app.store(), ledger.commit(&[amount]));
    block_on(app.query(Look).strong().into_future()).unwrap();
    at
}

/// What there is now, if it is another answer.
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
fn first_the_answer_then_each_other_answer_and_nothing_twice() {
    let (ledger, app) = start();
    let mut watch = app.watch(Hundreds);
    let first = block_on(watch.next()).unwrap();
    assert_eq!((first.value, first.position, first.stale), (0, Position::START, None));
    for _ in 0..3 {
        assert!(poll(&mut watch).is_none());
    }
    for amount in [50, 49] {
        book(&app, &ledger, amount);
        assert!(poll(&mut watch).is_none(), "the answer is the same");
    }
    let at = book(&app, &ledger, 1);
    let next = poll(&mut watch).unwrap().unwrap();
    assert_eq!((next.value, next.position), (1, at));
    // What is not for the view changes nothing.
    write(app.store(), Append::event(ledger.remark()));
    block_on(app.query(Look).strong().into_future()).unwrap();
    assert!(poll(&mut watch).is_none());
    // There and back: nobody was told, and nothing is new.
    book(&app, &ledger, 100);
    book(&app, &ledger, -100);
    assert!(poll(&mut watch).is_none());
    // Who is slow gets the latest.
    for _ in 0..5 {
        book(&app, &ledger, 100);
    }
    let next = poll(&mut watch).unwrap().unwrap();
    assert_eq!((next.value, next.position), (6, app.head()));
    assert!(poll(&mut watch).is_none());
}

#[test]
fn it_goes_on_from_a_position_that_was_received() {
    let (ledger, app) = start();
    for _ in 0..3 {
        book(&app, &ledger, 100);
    }
    let mut behind = app.watch(Hundreds).from(Position::new(2));
    assert_eq!(poll(&mut behind).unwrap().unwrap().position.get(), 3);
    let mut here = app.watch(Hundreds).from(Position::new(3));
    assert_eq!(poll(&mut here).unwrap().unwrap().value, 3);
    // On a replica that is not so far it is waited for.
    let mut ahead = app.watch(Hundreds).from(Position::new(5));
    assert!(poll(&mut ahead).is_none());
    book(&app, &ledger, 100);
    assert!(poll(&mut ahead).is_none());
    book(&app, &ledger, 0);
    let first = poll(&mut ahead).unwrap().unwrap();
    assert_eq!((first.value, first.position.get()), (4, 5));
}

#[test]
fn a_view_that_is_held_back_or_stops_is_waited_for_or_said() {
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
    // What came before it is told first.
    assert_eq!(poll(&mut watch).unwrap().unwrap().value, 3);
    for _ in 0..2 {
        let error = poll(&mut watch).unwrap().unwrap_err();
        assert!(matches!(error, QueryError::Stopped { .. }), "{error}");
    }
    ledger.clear();
    block_on(view.resume()).unwrap();
    assert_eq!(block_on(watch.next()).unwrap().value, 8);
    // Built anew it is the same, and that is no news.
    block_on(view.rebuild()).unwrap();
    book(&app, &ledger, 0);
    assert!(poll(&mut watch).is_none());
    block_on(app.stop()).unwrap();
    assert_eq!(poll(&mut watch).unwrap().unwrap_err(), QueryError::AppStopped);
}

#[test]
fn an_answer_that_panics_is_said_and_the_next_one_comes() {
    let (ledger, app) = start();
    let mut watch = app.watch(Hundreds);
    assert_eq!(poll(&mut watch).unwrap().unwrap().value, 0);
    book(&app, &ledger, 666);
    let error = poll(&mut watch).unwrap().unwrap_err();
    assert!(matches!(error, QueryError::Panicked(_)), "{error}");
    book(&app, &ledger, 1);
    assert_eq!(poll(&mut watch).unwrap().unwrap().value, 6);
}

/// Whatever is dropped on the way, the last answer is the last one.
#[test]
fn futures_that_are_dropped_lose_nothing() {
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
async fn a_watch_that_nobody_waits_for_is_told_when_somebody_does() {
    let (ledger, app) = start();
    let mut watch = app.watch(Look);
    watch.next().await.unwrap();
    // Given up many times while nothing comes.
    for _ in 0..50 {
        let next = tokio::time::timeout(Duration::from_micros(10), watch.next()).await;
        assert!(next.is_err());
    }
    let waiting = tokio::spawn(async move { watch.next().await.unwrap().value.sum });
    tokio::task::yield_now().await;
    write(app.store(), ledger.commit(&[7]));
    assert_eq!(waiting.await.unwrap(), 7);
}

/// A client carries the token of its last answer, and may bring it to a log that was put in the
/// place of the first.
#[test]
fn a_watch_goes_on_from_a_token_and_only_in_the_log_that_the_token_is_of() {
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
    // A place that there is not has no token.
    let above = block_on(app.token_at(at.plus(1))).unwrap_err();
    assert!(matches!(above, QueryError::AboveHead { .. }), "{above}");
}
