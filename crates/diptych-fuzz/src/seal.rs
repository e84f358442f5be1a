//! Computes the checksums of mutated files again. So a reader accepts the checksums, and goes on to
//! the mutated bytes.
//!
//! It is written from `docs/reference/format.md` and shares no code with the engine.

const SEGMENT_HEADER: usize = 64;
const FRAME_HEADER: usize = 16;
const SYNCED: u8 = 2;
const SECTION: u8 = 4;
const CONTROL: u8 = 8;
const CHECKPOINT: u8 = 4;

/// The kinds of files with checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Segment,
    Manifest,
    Head,
    Mark,
    Index,
    Group,
    /// The mark of an archive, and the stub of an archived segment.
    Archive,
}

/// Computes all checksums of the file anew. A file that is too short for them stays as it is.
pub(crate) fn seal(kind: FileKind, bytes: &mut [u8]) {
    let sealed = match kind {
        FileKind::Segment => seal_segment(bytes),
        FileKind::Manifest => seal_manifest(bytes),
        FileKind::Head => put_sum(bytes, 44, &[(0, 44)]).and_then(|()| {
            // The nonce is missing in files of older programs.
            put_sum(bytes, 64, &[(44, 64)])
        }),
        FileKind::Mark => put_sum(bytes, 44, &[(0, 44)]),
        FileKind::Index => put_sum(bytes, 80, &[(0, 80), (88, usize::MAX)]),
        FileKind::Archive => put_sum(bytes, 12, &[(0, 12), (16, usize::MAX)]),
        FileKind::Group => put_sum(bytes, 28, &[(0, 28), (32, usize::MAX)]),
    };
    // Nothing is left to seal in a file that ends before its checksum.
    let _ = sealed;
}

fn seal_manifest(bytes: &mut [u8]) -> Option<()> {
    let length = u32::try_from(bytes.len().checked_sub(20)?).ok()?;
    put(bytes, 12, &length.to_le_bytes())?;
    put_sum(bytes, 16, &[(0, 16), (20, usize::MAX)])
}

/// Writes the checksum of these ranges at this offset.
fn put_sum(bytes: &mut [u8], at: usize, ranges: &[(usize, usize)]) -> Option<()> {
    bytes.get(at..at + 4)?;
    let sum = ranges.iter().fold(0, |sum, (start, end)| {
        let range = bytes.get(*start..(*end).min(bytes.len())).unwrap_or(&[]);
        crc32c::crc32c_append(sum, range)
    });
    put(bytes, at, &sum.to_le_bytes())
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    bytes.get_mut(at..at + value.len())?.copy_from_slice(value);
    Some(())
}

/// Seals the header and each frame, and writes the running checksum into each checkpoint. Stops at
/// the first frame that is not whole.
fn seal_segment(bytes: &mut [u8]) -> Option<()> {
    put_sum(bytes, 60, &[(0, 60)])?;
    let (header, mut rest) = bytes.split_at_mut_checked(SEGMENT_HEADER)?;
    let seal: [u8; 4] = *header.last_chunk()?;
    let is_clustered = header.get(10) != Some(&0);
    let mut chain = mix(0, u64::from(u32::from_le_bytes(seal)));
    loop {
        let length = rest.get(4..7).map(|length| {
            length.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte))
        });
        let length = length.filter(|length| *length > 0)?;
        let (frame, behind) = rest.split_at_mut_checked(FRAME_HEADER + length)?;
        let flags = *frame.get(10)?;
        let is_checkpoint = flags & (CONTROL | SECTION) == CONTROL
            && length == 9
            && frame.get(FRAME_HEADER) == Some(&CHECKPOINT);
        if is_checkpoint && !is_clustered {
            put(frame, FRAME_HEADER + 1, &chain.to_le_bytes())?;
        }
        let unsynced = frame_sum(frame, flags & !SYNCED, seal)?;
        chain = mix(chain, u64::from(unsynced) | (frame.len() as u64) << 32);
        let sum = frame_sum(frame, flags, seal)?;
        put(frame, 0, &sum.to_le_bytes())?;
        rest = behind;
    }
}

/// The checksum of a frame, if it had these flags.
fn frame_sum(frame: &mut [u8], flags: u8, seal: [u8; 4]) -> Option<u32> {
    let had = std::mem::replace(frame.get_mut(10)?, flags);
    let sum = crc32c::crc32c(frame.get(FRAME_HEADER..)?);
    let sum = crc32c::crc32c_append(sum, frame.get(4..FRAME_HEADER)?);
    *frame.get_mut(10)? = had;
    Some(crc32c::crc32c_append(sum, &seal))
}

fn mix(chain: u64, word: u64) -> u64 {
    let mixed = (chain ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ mixed >> 32
}
