//! The server that all contenders share, and what each of them can do.

use std::future::Future;

use diptych_postgres_testing::PostgresServer;
use tokio::runtime::Runtime;

/// One server and one runtime, which all contenders use.
pub(crate) struct Place {
    pub(crate) server: PostgresServer,
    pub(crate) runtime: Runtime,
}

impl Place {
    /// The address of the database of a contender.
    pub(crate) fn address(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.server.port())
    }
}

/// Things with 100 events each in the logs that are read.
pub(crate) const THINGS: u64 = 20;
/// The events of such a thing.
pub(crate) const EVENTS_OF_THING: u64 = 100;

/// A store in its database.
pub(crate) trait Bench: Clone + Send + Sync + 'static {
    /// A store whose callers are as many as these.
    fn open(place: &Place, callers: usize) -> Self;

    /// Appends events of 256 bytes in one commit, unconditionally.
    fn append(&self, writer: u64, number: u64, events: u64) -> impl Future<Output = ()> + Send;

    /// Decides once on the boundary of this number, after a fold of its events. The event is
    /// durable. A conflict is tried again.
    fn decide(&self, boundary: u64) -> impl Future<Output = ()> + Send;

    /// Writes the events of things among others.
    fn fill(&self, events: u64) -> impl Future<Output = ()> + Send;

    /// Reads the events of a thing, and gives their number.
    fn read(&self, thing: u64) -> impl Future<Output = u64> + Send;
}
