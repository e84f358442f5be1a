//! The events of intakes in the log.
//!
//! All are JSON, with reserved types and tags. `intake` is the name under which the log keeps the
//! place of the intake.
//!
//! - `diptych:intake-started`: the log knows an intake from here on.
//! - `diptych:intake-parked`: a published event that could not be taken in, or that waits behind
//!   another one of its subject. It is a whole copy, because the other service can be away later.
//! - `diptych:intake-answered`: an operator answered a parked event.
//! - `diptych:intake-resumed`: parked events of a subject were taken in up to this one.

use diptych_store::{EventRef, Metadata, RawEvent, Tag};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::cloud_event::CloudEvent;
use crate::event::{Codec, EncodedEvent, Json, RESERVED, SchemaError};

pub(super) const STARTED: &str = "diptych:intake-started";
pub(super) const PARKED: &str = "diptych:intake-parked";
pub(super) const ANSWERED: &str = "diptych:intake-answered";
pub(super) const RESUMED: &str = "diptych:intake-resumed";

/// Extra metadata of an event that an intake made: the feed.
pub(super) const FEED: &str = "diptych:feed";
/// Extra metadata of an event that an intake made: the place of its cause in the feed.
pub(super) const FEED_EVENT: &str = "diptych:feed-event";

/// The key of all reserved tags.
const TAG_KEY: &str = "diptych";

/// The tag of all events of this intake.
pub(super) fn intake_tag(intake: &str) -> Tag {
    Tag::new(TAG_KEY, format_args!("intake:{intake}"))
}

/// The source under which the log keeps the place of the intake.
pub(super) fn place_source(intake: &str) -> String {
    format!("{RESERVED}intake:{intake}")
}

/// The log knows an intake from here on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StartedRecord {
    pub(super) intake: String,
    /// The types that it understands, in order.
    pub(super) types: Vec<String>,
    /// The name of the source.
    pub(super) source: String,
}

/// A published event that could not be taken in, or that waits behind another one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ParkedRecord {
    pub(super) intake: String,
    /// Empty for an event without a subject.
    pub(super) subject: String,
    /// The reason; `None` if it waits behind another one.
    pub(super) reason: Option<String>,
    pub(super) event: CloudEvent,
}

/// An operator answered a parked event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct AnsweredRecord {
    pub(super) intake: String,
    pub(super) subject: String,
    /// The position of the parked event in this log.
    pub(super) parked_at: u64,
    pub(super) answer: StoredIntakeAnswer,
    pub(super) who: String,
    pub(super) why: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StoredIntakeAnswer {
    Retry,
    Skip,
    /// It is taken in with this payload.
    Replace(Value),
}

/// Parked events of a subject were taken in, up to this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ResumedRecord {
    pub(super) intake: String,
    pub(super) subject: String,
    /// The position of the last of them in this log; `None` if the first could not be taken.
    pub(super) upto: Option<u64>,
    /// Why the next one could not be taken, if there is one.
    pub(super) reason: Option<String>,
    /// Whether those behind them are taken in, too, without another answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) goes_on: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

pub(super) fn record(
    name: &'static str,
    intake: &str,
    payload: &impl Serialize,
    metadata: Metadata,
) -> Result<RawEvent, SchemaError> {
    let event = RawEvent::new(name, Json::encode(payload)?).metadata(metadata);
    Ok(event.tag(intake_tag(intake)))
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

#[cfg(test)]
mod tests;
