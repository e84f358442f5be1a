//! Tags that a type got after some of its events were written.
//!
//! A tag is written with its event. An event that was written before its type had the tag is not
//! found by that tag, so a rule over the tag does not see the event. To detect this, the app
//! decodes some stored events as events of today and encodes them again. A tag that the new
//! encoding has and the stored event lacks is missing. A field that is `None` or an empty list
//! gives no tag, so none is missing. A tag that is now made from another field, or spelt
//! differently, counts as missing.
//!
//! The number of checked events is bounded. Types at version 1 without an upcaster are not checked:
//! such a type needs a new version to get a tag.

use std::{borrow::Cow, sync::OnceLock};

use diptych_store::{Batch, Filter, Position, Read, ReadError, Store};

use super::{Event, MissingTag, Reading, StoredEvent};
use crate::panics::caught;

/// Number of evenly spaced places of the log from which events of each changed type are checked.
pub(super) const PROBES: u64 = 16;
/// Number of events that are checked from each of these places.
pub(super) const PROBE_EVENTS: usize = 16;

/// The reading of some Rust type's events, for checks that do not name the type.
pub trait AnyReading: Send + Sync {
    /// Whether an event of this name is, or can become, one of these events.
    fn knows(&self, event_type: &str) -> bool;
    /// The tags that stored events lack. Set once these events were checked.
    fn untagged(&self) -> &OnceLock<Vec<MissingTag>>;
    /// Names in the log that may have older events of types with tags.
    fn older(&self) -> Vec<Cow<'static, str>>;
    /// The tags that this event lacks.
    fn missing(&self, stored: &StoredEvent<'_>) -> Vec<MissingTag>;
}

impl<E: Event> AnyReading for Reading<E> {
    fn knows(&self, event_type: &str) -> bool {
        self.selects(event_type)
    }

    fn untagged(&self) -> &OnceLock<Vec<MissingTag>> {
        self.untagged()
    }

    fn older(&self) -> Vec<Cow<'static, str>> {
        let tagged = self.types().iter().filter(|known| !known.tags.is_empty());
        let names = tagged.flat_map(|known| {
            let mut names = self.upcasters().sources([Cow::Borrowed(known.name)]);
            names.retain(|name| self.upcasters().know(name) || known.version > 1);
            names
        });
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn missing(&self, stored: &StoredEvent<'_>) -> Vec<MissingTag> {
        let mut today = Vec::new();
        // An unreadable event is reported by the fold that needs it.
        let encode = |event: E| today.extend(caught(|| event.encode()).ok());
        let read = self.read(&stored.encoded, |_| true, encode);
        if read.is_err() {
            return Vec::new();
        }
        let mut missing: Vec<MissingTag> = Vec::new();
        for event in today.into_iter().flatten() {
            let known = self.types().iter().find(|known| known.name == event.event_type);
            let Some(known) = known else { continue };
            for tag in event.tags.iter().filter(|tag| !stored.carries(tag)) {
                let one = MissingTag {
                    event_type: known.name,
                    stored_type: stored.encoded.event_type.to_owned(),
                    stored_version: stored.encoded.version,
                    key: tag.key().to_owned(),
                    position: stored.position,
                };
                if !missing.iter().any(|told| told.is_like(&one)) {
                    missing.push(one);
                }
            }
        }
        missing
    }
}

/// The first event found for each type and key that lacks the tag, among at most [`PROBES`] times
/// [`PROBE_EVENTS`] events of each older type.
///
/// # Errors
/// [`ReadError`] from the store.
pub(super) async fn probe(
    store: &Store,
    declared: &dyn AnyReading,
) -> Result<Vec<MissingTag>, ReadError> {
    let mut missing: Vec<MissingTag> = Vec::new();
    let head = store.head().position();
    if head == Position::START {
        return Ok(missing);
    }
    for name in declared.older() {
        let filter = Filter::types([name]);
        let mut seen = Position::START;
        for number in 0..PROBES {
            let after = Position::new(head.get() / PROBES * number).max(seen);
            let batch = next(store, &filter, after, head).await?;
            for event in batch.iter() {
                let stored = StoredEvent::of(&event);
                seen = stored.position;
                for one in declared.missing(&stored) {
                    if !missing.iter().any(|told| told.is_like(&one)) {
                        missing.push(one);
                    }
                }
            }
            // The log has no further events of this name.
            if batch.is_empty() {
                break;
            }
        }
    }
    Ok(missing)
}

/// The next matching events after this position, or an empty batch if there are none up to the
/// head.
async fn next(
    store: &Store,
    filter: &Filter,
    mut after: Position,
    head: Position,
) -> Result<Batch, ReadError> {
    loop {
        let batch = store.read(filter, Read::after(after).upto(head).limit(PROBE_EVENTS)).await?;
        if !batch.is_empty() || batch.upto() >= head {
            return Ok(batch);
        }
        after = batch.upto();
    }
}
