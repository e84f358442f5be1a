//! The view of all rows, with its indexes.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use diptych::{Fold, Position, Query, Recorded};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    fact::RecordEvent,
    record::Record,
    row_json::{Fields, fields},
    state::Row,
    value::IndexValue,
};

/// A row with its revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "http", derive(schemars::JsonSchema))]
pub struct Entry<R> {
    /// The revision of the row: the position of its last event in the log.
    pub revision: u64,
    /// The row.
    pub row: R,
}

impl<R> Entry<R> {
    /// The revision as a position, for [`Records::expecting`](crate::Records::expecting).
    pub fn position(&self) -> Position {
        Position::new(self.revision)
    }
}

/// Keys by the value of one field.
type Index<K> = BTreeMap<IndexValue, BTreeSet<K>>;

/// All rows of a record, in memory, with an index for each indexed field.
#[derive(Clone, Debug)]
pub struct RecordView<R: Record> {
    rows: BTreeMap<R::Key, Entry<R>>,
    indexes: BTreeMap<&'static str, Index<R::Key>>,
}

impl<R: Record> Default for RecordView<R> {
    fn default() -> RecordView<R> {
        let indexed = R::FIELDS.iter().filter(|field| field.is_indexed);
        let indexes = indexed.map(|field| (field.name, Index::new())).collect();
        RecordView { rows: BTreeMap::new(), indexes }
    }
}

impl<R: Record> Fold for RecordView<R> {
    type Event = RecordEvent<R>;

    const KEY: Option<&'static str> = Some(R::NAME);

    fn apply(&mut self, event: &Recorded<RecordEvent<R>>) {
        let key = event.event.key();
        let before = self.rows.get(&key).map(|entry| entry.row.clone());
        // It may panic, so nothing is changed before.
        let after = event.event.after(before);
        let revision = event.position.get();
        let after = after.map(|row| Entry { revision, row });
        match &event.event {
            // A change names each field whose value is another one.
            RecordEvent::Changed { old, new, .. } => {
                self.put(key, after, |name| old.contains_key(name) || new.contains_key(name));
            }
            _ => self.put(key, after, |_| true),
        }
    }
}

impl<R: Record> RecordView<R> {
    /// Puts a row in place of the one with its key, or takes that away. Fields whose values may be
    /// others now are named by `may_differ`.
    fn put(&mut self, key: R::Key, after: Option<Entry<R>>, may_differ: impl Fn(&str) -> bool) {
        let of = |entry: &Entry<R>| fields(&entry.row).unwrap_or_default();
        let mut indexes = self.indexes.iter_mut().filter(|(name, _)| may_differ(name)).peekable();
        let (before, now) = match indexes.peek() {
            Some(_) => (self.rows.get(&key).map(of), after.as_ref().map(of)),
            None => (None, None),
        };
        for (name, index) in indexes {
            let value =
                |fields: &Fields| fields.get(*name).map_or(IndexValue::Null, IndexValue::of);
            let (old, new) = (before.as_ref().map(value), now.as_ref().map(value));
            if old == new {
                continue;
            }
            if let Some(old) = old
                && let Some(keys) = index.get_mut(&old)
            {
                keys.remove(&key);
                if keys.is_empty() {
                    index.remove(&old);
                }
            }
            if let Some(new) = new {
                index.entry(new).or_default().insert(key.clone());
            }
        }
        match after {
            Some(entry) => drop(self.rows.insert(key, entry)),
            None => drop(self.rows.remove(&key)),
        }
    }
}

/// Snapshots have the rows; the indexes are made again from them.
impl<R: Record> Serialize for RecordView<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows.values())
    }
}

impl<'de, R: Record> Deserialize<'de> for RecordView<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RecordView<R>, D::Error> {
        let mut view = RecordView::default();
        for entry in Vec::<Entry<R>>::deserialize(deserializer)? {
            view.put(entry.row.key(), Some(entry), |_| true);
        }
        Ok(view)
    }
}

impl<R: Record> RecordView<R> {
    /// The row with this key.
    pub fn get(&self, key: &R::Key) -> Option<&Entry<R>> {
        self.rows.get(key)
    }

    /// All rows, in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<R>> {
        self.rows.values()
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The key of a row that has this value in JSON.
    pub(crate) fn known_key(&self, value: &IndexValue) -> Option<&R::Key> {
        let key: R::Key = serde_json::from_value(serde_json::to_value(value).ok()?).ok()?;
        self.rows.get_key_value(&key).map(|(key, _)| key)
    }

    /// The keys of the rows with this value of an indexed field.
    pub(crate) fn with_value(&self, field: &str, value: &IndexValue) -> Option<&BTreeSet<R::Key>> {
        self.indexes.get(field)?.get(value)
    }

    /// The keys in order of their own, those after this one.
    pub(crate) fn by_key<'v>(
        &'v self,
        after: Option<&'v R::Key>,
        is_descending: bool,
    ) -> Box<dyn Iterator<Item = &'v R::Key> + 'v> {
        let bound = after.map_or(Bound::Unbounded, Bound::Excluded);
        match is_descending {
            false => Box::new(self.rows.range((bound, Bound::Unbounded)).map(|(key, _)| key)),
            true => Box::new(self.rows.range((Bound::Unbounded, bound)).rev().map(|(key, _)| key)),
        }
    }

    /// The keys in order of an indexed field, those after this value and key. `low` and `high` are
    /// the ends of the values.
    pub(crate) fn by_field<'v>(
        &'v self,
        field: &str,
        after: Option<(&'v IndexValue, &'v R::Key)>,
        (low, high): (Option<&IndexValue>, Option<&IndexValue>),
        is_descending: bool,
    ) -> Box<dyn Iterator<Item = &'v R::Key> + 'v> {
        let Some(index) = self.indexes.get(field) else { return Box::new(std::iter::empty()) };
        let (low, high) = match (after, is_descending) {
            (None, _) => (low, high),
            (Some((value, _)), false) => (Some(low.map_or(value, |low| low.max(value))), high),
            (Some((value, _)), true) => (low, Some(high.map_or(value, |high| high.min(value)))),
        };
        // The map panics at a range that ends before it begins.
        if low.zip(high).is_some_and(|(low, high)| low > high) {
            return Box::new(std::iter::empty());
        }
        let low = low.map_or(Bound::Unbounded, Bound::Included);
        let high = high.map_or(Bound::Unbounded, Bound::Included);
        let values = index.range::<IndexValue, _>((low, high));
        let follows = move |value: &IndexValue, key: &R::Key| match after {
            None => true,
            Some(place) if is_descending => (value, key) < place,
            Some(place) => (value, key) > place,
        };
        match is_descending {
            false => {
                let keys =
                    values.flat_map(|(value, keys)| keys.iter().map(move |key| (value, key)));
                Box::new(keys.filter(move |(value, key)| follows(value, key)).map(|(_, key)| key))
            }
            true => {
                let keys = values
                    .rev()
                    .flat_map(|(value, keys)| keys.iter().rev().map(move |key| (value, key)));
                Box::new(keys.filter(move |(value, key)| follows(value, key)).map(|(_, key)| key))
            }
        }
    }
}

/// The row with a key, if there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Get<R: Record> {
    /// The key.
    pub key: R::Key,
}

impl<R: Record> Query for Get<R> {
    type View = RecordView<R>;
    type Answer = Option<Entry<R>>;

    fn answer(&self, view: &RecordView<R>) -> Option<Entry<R>> {
        view.get(&self.key).cloned()
    }

    fn scope(&self) -> diptych::Filter {
        Row::<R>::filter(&self.key)
    }
}
