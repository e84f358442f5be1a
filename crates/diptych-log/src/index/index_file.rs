//! An index file: the columns of a run of events of one segment. It is derived from the segment and
//! never synced; if it is missing, torn or of another format, it is rebuilt.
//!
//! ```text
//!  0  magic     8 bytes "DIPTYIDX"
//!  8  format    u16     3
//! 10  width     u16     bytes of a type number: 1, 2 or 4
//! 12  segment   u32     sequence of the segment
//! 16  seal      u32     checksum of the segment's header
//! 20  count     u32     events
//! 24  first     u64     position of the first event
//! 32  end       u64     offset in the segment after the last frame that is covered
//! 40  time      u64     time of that frame
//! 48  sections  6 x u32 where offsets, types, names, tags, keys and tracking start
//! 72  slots     2 x u32 slots of the tag and of the key table, powers of two
//! 80  checksum  u32     CRC-32C of the rest of the file
//! 84  reserved  4 bytes of zeros
//! 88  seed      16 bytes, the key of the hash of names
//! 104 proof     u64     offset of the checkpoint record that binds this file, or 0
//! 112 chain     u64     the running checksum in that record: see the module `chain`
//! 120 offsets   for each 64 events: u32 where their block starts, from the first block; a block is
//!               u32 base, u8 width, then for each event its frame's offset minus base
//!     types     for each event: its type's number
//!     names     varint count, then for each: varint length, UTF-8
//!     tags      slots x u32 (entry's offset behind the slots + 1, or 0), then entries:
//!               varint length, tag, postings
//!     keys      likewise: varint length, key, digest (16 bytes), u32 first event, u32 events
//!     tracking  every source up to `end`, as in a control record
//! ```
//!
//! A search in a table begins at the slot that the low bits of the name's hash select, and goes on
//! to the next slots: see the module `hash`.

use bytes::Bytes;
use compact_str::CompactString;
use diptych_store::{Digest, KeyedCommit, Position, encoding::put_varint, encoding::take_varint};

use super::{
    columns::Columns,
    hash::{Name, NameKind, Seed},
    name_table::{Table, entries, search, u32_in},
    postings::{self, Postings},
};
use crate::format::{
    chain::Chain,
    frame::{TrackingTable, put_bytes, put_table, take_table, take_text},
};

const MAGIC: &[u8; 8] = b"DIPTYIDX";
const FORMAT: u16 = 3;
pub(crate) const HEADER: usize = 120;
/// Offset of the seed in the header.
const SEED: usize = 88;
/// Number of events in a block; their offsets share a base.
const BLOCK: usize = 64;

/// The records that an index file covers, and how it is bound to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Sequence of the segment.
    pub(crate) segment: u32,
    /// Checksum of the segment's header.
    pub(crate) checksum: u32,
    /// Offset in the segment after the last frame that is covered.
    pub(crate) end: u64,
    /// Time of the last frame that is covered, since the segment's base time.
    pub(crate) time: u64,
    /// Offset of the checkpoint record that binds the file to the records before that offset; 0 if
    /// a version without checkpoint records wrote the segment.
    pub(crate) proof: u64,
    /// The running checksum in the record at `proof`. If there is no such record, this is the
    /// checksum of the whole segment where the next segment contains it, and otherwise the checksum
    /// of a sample of frames.
    pub(crate) chain: Chain,
    /// Tracking of every source up to `end`.
    pub(crate) tracking: TrackingTable,
}

impl Coverage {
    /// The evidence of a file with this coverage.
    pub(crate) fn evidence(&self) -> IndexFileEvidence {
        let Coverage { segment, checksum, end, .. } = *self;
        IndexFileEvidence { segment, checksum, end }
    }
}

/// The name is `segment-first-last.run`, so that a listing shows which events a file covers.
pub(crate) fn file_name(segment: u32, first: Position, last: Position) -> String {
    format!("{segment:08}-{:020}-{:020}.run", first.get(), last.get())
}

