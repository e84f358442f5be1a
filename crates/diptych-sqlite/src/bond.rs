//! Checks that a database file and the `-wal` beside it belong together.
//!
//! SQLite does not check this. If a file is replaced by an older copy, and the `-wal` of the newer
//! one is left beside it, readers see a mixture of both: wrong rows, or none at all. So every
//! commit of this crate writes a new stamp and a base stamp. The base stamp is the stamp that the
//! file itself had when the first frame was written into the `-wal`. Later the file must have the
//! base stamp, or a stamp that was written on top of the base. Otherwise the `-wal` belongs to
//! another file.
//!
//! A connection that ignores the `-wal` reads the stamp in the file alone. Only SQLite opens the
//! file: closing any other descriptor of the file would release all locks that this process has on
//! it.

use std::{
    collections::hash_map::RandomState,
    fs::File,
    hash::{BuildHasher, Hasher},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use crate::schema::schema_count;

pub(crate) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS diptych_file (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        mark TEXT NOT NULL,
        stamp INTEGER NOT NULL,
        before INTEGER NOT NULL,
        base INTEGER NOT NULL,
        wal INTEGER NOT NULL
    );";

/// Distinguishes the row from other bytes in its place.
const MARK: &str = "diptych";

/// The row of `diptych_file`; zeros if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stamp {
    /// Stamp of the last commit.
    stamp: i64,
    /// Stamp of the commit before the last.
    before: i64,
    /// Stamp that the file itself had when the `-wal` of this commit began, or at a later time.
    base: i64,
    /// The salt of the `-wal` when `base` was written.
    wal: i64,
}

/// Whether a database and its `-wal` belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bond {
    Sound,
    Foreign,
}

/// The `-wal` of a database. This crate reads only its salt, to detect that SQLite began to write
/// it from the front again.
pub(crate) struct Wal {
    path: PathBuf,
    file: Option<File>,
}

impl Wal {
    pub(crate) fn at(path: PathBuf) -> Wal {
        Wal { path, file: None }
    }

    /// The salt, which changes each time that SQLite writes the `-wal` from the front again; 0 if
    /// the `-wal` is empty.
    fn salt(&mut self) -> i64 {
        if self.file.is_none() {
            // Opening it is safe: SQLite holds its locks on the `-shm`, and never on this file.
            self.file = File::open(&self.path).ok();
        }
        self.file.as_ref().and_then(|file| salt_of(file).ok()).unwrap_or(0)
    }

    pub(crate) fn close(&mut self) {
        self.file = None;
    }
}

/// Where the two salts are in the header of a `-wal`.
const SALTS_AT: u64 = 16;

fn salt_of(mut file: &File) -> io::Result<i64> {
    let mut salts = [0; 8];
    file.seek(SeekFrom::Start(SALTS_AT))?;
    file.read_exact(&mut salts)?;
    Ok(i64::from_be_bytes(salts))
}

/// The stamp of the last commit, read when a transaction began. At the end of the transaction the
/// row could come from another file that was put in place meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct LastStamp(Option<Stamp>);

pub(crate) fn last(tx: &Connection) -> rusqlite::Result<LastStamp> {
    Ok(LastStamp(through_wal(tx)?))
}

/// Writes the stamp of the commit that this transaction is about to make. `whole` is the stamp of
/// the last commit at which the whole `-wal` had been moved into the file. Returns the new stamp.
pub(crate) fn advance(
    tx: &Connection,
    LastStamp(now): LastStamp,
    file: &Path,
    wal: &mut Wal,
    whole: Option<i64>,
) -> rusqlite::Result<i64> {
    let salt = wal.salt();
    let base = match now {
        Some(now) if now.wal == salt && whole != Some(now.stamp) => now.base,
        now => {
            // The `-wal` began anew, or may begin with this commit. Write the first page into it,
            // so that a later comparison does not read that page from a file that was put in place
            // of this one.
            let version: i64 = tx.query_row("PRAGMA user_version", (), |row| row.get(0))?;
            tx.execute_batch(&format!("PRAGMA user_version = {version}"))?;
            match now {
                // The file has all older frames, so only those written from now on are needed.
                Some(now) if whole == Some(now.stamp) => now.stamp,
                now => match in_file(file) {
                    Ok(found) => found.unwrap_or_default().stamp,
                    Err(_) => now.unwrap_or_default().base,
                },
            }
        }
    };
    let stamp = random();
    let mut write = tx.prepare_cached(
        "INSERT OR REPLACE INTO diptych_file (id, mark, stamp, before, base, wal)
         VALUES (1, ?1, ?2, ?3, ?4, ?5)",
    )?;
    write.execute((MARK, stamp, now.unwrap_or_default().stamp, base, salt))?;
    Ok(stamp)
}

