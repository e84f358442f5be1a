use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, CommitBatch, EventStore, Filter, Head, KeyedCommit,
    Limits, LogIdentity, Position, Read, ReadCommits, ReadError, SyncError, SyncedCommit, Tag,
    Tracking, Unavailable,
};

use crate::{
    append::accept::Writes,
    archive::{self, ArchiveLimit, ArchiveReport},
    backup::{BackupReport, BackupSource, SealedSegments},
    disk::Disk,
    engine::Engine,
    error::{ArchiveError, BackupError, OpenError, VerifyError},
    folder::Folders,
    format::{head::PublishedHead, manifest::Role},
    open::CommitSource,
    options::{Background, LogOptions},
    report::{ScrubReport, Stats, VerifyReport},
    snapshots::Snapshots,
    sync::{
        Mutex, block_on,
        thread::{self, JoinHandle},
    },
    verify::{
        scrub,
        scrubs::{ScrubScope, Scrubs},
    },
};

/// An open log. A clone is the same log; dropping the last clone closes it.
///
/// Async tasks use it as an [`EventStore`], threads through [`blocking`](Log::blocking). A read
/// runs on the thread that calls it and works on mapped files. The limits of a batch bound the
/// read.
#[derive(Clone, Debug)]
pub struct Log(Arc<Open>);

#[derive(Debug)]
struct Open {
    engine: Arc<Engine>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    scrubs: Arc<Scrubs>,
    scrub_thread: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Opens the log in a folder, creating both if missing.
    ///
    /// The log locks the folder: only one process can have it open at a time, and this process only
    /// once. After a kill or a loss of power the open cuts the log back to its last whole commit.
    ///
    /// A backup can be opened only for reading, in the state in which it was made. It refuses
    /// commits, with an error that says that it has to be restored first.
    ///
    /// Opening a log that exists needs no space. Without space it can be read, and it refuses
    /// commits until there is some.
    ///
    /// A folder that is a copy, or that was moved to another file system, is refused until it is
    /// adopted ([`adopt`](crate::adopt())), unless [`LogOptions::place`] allows it. A log of an
    /// older format is migrated; older versions of this program can then no longer open it.
    ///
    /// # Errors
    /// [`OpenError`]: the folder is locked, was moved or is a replica, the log moved to another
    /// folder, is damaged or has a newer format, or a file cannot be used.
    pub fn open(dir: impl AsRef<Path>, options: LogOptions) -> Result<Log, OpenError> {
        Log::open_for(dir.as_ref(), options, CommitSource::Users)
    }

    pub(crate) fn open_for(
        dir: &Path,
        options: LogOptions,
        source: CommitSource,
    ) -> Result<Log, OpenError> {
        let (background, scrub) = (options.background, options.scrub);
        let engine = Arc::new(Engine::open(dir, options, source)?);
        let scrubs = Arc::<Scrubs>::default();
        let open = Open {
            engine: engine.clone(),
            threads: Mutex::default(),
            scrubs: scrubs.clone(),
            scrub_thread: Mutex::default(),
        };
        if background == Background::Threads {
            let spawned = [
                spawn("diptych-writer", engine.clone(), Engine::run_writer),
                spawn("diptych-indexer", engine.clone(), Engine::run_indexer),
            ];
            for thread in spawned {
                open.threads.lock().push(thread.map_err(not_started)?);
            }
            if let Some(schedule) = scrub {
                let run = move || {
                    // The outcome is noted, and logged.
                    scrubs
                        .run(&schedule, |rate| drop(scrub_once(&engine, &scrubs, rate, |_, _| {})));
                };
                let thread = thread::Builder::new().name("diptych-scrub".to_owned()).spawn(run);
                *open.scrub_thread.lock() = Some(thread.map_err(not_started)?);
            }
        }
        Ok(Log(Arc::new(open)))
    }

    /// The operations of this log for plain threads, without futures.
    pub fn blocking(&self) -> Blocking<'_> {
        Blocking { engine: &self.0.engine }
    }

    pub(crate) fn place(&self) -> (Arc<dyn Disk>, PathBuf) {
        let shared = self.0.engine.shared();
        (shared.options().disk.clone(), shared.folders().root.clone())
    }

    /// Where the published log ends; `None` if the log is closed.
    fn published(&self) -> Option<PublishedHead> {
        let engine = &self.0.engine;
        engine.shared().check_open().ok().map(|()| engine.published_head())
    }

    /// Brings the backup in a folder up to date with this log, as [`backup`](crate::backup()) does
    /// from outside. Commits continue meanwhile.
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

    /// Verifies this log while it is open and written to, up to the commit that is published now,
    /// as [`scrub`](crate::scrub) does from outside. It waits for another scrub of this log.
    ///
    /// # Errors
    /// [`VerifyError::Damaged`] with the first damage of each file, or why it could not be read.
    pub fn scrub(
        &self,
        bytes_per_second: u64,
        progress: impl FnMut(u64, u64),
    ) -> Result<VerifyReport, VerifyError> {
        scrub_once(&self.0.engine, &self.0.scrubs, bytes_per_second, progress)
    }

    /// The report of the scrub that ended last, on demand or on the schedule, since the log was
    /// opened.
    pub fn last_scrub(&self) -> Option<ScrubReport> {
        self.0.scrubs.last()
    }

    /// The folder for snapshots beside this log.
    ///
    /// # Errors
    /// If its folder cannot be created or read.
    pub fn snapshots(&self) -> io::Result<Snapshots> {
        let (disk, root) = self.place();
        Snapshots::beside(disk, &root)
    }

    /// Writes, syncs and indexes all accepted commits, and releases the folder. From then on the
    /// other clones return [`Unavailable::Closed`].
    ///
    /// # Errors
    /// [`SyncError`] if an accepted commit could not be synced.
    pub fn close(self) -> Result<(), SyncError> {
        self.0.close()
    }
}

