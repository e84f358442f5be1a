//! The flow that an event belongs to, as a tree.

use std::str::FromStr;

use diptych_store::{Position, ReadError, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::json::{number, numbers, optional, read_number, read_numbers, read_optional};
use crate::collaboration::FeedOrigin;

/// The flow to trace: that of the event at a position, or that of an id. The id is that of an
/// event, or a correlation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceTarget {
    /// The flow of the event at this position.
    Position(Position),
    /// The flow of the event with this id, or the flow with this correlation.
    Id(Uuid),
}

/// A text names no flow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither the position of an event nor a UUID")]
pub struct UnknownTarget(String);

impl FromStr for TraceTarget {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<TraceTarget, UnknownTarget> {
        let position = text.parse().map(|number| TraceTarget::Position(Position::new(number)));
        let id = || Uuid::parse_str(text).map(TraceTarget::Id);
        position.or_else(|_| id()).map_err(|_| UnknownTarget(text.to_owned()))
    }
}

impl From<Position> for TraceTarget {
    fn from(position: Position) -> TraceTarget {
        TraceTarget::Position(position)
    }
}

impl From<Uuid> for TraceTarget {
    fn from(id: Uuid) -> TraceTarget {
        TraceTarget::Id(id)
    }
}

/// The bounds of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceOptions {
    /// Maximum number of steps in the tree. A flow can be as large as the log.
    pub steps: usize,
    /// Whether the log is also read for events that name a cause by themselves: those of commands
    /// that a program sent with [`caused_by`](crate::Execute::caused_by). The log has no index of
    /// causes.
    pub whole_log: bool,
    /// Maximum number of events that are read for an id without an index, or for
    /// [`whole_log`](TraceOptions::whole_log).
    pub searched_events: u64,
    /// Maximum number of feeds along one branch of the tree of
    /// [several services](super::TraceSources).
    pub feeds: u32,
}

impl Default for TraceOptions {
    fn default() -> TraceOptions {
        TraceOptions { steps: 1_000, whole_log: false, searched_events: 1_000_000, feeds: 16 }
    }
}

/// Why there is no trace.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The log has no event at this position.
    #[error("there is no event at position {position}: the log ends at {head}")]
    NoSuchPosition {
        /// The position.
        position: Position,
        /// The end of the log.
        head: Position,
    },
    /// No event has this id or this correlation.
    #[error(
        "no event has the id or the correlation {id}, from position {from} to the end of the log; \
         check the id, or search more events"
    )]
    NoSuchId {
        /// The id.
        id: Uuid,
        /// The first position that was searched.
        from: Position,
    },
    /// The log cannot be read.
    #[error("the flow cannot be read: {0}")]
    Read(#[from] ReadError),
}

/// A flow: the steps of a tree, each after its cause. [`Display`](std::fmt::Display) draws the
/// tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Trace {
    /// The correlation of the flow.
    pub correlation: Uuid,
    /// The id of the log that has the steps.
    pub log: Uuid,
    /// The steps in the order of the tree. The cause of a step is the last one before it whose
    /// depth is smaller by one.
    pub steps: Vec<TraceStep>,
    /// Remarks for people, such as that the tree was cut.
    pub remarks: Vec<String>,
}

/// A step of a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TraceStep {
    /// The number of steps that led to it.
    pub depth: u32,
    /// The step.
    #[serde(flatten)]
    pub kind: StepKind,
}

