//! Writes the events of a test as an app would, with everything that a store checks.

use std::{any::type_name, fmt};

use diptych_store::{
    Append, AppendCondition, Filter, InvalidRequest, Metadata, Position, RawEvent, Tag, Timestamp,
    encoding,
};

use super::Given;
use crate::{
    command::{
        Command, CommandError, Folds,
        decide::{encode, read_again},
    },
    event::{Event, Schema, encoded},
};

/// The events of a command, if its own conditions see none of them.
pub(super) struct Unseen {
    command: &'static str,
    /// The types of the events.
    types: Vec<String>,
    /// The filters that a conflict is looked up with.
    seen: String,
}

impl Given {
    /// Adds the events that a command has decided on.
    #[track_caller]
    pub(super) fn write<C: Command>(
        &mut self,
        slots: &mut <C::State as Folds>::Slots,
        narrowed: Option<&Filter>,
        events: &[C::Event],
        (metadata, decided_at): (&Metadata, Option<Timestamp>),
    ) -> Option<Unseen> {
        let reading = self.schema.reading::<C::Event>().map_err(CommandError::from);
        let raw = reading.and_then(|reading| {
            let raw = encode(&reading, events, metadata, decided_at)?;
            read_again(&reading, &raw)?;
            Ok(raw)
        });
        let raw = match raw {
            Ok(raw) => raw,
            Err(error) => {
                panic!("an event of {} cannot be written: {error}", type_name::<C::Event>())
            }
        };
        let filters = filters::<C>(slots, narrowed);
        let after = Position::new(self.events.len() as u64);
        let conditions = filters.iter().map(|fail_if| {
            let fail_if = fail_if.clone();
            AppendCondition { fail_if, after }
        });
        let conditions = conditions.collect();
        let append = Append { events: raw, conditions, ..Append::default() };
        if let Err(invalid) = self.check_commit(&append) {
            panic!("the store would refuse the events of {}: {invalid}", type_name::<C>());
        }
        let unseen = unseen::<C>(slots, &filters, &append.events);
        append.events.into_iter().for_each(|raw| self.record(raw));
        unseen
    }

    /// Makes the checks that a store makes before it accepts a commit.
    fn check_commit(&self, append: &Append) -> Result<(), InvalidRequest> {
        append.check(&self.limits)?;
        let mut bytes = Vec::new();
        append.events.iter().try_for_each(|raw| encoding::encode(raw, &self.limits, &mut bytes))?;
        let (bytes, allowed) = (bytes.len(), self.limits.commit_bytes);
        if bytes > allowed {
            return Err(InvalidRequest::too_large("commit", bytes, allowed, "commit_bytes"));
        }
        Ok(())
    }

    /// Checks an event that was written before.
    #[track_caller]
    pub(super) fn check_size(&self, raw: &RawEvent) {
        if let Err(invalid) = encoding::encode(raw, &self.limits, &mut Vec::new()) {
            panic!("the store would refuse {}: {invalid}", raw.event_type);
        }
    }
}

/// The filters of the conditions that the command is written with.
fn filters<C: Command>(
    slots: &mut <C::State as Folds>::Slots,
    narrowed: Option<&Filter>,
) -> Vec<Filter> {
    let mut filters: Vec<_> = match narrowed {
        Some(filter) => vec![filter.clone()],
        None => {
            let slots = <C::State as Folds>::slots(slots);
            slots.into_iter().flatten().map(|slot| slot.filter().clone()).collect()
        }
    };
    filters.retain(|filter| !filter.items().is_empty());
    filters
}

/// The events, if none of them would be a conflict for another command of this kind.
fn unseen<C: Command>(
    slots: &mut <C::State as Folds>::Slots,
    filters: &[Filter],
    events: &[RawEvent],
) -> Option<Unseen> {
    // A command without a fold has no rule that another could break.
    <C::State as Folds>::slots(slots).into_iter().flatten().next()?;
    let sees = |event: &RawEvent| {
        let tags = || event.tags.iter().map(Tag::as_str);
        filters.iter().any(|filter| filter.matches_parts(&event.event_type, tags))
    };
    if events.iter().any(sees) {
        return None;
    }
    let mut types: Vec<_> = events.iter().map(|event| event.event_type.to_string()).collect();
    types.sort_unstable();
    types.dedup();
    let seen: Vec<_> = filters.iter().map(Filter::to_string).collect();
    Some(Unseen { command: type_name::<C>(), types, seen: seen.join(", and ") })
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unseen { command, types, seen } = self;
        let types = types.join(", ");
        let seen = if seen.is_empty() { "nothing" } else { seen };
        write!(
            f,
            "then events that the command's own boundary does not see: {command} writes {types}, \
             and conflicts only with {seen}. So two of them at one time do not stop each other, \
             and each decides as if the other did not exist. Let `boundary` (or \
             `conflicts_with`) match the types and tags of these events, and its fold take them; \
             or, if each may be accepted whatever the others do, say so: \
             `.with_unseen_events()` before `.then(..)`"
        )
    }
}

/// The event as it would be written. It must match its declared type, and must be readable.
#[track_caller]
pub(super) fn written<E: Event>(schema: &Schema, event: &E) -> RawEvent {
    let reading = schema.reading::<E>();
    let raw = event.encode();
    let checked = reading.and_then(|reading| {
        let raw = raw?;
        reading.check(&raw)?;
        reading.decode(&encoded(&raw))?;
        Ok(raw)
    });
    match checked {
        Ok(raw) => raw,
        Err(error) => panic!("an event of {} cannot be written: {error}", type_name::<E>()),
    }
}
