//! A segment file: a header, then frames. Only the last segment is written to.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use diptych_store::{Epoch, LogId, LogIdentity, Position, Timestamp};
use parking_lot::RwLock;

use crate::{
    disk::{Disk, DiskFile},
    format::{
        chain,
        frame::{self, Link},
    },
};

/// Bytes of a segment before its first frame.
pub(crate) const HEADER: usize = 64;
const MAGIC: &[u8; 8] = b"DIPTYSEG";
/// The version of the segment format that this program writes, and the newest that it reads.
pub(crate) const FORMAT: u16 = 1;

/// The order of the frames in a segment: see the module `layout`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// One after another, as they were written.
    #[default]
    Arrival,
    /// Frames of events that share a tag are next to each other.
    Clustered,
}

/// The header of a segment file.
///
/// ```text
///  0  magic     8 bytes "DIPTYSEG"
///  8  format    u16     1
/// 10  kind      u16     0, or 1 for a clustered one; others are reserved
/// 12  sequence  u32     1 for the first segment of the log, dense
/// 16  log id    16 bytes
/// 32  epoch     u64
/// 40  base      u64     position of its first event
/// 48  time      i64     its base time, microseconds since the Unix epoch
/// 56  reserved  4 bytes of zeros
/// 60  checksum  u32     CRC-32C of bytes 0..60; part of the checksum of every frame
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) order: Order,
    pub(crate) sequence: u32,
    pub(crate) identity: LogIdentity,
    pub(crate) base: Position,
    pub(crate) base_time: Timestamp,
}

/// Why bytes are not a segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged,
    Newer(u16),
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + field.len()) {
                place.copy_from_slice(field);
            }
            at += field.len();
        };
        put(MAGIC);
        put(&FORMAT.to_le_bytes());
        put(&(self.order as u16).to_le_bytes());
        put(&self.sequence.to_le_bytes());
        put(&self.identity.id.to_bytes());
        put(&self.identity.epoch.to_u64().to_le_bytes());
        put(&self.base.get().to_le_bytes());
        put(&self.base_time.as_micros().to_le_bytes());
        put(&[0; 4]);
        let (fields, checksum) = bytes.split_at_mut(60);
        checksum.copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Header, BadHeader> {
        let header = bytes.first_chunk::<HEADER>().ok_or(BadHeader::Damaged)?;
        let (fields, checksum) = header.split_at(60);
        if crc32c::crc32c(fields).to_le_bytes() != checksum || !fields.starts_with(MAGIC) {
            return Err(BadHeader::Damaged);
        }
        let (format, kind) = (field(header, 8), field(header, 10));
        let format = u16::from_le_bytes(format);
        let order = match u16::from_le_bytes(kind) {
            _ if format != FORMAT => return Err(BadHeader::Newer(format)),
            0 => Order::Arrival,
            1 => Order::Clustered,
            _ => return Err(BadHeader::Newer(format)),
        };
        Ok(Header {
            order,
            sequence: u32::from_le_bytes(field(header, 12)),
            identity: LogIdentity {
                id: LogId::from_bytes(field(header, 16)),
                epoch: Epoch::from_u64(u64::from_le_bytes(field(header, 32))),
            },
            base: Position::new(u64::from_le_bytes(field(header, 40))),
            base_time: Timestamp::from_micros(i64::from_le_bytes(field(header, 48))),
        })
    }

    /// The header of the first segment of a new log.
    pub(crate) fn first() -> Header {
        Header {
            order: Order::Arrival,
            sequence: 1,
            identity: LogIdentity::random(),
            base: Position::new(1),
            base_time: Timestamp::now(),
        }
    }

    /// Whether it has the sequence and the base that are in the name of the file.
    pub(crate) fn is_of(&self, sequence: u32, base: Position) -> bool {
        (self.sequence, self.base) == (sequence, base)
    }

    /// As `is_of`, and in the order of arrival: the last segment is never clustered.
    pub(crate) fn is_last(&self, sequence: u32, base: Position) -> bool {
        self.is_of(sequence, base) && self.order == Order::Arrival
    }

    pub(crate) fn in_order(self, order: Order) -> Header {
        Header { order, ..self }
    }

    /// The header's checksum, which is part of the checksum of every frame.
    pub(crate) fn checksum(&self) -> u32 {
        u32::from_le_bytes(field(&self.encode(), 60))
    }
}