impl Log {
    /// Closes the log with another role, if it can be closed in order. The manifest tells whether
    /// the log has that role.
    pub(crate) fn close_as(self, role: Role) -> Result<(), SyncError> {
        self.0.engine.take_role(role);
        self.0.close()
    }
}

fn scrub_once(
    engine: &Engine,
    scrubs: &Scrubs,
    bytes_per_second: u64,
    mut progress: impl FnMut(u64, u64),
) -> Result<VerifyReport, VerifyError> {
    let shared = engine.shared();
    shared.check_open().map_err(|_| scrub::is_closed())?;
    let (disk, folders, end) = (&*shared.options().disk, shared.folders(), engine.published_head());
    scrubs.scrub(&ScrubScope { disk, folders, end }, bytes_per_second, &mut progress)
}

fn not_started(cause: io::Error) -> OpenError {
    OpenError::Io { what: "cannot start a thread of the log".to_owned(), cause }
}

fn spawn(
    name: &str,
    engine: Arc<Engine>,
    run: impl FnOnce(&Engine) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let guarded = move || {
        // Without this, callers would wait for ever for a thread that has ended.
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
        self.scrubs.stop();
        if let Some(thread) = self.scrub_thread.lock().take() {
            drop(thread.join());
        }
        // This lock is taken first, so that a concurrent close waits until this one is done.
        let mut threads = self.threads.lock();
        let indexer = threads.pop();
        // A thread that panicked has already failed the log. The files are then as after a kill.
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
    /// Appends and waits until the commit is synced. This is the fastest way for a thread that
    /// waits for each of its commits.
    ///
    /// # Errors
    /// The errors of [`EventStore::append`], and [`AppendError::OutcomeUnknown`] if the sync
    /// failed.
    pub fn commit(&self, append: Append) -> Result<SyncedCommit, AppendError> {
        let accepted = block_on(self.engine.append(append, Writes::Caller))?;
        self.engine.write_if_inline();
        Ok(block_on(accepted.synced())?)
    }

    /// Appends and returns when the commit is accepted. The commit then has its positions, but is
    /// not durable yet.
    ///
    /// # Errors
    /// As [`EventStore::append`].
    pub fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        block_on(self.engine.append(append, Writes::Other))
    }

    /// Writes all commits accepted so far and syncs them to the disk, whatever the
    /// [`Durability`](crate::Durability).
    ///
    /// # Errors
    /// [`SyncError`] if the write or the sync failed.
    pub fn flush(&self) -> Result<(), SyncError> {
        self.engine.flush()
    }

    /// See [`EventStore::read`].
    ///
    /// # Errors
    /// The errors of that method.
    pub fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.engine.reader().read(filter, &read)
    }

    /// See [`EventStore::commits`].
    ///
    /// # Errors
    /// The errors of that method.
    pub fn commits(&self, read: &ReadCommits) -> Result<CommitBatch, ReadError> {
        self.engine.reader().commits(read)
    }

    /// See [`EventStore::last`].
    ///
    /// # Errors
    /// The errors of that method.
    pub fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.engine.reader().last(filter, upto)
    }

    /// See [`EventStore::count`].
    ///
    /// # Errors
    /// The errors of that method.
    pub fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.engine.reader().count(tag, upto)
    }

    /// See [`EventStore::keyed`].
    ///
    /// # Errors
    /// The errors of that method.
    pub fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.engine.reader().keyed(key)
    }

    /// See [`EventStore::tracked`].
    ///
    /// # Errors
    /// The errors of that method.
    pub fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.engine.reader().tracked(source)
    }

    /// See [`EventStore::types`]. Reads the whole index, but not the log.
    ///
    /// # Errors
    /// The errors of that method.
    pub fn types(&self) -> Result<Vec<String>, ReadError> {
        self.engine.reader().types()
    }

    /// Clusters every complete segment except the last complete one, now and without pauses,
    /// whatever the options say. Use it for maintenance and before measurements.
    ///
    /// Reads and commits continue meanwhile. Each segment is read, written and read again.
    ///
    /// # Errors
    /// [`ReadError`] if the log is closed, is a backup or has stopped taking commits, if a file
    /// cannot be written, or if a segment is damaged. A damaged segment stays as it is, and the
    /// other segments are clustered.
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
