//! The rows of one derivation, and which rows of the source each of them rests on.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Serialize, Serializer};

use super::{
    Derivation, Key, Row, Rows, Source,
    relation::{Few, Relation, in_tree},
    rows::Changes,
};

/// What one derivation made. Beside the rows everything is a function of the source's rows, as
/// the derivation is pure: so it is not compared and not serialised.
pub struct Table<D: Derivation> {
    pub(super) rows: Rows<D::Key, D::Value>,
    /// By which rows of the source a derived row is named. One that is named by none is not there.
    named: Relation<D::Key, Key<D>>,
    /// Which rows of the source were read to derive it, whether they were there or not; sorted.
    read: BTreeMap<D::Key, Box<[Key<D>]>>,
    /// The same from the other side.
    readers: Relation<Key<D>, D::Key>,
}

impl<D: Derivation> Table<D> {
    /// Derives what rests on one of these rows of the source, and nothing else.
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
            if before == now {
                continue;
            }
            let (named_before, named_now) = (names::<D>(key, before), names::<D>(key, now));
            for gone in named_before.difference(&named_now) {
                self.named.remove(gone, key);
                affected.insert(gone.clone());
            }
            for new in named_now.difference(&named_before) {
                self.named.insert(new, key.clone());
                affected.insert(new.clone());
            }
            affected.extend(self.readers.of(key).into_iter().flat_map(Few::iter).cloned());
        }
        affected
    }

    /// Whatever was or is named, when it is not known what changed.
    fn name_everything(&mut self, source: &Rows<Key<D>, Row<D>>) -> BTreeSet<D::Key> {
        let before = std::mem::take(&mut self.named);
        for (key, row) in source.iter() {
            let names = D::keys(key, row).into_iter();
            names.for_each(|name| self.named.insert(&name, key.clone()));
        }
        before.firsts().chain(self.named.firsts()).cloned().collect()
    }

    fn derive(&mut self, key: D::Key, source: &Rows<Key<D>, Row<D>>) {
        let derived = self.named.of(&key).map(|named_by| {
            let reads = Reads { source, named_by, read: RefCell::default() };
            let value = D::derive(&key, &reads);
            (value, reads.into_keys())
        });
        let (value, read) = derived.unwrap_or_default();
        self.now_reads(&key, read);
        match value {
            // A value that comes out as it was is no change to what is derived from it.
            Some(value) if self.rows.get(&key) == Some(&value) => {}
            Some(value) => drop(self.rows.insert(key, value)),
            None => drop(self.rows.remove(&key)),
        }
    }

    fn now_reads(&mut self, key: &D::Key, read: Box<[Key<D>]>) {
        let before = self.read.get(key).map_or(&[][..], |before| before);
        if *before == *read {
            return;
        }
        for gone in before.iter().filter(|row| read.binary_search(row).is_err()) {
            self.readers.remove(gone, key);
        }
        for new in read.iter().filter(|row| before.binary_search(row).is_err()) {
            self.readers.insert(new, key.clone());
        }
        match read.is_empty() {
            true => drop(self.read.remove(key)),
            false => drop(self.read.insert(key.clone(), read)),
        }
    }

    /// About what it holds, without what keys and values own.
    pub(super) fn heap_bytes(&self) -> usize {
        let lists: usize = self.read.values().map(|read| size_of_val(&**read)).sum();
        let read = in_tree::<(D::Key, Box<[Key<D>]>)>(self.read.len()) + lists;
        self.rows.heap_bytes() + self.named.heap_bytes() + read + self.readers.heap_bytes()
    }
}

/// The derived rows that a row of the source names.
fn names<D: Derivation>(key: &Key<D>, row: Option<&Row<D>>) -> BTreeSet<D::Key> {
    row.map(|row| D::keys(key, row).into_iter().collect()).unwrap_or_default()
}

/// The rows of the source as a derivation sees them. What it reads is remembered, so that it is
/// derived again when that changes.
pub struct Reads<'a, S: Source> {
    source: &'a Rows<S::Key, S::Row>,
    named_by: &'a Few<S::Key>,
    read: RefCell<Vec<S::Key>>,
}

impl<'a, S: Source> Reads<'a, S> {
    /// The row of this key. That there is none is remembered, too.
    pub fn get(&self, key: &S::Key) -> Option<&'a S::Row> {
        self.read.borrow_mut().push(key.clone());
        self.source.get(key)
    }

    /// The rows that [name](Derivation::keys) what is being derived, in the order of their keys.
    /// There is at least one.
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
        Table {
            rows: Rows::default(),
            named: Relation::default(),
            read: BTreeMap::new(),
            readers: Relation::default(),
        }
    }
}

impl<D: Derivation> Clone for Table<D> {
    fn clone(&self) -> Table<D> {
        Table {
            rows: self.rows.clone(),
            named: self.named.clone(),
            read: self.read.clone(),
            readers: self.readers.clone(),
        }
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
    /// Whether also that is alike which is not compared.
    pub(super) fn is_the_very_same(&self, other: &Table<D>) -> bool {
        let same_links = self.named == other.named && self.readers == other.readers;
        same_links && self.read == other.read && self.rows == other.rows
    }
}
