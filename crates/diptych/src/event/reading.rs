//! The one way from a stored event to the event that a fold gets: upcast, check the version,
//! decode. All readers use it.

use std::{any::type_name, borrow::Cow, marker::PhantomData, sync::Arc};

use diptych_store::{
    EventRef, Filter, FilterItem, LogId, Metadata, Position, RawEvent, Tag, Timestamp,
};
use parking_lot::RwLock;
use uuid::Uuid;

use super::{
    BoundaryError, EncodedEvent, Event, EventType, MissingTag, RESERVED, Recorded, SchemaError,
    Upcasters, derived_id, is_reserved,
    marked::{RetaggedBoundary, RetaggedItem},
    retags::RetaggedKeys,
};
use crate::panics::caught;

/// Selects and reads the events of `E` in one log.
pub(crate) struct Reading<E> {
    types: Vec<EventType>,
    /// Names in the log that are, or can become, one of the types.
    stored: Vec<Cow<'static, str>>,
    upcasters: Arc<Upcasters>,
    log: LogId,
    untagged: MissingTagCell,
    event: PhantomData<fn() -> E>,
}

/// Tags that stored events lack, once these events were checked, and the number of completed
/// retaggings at that time.
pub(crate) type MissingTagCell = RwLock<Option<(u64, Arc<[MissingTag]>)>>;

/// A stored event, borrowed from wherever it is: a batch, or a commit that was just accepted.
#[derive(Clone, Debug)]
pub struct StoredEvent<'a> {
    pub(crate) position: Position,
    pub(crate) recorded_at: Timestamp,
    pub(crate) encoded: EncodedEvent<'a>,
    pub(crate) id: Option<Uuid>,
    pub(crate) metadata: Metadata,
    tags: StoredTags<'a>,
}

#[derive(Clone, Debug)]
enum StoredTags<'a> {
    Read(EventRef<'a>),
    Given(&'a [Tag]),
}

impl<'a> StoredEvent<'a> {
    pub(crate) fn of(event: &EventRef<'a>) -> StoredEvent<'a> {
        StoredEvent {
            position: event.position(),
            recorded_at: event.recorded_at(),
            encoded: EncodedEvent {
                event_type: event.event_type(),
                version: event.version(),
                payload: event.payload(),
            },
            id: event.id(),
            metadata: event.metadata(),
            tags: StoredTags::Read(*event),
        }
    }

    pub(crate) fn accepted(
        event: &'a RawEvent,
        position: Position,
        recorded_at: Timestamp,
    ) -> StoredEvent<'a> {
        StoredEvent {
            position,
            recorded_at,
            encoded: encoded(event),
            id: event.id,
            metadata: event.metadata.clone(),
            tags: StoredTags::Given(&event.tags),
        }
    }

    /// Whether the event has this tag.
    pub(crate) fn carries(&self, tag: &Tag) -> bool {
        match &self.tags {
            StoredTags::Read(event) => event.tags().any(|own| own == tag.as_str()),
            StoredTags::Given(tags) => tags.contains(tag),
        }
    }

    /// The tags that it was stored with.
    fn own_tags(&self) -> Vec<Tag> {
        match &self.tags {
            StoredTags::Read(event) => {
                event.tags().filter_map(|tag| Tag::parse(tag).ok()).collect()
            }
            StoredTags::Given(tags) => tags.to_vec(),
        }
    }

    /// Whether the filter matches the event's tags together with this type.
    pub(crate) fn is_in(&self, filter: &Filter, event_type: &str) -> bool {
        self.is_in_with(filter, event_type, &[])
    }

    /// Like [`is_in`](StoredEvent::is_in), with more tags.
    fn is_in_with(&self, filter: &Filter, event_type: &str, more: &[Tag]) -> bool {
        let mut tags: Vec<_> = match &self.tags {
            StoredTags::Read(event) => event.tags().collect(),
            StoredTags::Given(tags) => tags.iter().map(Tag::as_str).collect(),
        };
        tags.extend(more.iter().map(Tag::as_str));
        filter.matches_parts(event_type, || tags.iter().copied())
    }
}

/// One of the events that a stored event is today.
pub(super) struct Today<'a, E> {
    pub(super) name: &'a str,
    /// Tags that an upcaster gives.
    tags: &'a [Tag],
    pub(super) event: E,
}

