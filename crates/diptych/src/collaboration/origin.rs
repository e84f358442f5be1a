//! The place outside from which an event came, as its log tells it.

use diptych_store::{EventRef, Metadata, Position, ReadError, Store};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    cloud_event::{CloudEvent, EventPlace, FeedName},
    parked::{IntakeAnswer, last_answer},
    stored::{FEED, FEED_EVENT, PARKED, ParkedRecord, StoredIntakeAnswer, decode},
};
use crate::event::Trail;

/// The published event of another service from which an event was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FeedOrigin {
    /// The name of the feed in the other service.
    pub feed: String,
    /// The log of the other service.
    pub log: Uuid,
    /// The position of the private event in that log.
    pub position: u64,
    /// The place in the feed: the id of the published event.
    pub place: String,
    /// The id of the private event, if the other service tells it.
    pub cause: Option<Uuid>,
    /// The number of feeds through which it came, with this one.
    pub hops: u32,
    /// The last of these feeds, separated by spaces.
    pub via: String,
}

impl FeedOrigin {
    /// The origin that an event of an intake carries. Other events have none.
    pub(crate) fn of(metadata: &Metadata) -> Option<FeedOrigin> {
        let source = metadata.extra.get(FEED)?;
        let place = metadata.extra.get(FEED_EVENT)?;
        let cause = metadata.causation;
        FeedOrigin::new(source.as_str(), place.as_str(), cause, Trail::of(metadata))
    }

    /// The origin of a published event that is parked.
    fn of_published(event: &CloudEvent) -> Option<FeedOrigin> {
        let feed = FeedName::parse(&event.source)?;
        let trail = Trail { hops: event.hops, via: event.via.clone() };
        let trail = trail.through(&format!("{}@{}", feed.feed, feed.log.id));
        FeedOrigin::new(&event.source, &event.id, event.eventid, trail)
    }

    fn new(source: &str, place: &str, cause: Option<Uuid>, trail: Trail) -> Option<FeedOrigin> {
        let FeedName { log, feed } = FeedName::parse(source)?;
        let position = EventPlace::parse(place)?.position.get();
        let log = Uuid::from_bytes(log.id.to_bytes());
        let Trail { hops, via } = trail;
        Some(FeedOrigin { feed, log, position, place: place.to_owned(), cause, hops, via })
    }
}

/// A published event that is parked in a log, with its last answer.
pub(crate) struct ParkedInLog {
    pub(crate) intake: String,
    pub(crate) subject: String,
    /// The reason; `None` if it waits behind another one.
    pub(crate) reason: Option<String>,
    pub(crate) event_type: String,
    pub(crate) origin: Option<FeedOrigin>,
    pub(crate) answer: Option<ParkedAnswer>,
}

/// The last answer to a parked event.
pub(crate) struct ParkedAnswer {
    pub(crate) at: Position,
    pub(crate) answer: IntakeAnswer,
    pub(crate) who: String,
    pub(crate) why: String,
}

/// Whether events of this type keep published events that are parked.
pub(crate) fn keeps_parked(event_type: &str) -> bool {
    event_type == PARKED
}

/// The published event that this event keeps. `None` if it keeps none, or cannot be read.
///
/// # Errors
/// [`ReadError`] from the store.
pub(crate) async fn parked_in(
    store: &Store,
    event: &EventRef<'_>,
) -> Result<Option<ParkedInLog>, ReadError> {
    let Ok(record) = decode::<ParkedRecord>(event) else { return Ok(None) };
    let ParkedRecord { intake, subject, reason, event: published } = record;
    let answer = last_answer(store, &intake, event.position()).await?;
    let answer = answer.map(|(at, record)| ParkedAnswer {
        at,
        answer: match record.answer {
            StoredIntakeAnswer::Retry => IntakeAnswer::Retry,
            StoredIntakeAnswer::Skip => IntakeAnswer::Skip,
            StoredIntakeAnswer::Replace(data) => IntakeAnswer::Replace(data),
        },
        who: record.who,
        why: record.why,
    });
    let origin = FeedOrigin::of_published(&published);
    let event_type = published.event_type;
    Ok(Some(ParkedInLog { intake, subject, reason, event_type, origin, answer }))
}
