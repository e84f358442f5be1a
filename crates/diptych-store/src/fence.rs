use crate::{identity::LogIdentity, position::Position};

/// The proof that a log takes no commits any more where it was, because it moves to another place.
/// For authors of stores: a fence is made after the log was durably closed to commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    identity: LogIdentity,
    upto: Position,
}

impl Fence {
    /// The fence of the log with this identity and this last position.
    pub const fn new(identity: LogIdentity, upto: Position) -> Fence {
        Fence { identity, upto }
    }

    /// The identity of the log that moves.
    pub const fn identity(&self) -> LogIdentity {
        self.identity
    }

    /// The last position of the log at its old place, for ever.
    pub const fn upto(&self) -> Position {
        self.upto
    }
}
