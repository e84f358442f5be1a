//! Small hand-overs between private types of this crate. Each is a test with so few steps that
//! `diptych-schedules` explores every schedule of it.

use std::sync::Arc;

use diptych_store::{Position, RawEvent, Tag};

use crate::{
    append::batch_waiters::BatchWaiters,
    index::{Columns, Newest, newest::Commit},
    sync::thread,
};

/// A thread waits for this batch while another one does `then`.
fn wait_beside(batch: u64, then: impl FnOnce(&BatchWaiters)) {
    let batches = Arc::new(BatchWaiters::default());
    let waiter = thread::spawn({
        let batches = batches.clone();
        move || batches.wait(batch)
    });
    then(&batches);
    assert!(waiter.join().is_ok());
}

/// A thread does not sleep over its batch.
pub fn a_batch_is_done() {
    wait_beside(1, |batches| batches.done(1));
}

/// A thread that waits for the batch after the next one shares its word with an earlier batch.
pub fn two_batches_of_one_word_are_done() {
    wait_beside(3, |batches| {
        batches.done(1);
        batches.done(3);
    });
}

/// A thread does not sleep over the release of its batch.
pub fn a_batch_is_released() {
    wait_beside(1, |batches| batches.release(1));
}

/// A thread does not sleep over the end of all batches.
pub fn batches_end() {
    wait_beside(1, BatchWaiters::end);
}

/// The writer and a reader add deferred commits to the index: no look-up misses one, and they are
/// added in order.
pub fn deferred_commits_are_added() {
    let newest = Arc::new(Newest::new(Columns::new(Position::new(1))));
    newest.add_later(commit(0));
    let reader = thread::spawn({
        let newest = newest.clone();
        move || {
            let columns = newest.columns();
            assert!(columns.len() >= 1 && columns.offsets.is_sorted());
        }
    });
    newest.add_later(commit(1));
    newest.settle();
    assert_eq!(newest.columns().offsets, [0, 100]);
    assert!(reader.join().is_ok());
}

fn commit(number: u32) -> Commit {
    let event = RawEvent::new("counted", "").tag(Tag::new("all", 1));
    let first = Position::new(u64::from(number) + 1);
    Commit { first, key: None, events: vec![event], offsets: vec![number * 100] }
}
