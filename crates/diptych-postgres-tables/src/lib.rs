//! Projections of Diptych into PostgreSQL: tables shaped for questions, kept in step with the log.
//!
//! A [`Projection`] is given a transaction and an event. Its rows and its checkpoint (the log, and
//! the position in it) are committed together. So the rows always equal a fold of the log up to the
//! checkpoint: after a crash of the program or of the server, a failed batch, a lost connection,
//! and when two programs run one projection. The log may be in the same database, in another one,
//! or in a folder.
//!
//! ```no_run
//! use diptych::{App, Event, Recorded};
//! use diptych_postgres_tables::{Postgres, Projection, Transaction};
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
//!     fn create(&self) -> Vec<String> {
//!         vec!["create table sales (shop text primary key, amount bigint not null)".to_owned()]
//!     }
//!
//!     fn apply(
//!         &self,
//!         tx: &mut Transaction<'_>,
//!         sold: &Recorded<Sold>,
//!     ) -> diptych_postgres_tables::Result {
//!         tx.execute(
//!             "insert into sales values ($1, $2)
//!              on conflict (shop) do update set amount = sales.amount + excluded.amount",
//!             &[&sold.shop, &sold.amount],
//!         )?;
//!         Ok(())
//!     }
//! }
//!
//! # async fn example(app: diptych::AppBuilder) -> Result<(), Box<dyn std::error::Error>> {
//! let reports = Postgres::at("postgres://ann@localhost/reports");
//! let app = app.projection(reports.projection(Sales)).start().await?;
//! # Ok(()) }
//! ```
//!
//! An [`InlineProjection`] writes the rows of a projection in the transaction of each append to a
//! log in the same database. Readers then see the rows as soon as a command has its answer.
//!
//! # Limits
//!
//! - `create` makes tables, views, materialized views, indexes and sequences.
//! - `apply` must write only to tables that `create` makes. The database does not check that.
//! - The role needs the right to create schemas in the database: `create` is tried in a schema that
//!   is rolled back, which shows a change of the tables without a new version.
//! - A new major version of the server may describe tables in other words. The projection then
//!   stops with a word about the change, and is rebuilt.
//!
//! # Where to go next
//!
//! The [guide] has the rules, and the differences from SQLite. The crate has no features.
//!
//! [guide]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/postgres.md

mod inline;
mod link;
mod rows;
mod sample;
mod schema;
mod session;
mod stored;
mod target;
mod transaction;
mod trouble;

use std::{fmt, time::Duration};

pub use diptych::follow::SwitchPolicy;
use diptych::{Event, Recorded};
pub use inline::InlineProjection;
pub use target::PostgresProjection;
pub use tokio_postgres;
pub use transaction::Transaction;
pub use trouble::StatementError;

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

    /// Its name, unique in the schema and in the app.
    fn name(&self) -> &str;

    /// The version of the projection. Raise it when the tables change, or when `apply` makes other
    /// rows from the same events. The tables are then made anew. A lower version than the one in
    /// the database is an error, and so are tables that changed without a new version.
    fn version(&self) -> u32 {
        1
    }

    /// The statements that make its tables, indexes and views, none of which exist yet. Names have
    /// no schema before them. A rebuild or a new version removes what they made.
    fn create(&self) -> Vec<String>;

    /// The key of the tag whose values the rows belong to, such as `account`. By default there is
    /// none, and an event that cannot be applied stops the projection. With a key, such an event
    /// poisons its own keys, and the events of other keys go on. The table `diptych_poisoned` lists
    /// the poisoned keys. `apply` must write only to rows of the keys of its event.
    fn key(&self) -> Option<&str> {
        None
    }

    /// The names under which readers find the tables of this version: pairs of a name, and a table
    /// that `create` makes. Each name is a view of that table. They let
    /// [several versions](PostgresProjection::beside) live in one schema.
    fn readers(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The questions by which a version is compared with the served one before it takes its place:
    /// `SELECT` statements that use the [names for readers](Projection::readers). The answers of
    /// the two versions have to be equal, row by row, at one position. Say `ORDER BY` in each.
    fn compared(&self) -> Vec<String> {
        Vec::new()
    }

    /// Applies one event by writing rows.
    ///
    /// # Errors
    /// Any. The projection stops before this event, and reports the error and its position. An
    /// error of the connection or of the server as a whole is tried again.
    fn apply(&self, tx: &mut Transaction<'_>, event: &Recorded<Self::Event>) -> Result;
}

/// A schema of a database that projections write to.
#[derive(Clone)]
pub struct Postgres {
    address: String,
    schema: String,
    connect_time: Duration,
    answer_time: Duration,
    lock_time: Duration,
}

impl Postgres {
    /// The default time that a connection may take.
    pub const CONNECT_TIME: Duration = Duration::from_secs(10);
    /// The default time that a statement may take.
    pub const ANSWER_TIME: Duration = Duration::from_secs(60);
    /// The default time that a projection waits for locks of others.
    pub const LOCK_TIME: Duration = Duration::from_secs(5);

    /// The schema `public` of the database of this address, such as
    /// `postgres://ann@localhost/reports`. Encryption is asked for as in addresses of logs.
    pub fn at(address: impl Into<String>) -> Postgres {
        Postgres {
            address: address.into(),
            schema: "public".to_owned(),
            connect_time: Postgres::CONNECT_TIME,
            answer_time: Postgres::ANSWER_TIME,
            lock_time: Postgres::LOCK_TIME,
        }
    }

    /// Another schema, which is made if it does not exist.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Postgres {
        self.schema = schema.into();
        self
    }

    /// The time that a statement may take. After that the database counts as unavailable, and the
    /// step is tried again.
    #[must_use]
    pub fn answer_time(mut self, time: Duration) -> Postgres {
        self.answer_time = time;
        self
    }

    /// The time that a projection waits for locks of others. After that the database counts as
    /// unavailable, and the step is tried again.
    #[must_use]
    pub fn lock_time(mut self, time: Duration) -> Postgres {
        self.lock_time = time;
        self
    }

    /// This projection in this schema. The connection is made when it first runs.
    pub fn projection<P: Projection>(&self, projection: P) -> PostgresProjection<P> {
        PostgresProjection::new(projection, self.clone())
    }
}

/// The address may contain a password, so it is not shown.
impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("schema", &self.schema).finish_non_exhaustive()
    }
}