pub(crate) fn parse_file_name(name: &str) -> Option<(u32, Position, Position)> {
    let mut parts = name.strip_suffix(".run")?.split('-');
    let segment = parts.next()?.parse().ok()?;
    let first = Position::new(parts.next()?.parse().ok()?);
    let last = Position::new(parts.next()?.parse().ok()?);
    parts.next().is_none().then_some((segment, first, last))
}

/// Evidence of a whole index file: the segment was durable up to `end` when the file was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexFileEvidence {
    pub(crate) segment: u32,
    pub(crate) checksum: u32,
    pub(crate) end: u64,
}

/// The evidence of an index file of this or an older format, if it is whole. A file of an older
/// format cannot be used any more, but its evidence stays true.
pub(crate) fn evidence(bytes: &[u8]) -> Option<IndexFileEvidence> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let format = u16::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
    // The checksum covers the same bytes in all formats.
    let checksum = crc32c::crc32c(bytes.get(..80)?);
    let checksum = crc32c::crc32c_append(checksum, bytes.get(SEED..)?);
    let whole = bytes.starts_with(MAGIC) && (1..=FORMAT).contains(&format);
    let end = u64::from_le_bytes(*bytes.get(32..)?.first_chunk()?);
    let found = IndexFileEvidence { segment: u32_at(12)?, checksum: u32_at(16)?, end };
    (whole && checksum == u32_at(80)?).then_some(found)
}

/// The seed in the header of an index file of this format.
pub(crate) fn seed_in(header: &[u8]) -> Option<Seed> {
    let of_this_format = header.starts_with(MAGIC) && header.get(8..10)? == FORMAT.to_le_bytes();
    let seed = header.get(SEED..)?.first_chunk()?;
    of_this_format.then_some(Seed::from_bytes(*seed))
}

/// The offset in the segment where the index file with this header says that it ends; `None` if
/// this is no such header.
pub(crate) fn end_in(header: &[u8]) -> Option<u64> {
    let end = header.get(32..)?.first_chunk()?;
    header.starts_with(MAGIC).then(|| u64::from_le_bytes(*end))
}

/// The bytes of an index file.
pub(crate) fn encode(columns: &Columns, coverage: &Coverage, seed: Seed) -> Vec<u8> {
    let by_name = |one: &CompactString, other: &CompactString| one.as_bytes().cmp(other.as_bytes());
    let mut tags = Table::with_capacity(seed, NameKind::Tag, columns.tags.len());
    let mut sorted: Vec<_> = columns.tags.iter().collect();
    sorted.sort_unstable_by(|(one, _), (other, _)| by_name(one, other));
    for (tag, positions) in sorted {
        tags.add(tag.as_bytes(), |out| postings::encode(positions, out));
    }
    let mut keys = Table::with_capacity(seed, NameKind::Key, columns.keys.len());
    let mut sorted: Vec<_> = columns.keys.iter().collect();
    sorted.sort_unstable_by(|(one, _), (other, _)| by_name(one, other));
    for (key, commit) in sorted {
        keys.add(key.as_bytes(), |out| {
            out.extend_from_slice(&commit.digest.0);
            let first = commit.first.get().wrapping_sub(columns.first.get()) as u32;
            let events = (commit.last.get() - commit.first.get() + 1) as u32;
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&events.to_le_bytes());
        });
    }
    let Columns { first, offsets, types, type_names, .. } = columns;
    assemble(&Body { first: *first, offsets, types, type_names, tags, keys }, coverage)
}

/// The columns and tables that an index file is made of.
pub(super) struct Body<'a> {
    pub(super) first: Position,
    pub(super) offsets: &'a [u32],
    pub(super) types: &'a [u32],
    pub(super) type_names: &'a [CompactString],
    pub(super) tags: Table,
    pub(super) keys: Table,
}

