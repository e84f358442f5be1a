//! Events, commits and facts of a log as messages, and back.

use bytes::Bytes;
use diptych_store::{
    Batch, BatchBuilder, CommitBatch, CommitBatchBuilder, CommitFacts, CommitRef, Digest, Epoch,
    EventRef, Key, KeyedCommit, Limits, LogId, LogIdentity, Metadata, Position, RawEvent, Tag,
    Timestamp, Tracking, encoding,
};
use uuid::Uuid;

use crate::wire::{
    MessageError,
    messages::{self, EncodedEvents, ReadCommitsReply, ReadReply, RecordedEvent},
};

/// A log and its history as a message.
pub fn identity_message(identity: LogIdentity) -> messages::Identity {
    let LogIdentity { id, epoch } = identity;
    messages::Identity { log: id.to_bytes().to_vec(), epoch: epoch.to_u64() }
}

/// A log and its history.
///
/// # Errors
/// [`MessageError`] if the id does not have 16 bytes.
pub fn identity_of(message: messages::Identity) -> Result<LogIdentity, MessageError> {
    let id = sixteen(&message.log).ok_or(MessageError::new("the id of a log has 16 bytes"))?;
    Ok(LogIdentity { id: LogId::from_bytes(id), epoch: Epoch::from_u64(message.epoch) })
}

fn sixteen(bytes: &[u8]) -> Option<[u8; 16]> {
    bytes.try_into().ok()
}

/// A UUID of a message, or `None` for no bytes.
fn uuid_of(bytes: &[u8]) -> Result<Option<Uuid>, MessageError> {
    match (bytes.is_empty(), sixteen(bytes)) {
        (true, _) => Ok(None),
        (false, Some(bytes)) => Ok(Some(Uuid::from_bytes(bytes))),
        (false, None) => Err(MessageError::new("an id has 16 bytes or none")),
    }
}

fn uuid_bytes(id: Option<Uuid>) -> Vec<u8> {
    id.map_or_else(Vec::new, |id| id.as_bytes().to_vec())
}

/// The limits of a store as a message.
pub fn limits_message(limits: &Limits) -> messages::Limits {
    let number = |limit: usize| limit as u64;
    messages::Limits {
        event_bytes: number(limits.event_bytes),
        type_bytes: number(limits.type_bytes),
        tag_bytes: number(limits.tag_bytes),
        tags_per_event: number(limits.tags_per_event),
        metadata_bytes: number(limits.metadata_bytes),
        commit_events: number(limits.commit_events),
        commit_bytes: number(limits.commit_bytes),
        commit_conditions: number(limits.commit_conditions),
        key_bytes: number(limits.key_bytes),
        source_bytes: number(limits.source_bytes),
        tracking_sources: number(limits.tracking_sources),
        filter_items: number(limits.filter_items),
        filter_terms: number(limits.filter_terms),
        batch_events: number(limits.batch_events),
        batch_bytes: number(limits.batch_bytes),
    }
}

/// The limits of a server's store. A limit that the server does not name has its default.
pub fn limits_of(message: &messages::Limits) -> Limits {
    let mut limits = Limits::default();
    let fields = [
        (&mut limits.event_bytes, message.event_bytes),
        (&mut limits.type_bytes, message.type_bytes),
        (&mut limits.tag_bytes, message.tag_bytes),
        (&mut limits.tags_per_event, message.tags_per_event),
        (&mut limits.metadata_bytes, message.metadata_bytes),
        (&mut limits.commit_events, message.commit_events),
        (&mut limits.commit_bytes, message.commit_bytes),
        (&mut limits.commit_conditions, message.commit_conditions),
        (&mut limits.key_bytes, message.key_bytes),
        (&mut limits.source_bytes, message.source_bytes),
        (&mut limits.tracking_sources, message.tracking_sources),
        (&mut limits.filter_items, message.filter_items),
        (&mut limits.filter_terms, message.filter_terms),
        (&mut limits.batch_events, message.batch_events),
        (&mut limits.batch_bytes, message.batch_bytes),
    ];
    for (field, number) in fields {
        if let (true, Ok(number)) = (number > 0, usize::try_from(number)) {
            *field = number;
        }
    }
    limits
}

/// Events of a log in its own encoding. `events` gives them twice: for their size, then for their
/// bytes.
fn encoded_events<'a, I>(events: impl Fn() -> I) -> EncodedEvents
where
    I: Iterator<Item = EventRef<'a>>,
{
    let mut encoded = EncodedEvents::default();
    // A batch has megabytes. A buffer that grows would copy them several times, into new pages.
    let total = events().map(|event| event.bytes().len()).sum();
    let (mut bytes, mut position, mut time) = (Vec::with_capacity(total), 0_u64, 0_i64);
    for event in events() {
        let (at, recorded_at) = (event.position().get(), event.recorded_at().as_micros());
        if encoded.sizes.is_empty() {
            (encoded.base, position) = (at, at);
        }
        bytes.extend_from_slice(event.bytes());
        encoded.sizes.push(u32::try_from(event.bytes().len()).unwrap_or(u32::MAX));
        encoded.position_steps.push(at.wrapping_sub(position).cast_signed());
        encoded.time_steps.push(recorded_at.wrapping_sub(time));
        (position, time) = (at, recorded_at);
    }
    encoded.bytes = bytes.into();
    encoded
}

