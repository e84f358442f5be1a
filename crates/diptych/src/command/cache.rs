//! States of decisions by fold and filter, so that a command on a boundary that was used lately
//! reads nothing.
//!
//! A state is taken out while a command works with it and put back when it is whole again. A
//! panic or a future that is dropped half-way thus leaves nothing behind but a miss. Whether a
//! state is still true is not the cache's concern: the append's condition says so.

use std::{
    any::{Any, TypeId},
    hash::{Hash, Hasher},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use diptych_store::Filter;
use foldhash::fast::RandomState;
use lru::LruCache;
use parking_lot::Mutex;

use super::{metrics::CacheMetrics, state::State};
use crate::fold::Fold;

const SHARDS: usize = 16;
/// What an entry takes beside its state: key, links, table.
const ENTRY_BYTES: usize = 160;

pub struct Cache {
    shards: Box<[Mutex<Shard>]>,
    budget_bytes: usize,
    bytes: AtomicUsize,
    hits: AtomicU64,
    misses: AtomicU64,
    metrics: CacheMetrics,
    evictions: AtomicU64,
    /// The shard that lets go next, so that all of them do alike.
    turn: AtomicUsize,
}

type Shard = LruCache<Key, Option<Kept>, RandomState>;

#[derive(PartialEq, Eq)]
struct Key {
    /// Of the others, made once for each command.
    hash: u64,
    fold: TypeId,
    boundary: Filter,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

struct Kept {
    state: Box<dyn Any + Send>,
    bytes: usize,
}

/// What the cache of decision states holds and does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheFigures {
    /// States in it.
    pub states: usize,
    /// About how many bytes they take.
    pub bytes: usize,
    /// How many they may take.
    pub budget_bytes: usize,
    /// States that a command found.
    pub hits: u64,
    /// States that had to be read.
    pub misses: u64,
    /// States that had to go to keep within the budget.
    pub evictions: u64,
}

impl Cache {
    pub(crate) fn new(budget_bytes: usize) -> Cache {
        let shard = || Mutex::new(LruCache::unbounded_with_hasher(RandomState::default()));
        Cache {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            // Half of all there can be, so that what is in it and one more can be added up.
            budget_bytes: budget_bytes.min(usize::MAX / 2),
            bytes: AtomicUsize::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            metrics: CacheMetrics::new(),
            evictions: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
        }
    }

    /// Takes the state out.
    pub(crate) fn take<F: Fold>(&self, hash: u64, boundary: &Filter) -> Option<Box<State<F>>> {
        if self.budget_bytes == 0 {
            return None;
        }
        let key = Key { hash, fold: TypeId::of::<F>(), boundary: boundary.clone() };
        let kept = self.shard(&key)?.lock().get_mut(&key).and_then(Option::take);
        let Some(Kept { state, bytes }) = kept else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            self.metrics.misses.increment(1);
            return None;
        };
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.hits.fetch_add(1, Ordering::Relaxed);
        self.metrics.hits.increment(1);
        state.downcast().ok()
    }

    /// Keeps a state that is whole.
    pub(crate) fn put<F: Fold>(&self, state: Box<State<F>>) {
        let bytes = state.bytes();
        if state.is_spoilt || bytes.saturating_add(ENTRY_BYTES) > self.budget_bytes {
            return;
        }
        let (hash, boundary) = (state.hash, state.boundary.clone());
        let key = Key { hash, fold: TypeId::of::<F>(), boundary };
        let Some(shard) = self.shard(&key) else { return };
        let kept = Some(Kept { state, bytes });
        {
            let mut shard = shard.lock();
            if let Some(place) = shard.get_mut(&key) {
                let before = std::mem::replace(place, kept);
                let before = before.map_or(0, |kept| kept.bytes);
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.bytes.fetch_sub(before, Ordering::Relaxed);
            } else {
                shard.put(key, kept);
                self.bytes.fetch_add(bytes + ENTRY_BYTES, Ordering::Relaxed);
            }
        }
        if self.bytes.load(Ordering::Relaxed) > self.budget_bytes {
            self.evict(hash, TypeId::of::<F>());
        }
    }

    fn shard(&self, key: &Key) -> Option<&Mutex<Shard>> {
        // The table hashes the hash again, so that its bits are free to be used here.
        self.shards.get(key.hash as usize % SHARDS)
    }

    /// Lets go of what was used least lately, in every shard alike, until the rest fits; but not of
    /// the one that just came, which nothing was used later than, though it may be alone in its
    /// shard.
    fn evict(&self, hash: u64, fold: TypeId) {
        // How many in a row had nothing: with all of them empty there is nothing to let go.
        let mut empty = 0;
        while self.bytes.load(Ordering::Relaxed) > self.budget_bytes && empty < SHARDS {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % SHARDS;
            let Some(shard) = self.shards.get(turn) else { return };
            let mut shard = shard.lock();
            let gone = match shard.pop_lru() {
                Some((key, just)) if (key.hash, key.fold) == (hash, fold) => {
                    shard.put(key, just);
                    None
                }
                Some((_, gone)) => Some(gone),
                None => None,
            };
            drop(shard);
            let Some(gone) = gone else {
                empty += 1;
                continue;
            };
            empty = 0;
            let bytes = gone.as_ref().map_or(0, |kept| kept.bytes);
            self.bytes.fetch_sub(bytes + ENTRY_BYTES, Ordering::Relaxed);
            self.evictions.fetch_add(u64::from(gone.is_some()), Ordering::Relaxed);
        }
    }

    pub(crate) fn figures(&self) -> CacheFigures {
        let filled = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.iter().filter(|(_, kept)| kept.is_some()).count()
        };
        CacheFigures {
            states: self.shards.iter().map(filled).sum(),
            bytes: self.bytes.load(Ordering::Relaxed),
            budget_bytes: self.budget_bytes,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }
}
