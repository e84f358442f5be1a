//! The places of the versions of a projection in its database.

use diptych_store::Position;

use super::Checkpoint;
use crate::follow::{VersionState, VersionStatus};

/// The row of a projection: the version that made its tables, and their checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// The version of the projection.
    pub version: u32,
    /// `None` before the first batch.
    pub checkpoint: Option<Checkpoint>,
}

/// The place of the row and of the objects of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionSlot {
    /// The version that readers see.
    Served,
    /// This version, which readers do not see.
    Beside(u32),
}

/// A name under which readers find an object, whatever version of the projection made it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReaderName {
    /// The name that readers use.
    pub name: String,
    /// The object of this version that the name stands for.
    pub object: String,
}

/// The row of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Where it is.
    pub slot: VersionSlot,
    /// Its version and its checkpoint.
    pub row: StoredCheckpoint,
    /// Its state, as [`set_state`](crate::projection::DatabaseTransaction::set_state) stored it;
    /// [`VersionState::Served`] in the served slot.
    pub state: VersionState,
}

/// The answer to a question by which two versions are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleAnswer {
    /// The question, for people.
    pub question: String,
    /// A digest of each row, or the error.
    pub rows: Result<Vec<u128>, String>,
}

impl StoredVersion {
    pub(super) fn position(&self) -> Position {
        self.row.checkpoint.map_or(Position::START, |checkpoint| checkpoint.position)
    }

    pub(super) fn status(&self) -> VersionStatus {
        VersionStatus::new(self.row.version, self.state.clone(), self.position())
    }
}

/// The poisoned keys of a version, as its database stores them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoisonRecord {
    /// The poisoned keys.
    pub keys: Vec<PoisonRow>,
    /// The events that are left out for good, in a form that only the rules read; empty if there
    /// are none.
    pub skipped: Vec<u8>,
}

/// A poisoned key: its rows lack its events from a position on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoisonRow {
    /// The tag that names the key.
    pub key: String,
    /// The first event of the key that is not applied.
    pub at: Position,
    /// The event that failed.
    pub failed: Position,
    /// The failure.
    pub reason: String,
    /// Number of events of the key that are held back.
    pub held: u64,
}
