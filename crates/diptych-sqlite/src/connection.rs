//! An open database. It opens the files, waits for locks, and checks that the files at its path are
//! still those that it has open.

use std::{
    ffi::OsString,
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diptych::projection::{CheckedSchema, RunnerHandle};
use rusqlite::{Connection, OpenFlags, config::DbConfig, hooks::Wal as Checkpoints};

use crate::{
    Sqlite,
    bond::{self, Bond, LastStamp, Wal},
    guard::{Guard, Savepoints},
};

/// Capacity of the cache of prepared statements.
const CACHED_STATEMENTS: usize = 64;

/// When the `-wal` has at least this many pages after a commit, it is moved into the file. This is
/// SQLite's default.
const CHECKPOINT_PAGES: i32 = 1_000;

/// Waits between two tries to get a lock. The last one repeats.
const LOCK_WAITS_MS: [u64; 6] = [1, 2, 5, 10, 15, 25];
/// After this time a wait for a lock shows in the state of the projection.
const SHOWN_AFTER: Duration = Duration::from_millis(250);
/// Longest wait for a lock while a request (stop, pause, step, reset) waits for the runner.
const WANTED_LIMIT: Duration = Duration::from_millis(100);

pub(crate) struct Open {
    pub(crate) connection: Connection,
    pub(crate) guard: Guard,
    /// The result of the last check of the tables; `None` before the first check.
    pub(crate) checked: Option<CheckedSchema>,
    pub(crate) savepoints: Savepoints,
    pub(crate) files: BoundFiles,
}

/// The files of an open database, and what is known about whether they belong together.
pub(crate) struct BoundFiles {
    /// The database file itself.
    main: PathBuf,
    has_wal: bool,
    wal: Wal,
    /// Pages in the `-wal` after the last commit.
    wal_pages: Arc<AtomicI32>,
    /// The stamp of the last commit on this connection.
    stamp: Option<i64>,
    /// The stamp of the last commit at which the whole `-wal` had been moved into the file.
    whole: Option<i64>,
    /// The files at the last check; `None` while it is not certain that they belong together.
    seen: Option<Files>,
}

/// The result of comparing an open database with the files at its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The path still has the files that are open.
    Same,
    /// The path has other files, or none.
    Moved,
    /// The file was overwritten from outside: no commit to this database made its contents.
    Overwritten,
}

