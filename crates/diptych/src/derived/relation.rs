//! A relation: each key with the set of its partners.

use std::collections::{BTreeMap, BTreeSet};

/// Pairs, found by their first half.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Relation<A, B> {
    of: BTreeMap<A, Few<B>>,
    pairs: usize,
}

/// One value or several. A single value, which is the common case, needs no allocation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Few<B> {
    One(B),
    /// At least two.
    More(BTreeSet<B>),
}

impl<A, B> Default for Relation<A, B> {
    fn default() -> Relation<A, B> {
        Relation { of: BTreeMap::new(), pairs: 0 }
    }
}

impl<A: Ord + Clone, B: Ord> Relation<A, B> {
    pub(super) fn of<'a>(&'a self, one: &A) -> impl Iterator<Item = &'a B> + use<'a, A, B> {
        self.of.get(one).into_iter().flat_map(Few::iter)
    }

    pub(super) fn insert(&mut self, one: &A, other: B) {
        let is_new = match self.of.get_mut(one) {
            Some(few) => few.insert(other),
            None => self.of.insert(one.clone(), Few::One(other)).is_none(),
        };
        self.pairs += usize::from(is_new);
    }

    pub(super) fn remove(&mut self, one: &A, other: &B) {
        match self.of.get_mut(one).map_or(Removal::Nothing, |few| few.remove(other)) {
            Removal::Nothing => return,
            Removal::One => {}
            Removal::Last => drop(self.of.remove(one)),
        }
        self.pairs -= 1;
    }

    /// How many pairs there are.
    pub(super) fn pairs(&self) -> usize {
        self.pairs
    }

    /// Approximate heap bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let firsts = self.of.len();
        in_tree(firsts, stored::<A>() + stored::<B>()) + in_tree(self.pairs - firsts, stored::<B>())
    }
}

/// The outcome of a removal.
pub(super) enum Removal {
    /// The value was not in the set.
    Nothing,
    One,
    /// The value is the only one, and is still in the set: the owner must drop the whole set.
    Last,
}

impl<B: Ord> Few<B> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &B> {
        let (one, more) = match self {
            Few::One(one) => (Some(one), None),
            Few::More(more) => (None, Some(more)),
        };
        one.into_iter().chain(more.into_iter().flatten())
    }

    /// Adds a value. True if it was not there yet.
    pub(super) fn insert(&mut self, new: B) -> bool {
        match self {
            Few::One(one) if *one == new => false,
            Few::One(_) => {
                let one = std::mem::replace(self, Few::More(BTreeSet::from([new])));
                if let (Few::One(one), Few::More(more)) = (one, self) {
                    more.insert(one);
                }
                true
            }
            Few::More(more) => more.insert(new),
        }
    }

    pub(super) fn remove(&mut self, gone: &B) -> Removal {
        match self {
            Few::One(one) if one == gone => Removal::Last,
            Few::One(_) => Removal::Nothing,
            Few::More(more) => {
                if !more.remove(gone) {
                    return Removal::Nothing;
                }
                if more.len() == 1
                    && let Some(one) = more.pop_first()
                {
                    *self = Few::One(one);
                }
                Removal::One
            }
        }
    }
}

/// Approximate bytes of `entries` entries in a B-tree, whose nodes are at least half full.
pub(super) fn in_tree(entries: usize, entry_bytes: usize) -> usize {
    2 * entries * entry_bytes
}

/// Approximate bytes of one value. The size of memory that it owns elsewhere is unknown: if it owns
/// some, such as text, that counts as one small allocation.
pub(super) fn stored<T>() -> usize {
    const OWNED_BYTES: usize = 32;
    size_of::<T>() + if std::mem::needs_drop::<T>() { OWNED_BYTES } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_pairs(
            steps in prop::collection::vec((any::<bool>(), 0..4, 0..5), 0..60),
        ) {
            let (mut relation, mut model) = (Relation::default(), BTreeSet::new());
            for (adds, one, other) in steps {
                match adds {
                    true => {
                        relation.insert(&one, other);
                        model.insert((one, other));
                    }
                    false => {
                        relation.remove(&one, &other);
                        model.remove(&(one, other));
                    }
                }
                let ones = 0..4;
                let pairs = ones.flat_map(|one| relation.of(&one).map(move |two| (one, *two)));
                prop_assert!(pairs.eq(model.iter().copied()));
                prop_assert_eq!(relation.pairs(), model.len());
                // Equal contents have one representation.
                let mut anew = Relation::default();
                model.iter().rev().for_each(|(one, other)| anew.insert(one, *other));
                prop_assert_eq!(&anew, &relation);
            }
        }
    }
}
