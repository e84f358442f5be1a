//! Projections of Diptych into SQLite: tables shaped for questions, kept in step with the log.
//!
//! A [`Projection`] is given a transaction and an event. Its rows and its checkpoint (the log, and
//! the position in it) are committed together. So the rows always equal a fold of the log up to the
//! checkpoint: after a crash, a failed batch, a loss of power, and when two programs run one
//! projection. SQLite is compiled in.
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
//! An app runs it: [`AppBuilder::projection`](diptych::AppBuilder::projection).
//!
//! # Where to go next
//!
//! | page | contents |
//! |---|---|
//! | [`Projection`], [`Sqlite`] | the two types of the crate |
//! | [`reference`](mod@reference) | reading a report, the tables, failures, refused statements |
//! | [Projections into SQLite][guide] | the guide: a report from its first table to a new version |
//! | [Errors][errors], [limits][limits] | what to do about each error; the times and sizes |
//!
//! The crate has no features.
//!
//! [guide]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/projections.md
//! [errors]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/errors.md
//! [limits]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/limits.md

mod bond;
mod connection;
mod guard;
#[cfg(all(doc, not(doctest)))]
#[doc = include_str!("sqlite.md")]
pub mod reference {}
mod poison;
mod sample;
mod schema;
mod stored;
mod target;
mod transaction;
mod trouble;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use diptych::follow::SwitchPolicy;
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

    /// The key of the tag whose values the rows belong to, such as `account`. By default there is
    /// none, and an event that cannot be applied stops the projection.
    ///
    /// With a key, such an event poisons its own keys: it and the later events of these keys are
    /// held back, and the events of other keys go on. The table `diptych_poisoned` of the database
    /// lists the poisoned keys, so that readers can mark their rows:
    ///
    /// ```sql
    /// SELECT b.*, p.reason FROM balance b
    /// LEFT JOIN diptych_poisoned p
    ///     ON p.projection = 'balances' AND p.key = 'account:' || b.account;
    /// ```
    ///
    /// After a fix, [`retry_key`](diptych::follow::FollowerControl::retry_key) reads the held
    /// events of a key again and applies them in one transaction, and
    /// [`skip_event`](diptych::follow::FollowerControl::skip_event) leaves one out for good.
    /// `apply` must write only to rows of the keys of its event.
    fn key(&self) -> Option<&str> {
        None
    }

    /// The names under which readers find the tables of this version: pairs of a name, and a table
    /// that `create` makes. Each name is a SQL view of that table.
    ///
    /// They let [several versions](SqliteProjection::beside) live in one database: the tables have
    /// names of their version (`sale_v2`), and readers ask for the name that all versions share
    /// (`sale`). A switch makes the name stand for the tables of another version.
    fn readers(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The questions by which a version is compared with the served one before it takes its place:
    /// `SELECT` statements that use the [names for readers](Projection::readers). The answers of
    /// the two versions have to be equal, row by row, at one position. Say `ORDER BY` in each.
    ///
    /// The comparison runs in a transaction that holds up other writers of the file, and no
    /// readers.
    fn compared(&self) -> Vec<String> {
        Vec::new()
    }

    /// Further answers to be compared, which take more than one statement: any texts, made by
    /// reading through the names for readers.
    ///
    /// # Errors
    /// Any. A version without answers counts as different.
    fn sample(&self, _tx: &Transaction<'_>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

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
