//! The triggers of reactions.

use diptych_store::{Metadata, Position, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use super::due::CivilTime;
use crate::event::Recorded;

/// A cause of a reaction. Each trigger is an event in the log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Trigger<E> {
    /// An event of the instance.
    Event(Recorded<E>),
    /// A timer of the instance fired.
    Timer(Recorded<TimerFired>),
    /// A command of the instance was rejected, or had nothing to do, or a call has its answer. A
    /// command that wrote events settles without such a trigger: the process may react to the
    /// events.
    Settled(Recorded<ActionSettled>),
}

/// A timer fired.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TimerFired {
    /// The name of the timer.
    pub timer: String,
    /// The position of the reaction that set it.
    pub set_at: Position,
    /// The instant for which it was set.
    pub due: Timestamp,
    /// The civil time that the instant was made from, if it was.
    pub civil: Option<CivilTime>,
    /// The instant at which it fired. It is later than `due` if the program did not run then.
    pub fired_at: Timestamp,
}

/// A command of a process wrote no events, or a call has its answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ActionSettled {
    /// The name of the command or gateway.
    pub name: String,
    /// The position of the reaction that sent it.
    pub reaction: Position,
    /// The number of the action in its reaction, from 0.
    pub action: u32,
    /// The outcome.
    pub outcome: ActionOutcome,
}

/// The outcome of a command that wrote no events, or of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ActionOutcome {
    /// The rule rejected the command, or the system outside refused the call.
    Rejected(ActionRejection),
    /// The rule had nothing to do.
    NothingToDo,
    /// The answer of the call as JSON.
    Answered(Value),
    /// The gateway does not send a call for so old a trigger: see [`CallsFrom`](super::CallsFrom).
    Withheld,
}

/// The rejection of a command of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ActionRejection {
    /// The reason for people.
    pub text: String,
    /// The reason as JSON, or null if the rejection cannot be written so.
    pub json: Value,
}

impl ActionRejection {
    /// A rejection with this text and this JSON.
    pub fn new(text: impl Into<String>, json: Value) -> ActionRejection {
        ActionRejection { text: text.into(), json }
    }

    /// The reason as its Rust type, or `None` if the JSON is not of this type.
    pub fn read<R: DeserializeOwned>(&self) -> Option<R> {
        serde_json::from_value(self.json.clone()).ok()
    }
}

impl ActionSettled {
    /// The rejection as its Rust type, or `None` if the command was not rejected so.
    pub fn rejection<R: DeserializeOwned>(&self) -> Option<R> {
        match &self.outcome {
            ActionOutcome::Rejected(rejection) => rejection.read(),
            _ => None,
        }
    }

    /// The answer of a call as its Rust type, or `None` if there is no such answer.
    pub fn answer<A: DeserializeOwned>(&self) -> Option<A> {
        match &self.outcome {
            ActionOutcome::Answered(json) => serde_json::from_value(json.clone()).ok(),
            _ => None,
        }
    }
}

impl<E> Trigger<E> {
    /// The event of the instance, if that is the trigger.
    pub fn event(&self) -> Option<&E> {
        match self {
            Trigger::Event(event) => Some(&event.event),
            Trigger::Timer(_) | Trigger::Settled(_) => None,
        }
    }

    /// The place of the trigger in the log.
    pub fn position(&self) -> Position {
        match self {
            Trigger::Event(event) => event.position,
            Trigger::Timer(event) => event.position,
            Trigger::Settled(event) => event.position,
        }
    }

    /// When the log recorded the trigger.
    pub fn recorded_at(&self) -> Timestamp {
        match self {
            Trigger::Event(event) => event.recorded_at,
            Trigger::Timer(event) => event.recorded_at,
            Trigger::Settled(event) => event.recorded_at,
        }
    }

    pub(crate) fn id(&self) -> Uuid {
        match self {
            Trigger::Event(event) => event.id,
            Trigger::Timer(event) => event.id,
            Trigger::Settled(event) => event.id,
        }
    }

    pub(crate) fn correlation(&self) -> Uuid {
        match self {
            Trigger::Event(event) => event.correlation(),
            Trigger::Timer(event) => event.correlation(),
            Trigger::Settled(event) => event.correlation(),
        }
    }

    /// A value that a process noted in the metadata of the trigger.
    pub(crate) fn note(&self, name: &str) -> Option<&str> {
        self.metadata().extra.get(name).map(|value| value.as_str())
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        match self {
            Trigger::Event(event) => &event.metadata,
            Trigger::Timer(event) => &event.metadata,
            Trigger::Settled(event) => &event.metadata,
        }
    }
}
