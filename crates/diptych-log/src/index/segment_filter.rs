//! A group file says for each name which of up to 64 consecutive segments may have it. So a look-up
//! does not have to search the index of each segment. The file is derived from the index files and
//! never synced; if it is unusable, it is rebuilt.
//!
//! ```text
//!  0  magic     8 bytes "DIPTYGRP"
//!  8  format    u16     3
//! 10  width     u16     bytes of a set of segments: 1 or 8
//! 12  first     u32     sequence of the first segment
//! 16  segments  u32     number of segments, at most 8 times the width
//! 20  names     u32     number of names
//! 24  bits      u32     number of the top bits of a hash that select its bucket
//! 28  checksum  u32     CRC-32C of the rest of the file
//! 32  seed      16 bytes, the key of the hash of names
//! 48  marks     for each segment u64: the running checksum of all its frames, from the record that
//!               begins the next segment; 0 if the segment has no event, or if an older
//!               version wrote the next segment
//!     buckets   2^bits + 1 x u32: where each begins in the hashes, and where the last ends
//!     hashes    names x u32, ascending
//!     sets      for each hash `width` bytes: bit n stands for segment first + n
//! ```
//!
//! Names are tags, types and keys, stored by a hash of 32 bits: see the module `hash`. Two names
//! with the same hash share a set, so a look-up may search a segment without a match. A look-up
//! never leaves out a segment that has a match.

use std::iter::Peekable;

use bytes::Bytes;
use diptych_store::{Filter, FilterItem};

use super::hash::{Name, Seed};

const MAGIC: &[u8; 8] = b"DIPTYGRP";
const FORMAT: u16 = 3;
const HEADER: usize = 48;
/// Offset of the seed in the header, behind the checksum.
const SEED: usize = 32;
/// Average number of names in a bucket.
const BUCKET: usize = 8;

