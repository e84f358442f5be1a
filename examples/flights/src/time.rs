//! Arithmetic on instants, which neither overflows nor panics whatever anybody says the time is.

use diptych::Timestamp;

const MINUTE_MICROS: i64 = 60_000_000;
const HOUR_MICROS: i64 = 60 * MINUTE_MICROS;

/// This many minutes later, or earlier if negative.
pub(crate) fn plus_minutes(instant: Timestamp, minutes: i64) -> Timestamp {
    let micros = minutes.saturating_mul(MINUTE_MICROS);
    Timestamp::from_micros(instant.as_micros().saturating_add(micros))
}

/// Whole minutes from one instant to another; negative if that is earlier.
pub(crate) fn minutes_between(from: Timestamp, to: Timestamp) -> i32 {
    let micros = to.as_micros().saturating_sub(from.as_micros());
    let minutes = micros.div_euclid(MINUTE_MICROS);
    minutes.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// Which hour it is, counted from the epoch.
pub(crate) fn hour_of(instant: Timestamp) -> i64 {
    instant.as_micros().div_euclid(HOUR_MICROS)
}