fn field<const N: usize>(header: &[u8; HEADER], at: usize) -> [u8; N] {
    header.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

/// `sequence-base.seg`: from a listing, an open learns all that it needs to know about sealed
/// segments.
pub(crate) fn file_name(sequence: u32, base: Position) -> String {
    format!("{sequence:08}-{:020}.seg", base.get())
}

pub(crate) fn parse_file_name(name: &str) -> Option<(u32, Position)> {
    let (sequence, base) = name.strip_suffix(".seg")?.split_once('-')?;
    if sequence.len() != 8 || base.len() != 20 {
        return None;
    }
    Some((sequence.parse().ok()?, Position::new(base.parse().ok()?)))
}

/// A segment of an open log. A sealed one is opened when it is first read.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) sequence: u32,
    pub(crate) base: Position,
    pub(crate) path: PathBuf,
    /// The identity of the log; the segment may be of an earlier epoch.
    identity: LogIdentity,
    /// Facts about a sealed segment that the next one records; read on first use.
    following: OnceLock<Following>,
    /// The first position of the next segment, if this one was sealed before the open.
    next: Option<Position>,
    content: RwLock<Content>,
    /// Offset up to which frames are published to readers.
    end: AtomicU64,
}

#[derive(Clone, Debug)]
enum Content {
    /// Sealed, and not read yet.
    Unread,
    /// Sealed.
    Sealed { head: Head, bytes: Bytes },
    /// The segment that the writer appends to.
    Active { head: Head, file: Arc<dyn DiskFile> },
    /// Accepted commits are queued for it, but its file is not created yet.
    Planned { head: Head },
}

/// Facts about a segment that the next segment records.
#[derive(Clone, Copy, Debug, Default)]
struct Following {
    /// `None` if the header of the next segment is damaged; reading that segment reports it.
    identity: Option<LogIdentity>,
    /// `None` if an older version wrote the next segment, or its first record is not whole.
    link: Option<Link>,
    /// Number of events in the segment.
    events: u64,
}

/// Whether a segment of identity `before` can precede one of identity `after`: both have one log
/// id, and the epoch is the same or an earlier one.
pub(crate) fn may_precede(before: LogIdentity, after: LogIdentity) -> bool {
    let (earlier, later) = (before.epoch, after.epoch);
    before.id == after.id && (earlier == later || earlier.number() < later.number())
}

/// The header fields that reading a frame needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) base_time: Timestamp,
    pub(crate) checksum: u32,
    /// The checksum that this header would have in the order of arrival.
    pub(crate) seal: u32,
    pub(crate) order: Order,
}

impl Head {
    pub(crate) fn of(header: &Header) -> Head {
        let Header { order, base_time, .. } = *header;
        let seal = header.in_order(Order::Arrival).checksum();
        Head { base_time, checksum: header.checksum(), seal, order }
    }
}

/// The published bytes of a segment, with the header fields that reading them needs.
#[derive(Clone, Debug)]
pub(crate) struct SegmentBytes {
    pub(crate) head: Head,
    pub(crate) bytes: Bytes,
}

impl Segment {
    /// A complete segment of the log with this identity. `next` is the first position of the next
    /// segment.
    pub(crate) fn sealed(
        path: PathBuf,
        sequence: u32,
        (base, next): (Position, Position),
        identity: LogIdentity,
    ) -> Segment {
        Segment {
            sequence,
            base,
            path,
            identity,
            following: OnceLock::new(),
            next: Some(next),
            content: RwLock::new(Content::Unread),
            end: AtomicU64::new(0),
        }
    }

