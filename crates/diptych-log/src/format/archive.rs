//! The small files of an archive: the mark by which its folder is known, and the stubs that stay in
//! the log's folder in the place of archived segments. Pure functions over bytes.

use diptych_store::LogId;

use crate::format::{
    chain::{self, Chain},
    frame::{self, CONTROL},
    segment::{self, Head, Header, Order},
};

/// Names an archive.
pub(crate) type ArchiveId = [u8; 16];

const MARK_MAGIC: &[u8; 8] = b"DIPTYARC";
const STUB_MAGIC: &[u8; 8] = b"DIPTYSTB";
/// The version of both files.
const FORMAT: u16 = 1;
/// Bytes before the fields.
const HEADER: usize = 16;

/// The mark in the folder of an archive.
///
/// ```text
///  0  magic     8 bytes "DIPTYARC"
///  8  format    u16     1
/// 10  reserved  2 bytes of zeros
/// 12  checksum  u32     CRC-32C of all other bytes
/// 16  log id    16 bytes
/// 32  id        16 bytes, random for each archive
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArchiveMark {
    /// The log whose segments lie there.
    pub(crate) log: LogId,
    pub(crate) id: ArchiveId,
}

impl ArchiveMark {
    pub(crate) const BYTES: usize = HEADER + 32;

    pub(crate) fn encode(&self) -> Vec<u8> {
        sealed(MARK_MAGIC, &[self.log.to_bytes(), self.id].concat())
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<ArchiveMark> {
        let mut fields = StubFields(unsealed(MARK_MAGIC, bytes)?);
        Some(ArchiveMark { log: LogId::from_bytes(fields.take()?), id: fields.take()? })
    }
}

/// The parts of an archived segment that look-ups check before they trust an index file or a
/// segment filter. With them, names that no event has are found to be absent without the archive.
///
/// ```text
///  0  magic     8 bytes "DIPTYSTB"
///  8  format    u16     1
/// 10  reserved  2 bytes of zeros
/// 12  checksum  u32     CRC-32C of all other bytes
/// 16  bytes     u64     length of the segment
/// 24  chain     u64     its whole running checksum
/// 32  extents   u32     their number; each: u64 offset in the segment, u32 length, bytes
/// ```
///
/// The extents are the header with the first frame, and every checkpoint record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentStub {
    bytes: u64,
    chain: u64,
    extents: Vec<(u64, Vec<u8>)>,
}

impl SegmentStub {
    /// The stub of a whole segment; `None` if its header is damaged.
    pub(crate) fn of(segment: &[u8]) -> Option<SegmentStub> {
        let head = Head::of(&Header::parse(segment).ok()?);
        let first = frame::size(segment.get(segment::HEADER..)?);
        let front = segment.get(..segment::HEADER + first).unwrap_or(segment);
        let mut extents = vec![(0, front.to_vec())];
        let mut at = segment::HEADER;
        while let Some(frame) =
            segment.get(at..).and_then(|bytes| frame::parse(bytes, head.checksum).ok())
        {
            let is_control = frame.has(CONTROL);
            if !is_control && head.order == Order::Clustered {
                break;
            }
            let end = at + frame.size();
            let content = if is_control { frame.content() } else { None };
            if content.and_then(frame::take_checkpoint).is_some() && at > segment::HEADER {
                extents.push((at as u64, segment.get(at..end)?.to_vec()));
            }
            at = end;
        }
        let chain = chain::by_content(segment, &head, segment.len()).map_or(0, Chain::to_u64);
        Some(SegmentStub { bytes: segment.len() as u64, chain, extents })
    }

    /// The length of the segment.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The whole running checksum of the segment.
    pub(crate) fn chain(&self) -> u64 {
        self.chain
    }