/// An event of a log as a message that every language can read.
pub fn message_of_event(event: &EventRef<'_>) -> messages::Event {
    let Metadata { occurred_at, correlation, causation, actor, extra } = event.metadata();
    messages::Event {
        r#type: event.event_type().to_owned(),
        version: event.version(),
        tags: event.tags().map(str::to_owned).collect(),
        payload: event.payload().to_vec(),
        id: uuid_bytes(event.id()),
        occurred_at: occurred_at.map(Timestamp::as_micros),
        correlation: uuid_bytes(correlation),
        causation: uuid_bytes(causation),
        actor: actor.map(String::from),
        extra: extra.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
    }
}

/// An event that a client sends as a message.
///
/// # Errors
/// [`MessageError`] if a tag has no key, or an id does not have 16 bytes.
pub fn event_of(message: messages::Event) -> Result<RawEvent, MessageError> {
    let tag = |tag: &String| Tag::parse(tag).map_err(|_| MessageError::new(TAG_FORM));
    let metadata = Metadata {
        occurred_at: message.occurred_at.map(Timestamp::from_micros),
        correlation: uuid_of(&message.correlation)?,
        causation: uuid_of(&message.causation)?,
        actor: message.actor.map(Into::into),
        extra: message.extra.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
    };
    Ok(RawEvent {
        event_type: message.r#type.into(),
        version: message.version.max(1),
        tags: message.tags.iter().map(tag).collect::<Result<_, _>>()?,
        payload: message.payload,
        id: uuid_of(&message.id)?,
        metadata,
    })
}

pub(crate) const TAG_FORM: &str = "a tag is key:value, with a key";

/// Events of a log as messages, with their positions and times.
pub fn recorded_messages<'a>(events: impl Iterator<Item = EventRef<'a>>) -> Vec<RecordedEvent> {
    let recorded = events.map(|event| RecordedEvent {
        position: event.position().get(),
        recorded_at: event.recorded_at().as_micros(),
        event: Some(message_of_event(&event)),
    });
    recorded.collect()
}

/// A batch as a message.
pub fn read_reply(batch: &Batch, head: Position, as_messages: bool) -> ReadReply {
    ReadReply {
        encoded: (!as_messages).then(|| encoded_events(|| batch.iter())),
        events: if as_messages { recorded_messages(batch.iter()) } else { Vec::new() },
        upto: batch.upto().get(),
        commit_end: batch.commit_end().get(),
        head: head.get(),
        ..ReadReply::default()
    }
}

/// A batch of a message with encoded events.
///
/// # Errors
/// [`MessageError`] if the bytes are not events, or the sizes do not add up.
pub fn batch_of(reply: ReadReply) -> Result<Batch, MessageError> {
    let encoded = reply.encoded.unwrap_or_default();
    let mut builder = BatchBuilder::with_capacity(encoded.sizes.len());
    let chunk = builder.chunk(encoded.bytes.clone());
    for located in located(&encoded)? {
        let EventPlace { position, recorded_at, start, end } = located?;
        let pushed = builder.push(position, recorded_at, chunk, start, end);
        pushed.map_err(|_| NOT_AN_EVENT)?;
    }
    Ok(builder.finish(reply.upto.into(), reply.commit_end.into()))
}

pub(crate) const NOT_AN_EVENT: MessageError = MessageError { what: "bytes are not an event" };

/// The place of one event in a message.
struct EventPlace {
    position: Position,
    recorded_at: Timestamp,
    start: u32,
    end: u32,
}

/// The place of each event. All lists of the message have to be of one length.
fn located(
    encoded: &EncodedEvents,
) -> Result<impl Iterator<Item = Result<EventPlace, MessageError>>, MessageError> {
    let EncodedEvents { bytes, sizes, position_steps, time_steps, base } = encoded;
    if sizes.len() != position_steps.len() || sizes.len() != time_steps.len() {
        return Err(MessageError::new("the lists of events have different lengths"));
    }
    let total = u32::try_from(bytes.len());
    let total = total.map_err(|_| MessageError::new("the events have more than 4 GiB"))?;
    let steps = position_steps.iter().zip(time_steps);
    let (mut position, mut time, mut end) = (*base, 0_i64, 0_u32);
    Ok(sizes.iter().zip(steps).map(move |(&size, (&step, &later))| {
        let start = end;
        position = position.wrapping_add_signed(step);
        time = time.wrapping_add(later);
        end = start.checked_add(size).filter(|&end| end <= total).ok_or(NOT_AN_EVENT)?;
        let (position, recorded_at) = (Position::new(position), Timestamp::from_micros(time));
        Ok(EventPlace { position, recorded_at, start, end })
    }))
}