    pub(crate) fn planned(folder: &Path, header: &Header) -> Segment {
        Segment {
            sequence: header.sequence,
            base: header.base,
            path: folder.join(file_name(header.sequence, header.base)),
            identity: header.identity,
            following: OnceLock::new(),
            next: None,
            content: RwLock::new(Content::Planned { head: Head::of(header) }),
            end: AtomicU64::new(HEADER as u64),
        }
    }

    /// This segment as unread, because its file was replaced.
    pub(crate) fn read_again(&self) -> Segment {
        Segment {
            sequence: self.sequence,
            base: self.base,
            path: self.path.clone(),
            identity: self.identity,
            following: self.following.clone(),
            next: self.next,
            content: RwLock::new(Content::Unread),
            end: AtomicU64::new(0),
        }
    }

    /// Stores the facts about this segment that the next one, which begins now, records.
    pub(crate) fn goes_on(&self, identity: LogIdentity, next: Position, link: Link) {
        let events = next.get().saturating_sub(self.base.get());
        let following = Following { identity: Some(identity), link: Some(link), events };
        // A segment is sealed only once, so the cell is empty.
        let _ = self.following.set(following);
    }

    /// The record that the next segment holds about this one; `None` if an older version wrote that
    /// segment, or none follows yet.
    pub(crate) fn link(&self, disk: &dyn Disk) -> io::Result<Option<Link>> {
        self.following(disk).map(|following| following.link)
    }

    fn following(&self, disk: &dyn Disk) -> io::Result<Following> {
        match (self.following.get(), self.next) {
            (Some(following), _) => Ok(*following),
            (None, None) => Ok(Following::default()),
            (None, Some(next)) => {
                let read = self.read_following(disk, next)?;
                Ok(*self.following.get_or_init(|| read))
            }
        }
    }

    fn read_following(&self, disk: &dyn Disk, next: Position) -> io::Result<Following> {
        let (sequence, mut found) = (self.sequence + 1, Following::default());
        found.events = next.get().saturating_sub(self.base.get());
        let path = self.path.with_file_name(file_name(sequence, next));
        let failed = |error: io::Error| {
            let what = format!("the next segment, {}, cannot be read: {error}", path.display());
            io::Error::new(error.kind(), what)
        };
        let file = disk.open(&path, 0).map_err(failed)?;
        let mut bytes = file.read_at(0, HEADER + frame::HEADER).map_err(failed)?;
        let header = Header::parse(&bytes).ok().filter(|header| header.is_of(sequence, next));
        if let Some(header) = header {
            let size = frame::size(bytes.get(HEADER..).unwrap_or(&[]));
            bytes = file.read_at(0, HEADER + size).map_err(failed)?;
            found.link = chain::link_in(&bytes, &header);
            found.identity = Some(header.identity);
        }
        Ok(found)
    }

    /// From now on the writer appends to the segment, through `file`.
    pub(crate) fn activate(&self, file: Arc<dyn DiskFile>) {
        let mut content = self.content.write();
        if let Content::Planned { head } | Content::Active { head, .. } = *content {
            *content = Content::Active { head, file };
        }
    }

    /// Marks the segment as sealed: nothing is written to it any more, and its index is in files.
    /// This drops the handle of its file; the next read maps the file.
    pub(crate) fn seal(&self) {
        *self.content.write() = Content::Unread;
    }

    pub(crate) fn publish(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Offset up to which frames are published; 0 if a sealed segment was not read yet.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// All published bytes of the segment.
    ///
    /// # Errors
    /// If the file cannot be read, or does not hold the segment that its name says.
    pub(crate) fn published(&self, disk: &dyn Disk) -> io::Result<SegmentBytes> {
        let content = self.content.read().clone();
        match content {
            Content::Sealed { head, bytes } => Ok(SegmentBytes { head, bytes }),
            Content::Active { head, file } => {
                Ok(SegmentBytes { head, bytes: file.share(0, self.end())? })
            }
            Content::Planned { head } => Ok(SegmentBytes { head, bytes: Bytes::new() }),
            Content::Unread => self.open_sealed(disk),
        }
    }

    /// Whether it is sealed: nothing will be written to it.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(*self.content.read(), Content::Unread | Content::Sealed { .. })
    }

