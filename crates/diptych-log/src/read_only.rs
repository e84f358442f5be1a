//! A log that is opened for reading, while another process may be writing it.
//!
//! It has the writer's identity, and uses the writer's segments and index files. A thread looks for
//! newly published commits, and adds them to an index in memory (`tail_reader`). The subtle thing
//! is that the writer replaces and removes files at any time. A read that meets such a file lists
//! the files again, and is repeated.

use std::{
    io::ErrorKind,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, CommitBatch, EventStore, Filter, Head, KeyedCommit,
    Limits, LogIdentity, Position, Read, ReadCommits, ReadError, SyncError, Tag, Tracking,
    Unavailable,
};
use parking_lot::{Condvar, Mutex};

use crate::{
    catalog::segment::REPLACED,
    error::{OpenError, left},
    folder::manifest,
    format::manifest::{Manifest, Role},
    open::reading,
    options::{Background, LogOptions},
    read::Reader,
    report::Stats,
    shared::SharedState,
};

mod tail_reader;

use tail_reader::TailReader;

/// How often a read is tried, if damage or missing files may come from another process.
const ATTEMPTS: usize = 4;
/// How often a damaged index file looks as if another process replaced it.
const LOOKS_REPLACED: usize = 2;
/// How long commits may fail to be read before the head ends. Reads go on at the last head.
const PATIENCE: Duration = Duration::from_secs(5);

/// A log that is opened for reading only. Cloning shares it; dropping the last clone closes it.
///
/// It takes no lock and writes nothing, so it also works on a read-only file system and in a folder
/// of another user. Another process may write the log meanwhile: its commits are published here a
/// few milliseconds after they are acknowledged there ([`Tuning::follow_pause`]). Any number of
/// processes can read one log.
///
/// If the log gets another history (a backup is restored into the folder, acknowledged commits are
/// lost) or the folder is moved or replaced, the head ends with the reason, and the log has to be
/// opened again.
///
/// [`Tuning::follow_pause`]: crate::Tuning::follow_pause
#[derive(Clone, Debug)]
pub struct ReadOnlyLog(Arc<ReaderHandle>);

#[derive(Debug)]
struct ReaderHandle {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Inner {
    shared: SharedState,
    tail: Mutex<TailReader>,
    is_stopped: Mutex<bool>,
    stop: Condvar,
}

impl ReadOnlyLog {
    /// Opens the log, or the backup, in a folder for reading.
    ///
    /// With [`Background::Inline`] there is no thread that looks for new commits:
    /// [`refresh_now`](ReadOnlyLog::refresh_now) does that.
    ///
    /// # Errors
    /// [`OpenError`]: there is no log, it is damaged or newer, or files cannot be read.
    pub fn open(dir: impl AsRef<Path>, options: LogOptions) -> Result<ReadOnlyLog, OpenError> {
        let background = options.background;
        let opened = reading::open(dir.as_ref(), options)?;
        let tail = TailReader::new(&opened);
        let log = opened.log;
        let (maps, seed) = ((log.maps, log.catalog), (log.identity, log.seed));
        let shared = SharedState::new(log.options, log.folders, seed, maps, &log.end);
        let inner = Arc::new(Inner {
            shared,
            tail: Mutex::new(tail),
            is_stopped: Mutex::default(),
            stop: Condvar::new(),
        });
        let open = ReaderHandle { inner: inner.clone(), thread: Mutex::default() };
        if background == Background::Threads {
            let thread = thread::Builder::new().name("diptych-follow".to_owned());
            let spawned = thread.spawn(move || inner.run()).map_err(|cause| OpenError::Io {
                what: "cannot start the thread that looks for new commits".to_owned(),
                cause,
            })?;
            *open.thread.lock() = Some(spawned);
        }
        Ok(ReadOnlyLog(Arc::new(open)))
    }

    /// Publishes here what the writer has published by now.
    ///
    /// # Errors
    /// [`ReadError`] if that cannot be read, or if the history of the log has changed.
    pub fn refresh_now(&self) -> Result<(), ReadError> {
        self.0.inner.refresh()
    }

    /// The operations of this log for plain threads, without futures.
    pub fn blocking(&self) -> BlockingReads<'_> {
        BlockingReads { inner: &self.0.inner }
    }
}

impl Drop for ReaderHandle {
    fn drop(&mut self) {
        self.close();
    }
}

impl ReaderHandle {
    fn close(&self) {
        self.inner.shared.close();
        self.inner.shared.end_head(Unavailable::Closed);
        *self.inner.is_stopped.lock() = true;
        self.inner.stop.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // A thread that panicked has ended the head.
            let _ = thread.join();
        }
    }
}

impl Inner {
    /// The thread that looks for new commits.
    fn run(&self) {
        let _ends = EndsHead(&self.shared);
        let mut fails_since = None;
        let pause = self.shared.options().tuning.follow_pause;
        let mut is_stopped = self.is_stopped.lock();
        while !*is_stopped {
            let since = fails_since.unwrap_or_else(Instant::now);
            match parking_lot::MutexGuard::unlocked(&mut is_stopped, || self.look()) {
                Ok(()) => fails_since = None,
                Err(error) if self.shared.head().is_ended() => {
                    tracing::warn!(%error, "a log that is read has ended");
                    return;
                }
                Err(error) if since.elapsed() > PATIENCE => {
                    tracing::error!(%error, "new commits cannot be read");
                    let reason = format!("new commits cannot be read: {error}").into();
                    return self.shared.end_head(Unavailable::Failed { reason });
                }
                Err(_) => fails_since = Some(since),
            }
            self.stop.wait_for(&mut is_stopped, pause);
        }
    }