/// A step of a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StepKind {
    /// An event of the application.
    Event {
        /// Its position.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        position: Position,
        /// Its id.
        id: Uuid,
        /// The name of its type.
        #[serde(rename = "type")]
        event_type: String,
        /// Its tags.
        tags: Vec<String>,
        /// When the log recorded it.
        at: Timestamp,
        /// The actor that its command named.
        actor: Option<String>,
        /// The published event of another service from which an intake made it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<FeedOrigin>,
        /// The feeds that publish it. Only the program that has them knows.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        published: Vec<PublishedNote>,
    },
    /// A process reacted.
    Reaction {
        /// The process.
        process: String,
        /// The tag of the instance.
        instance: String,
        /// The position of the reaction.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        position: Position,
        /// When the log recorded it.
        at: Timestamp,
    },
    /// The reaction sends a command.
    Command {
        /// Its name in the catalogue.
        command: String,
        /// The command.
        body: Value,
        /// The outcome.
        outcome: CommandOutcome,
    },
    /// The reaction calls a gateway.
    Call {
        /// The name of the gateway.
        gateway: String,
        /// The call.
        body: Value,
        /// The key of the call, as the system outside knows it.
        key: String,
        /// The positions at which the call was begun. A gateway that is declared idempotent notes
        /// none.
        #[serde(serialize_with = "numbers", deserialize_with = "read_numbers")]
        began_at: Vec<Position>,
        /// The outcome.
        outcome: CallOutcome,
    },
    /// The reaction sets a timer.
    Timer {
        /// The name of the timer.
        timer: String,
        /// The instant from which it fires.
        due: Timestamp,
        /// The outcome.
        outcome: TimerOutcome,
    },
    /// The reaction cancels a timer.
    TimerCancelled {
        /// The name of the timer.
        timer: String,
    },
    /// The reaction holds a call until the timer before it fires. The call itself follows then.
    CallHeld {
        /// The name of the timer.
        timer: String,
        /// The name of the gateway.
        gateway: String,
    },
    /// The reaction ends the instance.
    End,
    /// The instance could not take the event, and was parked.
    Parked {
        /// The process.
        process: String,
        /// The tag of the instance.
        instance: String,
        /// The position that names the letter.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        position: Position,
        /// The reason.
        reason: String,
        /// The position of the answer.
        #[serde(serialize_with = "optional", deserialize_with = "read_optional")]
        answered_at: Option<Position>,
        /// The answer.
        answer: Option<OperatorAnswer>,
        /// The operator who answered, with the reason.
        by: Option<OperatorNote>,
    },
    /// An intake could not take in a published event, and parked it.
    ForeignParked {
        /// The name under which the log keeps the place of the intake.
        intake: String,
        /// The subject of the event.
        subject: String,
        /// The type of the published event.
        #[serde(rename = "type")]
        event_type: String,
        /// The position that names the letter.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        position: Position,
        /// The reason; `None` if it waits behind another one.
        reason: Option<String>,
        /// The published event, if it names its feed.
        origin: Option<FeedOrigin>,
        /// The position of the last answer.
        #[serde(serialize_with = "optional", deserialize_with = "read_optional")]
        answered_at: Option<Position>,
        /// The last answer.
        answer: Option<OperatorAnswer>,
        /// The operator who answered, with the reason.
        by: Option<OperatorNote>,
    },
    /// The tree of several services is cut here: the flow goes on through more feeds than
    /// [`TraceOptions::feeds`], or comes back to a step that it began with.
    Cut {
        /// The number of feeds on the way to here.
        feeds: u32,
        /// The last of them, each as `feed@log`.
        via: Vec<String>,
    },
    /// The instance stands before an earlier event, and takes this one later.
    Behind {
        /// The process.
        process: String,
        /// The tag of the instance.
        instance: String,
        /// The position that names the letter.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        letter: Position,
    },
}

/// A public event that a feed makes from an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PublishedNote {
    /// The feed.
    pub feed: String,
    /// The id of the public event in the feed.
    pub id: String,
    /// Its name and version.
    #[serde(rename = "type")]
    pub event_type: String,
}

impl PublishedNote {
    pub(crate) fn new(feed: String, id: String, event_type: String) -> PublishedNote {
        PublishedNote { feed, id, event_type }
    }
}

/// The answer of an operator to a letter or to a parked event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OperatorAnswer {
    /// It is taken again.
    Retry,
    /// It is left out.
    Skip,
    /// Something else stands in its place.
    Replace,
}

/// The person who answered, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OperatorNote {
    /// The operator.
    pub who: String,
    /// The reason of the answer.
    pub why: String,
}

/// The outcome of a command in a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CommandOutcome {
    /// It was not carried out yet.
    Waiting,
    /// It wrote these events.
    Committed {
        /// The position of the first.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        first: Position,
        /// The position of the last.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        last: Position,
    },
    /// The rule had nothing to do.
    NothingToDo {
        /// The position of the event that tells so.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        position: Position,
    },
    /// The rule rejected it.
    Rejected {
        /// The position of the event that tells so.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        position: Position,
        /// The reason.
        text: String,
        /// The reason as JSON.
        json: Value,
    },
}

/// The outcome of a call in a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CallOutcome {
    /// It has no outcome yet.
    Waiting,
    /// It waits for an operator: it may have been sent, or each try failed.
    Unknown {
        /// The position of the event that lists it.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        listed_at: Position,
        /// The reason.
        reason: String,
    },
    /// An operator let it leave again.
    SendingAgain {
        /// The position of the event that tells so.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        position: Position,
        /// The operator.
        by: Option<OperatorNote>,
    },
    /// It has this answer.
    Answered {
        /// The position of the answer.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        position: Position,
        /// The answer.
        answer: Value,
        /// The operator, if it was one who answered.
        by: Option<OperatorNote>,
    },
    /// The system outside, or an operator, refused it.
    Refused {
        /// The position of the refusal.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        position: Position,
        /// The reason.
        text: String,
        /// The reason as JSON.
        json: Value,
        /// The operator, if it was one who refused.
        by: Option<OperatorNote>,
    },
    /// The gateway sends no call for so old an event.
    Withheld {
        /// The position of the event that tells so.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        position: Position,
    },
}

/// The outcome of a timer in a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TimerOutcome {
    /// It has not fired.
    Pending,
    /// It fired.
    Fired {
        /// The position of the event that tells so.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        position: Position,
        /// When it fired. That is after the due time if no program ran then.
        at: Timestamp,
    },
    /// A later reaction set it again or cancelled it.
    Replaced {
        /// The position of that reaction.
        #[serde(serialize_with = "number", deserialize_with = "read_number")]
        position: Position,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_position_or_an_id() {
        let position = TraceTarget::Position(Position::new(12));
        assert_eq!("12".parse(), Ok(position));
        let id = Uuid::from_u128(7);
        assert_eq!(id.to_string().parse(), Ok(TraceTarget::Id(id)));
        let error = "order:7".parse::<TraceTarget>().unwrap_err();
        assert!(error.to_string().contains("neither the position"), "{error}");
    }
}
