//! The command that stores a batch of imported rows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use diptych::{Command, DecisionContext, Filter, Fold, Recorded};
use serde::Serialize;

use super::{
    mapping::SourceRow,
    verdict::{Verdict, followed, verdict},
};
use crate::{
    fact::{Origin, RecordEvent},
    record::{Record, row_tag},
    row_json::{self, Fields, checked_fields, difference},
    state::Holders,
};

/// The result for one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Created,
    Changed,
    Unchanged,
    Refused(String),
}

/// Results of the last decision, for the caller of the command.
pub(super) type Outcomes = Arc<Mutex<Vec<Outcome>>>;

/// Stores rows of another system, each as a baseline or as its change.
pub(super) struct ImportRows<R: Record> {
    pub(super) source: String,
    pub(super) table: String,
    /// The fields that have a column.
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<SourceRow<R>>,
    pub(super) outcomes: Outcomes,
}

impl<R: Record> Serialize for ImportRows<R> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows: Vec<_> = self.rows.iter().map(|row| (&row.key, &row.digest)).collect();
        ("import", R::NAME, &self.source, &self.table, rows).serialize(serializer)
    }
}

/// The state and the origin of one row.
#[derive(Clone, Debug)]
struct RowTrace<R> {
    row: Option<R>,
    origin: Option<Origin>,
}

/// The rows that a batch is about.
pub(super) struct TracedRows<R: Record>(BTreeMap<R::Key, RowTrace<R>>);

impl<R: Record> Default for TracedRows<R> {
    fn default() -> TracedRows<R> {
        TracedRows(BTreeMap::new())
    }
}

impl<R: Record> Fold for TracedRows<R> {
    type Event = RecordEvent<R>;

    fn apply(&mut self, event: &Recorded<RecordEvent<R>>) {
        let event = &event.event;
        let traced = self.0.entry(event.key()).or_insert(RowTrace { row: None, origin: None });
        traced.row = event.after(traced.row.take());
        match event {
            RecordEvent::Imported { origin, .. }
            | RecordEvent::Changed { origin: Some(origin), .. } => {
                traced.origin = Some(origin.clone());
            }
            // The row is another one, or may come back from where it came.
            RecordEvent::Created(_) | RecordEvent::Deleted { origin: Some(_), .. } => {
                traced.origin = None;
            }
            _ => {}
        }
    }
}

impl<R: Record> ImportRows<R> {
    fn origin(&self, row: &SourceRow<R>) -> Origin {
        Origin {
            source: self.source.clone(),
            table: self.table.clone(),
            digest: row.digest.clone(),
        }
    }

    /// The event that brings the row here as it is there, if it differs.
    fn decided(
        &self,
        row: &SourceRow<R>,
        traced: Option<&RowTrace<R>>,
        holders: &Holders<R>,
    ) -> Result<Option<RecordEvent<R>>, String> {
        let known = traced.and_then(|traced| traced.origin.as_ref());
        if known.is_some_and(|known| known.digest == row.digest) {
            return Ok(None);
        }
        let here = traced.and_then(|traced| traced.row.as_ref()).map(fields_of).transpose()?;
        let merged = followed(here.as_ref(), self.columns.iter().copied(), &row.fields);
        let origin = self.origin(row);
        let verdict = verdict(here.as_ref(), known, &merged, &origin)?;
        if verdict == Verdict::Keep {
            return Ok(None);
        }
        let typed = whole::<R>(merged)?;
        let after = fields_of(&typed)?;
        let Some(before) = here else {
            free(holders, &after, &row.key)?;
            return Ok(Some(RecordEvent::Imported { row: typed, origin }));
        };
        let (old, new) = difference(&before, &after);
        let is_changed = |name: &str| old.contains_key(name) || new.contains_key(name);
        let mut retired = R::FIELDS.iter().filter(|field| is_changed(field.name));
        if let Some((field, command)) = retired.find_map(|field| Some((field.name, field.retired?)))
        {
            return Err(format!(
                "{field} has changed there, and only the command {command} changes it here: send \
                 it, and skip the column"
            ));
        }
        // The rule sees only the events about the values of the table.
        free(holders, &new, &row.key)?;
        Ok(Some(RecordEvent::Changed { key: row.key.clone(), old, new, origin: Some(origin) }))
    }
}

