//! The rows of one derivation, and which rows of the source each of them rests on.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Serialize, Serializer};

use super::{
    Derivation, Key, Row, Rows, Source,
    relation::{Few, Relation, Removal, in_tree, stored},
    rows::Changes,
};

/// The result of one derivation. The other fields are neither compared nor serialised: derivations
/// are pure, so these fields follow from the source's rows.
pub struct Table<D: Derivation> {
    pub(super) rows: Rows<D::Key, D::Value>,
    /// The inputs of each derived row that a row of the source names, even if its derivation gave
    /// no value.
    links: BTreeMap<D::Key, Links<Key<D>>>,
    /// The reverse of `Links::read`: the derived rows that read a row of the source.
    readers: Relation<Key<D>, D::Key>,
}

/// The rows of the source that one derived row depends on.
#[derive(Clone, PartialEq)]
struct Links<K> {
    named_by: Few<K>,
    /// The keys that its derivation looked up, found or not; sorted.
    read: Box<[K]>,
}

impl<D: Derivation> Table<D> {
    /// Derives again the rows that depend on these changes, or all rows if the changes are unknown.
    pub(super) fn follow(
        &mut self,
        source: &Rows<Key<D>, Row<D>>,
        changes: &Changes<Key<D>, Row<D>>,
    ) {
        let affected = match changes {
            Some(changes) => self.affected(source, changes),
            None => self.name_everything(source),
        };
        for key in affected {
            self.derive(key, source);
        }
    }

    fn affected(
        &mut self,
        source: &Rows<Key<D>, Row<D>>,
        changes: &BTreeMap<Key<D>, Option<Row<D>>>,
    ) -> BTreeSet<D::Key> {
        let mut affected = BTreeSet::new();
        for (key, before) in changes {
            let (before, now) = (before.as_ref(), source.get(key));
            // They are equal if a change was undone, or if a source that is itself a `Derived`
            // derived an equal row again.
            if before == now {
                continue;
            }
            affected.extend(self.readers.of(key).cloned());
            let (named_before, named_now) = (names::<D>(key, before), names::<D>(key, now));
            for gone in named_before.difference(&named_now) {
                self.unname(gone, key);
                affected.insert(gone.clone());
            }
            for new in named_now.difference(&named_before) {
                self.name(new, key);
                affected.insert(new.clone());
            }
        }
        affected
    }

    /// Links all rows anew, because the changes are unknown.
    fn name_everything(&mut self, source: &Rows<Key<D>, Row<D>>) -> BTreeSet<D::Key> {
        let before = std::mem::take(&mut self.links);
        before.keys().for_each(|key| drop(self.rows.remove(key)));
        self.readers = Relation::default();
        for (key, row) in source.iter() {
            D::keys(key, row).into_iter().for_each(|name| self.name(&name, key));
        }
        self.links.keys().cloned().collect()
    }

    fn name(&mut self, key: &D::Key, by: &Key<D>) {
        match self.links.get_mut(key) {
            Some(links) => drop(links.named_by.insert(by.clone())),
            None => {
                let links = Links { named_by: Few::One(by.clone()), read: Box::default() };
                self.links.insert(key.clone(), links);
            }
        }
    }

    /// Removes a link, and the derived row with its last link.
    fn unname(&mut self, key: &D::Key, by: &Key<D>) {
        let removed = self.links.get_mut(key).map(|links| links.named_by.remove(by));
        let Some(Removal::Last) = removed else {
            return;
        };
        let read = self.links.remove(key).map(|links| links.read).unwrap_or_default();
        read.iter().for_each(|row| self.readers.remove(row, key));
        self.rows.remove(key);
    }

    fn derive(&mut self, key: D::Key, source: &Rows<Key<D>, Row<D>>) {
        let Some(links) = self.links.get_mut(&key) else {
            return; // `affected` has just removed it.
        };
        let reads = Reads { source, named_by: &links.named_by, read: RefCell::default() };
        let value = D::derive(&key, &reads);
        let read = reads.into_keys();
        if links.read != read {
            let before = std::mem::replace(&mut links.read, read);
            let now = &links.read;
            for gone in before.iter().filter(|row| now.binary_search(row).is_err()) {
                self.readers.remove(gone, &key);
            }
            for new in now.iter().filter(|row| before.binary_search(row).is_err()) {
                self.readers.insert(new, key.clone());
            }
        }
        match value {
            Some(value) => drop(self.rows.insert(key, value)),
            None => drop(self.rows.remove(&key)),
        }
    }

    /// Approximate heap bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let (key, row) = (stored::<D::Key>(), stored::<Key<D>>());
        let links = in_tree(self.links.len(), key + row + size_of::<Box<[Key<D>]>>());
        let read = self.readers.pairs() * row;
        self.rows.heap_bytes() + links + read + self.readers.heap_bytes()
    }
}

/// The derived rows that a row of the source names.
fn names<D: Derivation>(key: &Key<D>, row: Option<&Row<D>>) -> BTreeSet<D::Key> {
    row.map(|row| D::keys(key, row).into_iter().collect()).unwrap_or_default()
}

/// The rows of the source as a derivation sees them. It records each look-up, so that the derived
/// row is derived again when its input changes.
pub struct Reads<'a, S: Source> {
    source: &'a Rows<S::Key, S::Row>,
    named_by: &'a Few<S::Key>,
    read: RefCell<Vec<S::Key>>,
}

impl<'a, S: Source> Reads<'a, S> {
    /// The row of this key. A look-up that finds none is recorded too.
    pub fn get(&self, key: &S::Key) -> Option<&'a S::Row> {
        self.read.borrow_mut().push(key.clone());
        self.source.get(key)
    }

    /// The rows that [name](Derivation::keys) the key that is being derived, in the order of their
    /// keys. There is at least one.
    pub fn named_by(&self) -> impl Iterator<Item = (&'a S::Key, &'a S::Row)> {
        self.named_by.iter().filter_map(|key| Some((key, self.get(key)?)))
    }

    fn into_keys(self) -> Box<[S::Key]> {
        let mut read = self.read.into_inner();
        read.sort_unstable();
        read.dedup();
        read.into_boxed_slice()
    }
}

impl<S: Source> fmt::Debug for Reads<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").field("rows", &self.source.len()).finish_non_exhaustive()
    }
}

impl<D: Derivation> Default for Table<D> {
    fn default() -> Table<D> {
        Table { rows: Rows::default(), links: BTreeMap::new(), readers: Relation::default() }
    }
}

impl<D: Derivation> Clone for Table<D> {
    fn clone(&self) -> Table<D> {
        Table { rows: self.rows.clone(), links: self.links.clone(), readers: self.readers.clone() }
    }
}

impl<D: Derivation> PartialEq for Table<D> {
    fn eq(&self, other: &Table<D>) -> bool {
        self.rows == other.rows
    }
}

impl<D: Derivation<Key: fmt::Debug, Value: fmt::Debug>> fmt::Debug for Table<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.fmt(f)
    }
}

impl<D: Derivation<Key: Serialize, Value: Serialize>> Serialize for Table<D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.rows.serialize(serializer)
    }
}

#[cfg(test)]
impl<D: Derivation> Table<D> {
    /// Whether the links are equal too, which `==` does not compare.
    pub(super) fn is_the_very_same(&self, other: &Table<D>) -> bool {
        let same_links = self.links == other.links && self.readers == other.readers;
        same_links && self.rows == other.rows
    }
}
