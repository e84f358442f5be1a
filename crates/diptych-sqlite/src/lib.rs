//! Projections into SQLite: tables shaped for questions, kept in step with the log.
//!
//! A [`Projection`] is given a transaction and an event. The rows that it writes and its
//! checkpoint (how far it came, and in which log) are committed together, so the rows are always
//! what a fold of the log up to the checkpoint gives: after a crash, a failed batch, a loss of
//! power, and when two run the same projection.
//!
//! ```
//! use diptych::{Event, Recorded, projection::Target};
//! use diptych_sqlite::{Projection, Sqlite, Transaction};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Event, Serialize, Deserialize)]
//! #[event("sold")]
//! struct Sold {
//!     #[tag]
//!     shop: String,
//!     amount: i64,
//! }
//!
//! struct Sales;
//!
//! impl Projection for Sales {
//!     type Event = Sold;
//!
//!     fn name(&self) -> &str {
//!         "sales"
//!     }
//!
//!     fn create(&self, tx: &Transaction<'_>) -> diptych_sqlite::Result {
//!         tx.execute_batch("CREATE TABLE sales (shop TEXT PRIMARY KEY, amount INTEGER)")?;
//!         Ok(())
//!     }
//!
//!     fn apply(&self, tx: &Transaction<'_>, sold: &Recorded<Sold>) -> diptych_sqlite::Result {
//!         let mut add = tx.prepare_cached(
//!             "INSERT INTO sales VALUES (?1, ?2)
//!              ON CONFLICT (shop) DO UPDATE SET amount = amount + excluded.amount",
//!         )?;
//!         add.execute((&sold.shop, sold.amount))?;
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("reports.db");
//! let mut sales = Sqlite::at(&file).projection(Sales);
//! assert_eq!(sales.checkpoint()?, None); // it made its tables, and has taken in nothing
//! # Ok(()) }
//! ```
//!
//! # Reading
//!
//! The file is a plain SQLite database: any program may read it, at any time, and sees whole
//! batches. The table `diptych_checkpoint` says to readers how fresh the rows are.
//!
//! ```
//! use diptych_sqlite::rusqlite::{Connection, OpenFlags};
//!
//! # use diptych::{Event, Recorded, projection::Target};
//! # use diptych_sqlite::{Projection, Sqlite, Transaction};
//! # #[derive(Event, serde::Serialize, serde::Deserialize)]
//! # #[event("sold")]
//! # struct Sold {}
//! # struct Sales;
//! # impl Projection for Sales {
//! #     type Event = Sold;
//! #     fn name(&self) -> &str { "sales" }
//! #     fn create(&self, tx: &Transaction<'_>) -> diptych_sqlite::Result {
//! #         Ok(tx.execute_batch("CREATE TABLE sales (shop, amount)")?)
//! #     }
//! #     fn apply(&self, _: &Transaction<'_>, _: &Recorded<Sold>) -> diptych_sqlite::Result {
//! #         Ok(())
//! #     }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("reports.db");
//! # let mut sales = Sqlite::at(&file).projection(Sales);
//! # sales.checkpoint()?;
//! let report = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
//! let total: Option<i64> =
//!     report.query_row("SELECT sum(amount) FROM sales", (), |row| row.get(0))?;
//! let (upto, of): (Option<i64>, Option<String>) = report.query_row(
//!     "SELECT position, recorded_at FROM diptych_checkpoint WHERE name = 'sales'",
//!     (),
//!     |row| Ok((row.get(0)?, row.get(1)?)),
//! )?;
//! # assert_eq!((total, upto, of), (None, None, None));
//! # Ok(()) }
//! ```
//!
//! | column | what |
//! |---|---|
//! | `name`, `version` | which projection, and the version of it that made the tables |
//! | `log`, `epoch` | the log that the rows are of; null before the first batch |
//! | `position` | everything up to here is in the rows |
//! | `recorded_at` | when the last event in the rows was recorded |
//! | `updated_at` | when the checkpoint was last moved, by the clock of who moved it |
//! | `event` | the position and the event's checksum, so that another history is noticed |
//!
//! `diptych_schema` and `diptych_file` are for this crate: what each projection made, and whether
//! the file and the `-wal` beside it belong together.
//!
//! # What survives what
//!
//! The database is put into WAL mode, so that readers and the projection do not wait for each
//! other, and is synced when the WAL is moved into the file, not at each commit
//! (`synchronous=NORMAL`). After a crash of the process nothing is lost. After a loss of power the
//! last batches may be gone, rows and checkpoint alike, and are taken in again from the log. On a
//! file system that has no WAL mode, a rollback journal is used and every commit is synced.
//!
//! Several projections may share one file. Each has its own connection, its own row in
//! `diptych_checkpoint`, and tables that it alone writes to. One writes at a time, so projections
//! that are all busy are faster in files of their own.
//!
//! # What a projection may do
//!
//! It sees a plain [`rusqlite::Transaction`], and what would break the promise is refused by the
//! database when the statement is prepared: to commit or roll back (savepoints are fine), to
//! attach other databases, to write to tables that it did not make in
//! [`create`](Projection::create), and to leave anything in the connection, such as a temporary
//! table or a setting by `PRAGMA`. If a transaction ends in some other way (a statement with
//! `OR ROLLBACK` that fails, a trigger with `RAISE(ROLLBACK)`, a full disk), nothing of it can be
//! committed, and the event is refused if the projection passed over that.
//!
//! The rows do not depend on where a batch ends. A savepoint that an event leaves open ends with
//! it. Where a foreign key is deferred, in a table of the projection or in one that refers to it,
//! each event has a transaction of its own, so that the key is checked for each.

