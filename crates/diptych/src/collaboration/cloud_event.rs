//! A published event as a CloudEvent 1.0 in JSON.

use std::fmt;

use diptych_store::{Epoch, LogId, LogIdentity, Position, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// The version of CloudEvents.
const SPEC_VERSION: &str = "1.0";
/// The form of the data.
const JSON: &str = "application/json";

/// A published event in the form of [CloudEvents 1.0](https://cloudevents.io), which programs of
/// many languages read. The attributes with short names at the end are extensions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CloudEvent {
    /// The version of CloudEvents: `1.0`.
    pub specversion: String,
    /// The place of the event in its feed: see [`EventPlace`].
    pub id: String,
    /// The log and the feed: see [`FeedName`]. Together with `id` it names the event for ever.
    pub source: String,
    /// The name and the version of the public event, such as `order-placed.v1`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The first tag of the public event, such as `order:7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it occurred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The form of `data`: JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacontenttype: Option<String>,
    /// The payload.
    pub data: Box<RawValue>,
    /// The position of the private event, in 20 digits, so that it is in order as text, too. It is
    /// in order within one source.
    pub sequence: String,
    /// The sequence of the event before it in the feed, or zeros. A consumer notices a gap by it.
    pub previous: String,
    /// The key within which the order matters: the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitionkey: Option<String>,
    /// The id of the private event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eventid: Option<Uuid>,
    /// The conversation that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlationid: Option<Uuid>,
    /// The id of its cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causationid: Option<Uuid>,
    /// The number of feeds through which its cause came.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hops: u32,
    /// The last of these feeds, separated by spaces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub via: String,
}

// Serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl CloudEvent {
    /// An event without the optional attributes.
    pub(super) fn new(
        feed: &FeedName,
        place: EventPlace,
        previous: Position,
        event_type: String,
        data: Box<RawValue>,
    ) -> CloudEvent {
        CloudEvent {
            specversion: SPEC_VERSION.to_owned(),
            id: place.to_string(),
            source: feed.to_string(),
            event_type,
            subject: None,
            time: None,
            datacontenttype: Some(JSON.to_owned()),
            data,
            sequence: sequence(place.position),
            previous: sequence(previous),
            partitionkey: None,
            eventid: None,
            correlationid: None,
            causationid: None,
            hops: 0,
            via: String::new(),
        }
    }

    /// The place that `id` names.
    ///
    /// # Errors
    /// [`MalformedEvent`] if it names none, or `sequence` contradicts it.
    pub fn place(&self) -> Result<EventPlace, MalformedEvent> {
        let malformed = |problem: String| MalformedEvent { id: self.id.clone(), problem };
        if self.specversion != SPEC_VERSION {
            let version = &self.specversion;
            return Err(malformed(format!("it has CloudEvents {version}, and 1.0 is read")));
        }
        let place = EventPlace::parse(&self.id);
        let place = place.ok_or_else(|| malformed("its id names no place".to_owned()))?;
        match position(&self.sequence) {
            Some(position) if position == place.position => Ok(place),
            _ => Err(malformed(format!("its sequence is {:?}", self.sequence))),
        }
    }

    /// The position of the event before it.
    ///
    /// # Errors
    /// [`MalformedEvent`] if `previous` is no sequence.
    pub fn previous_position(&self) -> Result<Position, MalformedEvent> {
        position(&self.previous).ok_or_else(|| {
            let problem = format!("its previous sequence is {:?}", self.previous);
            MalformedEvent { id: self.id.clone(), problem }
        })
    }

    /// The name and the version in its type. A type without `.v` and a number has version 1.
    pub fn name_and_version(&self) -> (&str, u32) {
        let versioned = self.event_type.rsplit_once(".v");
        let parsed = versioned.and_then(|(name, version)| Some((name, version.parse().ok()?)));
        parsed.unwrap_or((&self.event_type, 1))
    }
}

/// A published event does not have the form that it promises.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event with the id {id:?} is malformed: {problem}")]
pub struct MalformedEvent {
    /// Its id, as it stands there.
    pub id: String,
    /// The problem.
    pub problem: String,
}

/// The place of an event in a feed: the position of the private event, and a number among the
/// public events that were made from it. As text it has 20 digits, and a dash and the number if
/// that is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventPlace {
    /// The position of the private event.
    pub position: Position,
    /// The number among the public events of that position, from 0.
    pub part: u32,
}

impl EventPlace {
    /// Reads the text.
    pub fn parse(text: &str) -> Option<EventPlace> {
        let (digits, part) = match text.split_once('-') {
            Some((digits, part)) => (digits, part.parse().ok().filter(|part| *part > 0)?),
            None => (text, 0),
        };
        Some(EventPlace { position: position(digits)?, part })
    }
}

impl fmt::Display for EventPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sequence(self.position))?;
        match self.part {
            0 => Ok(()),
            part => write!(f, "-{part}"),
        }
    }
}

fn sequence(position: Position) -> String {
    format!("{:020}", position.get())
}

fn position(digits: &str) -> Option<Position> {
    let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok().map(Position::new)).flatten()
}

/// The name of a feed in the world: the log, its epoch and the feed. As text it is
/// `/logs/{id}/{epoch}/feeds/{feed}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FeedName {
    /// The log of the service that publishes it.
    pub log: LogIdentity,
    /// The name in that service.
    pub feed: String,
}

impl FeedName {
    /// Reads the text.
    pub fn parse(text: &str) -> Option<FeedName> {
        let (log, rest) = text.strip_prefix("/logs/")?.split_once('/')?;
        let (epoch, feed) = rest.split_once("/feeds/")?;
        let id = LogId::from_bytes(Uuid::parse_str(log).ok()?.into_bytes());
        let log = LogIdentity { id, epoch: Epoch::from_u64(epoch.parse().ok()?) };
        Some(FeedName { log, feed: feed.to_owned() })
    }
}

impl fmt::Display for FeedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FeedName { log: LogIdentity { id, epoch }, feed } = self;
        write!(f, "/logs/{id}/{}/feeds/{feed}", epoch.to_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_from_its_text() {
        for (position, part, text) in
            [(42, 0, "00000000000000000042"), (42, 3, "00000000000000000042-3")]
        {
            let place = EventPlace { position: Position::new(position), part };
            assert_eq!(place.to_string(), text);
            assert_eq!(EventPlace::parse(text), Some(place));
        }
        for text in ["", "42", "0000000000000000004x", "00000000000000000042-0", "-1"] {
            assert_eq!(EventPlace::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_name_of_a_feed_is_read_from_its_text() {
        let name = FeedName { log: LogIdentity::random(), feed: "orders".to_owned() };
        assert_eq!(FeedName::parse(&name.to_string()), Some(name));
        assert_eq!(FeedName::parse("/orders"), None);
    }
}
