//! From and to the instants of other crates.

use std::time::{Duration, SystemTime};

use super::Timestamp;

/// The other type has no such instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{instant} is outside of the instants of {wanted}")]
pub struct OutOfRange {
    /// The instant.
    pub instant: Timestamp,
    /// The type that it should have become.
    pub wanted: &'static str,
}

/// The last microsecond that is not after the time. A time more than 292,000 years from 1970
/// becomes the nearest instant.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        Timestamp::floor(time)
    }
}

impl TryFrom<Timestamp> for SystemTime {
    type Error = OutOfRange;

    fn try_from(instant: Timestamp) -> Result<SystemTime, OutOfRange> {
        let micros = instant.as_micros();
        let distance = Duration::from_micros(micros.unsigned_abs());
        let time = match micros < 0 {
            true => SystemTime::UNIX_EPOCH.checked_sub(distance),
            false => SystemTime::UNIX_EPOCH.checked_add(distance),
        };
        time.ok_or(OutOfRange { instant, wanted: "SystemTime" })
    }
}

/// The last microsecond that is not after it.
#[cfg(feature = "jiff")]
impl From<jiff::Timestamp> for Timestamp {
    fn from(instant: jiff::Timestamp) -> Timestamp {
        Timestamp::of_nanos(instant.as_nanosecond())
    }
}

#[cfg(feature = "jiff")]
impl TryFrom<Timestamp> for jiff::Timestamp {
    type Error = OutOfRange;

    fn try_from(instant: Timestamp) -> Result<jiff::Timestamp, OutOfRange> {
        let micros = instant.as_micros();
        let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
        // From one number of microseconds jiff does not make instants in its very last second.
        jiff::Timestamp::new(seconds, micros as i32 * 1_000)
            .map_err(|_| OutOfRange { instant, wanted: "jiff::Timestamp" })
    }
}

/// The last microsecond that is not after it.
#[cfg(feature = "chrono")]
impl<Z: chrono::TimeZone> From<chrono::DateTime<Z>> for Timestamp {
    fn from(instant: chrono::DateTime<Z>) -> Timestamp {
        let seconds = i128::from(instant.timestamp()) * 1_000_000_000;
        Timestamp::of_nanos(seconds + i128::from(instant.timestamp_subsec_nanos()))
    }
}

#[cfg(feature = "chrono")]
impl TryFrom<Timestamp> for chrono::DateTime<chrono::Utc> {
    type Error = OutOfRange;

    fn try_from(instant: Timestamp) -> Result<Self, OutOfRange> {
        chrono::DateTime::from_timestamp_micros(instant.as_micros())
            .ok_or(OutOfRange { instant, wanted: "chrono::DateTime" })
    }
}

/// The last microsecond that is not after it.
#[cfg(feature = "time")]
impl From<time::OffsetDateTime> for Timestamp {
    fn from(instant: time::OffsetDateTime) -> Timestamp {
        Timestamp::of_nanos(instant.unix_timestamp_nanos())
    }
}

#[cfg(feature = "time")]
impl TryFrom<Timestamp> for time::OffsetDateTime {
    type Error = OutOfRange;

    fn try_from(instant: Timestamp) -> Result<Self, OutOfRange> {
        let nanos = i128::from(instant.as_micros()) * 1_000;
        time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .map_err(|_| OutOfRange { instant, wanted: "time::OffsetDateTime" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Instants that every one of the types has.
    const MICROS: [i64; 5] = [0, 1, -1, 1_357_035_300_000_001, -62_135_596_800_000_000];

    #[test]
    fn an_instant_survives_the_system_time() {
        for micros in MICROS.into_iter().chain([Timestamp::MAX.as_micros()]) {
            let instant = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::from(SystemTime::try_from(instant).unwrap()), instant);
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_nanos(1);
        assert_eq!(Timestamp::from(before).as_micros(), -1);
    }

    #[cfg(feature = "jiff")]
    #[test]
    fn an_instant_survives_jiff() {
        for micros in MICROS {
            let instant = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::from(jiff::Timestamp::try_from(instant).unwrap()), instant);
        }
        let before = jiff::Timestamp::from_nanosecond(-1).unwrap();
        assert_eq!(Timestamp::from(before).as_micros(), -1);
        let error = jiff::Timestamp::try_from(Timestamp::MAX).unwrap_err();
        assert!(error.to_string().contains("9999-12-31T23:59:59.999999Z is outside"), "{error}");
    }

    #[cfg(feature = "chrono")]
    #[test]
    fn an_instant_survives_chrono() {
        type Utc = chrono::DateTime<chrono::Utc>;
        for micros in MICROS.into_iter().chain([Timestamp::MAX.as_micros()]) {
            let instant = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::from(Utc::try_from(instant).unwrap()), instant);
        }
        let before = Utc::from_timestamp(-1, 999_999_999).unwrap();
        assert_eq!(Timestamp::from(before).as_micros(), -1);
        Utc::try_from(Timestamp::from_micros(i64::MAX)).unwrap_err();
    }

    #[cfg(feature = "time")]
    #[test]
    fn an_instant_survives_time() {
        for micros in MICROS.into_iter().chain([Timestamp::MAX.as_micros()]) {
            let instant = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::from(time::OffsetDateTime::try_from(instant).unwrap()), instant);
        }
        let before = time::OffsetDateTime::from_unix_timestamp_nanos(-1).unwrap();
        assert_eq!(Timestamp::from(before).as_micros(), -1);
        time::OffsetDateTime::try_from(Timestamp::from_micros(i64::MAX)).unwrap_err();
    }
}
