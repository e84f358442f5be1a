//! Which key goes with which others.

use std::collections::{BTreeMap, BTreeSet};

/// Pairs, found by their first half.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Relation<A, B> {
    of: BTreeMap<A, Few<B>>,
    pairs: usize,
}

/// One or more. Most often it is one, which needs no memory of its own.
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
    pub(super) fn of(&self, one: &A) -> Option<&Few<B>> {
        self.of.get(one)
    }

    pub(super) fn firsts(&self) -> impl Iterator<Item = &A> {
        self.of.keys()
    }

    pub(super) fn insert(&mut self, one: &A, other: B) {
        let Some(few) = self.of.get_mut(one) else {
            self.of.insert(one.clone(), Few::One(other));
            self.pairs += 1;
            return;
        };
        self.pairs += usize::from(few.insert(other));
    }

    pub(super) fn remove(&mut self, one: &A, other: &B) {
        let last = match self.of.get_mut(one) {
            Some(Few::One(only)) if only == other => None,
            Some(Few::More(more)) if more.contains(other) => {
                more.remove(other);
                if more.len() > 1 {
                    self.pairs -= 1;
                    return;
                }
                more.pop_first()
            }
            _ => return,
        };
        self.pairs -= 1;
        match last {
            Some(last) => drop(self.of.insert(one.clone(), Few::One(last))),
            None => drop(self.of.remove(one)),
        }
    }

    /// About what it holds, without what the keys own.
    pub(super) fn heap_bytes(&self) -> usize {
        let beyond_the_first = self.pairs - self.of.len();
        in_tree::<(A, Few<B>)>(self.of.len()) + in_tree::<B>(beyond_the_first)
    }
}

impl<B: Ord> Few<B> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &B> {
        let (one, more) = match self {
            Few::One(one) => (Some(one), None),
            Few::More(more) => (None, Some(more)),
        };
        one.into_iter().chain(more.into_iter().flatten())
    }

    /// Whether it was not there yet.
    fn insert(&mut self, new: B) -> bool {
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
}

/// About what so many entries take in a B-tree, whose nodes are two thirds full.
pub(super) fn in_tree<T>(entries: usize) -> usize {
    entries * size_of::<T>() * 3 / 2
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
                let firsts: Vec<i32> = relation.firsts().copied().collect();
                let pairs = |one| relation.of(one).into_iter().flat_map(Few::iter);
                let all: Vec<_> =
                    firsts.iter().flat_map(|one| pairs(one).map(|two| (*one, *two))).collect();
                prop_assert_eq!(&all, &model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(relation.pairs, model.len());
                // What it looks like is a function of what is in it.
                let mut anew = Relation::default();
                model.iter().rev().for_each(|(one, other)| anew.insert(one, *other));
                prop_assert_eq!(&anew, &relation);
            }
        }
    }
}
