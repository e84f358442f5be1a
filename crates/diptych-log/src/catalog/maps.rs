//! The mapped files of an open log, and the bound on their number.
//!
//! An operating system limits the mappings of a process, and a log has a segment and an index file
//! for each few megabytes. So every mapped file is held by a [`CacheEntry`], and [`Maps`] drops the
//! values that were not used lately once there are [`Tuning::mapped_files`] of them (the clock
//! algorithm: a hand goes round, and a value that was used since it came by last stays).
//!
//! The subtle thing is that dropping a value unmaps nothing that is still read. A batch shares the
//! bytes of the mapping, which goes with the last of these. And a file whose name is about to go to
//! another file, or to be removed, is pinned first: it stays mapped outside of the bound, because
//! its name would not lead to it any more.
//!
//! [`Tuning::mapped_files`]: crate::Tuning::mapped_files

use std::{
    fmt,
    io::{self, ErrorKind},
    path::Path,
    sync::{Arc, Weak},
};

use bytes::Bytes;

use crate::{
    disk::Disk,
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// The smallest bound: fewer would not do for one look-up in a few segments.
pub(crate) const FEWEST: usize = 16;

/// The mapped files of an open log.
#[derive(Debug)]
pub(crate) struct Maps {
    /// Most values that are held for later use.
    limit: usize,
    files: FilesOwner,
    clock: Mutex<Clock>,
    /// Mapped files that are still in use anywhere, also by batches and by old catalogs.
    mapped: Arc<AtomicUsize>,
}

/// The process that changes the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilesOwner {
    /// This process alone.
    Here,
    /// Another process may replace and remove them at any time. This one writes nothing.
    Elsewhere,
}

/// The values that can be dropped, and the hand that goes round them.
#[derive(Debug, Default)]
struct Clock {
    slots: Vec<Weak<dyn Slot>>,
    hand: usize,
}

impl Maps {
    pub(crate) fn new(limit: usize, files: FilesOwner) -> Arc<Maps> {
        Arc::new(Maps { limit, files, clock: Mutex::default(), mapped: Arc::default() })
    }

    pub(crate) fn files(&self) -> FilesOwner {
        self.files
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Number of mapped files that are still in use.
    pub(crate) fn mapped(&self) -> usize {
        self.mapped.load(Ordering::Relaxed)
    }

    /// Maps a file. If the system allows no further mapping, half of those that are held for later
    /// use are given up first.
    pub(crate) fn map(&self, disk: &dyn Disk, path: &Path) -> io::Result<Bytes> {
        let bytes = match disk.map(path) {
            Err(error) if error.kind() == ErrorKind::OutOfMemory => {
                let kept = self.clock.lock().slots.len() / 2;
                tracing::warn!(file = %path.display(), kept, "no further file can be mapped: half \
                    of the mapped ones are given up; a lower Tuning::mapped_files avoids this");
                self.make_room(kept);
                disk.map(path)?
            }
            mapped => mapped?,
        };
        self.mapped.fetch_add(1, Ordering::Relaxed);
        Ok(Bytes::from_owner(CountedBytes { bytes, mapped: self.mapped.clone() }))
    }

    /// Registers a value that was just loaded.
    fn add(&self, slot: Weak<dyn Slot>) {
        self.make_room(self.limit.saturating_sub(1));
        self.clock.lock().slots.push(slot);
    }

    /// Drops values that were not used lately, until at most this many are left, or all that are
    /// left are in use.
    fn make_room(&self, most: usize) {
        let mut clock = self.clock.lock();
        // The first round takes back the mark of use, the second one drops.
        let mut steps = clock.slots.len() * 2;
        while clock.slots.len() > most && steps > 0 {
            steps -= 1;
            let hand = if clock.hand < clock.slots.len() { clock.hand } else { 0 };
            let slot = clock.slots.get(hand).and_then(Weak::upgrade);
            match slot.is_some_and(|slot| slot.stays()) {
                true => clock.hand = hand + 1,
                false => drop(clock.slots.swap_remove(hand)),
            }
        }
    }
}

/// The bytes of a mapped file, which count as long as anything uses them.
struct CountedBytes {
    bytes: Bytes,
    mapped: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.mapped.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A value as the clock sees it.
trait Slot: Send + Sync + fmt::Debug {
    /// Drops the value, unless it was used since the last call or is in use now. Answers whether
    /// the clock keeps the slot.
    fn stays(&self) -> bool;
}

/// A value that is loaded from a mapped file when it is first needed, and again after it was
/// dropped.
#[derive(Debug)]
pub(crate) struct CacheEntry<T> {
    maps: Arc<Maps>,
    state: Arc<EntryState<T>>,
}

#[derive(Debug)]
struct EntryState<T> {
    content: RwLock<Content<T>>,
    /// It was used since the hand of the clock came by.
    used: AtomicBool,
}

#[derive(Debug)]
struct Content<T> {
    value: Option<T>,
    /// The value is never dropped, because it could not be loaded again.
    pinned: bool,
}

impl<T: Send + Sync + fmt::Debug + 'static> CacheEntry<T> {
    pub(crate) fn unloaded(maps: &Arc<Maps>) -> CacheEntry<T> {
        let content = RwLock::new(Content { value: None, pinned: false });
        let state = EntryState { content, used: AtomicBool::new(false) };
        CacheEntry { maps: maps.clone(), state: Arc::new(state) }
    }

