//! How events are read in one log, for each Rust type that asks.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    sync::Arc,
};

use diptych_store::{EventRef, Filter, LogId, RawEvent, Store, Tag};
use foldhash::fast::RandomState;
use parking_lot::RwLock;

use super::{
    BoundaryError, DeclaredTwice, Event, EventType, MissingTag, OutdatedEvent, Reading,
    SchemaError, Upcasters, encoded,
    retags::{RetagFailure, RetagLedger, RetaggedKeys},
    tagging::{AnyReading, probe},
};

/// How events are read in one log: the upcasters, and the readings derived from them.
pub(crate) struct Schema {
    upcasters: Arc<Upcasters>,
    log: LogId,
    tag_bytes: usize,
    /// Event types, each with the key of a tag that older events need not carry.
    accepted: Vec<TagExemption>,
    /// Tags that older events got later.
    retags: RetagLedger,
    readings: RwLock<Readings>,
}

#[derive(Default)]
struct Readings {
    by_type: HashMap<TypeId, Arc<dyn Any + Send + Sync>, RandomState>,
    /// A reading of each event type, by name.
    by_name: HashMap<&'static str, Arc<dyn AnyReading>, RandomState>,
    /// The event types of all readings by name, each with the Rust type that was read first.
    declared: HashMap<&'static str, (EventType, &'static str), RandomState>,
}

/// The name of an event type, and the key of a tag.
pub(crate) type TagExemption = (String, String);

/// Looks up a known event type in the schema of an app.
pub(crate) type Declare = fn(&Schema) -> Result<Arc<dyn AnyReading>, SchemaError>;

impl Schema {
    /// # Errors
    /// [`SchemaError::Declaration`] if the upcasters contradict each other.
    pub(crate) fn new(
        upcasters: Upcasters,
        log: LogId,
        tag_bytes: usize,
    ) -> Result<Schema, SchemaError> {
        upcasters.check()?;
        let (upcasters, readings) = (Arc::new(upcasters), RwLock::default());
        let (accepted, retags) = (Vec::new(), RetagLedger::new(RetaggedKeys::default()));
        Ok(Schema { upcasters, log, tag_bytes, accepted, retags, readings })
    }

    /// Takes every tag that older events lack as given by retagging.
    #[cfg(feature = "testing")]
    pub(crate) fn retagged(mut self) -> Schema {
        self.retags = RetagLedger::new(RetaggedKeys::all());
        self
    }

    /// The tags that older events got later.
    pub(crate) fn retags(&self) -> &RetagLedger {
        &self.retags
    }

    /// The first of these events that would lack a tag which rules need. `types` has their types.
    pub(crate) fn outdated_among(
        &self,
        types: &[EventType],
        events: &[RawEvent],
    ) -> Option<OutdatedEvent> {
        if self.retags.is_empty() {
            return None;
        }
        events.iter().find_map(|event| {
            let known = types.iter().find(|known| known.name == event.event_type)?;
            self.outdated(known)
        })
    }

    /// The tag that rules need and that an event of this type would lack.
    pub(crate) fn outdated(&self, known: &EventType) -> Option<OutdatedEvent> {
        if self.retags.is_empty() {
            return None;
        }
        let accepts =
            |key: &str| self.accepted.iter().any(|(of, one)| of == known.name && one == key);
        self.retags.keys().outdated(known, accepts)
    }

    /// The events that a stored event is today. If an upcaster fails, it is the event itself.
    ///
    /// If some of several events are in the boundary, only these are returned.
    pub(crate) fn today(&self, event: &EventRef<'_>, boundary: &Filter) -> Vec<RawEvent> {
        let raw = event.to_raw();
        if !self.upcasters.concern(&encoded(&raw)) {
            return vec![raw];
        }
        let Ok(upcast) = self.upcasters.apply(&encoded(&raw)) else { return vec![raw] };
        let today = upcast.into_iter().map(|upcast| {
            let mut today = raw.clone();
            today.event_type = upcast.event_type;
            today.version = upcast.version;
            today.payload = upcast.payload;
            today.tags.extend(upcast.tags);
            today
        });
        let today: Vec<_> = today.collect();
        let is_in = |event: &RawEvent| {
            boundary.matches_parts(&event.event_type, || event.tags.iter().map(Tag::as_str))
        };
        if today.iter().any(is_in) {
            return today.into_iter().filter(is_in).collect();
        }
        today
    }

    /// Allows older events of these types to lack the tags of these keys.
    pub(crate) fn accept_untagged(mut self, accepted: Vec<TagExemption>) -> Schema {
        self.accepted = accepted;
        self
    }

