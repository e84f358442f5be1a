//! The state that an open log shares between its callers, its writer and its indexer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};

use diptych_store::{CommitNumber, Head, HeadPublisher, LogIdentity, Position, Unavailable};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::{
    append::{accept::State, batch_waiters::BatchWaiters, writer::Writer},
    catalog::{Catalog, Folders},
    disk::{Disk, DiskFile, DiskLock},
    format::{frame::TrackingTable, segment::Segment},
    index::Seed,
    maintain::indexer::Indexer,
    options::LogOptions,
    read::follower::PublishedHead,
};

/// An open log.
///
/// Locks are taken in this order: `clustered` of the indexer, `writer`, `state`, a part's columns.
/// The catalog's lock is held only to take or to replace its snapshot.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) options: LogOptions,
    pub(crate) folders: Folders,
    pub(crate) identity: LogIdentity,
    /// The key of the hash of names, for new index and group files.
    pub(crate) seed: Seed,
    /// Assigns positions; held for as long as it takes to check and queue one commit.
    pub(crate) state: Mutex<State>,
    /// Tells the writer thread that there is work.
    pub(crate) work: Condvar,
    /// The last accepted position, for look-ups without the lock.
    pub(crate) accepted: AtomicU64,
    /// The log was closed and refuses reads. Apart from `state`, so that reads never wait for it.
    pub(crate) closed: AtomicBool,
    /// Held while writing, by the writer thread or by a caller that found it idle.
    pub(crate) writer: Mutex<Writer>,
    pub(crate) indexer: Indexer,
    pub(crate) catalog: RwLock<Arc<Catalog>>,
    pub(crate) publisher: HeadPublisher,
    /// For threads that wait for their commit.
    pub(crate) batches: BatchWaiters,
    /// The published head for processes that follow the log: see the module `follower`. A backup
    /// has none.
    pub(crate) head_file: Option<Arc<dyn DiskFile>>,
    /// Tracking of published commits.
    pub(crate) tracking: RwLock<Arc<TrackingTable>>,
    /// Released when the log is closed.
    pub(crate) lock: Mutex<Option<Box<dyn DiskLock>>>,
}

impl Engine {
    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.options.disk
    }

    pub(crate) fn head(&self) -> Head {
        self.publisher.head()
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().clone()
    }

    /// Tells other processes where the published log ends.
    pub(crate) fn leave_head(&self, position: Position, segment: &Segment) {
        let head = self.head_in(position, segment);
        let Some(file) = &self.head_file else { return };
        if let Err(error) = file.write_at(0, &head.encode()) {
            tracing::warn!(%error, "the published head cannot be left for followers");
        }
    }

    /// Where the published log ends. Waits for the batch that is being written.
    pub(crate) fn published_head(&self) -> PublishedHead {
        let writer = self.writer.lock();
        self.head_in(self.head().position(), &writer.segment)
    }

    fn head_in(&self, position: Position, segment: &Segment) -> PublishedHead {
        let (end, identity) = (segment.end(), self.identity);
        PublishedHead { position, end, identity, segment: segment.sequence }
    }

    /// Checks, before something new is created or acknowledged, that the path of the log still
    /// leads to the folder that was opened. Writes go to that folder wherever it is, and nowhere
    /// else; but the next open of the path would not find commits that are acknowledged from now
    /// on.
    pub(crate) fn check_place(&self) -> Result<(), String> {
        self.disk().check_place(&self.folders.segments).map_err(|error| {
            format!(
                "{error}; every acknowledged commit is in the folder that was opened: put that \
                 one back, or open it where it is now"
            )
        })
    }

    pub(crate) fn publish(
        &self,
        position: Position,
        commit: CommitNumber,
        tracking: Arc<TrackingTable>,
    ) {
        *self.tracking.write() = tracking;
        self.publisher.publish(position, commit);
    }

    /// Stops taking commits. Accepted commits that are not synced have an unknown outcome.
    pub(crate) fn fail(&self, reason: &str) {
        tracing::error!(reason, "the log stops taking commits");
        let why = Unavailable::Failed { reason: reason.into() };
        let woken = {
            let mut state = self.state.lock();
            state.stop_taking(why.clone());
            std::mem::take(&mut state.room)
        };
        self.publisher.end(why);
        self.batches.end();
        woken.into_iter().for_each(std::task::Waker::wake);
    }
}
