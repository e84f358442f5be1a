//! The head alone: publications and waits for them. The tests are small enough that every schedule
//! is explored.

use std::{
    pin::Pin,
    task::{Context, Waker},
};

use diptych_store::sync::block_on;
use diptych_store::{
    CommitNumber, CommitSync, HeadPublisher, Pause, Position, SyncError, Unavailable,
};
use shuttle::thread;

use crate::explore::explore_all;

fn published(number: u64) -> (Position, CommitNumber) {
    (Position::new(number), CommitNumber(number))
}

fn publish(publisher: &HeadPublisher, number: u64) {
    let (position, commit) = published(number);
    publisher.publish(position, commit);
}

pub(crate) fn a_waiter_and_a_publication() {
    let publisher = HeadPublisher::new(Position::START);
    let head = publisher.head();
    let waiter = thread::spawn(move || block_on(head.after(Position::START)).unwrap());
    publish(&publisher, 1);
    assert_eq!(waiter.join().unwrap(), Position::new(1));
}

#[test]
fn a_waiter_does_not_sleep_over_a_publication() {
    explore_all(a_waiter_and_a_publication);
}

#[test]
fn a_waiter_for_a_commit_does_not_sleep_over_the_end() {
    explore_all(|| {
        let publisher = HeadPublisher::new(Position::START);
        let head = publisher.head();
        let waiter = thread::spawn(move || block_on(CommitSync::new(CommitNumber(1), head).wait()));
        drop(publisher);
        let waited = waiter.join().unwrap();
        assert!(matches!(waited, Err(SyncError { cause: Unavailable::Closed })));
    });
}

#[test]
fn a_waiter_for_a_commit_does_not_sleep_over_a_pause() {
    explore_all(|| {
        let publisher = HeadPublisher::new(Position::START);
        let head = publisher.head();
        let waiter = thread::spawn(move || block_on(CommitSync::new(CommitNumber(1), head).wait()));
        publisher.pause(Pause::Writing(Unavailable::Closed));
        assert!(waiter.join().unwrap().is_err());
        drop(publisher);
    });
}

/// The wait that is dropped takes no wake-up with it.
#[test]
fn a_wait_that_is_given_up_leaves_the_others_alone() {
    explore_all(|| {
        let publisher = HeadPublisher::new(Position::START);
        let head = publisher.head();
        let impatient = thread::spawn(move || {
            let mut wait = head.after(Position::START);
            let _ = Pin::new(&mut wait).poll(&mut Context::from_waker(Waker::noop()));
        });
        let head = publisher.head();
        let mut wait = head.after(Position::START);
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut wait).poll(&mut context).is_pending());
        impatient.join().unwrap();
        publish(&publisher, 1);
        assert_eq!(block_on(wait).unwrap(), Position::new(1));
    });
}
