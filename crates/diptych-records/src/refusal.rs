//! The reasons for which a change of a row is refused.

use diptych::Position;
use serde::Serialize;

/// A rule refused to change a row. In JSON it is an object with `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[cfg_attr(feature = "http", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "http", schemars(rename = "diptych-record-refusal"))]
#[non_exhaustive]
pub enum Refusal {
    /// The key has a row already.
    #[error("{record} {key} exists already: change it, or take another key")]
    Exists {
        /// The name of the record.
        record: &'static str,
        /// The key.
        key: String,
    },
    /// The key has no row.
    #[error("{record} {key} does not exist: create it first")]
    Missing {
        /// The name of the record.
        record: &'static str,
        /// The key.
        key: String,
    },
    /// Another row has the value of a unique field.
    #[error("another {record} has this {field}: take another value")]
    Taken {
        /// The name of the record.
        record: &'static str,
        /// The unique field.
        field: &'static str,
    },
    /// The row was changed since the caller read it.
    #[error(
        "{record} {key} is at revision {actual} and not {expected}: read it again, and repeat the \
         change"
    )]
    Stale {
        /// The name of the record.
        record: &'static str,
        /// The key.
        key: String,
        /// The revision that the caller expected.
        expected: u64,
        /// The revision that the row has.
        actual: u64,
    },
    /// The revision that the caller expected is one of another epoch: the log was restored, or is
    /// another one.
    #[error(
        "the expected revision of {record} {key} is none of this history of the log: read the row \
         again, and send the ETag of the answer as it is"
    )]
    OtherEpoch {
        /// The name of the record.
        record: &'static str,
        /// The key.
        key: String,
    },
    /// The field is changed by a command with a meaning.
    #[error("{field} of {record} is no longer changed directly: send the command {command}")]
    Retired {
        /// The name of the record.
        record: &'static str,
        /// The field.
        field: &'static str,
        /// The command that changes it.
        command: &'static str,
    },
    /// The row was imported later, so the log does not know of it before.
    #[error(
        "{record} {key} was imported at position {imported_at}, and the log does not know of it \
         before: ask about a later point"
    )]
    UnknownBeforeImport {
        /// The name of the record.
        record: &'static str,
        /// The key.
        key: String,
        /// The position of the import.
        imported_at: u64,
    },
    /// No row was imported at that point, so the log does not know which were there.
    #[error(
        "rows of {record} were imported from position {imported_at} on, and the log does not know \
         which were there before: ask about a later point"
    )]
    ListUnknownBeforeImport {
        /// The name of the record.
        record: &'static str,
        /// The position of the first import.
        imported_at: u64,
    },
    /// The row that would result makes no sense.
    #[error("{field}: {problem}")]
    Unfit {
        /// The field.
        field: String,
        /// Its fault.
        problem: String,
    },
}

impl Refusal {
    pub(crate) fn stale(
        record: &'static str,
        key: impl ToString,
        expected: Position,
        actual: Position,
    ) -> Refusal {
        let (expected, actual) = (expected.get(), actual.get());
        Refusal::Stale { record, key: key.to_string(), expected, actual }
    }
}

impl From<diptych::Invalid> for Refusal {
    fn from(invalid: diptych::Invalid) -> Refusal {
        Refusal::Unfit { field: invalid.field, problem: invalid.problem }
    }
}