/// The names that a look-up needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NameQuery<'a> {
    /// The look-up is for any name, so every segment may have a match.
    Any,
    One(Name<'a>),
    Filter(&'a Filter),
}

impl<'a> NameQuery<'a> {
    pub(crate) fn of(filter: &'a Filter) -> NameQuery<'a> {
        match filter.is_everything() {
            true => NameQuery::Any,
            false => NameQuery::Filter(filter),
        }
    }
}

/// The hash of a name, and the segments that have it.
pub(super) type FilterEntry = (u32, u64);

/// The hashes of the names in one segment, ascending and without duplicates.
#[derive(Debug)]
pub(crate) struct SegmentHashes(Vec<u32>);

impl SegmentHashes {
    pub(crate) fn new(mut hashes: Vec<u32>) -> SegmentHashes {
        hashes.sort_unstable();
        hashes.dedup();
        hashes.shrink_to_fit();
        SegmentHashes(hashes)
    }
}

/// The entries of consecutive segments.
pub(crate) fn of_segments(
    segments: &[SegmentHashes],
) -> MergedEntries<impl Iterator<Item = FilterEntry> + Clone> {
    let sources = (0..).zip(segments).map(|(segment, SegmentHashes(hashes))| {
        let set = 1_u64.checked_shl(segment).unwrap_or(0);
        hashes.iter().map(move |hash| (*hash, set)).peekable()
    });
    MergedEntries { sources: sources.collect() }
}

/// The entries of consecutive groups that share a seed.
pub(crate) fn merge(
    groups: &[SegmentFilter],
) -> MergedEntries<impl Iterator<Item = FilterEntry> + Clone> {
    let begin = groups.first().map_or(0, |group| group.first);
    let sources = groups.iter().map(|group| {
        let shift = group.first - begin;
        let shifted = move |(hash, set): FilterEntry| (hash, set.checked_shl(shift).unwrap_or(0));
        group.entries().map(shifted).peekable()
    });
    MergedEntries { sources: sources.collect() }
}

/// Merges the ascending entries of several sources one by one, so that memory never has all
/// entries.
#[derive(Clone, Debug)]
pub(crate) struct MergedEntries<I: Iterator<Item = FilterEntry>> {
    sources: Vec<Peekable<I>>,
}

impl<I: Iterator<Item = FilterEntry>> Iterator for MergedEntries<I> {
    type Item = FilterEntry;

    fn next(&mut self) -> Option<FilterEntry> {
        let heads = self.sources.iter_mut().filter_map(|source| source.peek().map(|head| head.0));
        let least = heads.min()?;
        let mut all = 0;
        for source in &mut self.sources {
            if let Some((_, set)) = source.next_if(|(hash, _)| *hash == least) {
                all |= set;
            }
        }
        Some((least, all))
    }
}

/// The bytes of a group file. `entries` are ascending by hash, and each hash occurs once.
pub(crate) fn encode(
    first: u32,
    marks: &[u64],
    entries: impl Iterator<Item = FilterEntry> + Clone,
    seed: Seed,
) -> Vec<u8> {
    let width: u16 = if marks.len() <= 8 { 1 } else { 8 };
    let names = entries.clone().count();
    let bits = (names / BUCKET).max(1).ilog2();
    let around = HEADER + marks.len() * 8 + ((1 << bits) + 1) * 4;
    let mut out = Vec::with_capacity(around + names * (4 + usize::from(width)));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&width.to_le_bytes());
    let put = |out: &mut Vec<u8>, number: u32| out.extend_from_slice(&number.to_le_bytes());
    for number in [first, marks.len() as u32, names as u32, bits, 0] {
        put(&mut out, number);
    }
    out.extend_from_slice(&seed.to_bytes());
    marks.iter().for_each(|mark| out.extend_from_slice(&mark.to_le_bytes()));
    let (mut at, mut hashes) = (0, entries.clone().map(|(hash, _)| hash).peekable());
    for bucket in 0..=1_u64 << bits {
        while hashes.next_if(|hash| u64::from(*hash) >> (32 - bits) < bucket).is_some() {
            at += 1;
        }
        put(&mut out, at);
    }
    entries.clone().for_each(|(hash, _)| put(&mut out, hash));
    for (_, set) in entries {
        out.extend_from_slice(set.to_le_bytes().get(..usize::from(width)).unwrap_or(&[]));
    }
    let checksum = checksum(&out);
    if let Some(place) = out.get_mut(28..SEED) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
    out
}

fn checksum(bytes: &[u8]) -> u32 {
    let header = crc32c::crc32c(bytes.get(..28).unwrap_or(&[]));
    crc32c::crc32c_append(header, bytes.get(SEED..).unwrap_or(&[]))
}

/// Whether these bytes are a whole group file of an older format, which cannot be used any more.
pub(crate) fn is_older(bytes: &[u8]) -> bool {
    let field = |at: usize, size: usize| bytes.get(at..at + size).unwrap_or(&[]);
    let older = (1..FORMAT).any(|format| field(8, 2) == format.to_le_bytes());
    bytes.starts_with(MAGIC) && older && field(28, 4) == checksum(bytes).to_le_bytes()
}

/// A group file whose checksum is correct.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFilter {
    bytes: Bytes,
    pub(crate) checksum: u32,
    /// Sequence of its first segment.
    pub(crate) first: u32,
    pub(crate) segments: u32,
    pub(crate) seed: Seed,
    names: usize,
    bits: u32,
    width: usize,
    buckets: usize,
    hashes: usize,
    sets: usize,
}

impl SegmentFilter {
    /// Checks the bytes of a group file; `None` if the file is not whole or has another format.
    pub(crate) fn parse(bytes: Bytes) -> Option<SegmentFilter> {
        let found = checksum(&bytes);
        SegmentFilter::parse_again(bytes, found)
    }

