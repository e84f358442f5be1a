mod conversions;

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use jiff::{SignedDuration, civil::DateTime, fmt::temporal::Pieces};

pub use conversions::OutOfRange;

use crate::error::InvalidRequest;

/// An instant: microseconds since the Unix epoch, UTC.
///
/// It prints and parses as RFC 3339 text with a zone, such as `2013-01-01T10:15:00Z`. Only instants
/// from [`MIN`](Timestamp::MIN) to [`MAX`](Timestamp::MAX) have such a text. Parts of a microsecond
/// are left out: a text or another type with nanoseconds becomes the last microsecond that is not
/// after it, also before 1970.
///
/// It converts from and to [`SystemTime`], and with the features `jiff`, `chrono` and `time` from
/// and to the instants of these crates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
const MICROS: i64 = 1_000_000;
/// The text behind the number of microseconds, for an instant that has no other text.
const UNIT: &str = " us";

impl Timestamp {
    /// An instant before all others. In a log without commits it stands for the time of the last
    /// commit.
    pub const NEVER: Timestamp = Timestamp(i64::MIN);

    /// The first instant that has a text, `-009999-01-01T00:00:00Z`. A store accepts no event that
    /// occurred before it.
    pub const MIN: Timestamp = Timestamp(-377_705_116_800 * MICROS);

    /// The last instant that has a text, `9999-12-31T23:59:59.999999Z`. A store accepts no event
    /// that occurred after it. As a bound it means "ever": it is ahead of every clock.
    pub const MAX: Timestamp = Timestamp(253_402_300_800 * MICROS - 1);

    /// The instant this number of microseconds after the Unix epoch, or before it if negative.
    pub const fn from_micros(micros: i64) -> Timestamp {
        Timestamp(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The time of the system clock. Only stores and the edges of a program may call it. Rules,
    /// folds and queries get their time as data.
    pub fn now() -> Timestamp {
        Timestamp::floor(SystemTime::now())
    }

    /// Whether it has a text that other programs read: it is from [`MIN`](Timestamp::MIN) to
    /// [`MAX`](Timestamp::MAX).
    pub fn has_text(self) -> bool {
        (Timestamp::MIN..=Timestamp::MAX).contains(&self)
    }

    /// The instant this much later, without a part of a microsecond. `None` after
    /// [`MAX`](Timestamp::MAX).
    #[must_use]
    pub fn checked_add(self, by: Duration) -> Option<Timestamp> {
        let later = Timestamp(self.0.checked_add(i64::try_from(by.as_micros()).ok()?)?);
        (later <= Timestamp::MAX).then_some(later)
    }

    /// The instant this much later, without a part of a microsecond, and at most
    /// [`MAX`](Timestamp::MAX).
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Timestamp {
        self.checked_add(by).unwrap_or(Timestamp::MAX)
    }

    /// The instant this much earlier, without a part of a microsecond. `None` before
    /// [`MIN`](Timestamp::MIN).
    #[must_use]
    pub fn checked_sub(self, by: Duration) -> Option<Timestamp> {
        let earlier = Timestamp(self.0.checked_sub(i64::try_from(by.as_micros()).ok()?)?);
        (earlier >= Timestamp::MIN).then_some(earlier)
    }

    /// The instant this much earlier, without a part of a microsecond, and at least
    /// [`MIN`](Timestamp::MIN).
    #[must_use]
    pub fn saturating_sub(self, by: Duration) -> Timestamp {
        self.checked_sub(by).unwrap_or(Timestamp::MIN)
    }

    /// The time that passed since `earlier`. `None` if that is later than this instant.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Option<Duration> {
        (earlier <= self).then(|| Duration::from_micros(self.0.abs_diff(earlier.0)))
    }

    /// The first instant after this one, to include an instant in a range that ends before a bound.
    #[must_use]
    pub fn just_after(self) -> Timestamp {
        Timestamp(self.0.saturating_add(1))
    }

    /// The last microsecond that is not after this time, as far as there is one.
    fn floor(time: SystemTime) -> Timestamp {
        let nanos = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
            Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
        };
        Timestamp::of_nanos(nanos)
    }

    /// The last microsecond that is not after this number of nanoseconds since the epoch.
    fn of_nanos(nanos: i128) -> Timestamp {
        let micros = nanos.div_euclid(1_000);
        let edge = if micros < 0 { i64::MIN } else { i64::MAX };
        Timestamp(i64::try_from(micros).unwrap_or(edge))
    }
}