impl<E: Event> Today<'_, E> {
    /// The tags that the event would get if it were written today.
    ///
    /// # Errors
    /// [`SchemaError`] if it cannot be encoded.
    pub(super) fn all_tags(&self) -> Result<Vec<Tag>, SchemaError> {
        let failed = |reason| SchemaError::Encode { what: type_name::<E>(), reason };
        let mut tags = caught(|| self.event.encode()).map_err(failed)??.tags;
        tags.extend(self.tags.iter().cloned());
        Ok(tags)
    }
}

pub(crate) fn encoded(event: &RawEvent) -> EncodedEvent<'_> {
    EncodedEvent { event_type: &event.event_type, version: event.version, payload: &event.payload }
}

impl<E: Event> Reading<E> {
    /// # Errors
    /// [`SchemaError::Declaration`] if `E` has a type twice.
    pub(crate) fn new(upcasters: Arc<Upcasters>, log: LogId) -> Result<Reading<E>, SchemaError> {
        let types = E::types();
        for (at, this) in types.iter().enumerate() {
            if types.iter().take(at).any(|other| other.name == this.name) {
                let (of, name) = (type_name::<E>(), this.name);
                let problem = format!("{of} has two events of the type {name}: rename one");
                return Err(SchemaError::Declaration { problem });
            }
        }
        let stored = upcasters.sources(types.iter().map(|known| Cow::Borrowed(known.name)));
        let untagged = MissingTagCell::default();
        Ok(Reading { types, stored, upcasters, log, untagged, event: PhantomData })
    }

    /// The filter narrowed to events that are, or can become, events of `E`.
    ///
    /// # Errors
    /// [`BoundaryError`] if an item names a type or a tag key that `E` does not have: it would
    /// match nothing, and the rule would be silently off.
    pub(crate) fn narrow(&self, filter: &Filter) -> Result<Filter, BoundaryError> {
        match filter.items() {
            // If `E` has no types, the filter must match nothing, but an item without types matches
            // every type.
            _ if self.stored.is_empty() => Ok(Filter::nothing()),
            [item] => Ok(self.narrow_item(item)?.into()),
            items => items.iter().map(|item| self.narrow_item(item)).collect(),
        }
    }

    /// All events that are, or can become, events of `E`.
    pub(crate) fn everything(&self) -> Filter {
        Filter::types(self.stored.iter().cloned())
    }

    pub(crate) fn types(&self) -> &[EventType] {
        &self.types
    }

    pub(super) fn upcasters(&self) -> &Upcasters {
        &self.upcasters
    }

    /// Whether stored events were checked for missing tags since this completion, and lack none.
    pub(crate) fn lacks_no_tag(&self, generation: u64) -> bool {
        let known = self.untagged.read();
        known.as_ref().is_some_and(|(at, missing)| *at == generation && missing.is_empty())
    }

    pub(super) fn untagged(&self) -> &MissingTagCell {
        &self.untagged
    }

    /// How to find the events of this boundary, if it is over retagged keys.
    ///
    /// # Errors
    /// [`BoundaryError`] as of [`narrow`](Reading::narrow).
    pub(crate) fn retagged(
        &self,
        boundary: &Filter,
        keys: &Arc<RetaggedKeys>,
    ) -> Result<Option<RetaggedBoundary>, BoundaryError> {
        let completed_at = keys.newest(boundary, &self.types);
        let Some(completed_at) = completed_at.filter(|_| !self.stored.is_empty()) else {
            return Ok(None);
        };
        let items = boundary.items().iter().map(|item| {
            let retagged = keys.tags_of(item, &self.types);
            Ok(RetaggedItem { narrowed: self.narrow_item(item)?, retagged })
        });
        let items = items.collect::<Result<_, _>>()?;
        let (sources, keys) = (self.everything(), keys.clone());
        Ok(Some(RetaggedBoundary { items, sources, keys, completed_at }))
    }

    /// The completions that a state over this boundary depends on, as text.
    pub(crate) fn declared_over(&self, boundary: &Filter, keys: &RetaggedKeys) -> String {
        let mut declared = self.declared();
        declared.push_str(&keys.declared(boundary, &self.types));
        declared
    }

