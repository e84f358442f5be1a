use std::{path::PathBuf, time::Duration};

use diptych_store::{Limits, TimeSource};
use tokio::sync::Semaphore;

/// Options of a [`PostgresStore`](crate::PostgresStore).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// The name of the log in the database, if the address has none. Without either it is `main`.
    pub log: Option<String>,
    /// Whether to make what is missing: the schema, its newest version, and the log. `true` by
    /// default.
    pub create: bool,
    /// The file with the certificates of authorities that may vouch for an encrypted server, in PEM
    /// form. `sslrootcert` in the address takes precedence. Without either, the system decides.
    pub authorities: Option<PathBuf>,
    /// The limits of the store. Names that the database indexes are at most 2,000 bytes long.
    pub limits: Limits,
    /// The source of the time of each commit. The clock is that of the database server.
    pub time: TimeSource,
    /// The longest time of a call while the server does not answer. An append that was sent and has
    /// no answer by then has an unknown outcome. 15 seconds by default.
    pub answer_time: Duration,
    /// The longest time to establish one connection. 5 seconds by default.
    pub connect_time: Duration,
    /// The longest wait for a replica that has not reached the positions of a read. After that the
    /// primary answers. 100 milliseconds by default.
    pub replica_wait: Duration,
    /// The greatest number of connections for reads, of each server. Two more serve the appends and
    /// the watch of the head. 4 by default.
    pub readers: usize,
    /// The greatest number of commits that wait for an answer. Further appends wait. 4,096 by
    /// default.
    pub commits_in_flight: usize,
    /// Whether to work on a server that can lose acknowledged commits: with `fsync`,
    /// `full_page_writes` or `synchronous_commit` off. `false` by default.
    pub allow_unsafe_settings: bool,
    /// Positions of one partition, for a schema that is made. 10 million by default.
    pub partition_events: u64,
}

impl Default for PostgresOptions {
    fn default() -> PostgresOptions {
        PostgresOptions {
            log: None,
            create: true,
            authorities: None,
            limits: Limits::default(),
            time: TimeSource::default(),
            answer_time: Duration::from_secs(15),
            connect_time: Duration::from_secs(5),
            replica_wait: Duration::from_millis(100),
            readers: 4,
            commits_in_flight: 4_096,
            allow_unsafe_settings: false,
            partition_events: 10_000_000,
        }
    }
}

/// The bounds of all times.
const SHORTEST_TIME: Duration = Duration::from_millis(1);
const LONGEST_TIME: Duration = Duration::from_secs(24 * 3_600);
/// The longest name that an index of the database takes, with room for escapes.
const INDEXED_BYTES: usize = 2_000;
/// The largest batch. It is one message of the server's.
const BATCH_BYTES: usize = 256 << 20;

impl PostgresOptions {
    /// The options, without values that clocks, counters and indexes cannot take.
    pub(crate) fn within_bounds(mut self) -> PostgresOptions {
        for time in [&mut self.answer_time, &mut self.connect_time] {
            *time = (*time).clamp(SHORTEST_TIME, LONGEST_TIME);
        }
        self.replica_wait = self.replica_wait.min(LONGEST_TIME);
        self.readers = self.readers.clamp(1, 1_000);
        self.commits_in_flight = self.commits_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        self.partition_events = self.partition_events.clamp(1, 1 << 40);
        let limits = &mut self.limits;
        for names in [&mut limits.type_bytes, &mut limits.key_bytes, &mut limits.source_bytes] {
            *names = (*names).min(INDEXED_BYTES);
        }
        let sizes = [&mut limits.event_bytes, &mut limits.commit_bytes, &mut limits.batch_bytes];
        for bytes in sizes {
            *bytes = (*bytes).min(BATCH_BYTES);
        }
        limits.commit_events = limits.commit_events.min(1 << 20);
        limits.batch_events = limits.batch_events.min(1 << 20);
        self
    }
}
