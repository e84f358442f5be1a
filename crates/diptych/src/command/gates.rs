//! Commands of one process on one boundary go one after another, so that each decides over the
//! events of the one before instead of running into a conflict.
//!
//! Gates are only for speed: the condition of the append makes a decision correct. So boundaries
//! may share a gate by chance, and overlapping boundaries may have different gates.

use std::{hint::spin_loop, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{Mutex, MutexGuard},
    task::yield_now,
    time::timeout,
};

/// Number of gates: enough that commands on different boundaries seldom share one.
const GATES: usize = 1024;

/// How often a command tries a gate before it yields to other tasks on its thread.
///
/// A decision over a state in memory takes a few microseconds and waits for nothing, so the holder
/// of the gate runs on another thread and is about to leave. Queueing would cost a task switch for
/// every command, which is most of the cost of a command on a hot boundary.
const SPINS: u32 = 64;
/// How often a command yields before it queues. A holder that still has the gate then probably
/// reads from a disk.
const YIELDS: u32 = 8;

/// How long a command waits for a gate before it continues without it.
///
/// The holder of a gate may be a future that is not polled any more. It must not block others for
/// ever: they continue without the gate, and the condition of their append keeps them correct.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

pub(crate) struct Gates(Box<[Mutex<()>]>);

/// The held gates of one command. They open when this is dropped.
pub(crate) struct GateGuards<'a> {
    _first: Option<MutexGuard<'a, ()>>,
    _more: Vec<MutexGuard<'a, ()>>,
}

/// The hashes of a command's boundaries. Most commands have one.
#[derive(Default)]
pub(crate) struct Hashes {
    first: Option<u64>,
    more: Vec<u64>,
}

impl Hashes {
    pub(crate) fn push(&mut self, hash: u64) {
        match self.first {
            None => self.first = Some(hash),
            Some(_) => self.more.push(hash),
        }
    }
}

impl Default for Gates {
    fn default() -> Gates {
        Gates((0..GATES).map(|_| Mutex::new(())).collect())
    }
}

impl Gates {
    /// Waits for the gates of boundaries with these hashes.
    pub(crate) async fn enter(&self, hashes: Hashes) -> GateGuards<'_> {
        let Hashes { first, mut more } = hashes;
        if more.is_empty() {
            let first = match first {
                Some(hash) => self.gate(hash % GATES as u64).await,
                None => None,
            };
            return GateGuards { _first: first, _more: Vec::new() };
        }
        more.extend(first);
        more.iter_mut().for_each(|hash| *hash %= GATES as u64);
        // All commands take gates in one order, so that no two commands wait for each other.
        more.sort_unstable();
        more.dedup();
        let mut guards = Vec::with_capacity(more.len());
        for gate in more {
            guards.extend(self.gate(gate).await);
        }
        GateGuards { _first: None, _more: guards }
    }

    /// Waits for a gate. Returns `None` if this took longer than [`LONGEST_WAIT`].
    async fn gate(&self, number: u64) -> Option<MutexGuard<'_, ()>> {
        // The remainder is below `GATES`, and there are `GATES` gates.
        #[allow(clippy::indexing_slicing)]
        let gate = &self.0[number as usize % GATES];
        for _ in 0..YIELDS {
            for _ in 0..SPINS {
                if let Ok(guard) = gate.try_lock() {
                    return Some(guard);
                }
                spin_loop();
            }
            yield_now().await;
        }
        if Handle::try_current().is_err() {
            // Without a runtime there is no clock, so this wait has no limit.
            return Some(gate.lock().await);
        }
        timeout(LONGEST_WAIT, gate.lock()).await.ok()
    }
}