    /// The first and the last piece of the segment that the stub has, each with its offset.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let ends = [self.extents.first(), self.extents.last()];
        ends.into_iter().flatten().map(|(offset, bytes)| (*offset, &bytes[..]))
    }

    /// These bytes of the segment, if the stub has all of them. As many as there are, at the end of
    /// the segment.
    pub(crate) fn part(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let length = length.min(usize::try_from(self.bytes.saturating_sub(offset)).ok()?);
        self.extents.iter().find_map(|(start, bytes)| {
            let skipped = usize::try_from(offset.checked_sub(*start)?).ok()?;
            bytes.get(skipped..skipped.checked_add(length)?)
        })
    }

    /// The header of the segment.
    pub(crate) fn header(&self) -> Option<Header> {
        Header::parse(self.part(0, segment::HEADER)?).ok()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        let mut put = |field: &[u8]| fields.extend_from_slice(field);
        put(&self.bytes.to_le_bytes());
        put(&self.chain.to_le_bytes());
        put(&(self.extents.len() as u32).to_le_bytes());
        for (offset, bytes) in &self.extents {
            put(&offset.to_le_bytes());
            put(&(bytes.len() as u32).to_le_bytes());
            put(bytes);
        }
        sealed(STUB_MAGIC, &fields)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<SegmentStub> {
        let mut fields = StubFields(unsealed(STUB_MAGIC, bytes)?);
        let (bytes, chain) =
            (u64::from_le_bytes(fields.take()?), u64::from_le_bytes(fields.take()?));
        let count = u32::from_le_bytes(fields.take()?);
        let mut extents = Vec::new();
        for _ in 0..count {
            let offset = u64::from_le_bytes(fields.take()?);
            let length = u32::from_le_bytes(fields.take()?) as usize;
            extents.push((offset, fields.bytes(length)?.to_vec()));
        }
        Some(SegmentStub { bytes, chain, extents })
    }
}

/// A file of these fields, with its checksum.
fn sealed(magic: &[u8; 8], fields: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), fields);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(fields);
    bytes
}

/// The fields of such a file, if its checksum holds.
fn unsealed<'a>(magic: &[u8; 8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (header, fields) = bytes.split_at_checked(HEADER)?;
    let (front, checksum) = header.split_at_checked(HEADER - 4)?;
    let is_whole = crc32c::crc32c_append(crc32c::crc32c(front), fields).to_le_bytes() == *checksum;
    let is_ours = front.starts_with(magic) && front.get(8..10) == Some(&FORMAT.to_le_bytes());
    (is_whole && is_ours).then_some(fields)
}

/// StubFields that are not read yet.
struct StubFields<'a>(&'a [u8]);

impl<'a> StubFields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stub() -> SegmentStub {
        let extents = vec![(0, vec![1; 80]), (500, vec![2; 25])];
        SegmentStub { bytes: 525, chain: 77, extents }
    }

    #[test]
    fn what_is_written_is_read_and_every_flipped_bit_is_noticed() {
        let mark = ArchiveMark { log: LogId::from_bytes([3; 16]), id: [4; 16] };
        let bytes = mark.encode();
        assert_eq!(bytes.len(), ArchiveMark::BYTES);
        assert_eq!(ArchiveMark::parse(&bytes), Some(mark));
        assert_eq!(SegmentStub::parse(&stub().encode()), Some(stub()));
        for whole in [bytes, stub().encode()] {
            for bit in 0..whole.len() * 8 {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(ArchiveMark::parse(&flipped), None, "bit {bit}");
                assert_eq!(SegmentStub::parse(&flipped), None, "bit {bit}");
            }
            for length in 0..whole.len() {
                assert_eq!(SegmentStub::parse(&whole[..length]), None, "{length}");
            }
        }
    }

    #[test]
    fn a_stub_answers_only_for_bytes_that_it_has() {
        let stub = stub();
        assert_eq!(stub.part(0, 64), Some(&[1; 64][..]));
        assert_eq!(stub.part(16, 64), Some(&[1; 64][..]));
        assert_eq!(stub.part(17, 64), None);
        assert_eq!(stub.part(500, 25), Some(&[2; 25][..]));
        // As a file does at its end.
        assert_eq!(stub.part(510, 90), Some(&[2; 15][..]));
        assert_eq!(stub.part(200, 1), None);
    }
}
