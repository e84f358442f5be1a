use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    task::Poll,
    thread::{self, JoinHandle},
};

use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, CommitNumber, CommitSync, EventStore, Filter, Head,
    KeyedCommit, Limits, LogIdentity, Position, Read, ReadError, SyncError, SyncedCommit, Tag,
    Tracking, Unavailable,
};
use parking_lot::Mutex;
use pollster::block_on;

use crate::{
    append::accept::{self, EncodedCommit, Outcome, Writes},
    disk::Disk,
    engine::Engine,
    error::{OpenError, read_failed},
    format::frame::CONTROL_CLOSED,
    open,
    options::{Background, LogOptions},
    read::{count_names, follower::PublishedHead, type_names},
    report::{self, Stats},
};

/// An open log. Cloning shares it; dropping the last clone closes it.
///
/// Tasks use it as an [`EventStore`], threads through [`blocking`](Log::blocking). Reads run on the
/// calling thread, work on mapped files, and are bounded by the limits of a batch.
#[derive(Clone, Debug)]
pub struct Log(Arc<Open>);

#[derive(Debug)]
struct Open {
    engine: Arc<Engine>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Log {
    /// Opens the log in a folder, creating both if missing.
    ///
    /// The folder is locked: one process at a time, and within it one open log. After a kill or a
    /// loss of power the log is cut back to its last whole commit.
    ///
    /// A backup opens for reading only, as it was when it was made. It refuses commits, and says
    /// that it has to be restored first.
    ///
    /// # Errors
    /// [`OpenError`]: the folder is held, the log is damaged or newer, or files cannot be used.
    pub fn open(dir: impl AsRef<Path>, options: LogOptions) -> Result<Log, OpenError> {
        let background = options.background;
        let engine = Arc::new(open::open(dir.as_ref(), options)?);
        engine.remove_unfinished();
        let open = Open { engine: engine.clone(), threads: Mutex::default() };
        if background == Background::Threads {
            let spawned = [
                spawn("diptych-writer", engine.clone(), Engine::run_writer),
                spawn("diptych-indexer", engine, Engine::run_indexer),
            ];
            for thread in spawned {
                let thread = thread.map_err(|cause| OpenError::Io {
                    what: "cannot start a thread of the log".to_owned(),
                    cause,
                })?;
                open.threads.lock().push(thread);
            }
        }
        Ok(Log(Arc::new(open)))
    }

    /// The operations of this log for plain threads, without futures.
    pub fn blocking(&self) -> Blocking<'_> {
        Blocking { engine: &self.0.engine }
    }

    pub(crate) fn place(&self) -> (Arc<dyn Disk>, PathBuf) {
        let engine = &self.0.engine;
        (engine.options.disk.clone(), engine.folders.root.clone())
    }

    /// Where the published log ends, if it is not closed.
    pub(crate) fn published(&self) -> Option<PublishedHead> {
        let engine = &self.0.engine;
        (!engine.closed.load(Ordering::Acquire)).then(|| engine.published_head())
    }

    /// Writes, syncs and indexes everything accepted, and releases the folder. From then on other
    /// clones answer [`Unavailable::Closed`].
    ///
    /// # Errors
    /// [`SyncError`] if an accepted commit could not be synced.
    pub fn close(self) -> Result<(), SyncError> {
        self.0.close()
    }
}

fn spawn(
    name: &str,
    engine: Arc<Engine>,
    run: impl FnOnce(&Engine) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let guarded = move || {
        // Otherwise callers would wait for ever for a thread that is gone.
        if catch_unwind(AssertUnwindSafe(|| run(&engine))).is_err() {
            engine.fail("a thread of the log panicked: this is a mistake in the engine");
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(guarded)
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "a log was dropped and could not be closed in order");
        }
    }
}

