//! The published head, as it stands in a file. Pure functions over bytes.

use diptych_store::{Epoch, LogId, LogIdentity, Position};

/// Where the published log ends.
///
/// ```text
///  0  position  u64   the published head
///  8  end       u64   offset after its frame in its segment
/// 16  log id    16 bytes
/// 32  epoch     u64
/// 40  segment   u32   sequence of that segment
/// 44  checksum  u32   CRC-32C of bytes 0..44
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublishedHead {
    pub(crate) position: Position,
    pub(crate) end: u64,
    pub(crate) identity: LogIdentity,
    pub(crate) segment: u32,
}

impl PublishedHead {
    pub(crate) const BYTES: usize = 48;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(48);
        bytes.extend_from_slice(&self.position.get().to_le_bytes());
        bytes.extend_from_slice(&self.end.to_le_bytes());
        bytes.extend_from_slice(&self.identity.id.to_bytes());
        bytes.extend_from_slice(&self.identity.epoch.to_u64().to_le_bytes());
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<PublishedHead> {
        let (fields, checksum) = bytes.split_at_checked(44)?;
        if crc32c::crc32c(fields).to_le_bytes() != checksum {
            return None;
        }
        let (position, rest) = fields.split_first_chunk::<8>()?;
        let (end, rest) = rest.split_first_chunk::<8>()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (segment, _) = rest.split_first_chunk::<4>()?;
        let epoch = Epoch::from_u64(u64::from_le_bytes(*epoch));
        Some(PublishedHead {
            position: Position::new(u64::from_le_bytes(*position)),
            end: u64::from_le_bytes(*end),
            identity: LogIdentity { id: LogId::from_bytes(*id), epoch },
            segment: u32::from_le_bytes(*segment),
        })
    }
}
