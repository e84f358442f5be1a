//! Tags that a type got after some of its events were written.
//!
//! A tag is written with its event. An event that was written before its type had the tag is not
//! found by that tag, so a rule over the tag does not see the event. To detect this, the app
//! decodes some stored events as events of today and encodes them again. A tag that the new
//! encoding has and the stored event lacks is missing, unless [retagging](super::retags) marked the
//! event with it. A field that is `None` or an empty list gives no tag, so none is missing. A tag
//! that is now made from another field, or spelt differently, counts as missing.
//!
//! The number of checked events is bounded. Types at version 1 without an upcaster are not checked:
//! such a type needs a new version to get a tag.

use std::borrow::Cow;

use diptych_store::{Batch, Filter, Position, Read, ReadError, Store, Tag};

use super::{
    Event, EventType, MissingTag, Reading, SchemaError, StoredEvent,
    reading::MissingTagCell,
    retags::{Marks, RetagFailure, RetaggedKeys, SourceType},
};

/// Number of evenly spaced places of the log from which events of each changed type are checked.
pub(super) const PROBES: u64 = 16;
/// Number of events that are checked from each of these places.
pub(super) const PROBE_EVENTS: usize = 16;

/// The reading of some Rust type's events, for checks that do not name the type.
pub trait AnyReading: Send + Sync {
    /// Whether an event of this name is, or can become, one of these events.
    fn knows(&self, event_type: &str) -> bool;
    /// The types of these events.
    fn types(&self) -> &[EventType];
    /// The tags that stored events lack.
    fn untagged(&self) -> &MissingTagCell;
    /// Types whose older events may lack tags.
    fn retaggable(&self) -> Vec<RetagType>;
    /// The tags that this event lacks, each with its description.
    ///
    /// # Errors
    /// [`SchemaError`] if the event cannot be read.
    fn lacking(&self, stored: &StoredEvent<'_>) -> Result<Vec<(MissingTag, Tag)>, SchemaError>;
}

/// A type whose older events may lack tags.
pub struct RetagType {
    pub(crate) known: EventType,
    /// The names under which its events are stored.
    pub(crate) sources: Vec<SourceType>,
    /// Those of them that may have older events.
    older: Vec<String>,
}

impl RetagType {
    /// All stored events that are, or can become, events of this type.
    pub(crate) fn filter(&self) -> Filter {
        Filter::types(self.sources.iter().map(|source| source.name.clone()))
    }
}

impl<E: Event> AnyReading for Reading<E> {
    fn knows(&self, event_type: &str) -> bool {
        self.selects(event_type)
    }

    fn types(&self) -> &[EventType] {
        self.types()
    }

    fn untagged(&self) -> &MissingTagCell {
        self.untagged()
    }

    fn retaggable(&self) -> Vec<RetagType> {
        let tagged = self.types().iter().filter(|known| !known.tags.is_empty());
        let types = tagged.map(|known| {
            let sources = self.upcasters().source_types(known.name);
            let names = sources.iter().map(|source| source.name.clone());
            let is_older = |name: &String| self.upcasters().know(name) || known.version > 1;
            let older = names.filter(is_older).collect();
            RetagType { known: *known, sources, older }
        });
        types.filter(|of_type| !of_type.older.is_empty()).collect()
    }

    fn lacking(&self, stored: &StoredEvent<'_>) -> Result<Vec<(MissingTag, Tag)>, SchemaError> {
        let mut lacking: Vec<(MissingTag, Tag)> = Vec::new();
        self.read_today(
            &stored.encoded,
            |_| true,
            |today| {
                let known = self.types().iter().find(|known| known.name == today.name);
                let Some(known) = known else { return Ok(()) };
                for tag in today.all_tags()? {
                    if stored.carries(&tag) || !known.tags.contains(&tag.key()) {
                        continue;
                    }
                    let missing = MissingTag {
                        event_type: known.name,
                        stored_type: stored.encoded.event_type.to_owned(),
                        stored_version: stored.encoded.version,
                        key: tag.key().to_owned(),
                        position: stored.position,
                    };
                    lacking.push((missing, tag));
                }
                Ok(())
            },
        )?;
        Ok(lacking)
    }
}

/// The first event found for each type and key that lacks the tag, among at most [`PROBES`] times
/// [`PROBE_EVENTS`] events of each older type.
///
/// # Errors
/// [`RetagFailure`] if the log cannot be read.
pub(super) async fn probe(
    store: &Store,
    declared: &dyn AnyReading,
    keys: &RetaggedKeys,
) -> Result<Vec<MissingTag>, RetagFailure> {
    let mut missing: Vec<MissingTag> = Vec::new();
    let head = store.known_head().await?;
    if head == Position::START {
        return Ok(missing);
    }
    let mut names: Vec<_> = declared.retaggable().into_iter().flat_map(|one| one.older).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let filter = Filter::types([Cow::Owned(name)]);
        let mut seen = Position::START;
        for number in 0..PROBES {
            let after = Position::new(head.get() / PROBES * number).max(seen);
            let batch = next(store, &filter, after, head).await?;
            let mut lacking = Vec::new();
            for event in batch.iter() {
                let stored = StoredEvent::of(&event);
                seen = stored.position;
                // An unreadable event is reported by the fold that needs it.
                lacking.extend(declared.lacking(&stored).unwrap_or_default());
            }
            for one in unmarked(store, keys, lacking).await? {
                if !missing.iter().any(|told| told.is_like(&one)) {
                    missing.push(one);
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

/// Leaves out the tags that the events have by marks of a completed retagging.
async fn unmarked(
    store: &Store,
    keys: &RetaggedKeys,
    lacking: Vec<(MissingTag, Tag)>,
) -> Result<Vec<MissingTag>, RetagFailure> {
    let of_completed = lacking.iter().filter(|(one, _)| keys.has(one.event_type, &one.key));
    let mut tags: Vec<_> = of_completed.map(|(_, tag)| tag.clone()).collect();
    tags.sort_unstable();
    tags.dedup();
    let marks = Marks::read(store, Some(keys), &tags).await?;
    let left = lacking.into_iter();
    let left = left.filter(|(one, tag)| !marks.has(one.event_type, tag, one.position));
    Ok(left.map(|(one, _)| one).collect())
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