pub(super) fn assemble(body: &Body<'_>, coverage: &Coverage) -> Vec<u8> {
    let tables = body.tags.size() + body.keys.size();
    let mut out = Vec::with_capacity(HEADER + body.offsets.len() * 8 + tables + 256);
    out.resize(SEED, 0);
    out.extend_from_slice(&body.tags.seed().to_bytes());
    out.extend_from_slice(&coverage.proof.to_le_bytes());
    out.extend_from_slice(&coverage.chain.to_u64().to_le_bytes());
    let mut sections = Vec::new();
    let mut begin = |out: &Vec<u8>| sections.push(out.len() as u32);
    begin(&out);
    put_offsets(&mut out, body.offsets);
    begin(&out);
    let width: u16 = match body.type_names.len() {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    };
    for number in body.types {
        out.extend_from_slice(number.to_le_bytes().get(..usize::from(width)).unwrap_or(&[]));
    }
    begin(&out);
    put_varint(&mut out, body.type_names.len() as u64);
    for name in body.type_names {
        put_bytes(&mut out, name.as_bytes());
    }
    begin(&out);
    let tag_slots = body.tags.put(&mut out);
    begin(&out);
    let key_slots = body.keys.put(&mut out);
    begin(&out);
    put_table(&mut out, &coverage.tracking);

    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&width.to_le_bytes());
    header.extend_from_slice(&coverage.segment.to_le_bytes());
    header.extend_from_slice(&coverage.checksum.to_le_bytes());
    header.extend_from_slice(&(body.offsets.len() as u32).to_le_bytes());
    header.extend_from_slice(&body.first.get().to_le_bytes());
    header.extend_from_slice(&coverage.end.to_le_bytes());
    header.extend_from_slice(&coverage.time.to_le_bytes());
    for number in sections.iter().chain(&[tag_slots, key_slots]) {
        header.extend_from_slice(&number.to_le_bytes());
    }
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header), out.get(SEED..).unwrap_or(&[]));
    header.extend_from_slice(&checksum.to_le_bytes());
    if let Some(place) = out.get_mut(..header.len()) {
        place.copy_from_slice(&header);
    }
    out
}

fn put_offsets(out: &mut Vec<u8>, offsets: &[u32]) {
    let mut blocks = Vec::new();
    for block in offsets.chunks(BLOCK) {
        out.extend_from_slice(&(blocks.len() as u32).to_le_bytes());
        // The offsets in a clustered segment do not ascend.
        let base = block.iter().min().copied().unwrap_or(0);
        let span = block.iter().max().copied().unwrap_or(0) - base;
        let width = if span < 1 << 16 { 2 } else { 4 };
        blocks.extend_from_slice(&base.to_le_bytes());
        blocks.push(width as u8);
        for offset in block {
            let bytes = (offset - base).to_le_bytes();
            blocks.extend_from_slice(bytes.get(..width).unwrap_or(&[]));
        }
    }
    out.extend_from_slice(&blocks);
}

/// The checksum and the length of an index file. The checksum covers all its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexFileId {
    checksum: u32,
    bytes: usize,
}

/// An index file whose checksum is correct.
#[derive(Clone, Debug)]
pub(crate) struct IndexFile {
    bytes: Bytes,
    checksum: u32,
    first: Position,
    count: u32,
    width: usize,
    sections: [usize; 6],
    tag_slots: usize,
    key_slots: usize,
    type_names: Vec<CompactString>,
    /// The numbers of the types, sorted by name, so that a binary search finds a name.
    types_by_name: Vec<u32>,
    seed: Seed,
}

impl IndexFile {
    /// Checks the bytes of an index file; `None` if the file is not whole or has another format.
    pub(crate) fn parse(bytes: Bytes) -> Option<(IndexFile, Coverage)> {
        let checksum = crc32c::crc32c(bytes.get(..80)?);
        let checksum = crc32c::crc32c_append(checksum, bytes.get(SEED..)?);
        let run = IndexFile::parse_checked(bytes).filter(|run| run.checksum == checksum)?;
        if !run.has_each_offset() {
            return None;
        }
        let coverage = run.coverage()?;
        Some((run, coverage))
    }

