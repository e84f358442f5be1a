use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, CommitBatch, EventStore, Filter, Head, KeyedCommit,
    Limits, LogIdentity, Position, Read, ReadCommits, ReadError, SyncError, SyncedCommit, Tag,
    Tracking, Unavailable,
};
use parking_lot::Mutex;
use pollster::block_on;

use crate::{
    append::accept::Writes,
    archive::{self, ArchiveLimit, ArchiveReport},
    backup::{BackupReport, BackupSource, SealedSegments},
    disk::Disk,
    engine::Engine,
    error::{ArchiveError, BackupError, OpenError},
    folder::Folders,
    format::head::PublishedHead,
    options::{Background, LogOptions},
    report::Stats,
    snapshots::Snapshots,
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
    /// A folder that is a copy, or came to another file system, is refused until it is adopted
    /// ([`adopt`](crate::adopt())), unless [`LogOptions::place`] says otherwise. A log of an older
    /// format is migrated, which older versions of this program do not open any more.
    ///
    /// # Errors
    /// [`OpenError`]: the folder is held, moved or a replica, the log is damaged or newer, or files
    /// cannot be used.
    pub fn open(dir: impl AsRef<Path>, options: LogOptions) -> Result<Log, OpenError> {
        let background = options.background;
        let engine = Arc::new(Engine::open(dir.as_ref(), options)?);
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

    fn place(&self) -> (Arc<dyn Disk>, PathBuf) {
        let shared = self.0.engine.shared();
        (shared.options().disk.clone(), shared.folders().root.clone())
    }

    /// Where the published log ends, if it is not closed.
    fn published(&self) -> Option<PublishedHead> {
        let engine = &self.0.engine;
        engine.shared().check_open().ok().map(|()| engine.published_head())
    }

    /// Brings the backup in a folder up to date with this log, as [`backup`](crate::backup()) does
    /// from outside. Commits go on meanwhile.
    ///
    /// # Errors
    /// As [`backup`](crate::backup()).
    pub fn backup_to(
        &self,
        dir: impl AsRef<Path>,
        sealed: SealedSegments,
        progress: impl FnMut(u64, u64),
    ) -> Result<BackupReport, BackupError> {
        let end = self.published().ok_or_else(|| OpenError::Io {
            what: "cannot back up the log".to_owned(),
            cause: io::Error::other(Unavailable::Closed),
        })?;
        let (disk, root) = self.place();
        let from = BackupSource { disk: &*disk, folders: &Folders::new(&root), end };
        from.back_up(dir.as_ref(), sealed, progress)
    }

    /// Moves complete segments of this log to another folder, the archive, the oldest first. They
    /// are read from there as before. Commits and reads go on meanwhile. `progress` gets the bytes
    /// done so far and the total.
    ///
    /// Index files and segment filters stay, so a look-up of a name that no event has does not
    /// touch the archive. The log opens and takes commits while the archive is not there; a read of
    /// archived events is then [`Unavailable::Storage`], with the name of the archive. Only this
    /// log may use the folder, which is created if missing.
    ///
    /// Each segment is verified, copied, synced and read again before its file is removed. If this
    /// fails or is killed, the call can be repeated.
    ///
    /// # Errors
    /// [`ArchiveError`]: the folder is not the archive of this log, a segment is damaged, a file
    /// cannot be used. Segments that were moved before stay archived.
    pub fn archive(
        &self,
        to: impl AsRef<Path>,
        limit: ArchiveLimit,
        progress: impl FnMut(u64, u64),
    ) -> Result<ArchiveReport, ArchiveError> {
        archive::archive(&self.0.engine, to.as_ref(), limit, progress)
    }

    /// The place for snapshots beside this log.
    ///
    /// # Errors
    /// If its folder cannot be created or read.
    pub fn snapshots(&self) -> io::Result<Snapshots> {
        let (disk, root) = self.place();
        Snapshots::beside(disk, &root)
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
) -> io::Result<JoinHandle<()>> {
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
        // Locked first, so that a concurrent close waits until this one is done.
        let mut threads = self.threads.lock();
        let indexer = threads.pop();
        // A thread that panicked has already failed the log; its files are as after a kill.
        let join_writer = || threads.drain(..).for_each(|writer| drop(writer.join()));
        let join_indexer = || indexer.into_iter().for_each(|indexer| drop(indexer.join()));
        self.engine.close(join_writer, join_indexer)
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
        let accepted = block_on(self.engine.append(append, Writes::Caller))?;
        self.engine.write_if_inline();
        Ok(block_on(accepted.synced())?)
    }

    /// Appends and returns when the commit is accepted: it has its positions, but is not durable
    /// yet.
    ///
    /// # Errors
    /// As [`EventStore::append`].
    pub fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        block_on(self.engine.append(append, Writes::Other))
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
        self.engine.reader().read(filter, &read)
    }

    /// See [`EventStore::commits`].
    ///
    /// # Errors
    /// See there.
    pub fn commits(&self, read: &ReadCommits) -> Result<CommitBatch, ReadError> {
        self.engine.reader().commits(read)
    }

    /// See [`EventStore::last`].
    ///
    /// # Errors
    /// See there.
    pub fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.engine.reader().last(filter, upto)
    }

    /// See [`EventStore::count`].
    ///
    /// # Errors
    /// See there.
    pub fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.engine.reader().count(tag, upto)
    }

    /// See [`EventStore::keyed`].
    ///
    /// # Errors
    /// See there.
    pub fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.engine.reader().keyed(key)
    }

    /// See [`EventStore::tracked`].
    ///
    /// # Errors
    /// See there.
    pub fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.engine.reader().tracked(source)
    }

    /// See [`EventStore::types`]. Reads the whole index, but not the log.
    ///
    /// # Errors
    /// See there.
    pub fn types(&self) -> Result<Vec<String>, ReadError> {
        self.engine.reader().types()
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
        self.engine.reader().stats()
    }
}

impl EventStore for Log {
    fn identity(&self) -> LogIdentity {
        self.0.engine.shared().identity()
    }

    fn limits(&self) -> Limits {
        self.0.engine.shared().options().limits.clone()
    }

    fn head(&self) -> Head {
        self.0.engine.shared().head()
    }

    async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        self.0.engine.append(append, Writes::Other).await
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.blocking().read(filter, read)
    }

    async fn commits(&self, read: ReadCommits) -> Result<CommitBatch, ReadError> {
        self.blocking().commits(&read)
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
