//! Rows that note by themselves what is changed in them.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    ops::RangeBounds,
};

use serde::{Deserialize, Serialize};

use super::relation::{in_tree, stored};

/// Rows by key, in the order of the keys: what a [`Source`](super::Source) keeps and a
/// [`Derived`](super::Derived) makes.
///
/// It is a map. Every change goes through it, so that none is forgotten by what is derived from
/// the rows. To serde it is a map, too.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
#[serde(bound(
    serialize = "K: Serialize, R: Serialize",
    deserialize = "K: Deserialize<'de> + Ord, R: Deserialize<'de>"
))]
pub struct Rows<K, R> {
    rows: BTreeMap<K, R>,
    /// While an event is taken in: the rows that were changed, as they were before.
    #[serde(skip)]
    noted: Changes<K, R>,
}

/// Each row that was changed, as it was before: nothing if there was none. `None` instead of a
/// map if nobody noted, and anything may have changed.
pub(super) type Changes<K, R> = Option<BTreeMap<K, Option<R>>>;

impl<K: Ord + Clone, R: Clone> Rows<K, R> {
    /// Puts a row there, and answers with the one that was.
    pub fn insert(&mut self, key: K, row: R) -> Option<R> {
        let noted_as = self.noted.is_some().then(|| key.clone());
        let before = self.rows.insert(key, row);
        if let (Some(key), Some(noted)) = (noted_as, &mut self.noted) {
            noted.entry(key).or_insert_with(|| before.clone());
        }
        before
    }

    /// Takes a row away, and answers with it.
    pub fn remove(&mut self, key: &K) -> Option<R> {
        let before = self.rows.remove(key)?;
        if let Some(noted) = &mut self.noted {
            noted.entry(key.clone()).or_insert_with(|| Some(before.clone()));
        }
        Some(before)
    }

    /// A row, to change it.
    pub fn change(&mut self, key: &K) -> Option<&mut R> {
        let row = self.rows.get_mut(key)?;
        if let Some(noted) = &mut self.noted {
            noted.entry(key.clone()).or_insert_with(|| Some(row.clone()));
        }
        Some(row)
    }

    /// A row, to change it. One that is not there begins as its default.
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

    /// The rows whose keys are in this range, in their order. With a tuple as key this is an
    /// index: all that begin alike stand together.
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

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// About how many bytes they take: for [`Fold::heap_bytes`](crate::Fold::heap_bytes) of a
    /// source. What a key or a row owns elsewhere is not known, and counts as 32 bytes if there
    /// is something; add what is more.
    pub fn heap_bytes(&self) -> usize {
        in_tree(self.rows.len(), stored::<K>() + stored::<R>())
    }

    /// From now on changes are noted.
    pub(super) fn note(&mut self) {
        self.noted = Some(BTreeMap::new());
    }

    /// What was changed since; nothing is noted from now on.
    pub(super) fn noted(&mut self) -> Changes<K, R> {
        self.noted.take()
    }
}

impl<K, R> Default for Rows<K, R> {
    fn default() -> Rows<K, R> {
        Rows { rows: BTreeMap::new(), noted: None }
    }
}

/// A copy does not go on noting: whoever puts it in the place of the original has everything
/// derived again.
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