impl Open {
    /// Opens the database and checks that it and its `-wal` belong together. If they do not,
    /// nothing is written.
    pub(crate) fn at(
        place: &Sqlite,
        runner: Option<RunnerHandle>,
    ) -> rusqlite::Result<OpenOutcome> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&place.path, flags)?;
        let main = connection.path().filter(|path| !path.is_empty()).map(PathBuf::from);
        let Some(main) = main else {
            return Ok(OpenOutcome::InMemory);
        };
        let files = BoundFiles {
            wal: Wal::at(beside(&main, "-wal")),
            main,
            has_wal: false,
            wal_pages: Arc::default(),
            stamp: None,
            whole: None,
            seen: None,
        };
        let (guard, savepoints) = (Guard::default(), Savepoints::Refused);
        let mut open = Open { connection, guard, checked: None, savepoints, files };
        open.wait_for_locks(place, runner)?;
        if open.files.have_a_wal()
            && bond::bond(&open.connection, &open.files.main)? == Bond::Foreign
        {
            return Ok(OpenOutcome::Foreign(open));
        }
        open.set_up()?;
        Ok(OpenOutcome::Sound(open))
    }

    fn wait_for_locks(
        &mut self,
        place: &Sqlite,
        runner: Option<RunnerHandle>,
    ) -> rusqlite::Result<()> {
        // A `-wal` that may belong to another file must not be moved into this one on close.
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let mut patience = Patience {
            limit: place.busy_timeout,
            file: self.files.main.clone(),
            runner,
            since: Instant::now(),
            is_shown: false,
        };
        self.connection.busy_handler(Some(move |tries| patience.waits(tries)))
    }

    fn set_up(&mut self) -> rusqlite::Result<()> {
        let (connection, files) = (&mut self.connection, &mut self.files);
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        files.has_wal = mode == "wal";
        // After a loss of power, a WAL that was not synced costs the last commits and nothing else.
        // A rollback journal that was not synced can cost the database.
        let synchronous = if files.has_wal { "normal" } else { "full" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        // This replaces SQLite's own checkpoints, which do not check that the file is still the
        // same.
        let pages = Arc::clone(&files.wal_pages);
        connection.wal_hook(Some(move |_: &mut Checkpoints, now| {
            pages.store(now, Ordering::Relaxed);
            Ok(())
        }))?;
        self.guard.watch(connection)
    }

    /// Compares the files with those at the last check.
    pub(crate) fn look(&mut self) -> Place {
        self.files.look(&self.connection)
    }

    /// After a commit: moves the `-wal` into the file if it is large.
    pub(crate) fn committed(&mut self) {
        self.files.committed(&self.connection);
    }

    /// Closes the database and leaves all files as they are. Returns the id of the `-wal` that it
    /// wrote.
    pub(crate) fn abandon(mut self) -> Option<FileId> {
        self.files.seen.take().and_then(|files| files.wal)
    }

    /// The id of the `-wal` that is at the path now.
    pub(crate) fn wal_id(&self) -> Option<FileId> {
        Files::at(&self.files.main).wal
    }

    /// Closes the database and removes the `-wal` and the `-shm`, which belong to another file.
    pub(crate) fn remove_wal(self) -> io::Result<()> {
        let files = ["-wal", "-shm"].map(|end| beside(&self.files.main, end));
        self.abandon();
        for file in files {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.files.wal.close();
        let is_sound = self.files.seen.is_some() && self.look() == Place::Same;
        let config = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        // If this fails, the setting stays, and the `-wal` is left beside the file.
        let _ = self.connection.set_db_config(config, !is_sound);
    }
}

impl BoundFiles {
    fn have_a_wal(&self) -> bool {
        fs::metadata(beside(&self.main, "-wal")).is_ok_and(|wal| wal.len() > 0)
    }

    /// Writes the stamp of a transaction that is about to commit.
    pub(crate) fn stamp(&mut self, tx: &Connection, last: LastStamp) -> rusqlite::Result<()> {
        if self.has_wal {
            self.stamp = Some(bond::advance(tx, last, &self.main, &mut self.wal, self.whole)?);
        }
        Ok(())
    }

    fn committed(&mut self, connection: &Connection) {
        let is_large = self.wal_pages.load(Ordering::Relaxed) >= CHECKPOINT_PAGES;
        if self.has_wal && (self.seen.is_none() || is_large) {
            self.checkpoint(connection);
        }
    }

    /// Moves the `-wal` into the file, as far as readers allow. A failure loses nothing: the next
    /// commit tries again.
    fn checkpoint(&mut self, connection: &Connection) {
        if self.seen.is_some() && self.look(connection) != Place::Same {
            return;
        }
        let sql = "PRAGMA wal_checkpoint(PASSIVE)";
        let done: rusqlite::Result<(bool, i64, i64)> =
            connection.query_row(sql, (), |row| row.try_into());
        if matches!(done, Ok((false, pages, moved)) if pages == moved) {
            self.whole = self.stamp;
        }
        self.seen = Some(Files::at(&self.main));
    }

    fn look(&mut self, connection: &Connection) -> Place {
        if !self.has_wal {
            return if has_moved(connection) { Place::Moved } else { Place::Same };
        }
        let Some(seen) = &self.seen else { return Place::Same };
        let now = Files::at(&self.main);
        if has_moved(connection) || seen.main_id() != now.main_id() {
            return Place::Moved;
        }
        if *seen == now {
            return Place::Same;
        }
        match bond::bond(connection, &self.main) {
            Ok(Bond::Foreign) => return Place::Overwritten,
            Ok(Bond::Sound) => {}
            // The next statement reports the error.
            Err(_) => return Place::Same,
        }
        if seen.wal == now.wal && seen.shm == now.shm {
            self.seen = Some(now);
            return Place::Same;
        }
        if now.wal.is_none() {
            // Only this connection still sees the frames of the removed `-wal`.
            let sql = "PRAGMA wal_checkpoint(FULL)";
            let _: rusqlite::Result<i64> = connection.query_row(sql, (), |row| row.get(0));
        }
        Place::Moved
    }
}

/// The result of opening a database.
pub(crate) enum OpenOutcome {
    Sound(Open),
    /// The `-wal` of the database belongs to another file.
    Foreign(Open),
    InMemory,
}

/// How a connection waits for a lock that others hold.
struct Patience {
    limit: Duration,
    file: PathBuf,
    runner: Option<RunnerHandle>,
    since: Instant,
    is_shown: bool,
}

impl Patience {
    /// Waits after the given number of failed tries. Returns whether to try again.
    fn waits(&mut self, tries: i32) -> bool {
        if tries == 0 {
            self.since = Instant::now();
            self.is_shown = false;
        }
        let waited = self.since.elapsed();
        let is_wanted = self.runner.as_ref().is_some_and(RunnerHandle::is_wanted);
        let limit = if is_wanted { self.limit.min(WANTED_LIMIT) } else { self.limit };
        if waited >= limit {
            return false;
        }
        if let Some(runner) = &self.runner
            && !self.is_shown
            && waited >= SHOWN_AFTER
        {
            self.is_shown = true;
            runner.waits(format!(
                "{}: another connection has locked the database: waiting for the lock",
                self.file.display()
            ));
        }
        let at = usize::try_from(tries).unwrap_or(usize::MAX).min(LOCK_WAITS_MS.len() - 1);
        let wait = LOCK_WAITS_MS.get(at).copied().map_or(Duration::ZERO, Duration::from_millis);
        thread::sleep(wait.min(limit - waited));
        true
    }
}

/// Identity of a file, independent of its name.
pub(crate) type FileId = (u64, u64);

/// The files of a database, as their folder shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    main: Option<Contents>,
    wal: Option<FileId>,
    shm: Option<FileId>,
}

