//! States of decisions by fold and filter, so that a command on a recently used boundary reads
//! nothing.
//!
//! A command takes a state out of the cache, and puts it back when the state is complete again. So
//! a panic or a dropped future leaves only a miss behind. The cache does not check whether a state
//! is current: the append's condition does.

use std::{
    any::{Any, TypeId},
    hash::{Hash, Hasher},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use diptych_store::Filter;
use foldhash::fast::RandomState;
use lru::LruCache;
use parking_lot::Mutex;

use super::{metrics::CacheMetrics, state::FoldState};
use crate::fold::Fold;

const SHARDS: usize = 16;
/// Bytes of an entry in addition to its state: key, links, table.
const ENTRY_BYTES: usize = 160;

pub struct Cache {
    shards: Box<[Mutex<Shard>]>,
    budget_bytes: usize,
    bytes: AtomicUsize,
    hits: AtomicU64,
    misses: AtomicU64,
    metrics: CacheMetrics,
    evictions: AtomicU64,
    /// The shard that evicts next, so that all shards evict alike.
    turn: AtomicUsize,
}

type Shard = LruCache<CacheKey, Option<CacheEntry>, RandomState>;

#[derive(PartialEq, Eq)]
struct CacheKey {
    /// Hash of the other fields, computed once for each command.
    hash: u64,
    fold: TypeId,
    boundary: Filter,
}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

struct CacheEntry {
    state: Box<dyn Any + Send>,
    bytes: usize,
}

/// The content and the counters of the cache of decision states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Cached states.
    pub states: usize,
    /// Estimate of the bytes that they use.
    pub bytes: usize,
    /// The budget for these bytes.
    pub budget_bytes: usize,
    /// States that a command found in the cache.
    pub hits: u64,
    /// States that a command did not find in the cache. A budget of 0 counts none.
    pub misses: u64,
    /// States that were evicted to keep within the budget.
    pub evictions: u64,
}

impl Cache {
    pub(crate) fn new(budget_bytes: usize) -> Cache {
        let shard = || Mutex::new(LruCache::unbounded_with_hasher(RandomState::default()));
        Cache {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            // At most half the range, so that adding one more state cannot overflow.
            budget_bytes: budget_bytes.min(usize::MAX / 2),
            bytes: AtomicUsize::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            metrics: CacheMetrics::new(),
            evictions: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
        }
    }

    /// Takes a state out.
    pub(crate) fn take<F: Fold>(&self, hash: u64, boundary: &Filter) -> Option<Box<FoldState<F>>> {
        if self.budget_bytes == 0 {
            return None;
        }
        let key = CacheKey { hash, fold: TypeId::of::<F>(), boundary: boundary.clone() };
        let kept = self.shard(&key)?.lock().get_mut(&key).and_then(Option::take);
        let Some(CacheEntry { state, bytes }) = kept else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            self.metrics.misses.increment(1);
            return None;
        };
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.hits.fetch_add(1, Ordering::Relaxed);
        self.metrics.hits.increment(1);
        state.downcast().ok()
    }

    /// Puts a complete state back.
    pub(crate) fn put<F: Fold>(&self, state: Box<FoldState<F>>) {
        let bytes = state.bytes();
        if state.is_poisoned || bytes.saturating_add(ENTRY_BYTES) > self.budget_bytes {
            return;
        }
        let (hash, boundary) = (state.hash, state.boundary.clone());
        let key = CacheKey { hash, fold: TypeId::of::<F>(), boundary };
        let Some(shard) = self.shard(&key) else { return };
        let kept = Some(CacheEntry { state, bytes });
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

    fn shard(&self, key: &CacheKey) -> Option<&Mutex<Shard>> {
        // The shard uses bits of the hash that the table also has. That is harmless, because the
        // table hashes the hash again.
        self.shards.get(key.hash as usize % SHARDS)
    }

    /// Evicts the least recently used states, from every shard alike, until the rest fits. It does
    /// not evict the state that was just put back, even if that state is alone in its shard.
    fn evict(&self, hash: u64, fold: TypeId) {
        // Number of empty shards in a row. With all shards empty there is nothing to evict.
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

    pub(crate) fn stats(&self) -> CacheStats {
        let filled = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.iter().filter(|(_, kept)| kept.is_some()).count()
        };
        CacheStats {
            states: self.shards.iter().map(filled).sum(),
            bytes: self.bytes.load(Ordering::Relaxed),
            budget_bytes: self.budget_bytes,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }
}
