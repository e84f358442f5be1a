//! The keys of all rows of a record whose type the program does not have, without the rows.

use std::collections::BTreeMap;

use diptych::store::{Filter, Position, Read, Store, Tag};

use super::{
    error::ImportError,
    plain_rows::{PlainEffect, PlainShape},
};
use crate::{fact::Origin, row_json::Fields};

/// All keys up to a position of the log. Rows are read when they are needed, so that a table of any
/// size does not sit in memory.
#[derive(Debug, Default)]
pub(super) struct PlainKeys {
    keys: BTreeMap<Box<str>, KeyState>,
    /// The keys of the rows that have unique values.
    holders: BTreeMap<Tag, Box<str>>,
    /// Sources and their tables, by the numbers that the keys have.
    places: Vec<(String, String)>,
    pub(super) upto: Position,
}

#[derive(Clone, Copy, Debug, Default)]
struct KeyState {
    is_there: bool,
    /// A row of the table that is imported has the key.
    is_seen: bool,
    origin: Option<(u32, Mark)>,
}

/// The digest of a row, in short.
type Mark = [u8; 16];

fn mark(digest: &str) -> Mark {
    let mut mark = Mark::default();
    let hash = blake3::hash(digest.as_bytes());
    mark.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    mark
}

impl PlainKeys {
    /// Reads the events that came since the last call.
    ///
    /// # Errors
    /// [`ImportError::Plain`] if an event has a meaning that only its program knows.
    pub(super) async fn follow(
        &mut self,
        record: &PlainShape,
        store: &Store,
    ) -> Result<(), ImportError> {
        let head = store.fresh_head().await?;
        let everything = Filter::everything();
        while self.upto < head {
            let batch = store.read(&everything, Read::after(self.upto).upto(head)).await?;
            for event in batch.iter() {
                if let Some(effect) = PlainEffect::of(record, &event)? {
                    self.apply(record, effect);
                }
            }
            self.upto = batch.upto();
        }
        Ok(())
    }

    /// The keys as the log has them now, if the log refused what was decided with these.
    ///
    /// # Errors
    /// [`ImportError`] if the log cannot be read.
    pub(super) async fn again(
        &mut self,
        record: &PlainShape,
        store: &Store,
    ) -> Result<(), ImportError> {
        let before = std::mem::take(self);
        self.follow(record, store).await?;
        for (key, _) in before.keys.into_iter().filter(|(_, state)| state.is_seen) {
            self.keys.entry(key).or_default().is_seen = true;
        }
        Ok(())
    }

    fn apply(&mut self, record: &PlainShape, effect: PlainEffect) {
        match effect {
            PlainEffect::Put { key, row, origin } => {
                self.put(record, &key, (&Fields::new(), &row), origin.as_ref());
            }
            PlainEffect::Change { key, old, new, origin } if self.is_there(&key) => {
                self.put(record, &key, (&old, &new), origin.as_ref());
            }
            PlainEffect::Change { .. } => {}
            PlainEffect::Delete { key, old, origin } => {
                self.remove(record, &key, &old, origin.is_some());
            }
        }
    }

    /// The row with this key has new values in place of old ones. Without an origin it keeps its
    /// own, unless it is new.
    pub(super) fn put(
        &mut self,
        record: &PlainShape,
        key: &str,
        (old, new): (&Fields, &Fields),
        origin: Option<&Origin>,
    ) {
        self.release(record, key, old);
        for tag in record.unique_tags(new) {
            self.holders.insert(tag, key.into());
        }
        let origin = origin.map(|origin| (self.place(origin), mark(&origin.digest)));
        let state = self.keys.entry(key.into()).or_default();
        state.origin = origin.or(state.origin.filter(|_| state.is_there));
        state.is_there = true;
    }

    /// The row with this key is gone. If it went there, too, it may come back.
    pub(super) fn remove(&mut self, record: &PlainShape, key: &str, old: &Fields, there: bool) {
        self.release(record, key, old);
        let state = self.keys.entry(key.into()).or_default();
        state.is_there = false;
        state.origin = state.origin.filter(|_| !there);
    }

    fn release(&mut self, record: &PlainShape, key: &str, fields: &Fields) {
        for tag in record.unique_tags(fields) {
            if self.holders.get(&tag).is_some_and(|holder| **holder == *key) {
                self.holders.remove(&tag);
            }
        }
    }

    fn place(&mut self, origin: &Origin) -> u32 {
        let is_same =
            |(source, table): &(String, String)| *source == origin.source && *table == origin.table;
        let known = self.places.iter().position(is_same);
        let at = known.unwrap_or_else(|| {
            self.places.push((origin.source.clone(), origin.table.clone()));
            self.places.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// Whether a row of the table is the first one with this key.
    pub(super) fn see(&mut self, key: &str) -> bool {
        if let Some(state) = self.keys.get_mut(key) {
            return !std::mem::replace(&mut state.is_seen, true);
        }
        self.keys.insert(key.into(), KeyState { is_seen: true, ..KeyState::default() });
        true
    }

    pub(super) fn is_there(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|state| state.is_there)
    }

    /// Whether the log has events about this key.
    pub(super) fn is_known(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|state| state.is_there || state.origin.is_some())
    }

    /// Whether the row has come with this digest last.
    pub(super) fn came(&self, key: &str, digest: &str) -> bool {
        let origin = self.keys.get(key).and_then(|state| state.origin);
        origin.is_some_and(|(_, known)| known == mark(digest))
    }

    /// Whether another row than that with this key has this unique value.
    pub(super) fn is_taken(&self, key: &str, tag: &Tag) -> bool {
        self.holders.get(tag).is_some_and(|holder| **holder != *key)
    }

    /// The keys of rows that came from this table, and that no row of it has now.
    pub(super) fn missing(&self, source: &str, table: &str) -> Vec<Box<str>> {
        let is_from = |at: u32| {
            let place = usize::try_from(at).ok().and_then(|at| self.places.get(at));
            place.is_some_and(|(from, of)| from == source && of == table)
        };
        let is_missing = |state: &KeyState| {
            state.is_there && !state.is_seen && state.origin.is_some_and(|(at, _)| is_from(at))
        };
        let missing = self.keys.iter().filter(|(_, state)| is_missing(state));
        missing.map(|(key, _)| key.clone()).collect()
    }
}
