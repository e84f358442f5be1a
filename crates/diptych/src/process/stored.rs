//! The events of processes in the log.
//!
//! All are JSON, with reserved types and tags. They carry no tags of the application, because a
//! revision counts the events with a tag. `process` is the name under which the log has known the
//! process first: tags, keys and tracking are made from it, whatever the process is called later.
//!
//! - `diptych:process-started`: the log knows a process from here on.
//! - `diptych:process-renamed`: it has another name from here on.
//! - `diptych:process-reacted`: a reaction, with all its actions. Its key is the tracking of the
//!   process, which stores the place of the trigger with it.
//! - `diptych:process-timer-fired`, `diptych:process-action-settled`: triggers of an instance.
//! - `diptych:process-timers-noted`: the pending timers, so that a start reads no older events.
//! - `diptych:process-call-started`: a call of a gateway may leave from here on.
//! - `diptych:process-call-unknown`: a call waits for an operator.
//! - `diptych:process-call-resent`: an operator let it leave again.
//! - `diptych:process-parked`: an instance stands before a trigger that it cannot take.
//! - `diptych:process-released`: an operator let it go on.

use std::{fmt, sync::Arc};

use diptych_store::{Digest, EventRef, Metadata, Position, RawEvent, Tag, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{actions::Action, due::CivilTime, trigger::ActionOutcome};
use crate::event::{Codec, EncodedEvent, Json, RESERVED, SchemaError};

pub(super) const STARTED: &str = "diptych:process-started";
pub(super) const RENAMED: &str = "diptych:process-renamed";
pub(super) const REACTED: &str = "diptych:process-reacted";
pub(super) const TIMER_FIRED: &str = "diptych:process-timer-fired";
pub(super) const TIMERS_NOTED: &str = "diptych:process-timers-noted";
pub(super) const SETTLED: &str = "diptych:process-action-settled";
pub(super) const CALL_STARTED: &str = "diptych:process-call-started";
pub(super) const CALL_UNKNOWN: &str = "diptych:process-call-unknown";
pub(super) const CALL_RESENT: &str = "diptych:process-call-resent";
pub(super) const PARKED: &str = "diptych:process-parked";
pub(super) const RELEASED: &str = "diptych:process-released";

/// Extra metadata: the number of reactions that led to an event.
pub(super) const REACTIONS: &str = "diptych:reactions";
/// Extra metadata: the reason that an operator gave.
pub(super) const WHY: &str = "diptych:why";
/// Extra metadata: the process whose reaction led to an event.
pub(super) const PROCESS: &str = "diptych:process";

/// The key of all reserved tags.
const TAG_KEY: &str = "diptych";

/// An instance of a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct InstanceId {
    /// The first name of the process.
    pub(super) process: Arc<str>,
    /// The tag of the instance.
    pub(super) instance: Arc<str>,
}

impl InstanceId {
    /// The tag of all events of processes about this instance.
    pub(super) fn tag(&self) -> Tag {
        let digest = self.digest("");
        Tag::new(TAG_KEY, format_args!("process-instance:{digest}"))
    }

    /// The tag of all events about a timer of the instance.
    pub(super) fn timer_tag(&self, timer: &str) -> Tag {
        timer_tag(self.timer(timer))
    }

    pub(super) fn timer(&self, timer: &str) -> Digest {
        self.digest(timer)
    }

    /// The shard of the instance, of this number of shards. Stored reactions depend on it.
    pub(super) fn shard(&self, of: u32) -> u32 {
        let Digest([a, b, c, d, ..]) = self.digest("");
        u32::from_be_bytes([a, b, c, d]) % of.max(1)
    }

    fn digest(&self, timer: &str) -> Digest {
        let InstanceId { process, instance } = self;
        // Names of processes have no line breaks, and the length separates the last two.
        Digest::of(format!("{process}\n{}\n{instance}{timer}", instance.len()).as_bytes())
    }

    /// The value of the instance's tag.
    pub(super) fn value(&self) -> &str {
        self.instance.split_once(':').map_or(&self.instance, |(_, value)| value)
    }
}

pub(super) fn timer_tag(timer: Digest) -> Tag {
    Tag::new(TAG_KEY, format_args!("process-timer:{timer}"))
}

/// The tag of all events of this process.
pub(super) fn process_tag(process: &str) -> Tag {
    Tag::new(TAG_KEY, format_args!("process:{process}"))
}

/// The tag of the events of this process that set, cancel or fire timers.
pub(super) fn timers_tag(process: &str) -> Tag {
    Tag::new(TAG_KEY, format_args!("process-timers:{process}"))
}

/// The tag of the reactions of one of several shards of this process.
pub(super) fn shard_tag(process: &str, shard: u32) -> Tag {
    Tag::new(TAG_KEY, format_args!("process-shard:{process}:{shard}"))
}

