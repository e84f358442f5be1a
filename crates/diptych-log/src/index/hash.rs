//! The hash of names in index and group files: SipHash-1-3 under a key that is random for each log.
//!
//! Users choose tags, types and keys. With a hash that a user can compute, such as a CRC, the user
//! could choose many names that fall on one slot of a table. Each new name would then be compared
//! with all names before it. So the key must stay where the index is: the log never derives it from
//! its id, and never puts it into an answer, a token or a backup.
//!
//! Each file contains the key of its own hashes, so that it can be read by itself. A log continues
//! to use the key of its newest index file, because only groups with the same key can be merged.

use std::{fmt, hash::Hasher};

use siphasher::sip::SipHasher13;
use uuid::Uuid;

/// The key of the hash.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seed([u8; Seed::BYTES]);

impl Seed {
    pub(crate) const BYTES: usize = 16;

    pub(crate) fn random() -> Seed {
        Seed(Uuid::new_v4().into_bytes())
    }

    pub(crate) fn from_bytes(bytes: [u8; Seed::BYTES]) -> Seed {
        Seed(bytes)
    }

    pub(crate) fn to_bytes(self) -> [u8; Seed::BYTES] {
        self.0
    }
}

/// Hides the key: a key that is printed is no longer secret.
impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

/// A name to look up in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    Tag(&'a str),
    Type(&'a str),
    Key(&'a str),
}

impl<'a> Name<'a> {
    pub(crate) fn text(self) -> &'a str {
        match self {
            Name::Tag(text) | Name::Type(text) | Name::Key(text) => text,
        }
    }

    pub(crate) fn hash(self, seed: Seed) -> u32 {
        match self {
            Name::Tag(text) => hash(seed, NameKind::Tag, text.as_bytes()),
            Name::Type(text) => hash(seed, NameKind::Type, text.as_bytes()),
            Name::Key(text) => hash(seed, NameKind::Key, text.as_bytes()),
        }
    }
}

/// The kind of a name. The hash includes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameKind {
    Tag,
    Type,
    Key,
}

/// The low 32 bits of the hash of the name, followed by a byte for its kind.
pub(crate) fn hash(seed: Seed, kind: NameKind, name: &[u8]) -> u32 {
    let mut hasher = SipHasher13::new_with_key(&seed.0);
    hasher.write(name);
    hasher.write_u8(kind as u8);
    hasher.finish() as u32
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Files contain these hashes, so every version of the hash crate must compute the same ones.
    #[test]
    fn golden_hashes() {
        let seed = Seed::from_bytes(*b"0123456789abcdef");
        let hashes = [Name::Tag("account:1"), Name::Type("paid"), Name::Key("")];
        assert_eq!(
            hashes.map(|name| name.hash(seed)),
            [3_882_824_340, 1_419_626_861, 3_971_438_729]
        );
    }

    /// Distinct names with the same CRC-32C. A CRC is linear. Each name has one of two letters at
    /// each of 64 places. There are at least 32 independent sets of places whose letters can change
    /// together without changing the CRC. The sums of these sets do not change it either.
    pub(crate) fn of_one_crc(count: usize) -> Vec<String> {
        const PLACES: usize = 64;
        let plain = [b'a'; PLACES];
        let effect = |place: usize| {
            let mut changed = plain;
            changed[place] = b'b';
            crc32c::crc32c(&plain) ^ crc32c::crc32c(&changed)
        };
        // Rows that are not zero yet: their effect, and the places that they combine.
        let mut rows: Vec<(u32, u64)> =
            (0..PLACES).map(|place| (effect(place), 1 << place)).collect();
        for bit in 0..32 {
            let Some(pivot) = rows.iter().position(|(effect, _)| effect >> bit & 1 == 1) else {
                continue;
            };
            let (pivot, places) = rows.swap_remove(pivot);
            for (effect, combined) in &mut rows {
                if *effect >> bit & 1 == 1 {
                    (*effect, *combined) = (*effect ^ pivot, *combined ^ places);
                }
            }
        }
        let name = |number: usize| {
            let chosen = rows.iter().enumerate().filter(|(at, _)| number >> at & 1 == 1);
            let places = chosen.fold(0, |sum, (_, (_, places))| sum ^ places);
            let letter = |place: usize| if places >> place & 1 == 1 { 'b' } else { 'a' };
            (0..PLACES).map(letter).collect::<String>()
        };
        (0..count).map(name).collect()
    }

    #[test]
    fn crafted_names_are_distinct_and_share_one_crc() {
        let names = of_one_crc(1_000);
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), 1_000);
        let crc = crc32c::crc32c(names[0].as_bytes());
        assert!(names.iter().all(|name| crc32c::crc32c(name.as_bytes()) == crc));
    }
}
