//! How events are read in one log, for each Rust type that asks.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    sync::Arc,
};

use diptych_store::{Filter, LogId, ReadError, Store};
use foldhash::fast::RandomState;
use parking_lot::RwLock;

use super::{
    BoundaryError, DeclaredTwice, Event, EventType, MissingTag, Reading, SchemaError, Upcasters,
    tagging::{AnyReading, probe},
};

/// How events are read in one log: the upcasters, and the readings derived from them.
pub(crate) struct Schema {
    upcasters: Arc<Upcasters>,
    log: LogId,
    tag_bytes: usize,
    /// Event types, each with the key of a tag that older events need not carry.
    accepted: Vec<TagExemption>,
    readings: RwLock<Readings>,
}

#[derive(Default)]
struct Readings {
    by_type: HashMap<TypeId, Arc<dyn Any + Send + Sync>, RandomState>,
    /// The event types of all readings by name, each with the Rust type that was read first.
    declared: HashMap<&'static str, (EventType, &'static str), RandomState>,
}

/// The name of an event type, and the key of a tag.
pub(crate) type TagExemption = (String, String);

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
        Ok(Schema { upcasters, log, tag_bytes, accepted: Vec::new(), readings })
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
    /// only once.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub(crate) async fn untagged<'a>(
        &self,
        store: &Store,
        declared: &'a dyn AnyReading,
    ) -> Result<&'a [MissingTag], ReadError> {
        if let Some(known) = declared.untagged().get() {
            return Ok(known);
        }
        let mut missing = probe(store, declared).await?;
        missing.retain(|missing| {
            let accepts =
                |(of, key): &TagExemption| of == missing.event_type && *key == missing.key;
            !self.accepted.iter().any(accepts)
        });
        Ok(declared.untagged().get_or_init(|| missing))
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
        Ok(reading)
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
