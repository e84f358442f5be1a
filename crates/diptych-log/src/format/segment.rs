//! The header of a segment file, and its name. Frames follow the header. Pure functions over bytes.

use diptych_store::{Epoch, LogId, LogIdentity, Position, Timestamp};

/// Bytes of a segment before its first frame.
pub(crate) const HEADER: usize = 64;
const MAGIC: &[u8; 8] = b"DIPTYSEG";
/// The version of the segment format that this program writes, and the newest that it reads.
///
/// Version 2 has the layout of version 1. It says that the log has a manifest, so that a program
/// that does not know manifests does not append to the log.
pub(crate) const FORMAT: u16 = 2;

/// The order of the frames in a segment: see the module `frame_order`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// Frames are in the order in which they were written.
    #[default]
    Arrival,
    /// Frames of events that share a tag are next to each other.
    Clustered,
}

/// The header of a segment file.
///
/// ```text
///  0  magic     8 bytes "DIPTYSEG"
///  8  format    u16     2; 1 in segments of older versions
/// 10  kind      u16     0 in the order of arrival, 1 if clustered; others are reserved
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
    pub(crate) format: u16,
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
        put(&self.format.to_le_bytes());
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
            _ if !(1..=FORMAT).contains(&format) => return Err(BadHeader::Newer(format)),
            0 => Order::Arrival,
            1 => Order::Clustered,
            _ => return Err(BadHeader::Newer(format)),
        };
        Ok(Header {
            format,
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

    /// Whether the header has the sequence and the base that are in the name of the file.
    pub(crate) fn is_of(&self, sequence: u32, base: Position) -> bool {
        (self.sequence, self.base) == (sequence, base)
    }

    /// Whether this can be the header of the last segment: as `is_of`, and in the order of arrival,
    /// because the last segment is never clustered.
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

/// The name is `sequence-base.seg`, so that an open learns from a listing all that it needs to know
/// about sealed segments.
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

/// Whether a segment of identity `before` can precede a segment of identity `after`: both have the
/// same log id, and `before` has the same or an earlier epoch.
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

/// The message about a segment of another log, or of a later epoch than the log.
pub(crate) fn foreign(found: LogIdentity, log: LogIdentity) -> String {
    format!("the segment is of another log or of a later epoch: it is of {found}, the log is {log}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            format: FORMAT,
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
        assert_eq!(&bytes[..16], b"DIPTYSEG\x02\0\0\0\x03\0\0\0");
        assert_eq!(&bytes[16..32], b"0123456789abcdef");
        assert_eq!(bytes[32..40], [0xdd, 0xcc, 0xbb, 0xaa, 2, 0, 0, 0]);
        assert_eq!(bytes[40..48], [0xe8, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[48..56], [0xfe, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(Header::parse(&bytes), Ok(header()));
        let clustered = header().in_order(Order::Clustered);
        assert_eq!(clustered.encode()[8..16], [2, 0, 1, 0, 3, 0, 0, 0]);
        assert_eq!(Header::parse(&clustered.encode()), Ok(clustered));
    }

    #[test]
    fn both_formats_are_read_and_no_other() {
        for format in 0..4 {
            let header = Header { format, ..header() };
            let expected = match format {
                1 | 2 => Ok(header),
                _ => Err(BadHeader::Newer(format)),
            };
            assert_eq!(Header::parse(&header.encode()), expected);
        }
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
