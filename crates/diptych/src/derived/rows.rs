//! Rows that record their own changes.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    ops::RangeBounds,
};

use serde::{Deserialize, Serialize};

use super::relation::{in_tree, stored};

/// Rows by key, in the order of the keys: the state of a [`Source`](super::Source), and the result
/// of a [`Derived`](super::Derived).
///
/// It is a map that records every change, so that derived rows never miss one. Serde sees a map
/// too.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
#[serde(bound(
    serialize = "K: Serialize, R: Serialize",
    deserialize = "K: Deserialize<'de> + Ord, R: Deserialize<'de>"
))]
pub struct Rows<K, R> {
    rows: BTreeMap<K, R>,
    /// While an event is applied: the rows that it changed, as they were before.
    #[serde(skip)]
    noted: Changes<K, R>,
}

/// Each changed row as it was before, or nothing if there was none. `None` instead of a map if
/// changes were not recorded: any row may have changed.
pub(super) type Changes<K, R> = Option<BTreeMap<K, Option<R>>>;

impl<K: Ord + Clone, R: Clone> Rows<K, R> {
    /// Inserts a row, and returns the previous row of this key.
    pub fn insert(&mut self, key: K, row: R) -> Option<R> {
        let noted_as = self.noted.is_some().then(|| key.clone());
        let before = self.rows.insert(key, row);
        if let (Some(key), Some(noted)) = (noted_as, &mut self.noted) {
            noted.entry(key).or_insert_with(|| before.clone());
        }
        before
    }

    /// Removes a row, and returns it.
    pub fn remove(&mut self, key: &K) -> Option<R> {
        let before = self.rows.remove(key)?;
        if let Some(noted) = &mut self.noted {
            noted.entry(key.clone()).or_insert_with(|| Some(before.clone()));
        }
        Some(before)
    }

    /// Mutable access to a row, or `None` if there is no such row.
    pub fn change(&mut self, key: &K) -> Option<&mut R> {
        let row = self.rows.get_mut(key)?;
        if let Some(noted) = &mut self.noted {
            noted.entry(key.clone()).or_insert_with(|| Some(row.clone()));
        }
        Some(row)
    }

    /// Mutable access to a row. A missing row is inserted with its default value.
    pub fn change_or_default(&mut self, key: K) -> &mut R
    where
        R: Default,
    {
        match (self.rows.entry(key), &mut self.noted) {
            (Entry::Occupied(row), Some(noted)) => {
                noted.entry(row.key().clone()).or_insert_with(|| Some(row.get().clone()));
                row.into_mut()
            }
            (Entry::Vacant(row), Some(noted)) => {
                noted.entry(row.key().clone()).or_insert(None);
                row.insert(R::default())
            }
            (entry, None) => entry.or_default(),
        }
    }
}

impl<K: Ord, R> Rows<K, R> {
    /// The row of this key.
    pub fn get<Q>(&self, key: &Q) -> Option<&R>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.rows.get(key)
    }

    /// The rows whose keys are in this range, in their order. With a tuple as key this is an index:
    /// rows whose keys begin with the same parts stand together.
    pub fn range<Q>(&self, keys: impl RangeBounds<Q>) -> impl DoubleEndedIterator<Item = (&K, &R)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.rows.range(keys)
    }
}

impl<K, R> Rows<K, R> {
    /// All rows, in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &R)> + ExactSizeIterator {
        self.rows.iter()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Approximate bytes of the rows, for [`Fold::heap_bytes`](crate::Fold::heap_bytes) of a
    /// source. The size of memory that a key or a row owns elsewhere is unknown. If its type can
    /// own some, that counts as 32 bytes; add the rest.
    pub fn heap_bytes(&self) -> usize {
        in_tree(self.rows.len(), stored::<K>() + stored::<R>())
    }

    /// Starts to record changes.
    pub(super) fn note(&mut self) {
        self.noted = Some(BTreeMap::new());
    }

    /// Stops recording changes, and returns those since `note`.
    pub(super) fn noted(&mut self) -> Changes<K, R> {
        self.noted.take()
    }
}

impl<K, R> Default for Rows<K, R> {
    fn default() -> Rows<K, R> {
        Rows { rows: BTreeMap::new(), noted: None }
    }
}

/// A copy does not record changes. If a source puts a copy in place of its rows, all derived rows
/// are derived again.
impl<K: Clone, R: Clone> Clone for Rows<K, R> {
    fn clone(&self) -> Rows<K, R> {
        Rows { rows: self.rows.clone(), noted: None }
    }
}

impl<K: PartialEq, R: PartialEq> PartialEq for Rows<K, R> {
    fn eq(&self, other: &Rows<K, R>) -> bool {
        self.rows == other.rows
    }
}

impl<K: Eq, R: Eq> Eq for Rows<K, R> {}

impl<K: fmt::Debug, R: fmt::Debug> fmt::Debug for Rows<K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.fmt(f)
    }
}

impl<K: Ord, R> FromIterator<(K, R)> for Rows<K, R> {
    fn from_iter<I: IntoIterator<Item = (K, R)>>(rows: I) -> Rows<K, R> {
        Rows { rows: rows.into_iter().collect(), noted: None }
    }
}