    /// The group file in these bytes; `None` if it is not the file with the checksum `before`. That
    /// file was checked earlier, so its checksum is not computed again.
    pub(crate) fn parse_again(bytes: Bytes, before: u32) -> Option<SegmentFilter> {
        let u16_at = |at| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let u32_at = |at| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        if !bytes.starts_with(MAGIC) || u16_at(8)? != FORMAT || before != u32_at(28)? {
            return None;
        }
        let (first, segments, names, bits) = (u32_at(12)?, u32_at(16)?, u32_at(20)?, u32_at(24)?);
        let (width, names) = (usize::from(u16_at(10)?), names as usize);
        let buckets = HEADER.checked_add((segments as usize).checked_mul(8)?)?;
        let hashes = buckets.checked_add((1_usize.checked_shl(bits)? + 1).checked_mul(4)?)?;
        let sets = hashes.checked_add(names.checked_mul(4)?)?;
        let seed = Seed::from_bytes(*bytes.get(SEED..)?.first_chunk()?);
        let whole = sets.checked_add(names.checked_mul(width)?)? == bytes.len();
        let fits = bits < 32 && segments as usize <= width * 8 && [1, 8].contains(&width);
        (whole && fits).then_some(SegmentFilter {
            bytes,
            checksum: before,
            first,
            segments,
            seed,
            names,
            bits,
            width,
            buckets,
            hashes,
            sets,
        })
    }

