//! Commands of one process on one boundary go one after another, so that each decides over what
//! the one before wrote instead of running into it.
//!
//! It is for speed alone: what makes a decision right is the condition of its append. So it does
//! no harm that boundaries share a gate by chance, or that two which overlap have different ones.

use tokio::sync::{Mutex, MutexGuard};

/// Enough that commands on different boundaries seldom share one.
const GATES: usize = 1024;

pub(crate) struct Gates(Box<[Mutex<()>]>);

/// Whoever holds it is alone on its boundary.
pub(crate) struct Entered<'a> {
    _guards: Vec<MutexGuard<'a, ()>>,
}

impl Default for Gates {
    fn default() -> Gates {
        Gates((0..GATES).map(|_| Mutex::new(())).collect())
    }
}

impl Gates {
    /// Waits for the gates of boundaries with these hashes.
    pub(crate) async fn enter(&self, hashes: &mut Vec<u64>) -> Entered<'_> {
        hashes.iter_mut().for_each(|hash| *hash %= GATES as u64);
        // One order for all, so that no two commands wait for each other.
        hashes.sort_unstable();
        hashes.dedup();
        let mut guards = Vec::with_capacity(hashes.len());
        for hash in hashes {
            if let Some(gate) = self.0.get(*hash as usize) {
                guards.push(gate.lock().await);
            }
        }
        Entered { _guards: guards }
    }
}
