//! The rows of a record whose type the program does not have, from the events of a log.

use std::collections::BTreeMap;

use diptych::store::{EventRef, Filter, Position, Read, Store, Tag};
use serde::Deserialize;
use serde_json::Value;

use super::error::ImportError;
use crate::{
    fact::Origin,
    record::{KEY_BYTES, value_tag},
    row_json::{self, Fields},
};

/// The largest number of keys that one read is about.
const KEYS_AT_ONCE: usize = 240;

/// The name of a record, and the fields with a meaning.
#[derive(Clone, Debug)]
pub(super) struct PlainShape {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) unique: Vec<String>,
}

impl PlainShape {
    /// The name of an event about rows: `customer-created`.
    pub(super) fn event(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    /// The text of a key.
    fn text(&self, key: &Value) -> Result<String, String> {
        let field = &self.key;
        let text = match key {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Null => String::new(),
            _ => {
                let problem = "is neither a text nor a number: give the row another key";
                return Err(format!("{field}: {problem}"));
            }
        };
        match text.len() {
            0 => Err(format!("{field}: is empty: give the row a key")),
            bytes if bytes > KEY_BYTES => Err(format!(
                "{field}: has {bytes} bytes, more than {KEY_BYTES}: take a shorter key"
            )),
            _ => Ok(text),
        }
    }

    /// The key of a row.
    pub(super) fn key_of(&self, row: &Fields) -> Result<String, String> {
        match row.get(&self.key) {
            Some(key) => self.text(key),
            None => Err(format!("a row has no field {}, the key: name another one", self.key)),
        }
    }

    /// The unique fields of a row that have a value, each with the tag of that value.
    pub(super) fn unique_values(&self, row: &Fields) -> impl Iterator<Item = (&str, Tag)> {
        let value = |field: &String| value_tag(&self.event(field), row.get(field)?);
        self.unique.iter().filter_map(move |field| Some((field.as_str(), value(field)?)))
    }

    /// The tags of the unique values of a row.
    pub(super) fn unique_tags(&self, row: &Fields) -> Vec<Tag> {
        self.unique_values(row).map(|(_, tag)| tag).collect()
    }
}

/// A row, and where it came from.
#[derive(Clone, Debug, Default)]
pub(super) struct PlainRow {
    pub(super) row: Option<Fields>,
    pub(super) origin: Option<Origin>,
}

/// Rows up to a position of the log.
#[derive(Debug, Default)]
pub(super) struct PlainRows {
    pub(super) rows: BTreeMap<String, PlainRow>,
    upto: Position,
}

/// The payload of any event about a row but its creation.
#[derive(Deserialize)]
struct Payload {
    key: Option<Value>,
    row: Option<Fields>,
    #[serde(default)]
    old: Fields,
    #[serde(default)]
    new: Fields,
    origin: Option<Origin>,
}

/// The effect of an event on a row.
pub(super) enum PlainEffect {
    /// The row is there, as this one.
    Put { key: String, row: Fields, origin: Option<Origin> },
    /// Fields of the row have other values.
    Change { key: String, old: Fields, new: Fields, origin: Option<Origin> },
    /// The row is gone.
    Delete { key: String, old: Fields, origin: Option<Origin> },
}

impl PlainEffect {
    /// The effect of an event, if it is about the record.
    ///
    /// # Errors
    /// [`ImportError::Plain`] if an event has a meaning that only its program knows.
    pub(super) fn of(
        record: &PlainShape,
        event: &EventRef<'_>,
    ) -> Result<Option<PlainEffect>, ImportError> {
        let is_about = |tag: &str| tag.split_once(':').is_some_and(|(key, _)| key == record.name);
        if !event.tags().any(is_about) {
            return Ok(None);
        }
        let wrong = |problem: String| ImportError::Plain { record: record.name.clone(), problem };
        let at = event.position();
        let unread = |error: serde_json::Error| {
            wrong(format!("event {at} is none of a record: {error}; use the program that wrote it"))
        };
        let name = event.event_type();
        if name == record.event("created") {
            let row: Fields = serde_json::from_slice(event.payload()).map_err(unread)?;
            let key = record.key_of(&row).map_err(wrong)?;
            return Ok(Some(PlainEffect::Put { key, row, origin: None }));
        }
        let own = ["changed", "deleted", "imported"];
        if !own.iter().any(|own| name == record.event(own)) {
            return Err(wrong(format!(
                "event {at} is {name}, and only its program knows how it changes a row: use that \
                 program"
            )));
        }
        let payload: Payload = serde_json::from_slice(event.payload()).map_err(unread)?;
        let Payload { key, row, old, new, origin } = payload;
        if let Some(row) = row {
            let key = record.key_of(&row).map_err(wrong)?;
            return Ok(Some(PlainEffect::Put { key, row, origin }));
        }
        let key = record.text(&key.unwrap_or_default()).map_err(wrong)?;
        Ok(Some(match name == record.event("deleted") {
            true => PlainEffect::Delete { key, old, origin },
            false => PlainEffect::Change { key, old, new, origin },
        }))
    }
}

impl PlainRows {
    /// The rows with these keys, up to a position.
    ///
    /// # Errors
    /// [`ImportError`] if the log cannot be read.
    pub(super) async fn of_keys(
        record: &PlainShape,
        store: &Store,
        keys: &[&str],
        upto: Position,
    ) -> Result<PlainRows, ImportError> {
        let mut rows = PlainRows::default();
        for some in keys.chunks(KEYS_AT_ONCE.min(store.limits().filter_items)) {
            let tags = some.iter().map(|key| Tag::new(&record.name, key));
            let filter = tags.fold(Filter::nothing(), |filter, tag| filter.or(tag));
            let mut at = Position::default();
            while at < upto {
                let batch = store.read(&filter, Read::after(at).upto(upto)).await?;
                for event in batch.iter() {
                    rows.apply(record, &event)?;
                }
                at = batch.upto();
            }
        }
        Ok(rows)
    }

    /// Reads the events that came since the last call, and tells the number of those that were
    /// read, and of all.
    ///
    /// # Errors
    /// [`ImportError::Plain`] if an event has a meaning that only its program knows.
    pub(super) async fn follow(
        &mut self,
        record: &PlainShape,
        store: &Store,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), ImportError> {
        let head = store.fresh_head().await?;
        let everything = Filter::everything();
        while self.upto < head {
            let batch = store.read(&everything, Read::after(self.upto).upto(head)).await?;
            for event in batch.iter() {
                self.apply(record, &event)?;
            }
            self.upto = batch.upto();
            progress(self.upto.get(), head.get());
        }
        Ok(())
    }

    fn apply(&mut self, record: &PlainShape, event: &EventRef<'_>) -> Result<(), ImportError> {
        match PlainEffect::of(record, event)? {
            None => {}
            Some(PlainEffect::Put { key, row, origin }) => {
                self.rows.insert(key, PlainRow { row: Some(row), origin });
            }
            Some(PlainEffect::Delete { key, origin, .. }) => {
                let row = self.rows.entry(key).or_default();
                row.row = None;
                // The row of another system may come back.
                if origin.is_some() {
                    row.origin = None;
                }
            }
            Some(PlainEffect::Change { key, old, new, origin }) => {
                let row = self.rows.entry(key).or_default();
                if let Some(fields) = &mut row.row {
                    row_json::exchange(fields, &old, &new);
                    row.origin = origin.or(row.origin.take());
                }
            }
        }
        Ok(())
    }
}
