//! Hash tables of named entries in the bytes of an index file: writing, searching, walking.

use super::hash::{self, Name, NameKind, Seed};
use crate::format::frame::{put_bytes, take_bytes};

/// A table of named entries, which are added in the order of their names.
pub(super) struct Table {
    seed: Seed,
    kind: NameKind,
    entries: Vec<u8>,
    /// The hash of each name, and 1 plus the offset of its entry.
    places: Vec<(u32, u32)>,
}

impl Table {
    pub(super) fn with_capacity(seed: Seed, kind: NameKind, names: usize) -> Table {
        let (entries, places) = (Vec::with_capacity(names * 32), Vec::with_capacity(names));
        Table { seed, kind, entries, places }
    }

    pub(super) fn add(&mut self, name: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        let hash = hash::hash(self.seed, self.kind, name);
        self.places.push((hash, self.entries.len() as u32 + 1));
        put_bytes(&mut self.entries, name);
        value(&mut self.entries);
    }

    pub(super) fn seed(&self) -> Seed {
        self.seed
    }

    pub(super) fn slots(&self) -> usize {
        // The table is at most two thirds full, so that a search ends after one or two steps.
        if self.places.is_empty() { 0 } else { (self.places.len() * 3 / 2).next_power_of_two() }
    }

    pub(super) fn size(&self) -> usize {
        self.slots() * 4 + self.entries.len()
    }

    /// Writes the table and returns the number of its slots.
    pub(super) fn put(&self, out: &mut Vec<u8>) -> u32 {
        let slots = self.slots();
        let mut table = vec![0_u32; slots];
        for (hash, place) in &self.places {
            let mut probes = (0..slots).map(|step| (*hash as usize + step) & (slots - 1));
            if let Some(free) = probes.find(|slot| table.get(*slot) == Some(&0))
                && let Some(slot) = table.get_mut(free)
            {
                *slot = *place;
            }
        }
        for slot in table {
            out.extend_from_slice(&slot.to_le_bytes());
        }
        out.extend_from_slice(&self.entries);
        slots as u32
    }
}

/// The number at this index among the numbers of four bytes.
pub(super) fn u32_in(bytes: &[u8], index: usize) -> Option<u32> {
    bytes.get(index.checked_mul(4)?..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// The bytes behind the name in the entry with this name.
pub(super) fn search<'a>(
    table: &'a [u8],
    slots: usize,
    name: Name<'_>,
    seed: Seed,
) -> Option<&'a [u8]> {
    if slots == 0 {
        return None;
    }
    let entries = table.get(slots.checked_mul(4)?..)?;
    let start = name.hash(seed) as usize;
    for step in 0..slots {
        let place = u32_in(table, start.wrapping_add(step) & (slots - 1))?.checked_sub(1)?;
        let (found, rest) = take_bytes(entries.get(place as usize..)?)?;
        if found == name.text().as_bytes() {
            return Some(rest);
        }
    }
    None
}

/// The name of every entry, and the bytes behind it.
pub(super) fn entries(table: &[u8], slots: usize) -> impl Iterator<Item = (&str, &[u8])> {
    let entries = slots.checked_mul(4).and_then(|start| table.get(start..)).unwrap_or(&[]);
    (0..slots).filter_map(move |slot| {
        let place = u32_in(table, slot)?.checked_sub(1)?;
        let (name, rest) = take_bytes(entries.get(place as usize..)?)?;
        Some((std::str::from_utf8(name).ok()?, rest))
    })
}
