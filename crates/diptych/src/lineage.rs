//! Checks that data kept outside the log belongs to the history that the log has now.
//!
//! A restored older copy of a log keeps its id and epoch, and can grow past the positions that
//! snapshots, checkpoints and tokens name. So each of them also carries the checksum of the event
//! at its position. This module compares it with the log before the snapshot, checkpoint or token
//! is used.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use diptych_store::{
    EventChecksum, Head, HistoryPoint, InvalidRequest, LogIdentity, Position, ReadError, Store,
    Unavailable,
};

/// Number of checksums kept in memory: enough for the events just written and seen.
const RECENT: usize = 256;

/// The history of the log that an app works on.
pub(crate) struct Lineage {
    store: Store,
    log: LogIdentity,
    head: Head,
    /// Recently used checksums, each in the slot of its position modulo the size.
    recent: Box<[Recent]>,
}

/// A position and its checksum, read without a lock. If two writes race, a reader may see one field
/// of each. The two fields then yield a position that was not asked for, and the lookup misses.
#[derive(Default)]
struct Recent {
    checksum: AtomicU64,
    /// The exclusive or of the position and the checksum.
    mixed: AtomicU64,
}

impl Lineage {
    pub(crate) fn new(store: Store) -> Lineage {
        // Pinned, because the data of the app belongs to the history that the log has now.
        let store = store.pinned();
        let recent = (0..RECENT).map(|_| Recent::default()).collect();
        Lineage { log: store.identity(), head: store.head(), store, recent }
    }

    pub(crate) fn log(&self) -> LogIdentity {
        self.log
    }

    pub(crate) fn head(&self) -> Position {
        self.head.position()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Whether the log may have this position, although the head is below it: another process may
    /// have written it.
    pub(crate) fn may_reach(&self, position: Position) -> bool {
        position > self.head() && self.store.has_other_writers()
    }

    /// Caches the checksum of an event whose position is final.
    pub(crate) fn note(&self, position: Position, checksum: EventChecksum) {
        if let Some(recent) = self.recent(position) {
            recent.checksum.store(checksum.to_u64(), Ordering::Relaxed);
            recent.mixed.store(checksum.to_u64() ^ position.get(), Ordering::Relaxed);
        }
    }

    /// The checksum of the event at this position, if it is known without a read.
    pub(crate) fn known(&self, position: Position) -> Option<EventChecksum> {
        if position == Position::START {
            return Some(EventChecksum::START);
        }
        let recent = self.recent(position)?;
        let checksum = recent.checksum.load(Ordering::Relaxed);
        let found = recent.mixed.load(Ordering::Relaxed) ^ checksum;
        (found == position.get()).then(|| EventChecksum::from_u64(checksum))
    }

    fn recent(&self, position: Position) -> Option<&Recent> {
        self.recent.get(position.get() as usize % RECENT)
    }

    /// The checksum of the event at this position, or `None` above the head.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub(crate) async fn checksum(
        &self,
        position: Position,
    ) -> Result<Option<EventChecksum>, ReadError> {
        if let Some(known) = self.known(position) {
            return Ok(Some(known));
        }
        let checksum = self.store.checksum(position).await;
        let checksum = checksum.map_err(|error| not_looked_up(position, error))?;
        if let Some(checksum) = checksum {
            self.note(position, checksum);
        }
        Ok(checksum)
    }

    /// This position of the log, with the checksum there.
    ///
    /// # Errors
    /// [`InvalidRequest::AboveHead`] if the log has no such position yet, or another [`ReadError`]
    /// from the store.
    pub(crate) async fn point(&self, position: Position) -> Result<HistoryPoint, ReadError> {
        match self.checksum(position).await? {
            Some(checksum) => Ok(HistoryPoint { log: self.log, position, checksum }),
            None => Err(InvalidRequest::AboveHead { position, head: self.head() }.into()),
        }
    }
}

/// Why the event at a position is not known: only a log that is away has it.
#[derive(Debug, thiserror::Error)]
#[error("tokens name the event at position {position}, and only the log has that event: {cause}")]
struct UnknownEvent {
    position: Position,
    #[source]
    cause: Arc<dyn Error + Send + Sync>,
}

fn not_looked_up(position: Position, error: ReadError) -> ReadError {
    match error {
        ReadError::Unavailable(Unavailable::Backend(cause)) => {
            Unavailable::Backend(Arc::new(UnknownEvent { position, cause })).into()
        }
        other => other,
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lineage").field("store", &self.store).finish_non_exhaustive()
    }
}
