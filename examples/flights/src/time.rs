//! Arithmetic on instants that saturates, because clients may send any instant.

use diptych::Timestamp;

const MINUTE_MICROS: i64 = 60_000_000;
const HOUR_MICROS: i64 = 60 * MINUTE_MICROS;

/// Adds minutes; a negative number gives an earlier instant.
pub(crate) fn plus_minutes(instant: Timestamp, minutes: i64) -> Timestamp {
    let micros = minutes.saturating_mul(MINUTE_MICROS);
    Timestamp::from_micros(instant.as_micros().saturating_add(micros))
}

/// Whole minutes between two instants; negative if `to` is earlier.
pub(crate) fn minutes_between(from: Timestamp, to: Timestamp) -> i32 {
    let micros = to.as_micros().saturating_sub(from.as_micros());
    let minutes = micros.div_euclid(MINUTE_MICROS);
    minutes.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// Number of the hour since the epoch.
pub(crate) fn hour_of(instant: Timestamp) -> i64 {
    instant.as_micros().div_euclid(HOUR_MICROS)
}