    /// The order of a sealed segment. Reads the header at most, and does not map the file.
    pub(crate) fn order(&self, disk: &dyn Disk) -> io::Result<Order> {
        if let Content::Sealed { head, .. } = &*self.content.read() {
            return Ok(head.order);
        }
        let bytes = disk.open(&self.path, 0)?.read_at(0, HEADER)?;
        self.own(&bytes).map(|header| header.order)
    }

    /// The header in `bytes`, if it is that of this segment.
    fn own(&self, bytes: &[u8]) -> io::Result<Header> {
        let header = Header::parse(bytes).ok();
        let header = header.filter(|header| header.is_of(self.sequence, self.base));
        let header = header.ok_or_else(|| no_good("the header of the segment is damaged"))?;
        match may_precede(header.identity, self.identity) {
            true => Ok(header),
            false => Err(no_good(&foreign(header.identity, self.identity))),
        }
    }

    fn open_sealed(&self, disk: &dyn Disk) -> io::Result<SegmentBytes> {
        let bytes = disk.map(&self.path)?;
        let header = self.own(&bytes)?;
        let (head, following) = (Head::of(&header), self.following(disk)?);
        let beside_next = |what: &str| {
            let next = self.base.plus(following.events);
            let next = self.path.with_file_name(file_name(self.sequence + 1, next));
            no_good(&format!("{what}; the next one is {}", next.display()))
        };
        match following.identity {
            Some(after) if !may_precede(header.identity, after) => {
                return Err(beside_next(&foreign(header.identity, after)));
            }
            _ => {}
        }
        if let Some(link) = following.link {
            let ends = chain::ends_as(&bytes, &head, &link, following.events);
            ends.map_err(|damaged| beside_next(damaged.what))?;
        }
        self.end.fetch_max(bytes.len() as u64, Ordering::AcqRel);
        *self.content.write() = Content::Sealed { head, bytes: bytes.clone() };
        Ok(SegmentBytes { head, bytes })
    }
}

fn no_good(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The message about a segment of another log, or of a later epoch than the log.
pub(crate) fn foreign(found: LogIdentity, log: LogIdentity) -> String {
    format!("the segment is of another log or of a later epoch: it is of {found}, the log is {log}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            order: Order::Arrival,
            sequence: 3,
            identity: LogIdentity {
                id: LogId::from_bytes(*b"0123456789abcdef"),
                epoch: Epoch::from_u64(0x0000_0002_aabb_ccdd),
            },
            base: Position::new(1_000),
            base_time: Timestamp::from_micros(-2),
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = header().encode();
        assert_eq!(&bytes[..16], b"DIPTYSEG\x01\0\0\0\x03\0\0\0");
        assert_eq!(&bytes[16..32], b"0123456789abcdef");
        assert_eq!(bytes[32..40], [0xdd, 0xcc, 0xbb, 0xaa, 2, 0, 0, 0]);
        assert_eq!(bytes[40..48], [0xe8, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[48..56], [0xfe, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(Header::parse(&bytes), Ok(header()));
        let clustered = header().in_order(Order::Clustered);
        assert_eq!(clustered.encode()[8..16], [1, 0, 1, 0, 3, 0, 0, 0]);
        assert_eq!(Header::parse(&clustered.encode()), Ok(clustered));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = header().encode();
        for bit in 0..HEADER * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&flipped), Err(BadHeader::Damaged), "bit {bit}");
        }
    }

    #[test]
    fn a_name_says_sequence_and_base() {
        let name = file_name(3, Position::new(1_000));
        assert_eq!(parse_file_name(&name), Some((3, Position::new(1_000))));
        for other in ["x.seg", "00000003-1.seg", "00000003-00000000000000001000.run"] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }
}
