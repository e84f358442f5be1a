//! Sets without an order of their own.
//!
//! To serde a hash set is a sequence in the order of its table. Its parts look like those of a
//! list, but its type does not: serde passes a collection to `Serializer::collect_seq` as a whole,
//! and there `type_name` names the type. A set that serialises itself part by part, or goes through
//! `erased_serde`, is not recognised. Such a set is taken in the order that it gives.

use std::any::type_name;

/// Iterator adapters that keep the order of the parts.
const ADAPTERS: [&str; 5] =
    ["cloned::Cloned", "copied::Copied", "filter::Filter", "filter_map::FilterMap", "map::Map"];
/// Modules of hash tables, whose iterators have no order.
const TABLES: [&str; 4] = [
    "std::collections::hash::map::",
    "std::collections::hash::set::",
    "hashbrown::map::",
    "hashbrown::set::",
];

/// Whether the iterator `I` runs over a hash set or parts of a hash table.
pub(crate) fn is_unordered<I>() -> bool {
    is_unordered_name(type_name::<I>())
}

fn is_unordered_name(mut name: &str) -> bool {
    loop {
        name = name.trim_start_matches('&').trim_start_matches("mut ");
        let (path, parameters) = name.split_once('<').unwrap_or((name, ""));
        let adapter = path.strip_prefix("core::iter::adapters::");
        if adapter.is_some_and(|adapter| ADAPTERS.contains(&adapter)) {
            // The first parameter is the adapted iterator.
            name = parameters;
            continue;
        }
        // The name of a slice or a tuple of sets begins with a bracket.
        let is_path =
            path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte));
        let is_set = is_path && path.rsplit("::").next() == Some("HashSet");
        return is_set || TABLES.iter().any(|table| path.starts_with(table));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};

    use super::*;

    fn of<I>(_: I) -> bool {
        is_unordered::<I>()
    }

    /// `type_name` has no stability guarantee: if this fails with a new compiler, the names have
    /// changed.
    #[test]
    fn hash_sets_and_parts_of_hash_tables_are_known_by_their_type() {
        let set = HashSet::from([1, 2]);
        let map = HashMap::from([(1, "a")]);
        assert!(of(&set));
        assert!(of(set.iter()));
        assert!(of(set.iter().copied().map(|part| part + 1).filter(|part| *part > 1)));
        assert!(of(set.iter().filter_map(Some)));
        assert!(of(set.union(&set).cloned()));
        assert!(of(set.clone()));
        assert!(of(set.into_iter()));
        assert!(of(&HashSet::<Vec<u8>, foldhash::fast::RandomState>::default()));
        assert!(of(map.keys()));
        assert!(of(map.values()));
        assert!(of(&map));
        assert!(of(map.into_keys()));
    }

    #[test]
    fn what_has_an_order_is_not_taken_for_a_set() {
        let sets = vec![HashSet::from([1])];
        assert!(!of(&sets));
        assert!(!of(sets.as_slice()));
        assert!(!of(sets.iter().map(|set| set.len())));
        assert!(!of(sets.iter().rev()));
        assert!(!of(&VecDeque::from([HashSet::from([1])])));
        assert!(!of(&LinkedList::from([1])));
        assert!(!of(&BTreeSet::from([1])));
        assert!(!of(&BinaryHeap::from([1])));
        assert!(!of([HashSet::from([1])]));
        assert!(!of(0..3));
        let mut sorted: Vec<_> = HashSet::from([2, 1]).into_iter().collect();
        sorted.sort_unstable();
        assert!(!of(sorted.iter().map(|part| HashSet::from([*part]))));
    }

    #[test]
    fn sets_of_other_crates_are_known_by_their_names() {
        for name in [
            "&hashbrown::set::HashSet<u8, ahash::RandomState>",
            "hashbrown::set::Iter<u8>",
            "&im::hash::set::HashSet<u8>",
            "core::iter::adapters::copied::Copied<std::collections::hash::set::Iter<u8>>",
        ] {
            assert!(is_unordered_name(name), "{name}");
        }
        for name in [
            "&alloc::vec::Vec<HashSet>",
            "&[mine::HashSet]",
            "(mine::HashSet, mine::HashSet)",
            "mine::HashSetOf<u8>",
            "&indexmap::set::IndexSet<u8>",
            "<",
            "",
        ] {
            assert!(!is_unordered_name(name), "{name}");
        }
    }
}