    /// A value that was just loaded.
    pub(crate) fn loaded(maps: &Arc<Maps>, value: T) -> CacheEntry<T> {
        let cached = CacheEntry::unloaded(maps);
        cached.state.content.write().value = Some(value);
        cached.register();
        cached
    }

    pub(crate) fn maps(&self) -> &Arc<Maps> {
        &self.maps
    }

    /// Answers a question from the value, which is loaded if need be. Meanwhile it is not dropped.
    ///
    /// # Errors
    /// The error of `load`, which the next call tries again.
    pub(crate) fn ask<R, E>(
        &self,
        load: impl FnOnce() -> Result<T, E>,
        question: impl FnOnce(&T) -> R,
    ) -> Result<R, E> {
        if let Some(value) = &self.state.content.read().value {
            self.state.touch();
            return Ok(question(value));
        }
        let mut content = self.state.content.write();
        let value = match content.value.take() {
            // Another thread has loaded it.
            Some(value) => value,
            None => {
                let value = load()?;
                if !content.pinned {
                    self.register();
                }
                value
            }
        };
        let answer = question(&value);
        content.value = Some(value);
        Ok(answer)
    }

    /// Answers a question from the value, if it is loaded.
    pub(crate) fn peek<R>(&self, question: impl FnOnce(&T) -> R) -> Option<R> {
        self.state.content.read().value.as_ref().map(question)
    }

    /// Loads the value if need be, and keeps it from now on, outside of the bound.
    ///
    /// # Errors
    /// The error of `load`.
    pub(crate) fn pin<E>(&self, load: impl FnOnce() -> Result<T, E>) -> Result<(), E> {
        let mut content = self.state.content.write();
        if content.value.is_none() {
            content.value = Some(load()?);
        }
        content.pinned = true;
        Ok(())
    }

    fn register(&self) {
        let slot: Arc<dyn Slot> = self.state.clone();
        self.state.touch();
        self.maps.add(Arc::downgrade(&slot));
    }
}

impl<T> EntryState<T> {
    fn touch(&self) {
        // Read first, so that threads that use one value do not take its memory from each other.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

impl<T: Send + Sync + fmt::Debug> Slot for EntryState<T> {
    fn stays(&self) -> bool {
        if self.used.swap(false, Ordering::Relaxed) {
            return true;
        }
        let Some(mut content) = self.content.try_write() else { return true };
        if !content.pinned {
            content.value = None;
        }
        false
    }
}