    fn look(&self) -> Result<(), ReadError> {
        self.tail.lock().look(&self.shared)
    }

    fn refresh(&self) -> Result<(), ReadError> {
        self.shared.check_open()?;
        self.tail.lock().look_anew(&self.shared)
    }

    fn number_of_parts(&self) -> usize {
        self.shared.catalog().parts.len()
    }

    /// Reads, and lists the files again if they were replaced meanwhile.
    fn read<R>(&self, read: impl Fn(Reader<'_>) -> Result<R, ReadError>) -> Result<R, ReadError> {
        let (mut failed, mut replaced) = (0, 0);
        loop {
            if let Some(changed @ Unavailable::HistoryChanged(_)) = self.shared.head().ended() {
                return Err(changed.into());
            }
            let error = match read(Reader::new(&self.shared)) {
                Err(error) if is_passing(&error) => error,
                done => return done,
            };
            // A damaged index file looks replaced twice. Then it is built in memory. So after a
            // loss of power, each attempt of one read may find another damaged file.
            let (count, most) = match is_replaced(&error) {
                true => (&mut replaced, ATTEMPTS + LOOKS_REPLACED * self.number_of_parts()),
                false => (&mut failed, ATTEMPTS),
            };
            *count += 1;
            if *count >= most {
                return Err(error);
            }
            tracing::debug!(%error, "files of the log are listed again");
            self.tail.lock().list_again(&self.shared)?;
        }
    }
}

/// Whether an error can come from files that another process replaced or removed.
fn is_passing(error: &ReadError) -> bool {
    matches!(error, ReadError::Corrupt(_))
        || is_replaced(error)
        || cause(error) == Some(ErrorKind::NotFound)
}

/// Whether a file was found that is not the one from before.
fn is_replaced(error: &ReadError) -> bool {
    cause(error) == Some(REPLACED)
}

fn cause(error: &ReadError) -> Option<ErrorKind> {
    match error {
        ReadError::Unavailable(Unavailable::Storage { cause, .. }) => Some(cause.kind()),
        _ => None,
    }
}

/// Ends the head when the thread ends, also if it panicked: no caller waits for ever.
struct EndsHead<'a>(&'a SharedState);

impl Drop for EndsHead<'_> {
    fn drop(&mut self) {
        let reason = "the thread that looks for new commits has ended".into();
        self.0.end_head(Unavailable::Failed { reason });
    }
}

/// The operations of a [`ReadOnlyLog`] for plain threads, without futures.
#[derive(Clone, Copy, Debug)]
pub struct BlockingReads<'a> {
    inner: &'a Inner,
}

impl BlockingReads<'_> {
    /// See [`EventStore::read`].
    ///
    /// # Errors
    /// See there.
    pub fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.inner.read(|reader| reader.read(filter, &read))
    }

    /// See [`EventStore::last`].
    ///
    /// # Errors
    /// See there.
    pub fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.inner.read(|reader| reader.last(filter, upto))
    }

    /// See [`EventStore::count`].
    ///
    /// # Errors
    /// See there.
    pub fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.inner.read(|reader| reader.count(tag, upto))
    }

    /// See [`EventStore::keyed`].
    ///
    /// # Errors
    /// See there.
    pub fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.inner.read(|reader| reader.keyed(key))
    }

    /// See [`EventStore::tracked`].
    ///
    /// # Errors
    /// See there.
    pub fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.inner.read(|reader| reader.tracked(source))
    }

    /// See [`EventStore::commits`].
    ///
    /// # Errors
    /// See there.
    pub fn commits(&self, read: &ReadCommits) -> Result<CommitBatch, ReadError> {
        self.inner.read(|reader| reader.commits(read))
    }

    /// See [`EventStore::types`]. Reads the whole index, but not the log.
    ///
    /// # Errors
    /// See there.
    pub fn types(&self) -> Result<Vec<String>, ReadError> {
        self.inner.read(|reader| reader.types())
    }

    /// Figures about the content and the files of the log. Reads the whole index, but not the log.
    ///
    /// # Errors
    /// [`ReadError`] if a file cannot be read.
    pub fn stats(&self) -> Result<Stats, ReadError> {
        self.inner.read(|reader| reader.stats())
    }
}

impl EventStore for ReadOnlyLog {
    fn identity(&self) -> LogIdentity {
        self.0.inner.shared.identity()
    }

    fn limits(&self) -> Limits {
        self.0.inner.shared.options().limits.clone()
    }

    fn head(&self) -> Head {
        self.0.inner.shared.head()
    }

    fn has_other_writers(&self) -> bool {
        true
    }

    async fn fresh_head(&self) -> Result<Position, ReadError> {
        self.refresh_now()?;
        let head = self.head();
        match head.ended() {
            Some(ended) => Err(ended.into()),
            None => Ok(head.position()),
        }
    }

    /// Always an error: [`Unavailable::Failed`].
    async fn append(&self, _append: Append) -> Result<AcceptedCommit, AppendError> {
        self.0.inner.shared.check_open().map_err(crate::error::check_failed)?;
        let shared = &self.0.inner.shared;
        let root = &shared.folders().root;
        let folder = root.display().to_string();
        let reason = match manifest::read(shared.disk(), root) {
            Ok(Some(Manifest { role: Role::Left { to }, .. })) => left(&folder, &to),
            _ => format!("{folder} was opened for reading only; open it with `Log::open`"),
        };
        Err(Unavailable::Failed { reason: reason.into() }.into())
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
        self.0.close();
        Ok(())
    }
}
