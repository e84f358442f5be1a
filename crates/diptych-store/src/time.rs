use std::{fmt, str::FromStr, time::SystemTime};

use crate::error::InvalidRequest;

/// An instant: microseconds since the Unix epoch, UTC.
///
/// It prints and parses as RFC 3339 text with a zone, such as `2013-01-01T10:15:00Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Before every instant: when a log that has no commit was last written to.
    pub const NEVER: Timestamp = Timestamp(i64::MIN);

    /// The instant this many microseconds after (before, if negative) the Unix epoch.
    pub const fn from_micros(micros: i64) -> Timestamp {
        Timestamp(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// What the system clock says. Stores and edges ask it; rules, folds and queries never do.
    pub fn now() -> Timestamp {
        let micros = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        Timestamp(micros)
    }
}

/// Where a store takes `recorded_at` from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeSource {
    /// The system clock, or the last value where that went back.
    #[default]
    Clock,
    /// Every append brings it (a replica that applies a journal); it is raised to the last value
    /// where it went back.
    Caller,
}

impl TimeSource {
    /// The instant to record a commit at, given what the append brought and the last one.
    ///
    /// # Errors
    /// [`InvalidRequest::RecordedAt`] if the append brought an instant that is not wanted, or none.
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
                wrong("recorded_at was given to a store that keeps its own time: leave it out")
            }
            (TimeSource::Caller, None) => {
                wrong("recorded_at is missing: this store takes it from its caller")
            }
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
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

/// The text in formats for people, the microseconds in others.
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
    fn text_round_trips() {
        let instant: Timestamp = "2013-01-01T05:15:00.000001-05:00".parse().unwrap();
        assert_eq!(instant.to_string(), "2013-01-01T10:15:00.000001Z");
        assert_eq!(instant.to_string().parse::<Timestamp>().unwrap(), instant);
    }

    #[test]
    fn text_without_a_zone_is_refused_with_the_reason() {
        let error = "2013-01-01T05:15:00".parse::<Timestamp>().unwrap_err();
        assert!(error.to_string().contains("2013-01-01T05:15:00"), "{error}");
    }

    #[test]
    fn an_instant_no_calendar_holds_still_prints() {
        assert_eq!(Timestamp::from_micros(i64::MAX).to_string(), format!("{} us", i64::MAX));
    }
}
