//! A group file says for each name which of up to 64 consecutive segments may have it. So a look-up
//! does not have to search the index of each segment. The file is derived from the index files and
//! never synced; if it is unusable, it is rebuilt.
//!
//! ```text
//!  0  magic     8 bytes "DIPTYGRP"
//!  8  format    u16     4
//! 10  width     u16     bytes of a set of segments: 1 or 8
//! 12  first     u32     sequence of the first segment
//! 16  segments  u32     number of segments, at most 8 times the width
//! 20  names     u32     number of names
//! 24  bits      u32     number of the top bits of a hash that select its bucket
//! 28  checksum  u32     CRC-32C of the header, the marks and the sums
//! 32  seed      16 bytes, the key of the hash of names
//! 48  marks     for each segment u64: the running checksum of all its frames, from the record that
//!               begins the next segment; 0 if the segment has no event, or if an older
//!               version wrote the next segment
//!     sums      for each page of 4,096 bytes of all that follows u32: its CRC-32C
//!     buckets   2^bits + 1 x u32: where each begins in the hashes, and where the last ends
//!     hashes    names x u32, ascending
//!     sets      for each hash `width` bytes: bit n stands for segment first + n
//! ```
//!
//! A look-up reads and checks only the pages that it needs, so a large file need not be read as a
//! whole. In a damaged page every segment may have every name. A file of format 3 has no sums, and
//! its checksum is of all other bytes.
//!
//! Names are tags, types and keys, stored by a hash of 32 bits: see the module `hash`. Two names
//! with the same hash share a set, so a look-up may search a segment without a match. A look-up
//! never leaves out a segment that has a match.

use std::{
    iter::Peekable,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use diptych_store::{Filter, FilterItem};

use super::hash::{Name, Seed};

mod pages;

use pages::{PAGE, Pages};

const MAGIC: &[u8; 8] = b"DIPTYGRP";
const FORMAT: u16 = 4;
/// The oldest format that is read, and the last one without sums of pages.
const WITHOUT_SUMS: u16 = 3;
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
    let sums = HEADER + marks.len() * 8;
    let content = ((1 << bits) + 1) * 4 + names * (4 + usize::from(width));
    let from = sums + content.div_ceil(PAGE) * 4;
    let mut out = Vec::with_capacity(from + content);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&width.to_le_bytes());
    let put = |out: &mut Vec<u8>, number: u32| out.extend_from_slice(&number.to_le_bytes());
    for number in [first, marks.len() as u32, names as u32, bits, 0] {
        put(&mut out, number);
    }
    out.extend_from_slice(&seed.to_bytes());
    marks.iter().for_each(|mark| out.extend_from_slice(&mark.to_le_bytes()));
    out.resize(from, 0);
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
    if let Some((front, content)) = out.split_at_mut_checked(from) {
        let places = front.get_mut(sums..).unwrap_or(&mut []).chunks_exact_mut(4);
        for (place, page) in places.zip(content.chunks(PAGE)) {
            place.copy_from_slice(&crc32c::crc32c(page).to_le_bytes());
        }
    }
    let checksum = checksum(out.get(..from).unwrap_or(&[]));
    if let Some(place) = out.get_mut(28..SEED) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
    out
}

/// The checksum of these first bytes, apart from its own place.
fn checksum(bytes: &[u8]) -> u32 {
    let header = crc32c::crc32c(bytes.get(..28).unwrap_or(&[]));
    crc32c::crc32c_append(header, bytes.get(SEED..).unwrap_or(&[]))
}

/// Whether all bytes of a group file have to be read before it is used.
pub(crate) fn is_read_whole(bytes: &[u8]) -> bool {
    bytes.get(8..10) == Some(&WITHOUT_SUMS.to_le_bytes())
}

/// Whether these bytes are a whole group file of an older format, which cannot be used any more.
pub(crate) fn is_older(bytes: &[u8]) -> bool {
    let field = |at: usize, size: usize| bytes.get(at..at + size).unwrap_or(&[]);
    let older = (1..WITHOUT_SUMS).any(|format| field(8, 2) == format.to_le_bytes());
    bytes.starts_with(MAGIC) && older && field(28, 4) == checksum(bytes).to_le_bytes()
}

