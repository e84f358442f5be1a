use std::fmt;

/// The place of an event in its log. Positions are dense and start at 1; 0 is before all events.
///
/// Positions are assigned in commit order. So a reader that has seen position `p` never sees a new
/// event at or below `p`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// The position before the first event.
    pub const START: Position = Position(0);
    /// A position above every event that a log can hold. It is the open upper bound of a read.
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
