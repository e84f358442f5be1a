//! The event log of Diptych in a PostgreSQL database, for teams that run, replicate and back up one
//! already.
//!
//! [`PostgresStore`] keeps every promise of [`EventStore`](diptych_store::EventStore). A database
//! has any number of logs, and any number of processes work on one log.
//!
//! ```no_run
//! use diptych_postgres::{PostgresOptions, PostgresStore};
//! use diptych_store::{Append, RawEvent, Store, Tag};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let address = "postgres://ann@localhost/shop?log=orders";
//! let store = Store::new(PostgresStore::open(address, PostgresOptions::default()).await?);
//!
//! let placed = RawEvent::new("order-placed", "{}").tag(Tag::new("order", 7));
//! store.append(Append::event(placed)).await?.synced().await?;
//! # Ok(()) }
//! ```
//!
//! # Appends
//!
//! A store has one writer. While one call of the server's function `diptych.append` is under way,
//! new commits wait, and the next call takes them all: one transaction and one sync of the disk for
//! many commits. The function locks the row of the log, and checks keys, tracking and conditions in
//! the next statement, which sees every commit before it. It answers each commit separately.
//! Positions are dense, and in the order in which transactions become visible, so no reader skips
//! an event, whatever other transactions of the database do.
//!
//! Each call has a number, and the log keeps the answer to the last one of each store. After a lost
//! connection the call is sent again, and is executed once. An append has an unknown outcome only
//! if the server stays away, or stopped waiting for a standby.
//!
//! # Reads
//!
//! A statement reads its events together with the head. Followers ask after a notification of other
//! processes, and without any at least every two seconds.
//!
//! # Rows beside the log
//!
//! A [`StoreBuilder`] opens a store that writes rows in the transaction of each append
//! ([`InlineRows`]). The log names them, and refuses programs that do not write them.
//! `diptych-postgres-tables` makes them from its projections.
//!
//! # Another history
//!
//! On each new connection, the store looks for the last event that it has seen. If that is gone,
//! the database was restored to an earlier state, or a standby without the event took over. The log
//! then gets a new epoch, and pinned handles get
//! [`HistoryChanged`](diptych_store::Unavailable::HistoryChanged). The store remembers up to 4,096
//! events that it saw. By them it logs from which position on the events differ, and how many of
//! its own acknowledged commits are missing. The table `diptych.takeover` keeps that report.
//!
//! # Moves
//!
//! A log can move into a database or away from one, and keep its identity: [`Arrival`] and
//! [`PostgresStore::fence`]. `diptych copy --move` does it.
//!
//! # Replicas
//!
//! With `target_session_attrs=read-only` in its address, a store reads from a standby, and takes no
//! appends. Its head is that of the standby. With `replicas=HOST:PORT,…` beside a primary, reads
//! with [`takes_replica`](diptych_store::Read::takes_replica) go to the standbys, up to the last
//! event that was seen on the primary, and only if the standby has the same event there.
//!
//! # Not there yet
//!
//! - Poolers in transaction mode. They are refused when a store is opened. A pool in session mode
//!   works.
//! - Old partitions cannot be detached and read from an archive.
//! - Commits are sent as arrays. `COPY` would be faster for commits of many thousand events.
//!
//! # Where to go next
//!
//! The [guide] has the settings that a server needs, the schema, and how to operate it.
//!
//! [guide]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/postgres.md

mod address;
mod batch;
mod builder;
mod connection;
mod error;
mod failure;
mod history;
mod inline;
mod link;
mod loss;
mod marks;
mod options;
mod overlap;
mod parts;
mod pool;
mod pooler;
mod reads;
mod replicas;
mod schema;
mod session;
mod store;
mod takeover;
mod text;
mod tls;
mod upkeep;
mod watch;
mod writer;

pub use builder::StoreBuilder;
pub use connection::{DatabaseConnection, connect, connect_to_read};
pub use error::{MoveError, OpenError};
pub use inline::{InlineRows, RowsBatch, RowsError, RowsStart};
pub use options::PostgresOptions;
pub use session::PLAN_SETTINGS;
pub use store::{Arrival, MoveTarget, PostgresStore};
pub use upkeep::{DatabaseReport, LogReport, PostgresDatabase, SchemaMigration};
