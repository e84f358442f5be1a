//! Positions in JSON: their numbers.

use diptych_store::Position;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

pub(super) fn read_number<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Position, D::Error> {
    u64::deserialize(deserializer).map(Position::new)
}

pub(super) fn read_optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Position>, D::Error> {
    Option::<u64>::deserialize(deserializer).map(|number| number.map(Position::new))
}

pub(super) fn read_numbers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Position>, D::Error> {
    let numbers = Vec::<u64>::deserialize(deserializer)?;
    Ok(numbers.into_iter().map(Position::new).collect())
}
