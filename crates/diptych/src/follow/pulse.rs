//! Checks all followers once a second, from a thread of its own: a follower whose fold, database or
//! store hangs cannot report that itself.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use diptych_store::Store;
use tokio::runtime::Handle;

use super::Progress;
use crate::wait;

/// Time between two checks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The thread that checks the followers. Dropping this ends it.
pub(crate) struct Pulse {
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    pub(crate) fn start(store: Store, followers: Vec<Arc<Progress>>) -> io::Result<Pulse> {
        let (head, is_ending) = (store.head(), Arc::new(AtomicBool::new(false)));
        let ends = is_ending.clone();
        // The thread uses the clock of the runtime that started the app.
        let runtime = Handle::try_current().ok();
        let thread = thread::Builder::new().name("diptych pulse".to_owned()).spawn(move || {
            let _entered = runtime.as_ref().map(Handle::enter);
            while !ends.load(Ordering::SeqCst) {
                // If the history has changed, the check ends the head, and that stops the
                // followers.
                let _ = store.check_history();
                if store.has_other_writers() {
                    // Their commits may be unknown here; then the next pulse knows them.
                    let _ = wait::at_most(INTERVAL, store.known_head());
                }
                let head = head.position();
                followers.iter().for_each(|follower| follower.observe(head));
                thread::park_timeout(INTERVAL);
            }
        })?;
        Ok(Pulse { is_ending, thread: Some(thread) })
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread returns no result.
            let _ = thread.join();
        }
    }
}