    /// Whether an event of this name is, or can become, an event of `E`.
    pub(crate) fn selects(&self, event_type: &str) -> bool {
        self.stored.iter().any(|name| name == event_type)
    }

    fn narrow_item(&self, item: &FilterItem) -> Result<FilterItem, BoundaryError> {
        for name in &item.types {
            if !self.has(name) {
                return Err(BoundaryError::UnknownType {
                    event_type: name.clone().into_owned(),
                    events: type_name::<E>(),
                    known: self.types.iter().map(|known| known.name).collect(),
                });
            }
        }
        let asked = |known: &&EventType| {
            item.types.is_empty() || item.types.iter().any(|name| name == known.name)
        };
        for tag in &item.tags {
            let mut asked = self.types.iter().filter(asked);
            if !asked.any(|known| known.tags.contains(&tag.key())) {
                return Err(BoundaryError::UnknownTagKey {
                    key: tag.key().to_owned(),
                    events: type_name::<E>(),
                    known: self.tag_keys(),
                });
            }
        }
        let types = match item.types.is_empty() {
            true => self.stored.clone(),
            false => self.upcasters.sources(item.types.iter().cloned()),
        };
        Ok(FilterItem { types, tags: item.tags.clone() })
    }

    fn tag_keys(&self) -> Vec<&'static str> {
        let mut keys: Vec<_> =
            self.types.iter().flat_map(|known| known.tags.iter().copied()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Turns a stored event into the events that it is today, and passes those of `E` to `each`:
    /// none, one or several.
    ///
    /// If the type has upcasters, `wanted` tells whether the boundary contains an event of the
    /// resulting type. This has to be asked, because the filter also selects events that can become
    /// such an event and do not.
    pub(crate) fn read(
        &self,
        encoded: &EncodedEvent<'_>,
        wanted: impl Fn(&str) -> bool,
        mut each: impl FnMut(E),
    ) -> Result<(), SchemaError> {
        let each = |event: Today<'_, E>| {
            each(event.event);
            Ok(())
        };
        self.read_today(encoded, wanted, each)
    }

    /// Like [`read`](Reading::read), with the name of each event, and the tags that upcasters give.
    pub(super) fn read_today(
        &self,
        encoded: &EncodedEvent<'_>,
        wanted: impl Fn(&str) -> bool,
        mut each: impl FnMut(Today<'_, E>) -> Result<(), SchemaError>,
    ) -> Result<(), SchemaError> {
        let name = encoded.event_type;
        if !self.upcasters.know(name) {
            each(Today { name, tags: &[], event: self.decode(encoded)? })?;
        } else if self.upcasters.concern(encoded) {
            for upcast in self.upcasters.apply(encoded)? {
                let name = upcast.event_type.as_ref();
                if self.has(name) && wanted(name) {
                    let event = self.decode(&upcast.encoded())?;
                    each(Today { name, tags: &upcast.tags, event })?;
                }
            }
        } else if !self.has(name) && !self.upcasters.led_to(encoded) {
            // An upcaster that would turn the event into a wanted one may be missing.
            return Err(encoded.unknown::<E>());
        } else if self.has(name) && wanted(name) {
            each(Today { name, tags: &[], event: self.decode(encoded)? })?;
        }
        Ok(())
    }

    /// Like [`read`](Reading::read), for the events in this boundary. `keys` are given if the
    /// boundary is over retagged keys. Then an event has the tags of these keys that it would get
    /// if it were written today.
    pub(crate) fn read_in(
        &self,
        stored: &StoredEvent<'_>,
        boundary: &Filter,
        keys: Option<&RetaggedKeys>,
        mut each: impl FnMut(E),
    ) -> Result<(), SchemaError> {
        let Some(keys) = keys else {
            return self.read(&stored.encoded, |name| stored.is_in(boundary, name), each);
        };
        let each = |today: Today<'_, E>| {
            let mut is_in = stored.is_in(boundary, today.name);
            if !is_in {
                let mut tags = today.all_tags()?;
                tags.retain(|tag| keys.has(today.name, tag.key()));
                is_in = stored.is_in_with(boundary, today.name, &tags);
            }
            if is_in {
                each(today.event);
            }
            Ok(())
        };
        self.read_today(&stored.encoded, |_| true, each)
    }