/// The source of `recorded_at` in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeSource {
    /// The system clock. If the clock went back, the last recorded time is used again.
    #[default]
    Clock,
    /// Each append brings its time, as in a replica that applies a journal. If that time went back,
    /// the last recorded time is used again.
    Caller,
}

impl TimeSource {
    /// The time to record a commit at: `given` is the time in the append, `last` that of the last
    /// commit.
    ///
    /// # Errors
    /// [`InvalidRequest::RecordedAt`] if the append has a time that the store takes from its clock,
    /// or lacks one that the store takes from its caller.
    pub fn next(
        self,
        given: Option<Timestamp>,
        last: Timestamp,
    ) -> Result<Timestamp, InvalidRequest> {
        let wrong = |problem| Err(InvalidRequest::RecordedAt { problem });
        match (self, given) {
            (TimeSource::Clock, None) => Ok(Timestamp::now().max(last)),
            (TimeSource::Caller, Some(at)) => Ok(at.max(last)),
            (TimeSource::Clock, Some(_)) => wrong(InvalidRequest::TIME_NOT_TAKEN),
            (TimeSource::Caller, None) => wrong(InvalidRequest::TIME_MISSING),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0.div_euclid(MICROS), self.0.rem_euclid(MICROS));
        // A civil time reaches to the end of the year 9999, and an instant of jiff does not.
        match EPOCH.checked_add(SignedDuration::new(seconds, micros as i32 * 1_000)) {
            Ok(civil) => write!(f, "{civil}Z"),
            // Outside the years -9999 to 9999 there is no RFC 3339 text.
            Err(_) => write!(f, "{}{UNIT}", self.0),
        }
    }
}

/// The text is not an instant.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text:?} is not an instant with a zone, such as 2013-01-01T10:15:00Z: {reason}")]
pub struct TimestampError {
    text: String,
    reason: String,
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    /// Also reads the text of an instant that has only a number of microseconds, because older logs
    /// may hold such.
    fn from_str(text: &str) -> Result<Timestamp, TimestampError> {
        if let Some(Ok(micros)) = text.strip_suffix(UNIT).map(str::parse) {
            return Ok(Timestamp(micros));
        }
        parse(text).map_err(|reason| TimestampError { text: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<Timestamp, String> {
    let pieces = Pieces::parse(text).map_err(|reason| reason.to_string())?;
    let Some(offset) = pieces.to_numeric_offset() else {
        return Err(
            "it has no zone: end it with `Z`, or with an offset such as `+01:00`".to_owned()
        );
    };
    let Some(time) = pieces.time() else {
        return Err("it has no time of day".to_owned());
    };
    let civil = pieces.date().to_datetime(time);
    let nanos =
        civil.duration_since(EPOCH).as_nanos() - i128::from(offset.seconds()) * 1_000_000_000;
    let instant = Timestamp::of_nanos(nanos);
    if !instant.has_text() {
        return Err(format!("in UTC it is not from {} to {}", Timestamp::MIN, Timestamp::MAX));
    }
    Ok(instant)
}

/// Text in formats for people, and microseconds in other formats.
#[cfg(feature = "serde")]
mod with_serde {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::Timestamp;

    impl Serialize for Timestamp {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match serializer.is_human_readable() {
                true => serializer.collect_str(self),
                false => self.as_micros().serialize(serializer),
            }
        }
    }

    impl<'de> Deserialize<'de> for Timestamp {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
            if !deserializer.is_human_readable() {
                return i64::deserialize(deserializer).map(Timestamp::from_micros);
            }
            struct Text;

            impl serde::de::Visitor<'_> for Text {
                type Value = Timestamp;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an instant with a zone, such as 2013-01-01T10:15:00Z")
                }

                fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
                    text.parse().map_err(E::custom)
                }
            }

            deserializer.deserialize_str(Text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_its_text() {
        let instant: Timestamp = "2013-01-01T05:15:00.000001-05:00".parse().unwrap();
        assert_eq!(instant.to_string(), "2013-01-01T10:15:00.000001Z");
        assert_eq!(instant.to_string().parse::<Timestamp>().unwrap(), instant);
    }

    /// Once, an instant in the last second of the calendar was printed as microseconds, and that
    /// text could not be read again.
    #[test]
    fn the_first_and_the_last_instant_of_the_calendar_survive_their_text() {
        for text in [
            "-009999-01-01T00:00:00Z",
            "-009999-01-02T01:59:59.000001Z",
            "0000-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00.5Z",
            "9999-12-30T22:00:00Z",
            "9999-12-31T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
        ] {
            let instant: Timestamp = text.parse().unwrap();
            assert_eq!(instant.to_string(), text);
        }
        assert_eq!(Timestamp::MIN.to_string(), "-009999-01-01T00:00:00Z");
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999999Z");
        for outside in [Timestamp::MIN.0 - 1, Timestamp::MAX.0 + 1] {
            assert!(!Timestamp(outside).has_text());
            assert_eq!(Timestamp(outside).to_string(), format!("{outside} us"));
        }
    }

    #[test]
    fn an_offset_counts_at_both_ends_of_the_calendar() {
        let inside = [
            ("9999-12-31T23:59:59+01:00", "9999-12-31T22:59:59Z"),
            ("-009999-01-01T00:00:00-01:00", "-009999-01-01T01:00:00Z"),
            ("2013-01-01t10:15:00z", "2013-01-01T10:15:00Z"),
            ("2013-01-01 10:15:00+05:30", "2013-01-01T04:45:00Z"),
        ];
        for (text, utc) in inside {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), utc);
        }
        for text in ["9999-12-31T23:59:59-00:01", "-009999-01-01T00:00:00+00:01"] {
            let error = text.parse::<Timestamp>().unwrap_err().to_string();
            assert!(error.contains("not from -009999-01-01T00:00:00Z to 9999-12-31"), "{error}");
        }
    }