/// The tag of the notes of pending timers of a shard.
pub(super) fn noted_tag(process: &str, shard: u32) -> Tag {
    Tag::new(TAG_KEY, format_args!("process-timers-noted:{process}:{shard}"))
}

/// The source under which the log tracks which triggers a shard of the process has reacted to.
pub(super) fn reacted_source(process: &str, shard: u32) -> String {
    prefixed(format_args!("process:{process}:{shard}"))
}

/// The source under which the log tracks which reactions of a shard are carried out.
pub(super) fn carried_source(process: &str, shard: u32) -> String {
    prefixed(format_args!("process-carried:{process}:{shard}"))
}

pub(super) fn prefixed(name: fmt::Arguments<'_>) -> String {
    format!("{RESERVED}{name}")
}

/// The log knows a process from here on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StartRecord {
    #[serde(with = "text")]
    pub(super) process: Arc<str>,
    /// It reacts to events after this position.
    #[serde(with = "number")]
    pub(super) after: Position,
    /// The number of shards over which its instances are spread by hash.
    pub(super) shards: u32,
    /// The key of the tag of its instances.
    pub(super) tag: String,
    /// The types of its events, in order.
    pub(super) types: Vec<String>,
}

/// A process has another name from here on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rename {
    #[serde(with = "text")]
    pub(super) process: Arc<str>,
    pub(super) name: String,
}

/// A reaction of an instance to a trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ReactionRecord {
    #[serde(with = "text")]
    pub(super) process: Arc<str>,
    #[serde(with = "text")]
    pub(super) instance: Arc<str>,
    pub(super) trigger: TriggerPlace,
    /// The time that the reaction used.
    pub(super) at: Timestamp,
    pub(super) actions: Vec<Action>,
}

/// The place of a trigger in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct TriggerPlace {
    #[serde(with = "number")]
    pub(super) position: Position,
    /// The number among the events that an upcaster makes of the stored one, from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) part: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A timer fired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FiringRecord {
    #[serde(with = "text")]
    pub(super) process: Arc<str>,
    #[serde(with = "text")]
    pub(super) instance: Arc<str>,
    pub(super) timer: String,
    /// The position of the reaction that set it.
    #[serde(with = "number")]
    pub(super) set_at: Position,
    pub(super) due: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) civil: Option<CivilTime>,
    pub(super) fired_at: Timestamp,
}

/// The pending timers of a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TimersNote {
    #[serde(with = "text")]
    pub(super) process: Arc<str>,
    pub(super) shard: u32,
    /// The timers were pending when everything up to here had happened.
    #[serde(with = "number")]
    pub(super) upto: Position,
    /// The timers are all that were set up to here. Younger ones are found behind it.
    #[serde(with = "number")]
    pub(super) after: Position,
    pub(super) timers: Vec<NotedTimer>,
}

/// A pending timer in a note.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct NotedTimer {
    #[serde(with = "digest")]
    pub(super) timer: Digest,
    pub(super) due: Timestamp,
    #[serde(with = "number")]
    pub(super) set_at: Position,
    /// The number of the action in the reaction.
    pub(super) action: u32,
}

/// A command wrote no events, or a call has its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SettlementRecord {
    #[serde(with = "text")]
    pub(super) process: Arc<str>,
    #[serde(with = "text")]
    pub(super) instance: Arc<str>,
    /// The position of the reaction, and the number of the action in it.
    #[serde(with = "number")]
    pub(super) reaction: Position,
    pub(super) action: u32,
    /// The name of the command or gateway.
    pub(super) name: String,
    pub(super) outcome: ActionOutcome,
}

/// A call may leave from here on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StartedCall {
    #[serde(with = "text")]
    pub(super) process: Arc<str>,
    #[serde(with = "text")]
    pub(super) instance: Arc<str>,
    #[serde(with = "number")]
    pub(super) reaction: Position,
    pub(super) action: u32,
    pub(super) gateway: String,
    /// Counts how often the call was known not to be done, and could leave anew.
    pub(super) claim: u64,
}

/// A call waits for an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct UnknownCall {
    #[serde(with = "text")]
    pub(super) process: Arc<str>,
    #[serde(with = "text")]
    pub(super) instance: Arc<str>,
    #[serde(with = "number")]
    pub(super) reaction: Position,
    pub(super) action: u32,
    pub(super) gateway: String,
    pub(super) claim: u64,
    pub(super) reason: String,
}

/// An operator let a call leave again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ResentCall {
    #[serde(with = "text")]
    pub(super) process: Arc<str>,
    #[serde(with = "text")]
    pub(super) instance: Arc<str>,
    #[serde(with = "number")]
    pub(super) reaction: Position,
    pub(super) action: u32,
    pub(super) claim: u64,
}