impl Open {
    fn close(&self) -> Result<(), SyncError> {
        let engine = &*self.engine;
        // Locked first, so that a concurrent close waits until this one is done.
        let mut threads = self.threads.lock();
        {
            let mut state = engine.state.lock();
            if matches!(state.ended, Some(Unavailable::Closed)) {
                return Ok(());
            }
            state.ended.get_or_insert(Unavailable::Closed);
            engine.closed.store(true, Ordering::Release);
            state.stop = true;
            let woken = std::mem::take(&mut state.room);
            engine.work.notify_all();
            drop(state);
            woken.into_iter().for_each(std::task::Waker::wake);
        }
        let indexer = threads.pop();
        for writer in threads.drain(..) {
            // A thread that panicked has already failed the log; its files are as after a kill.
            let _ = writer.join();
        }
        engine.finish();
        engine.stop_indexer();
        if let Some(indexer) = indexer {
            let _ = indexer.join();
        }
        engine.end_clustering();
        let synced = engine.is_synced();
        engine.publisher.end(Unavailable::Closed);
        engine.batches.end();
        engine.lock.lock().take();
        synced
    }
}

impl Engine {
    /// Writes and syncs everything and marks the log as closed: the next open has nothing to
    /// repair.
    fn finish(&self) {
        self.write_all();
        self.sync_all();
        let commits = {
            let mut state = self.state.lock();
            if state.failed() {
                return;
            }
            if state.commits > 0 {
                let since = state.since_base();
                let position = state.accepted.plus(1).get() - state.segment.base.get();
                let head = state.segment_head;
                let mark = accept::control_frame(position as u32, since, head.checksum, |body| {
                    body.push(CONTROL_CLOSED)
                });
                state.push(mark);
            }
            accept::freeze(&mut state, false);
            state.commits
        };
        tracing::debug!(commits, "the log is closed");
        self.write_all();
        if self.must_drive() {
            self.build_filters();
        }
        if self.cut_prepared() && self.sync_all() && !self.state.lock().failed() {
            self.forget_interval();
        }
    }

    /// Whether everything accepted is durable, once nothing more is written. This can be so even if
    /// the log failed, for example over an index file.
    fn is_synced(&self) -> Result<(), SyncError> {
        let (commits, ended) = {
            let state = self.state.lock();
            (CommitNumber(state.commits), state.ended.clone())
        };
        match ended {
            Some(cause @ Unavailable::Failed { .. }) if self.writer.lock().dirty => {
                Err(SyncError { cause })
            }
            // Each commit was published by now or never will be, so this does not wait.
            _ => block_on(CommitSync::new(commits, self.head()).wait()),
        }
    }

    fn must_drive(&self) -> bool {
        self.options.background == Background::Inline
    }

    /// Offers a commit until it is accepted or refused.
    async fn take(&self, append: Append, writes: Writes) -> Result<AcceptedCommit, AppendError> {
        let mut prepared = EncodedCommit::new(append, &self.options.limits)?;
        let offered = poll_fn(|context| {
            loop {
                match self.offer(&mut prepared, writes, context.waker()) {
                    Poll::Pending if self.must_drive() => self.write_all(),
                    offered => return offered,
                }
            }
        });
        match offered.await? {
            Outcome::Accepted { accepted, batch, write } => {
                match writes {
                    Writes::Caller if write => self.write_as_caller(),
                    // Without threads nothing is written until the caller writes.
                    Writes::Caller if !self.must_drive() => self.batches.wait(batch),
                    _ => {}
                }
                Ok(accepted)
            }
            Outcome::Refused(refusal, rests_on) => {
                if self.must_drive() {
                    self.write_all();
                }
                match rests_on.wait().await {
                    Ok(()) => Err(refusal),
                    // This commit was not written, and the commits that it conflicts with may be
                    // lost.
                    Err(SyncError { cause }) => Err(cause.into()),
                }
            }
        }
    }

    fn flush(&self) -> Result<(), SyncError> {
        let commits = CommitNumber(self.state.lock().commits);
        if self.must_drive() {
            self.write_all();
        }
        block_on(CommitSync::new(commits, self.head()).wait())?;
        if self.sync_all() {
            return Ok(());
        }
        let cause = self.state.lock().ended.clone().unwrap_or(Unavailable::Closed);
        Err(SyncError { cause })
    }
}

/// The operations of a [`Log`] for plain threads, without futures.
#[derive(Clone, Copy, Debug)]
pub struct Blocking<'a> {
    engine: &'a Engine,
}

