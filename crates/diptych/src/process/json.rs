//! Positions in JSON: their numbers.

use diptych_store::Position;
use serde::{Serialize, Serializer};

pub(super) fn number<S: Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
    position.get().serialize(serializer)
}

pub(super) fn optional<S: Serializer>(
    position: &Option<Position>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    position.map(Position::get).serialize(serializer)
}

pub(super) fn numbers<S: Serializer>(
    positions: &[Position],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(positions.iter().map(|position| position.get()))
}
