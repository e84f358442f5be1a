//! Why an intake cannot go on where it is.

use diptych_store::{AppendError, ReadError, Refusal, Unavailable};

use super::page::FeedError;
use crate::event::SchemaError;

/// Why the task cannot go on where it is.
#[derive(Debug)]
pub(super) enum IntakeInterruption {
    /// Another program takes in events for this intake.
    Overtaken,
    /// The source or the store does not answer for now.
    Later(String),
    /// A person has to act first.
    Stopped(String),
}

impl From<ReadError> for IntakeInterruption {
    fn from(error: ReadError) -> IntakeInterruption {
        match error {
            ReadError::Unavailable(why) => why.into(),
            other => IntakeInterruption::Stopped(other.to_string()),
        }
    }
}

impl From<Unavailable> for IntakeInterruption {
    fn from(why: Unavailable) -> IntakeInterruption {
        match why {
            Unavailable::Closed | Unavailable::Failed { .. } | Unavailable::HistoryChanged(_) => {
                IntakeInterruption::Stopped(why.to_string())
            }
            other => IntakeInterruption::Later(other.to_string()),
        }
    }
}

impl From<SchemaError> for IntakeInterruption {
    fn from(error: SchemaError) -> IntakeInterruption {
        IntakeInterruption::Stopped(error.to_string())
    }
}

impl From<AppendError> for IntakeInterruption {
    fn from(error: AppendError) -> IntakeInterruption {
        match error {
            AppendError::Refused(Refusal::AlreadyTracked { .. }) => IntakeInterruption::Overtaken,
            AppendError::Unavailable(why) => why.into(),
            // The stored place tells later whether the commit is in the log.
            AppendError::OutcomeUnknown(error) => IntakeInterruption::Later(error.to_string()),
            other => IntakeInterruption::Stopped(other.to_string()),
        }
    }
}

impl From<FeedError> for IntakeInterruption {
    fn from(error: FeedError) -> IntakeInterruption {
        match error {
            FeedError::AboveHead { .. } | FeedError::Schema(_) => {
                IntakeInterruption::Stopped(error.to_string())
            }
            other => IntakeInterruption::Later(other.to_string()),
        }
    }
}
