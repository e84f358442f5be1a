//! Whether a database file and the `-wal` beside it belong together.
//!
//! SQLite cannot tell. A file that is replaced by an older copy, with the `-wal` of the newer one
//! left beside it, reads as a mixture of both: wrong rows, or none at all. So every commit of this
//! crate writes a stamp, and with it the stamp that stood in the file itself when the frames in the
//! `-wal` began. If the file has neither that stamp nor one that was written on top of it, the
//! `-wal` is of another file.
//!
//! The stamp in the file alone is read by a connection that ignores the `-wal`. The file is never
//! opened except by SQLite: closing a descriptor of it would end all locks that this process has.

use std::{
    collections::hash_map::RandomState,
    fs::File,
    hash::{BuildHasher, Hasher},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use crate::stored;

pub(crate) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS diptych_file (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        mark TEXT NOT NULL,
        stamp INTEGER NOT NULL,
        before INTEGER NOT NULL,
        base INTEGER NOT NULL,
        wal INTEGER NOT NULL
    );";

/// Tells the row from bytes that happen to be where it was.
const MARK: &str = "diptych";

/// What the row of `diptych_file` says; zeros where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stamp {
    /// Of the last commit.
    stamp: i64,
    /// Of the commit before it.
    before: i64,
    /// What was in the file when the `-wal` that has this commit began, or later.
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

/// The `-wal` of a database, as far as this crate looks at it: to see whether it began anew.
pub(crate) struct Wal {
    path: PathBuf,
    file: Option<File>,
}

impl Wal {
    pub(crate) fn at(path: PathBuf) -> Wal {
        Wal { path, file: None }
    }

    /// Another one each time that SQLite begins to write it from the front; 0 if it is empty.
    fn salt(&mut self) -> i64 {
        if self.file.is_none() {
            // No lock is ever held on this file: they are all on the `-shm`.
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

/// Notes another commit, which this transaction is to be. `whole` is the stamp at which everything
/// in the `-wal` was known to be in the file, too. The answer is the new stamp.
pub(crate) fn advance(
    tx: &Connection,
    file: &Path,
    wal: &mut Wal,
    whole: Option<i64>,
) -> rusqlite::Result<i64> {
    let (now, salt) = (through_wal(tx)?, wal.salt());
    let base = match now {
        Some(now) if now.wal == salt && whole != Some(now.stamp) => now.base,
        now => {
            // The `-wal` began anew, or may begin with this commit: it gets the first page, so that
            // what is compared later does not come from a file that is put there.
            let version: i64 = tx.query_row("PRAGMA user_version", (), |row| row.get(0))?;
            tx.execute_batch(&format!("PRAGMA user_version = {version}"))?;
            match now {
                // From here on nothing in the `-wal` is needed but what is written now and later.
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

/// Looks whether the file and its `-wal` belong together.
pub(crate) fn bond(connection: &Connection, file: &Path) -> rusqlite::Result<Bond> {
    // While this reads, no checkpoint goes further in the file than what this sees.
    let tx = connection.unchecked_transaction()?;
    let seen = match self::seen(&tx) {
        Ok(seen) => seen,
        // If the file by itself is sound, the mixture is what is not.
        Err(error) => match is_no_database(&error) && in_file(file).is_ok() {
            true => return Ok(Bond::Foreign),
            false => return Err(error),
        },
    };
    let mut bond = Bond::Foreign;
    for _ in 0..TRIES {
        // A checkpoint of another process may write that very page now.
        bond = match alone(file).and_then(|file| self::seen(&file)) {
            Ok(found) if !belongs(found, seen) => Bond::Foreign,
            // A checkpoint that was cut off may leave a file that is whole only with its `-wal`.
            _ => return Ok(Bond::Sound),
        };
    }
    Ok(bond)
}

/// How often a stamp is read again that does not fit.
const TRIES: usize = 3;

/// What a reader sees of the stamp.
#[derive(Clone, Copy)]
struct Seen {
    stamp: Stamp,
    /// How often the schema was changed. A copy by `VACUUM` has the stamp of its original, counts
    /// one change more, and has its rows in other places.
    schema: i64,
}

fn seen(connection: &Connection) -> rusqlite::Result<Seen> {
    let stamp = through_wal(connection)?.unwrap_or_default();
    Ok(Seen { stamp, schema: stored::schema_count(connection)? })
}

fn belongs(file: Seen, seen: Seen) -> bool {
    let base = seen.stamp.base;
    let is_of_it = |file: Stamp| [file.stamp, file.before, file.base].contains(&base);
    file.schema <= seen.schema && (file.stamp.stamp == seen.stamp.stamp || is_of_it(file.stamp))
}

fn is_no_database(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// What the row says to every reader.
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

/// What the row says in the file alone.
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
