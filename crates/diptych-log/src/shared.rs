//! The state that all rooms of an open log share: its options and folders, the catalog, and what is
//! published. Apart from `check_place`, nothing here waits for the disk or for another thread.

use std::sync::Arc;

use diptych_store::{
    CommitNumber, Head, HeadPublisher, LogIdentity, Pause, Position, ReadError, Timestamp,
    Unavailable,
};

use crate::{
    catalog::{Catalog, LiveCatalog, maps::Maps, part::IndexPart, segment::Segment},
    disk::Disk,
    folder::Folders,
    format::{chain::Chain, frame::TrackingTable, segment::Head as SegmentHead},
    index::Seed,
    options::LogOptions,
    sync::{
        RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// The place where a log continues after an open. The open finds it, and the first append goes
/// there.
#[derive(Debug)]
pub(crate) struct LogEnd {
    /// The last position.
    pub(crate) position: Position,
    /// When the last commit was recorded.
    pub(crate) time: Timestamp,
    pub(crate) tracking: Arc<TrackingTable>,
    /// The last segment.
    pub(crate) segment: Arc<Segment>,
    pub(crate) segment_head: SegmentHead,
    /// The offset of the next frame in the last segment.
    pub(crate) offset: u64,
    /// The running checksum of the segment's frames before `offset`.
    pub(crate) chain: Chain,
    /// The segment has no commit before this offset.
    pub(crate) segment_from: u64,
    /// The index part in memory, and the offset of the first frame that it covers.
    pub(crate) tail: Arc<IndexPart>,
    pub(crate) tail_from: u64,
    /// Why the log takes no commits; `None` if it takes commits.
    pub(crate) refuses: Option<Unavailable>,
}

/// The state that the owners of an open log share.
#[derive(Debug)]
pub(crate) struct SharedState {
    options: LogOptions,
    folders: Folders,
    identity: LogIdentity,
    /// The key of the hash of names, for new index files and segment filters.
    seed: Seed,
    maps: Arc<Maps>,
    catalog: LiveCatalog,
    publisher: HeadPublisher,
    /// Tracking of published commits.
    tracking: RwLock<Arc<TrackingTable>>,
    /// Whether the log was closed and refuses reads.
    closed: AtomicBool,
}

impl SharedState {
    pub(crate) fn new(
        options: LogOptions,
        folders: Folders,
        (identity, seed): (LogIdentity, Seed),
        (maps, catalog): (Arc<Maps>, Catalog),
        end: &LogEnd,
    ) -> SharedState {
        SharedState {
            options,
            folders,
            identity,
            seed,
            maps,
            catalog: LiveCatalog::new(catalog),
            publisher: HeadPublisher::new(end.position),
            tracking: RwLock::new(end.tracking.clone()),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn options(&self) -> &LogOptions {
        &self.options
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.options.disk
    }

    pub(crate) fn folders(&self) -> &Folders {
        &self.folders
    }

    pub(crate) fn identity(&self) -> LogIdentity {
        self.identity
    }

    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }

    /// The files that the log has mapped.
    pub(crate) fn maps(&self) -> &Arc<Maps> {
        &self.maps
    }

    /// The index parts and segment filters as they are now.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.snapshot()
    }

    /// The list of index parts and segment filters, for callers that change it.
    pub(crate) fn live_catalog(&self) -> &LiveCatalog {
        &self.catalog
    }

    pub(crate) fn head(&self) -> Head {
        self.publisher.head()
    }

    /// Tracking of published commits.
    pub(crate) fn tracking(&self) -> Arc<TrackingTable> {
        self.tracking.read().clone()
    }

    /// Publishes commits up to this one to readers. Only the thread with the writer's lock
    /// publishes, so the tracking is never older than the head.
    pub(crate) fn publish(
        &self,
        position: Position,
        commit: CommitNumber,
        tracking: Arc<TrackingTable>,
    ) {
        *self.tracking.write() = tracking;
        self.publisher.publish(position, commit);
    }

    /// Shows whether the log takes no commits for now.
    pub(crate) fn pause(&self, pause: Option<Pause>) {
        match pause {
            Some(pause) => self.publisher.pause(pause),
            None => self.publisher.resume(),
        }
    }

    /// Ends the head: callers that wait for a commit get the error `why`.
    pub(crate) fn end_head(&self, why: Unavailable) {
        self.publisher.end(why);
    }

    /// Refuses reads from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn check_open(&self) -> Result<(), ReadError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(Unavailable::Closed.into()),
            false => Ok(()),
        }
    }

    /// Checks that the path of the log still leads to the folder that was opened. The log checks
    /// this before it creates a file or acknowledges a commit. Writes go to the opened folder,
    /// wherever it is. If that folder was moved, the next open of the path would not find the
    /// commits that the log acknowledges from now on.
    pub(crate) fn check_place(&self) -> Result<(), String> {
        self.disk().check_place(&self.folders.segments).map_err(|error| {
            format!(
                "{error}; every acknowledged commit is in the folder that was opened: put that \
                 folder back, or open it where it is now"
            )
        })
    }
}