/// Events that a client sends in the encoding of the log.
///
/// # Errors
/// [`MessageError`] if the bytes are not events, or a tag has no key.
pub(crate) fn raw_events(bytes: &Bytes, sizes: &[u32]) -> Result<Vec<RawEvent>, MessageError> {
    let mut events = Vec::with_capacity(sizes.len().min(bytes.len()));
    let mut rest = &bytes[..];
    for &size in sizes {
        let (event, others) = rest.split_at_checked(size as usize).ok_or(NOT_AN_EVENT)?;
        let event = encoding::decode(event).map_err(|_| NOT_AN_EVENT)?;
        let has_key =
            |tag: &Tag| tag.as_str().split_once(':').is_some_and(|(key, _)| !key.is_empty());
        if !event.tags.iter().all(has_key) {
            return Err(MessageError::new(TAG_FORM));
        }
        events.push(event);
        rest = others;
    }
    if !rest.is_empty() {
        return Err(MessageError::new("there are bytes after the last event"));
    }
    Ok(events)
}

/// An idempotency key as a message.
pub(crate) fn key_message(key: &Key) -> messages::Key {
    messages::Key { name: key.name.to_string(), digest: key.digest.0.to_vec() }
}

pub(crate) fn key_of(message: messages::Key) -> Result<Key, MessageError> {
    Ok(Key::new(message.name, digest_of(&message.digest)?))
}

/// The digest of a request.
///
/// # Errors
/// [`MessageError`] if it does not have 16 bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> Result<Digest, MessageError> {
    let digest = sixteen(bytes).ok_or(MessageError::new("the digest of a key has 16 bytes"))?;
    Ok(Digest(digest))
}

/// The commit of a key as a message.
pub fn keyed_commit_message(commit: KeyedCommit) -> messages::KeyedCommit {
    let KeyedCommit { first, last, digest } = commit;
    messages::KeyedCommit { first: first.get(), last: last.get(), digest: digest.0.to_vec() }
}

/// The commit of a key.
///
/// # Errors
/// [`MessageError`] if its digest does not have 16 bytes.
pub fn keyed_commit_of(message: messages::KeyedCommit) -> Result<KeyedCommit, MessageError> {
    let digest = digest_of(&message.digest)?;
    Ok(KeyedCommit { first: message.first.into(), last: message.last.into(), digest })
}

/// A tracking as a message.
pub fn tracking_message(tracking: &Tracking) -> messages::Tracking {
    messages::Tracking {
        source: tracking.source.to_string(),
        origin: tracking.origin.map(identity_message),
        position: tracking.position.get(),
    }
}

/// A tracking of a message.
///
/// # Errors
/// [`MessageError`] if its origin is no identity.
pub fn tracking_of(message: messages::Tracking) -> Result<Tracking, MessageError> {
    let tracking = Tracking::new(message.source, message.position);
    let origin = message.origin.map(identity_of).transpose()?;
    Ok(Tracking { origin, ..tracking })
}

/// Whole commits as a message.
pub fn read_commits_reply(
    batch: &CommitBatch,
    head: Position,
    as_messages: bool,
) -> ReadCommitsReply {
    let events = || batch.iter().flat_map(|commit| commit.events());
    let facts = |commit: CommitRef<'_>| messages::CommitFacts {
        last: commit.last().get(),
        events: u32::try_from(commit.events().len()).unwrap_or(u32::MAX),
        recorded_at: commit.recorded_at().as_micros(),
        key: commit.key().map(key_message),
        tracking: commit.tracking().map(tracking_message),
    };
    ReadCommitsReply {
        encoded: (!as_messages).then(|| encoded_events(events)),
        events: if as_messages { recorded_messages(events()) } else { Vec::new() },
        commits: batch.iter().map(facts).collect(),
        upto: batch.upto().get(),
        head: head.get(),
        ..ReadCommitsReply::default()
    }
}

/// Whole commits of a message with encoded events.
///
/// # Errors
/// [`MessageError`] if the bytes are not events, or the commits have other numbers of events.
pub fn commits_of(reply: ReadCommitsReply) -> Result<CommitBatch, MessageError> {
    let encoded = reply.encoded.unwrap_or_default();
    let mut builder = CommitBatchBuilder::new();
    let chunk = builder.chunk(encoded.bytes.clone());
    let mut events = located(&encoded)?;
    for commit in reply.commits {
        for _ in 0..commit.events {
            let missing = MessageError::new("a commit has more events than the message");
            let EventPlace { position, recorded_at, start, end } =
                events.next().ok_or(missing)??;
            let pushed = builder.push(position, recorded_at, chunk, start, end);
            pushed.map_err(|_| NOT_AN_EVENT)?;
        }
        let facts = CommitFacts {
            recorded_at: Timestamp::from_micros(commit.recorded_at),
            key: commit.key.map(key_of).transpose()?,
            tracking: commit.tracking.map(tracking_of).transpose()?,
        };
        builder.end_commit(commit.last.into(), facts);
    }
    if events.next().is_some() {
        return Err(MessageError::new("an event belongs to no commit"));
    }
    Ok(builder.finish(reply.upto.into(), reply.head.into()))
}
