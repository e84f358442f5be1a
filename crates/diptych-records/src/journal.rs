//! The history of one row.

use diptych::{Filter, Fold, Query, Recorded, Timestamp};
use serde::Serialize;

use crate::{
    fact::RecordEvent,
    record::Record,
    row_json::{Fields, difference, fields},
    state::Row,
};

/// The largest number of events in the history of a row.
pub const HISTORY_EVENTS: u64 = 10_000;

/// An event about a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "http", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "http", schemars(rename = "diptych-record-change"))]
pub struct Change {
    /// The revision of the row after it: its position in the log.
    pub revision: u64,
    /// The name of the event: `customer-changed`, or one with a meaning of its own.
    pub event: String,
    /// The sender of the command.
    pub actor: Option<String>,
    /// When the log recorded it.
    #[cfg_attr(feature = "http", schemars(with = "String"))]
    pub recorded_at: Timestamp,
    /// When it occurred. That is unknown of an event that came by an import.
    #[cfg_attr(feature = "http", schemars(with = "Option<String>"))]
    pub occurred_at: Option<Timestamp>,
    /// The fields that differ, before.
    pub old: Fields,
    /// The fields that differ, after.
    pub new: Fields,
}

/// The events about one row, from its creation on, also those before it was deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes<R: Record> {
    /// The key.
    pub key: R::Key,
}

/// A fold of the changes of one row.
#[derive(Clone, Debug)]
pub struct Journal<R: Record> {
    row: Option<R>,
    changes: Vec<Change>,
}

impl<R: Record> Default for Journal<R> {
    fn default() -> Journal<R> {
        Journal { row: None, changes: Vec::new() }
    }
}

impl<R: Record> Fold for Journal<R> {
    type Event = RecordEvent<R>;

    fn apply(&mut self, event: &Recorded<RecordEvent<R>>) {
        let of = |row: &Option<R>| {
            row.as_ref().map_or_else(Fields::new, |row| fields(row).unwrap_or_default())
        };
        let before = of(&self.row);
        self.row = event.event.after(self.row.take());
        let (old, new) = difference(&before, &of(&self.row));
        self.changes.push(Change {
            revision: event.position.get(),
            event: name(&event.event),
            actor: event.metadata.actor.as_ref().map(ToString::to_string),
            recorded_at: event.recorded_at,
            occurred_at: occurred_at(event),
            old,
            new,
        });
    }
}

/// When the event occurred, if its log knows.
fn occurred_at<R: Record>(event: &Recorded<RecordEvent<R>>) -> Option<Timestamp> {
    let is_imported = matches!(
        event.event,
        RecordEvent::Imported { .. } | RecordEvent::Changed { origin: Some(_), .. }
    );
    match is_imported {
        true => event.metadata.occurred_at,
        false => Some(event.occurred_at()),
    }
}

fn name<R: Record>(event: &RecordEvent<R>) -> String {
    use diptych::Event;
    match event {
        RecordEvent::Created(_) => R::EVENTS.created.to_owned(),
        RecordEvent::Changed { .. } => R::EVENTS.changed.to_owned(),
        RecordEvent::Deleted { .. } => R::EVENTS.deleted.to_owned(),
        RecordEvent::Imported { .. } => R::EVENTS.imported.to_owned(),
        RecordEvent::Intent(intent) => {
            intent.encode().map_or_else(|_| String::new(), |event| event.event_type.into_owned())
        }
    }
}

impl<R: Record> Query for Changes<R> {
    type View = Journal<R>;
    type Answer = Vec<Change>;

    fn answer(&self, journal: &Journal<R>) -> Vec<Change> {
        journal.changes.clone()
    }

    fn scope(&self) -> Filter {
        Row::<R>::filter(&self.key)
    }
}