    /// Turns a stored event into the events of `E` that it is today, and passes each to `each` with
    /// its tags. If it may be older than a tag of its type, these are also the tags that it would
    /// get if it were written today.
    pub(crate) fn read_tagged(
        &self,
        stored: &StoredEvent<'_>,
        mut each: impl FnMut(E, Vec<Tag>),
    ) -> Result<(), SchemaError> {
        let may_be_older = |name: &str| {
            let is_changed = |known: &EventType| known.name == name && known.version > 1;
            self.upcasters.know(stored.encoded.event_type) || self.types.iter().any(is_changed)
        };
        let each = |today: Today<'_, E>| {
            let mut tags = stored.own_tags();
            if may_be_older(today.name) {
                tags.extend(today.all_tags()?);
                tags.sort_unstable();
                tags.dedup();
            }
            each(today.event, tags);
            Ok(())
        };
        self.read_today(&stored.encoded, |_| true, each)
    }

    /// The selected names and their upcasters, as text.
    pub(crate) fn declared(&self) -> String {
        self.upcasters.declared(&self.stored)
    }

    fn has(&self, name: &str) -> bool {
        self.types.iter().any(|known| known.name == name)
    }

    /// # Errors
    /// [`SchemaError::Declaration`] if `E` has an event that no fold can ever get.
    pub(crate) fn check_current(&self) -> Result<(), SchemaError> {
        self.types.iter().try_for_each(|known| self.upcasters.check_current(known))
    }

    /// Decodes an event that has been through the upcasters.
    pub(crate) fn decode(&self, encoded: &EncodedEvent<'_>) -> Result<E, SchemaError> {
        let Some(known) = self.types.iter().find(|known| known.name == encoded.event_type) else {
            return Err(encoded.unknown::<E>());
        };
        if known.version != encoded.version {
            return Err(SchemaError::UnknownVersion {
                event_type: encoded.event_type.to_owned(),
                version: encoded.version,
                current: known.version,
            });
        }
        caught(|| E::decode(encoded)).unwrap_or_else(|panic| Err(encoded.not_decoded(panic)))
    }

    pub(crate) fn recorded(&self, stored: &StoredEvent<'_>, event: E) -> Recorded<E> {
        let StoredEvent { position, recorded_at, id, .. } = *stored;
        Recorded {
            position,
            recorded_at,
            id: id.unwrap_or_else(|| self.derived_id(position)),
            metadata: stored.metadata.clone(),
            event,
        }
    }

    /// The id of the event at this position, if its writer gave none.
    pub(crate) fn derived_id(&self, position: Position) -> Uuid {
        derived_id(self.log, position)
    }

    /// Checks an event against the declarations of its type before it is written.
    ///
    /// # Errors
    /// [`SchemaError::Declaration`] if type, version or a tag key is not declared: readers would
    /// not find the event again.
    pub(crate) fn check(&self, event: &RawEvent) -> Result<(), SchemaError> {
        let known = self.types.iter().find(|known| known.name == event.event_type);
        let Some(known) = known.filter(|known| known.version == event.version) else {
            let problem = format!(
                "{} encodes {} version {}, which is not in its types: add it there",
                type_name::<E>(),
                event.event_type,
                event.version
            );
            return Err(SchemaError::Declaration { problem });
        };
        let tags = event.tags.iter().map(Tag::as_str);
        let mut names =
            tags.chain([known.name]).chain(event.metadata.extra.keys().map(|name| &**name));
        if let Some(reserved) = names.find(|name| is_reserved(name)) {
            let (name, of) = (known.name, type_name::<E>());
            let problem = format!(
                "{of} writes {name} with the name {reserved:?}, and event types, tags and names of \
                 metadata that begin with {RESERVED:?} are reserved: take another name"
            );
            return Err(SchemaError::Declaration { problem });
        }
        for tag in &event.tags {
            if !known.tags.contains(&tag.key()) {
                let (name, of) = (known.name, type_name::<E>());
                let problem =
                    format!("{of} gives {name} the tag {tag:?}, whose key it does not declare");
                return Err(SchemaError::Declaration { problem });
            }
        }
        Ok(())
    }
}