fn whole<R: Record>(fields: Fields) -> Result<R, String> {
    row_json::row(fields).map_err(|fault| format!("{}: {}", fault.field, fault.problem))
}

fn fields_of<R: Record>(row: &R) -> Result<Fields, String> {
    checked_fields(row).map_err(|fault| format!("{}: {}", fault.field, fault.problem))
}

fn free<R: Record>(holders: &Holders<R>, fields: &Fields, key: &R::Key) -> Result<(), String> {
    match holders.taken(fields, key) {
        None => Ok(()),
        Some(field) => Err(format!("another row has this {field}: change either")),
    }
}

impl<R: Record> Command for ImportRows<R> {
    type State = (TracedRows<R>, Holders<R>);
    type Event = RecordEvent<R>;
    type Rejection = crate::refusal::Refusal;

    fn boundary(&self) -> (Filter, Filter) {
        let rows = rows_of::<R>(self.rows.iter().map(|row| &row.key));
        let tags = self.rows.iter().flat_map(|row| row.tags.iter().cloned());
        (rows, Holders::<R>::filter(tags))
    }

    fn decide(
        &self,
        (rows, holders): (&TracedRows<R>, &Holders<R>),
        _: &DecisionContext<'_>,
    ) -> Result<Vec<RecordEvent<R>>, Self::Rejection> {
        let (mut holders, mut events) = (holders.clone(), Vec::new());
        let mut outcomes = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let outcome = match self.decided(row, rows.0.get(&row.key), &holders) {
                Err(reason) => Outcome::Refused(reason),
                Ok(None) => Outcome::Unchanged,
                Ok(Some(event)) => {
                    let (old, new) = event.sides();
                    holders.release(&old, &row.key);
                    holders.hold(&new, &row.key);
                    let outcome = match event {
                        RecordEvent::Imported { .. } => Outcome::Created,
                        _ => Outcome::Changed,
                    };
                    events.push(event);
                    outcome
                }
            };
            outcomes.push(outcome);
        }
        *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner) = outcomes;
        Ok(events)
    }
}

/// Deletes rows that the other system has no longer, as far as they came from there.
pub(super) struct Withdraw<R: Record> {
    pub(super) keys: Vec<R::Key>,
    pub(super) source: String,
    pub(super) table: String,
}

impl<R: Record> Serialize for Withdraw<R> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ("withdraw", R::NAME, &self.source, &self.table, &self.keys).serialize(serializer)
    }
}

impl<R: Record> Command for Withdraw<R> {
    type State = TracedRows<R>;
    type Event = RecordEvent<R>;
    type Rejection = crate::refusal::Refusal;

    fn boundary(&self) -> Filter {
        rows_of::<R>(&self.keys)
    }

    fn decide(
        &self,
        rows: &TracedRows<R>,
        _: &DecisionContext<'_>,
    ) -> Result<Vec<RecordEvent<R>>, Self::Rejection> {
        let mut events = Vec::new();
        for key in &self.keys {
            let Some(RowTrace { row: Some(row), origin: Some(origin) }) = rows.0.get(key) else {
                continue;
            };
            if origin.source == self.source && origin.table == self.table {
                let (key, old) = (key.clone(), row_json::fields(row)?);
                events.push(RecordEvent::Deleted { key, old, origin: Some(origin.clone()) });
            }
        }
        Ok(events)
    }
}

/// The events of the rows with these keys.
fn rows_of<'k, R: Record>(keys: impl IntoIterator<Item = &'k R::Key>) -> Filter
where
    R::Key: 'k,
{
    let tags = keys.into_iter().map(row_tag::<R>);
    tags.fold(Filter::nothing(), |filter, tag| filter.or(tag))
}