    fn u32_in(&self, start: usize, index: usize) -> Option<u32> {
        let bytes = self.bytes.get(start + index * 4..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }

    fn set(&self, index: usize) -> Option<u64> {
        let bytes = self.bytes.get(self.sets + index * self.width..)?;
        match self.width {
            1 => bytes.first().map(|set| u64::from(*set)),
            _ => bytes.first_chunk().map(|set| u64::from_le_bytes(*set)),
        }
    }

    /// The mark of a segment. `segment` counts from the first segment of the group.
    pub(crate) fn mark(&self, segment: u32) -> Option<u64> {
        let bytes = self.bytes.get(HEADER + segment as usize * 8..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }

    /// Bytes of its file.
    pub(crate) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn entries(&self) -> impl Iterator<Item = FilterEntry> + Clone {
        (0..self.names).filter_map(|at| Some((self.u32_in(self.hashes, at)?, self.set(at)?)))
    }

    /// The segments that may have a name with this hash: bit n stands for `first` + n.
    fn find(&self, hash: u32) -> u64 {
        let bucket = (u64::from(hash) >> (32 - self.bits)) as usize;
        let start = self.u32_in(self.buckets, bucket).unwrap_or(0) as usize;
        let end = self.u32_in(self.buckets, bucket + 1).unwrap_or(0) as usize;
        for at in start..end.min(self.names) {
            match self.u32_in(self.hashes, at) {
                Some(found) if found == hash => return self.set(at).unwrap_or(u64::MAX),
                Some(found) if found < hash => {}
                _ => break,
            }
        }
        0
    }

    /// The segments that may have this name.
    pub(crate) fn find_name(&self, name: Name<'_>) -> u64 {
        self.find(name.hash(self.seed))
    }

    /// The segments that may have a match of this query.
    pub(crate) fn having(&self, wanted: NameQuery<'_>) -> u64 {
        match wanted {
            NameQuery::Any => u64::MAX,
            NameQuery::One(name) => self.find_name(name),
            NameQuery::Filter(filter) => {
                filter.items().iter().fold(0, |set, item| set | self.having_item(item))
            }
        }
    }

    fn having_item(&self, item: &FilterItem) -> u64 {
        let types = item.types.iter().map(|name| self.find_name(Name::Type(name)));
        let types = match item.types.is_empty() {
            true => u64::MAX,
            false => types.fold(0, |set, one| set | one),
        };
        let tags = item.tags.iter().map(|tag| self.find_name(Name::Tag(tag.as_str())));
        tags.fold(types, |set, one| set & one)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seed() -> Seed {
        Seed::from_bytes(*b"0123456789abcdef")
    }

    fn group(first: u32, segments: &[Vec<u32>]) -> SegmentFilter {
        let hash = |name: &u32| Name::Tag(&format!("k:{name}")).hash(seed());
        let hashes = segments.iter().map(|names| names.iter().map(hash).collect());
        let hashes: Vec<_> = hashes.map(SegmentHashes::new).collect();
        let marks: Vec<u64> = (0..segments.len() as u64).map(|segment| segment + 100).collect();
        SegmentFilter::parse(encode(first, &marks, of_segments(&hashes), seed()).into()).unwrap()
    }

    proptest! {
        #[test]
        fn no_segment_that_has_a_name_is_left_out(
            segments in proptest::collection::vec(proptest::collection::vec(0u32..300, 0..200), 16),
        ) {
            let eights: Vec<SegmentFilter> =
                [0, 8].map(|from| group(41 + from as u32, &segments[from..from + 8])).into();
            let marks = [7; 16];
            let bytes = encode(41, &marks, merge(&eights), seed());
            let both = SegmentFilter::parse(bytes.into()).unwrap();
            for name in 0..310 {
                let expected = (0..).zip(&segments).filter(|(_, names)| names.contains(&name));
                let expected = expected.fold(0_u64, |set, (segment, _)| set | 1 << segment);
                let hash = Name::Tag(&format!("k:{name}")).hash(seed());
                prop_assert_eq!(both.find(hash), expected);
                prop_assert_eq!(eights[0].find(hash) | eights[1].find(hash) << 8, expected);
            }
        }

        #[test]
        fn malformed_groups_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = [&MAGIC[..], &[3, 0], &bytes].concat();
            if bytes.len() > HEADER {
                let checksum = checksum(&bytes);
                bytes[28..SEED].copy_from_slice(&checksum.to_le_bytes());
            }
            if let Some(group) = SegmentFilter::parse(bytes.into()) {
                let _ = (group.find(7), group.entries().take(1000).count(), group.mark(3));
            }
        }
    }

    #[test]
    fn a_tag_a_type_and_a_key_with_one_text_are_different_names() {
        let entries = [Name::Tag("a:1"), Name::Type("paid"), Name::Key("k")];
        let hashes = entries.map(|name| SegmentHashes::new(vec![name.hash(seed())]));
        let bytes = encode(1, &[1, 2, 3], of_segments(&hashes), seed());
        let group = SegmentFilter::parse(bytes.into()).unwrap();
        let set = |name| group.having(NameQuery::One(name));
        assert_eq!(
            [set(Name::Tag("a:1")), set(Name::Type("paid")), set(Name::Key("k"))],
            [1, 2, 4]
        );
        assert_eq!([set(Name::Tag("paid")), set(Name::Type("k")), set(Name::Key("a:1"))], [0; 3]);
        let tag = || Filter::tag(diptych_store::Tag::new("a", 1));
        assert_eq!(group.having(NameQuery::Filter(&tag())), 1);
        assert_eq!(group.having(NameQuery::Filter(&Filter::types(["paid", "none"]))), 2);
        assert_eq!(group.having(NameQuery::Filter(&Filter::everything())), u64::MAX);
    }

    #[test]
    fn a_file_that_is_not_whole_is_no_group() {
        let bytes = encode(1, &[9; 8], (0..40).map(|at| (at * 99, 5)), seed());
        assert!(SegmentFilter::parse(bytes.clone().into()).is_some());
        for length in 0..bytes.len() {
            assert!(
                SegmentFilter::parse(bytes[..length].to_vec().into()).is_none(),
                "cut at {length}"
            );
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentFilter::parse(flipped.into()).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = encode(9, &[5, 0], [(0x1000_0000, 1), (0x9000_0000, 3)].into_iter(), seed());
        let expected: &[u8] = &[
            3, 0, 1, 0, 9, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, // header
        ];
        assert_eq!((&bytes[..8], &bytes[8..28]), (&MAGIC[..], expected));
        let body: &[u8] = &[
            5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // marks
            0, 0, 0, 0, 2, 0, 0, 0, // buckets
            0, 0, 0, 0x10, 0, 0, 0, 0x90, // hashes
            1, 3, // sets
        ];
        assert_eq!(&bytes[SEED..HEADER], b"0123456789abcdef");
        assert_eq!(&bytes[HEADER..], body);
    }
}
