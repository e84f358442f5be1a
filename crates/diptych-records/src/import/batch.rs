//! The command that stores a batch of imported rows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use diptych::{Command, DecisionContext, Filter, Fold, Recorded};
use serde::Serialize;

use super::mapping::SourceRow;
use crate::{
    fact::{Origin, RecordEvent},
    record::{Record, row_tag},
    row_json::{self, Fields, checked_fields, difference},
    state::{Holders, Row, unique_tags},
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
            // The key was free, so the row is another one.
            RecordEvent::Created(_) => traced.origin = None,
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
        let Some(traced) = traced else {
            let typed = whole::<R>(row.fields.clone())?;
            let fields = fields_of(&typed)?;
            free(holders, &fields, &row.key)?;
            return Ok(Some(RecordEvent::Imported { row: typed, origin: self.origin(row) }));
        };
        if traced.origin.as_ref().is_some_and(|origin| origin.digest == row.digest) {
            return Ok(None);
        }
        let Some(here) = &traced.row else {
            return Err("was deleted here, and has changed there: delete it there, or create it \
                        here again"
                .to_owned());
        };
        let before = fields_of(here)?;
        let mut after = before.clone();
        after.extend(row.fields.clone());
        match &traced.origin {
            None if before == after => return Ok(None),
            None => {
                return Err(
                    "exists here with other values and was not imported: make both equal, \
                            or skip the row"
                        .to_owned(),
                );
            }
            Some(origin) if origin.source != self.source || origin.table != self.table => {
                return Err(format!(
                    "came from table {} of {} before: name that source and table, or skip the row",
                    origin.table, origin.source
                ));
            }
            Some(_) => {}
        }
        let after = fields_of(&whole::<R>(after)?)?;
        let is_changed = |name: &str| before.get(name) != after.get(name);
        let retired = R::FIELDS.iter().filter(|field| is_changed(field.name));
        if let Some((field, command)) =
            retired.filter_map(|field| Some((field.name, field.retired?))).next()
        {
            return Err(format!(
                "{field} has changed there, and only the command {command} changes it here: send \
                 it, and skip the column"
            ));
        }
        free(holders, &after, &row.key)?;
        let (old, new) = difference(&before, &after);
        let origin = Some(self.origin(row));
        Ok(Some(RecordEvent::Changed { key: row.key.clone(), old, new, origin }))
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
        let keys = self.rows.iter().map(|row| row_tag::<R>(&row.key));
        let rows = keys.fold(Filter::nothing(), |filter, tag| filter.or(tag));
        let tags = self.rows.iter().flat_map(|row| unique_tags::<R>(&row.fields));
        (rows, Holders::<R>::filter(tags.map(|(_, tag)| tag)))
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

/// Deletes a row that the other system has no longer.
pub(super) struct Withdraw<R: Record> {
    pub(super) key: R::Key,
    pub(super) source: String,
    pub(super) table: String,
}

impl<R: Record> Serialize for Withdraw<R> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ("withdraw", R::NAME, &self.source, &self.table, &self.key).serialize(serializer)
    }
}

impl<R: Record> Command for Withdraw<R> {
    type State = TracedRows<R>;
    type Event = RecordEvent<R>;
    type Rejection = crate::refusal::Refusal;

    fn boundary(&self) -> Filter {
        Row::<R>::filter(&self.key)
    }

    fn decide(
        &self,
        rows: &TracedRows<R>,
        _: &DecisionContext<'_>,
    ) -> Result<Vec<RecordEvent<R>>, Self::Rejection> {
        let Some(RowTrace { row: Some(row), origin: Some(origin) }) = rows.0.get(&self.key) else {
            return Ok(Vec::new());
        };
        if origin.source != self.source || origin.table != self.table {
            return Ok(Vec::new());
        }
        let old = row_json::fields(row)?;
        Ok(vec![RecordEvent::Deleted { key: self.key.clone(), old }])
    }
}
