//! Lists of ascending positions: how they are written, and how a cursor walks them.
//!
//! ```text
//! count    varint
//! skips    if there is more than one block, for each: u32 its first position,
//!          u32 the offset of its deltas behind the skips
//! deltas   varints: in each block the first position, then for each further position its
//!          distance from the position before it
//! ```
//!
//! A block has up to 128 positions, so that a jump decodes one block instead of the whole list.

use std::cmp::Ordering;

use diptych_store::encoding::{put_varint, take_varint};

/// Positions in one block.
const BLOCK: usize = 128;

pub(crate) fn encode(positions: &[u32], out: &mut Vec<u8>) {
    put_varint(out, positions.len() as u64);
    if positions.len() <= BLOCK {
        return put_deltas(positions, out);
    }
    let mut deltas = Vec::new();
    for block in positions.chunks(BLOCK) {
        out.extend_from_slice(&block.first().copied().unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&(deltas.len() as u32).to_le_bytes());
        put_deltas(block, &mut deltas);
    }
    out.extend_from_slice(&deltas);
}

fn put_deltas(positions: &[u32], out: &mut Vec<u8>) {
    let mut before = 0;
    for position in positions {
        put_varint(out, u64::from(position - before));
        before = *position;
    }
}

/// Decodes the list at the front of `bytes`, adds `shift` to each of its positions and appends them
/// to `out`. Returns the bytes behind the list.
pub(super) fn decode<'a>(bytes: &'a [u8], shift: u32, out: &mut Vec<u32>) -> Option<&'a [u8]> {
    let (count, rest) = take_varint(bytes)?;
    let count = usize::try_from(count).ok()?;
    let skips = if count > BLOCK { count.div_ceil(BLOCK).checked_mul(8)? } else { 0 };
    let mut rest = rest.get(skips..)?;
    let mut position = 0_u32;
    for at in 0..count {
        if at % BLOCK == 0 {
            position = 0;
        }
        let delta;
        (delta, rest) = take_varint(rest)?;
        position = position.wrapping_add(delta as u32);
        out.push(position.wrapping_add(shift));
    }
    Some(rest)
}

/// A list of ascending positions, in memory or encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Postings<'a> {
    Plain(&'a [u32]),
    Encoded { count: usize, skips: &'a [u8], deltas: &'a [u8] },
}

impl<'a> Postings<'a> {
    pub(crate) const EMPTY: Postings<'static> = Postings::Plain(&[]);

    /// The encoded list at the front of `bytes`.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Postings<'a>> {
        let (count, rest) = take_varint(bytes)?;
        let count = usize::try_from(count).ok()?;
        let skip_bytes = if count > BLOCK { count.div_ceil(BLOCK).checked_mul(8)? } else { 0 };
        let (skips, deltas) = rest.split_at_checked(skip_bytes)?;
        Some(Postings::Encoded { count, skips, deltas })
    }

    /// Number of positions.
    pub(crate) fn len(&self) -> usize {
        match self {
            Postings::Plain(positions) => positions.len(),
            Postings::Encoded { count, .. } => *count,
        }
    }

    fn blocks(&self) -> usize {
        self.len().div_ceil(BLOCK)
    }

    /// The number of the block that would hold `position`.
    fn block_of(&self, position: u32) -> usize {
        let Postings::Encoded { skips, .. } = self else {
            return 0;
        };
        let (mut low, mut high) = (0, skips.len() / 8);
        while low < high {
            let middle = low.midpoint(high);
            match skip(skips, middle).map_or(Ordering::Greater, |(first, _)| first.cmp(&position)) {
                Ordering::Less | Ordering::Equal => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        low.saturating_sub(1)
    }

    fn decode(&self, block: usize, out: &mut Vec<u32>) {
        out.clear();
        let Postings::Encoded { count, skips, deltas } = *self else {
            return;
        };
        let start = skip(skips, block).map_or(0, |(_, offset)| offset as usize);
        let length = count.saturating_sub(block * BLOCK).min(BLOCK);
        let mut rest = deltas.get(start..).unwrap_or(&[]);
        let mut position = 0_u32;
        for _ in 0..length {
            let Some((delta, after)) = take_varint(rest) else {
                return;
            };
            position = position.wrapping_add(delta as u32);
            out.push(position);
            rest = after;
        }
    }

    /// All positions.
    pub(crate) fn to_vec(self) -> Vec<u32> {
        if let Postings::Plain(positions) = self {
            return positions.to_vec();
        }
        let (mut all, mut block) = (Vec::new(), Vec::new());
        for number in 0..self.blocks() {
            self.decode(number, &mut block);
            all.extend_from_slice(&block);
        }
        all
    }

    /// How many positions are below `position`.
    pub(crate) fn rank(self, position: u32) -> usize {
        if let Postings::Plain(positions) = self {
            return positions.partition_point(|at| *at < position);
        }
        let (block, mut decoded) = (self.block_of(position), Vec::new());
        self.decode(block, &mut decoded);
        block * BLOCK + decoded.partition_point(|at| *at < position)
    }
}

fn skip(skips: &[u8], block: usize) -> Option<(u32, u32)> {
    let entry = skips.get(block.checked_mul(8)?..)?.first_chunk::<8>()?;
    let [a, b, c, d, e, f, g, h] = *entry;
    Some((u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])))
}

