//! Appends that wait for room.

use std::{
    sync::{Arc, Condvar, Mutex},
    task::{Context, Poll, Wake, Waker},
};

use diptych_log::{
    Log, LogOptions,
    disk::simulated::{Operation, SimulatedDisk},
};
use diptych_store::{Append, EventStore, RawEvent};
use pollster::block_on;

use crate::hooked::HookedDisk;

/// Blocks writes of segments while it is closed.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set_closed(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
    }
}

/// Opens the gate at the end. If an assertion fails, the log is dropped, and that waits for its
/// writes.
struct OpensAtEnd<'a>(&'a Gate);

impl Drop for OpensAtEnd<'_> {
    fn drop(&mut self) {
        self.0.set_closed(false);
    }
}

struct NoOne;

impl Wake for NoOne {
    fn wake(self: Arc<Self>) {}
}

fn append() -> Append {
    Append::event(RawEvent::new("noted", vec![7; 1_000]))
}

/// Once, each poll of a waiting append stored one more waker. A task that was polled often while
/// the disk was slow filled the memory, and was woken many times afterwards.
#[test]
fn a_waiting_append_keeps_one_waker_until_it_is_dropped() {
    let gate = Arc::new(Gate::default());
    let at_the_gate = gate.clone();
    let hooked = HookedDisk::new(&SimulatedDisk::new(1), move |operation, path| {
        if operation == Operation::Write && path.extension().is_some_and(|ending| ending == "seg") {
            at_the_gate.pass();
        }
        Ok(())
    });
    let options = LogOptions { queue_bytes: 1, disk: Arc::new(hooked), ..LogOptions::default() };
    let log = Log::open("/data/log", options).unwrap();
    gate.set_closed(true);
    let _opens = OpensAtEnd(&gate);
    let idle = Waker::noop();
    let mut accepted = Vec::new();
    // The disk is writing the first commit, and the second one fills the queue.
    let mut waiting = loop {
        let mut next = Box::pin(log.append(append()));
        match next.as_mut().poll(&mut Context::from_waker(idle)) {
            Poll::Ready(commit) => accepted.push(commit.unwrap()),
            Poll::Pending => break next,
        }
    };
    let counted = Arc::new(NoOne);
    let waker = Waker::from(counted.clone());
    for _ in 0..100 {
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    // The three references are the test, its waker, and the waker that the log keeps.
    assert_eq!(Arc::strong_count(&counted), 3);
    drop(waiting);
    assert_eq!(Arc::strong_count(&counted), 2);
    gate.set_closed(false);
    accepted.push(block_on(log.append(append())).unwrap());
    for commit in accepted {
        block_on(commit.synced()).unwrap();
    }
    log.close().unwrap();
}