    /// The index file in these bytes; `None` if it is not the file with the id `before`. That file
    /// was checked earlier, so its checksum is not computed again.
    pub(crate) fn parse_again(bytes: Bytes, before: IndexFileId) -> Option<IndexFile> {
        IndexFile::parse_checked(bytes).filter(|run| run.id() == before)
    }

    /// Parses an index file whose checksum the caller checks.
    fn parse_checked(bytes: Bytes) -> Option<IndexFile> {
        let header = bytes.first_chunk::<HEADER>()?;
        let u16_at = |at| Some(u16::from_le_bytes(*header.get(at..)?.first_chunk()?));
        let u32_at = |at| Some(u32::from_le_bytes(*header.get(at..)?.first_chunk()?));
        let u64_at = |at| Some(u64::from_le_bytes(*header.get(at..)?.first_chunk()?));
        if !header.starts_with(MAGIC) || u16_at(8)? != FORMAT {
            return None;
        }
        if u32_at(84)? != 0 {
            return None;
        }
        let mut sections = [0; 6];
        for (number, section) in sections.iter_mut().enumerate() {
            *section = u32_at(48 + number * 4)? as usize;
        }
        let (count, width) = (u32_at(20)?, u16_at(10)?);
        let (tag_slots, key_slots) = (u32_at(72)?, u32_at(76)?);
        if !sections_fit(sections, count, width, [tag_slots, key_slots], bytes.len()) {
            return None;
        }
        let [_, _, names, ..] = sections;
        let type_names = parse_names(bytes.get(names..)?)?;
        let mut types_by_name: Vec<u32> = (0..).take(type_names.len()).collect();
        types_by_name.sort_unstable_by_key(|number| type_names.get(*number as usize));
        Some(IndexFile {
            checksum: u32_at(80)?,
            first: Position::new(u64_at(24)?),
            count,
            width: usize::from(width),
            sections,
            tag_slots: tag_slots as usize,
            key_slots: key_slots as usize,
            type_names,
            types_by_name,
            seed: seed_in(header)?,
            bytes,
        })
    }

    /// Whether there is an offset for each event. A read of an event without one would leave it
    /// out.
    fn has_each_offset(&self) -> bool {
        let [offsets, types, ..] = self.sections;
        let section = self.bytes.get(offsets..types).unwrap_or(&[]);
        let count = self.count as usize;
        let starts = count.div_ceil(BLOCK);
        let blocks = section.get(starts * 4..).unwrap_or(&[]);
        (0..starts).all(|block| {
            let events = (count - block * BLOCK).min(BLOCK);
            let start = u32_in(section, block).map(|start| start as usize);
            let rest = start.and_then(|start| blocks.get(start + 4..));
            rest.and_then(<[u8]>::split_first).is_some_and(|(width, values)| {
                [2, 4].contains(width) && values.len() >= events * usize::from(*width)
            })
        })
    }

    /// Distinguishes this file from any other that this process may find under its name.
    pub(crate) fn id(&self) -> IndexFileId {
        IndexFileId { checksum: self.checksum, bytes: self.bytes.len() }
    }

