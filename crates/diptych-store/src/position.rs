use std::fmt;

/// A place in the log: dense, starting at 1; 0 means before everything.
///
/// Positions are assigned in commit order, so whoever has seen position `p` will never see a new
/// event at or below `p`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// Before the first event.
    pub const START: Position = Position(0);
    /// Above every event that a log can hold: the open upper bound of a read.
    pub const MAX: Position = Position(u64::MAX);

    /// The position with this number.
    pub const fn new(number: u64) -> Position {
        Position(number)
    }

    /// The number, 0 for [`Position::START`].
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position `count` places later, or [`Position::MAX`].
    #[must_use]
    pub const fn plus(self, count: u64) -> Position {
        Position(self.0.saturating_add(count))
    }

    /// The position just before this one, or [`Position::START`].
    #[must_use]
    pub const fn before(self) -> Position {
        Position(self.0.saturating_sub(1))
    }
}

impl From<u64> for Position {
    fn from(number: u64) -> Position {
        Position(number)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