impl Blocking<'_> {
    /// Appends and waits until the commit is synced; the fastest way for a thread that waits
    /// for each commit.
    ///
    /// # Errors
    /// As [`EventStore::append`], and [`AppendError::OutcomeUnknown`] if its sync failed.
    pub fn commit(&self, append: Append) -> Result<SyncedCommit, AppendError> {
        let accepted = block_on(self.engine.take(append, Writes::Caller))?;
        if self.engine.must_drive() {
            self.engine.write_all();
            self.engine.sync_if_due();
        }
        Ok(block_on(accepted.synced())?)
    }

    /// Appends and returns when the commit is accepted: it has its positions, but is not durable
    /// yet.
    ///
    /// # Errors
    /// As [`EventStore::append`].
    pub fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        block_on(self.engine.take(append, Writes::Other))
    }

    /// Writes everything accepted so far and syncs it to the disk, whatever the durability.
    ///
    /// # Errors
    /// [`SyncError`] if that failed.
    pub fn flush(&self) -> Result<(), SyncError> {
        self.engine.flush()
    }

    /// See [`EventStore::read`].
    ///
    /// # Errors
    /// See there.
    pub fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.engine.read(filter, &read)
    }

    /// See [`EventStore::last`].
    ///
    /// # Errors
    /// See there.
    pub fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.engine.last(filter, upto)
    }

    /// See [`EventStore::count`].
    ///
    /// # Errors
    /// See there.
    pub fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.engine.count(tag, upto)
    }

    /// See [`EventStore::keyed`].
    ///
    /// # Errors
    /// See there.
    pub fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.engine.keyed(key)
    }

    /// See [`EventStore::tracked`].
    ///
    /// # Errors
    /// See there.
    pub fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.engine.check_open()?;
        let tracking = self.engine.tracking.read().clone();
        Ok(tracking.get(source).map(|(tracking, _)| tracking.clone()))
    }

    /// See [`EventStore::types`]. Reads the whole index, but not the log.
    ///
    /// # Errors
    /// See there.
    pub fn types(&self) -> Result<Vec<String>, ReadError> {
        self.engine.check_open()?;
        // The head first: a catalog that is taken later holds everything published up to it.
        let head = self.engine.head().position();
        type_names(self.engine, &self.engine.catalog(), head)
    }

    /// Clusters every complete segment but the last complete one, now and without pauses, whatever
    /// the options say. For maintenance, and before measuring.
    ///
    /// Reads and commits go on meanwhile. Each segment is read, written and read again.
    ///
    /// # Errors
    /// [`ReadError`] if the log is closed, is a backup or has stopped taking commits, if a file
    /// cannot be written, or if a segment is damaged: that one stays as it is, and the others are
    /// clustered.
    pub fn cluster(&self) -> Result<(), ReadError> {
        self.engine.cluster_all()
    }

    /// Figures about the content and the files of the log. Reads the whole index, but not the log.
    ///
    /// # Errors
    /// [`ReadError`] if a file cannot be read.
    pub fn stats(&self) -> Result<Stats, ReadError> {
        let engine = self.engine;
        engine.check_open()?;
        let head = engine.head().position();
        let (types, tag_keys) = count_names(engine, &engine.catalog(), head)?;
        let files = report::files(engine);
        let files = files.map_err(|error| read_failed(&engine.folders.root, &error))?;
        Ok(Stats {
            identity: engine.identity,
            head,
            segments: files.segments,
            segment_bytes: files.segment_bytes,
            index_bytes: files.index_bytes,
            allocated_bytes: files.allocated_bytes,
            types,
            tag_keys,
            sources: engine.tracking.read().len() as u64,
        })
    }
}

impl EventStore for Log {
    fn identity(&self) -> LogIdentity {
        self.0.engine.identity
    }

    fn limits(&self) -> Limits {
        self.0.engine.options.limits.clone()
    }

    fn head(&self) -> Head {
        self.0.engine.head()
    }

    async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        self.0.engine.take(append, Writes::Other).await
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.blocking().read(filter, read)
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.blocking().last(filter, upto)
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.blocking().count(tag, upto)
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.blocking().keyed(key)
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.blocking().tracked(source)
    }

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.blocking().types()
    }

    async fn close(&self) -> Result<(), SyncError> {
        self.0.close()
    }
}
