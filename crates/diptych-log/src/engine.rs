//! An open log: the owners of its parts, and the order in which they work together.
//!
//! Locks are taken in this order: the clusterer, the writer, the lock of pauses, the state of the
//! acceptor, the columns of an index part. The lock of the live catalog is held only to take or to
//! replace its snapshot. Each lock is private to its owner. This module alone holds the clusterer,
//! the writer and the lock of pauses.

use std::{io, path::Path, task::Waker};

use diptych_store::{LogIdentity, Position, SyncError, Unavailable};

use crate::{
    append::{
        accept::Acceptor,
        batch_waiters::BatchWaiters,
        writer::{OpenSteps, Writer},
    },
    disk::DiskLock,
    error::OpenError,
    folder::{Folders, unclean, unfinished},
    format::{head::PublishedHead, manifest::Role},
    maintain::{cluster::Clusterer, filters, indexer::Indexer},
    open::{self, CommitSource, OpenLog, evidence::Evidence},
    options::{Background, LogOptions},
    read::Reader,
    shared::SharedState,
    sync::{Mutex, block_on},
};

mod archive;
mod pause;
mod upkeep;
mod write;

const NO_SEGMENT: &str = "cannot begin a new segment";

/// An open log.
#[derive(Debug)]
pub(crate) struct Engine {
    shared: SharedState,
    /// Accepts commits.
    acceptor: Acceptor,
    /// Held while writing, by the writer thread or by a caller that found it idle.
    writer: Mutex<Writer>,
    /// Held while a pause begins or ends. So the head shows the changes in their order, and never a
    /// pause that is over.
    pausing: Mutex<()>,
    /// Threads that wait for the batch with their commit.
    waiters: BatchWaiters,
    /// Parts of the index on their way to files.
    indexer: Indexer,
    /// Held while a segment is clustered.
    clusterer: Mutex<Clusterer>,
    /// Released when the log is closed.
    lock: Mutex<Option<Box<dyn DiskLock>>>,
}

impl Engine {
    /// Opens the log in a folder. It has no threads yet.
    pub(crate) fn open(
        root: &Path,
        options: LogOptions,
        source: CommitSource,
    ) -> Result<Engine, OpenError> {
        let opened = open::open(root, options, source)?;
        let is_backup = opened.end.refuses.is_some();
        let (begins_anew, new_epoch) = (opened.begins_anew, opened.new_epoch);
        let engine = Engine::new(opened);
        if is_backup {
            return Ok(engine);
        }
        // First, because they may fill the disk.
        unfinished::remove(engine.shared.disk(), engine.shared.folders());
        engine.begin(begins_anew, true)?;
        if new_epoch {
            engine.must_have_begun()?;
        }
        Ok(engine)
    }

    /// Continues the log in a new epoch. The caller holds the folder until it is that of a log;
    /// `options.disk` reaches it through the held folder.
    pub(crate) fn in_new_epoch(
        folders: &Folders,
        options: LogOptions,
        evidence: Evidence,
        restored_from: Option<(LogIdentity, Position)>,
    ) -> Result<Engine, OpenError> {
        let opened = open::in_new_epoch(folders, options, evidence, restored_from)?;
        let engine = Engine::new(opened);
        engine.begin(true, false)?;
        engine.must_have_begun()?;
        // The manifest says the same from now on.
        unclean::remove(engine.shared.disk(), &engine.shared.folders().root)?;
        Ok(engine)
    }

    /// Checks that there was space for the first segment of a new epoch. An epoch that was shown
    /// and is not durable would be another one after the next open, and everything that was bound
    /// to it meanwhile would belong to no log.
    fn must_have_begun(&self) -> Result<(), OpenError> {
        match self.acceptor.writer_paused() {
            None => Ok(()),
            Some(Unavailable::Storage { what, cause, .. }) => {
                let what = format!("{NO_SEGMENT} for a new epoch, as commits may be lost: {what}");
                let cause = io::Error::new(cause.kind(), cause);
                Err(OpenError::Io { what, cause })
            }
            Some(why) => {
                Err(OpenError::Io { what: NO_SEGMENT.to_owned(), cause: io::Error::other(why) })
            }
        }
    }

    /// Notes in the manifest that the log is open, before anything is appended to it.
    ///
    /// A new segment comes with its own manifest. Until then the older one stays, so that an open
    /// which is interrupted leaves the evidence of a loss as it was. Only a log of format 1 is
    /// noted before, because its new segment has a format that needs a manifest.
    ///
    /// If there is no space for this, the log is open for reads, and commits wait for it. `others`
    /// is set if other files of the folder are to say the same as the manifest.
    fn begin(&self, begins_anew: bool, others: bool) -> Result<(), OpenError> {
        let first = {
            let mut writer = self.writer.lock();
            let migrates = writer.migrates();
            if migrates {
                tracing::info!("the log continues in format 2, which older versions do not open");
            }
            writer.begin_steps(OpenSteps { manifest: !begins_anew || migrates, others });
            writer.do_first_step(&self.shared)
        };
        self.do_or_pause(first)?;
        if begins_anew {
            // A new segment has a new checksum: bytes that were cut off never pass for a record
            // again, wherever a disk may still have them.
            self.begin_anew()?;
        }
        if self.acceptor.is_paused() {
            return Ok(());
        }
        let last = self.writer.lock().do_last_steps(&self.shared);
        self.do_or_pause(last)
    }

