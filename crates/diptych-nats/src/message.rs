//! A published event as a message of NATS.

use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use diptych::collaboration::{CloudEvent, EventPlace, FeedName};

/// The header with the form of the message.
const CONTENT_TYPE: &str = "content-type";
/// CloudEvents in the structured mode.
const CLOUD_EVENT: &str = "application/cloudevents+json";
/// The header of the last event that was made from a private event. A reader takes the events of a
/// position in together, and knows by this header that none is missing.
const ENDS_POSITION: &str = "Diptych-Ends-Position";

/// An event of a feed in a stream.
pub(crate) struct StreamEvent {
    /// The event.
    pub(crate) event: CloudEvent,
    /// Its place in the feed.
    pub(crate) place: EventPlace,
    /// The feed and its log.
    pub(crate) source: FeedName,
    /// Whether it is the last event of its position.
    pub(crate) ends_position: bool,
    /// The number of the message in the stream.
    pub(crate) sequence: u64,
}

impl StreamEvent {
    /// Reads a message. The error is the reason.
    pub(crate) fn read(
        payload: &[u8],
        headers: Option<&HeaderMap>,
        sequence: u64,
    ) -> Result<StreamEvent, String> {
        let event: CloudEvent = serde_json::from_slice(payload).map_err(|error| {
            format!("message {sequence} of the stream is no event of a feed: {error}")
        })?;
        let place = event.place().map_err(|error| error.to_string())?;
        let source = FeedName::parse(&event.source).ok_or_else(|| {
            format!("message {sequence} of the stream has the source {:?}", event.source)
        })?;
        let ends_position = headers.is_some_and(|headers| headers.get(ENDS_POSITION).is_some());
        Ok(StreamEvent { event, place, source, ends_position, sequence })
    }
}

/// The last message of a stream.
#[derive(Clone, Debug)]
pub(crate) struct LastMessage {
    /// Its number, or that of the last message that the stream had.
    pub(crate) sequence: u64,
    /// Its id, if it has to be compared.
    pub(crate) id: Option<String>,
}

/// The id by which NATS knows an event.
pub(crate) fn message_id(event: &CloudEvent) -> String {
    format!("{} {}", event.source, event.id)
}

/// The subject and the message of an event, on condition that it follows this message. The number
/// alone would not do: if another program stores a message, the next number is as expected again,
/// and an event would be left out.
pub(crate) fn message(
    stream: &str,
    event: &CloudEvent,
    ends_position: bool,
    after: &LastMessage,
) -> Result<(String, PublishMessage), serde_json::Error> {
    let mut message = PublishMessage::build()
        .payload(serde_json::to_vec(event)?.into())
        .header(CONTENT_TYPE, CLOUD_EVENT)
        .message_id(message_id(event))
        .expected_stream(stream)
        .expected_last_sequence(after.sequence);
    if let Some(id) = &after.id {
        message = message.expected_last_message_id(id);
    }
    if ends_position {
        message = message.header(ENDS_POSITION, "true");
    }
    Ok((subject(stream, event), message))
}

/// The subject of an event: the stream, the name of its type, and the version of its type.
fn subject(stream: &str, event: &CloudEvent) -> String {
    let (name, version) = event.name_and_version();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    let name: String =
        name.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
    format!("{stream}.{name}.v{version}")
}