mod bond;
mod connection;
mod guard;
mod stored;
mod target;
mod trouble;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use diptych::{Event, Recorded};
pub use rusqlite::{self, Transaction};
pub use target::SqliteProjection;

/// What the methods of a [`Projection`] answer: any error at all, with `?`.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Rows made from events.
///
/// The rows are all that it knows: it is not changed by an event, because what is in memory does
/// not go back with a transaction. Like a fold it takes nothing but the events (and its own rows)
/// into account: no clock, no chance, no tables of others. Then the rows can be made again.
pub trait Projection: Send + 'static {
    /// What it takes in.
    type Event: Event;

    /// Its name, unique in the database and in the app. Another name is another projection, which
    /// begins at the start of the log and needs tables of other names.
    fn name(&self) -> &str;

    /// Raise it when the tables change, or when `apply` makes other rows of the same events.
    ///
    /// A higher version than the one in the database makes the tables anew and begins at the
    /// start of the log; the log of the program says so. A lower one is an error, so that an older
    /// program does not undo what a newer one made. Tables that changed without a new version
    /// are an error, too.
    fn version(&self) -> u32 {
        1
    }

    /// Makes its tables, indexes, views and triggers, none of which are there.
    ///
    /// What is made here is noted, and removed by a reset or a new version. It is run again in
    /// memory at each start, to see whether it changed.
    ///
    /// # Errors
    /// Any; the projection does not run then.
    fn create(&self, tx: &Transaction<'_>) -> Result;

    /// Takes in one event: writes rows.
    ///
    /// An error of a statement has to be answered, not passed over: after some (a full disk) the
    /// rest of the event would be written without what failed.
    ///
    /// # Errors
    /// Any. The projection stops before this event, and says the error and its position. If what
    /// it says is that the database is locked or full, the event is tried again.
    fn apply(&self, tx: &Transaction<'_>, event: &Recorded<Self::Event>) -> Result;
}

/// A database file that projections write to. It is created when the first of them runs.
#[derive(Clone, Debug)]
pub struct Sqlite {
    path: PathBuf,
    busy_timeout: Duration,
}

impl Sqlite {
    /// How long a projection waits for others who write to the file, if nothing else is said.
    pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

    /// The database in this file.
    pub fn at(path: impl AsRef<Path>) -> Sqlite {
        Sqlite { path: path.as_ref().to_owned(), busy_timeout: Sqlite::BUSY_TIMEOUT }
    }

    /// How long to wait for other programs that write to the file, before it is said to be
    /// unavailable and tried again later.
    ///
    /// An app shows the projection as stalled after a quarter of a second. To pause it, or to stop
    /// the app, takes no longer than a tenth, whatever this is.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Sqlite {
        self.busy_timeout = timeout;
        self
    }

    /// This projection in this database. The file is opened when it first runs.
    pub fn projection<P: Projection>(&self, projection: P) -> SqliteProjection<P> {
        SqliteProjection::new(projection, self.clone())
    }
}