    fn new(opened: OpenLog) -> Engine {
        let OpenLog { options, folders, identity, seed, maps, catalog, end, .. } = opened;
        let shared = SharedState::new(options, folders, (identity, seed), (maps, catalog), &end);
        let writer = Writer::new(
            end.segment.clone(),
            opened.file,
            end.offset,
            opened.head_file,
            opened.manifest,
        );
        let acceptor = Acceptor::new(end, shared.disk());
        Engine {
            shared,
            acceptor,
            writer: Mutex::new(writer),
            pausing: Mutex::default(),
            waiters: BatchWaiters::default(),
            indexer: Indexer::default(),
            clusterer: Mutex::default(),
            lock: Mutex::new(opened.lock),
        }
    }

    /// Begins a new segment to continue in.
    fn begin_anew(&self) -> Result<(), OpenError> {
        self.acceptor.begin_anew(&self.shared);
        if self.acceptor.is_paused() {
            return Ok(());
        }
        self.write_all();
        // Synced whatever the durability: once a new epoch was shown, a loss of power must not undo
        // it.
        self.sync_all();
        match self.acceptor.ended() {
            None => Ok(()),
            Some(why) => {
                let (what, cause) = (NO_SEGMENT.to_owned(), io::Error::other(why.to_string()));
                Err(OpenError::Io { what, cause })
            }
        }
    }

    pub(crate) fn shared(&self) -> &SharedState {
        &self.shared
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader::new(&self.shared)
    }

    /// Where the published log ends. Waits for the batch that is being written.
    pub(crate) fn published_head(&self) -> PublishedHead {
        self.writer.lock().published_head(&self.shared)
    }

    /// Whether the log has no threads, so that its callers do the work.
    fn is_inline(&self) -> bool {
        self.shared.options().background == Background::Inline
    }

    /// Stops accepting commits. Commits that are accepted and not synced have an unknown outcome.
    pub(crate) fn fail(&self, reason: &str) {
        if self.is_closing_unchanged() {
            // Reading needs no space. The next open does what could not be done now.
            tracing::debug!(reason, "the newest part of the index stays in the log");
        } else {
            tracing::error!(reason, "the log stops taking commits");
        }
        let why = Unavailable::Failed { reason: reason.into() };
        let woken = self.acceptor.fail(why.clone());
        self.shared.end_head(why);
        self.waiters.end();
        // Last, because a waker runs code of others.
        woken.into_iter().for_each(Waker::wake);
    }

    /// Whether no commit was accepted, and none will be.
    fn is_closing_unchanged(&self) -> bool {
        let ended = self.acceptor.ended();
        self.acceptor.commits().0 == 0 && matches!(ended, Some(Unavailable::Closed))
    }

    /// Gives the log this role. It is durable once the log is closed in order.
    pub(crate) fn take_role(&self, role: Role) {
        self.writer.lock().take_role(role);
    }

    /// Closes the log: refuses commits and reads, and writes, syncs and indexes everything that was
    /// accepted. `join_writer` and `join_indexer` wait until the threads have ended.
    pub(crate) fn close(
        &self,
        join_writer: impl FnOnce(),
        join_indexer: impl FnOnce(),
    ) -> Result<(), SyncError> {
        if !self.acceptor.close(&self.shared) {
            return Ok(());
        }
        join_writer();
        self.finish();
        self.indexer.stop();
        join_indexer();
        // As the log is closed, no thread begins to cluster again.
        drop(self.clusterer.lock());
        let synced = self.synced();
        self.shared.end_head(Unavailable::Closed);
        self.waiters.end();
        self.lock.lock().take();
        synced
    }

    /// Writes and syncs everything and marks the log as closed: the next open has nothing to
    /// repair.
    fn finish(&self) {
        self.write_all();
        self.sync_all();
        if let Some(why) = self.acceptor.writer_paused() {
            return self.give_up(&why);
        }
        if !self.acceptor.mark_closed() {
            return;
        }
        tracing::debug!(commits = self.acceptor.commits().0, "the log is closed");
        self.write_all();
        if self.acceptor.writer_paused().is_some() {
            self.forgo_last_records();
        }
        if self.is_inline() {
            filters::build_all(&self.shared);
        }
        if self.cut_prepared() && self.sync_all() && !self.acceptor.has_failed() {
            self.note_closed();
        }
    }

    /// Whether everything accepted is durable, once nothing more is written. This can be so even if
    /// the log failed, for example over an index file.
    fn synced(&self) -> Result<(), SyncError> {
        let (commits, ended) = (self.acceptor.commits(), self.acceptor.ended());
        match ended {
            Some(cause @ Unavailable::Failed { .. })
                if commits.0 > 0 && self.writer.lock().is_dirty() =>
            {
                Err(SyncError { cause })
            }
            // Each commit was published by now or never will be, so this does not wait.
            _ => block_on(diptych_store::CommitSync::new(commits, self.shared.head()).wait()),
        }
    }

    /// The last published position.
    pub(crate) fn position(&self) -> Position {
        self.shared.head().position()
    }
}