    /// Once, nanoseconds before 1970 were cut off toward 1970, so that the instant moved forward.
    #[test]
    fn nanoseconds_become_the_microsecond_before_them() {
        for (text, floor) in [
            ("2013-01-01T10:15:00.000001999Z", "2013-01-01T10:15:00.000001Z"),
            ("1969-12-31T23:59:59.999999001Z", "1969-12-31T23:59:59.999999Z"),
            ("1969-12-31T23:59:59.9999989Z", "1969-12-31T23:59:59.999998Z"),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), floor);
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_nanos(1);
        assert_eq!(Timestamp::floor(before), Timestamp(-1));
        let after = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_999);
        assert_eq!(Timestamp::floor(after), Timestamp(1));
    }

    #[test]
    fn a_number_of_microseconds_is_read_back() {
        for micros in [i64::MIN, i64::MAX, 0] {
            assert_eq!(format!("{micros} us").parse::<Timestamp>().unwrap(), Timestamp(micros));
        }
        for text in ["us", " us", "x us", "1us", "99999999999999999999 us"] {
            text.parse::<Timestamp>().unwrap_err();
        }
    }

    #[test]
    fn arithmetic_ends_at_the_first_and_the_last_text() {
        let (one, day) = (Duration::from_micros(1), Duration::from_secs(86_400));
        let noon: Timestamp = "2013-01-01T12:00:00Z".parse().unwrap();
        assert_eq!(noon.checked_add(day).unwrap().to_string(), "2013-01-02T12:00:00Z");
        assert_eq!(noon.checked_sub(day).unwrap().to_string(), "2012-12-31T12:00:00Z");
        assert_eq!(noon.checked_add(Duration::from_nanos(1_999)), noon.checked_add(one));
        assert_eq!(Timestamp::MAX.checked_add(one), None);
        assert_eq!(Timestamp::MAX.checked_add(Duration::ZERO), Some(Timestamp::MAX));
        assert_eq!(Timestamp::MIN.checked_sub(one), None);
        assert_eq!(noon.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(noon.saturating_sub(day).to_string(), "2012-12-31T12:00:00Z");
        assert_eq!(noon.saturating_sub(Duration::MAX), Timestamp::MIN);
        assert_eq!(Timestamp::MIN.saturating_sub(one), Timestamp::MIN);
        assert_eq!(noon.since(noon.checked_sub(day).unwrap()), Some(day));
        assert_eq!(noon.since(noon), Some(Duration::ZERO));
        assert_eq!(noon.since(noon.just_after()), None);
        let whole = Timestamp(i64::MAX).since(Timestamp(i64::MIN));
        assert_eq!(whole, Some(Duration::from_micros(u64::MAX)));
    }

    #[test]
    fn text_without_a_zone_is_an_error_that_quotes_it() {
        let error = "2013-01-01T05:15:00".parse::<Timestamp>().unwrap_err();
        assert!(error.to_string().contains("2013-01-01T05:15:00"), "{error}");
    }

    #[test]
    fn an_instant_outside_the_calendar_prints_as_microseconds() {
        assert_eq!(Timestamp::from_micros(i64::MAX).to_string(), format!("{} us", i64::MAX));
    }
}
