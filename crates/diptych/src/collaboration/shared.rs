//! The parts of a running intake that its task and its control share.

use diptych_store::Store;

use super::status::IntakeStatusCell;

/// The parts of a running intake that its task and its control share.
pub(super) struct IntakeShared {
    pub(super) name: &'static str,
    /// The name under which the log keeps the place.
    pub(super) intake: String,
    pub(super) source: String,
    pub(super) store: Store,
    pub(super) status: IntakeStatusCell,
}