/// An instance stands before a trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ParkingRecord {
    #[serde(with = "text")]
    pub(super) process: Arc<str>,
    #[serde(with = "text")]
    pub(super) instance: Arc<str>,
    pub(super) trigger: TriggerPlace,
    pub(super) reason: String,
}

/// An operator let an instance go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ReleaseRecord {
    #[serde(with = "text")]
    pub(super) process: Arc<str>,
    #[serde(with = "text")]
    pub(super) instance: Arc<str>,
    /// The position of the event that parked it.
    #[serde(with = "number")]
    pub(super) parked_at: Position,
    pub(super) trigger: TriggerPlace,
    pub(super) answer: StoredAnswer,
    pub(super) who: String,
    pub(super) why: String,
}

/// The answer to a parked trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StoredAnswer {
    /// The instance takes the trigger again.
    Retry,
    /// The trigger is left out.
    Skip,
    /// The trigger is applied to the state, and these actions stand in place of the reaction.
    Replace(Vec<Action>),
}

impl ReactionRecord {
    pub(super) fn id(&self) -> InstanceId {
        InstanceId { process: self.process.clone(), instance: self.instance.clone() }
    }

    /// # Errors
    /// [`SchemaError::Encode`] if it cannot be written.
    pub(super) fn to_event(&self, metadata: Metadata) -> Result<RawEvent, SchemaError> {
        let id = self.id();
        let mut event = about(REACTED, &id, self, metadata)?;
        let mut timers = Vec::new();
        for action in &self.actions {
            if let Action::SetTimer { timer, .. } | Action::CancelTimer { timer } = action
                && !timers.contains(&timer)
            {
                timers.push(timer);
            }
        }
        if !timers.is_empty() {
            event = event.tag(timers_tag(&self.process));
        }
        for timer in timers {
            event = event.tag(id.timer_tag(timer));
        }
        Ok(event)
    }
}

impl TimersNote {
    /// # Errors
    /// [`SchemaError::Encode`] if it cannot be written.
    pub(super) fn to_event(&self) -> Result<RawEvent, SchemaError> {
        let event = about_process(TIMERS_NOTED, &self.process, self)?;
        Ok(event.tag(noted_tag(&self.process, self.shard)))
    }
}

impl FiringRecord {
    /// # Errors
    /// [`SchemaError::Encode`] if it cannot be written.
    pub(super) fn to_event(&self, metadata: Metadata) -> Result<RawEvent, SchemaError> {
        let (process, instance) = (self.process.clone(), self.instance.clone());
        let id = InstanceId { process, instance };
        let event = about(TIMER_FIRED, &id, self, metadata)?;
        Ok(event.tag(timers_tag(&self.process)).tag(id.timer_tag(&self.timer)))
    }
}

/// An event about an instance.
///
/// # Errors
/// [`SchemaError::Encode`] if it cannot be written.
pub(super) fn about(
    name: &'static str,
    of: &InstanceId,
    payload: &impl Serialize,
    metadata: Metadata,
) -> Result<RawEvent, SchemaError> {
    let event = RawEvent::new(name, Json::encode(payload)?).metadata(metadata);
    Ok(event.tag(process_tag(&of.process)).tag(of.tag()))
}

/// An event about a process.
///
/// # Errors
/// [`SchemaError::Encode`] if it cannot be written.
pub(super) fn about_process(
    name: &'static str,
    process: &str,
    payload: &impl Serialize,
) -> Result<RawEvent, SchemaError> {
    Ok(RawEvent::new(name, Json::encode(payload)?).tag(process_tag(process)))
}

/// # Errors
/// [`SchemaError`] if a newer program wrote the event, or the event is damaged.
pub(super) fn decode<T: DeserializeOwned>(event: &EventRef<'_>) -> Result<T, SchemaError> {
    let (event_type, version) = (event.event_type(), event.version());
    let encoded = EncodedEvent { event_type, version, payload: event.payload() };
    match version {
        1 => encoded.read::<Json, T>(),
        _ => Err(SchemaError::UnknownVersion {
            event_type: event_type.to_owned(),
            version,
            current: 1,
        }),
    }
}

/// A shared text as text.
mod text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}

/// A digest as hexadecimal digits.
mod digest {
    use diptych_store::Digest;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        digest: &Digest,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u128::from_str_radix(&text, 16).map_err(de::Error::custom)?;
        Ok(Digest(number.to_be_bytes()))
    }
}

/// A position as its number.
mod number {
    use diptych_store::Position;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        position: &Position,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        position.get().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Position, D::Error> {
        u64::deserialize(deserializer).map(Position::new)
    }
}

#[cfg(test)]
mod tests;
