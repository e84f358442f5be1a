//! Tables in memory by the names that users choose: tags, types and keys.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
};

use siphasher::sip::SipHasher13;

/// The hash has a random key, so that users cannot choose names that collide.
pub(crate) type ByName<N, V> = hashbrown::HashMap<N, V, NameHash>;

/// The hash of one name: SipHash-1-3 in one step. A standard table takes a name in two steps, which
/// costs more.
///
/// The key is random for each table. With one key for all, names that come out of one table in the
/// order of their hashes would crowd in a smaller table that they are put into.
#[derive(Clone, Copy)]
pub(crate) struct NameHash(u64, u64);

impl Default for NameHash {
    fn default() -> NameHash {
        let random = RandomState::new();
        NameHash(random.hash_one(0), random.hash_one(1))
    }
}

/// Hides the key: a key that is printed is no longer secret.
impl fmt::Debug for NameHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameHash")
    }
}

impl BuildHasher for NameHash {
    type Hasher = NameHasher;

    fn build_hasher(&self) -> NameHasher {
        NameHasher { sip: SipHasher13::new_with_keys(self.0, self.1), hash: 0 }
    }
}

/// Hashes one name.
pub(crate) struct NameHasher {
    sip: SipHasher13,
    hash: u64,
}

impl Hasher for NameHasher {
    fn write(&mut self, name: &[u8]) {
        self.hash = self.sip.hash(name);
    }

    /// A text is followed by this byte, so that two texts cannot be taken for one. A name is one
    /// text, so the byte is left out.
    fn write_u8(&mut self, _end: u8) {}

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hash_alike_whatever_holds_them_and_otherwise_apart() {
        let hash = NameHash::default();
        let names: Vec<String> = (0..1_000).map(|number| format!("account:{number}")).collect();
        let mut hashes: Vec<u64> = names.iter().map(|name| hash.hash_one(name)).collect();
        for (name, hashed) in names.iter().zip(&hashes) {
            assert_eq!(hash.hash_one(name.as_str()), *hashed);
            assert_eq!(hash.hash_one(compact_str::CompactString::from(name)), *hashed);
        }
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 1_000);
    }

    #[test]
    fn each_table_has_other_hashes() {
        let (one, other) = (NameHash::default(), NameHash::default());
        assert_ne!(one.hash_one("account:1"), other.hash_one("account:1"));
        assert_ne!(one.hash_one(""), other.hash_one(""));
    }
}
