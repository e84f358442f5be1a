//! Requests to a store as messages, and back.

use diptych_store::{
    Append, AppendCondition, Direction, Filter, FilterItem, InvalidRequest, Limits, Position, Read,
    Tag, Timestamp, encoding,
};

use crate::wire::{
    FailureCause, MessageError,
    messages::{self, Call, EncodedEvents, ReadRequest, failure},
    stored::{TAG_FORM, event_of, key_message, key_of, raw_events, tracking_message, tracking_of},
};

/// About the bytes of an encoded event beside its payload.
const EVENT_BYTES: usize = 128;

/// A request that a server cannot execute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The message has no meaning.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The request exceeds a limit.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
}

impl FailureCause for RequestError {
    fn kind(&self) -> failure::Kind {
        match self {
            RequestError::Message(message) => message.kind(),
            RequestError::Invalid(invalid) => invalid.kind(),
        }
    }
}

/// A filter as a message.
pub fn message_of_filter(filter: &Filter) -> messages::Filter {
    let item = |item: &FilterItem| messages::FilterItem {
        types: item.types.iter().map(|name| name.to_string()).collect(),
        tags: item.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
    };
    messages::Filter { items: filter.items().iter().map(item).collect() }
}

/// The filter of a message. A message without a filter asks for everything.
///
/// # Errors
/// [`RequestError`] if it exceeds the limits, or a tag has no key.
pub fn filter_of(
    message: Option<messages::Filter>,
    limits: &Limits,
) -> Result<Filter, RequestError> {
    let Some(message) = message else { return Ok(Filter::everything()) };
    // The number of items is checked before they are compared with each other.
    let (items, allowed) = (message.items.len(), limits.filter_items);
    if items > allowed {
        let what = "items in filters";
        return Err(InvalidRequest::too_many(what, items, allowed, "filter_items").into());
    }
    // So is the number of terms.
    let terms = message.items.iter().map(|item| item.types.len() + item.tags.len()).sum();
    let allowed = limits.filter_terms;
    if terms > allowed {
        let what = "terms in filters";
        return Err(InvalidRequest::too_many(what, terms, allowed, "filter_terms").into());
    }
    let items = message.items.into_iter().map(item_of).collect::<Result<Vec<_>, _>>()?;
    let filter: Filter = items.into_iter().collect();
    filter.check(limits)?;
    Ok(filter)
}

fn item_of(message: messages::FilterItem) -> Result<FilterItem, MessageError> {
    let item = message.types.into_iter().fold(FilterItem::everything(), FilterItem::or_type);
    message.tags.iter().try_fold(item, |item, tag| {
        let tag = Tag::parse(tag).map_err(|_| MessageError::new(TAG_FORM))?;
        Ok(item.and_tag(tag))
    })
}

/// An append as a message with this number. Checks it as a store with these limits does.
///
/// # Errors
/// [`InvalidRequest`] as [`Append::check`] and [`encoding::encode`] give it.
pub fn call_of(append: &Append, number: u64, limits: &Limits) -> Result<Call, InvalidRequest> {
    append.check(limits)?;
    // A buffer that grows would copy the payloads.
    let about = append.events.iter().map(|event| EVENT_BYTES + event.payload.len()).sum();
    let (mut bytes, mut sizes) =
        (Vec::with_capacity(about), Vec::with_capacity(append.events.len()));
    for event in &append.events {
        let start = bytes.len();
        encoding::encode(event, limits, &mut bytes)?;
        let (commit, allowed) = (bytes.len(), limits.commit_bytes);
        if commit > allowed {
            return Err(InvalidRequest::too_large("commit", commit, allowed, "commit_bytes"));
        }
        sizes.push(u32::try_from(commit - start).unwrap_or(u32::MAX));
    }
    let encoded = EncodedEvents { bytes: bytes.into(), sizes, ..EncodedEvents::default() };
    let condition = |condition: &AppendCondition| messages::Condition {
        fail_if: Some(message_of_filter(&condition.fail_if)),
        after: condition.after.get(),
    };
    Ok(Call {
        number,
        events: Vec::new(),
        encoded: Some(encoded),
        conditions: append.conditions.iter().map(condition).collect(),
        key: append.key.as_ref().map(key_message),
        tracking: append.tracking.as_ref().map(tracking_message),
        recorded_at: append.recorded_at.map(Timestamp::as_micros),
        ..Call::default()
    })
}

/// The append of a message.
///
/// # Errors
/// [`RequestError`] if a part has no meaning, or a filter exceeds the limits. The store checks the
/// rest.
pub fn append_of(call: Call, limits: &Limits) -> Result<Append, RequestError> {
    let (readable, encoded) = (call.events, call.encoded.unwrap_or_default());
    let events = match readable.is_empty() {
        true => raw_events(&encoded.bytes, &encoded.sizes)?,
        false if encoded.sizes.is_empty() => {
            readable.into_iter().map(event_of).collect::<Result<_, _>>()?
        }
        false => return Err(MessageError::new("a commit has events in both forms").into()),
    };
    let (conditions, allowed) = (call.conditions.len(), limits.commit_conditions);
    if conditions > allowed {
        let what = "conditions of a commit";
        return Err(InvalidRequest::too_many(what, conditions, allowed, "commit_conditions").into());
    }
    let condition = |condition: messages::Condition| {
        // A condition without a filter would refuse every commit. That is a mistake of the client.
        let fail_if = condition.fail_if.ok_or(MessageError::new("a condition has no filter"))?;
        let fail_if = filter_of(Some(fail_if), limits)?;
        Ok::<_, RequestError>(AppendCondition { fail_if, after: condition.after.into() })
    };
    Ok(Append {
        events,
        conditions: call.conditions.into_iter().map(condition).collect::<Result<_, _>>()?,
        key: call.key.map(key_of).transpose()?,
        tracking: call.tracking.map(tracking_of).transpose()?,
        recorded_at: call.recorded_at.map(Timestamp::from_micros),
    })
}

/// A read of at most this number of batches as a message. 0 means no such limit.
pub fn read_request(filter: &Filter, read: &Read, batches: u32) -> ReadRequest {
    let unlimited = read.limit == usize::MAX;
    ReadRequest {
        filter: Some(message_of_filter(filter)),
        after: read.after.get(),
        upto: (read.upto != Position::MAX).then(|| read.upto.get()),
        backwards: read.direction == Direction::Backwards,
        limit: (!unlimited).then_some(read.limit as u64),
        batches,
        as_messages: false,
        ..ReadRequest::default()
    }
}

/// The read of a message, without its filter.
pub fn read_of(request: &ReadRequest) -> Read {
    let direction = match request.backwards {
        true => Direction::Backwards,
        false => Direction::Forwards,
    };
    let limit = request.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    Read {
        after: request.after.into(),
        upto: request.upto.map_or(Position::MAX, Position::from),
        direction,
        limit: limit.unwrap_or(usize::MAX),
        takes_replica: false,
    }
}