    pub(crate) fn coverage(&self) -> Option<Coverage> {
        let u32_at = |at: usize| Some(u32::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?));
        Some(Coverage {
            segment: u32_at(12)?,
            checksum: u32_at(16)?,
            end: u64_at(32)?,
            time: u64_at(40)?,
            proof: u64_at(104)?,
            chain: Chain::from_u64(u64_at(112)?),
            tracking: take_table(self.section(5))?.0,
        })
    }

    /// Bytes of its file.
    pub(crate) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn first(&self) -> Position {
        self.first
    }

    /// The key that its names are hashed with.
    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }

    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    pub(crate) fn type_names(&self) -> &[CompactString] {
        &self.type_names
    }

    fn section(&self, number: usize) -> &[u8] {
        let start = self.sections.get(number).copied().unwrap_or(usize::MAX);
        self.bytes.get(start..).unwrap_or(&[])
    }

    pub(crate) fn offset(&self, at: u32) -> Option<u32> {
        let offsets = self.section(0);
        let (block, within) = (at as usize / BLOCK, at as usize % BLOCK);
        let blocks = offsets.get((self.count as usize).div_ceil(BLOCK) * 4..)?;
        let start = u32_in(offsets, block)? as usize;
        let (base, rest) = blocks.get(start..)?.split_first_chunk::<4>()?;
        let (width, values) = rest.split_first()?;
        let value = match width {
            2 => u32::from(u16::from_le_bytes(*values.get(within * 2..)?.first_chunk()?)),
            _ => u32_in(values, within)?,
        };
        Some(u32::from_le_bytes(*base).wrapping_add(value))
    }

    /// The offsets of the events `low..=high`, read block by block.
    pub(crate) fn offsets(&self, low: u32, high: u32) -> Option<Vec<u32>> {
        let end = (high as usize).checked_add(1)?.min(self.count as usize);
        let offsets = self.section(0);
        let blocks = offsets.get((self.count as usize).div_ceil(BLOCK) * 4..)?;
        let (mut at, mut found) = (low as usize, Vec::new());
        found.reserve(end.saturating_sub(at));
        while at < end {
            let (block, within) = (at / BLOCK, at % BLOCK);
            let count = (BLOCK - within).min(end - at);
            let (base, rest) =
                blocks.get(u32_in(offsets, block)? as usize..)?.split_first_chunk()?;
            let (base, (width, values)) = (u32::from_le_bytes(*base), rest.split_first()?);
            let width = usize::from(*width);
            let values = values.get(within * width..(within + count) * width)?;
            if width == 2 {
                let (values, _) = values.as_chunks::<2>();
                let of_block = values.iter().map(|value| u32::from(u16::from_le_bytes(*value)));
                found.extend(of_block.map(|value| base.wrapping_add(value)));
            } else {
                let (values, _) = values.as_chunks::<4>();
                let of_block = values.iter().map(|value| u32::from_le_bytes(*value));
                found.extend(of_block.map(|value| base.wrapping_add(value)));
            }
            at += count;
        }
        Some(found)
    }

    /// The entries of the tags and of the keys, sorted by name.
    pub(super) fn tables(&self) -> (&[u8], &[u8]) {
        let [.., tags, keys, tracking] = self.sections;
        let table = |start: usize, slots: usize, end: usize| {
            let start = slots.checked_mul(4).and_then(|bytes| bytes.checked_add(start));
            start.and_then(|start| self.bytes.get(start..end)).unwrap_or(&[])
        };
        (table(tags, self.tag_slots, keys), table(keys, self.key_slots, tracking))
    }

    pub(crate) fn type_at(&self, at: u32) -> Option<u32> {
        let number = self.section(1).get(at as usize * self.width..)?;
        match self.width {
            1 => number.first().map(|number| u32::from(*number)),
            2 => number.first_chunk().map(|number| u32::from(u16::from_le_bytes(*number))),
            _ => number.first_chunk().map(|number| u32::from_le_bytes(*number)),
        }
    }

    pub(crate) fn type_id(&self, name: &str) -> Option<u32> {
        let named = |number: &u32| self.type_names.get(*number as usize).map(CompactString::as_str);
        let place = self.types_by_name.binary_search_by_key(&Some(name), named).ok()?;
        self.types_by_name.get(place).copied()
    }

    /// The number of events of each type, indexed by the type's number.
    pub(crate) fn count_types(&self) -> Vec<u64> {
        let mut counts = vec![0; self.type_names.len()];
        for number in (0..self.count).filter_map(|at| self.type_at(at)) {
            if let Some(count) = counts.get_mut(number as usize) {
                *count += 1;
            }
        }
        counts
    }

    pub(crate) fn postings(&self, tag: &str) -> Option<Postings<'_>> {
        Postings::parse(search(self.section(3), self.tag_slots, Name::Tag(tag), self.seed)?)
    }

    /// Whether a look-up finds each tag and each key that the file contains. It does not if a slot
    /// leads elsewhere.
    pub(crate) fn finds_each_name(&self) -> bool {
        let (tags, keys) = (self.section(3), self.section(4));
        let tag = |name| search(tags, self.tag_slots, Name::Tag(name), self.seed);
        let key = |name| search(keys, self.key_slots, Name::Key(name), self.seed);
        entries(tags, self.tag_slots).all(|(name, content)| tag(name) == Some(content))
            && entries(keys, self.key_slots).all(|(name, content)| key(name) == Some(content))
    }

    /// Every tag with the list of its events.
    pub(crate) fn tags(&self) -> impl Iterator<Item = (&str, Postings<'_>)> {
        entries(self.section(3), self.tag_slots)
            .filter_map(|(tag, rest)| Some((tag, Postings::parse(rest)?)))
    }

    pub(crate) fn tag_names(&self) -> impl Iterator<Item = &str> {
        entries(self.section(3), self.tag_slots).map(|(tag, _)| tag)
    }

    pub(crate) fn key_names(&self) -> impl Iterator<Item = &str> {
        entries(self.section(4), self.key_slots).map(|(key, _)| key)
    }

    pub(crate) fn key(&self, name: &str) -> Option<KeyedCommit> {
        self.parse_key(search(self.section(4), self.key_slots, Name::Key(name), self.seed)?)
    }

    fn keys(&self) -> impl Iterator<Item = (&str, KeyedCommit)> {
        entries(self.section(4), self.key_slots)
            .filter_map(|(name, rest)| Some((name, self.parse_key(rest)?)))
    }

    fn parse_key(&self, bytes: &[u8]) -> Option<KeyedCommit> {
        let (digest, numbers) = bytes.split_first_chunk::<16>()?;
        let first = self.first.plus(u64::from(u32_in(numbers, 0)?));
        let last = first.plus(u64::from(u32_in(numbers, 1)?)).before();
        Some(KeyedCommit { first, last, digest: Digest(*digest) })
    }

    /// Copies its columns to memory.
    pub(crate) fn columns(&self) -> Columns {
        let mut columns = Columns::new(self.first);
        for at in 0..self.count {
            let number = self.type_at(at);
            let name = number.and_then(|number| self.type_names.get(number as usize));
            let name = name.map_or("", CompactString::as_str);
            columns.push(self.offset(at).unwrap_or(0), name, std::iter::empty());
        }
        let tags = self.tags().map(|(tag, postings)| (tag.into(), postings.to_vec().into()));
        columns.tags = tags.collect();
        columns.keys = self.keys().map(|(name, commit)| (name.into(), commit)).collect();
        columns
    }
}