    /// Whether an upcaster takes events of this type.
    pub(crate) fn upcasts(&self, event_type: &str) -> bool {
        self.upcasters.know(event_type)
    }

    /// Tags that stored events of these types lack, except the accepted ones. The log is checked
    /// once, and again after each completed retagging.
    ///
    /// # Errors
    /// [`RetagFailure`] if the log cannot be read.
    pub(crate) async fn untagged(
        &self,
        store: &Store,
        declared: &dyn AnyReading,
    ) -> Result<Arc<[MissingTag]>, RetagFailure> {
        let keys = self.retags.keys();
        if let Some((at, known)) = &*declared.untagged().read()
            && *at == keys.generation
        {
            return Ok(known.clone());
        }
        let mut missing = probe(store, declared, &keys).await?;
        missing.retain(|missing| {
            let accepts =
                |(of, key): &TagExemption| of == missing.event_type && *key == missing.key;
            !self.accepted.iter().any(accepts)
        });
        let missing: Arc<[MissingTag]> = missing.into();
        *declared.untagged().write() = Some((keys.generation, missing.clone()));
        Ok(missing)
    }

    /// The retagged keys of the log as it is now, for a reader of this boundary.
    ///
    /// # Errors
    /// [`SchemaError::MissingTag`] if older events lack a tag that the boundary asks for, or
    /// [`RetagFailure`] if the log cannot be read.
    pub(crate) async fn keys_over(
        &self,
        store: &Store,
        declared: &dyn AnyReading,
        boundary: &Filter,
    ) -> Result<Arc<RetaggedKeys>, RetagFailure> {
        let head = store.known_head().await?;
        self.retags.refresh(store, head).await?;
        let untagged = self.untagged(store, declared).await?;
        match untagged.iter().find(|untagged| untagged.concerns(boundary)) {
            Some(untagged) => Err(SchemaError::MissingTag(untagged.clone()).into()),
            None => Ok(self.retags.keys()),
        }
    }

    /// The reading of `E`, for checks that do not name `E`.
    pub(crate) fn declared<E: Event>(&self) -> Result<Arc<dyn AnyReading>, SchemaError> {
        Ok(self.reading::<E>()?)
    }

    /// How events of `E` are selected and read.
    ///
    /// # Errors
    /// [`SchemaError`] if the declarations of `E` contradict each other, or those that were read
    /// before.
    pub(crate) fn reading<E: Event>(&self) -> Result<Arc<Reading<E>>, SchemaError> {
        let known = self.readings.read().by_type.get(&TypeId::of::<E>()).cloned();
        if let Some(Ok(reading)) = known.map(Arc::downcast) {
            return Ok(reading);
        }
        let reading = Arc::new(Reading::<E>::new(self.upcasters.clone(), self.log)?);
        let mut readings = self.readings.write();
        readings.declare(reading.types(), type_name::<E>())?;
        readings.by_type.insert(TypeId::of::<E>(), reading.clone());
        for known in reading.types() {
            readings.by_name.insert(known.name, reading.clone());
        }
        Ok(reading)
    }

    /// A reading that has this event type, if the program has read or declared one.
    pub(crate) fn reading_of(&self, event_type: &str) -> Option<Arc<dyn AnyReading>> {
        self.readings.read().by_name.get(event_type).cloned()
    }

    /// # Errors
    /// [`BoundaryError::TagTooLong`] if no event can carry a tag that the filter names.
    pub(crate) fn check_tags(&self, filter: &Filter) -> Result<(), BoundaryError> {
        let tags = filter.items().iter().flat_map(|item| &item.tags);
        let longest = tags.map(|tag| tag.as_str().len()).max().unwrap_or(0);
        if longest > self.tag_bytes {
            return Err(BoundaryError::TagTooLong { bytes: longest, limit: self.tag_bytes });
        }
        Ok(())
    }
}

impl Readings {
    /// # Errors
    /// [`SchemaError::DeclaredTwice`] if another Rust type declared one of the names in another
    /// way.
    fn declare(&mut self, types: &[EventType], by: &'static str) -> Result<(), SchemaError> {
        for of in types {
            if let Some((known, first)) = self.declared.get(of.name)
                && !known.agrees_with(of)
            {
                let twice = DeclaredTwice::new((known, first), (of, by));
                return Err(SchemaError::DeclaredTwice(twice));
            }
        }
        for of in types {
            let known = self.declared.entry(of.name).or_insert((*of, by));
            if known.0.declared_in().is_none() {
                *known = (*of, by);
            }
        }
        Ok(())
    }
}
