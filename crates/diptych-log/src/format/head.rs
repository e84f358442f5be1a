//! The published head, as it is stored in a file. Pure functions over bytes.

use diptych_store::{Epoch, LogId, LogIdentity, Position};

/// Where the published log ends.
///
/// ```text
///  0  position  u64   the published head
///  8  end       u64   offset after the frame of that position, in its segment
/// 16  log id    16 bytes
/// 32  epoch     u64
/// 40  segment   u32   sequence of that segment
/// 44  checksum  u32   CRC-32C of bytes 0..44
/// ```
///
/// In the file `head` of a log with a manifest, these bytes follow. They say which open wrote the
/// file:
///
/// ```text
/// 48  nonce     16 bytes, as in the manifest
/// 64  checksum  u32   CRC-32C of bytes 44..64
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
    /// Bytes with the nonce.
    pub(crate) const ALL_BYTES: usize = 68;

    /// The bytes of the file `head`.
    pub(crate) fn encode_with(&self, nonce: &[u8; 16]) -> Vec<u8> {
        let mut bytes = self.encode();
        bytes.extend_from_slice(nonce);
        let checked = bytes.get(Self::BYTES - 4..).unwrap_or(&[]);
        let checksum = crc32c::crc32c(checked);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The nonce of the open that wrote the file `head`; `None` if it is missing or damaged.
    pub(crate) fn nonce_in(bytes: &[u8]) -> Option<[u8; 16]> {
        let (checked, checksum) =
            bytes.get(Self::BYTES - 4..Self::ALL_BYTES)?.split_last_chunk::<4>()?;
        if crc32c::crc32c(checked).to_le_bytes() != *checksum {
            return None;
        }
        checked.last_chunk().copied()
    }

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
        let (fields, checksum) = bytes.get(..Self::BYTES)?.split_at_checked(44)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_and_newer_bytes_are_read_and_flipped_bits_are_noticed() {
        let identity =
            LogIdentity { id: LogId::from_bytes([7; 16]), epoch: Epoch::from_u64(1 << 32) };
        let head = PublishedHead { position: Position::new(9), end: 900, identity, segment: 3 };
        let (older, newer) = (head.encode(), head.encode_with(&[5; 16]));
        assert_eq!((older.len(), newer.len()), (PublishedHead::BYTES, PublishedHead::ALL_BYTES));
        assert!(newer.starts_with(&older), "an older program reads the same");
        assert_eq!(PublishedHead::parse(&older), Some(head));
        assert_eq!(PublishedHead::parse(&newer), Some(head));
        assert_eq!(PublishedHead::nonce_in(&older), None);
        assert_eq!(PublishedHead::nonce_in(&newer), Some([5; 16]));
        for bit in 0..newer.len() * 8 {
            let mut flipped = newer.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let of_head = bit < PublishedHead::BYTES * 8;
            assert_eq!(PublishedHead::parse(&flipped).is_none(), of_head, "bit {bit}");
            let of_nonce = bit >= (PublishedHead::BYTES - 4) * 8;
            assert_eq!(PublishedHead::nonce_in(&flipped).is_none(), of_nonce, "bit {bit}");
        }
    }
}