fn random() -> i64 {
    let random = RandomState::new().build_hasher().finish();
    // Never 0, which stands for none.
    (random | 1).cast_signed()
}

/// Checks that the file and its `-wal` belong together.
pub(crate) fn bond(connection: &Connection, file: &Path) -> rusqlite::Result<Bond> {
    // While this transaction reads, a checkpoint moves only frames that this transaction sees into
    // the file.
    let tx = connection.unchecked_transaction()?;
    let seen = match self::seen(&tx) {
        Ok(seen) => seen,
        // If the file alone is sound, the mixture with the `-wal` is the fault.
        Err(error) => match is_no_database(&error) && in_file(file).is_ok() {
            true => return Ok(Bond::Foreign),
            false => return Err(error),
        },
    };
    let mut bond = Bond::Foreign;
    for _ in 0..TRIES {
        // A checkpoint of another process may be writing the page with the stamp now.
        bond = match alone(file).and_then(|file| self::seen(&file)) {
            Ok(found) if !belongs(found, seen) => Bond::Foreign,
            // An interrupted checkpoint may leave a file that is whole only together with its
            // `-wal`.
            _ => return Ok(Bond::Sound),
        };
    }
    Ok(bond)
}

/// How often the stamp is read, if it does not fit.
const TRIES: usize = 3;

/// The stamp as a reader sees it.
#[derive(Clone, Copy)]
struct StampView {
    stamp: Stamp,
    /// How often the schema was changed. A copy by `VACUUM` has the stamp of its original, counts
    /// one change more, and has its rows in other places.
    schema: i64,
}

fn seen(connection: &Connection) -> rusqlite::Result<StampView> {
    let stamp = through_wal(connection)?.unwrap_or_default();
    Ok(StampView { stamp, schema: schema_count(connection)? })
}

fn belongs(file: StampView, seen: StampView) -> bool {
    let base = seen.stamp.base;
    let has_base = |file: Stamp| [file.stamp, file.before, file.base].contains(&base);
    file.schema <= seen.schema && (file.stamp.stamp == seen.stamp.stamp || has_base(file.stamp))
}

fn is_no_database(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// The row as every reader sees it.
fn through_wal(connection: &Connection) -> rusqlite::Result<Option<Stamp>> {
    let find = connection.prepare_cached("SELECT stamp, before, base, wal, mark FROM diptych_file");
    let mut find = match find {
        Err(error) if is_unknown_table(&error) => return Ok(None),
        find => find?,
    };
    let found = find.query_row((), |row| {
        let stamp =
            Stamp { stamp: row.get(0)?, before: row.get(1)?, base: row.get(2)?, wal: row.get(3)? };
        Ok((stamp, row.get::<_, String>(4)?))
    });
    match found.optional()? {
        Some((stamp, mark)) if mark == MARK => Ok(Some(stamp)),
        Some(_) => Err(rusqlite::Error::InvalidQuery),
        None => Ok(None),
    }
}

fn is_unknown_table(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::Unknown)
        && error.to_string().contains("no such table")
}

/// The row in the file alone.
fn in_file(file: &Path) -> rusqlite::Result<Option<Stamp>> {
    through_wal(&alone(file)?)
}

/// The file as if there were no `-wal`.
fn alone(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(immutable(file), flags)
}

/// The address under which SQLite reads a file as it is, without `-wal` and locks.
fn immutable(file: &Path) -> String {
    let mut uri = String::from("file:");
    let path = file.to_string_lossy();
    let path = if cfg!(windows) { format!("/{}", path.replace('\\', "/")) } else { path.into() };
    for letter in path.chars() {
        match letter {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            _ => uri.push(letter),
        }
    }
    uri.push_str("?immutable=1");
    uri
}