/// Walks a list by jumps. The cursor keeps the block that it decoded last, so that a jump within
/// this block decodes nothing.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    postings: Postings<'a>,
    block: Option<usize>,
    decoded: Vec<u32>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(postings: Postings<'a>) -> Cursor<'a> {
        Cursor { postings, block: None, decoded: Vec::new() }
    }

    /// The first position at or after `position`.
    pub(crate) fn at_or_after(&mut self, position: u32) -> Option<u32> {
        if let Postings::Plain(positions) = self.postings {
            return positions.get(positions.partition_point(|at| *at < position)).copied();
        }
        let mut block = self.postings.block_of(position);
        loop {
            let decoded = self.load(block)?;
            let at = decoded.partition_point(|at| *at < position);
            if let Some(found) = decoded.get(at) {
                return Some(*found);
            }
            block += 1;
        }
    }

    /// The last position at or before `position`.
    pub(crate) fn at_or_before(&mut self, position: u32) -> Option<u32> {
        if let Postings::Plain(positions) = self.postings {
            let after = positions.partition_point(|at| *at <= position);
            return positions.get(after.checked_sub(1)?).copied();
        }
        let decoded = self.load(self.postings.block_of(position))?;
        let after = decoded.partition_point(|at| *at <= position);
        decoded.get(after.checked_sub(1)?).copied()
    }

    fn load(&mut self, block: usize) -> Option<&[u32]> {
        if block >= self.postings.blocks() {
            return None;
        }
        if self.block != Some(block) {
            self.postings.decode(block, &mut self.decoded);
            self.block = Some(block);
        }
        Some(&self.decoded)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn encoded_and_plain_lists_give_the_same_answers(
            gaps in proptest::collection::vec(1u32..400, 0..700),
            jumps in proptest::collection::vec(0u32..300_000, 1..20),
        ) {
            let mut at = 0;
            let positions: Vec<u32> = gaps.iter().map(|gap| { at += gap; at - 1 }).collect();
            let mut bytes = Vec::new();
            encode(&positions, &mut bytes);
            let encoded = Postings::parse(&bytes).unwrap();
            let plain = Postings::Plain(&positions);
            prop_assert_eq!(encoded.to_vec(), positions.clone());
            let (mut one, mut other) = (Cursor::new(encoded), Cursor::new(plain));
            for jump in jumps {
                let jump = jump % (at + 2);
                prop_assert_eq!(encoded.rank(jump), plain.rank(jump));
                prop_assert_eq!(one.at_or_after(jump), other.at_or_after(jump));
                prop_assert_eq!(one.at_or_before(jump), other.at_or_before(jump));
            }
        }

        #[test]
        fn malformed_lists_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(postings) = Postings::parse(&bytes) && postings.len() < 10_000 {
                let mut cursor = Cursor::new(postings);
                let _ = (cursor.at_or_after(7), cursor.at_or_before(7), postings.rank(9));
            }
        }
    }
}