/// Whether the sections are in order and have room for this many events and slots. So no number in
/// the header makes a reader take longer than the length of the file allows.
fn sections_fit(
    sections: [usize; 6],
    count: u32,
    width: u16,
    slots: [u32; 2],
    length: usize,
) -> bool {
    let [offsets, types, names, tags, keys, tracking] = sections.map(|start| start as u64);
    let starts = [HEADER as u64, offsets, types, names, tags, keys, tracking, length as u64];
    let count = u64::from(count);
    let block_starts = count.div_ceil(BLOCK as u64) * 4;
    // In a block each offset has at least two bytes.
    let has_room =
        offsets + block_starts + count * 2 <= types && types + count * u64::from(width) <= names;
    let [tag_slots, key_slots] = slots;
    let is_table = |start: u64, slots: u32, end: u64| {
        (slots == 0 || slots.is_power_of_two()) && start + u64::from(slots) * 4 <= end
    };
    starts.is_sorted()
        && [1, 2, 4].contains(&width)
        && has_room
        && is_table(tags, tag_slots, keys)
        && is_table(keys, key_slots, tracking)
}

fn parse_names(bytes: &[u8]) -> Option<Vec<CompactString>> {
    let (count, mut rest) = take_varint(bytes)?;
    let mut names = Vec::new();
    for _ in 0..count {
        let name;
        (name, rest) = take_text(rest)?;
        names.push(name);
    }
    Some(names)
}

#[cfg(test)]
mod tests;
