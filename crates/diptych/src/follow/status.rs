//! The status of a follower, for people and for programs that watch over an app.

use std::{fmt, sync::Arc};

use diptych_store::{Position, Timestamp};

use super::{
    poison::{PoisonedKey, Quarantine, SkippedEvent},
    state::{FollowState, Lag},
    versions::VersionStatus,
};

/// The kind of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FollowerKind {
    /// A fold in memory that answers queries.
    View,
    /// Rows outside the log.
    Projection,
}

impl FollowerKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            FollowerKind::View => "view",
            FollowerKind::Projection => "projection",
        }
    }
}

impl fmt::Display for FollowerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The status of a view or a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowerStatus {
    /// Whether it is a view or a projection.
    pub kind: FollowerKind,
    /// The Rust type of a view, or the name of a projection.
    pub name: String,
    /// All events up to here are applied. The stored checkpoint of a projection may be lower if no
    /// matching event came since.
    pub position: Position,
    /// Its state, with the reason if it stands still.
    pub state: FollowState,
    /// When it entered that state, by the clock of this machine.
    pub since: Timestamp,
    /// How far it is behind the log.
    pub lag: Lag,
    /// Number of events applied since the app was started.
    pub events: u64,
    /// The poisoned keys, whose events are held back: see [`KEY`](crate::Fold::KEY).
    pub poisoned: Vec<PoisonedKey>,
    /// Events that it leaves out for good, because a person skipped them.
    pub skipped: Vec<SkippedEvent>,
    /// Its versions, the served one first, if it has a version beside the served one or keeps an
    /// old one.
    pub versions: Vec<VersionStatus>,
    /// The memory that a view uses; `None` for a projection.
    pub memory: Option<FollowerMemory>,
}

/// The memory that a view uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowerMemory {
    /// Number of copies: one at first, later two, and one more for each query that takes long.
    pub copies: usize,
    /// Estimate of the bytes of one copy: its own size, and the result of
    /// [`heap_bytes`](crate::Fold::heap_bytes), or else the bytes of all applied payloads.
    pub copy_bytes: usize,
}

impl FollowerMemory {
    /// Estimate of the bytes of all copies.
    pub fn bytes(&self) -> usize {
        self.copies.saturating_mul(self.copy_bytes)
    }
}

/// The part of a status that only a follower with its state in memory knows.
pub(crate) trait StateReport: Send + Sync {
    /// The position of the state that queries see now.
    fn position(&self) -> Position;

    fn memory(&self) -> FollowerMemory;

    fn quarantine(&self) -> Arc<Quarantine>;
}
