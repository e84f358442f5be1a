//! The index of the newest events, in memory: columns, and commits that are not in them yet.
//!
//! The events of a large commit enter the index later: the writer adds them while the disk already
//! writes the bytes. A look-up that happens before that adds them itself first. So no look-up
//! misses an accepted commit.

use diptych_store::{Key, KeyedCommit, Position, RawEvent, Tag};

use super::columns::Columns;
#[cfg(diptych_model)]
use crate::sync::Flaw;
use crate::sync::{
    Mutex, RwLock, RwLockReadGuard,
    atomic::{AtomicBool, Ordering},
};

/// The parts of a commit that the index needs.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) first: Position,
    pub(crate) key: Option<Key>,
    pub(crate) events: Vec<RawEvent>,
    /// The offset of each event's frame in the segment.
    pub(crate) offsets: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct Newest {
    columns: RwLock<Columns>,
    /// Whether `later` may contain commits. Set under the lock of `later`.
    behind: AtomicBool,
    /// This lock is taken after the lock of the columns, or alone.
    later: Mutex<Vec<Commit>>,
}

impl Newest {
    pub(crate) fn new(columns: Columns) -> Newest {
        Newest {
            columns: RwLock::new(columns),
            behind: AtomicBool::new(false),
            later: Mutex::default(),
        }
    }

    /// Adds a commit now.
    pub(crate) fn add(&self, commit: &Commit) {
        let mut columns = self.columns.write();
        self.catch_up(&mut columns);
        columns.add(commit);
    }

    /// Adds a commit later, at the latest before the next look-up.
    pub(crate) fn add_later(&self, commit: Commit) {
        let mut later = self.later.lock();
        later.push(commit);
        self.behind.store(true, Ordering::Release);
    }

    /// Adds the deferred commits, and then changes the columns.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Columns) -> R) -> R {
        let mut columns = self.columns.write();
        self.catch_up(&mut columns);
        change(&mut columns)
    }

    /// Whether some commits are not in the columns yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    /// Adds the deferred commits.
    pub(crate) fn settle(&self) {
        if self.is_behind() {
            self.catch_up(&mut self.columns.write());
        }
    }

    /// The columns, after the deferred commits were added.
    pub(crate) fn columns(&self) -> RwLockReadGuard<'_, Columns> {
        #[cfg(diptych_model)]
        if Flaw::HiddenCommits.is_set() {
            return self.columns.read();
        }
        self.settle();
        self.columns.read()
    }

    /// The columns without the deferred commits.
    pub(crate) fn so_far(&self) -> RwLockReadGuard<'_, Columns> {
        self.columns.read()
    }

    /// Adds the deferred commits in their order, because only the holder of the columns' lock takes
    /// them out of `later`.
    fn catch_up(&self, columns: &mut Columns) {
        if !self.is_behind() {
            return;
        }
        let commits = {
            let mut later = self.later.lock();
            self.behind.store(false, Ordering::Release);
            std::mem::take(&mut *later)
        };
        commits.iter().for_each(|commit| columns.add(commit));
    }
}

impl Columns {
    fn add(&mut self, commit: &Commit) {
        for (event, offset) in commit.events.iter().zip(&commit.offsets) {
            self.push(*offset, &event.event_type, event.tags.iter().map(Tag::as_str));
        }
        if let Some(key) = &commit.key {
            let last = commit.first.plus(commit.events.len() as u64).before();
            let keyed = KeyedCommit { first: commit.first, last, digest: key.digest };
            self.keys.insert(key.name.clone(), keyed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn commit(number: u64) -> Commit {
        let event = RawEvent::new("counted", number.to_string()).tag(Tag::new("all", 1));
        let (events, offsets) = (vec![event], vec![number as u32 * 100]);
        Commit { first: Position::new(number + 1), key: None, events, offsets }
    }

    /// A look-up sees every commit that was added before it, and sees all commits in order.
    #[test]
    fn no_look_up_misses_a_deferred_commit() {
        const COMMITS: u64 = 20_000;
        let newest = Arc::new(Newest::new(Columns::new(Position::new(1))));
        let added = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let readers: Vec<_> = (0..3)
            .map(|reader| {
                let (newest, added) = (newest.clone(), added.clone());
                std::thread::spawn(move || {
                    while added.load(Ordering::Acquire) < COMMITS {
                        let before = added.load(Ordering::Acquire);
                        if reader == 0 {
                            newest.settle();
                        }
                        let columns = newest.columns();
                        assert!(u64::from(columns.len()) >= before, "a commit is missing");
                        assert!(columns.offsets.is_sorted(), "commits are out of order");
                        assert_eq!(
                            columns.tags.get("all:1").map_or(0, |all| all.len()),
                            columns.offsets.len()
                        );
                    }
                })
            })
            .collect();
        for number in 0..COMMITS {
            match number % 3 {
                0 => newest.add(&commit(number)),
                _ => newest.add_later(commit(number)),
            }
            added.store(number + 1, Ordering::Release);
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(u64::from(newest.columns().len()), COMMITS);
    }
}
