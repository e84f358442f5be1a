//! Commands of one process on one boundary go one after another, so that each decides over what
//! the one before wrote instead of running into it.
//!
//! It is for speed alone: what makes a decision right is the condition of its append. So it does
//! no harm that boundaries share a gate by chance, or that two which overlap have different ones.

use std::{hint::spin_loop, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{Mutex, MutexGuard},
    task::yield_now,
    time::timeout,
};

/// Enough that commands on different boundaries seldom share one.
const GATES: usize = 1024;

/// How often a gate is tried before others on this thread get their turn.
///
/// A decision over a state in memory takes a few microseconds and waits for nothing, so whoever
/// holds the gate is running on another thread and is about to leave. Queueing for it would cost
/// a task switch for every command, which is most of what a command on a hot boundary costs.
const SPINS: u32 = 64;
/// How often that is repeated before the command queues: then somebody reads from a disk.
const YIELDS: u32 = 8;

/// How long a command waits for a gate before it goes on without.
///
/// Whoever holds a gate may be a future that waited for something in there and is not polled any
/// more. It must not hold up others for ever: they do without the gate, and the condition of
/// their append takes care of the rest.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

pub(crate) struct Gates(Box<[Mutex<()>]>);

/// Whoever holds it is alone on its boundary.
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
        // One order for all, so that no two commands wait for each other.
        more.sort_unstable();
        more.dedup();
        let mut guards = Vec::with_capacity(more.len());
        for gate in more {
            guards.extend(self.gate(gate).await);
        }
        GateGuards { _first: None, _more: guards }
    }

    /// The guard of a gate; none if it took too long.
    async fn gate(&self, number: u64) -> Option<MutexGuard<'_, ()>> {
        // There is a gate for every remainder; without the slice's check this is one access.
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
            // Without a runtime there is no clock to wait by.
            return Some(gate.lock().await);
        }
        timeout(LONGEST_WAIT, gate.lock()).await.ok()
    }
}
