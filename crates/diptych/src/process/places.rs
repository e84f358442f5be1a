//! The places of actions that a program carries out at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, Semaphore};

/// The places of one process. Commands take a place while they run. A call takes those of its
/// gateway, and none while it rests.
pub(super) struct Places {
    pub(super) commands: Semaphore,
    resting: AtomicUsize,
    changed: Notify,
}

/// A call waits for a time, and is not counted among the work under way.
pub(super) struct CallRest<'a>(&'a Places);

impl Places {
    pub(super) fn new(commands: usize) -> Places {
        Places {
            commands: Semaphore::new(commands.max(1)),
            resting: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    pub(super) fn rest(&self) -> CallRest<'_> {
        self.resting.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
        CallRest(self)
    }

    /// Number of calls that rest.
    pub(super) fn resting(&self) -> usize {
        self.resting.load(Ordering::SeqCst)
    }

    /// Waits until a call begins to rest. One that began before and was not waited for counts.
    pub(super) async fn rested(&self) {
        self.changed.notified().await;
    }
}

impl Drop for CallRest<'_> {
    fn drop(&mut self) {
        self.0.resting.fetch_sub(1, Ordering::SeqCst);
    }
}
