use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, EventStore, Filter, Head, KeyedCommit, Limits,
    LogIdentity, Memory, Position, Read, ReadError, SyncError, Tag, TimeSource, Timestamp,
    Tracking,
};
use uuid::Uuid;

use super::given::START_MICROS;

/// A clock that stands still until a test moves it. It begins with the year 2000.
#[derive(Clone, Debug)]
pub struct Clock(Arc<AtomicI64>);

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

impl Clock {
    /// 2000-01-01T00:00:00Z.
    pub fn new() -> Clock {
        Clock(Arc::new(AtomicI64::new(START_MICROS)))
    }

    /// The time that the clock shows.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Acquire))
    }

    /// Sets the clock.
    pub fn set(&self, instant: Timestamp) {
        self.0.store(instant.as_micros(), Ordering::Release);
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(micros, Ordering::AcqRel);
    }
}

/// Ids that come in the same order in every run, for commands that carry their own ids.
#[derive(Debug, Default)]
pub struct Ids(AtomicU64);

impl Ids {
    /// Starts at the first id.
    pub fn new() -> Ids {
        Ids::default()
    }

    /// The next id.
    pub fn next_id(&self) -> Uuid {
        Uuid::from_u64_pair(0, self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// A store in memory that records by a [`Clock`], for tests of a whole app.
#[derive(Debug)]
pub struct ControlledClock {
    memory: Memory,
    clock: Clock,
}

impl ControlledClock {
    /// An empty log that records by this clock.
    pub fn new(clock: Clock) -> ControlledClock {
        ControlledClock { memory: Memory::new().time(TimeSource::Caller), clock }
    }
}

impl EventStore for ControlledClock {
    fn identity(&self) -> LogIdentity {
        self.memory.identity()
    }

    fn limits(&self) -> Limits {
        EventStore::limits(&self.memory)
    }

    fn head(&self) -> Head {
        self.memory.head()
    }

    async fn append(&self, mut append: Append) -> Result<AcceptedCommit, AppendError> {
        append.recorded_at = Some(self.clock.now());
        self.memory.append(append).await
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        self.memory.read(filter, read).await
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.memory.last(filter, upto).await
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.memory.count(tag, upto).await
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.memory.keyed(key).await
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.memory.tracked(source).await
    }

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.memory.types().await
    }

    async fn close(&self) -> Result<(), SyncError> {
        self.memory.close().await
    }
}
