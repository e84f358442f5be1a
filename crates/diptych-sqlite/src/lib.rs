//! Projections into SQLite: tables shaped for questions, kept in step with the log.
//!
//! A [`Projection`] is given a transaction and an event. Its rows and its checkpoint (the log, and
//! the position in it) are committed together. So the rows always equal a fold of the log up to the
//! checkpoint: after a crash, a failed batch, a loss of power, and when two programs run one
//! projection.
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
//! assert_eq!(sales.checkpoint()?, None); // it made its tables and applied no events yet
//! # Ok(()) }
//! ```
//!
//! # Reading
//!
//! The file is a plain SQLite database: any program may read it, at any time, and sees whole
//! batches. The table `diptych_checkpoint` tells readers how fresh the rows are.
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
//! | column | meaning |
//! |---|---|
//! | `name`, `version` | which projection, and the version of it that made the tables |
//! | `log`, `epoch` | the log that the rows were made from; null before the first batch |
//! | `position` | the rows contain all events up to this position |
//! | `recorded_at` | when the last event in the rows was recorded |
//! | `updated_at` | when the checkpoint was last moved, by the clock of its writer |
//! | `event` | the position and the event's checksum, to detect another history |
//!
//! `diptych_schema` and `diptych_file` are for this crate. They record the objects that each
//! projection made, and the stamps that bind the file to its `-wal`.
//!
//! # What survives what
//!
//! The database runs in WAL mode, so that readers and the projection do not wait for each other. It
//! is synced when the WAL is moved into the file, and not at each commit (`synchronous=NORMAL`). A
//! crash of the process loses nothing. After a loss of power the last batches may be gone, rows and
//! checkpoint alike, and are applied again from the log. On a file system that has no WAL mode, a
//! rollback journal is used and every commit is synced.
//!
//! Several projections may share one file. Each has its own connection, its own row in
//! `diptych_checkpoint`, and tables that it alone writes to. Only one can write at a time, so busy
//! projections are faster in separate files.
//!
//! # What a projection may do
//!
//! It gets a plain [`rusqlite::Transaction`]. Some statements would separate the rows from their
//! checkpoint, or make a rebuild give other rows. They are refused when they are prepared: a
//! projection must not commit or roll back (savepoints are fine), attach other databases, write to
//! tables that it did not make in [`create`](Projection::create), or leave anything in the
//! connection, such as a temporary table or a setting by `PRAGMA`. A transaction can also end in
//! other ways (a statement with `OR ROLLBACK` that fails, a trigger with `RAISE(ROLLBACK)`, a full
//! disk). Then none of its changes can be committed, and if the projection ignored the error, the
//! event is refused.
//!
//! The rows do not depend on where a batch ends. A savepoint that an event leaves open ends with
//! the event. If a table of the projection, or one that refers to it, has a deferred foreign key,
//! each event gets its own transaction, so that the key is checked for each.

mod bond;
mod connection;
mod guard;
mod schema;
mod stored;
mod target;
mod transaction;
mod trouble;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use diptych::{Event, Recorded};
pub use rusqlite::{self, Transaction};
pub use target::SqliteProjection;

/// The result of the methods of a [`Projection`]. Any error converts with `?`.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Rows made from events.
///
/// Keep all state in the rows: `apply` cannot change the projection itself, because memory does not
/// roll back with a transaction. Like a fold, `apply` depends only on the events and its own rows:
/// no clock, no randomness, no other tables. So the rows can always be made again.
pub trait Projection: Send + 'static {
    /// The events that it applies.
    type Event: Event;

    /// Its name, unique in the database and in the app. Under another name it is another
    /// projection, which begins at the start of the log and needs tables with other names.
    fn name(&self) -> &str;

    /// The version of the projection. Raise it when the tables change, or when `apply` makes other
    /// rows from the same events.
    ///
    /// If the version is higher than the one in the database, the tables are made anew, and the
    /// projection begins at the start of the event log. The program's own log notes that. A lower
    /// version is an error, so that an older program does not undo the work of a newer one. Tables
    /// that changed without a new version are an error, too.
    fn version(&self) -> u32 {
        1
    }

    /// Makes its tables, indexes, views and triggers, none of which exist yet.
    ///
    /// The database notes which objects were made here, and a rebuild or a new version removes
    /// them. Each start of the program runs `create` again in memory to detect changes.
    ///
    /// # Errors
    /// Any; the projection does not run then.
    fn create(&self, tx: &Transaction<'_>) -> Result;

    /// Applies one event by writing rows.
    ///
    /// Return the errors of statements and never ignore them: after some errors (a full disk) the
    /// rest of the event would be written without the failed part.
    ///
    /// # Errors
    /// Any. The projection stops before this event, and reports the error and its position. If the
    /// error says that the database is locked or full, the event is retried.
    fn apply(&self, tx: &Transaction<'_>, event: &Recorded<Self::Event>) -> Result;
}

/// A database file that projections write to. It is created when the first of them runs.
#[derive(Clone, Debug)]
pub struct Sqlite {
    path: PathBuf,
    busy_timeout: Duration,
}

impl Sqlite {
    /// The default time that a projection waits for other writers of the file.
    pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

    /// The database in this file.
    pub fn at(path: impl AsRef<Path>) -> Sqlite {
        Sqlite { path: path.as_ref().to_owned(), busy_timeout: Sqlite::BUSY_TIMEOUT }
    }

    /// How long to wait for other programs that write to the file. After that the file counts as
    /// unavailable, and the step is retried later.
    ///
    /// An app shows the projection as stalled after a quarter of a second. A pause of the
    /// projection, or a stop of the app, waits for the lock for at most a tenth of a second,
    /// whatever this timeout is.
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
