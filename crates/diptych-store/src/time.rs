use std::{fmt, str::FromStr, time::SystemTime};

use crate::error::InvalidRequest;

/// An instant: microseconds since the Unix epoch, UTC.
///
/// It prints and parses as RFC 3339 text with a zone, such as `2013-01-01T10:15:00Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// An instant before all others. In a log without commits it stands for the time of the last
    /// commit.
    pub const NEVER: Timestamp = Timestamp(i64::MIN);

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
        let micros = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        Timestamp(micros)
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
            (TimeSource::Clock, Some(_)) => {
                wrong("recorded_at was given, but this store takes it from its clock: leave it out")
            }
            (TimeSource::Caller, None) => {
                wrong("recorded_at is missing, and this store takes it from its caller: set it")
            }
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000));
        // From one number of microseconds jiff does not make instants in its very last second.
        match jiff::Timestamp::new(seconds, micros as i32 * 1_000) {
            Ok(instant) => write!(f, "{instant}"),
            // Outside the years -9999 to 9999 there is no RFC 3339 text.
            Err(_) => write!(f, "{} us", self.0),
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

    fn from_str(text: &str) -> Result<Timestamp, TimestampError> {
        let instant = text.parse::<jiff::Timestamp>().map_err(|reason| TimestampError {
            text: text.to_owned(),
            reason: reason.to_string(),
        })?;
        Ok(Timestamp(instant.as_microsecond()))
    }
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
            "-009999-01-02T01:59:59Z",
            "-009999-01-02T01:59:59.000001Z",
            "1969-12-31T23:59:59.999999Z",
            "9999-12-30T22:00:00Z",
            "9999-12-30T22:00:00.999999Z",
        ] {
            let instant: Timestamp = text.parse().unwrap();
            assert_eq!(instant.to_string(), text);
        }
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
