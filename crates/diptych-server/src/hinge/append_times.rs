//! The times of appends: whether callers may give them.

use diptych::store::{Append, InvalidRequest};

use crate::hinge::admission::Need;

/// Whether an append brings the time of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppendTimes {
    /// The server receives a copy, so every append brings its time.
    Required,
    /// No append brings one: the tokens of this server allow no times.
    Refused,
    /// The store decides.
    OfStore,
}

impl AppendTimes {
    /// The rule of a server that receives a copy or not, and asks for tokens or not.
    pub(crate) fn of(receives_copy: bool, asks_for_tokens: bool) -> AppendTimes {
        match (receives_copy, asks_for_tokens) {
            (true, _) => AppendTimes::Required,
            (false, true) => AppendTimes::Refused,
            (false, false) => AppendTimes::OfStore,
        }
    }

    /// The right that an append needs.
    pub(crate) fn need(self) -> Need {
        match self {
            AppendTimes::Required => Need::CommitsOfCopy,
            AppendTimes::Refused | AppendTimes::OfStore => Need::APPEND,
        }
    }

    /// Refuses an append whose time is missing or not allowed. The store checks the rest.
    pub(crate) fn check(self, append: &Append) -> Result<(), InvalidRequest> {
        let problem = match (self, append.recorded_at) {
            (AppendTimes::Required, None) => InvalidRequest::COPY_UNDER_WAY,
            (AppendTimes::Refused, Some(_)) => InvalidRequest::TIME_NOT_TAKEN,
            _ => return Ok(()),
        };
        Err(InvalidRequest::RecordedAt { problem })
    }
}
