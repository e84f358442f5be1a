//! Due times of timers.

use std::fmt;

use diptych_store::Timestamp;
use serde::{Deserialize, Serialize};

/// The due time of a timer: an instant, and the civil time that it was made from, if it was.
///
/// The instant alone decides when the timer fires. The civil time is for the record, and for a
/// process that compares it with later rules of the zone.
///
/// An instant is a due time. Others are made by a
#[cfg_attr(feature = "calendars", doc = "[zone](super::calendar::Zone).")]
#[cfg_attr(not(feature = "calendars"), doc = "zone, with the feature `calendars`.")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Due {
    /// The instant from which the timer fires.
    pub at: Timestamp,
    /// The civil time, if it was made from one.
    pub civil: Option<CivilTime>,
}

/// A civil time in a time zone, as it was asked for. It may be one that does not exist, or exists
/// twice: the instant of the timer tells the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CivilTime {
    /// The name of the zone, such as `America/New_York`.
    pub zone: String,
    /// Date and time there, such as `2026-03-29T02:30:00`.
    pub time: String,
}

impl From<Timestamp> for Due {
    fn from(at: Timestamp) -> Due {
        Due { at, civil: None }
    }
}

impl CivilTime {
    /// A civil time as it was asked for.
    pub fn new(zone: impl Into<String>, time: impl Into<String>) -> CivilTime {
        CivilTime { zone: zone.into(), time: time.into() }
    }
}

impl fmt::Display for CivilTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.time, self.zone)
    }
}