/// The parts of a group file, by their offsets.
struct Parts {
    first: u32,
    segments: u32,
    names: usize,
    bits: u32,
    width: usize,
    seed: Seed,
    sums: usize,
    /// Number of pages; `None` in a file without sums.
    pages: Option<usize>,
    /// Where the buckets begin. In a file with sums, the checksum covers what is before them.
    buckets: usize,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A group file whose checksum is correct. Its pages are checked when they are read.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFilter {
    bytes: Bytes,
    pages: Arc<Pages>,
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
    /// Checks the front of a group file; `None` if it is not whole or has another format. A file
    /// without sums of pages is checked as a whole.
    pub(crate) fn parse(bytes: Bytes) -> Option<SegmentFilter> {
        let front = match is_read_whole(&bytes) {
            true => bytes.len(),
            false => SegmentFilter::parts_of(&bytes)?.buckets,
        };
        let found = checksum(bytes.get(..front)?);
        SegmentFilter::parse_again(bytes, found)
    }

    /// The group file in these bytes; `None` if it is not the file with the checksum `before`. That
    /// file was checked earlier, so its checksum is not computed again.
    pub(crate) fn parse_again(bytes: Bytes, before: u32) -> Option<SegmentFilter> {
        let parts = SegmentFilter::parts_of(&bytes)?;
        let Parts { first, segments, names, bits, width, seed, sums, pages, buckets } = parts;
        if before != u32_at(&bytes, 28)? {
            return None;
        }
        let hashes = buckets + ((1 << bits) + 1) * 4;
        let sets = hashes + names * 4;
        let pages = Arc::new(Pages::new(sums, pages));
        Some(SegmentFilter {
            bytes,
            pages,
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

    /// The parts of a group file, if these bytes have its form.
    fn parts_of(bytes: &[u8]) -> Option<Parts> {
        let format = u16_at(bytes, 8)?;
        if !bytes.starts_with(MAGIC) || !(WITHOUT_SUMS..=FORMAT).contains(&format) {
            return None;
        }
        let number = |at| u32_at(bytes, at);
        let (first, segments, names, bits) = (number(12)?, number(16)?, number(20)?, number(24)?);
        let (width, names) = (usize::from(u16_at(bytes, 10)?), names as usize);
        let sums = HEADER.checked_add((segments as usize).checked_mul(8)?)?;
        let content = (1_usize.checked_shl(bits)?.checked_add(1)?).checked_mul(4)?;
        let content = content.checked_add(names.checked_mul(4)?)?;
        let content = content.checked_add(names.checked_mul(width)?)?;
        let pages = (format > WITHOUT_SUMS).then(|| content.div_ceil(PAGE));
        let buckets = sums.checked_add(pages.unwrap_or(0).checked_mul(4)?)?;
        let seed = Seed::from_bytes(*bytes.get(SEED..)?.first_chunk()?);
        let whole = buckets.checked_add(content)? == bytes.len();
        let fits = bits < 32 && segments as usize <= width * 8 && [1, 8].contains(&width);
        (whole && fits).then_some(Parts {
            first,
            segments,
            names,
            bits,
            width,
            seed,
            sums,
            pages,
            buckets,
        })
    }

    /// Whether every page is whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.pages.are_whole(&self.bytes, self.pages.from, self.bytes.len())
    }

    /// Whether a page that was read is damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        self.pages.is_damaged.load(Ordering::Relaxed)
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

    /// The segments that may have a name with this hash: bit n stands for `first` + n. If a page
    /// is damaged, these are all segments.
    fn find(&self, hash: u32) -> u64 {
        let whole = |start, end| self.pages.are_whole(&self.bytes, start, end);
        let bucket = (u64::from(hash) >> (32 - self.bits)) as usize;
        let at = self.buckets + bucket * 4;
        if !whole(at, at + 8) {
            return u64::MAX;
        }
        let start = self.u32_in(self.buckets, bucket).unwrap_or(0) as usize;
        let end = self.u32_in(self.buckets, bucket + 1).unwrap_or(0) as usize;
        let end = end.min(self.names);
        if !whole(self.hashes + start * 4, self.hashes + end * 4) {
            return u64::MAX;
        }
        for at in start..end {
            match self.u32_in(self.hashes, at) {
                Some(found) if found == hash => {
                    let set = self.sets + at * self.width;
                    let is_whole = whole(set, set + self.width);
                    return self.set(at).filter(|_| is_whole).unwrap_or(u64::MAX);
                }
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
mod tests;
