//! Stored events as projections get them, for rows that are written without a runner.

use std::sync::Arc;

use diptych_store::{EventRef, Filter, LogId};

use crate::event::{Event, Reading, Recorded, SchemaError, StoredEvent, Upcasters};

/// Reads the stored events of one log as a projection gets them: upcast, checked and decoded. For
/// authors of targets that are not run by an app.
pub struct EventReader<E>(Reading<E>);

impl<E: Event> EventReader<E> {
    /// A reader of the events of `E` in this log.
    ///
    /// # Errors
    /// [`SchemaError::Declaration`] if `E` has a type twice.
    pub fn new(upcasters: Arc<Upcasters>, log: LogId) -> Result<EventReader<E>, SchemaError> {
        Reading::new(upcasters, log).map(EventReader)
    }

    /// The stored events that are, or can become, events of `E`.
    pub fn filter(&self) -> Filter {
        self.0.everything()
    }

    /// Adds the events of `E` that this stored event is today: none, one or several.
    ///
    /// # Errors
    /// [`SchemaError`] if the event cannot be read. Nothing is added then.
    pub fn read(
        &self,
        event: &EventRef<'_>,
        events: &mut Vec<Recorded<E>>,
    ) -> Result<(), SchemaError> {
        if !self.0.selects(event.event_type()) {
            return Ok(());
        }
        let (stored, before) = (StoredEvent::of(event), events.len());
        let each = |event| events.push(self.0.recorded(&stored, event));
        let read = self.0.read(&stored.encoded, |_| true, each);
        if read.is_err() {
            events.truncate(before);
        }
        read
    }
}

impl<E> std::fmt::Debug for EventReader<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventReader")
    }
}