/// A file, and when its contents last changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Contents {
    id: Option<FileId>,
    bytes: u64,
    changed: Option<(i64, i64)>,
}

impl Files {
    fn at(file: &Path) -> Files {
        let metadata = |end| fs::metadata(beside(file, end)).ok();
        let main = metadata("").map(|main| Contents {
            id: id(&main),
            bytes: main.len(),
            changed: changed(&main),
        });
        let [wal, shm] = ["-wal", "-shm"].map(|end| metadata(end).as_ref().and_then(id));
        Files { main, wal, shm }
    }

    fn main_id(&self) -> Option<&Option<FileId>> {
        self.main.as_ref().map(|main| &main.id)
    }
}

fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(end);
    PathBuf::from(name)
}

#[cfg(unix)]
fn id(metadata: &Metadata) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

/// On these systems files cannot be replaced while they are open.
#[cfg(not(unix))]
fn id(_: &Metadata) -> Option<FileId> {
    None
}

/// Uses ctime, which copying programs cannot set.
#[cfg(unix)]
fn changed(metadata: &Metadata) -> Option<(i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(not(unix))]
fn changed(metadata: &Metadata) -> Option<(i64, i64)> {
    let since = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((since.as_secs().cast_signed(), since.subsec_nanos().into()))
}

/// Whether the file is no longer at its path. Rows written to such a file reach no reader.
#[cfg(unix)]
fn has_moved(connection: &Connection) -> bool {
    let mut has_moved = 0;
    let asked = rusqlite::FileControl::HasMoved(&mut has_moved);
    connection.file_control(Some(rusqlite::MAIN_DB), asked).is_ok() && has_moved != 0
}

/// On these systems files cannot be removed while they are open.
#[cfg(not(unix))]
fn has_moved(_: &Connection) -> bool {
    false
}
