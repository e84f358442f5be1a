//! A frame: one event or one control record in a segment. Pure functions over bytes.
//!
//! ```text
//!  0  checksum  u32   CRC-32C of body, header bytes 4..16, and the segment's own checksum
//!  4  length    u24   bytes of the body
//!  7  position  u24   minus the segment's first position; of a control record: the next event's
//! 10  flags     u4    LAST, SYNCED, SECTION, CONTROL: the low bits of the next six bytes
//!     time      u44   recorded_at in microseconds, minus the segment's base time
//! 16  body            commit section (if SECTION), then the encoded event or control record
//! ```
//!
//! All numbers are little-endian. A commit is a sequence of frames; only its last frame has the
//! flag LAST. The subtle flag is SYNCED: everything before this frame was durable when the frame
//! was written. This flag distinguishes a torn tail (no SYNCED frame follows the damage) from
//! damaged history (a SYNCED frame follows).
//!
//! The checksum covers the body first, so that callers can compute that part before the position is
//! known. It covers the segment's checksum last, so that bytes of another segment or log are never
//! taken for a frame of this segment.

use std::convert::Infallible;

use compact_str::CompactString;
use diptych_store::{
    Digest, Epoch, Key, LogId, LogIdentity, Position, Timestamp, Tracking,
    encoding::{put_varint, take_varint},
};

/// Bytes of a frame before its body.
pub(crate) const HEADER: usize = 16;
/// The largest body.
pub(crate) const MAX_BODY: usize = (1 << 24) - 1;
/// The first time that does not fit: about 203 days after the segment's base time.
pub(crate) const MAX_TIME: u64 = 1 << 44;
/// The first position that does not fit.
pub(crate) const MAX_POSITION: u64 = 1 << 24;

/// The commit ends with this frame.
pub(crate) const LAST: u8 = 0x01;
/// Everything before this frame was durable when this frame was written.
pub(crate) const SYNCED: u8 = 0x02;
/// The body begins with a commit section.
pub(crate) const SECTION: u8 = 0x04;
/// The body is a control record, not an event; it takes no position.
pub(crate) const CONTROL: u8 = 0x08;
const FLAG_BITS: u32 = 4;
const FLAGS: u64 = (1 << FLAG_BITS) - 1;

const SECTION_KEY: u64 = 1;
const SECTION_TRACKING: u64 = 2;
/// Reserved for a hash of the log up to this commit: 32 bytes.
const SECTION_CHAIN: u64 = 4;

/// A control record without content: the commit consists of its section alone.
pub(crate) const CONTROL_COMMIT: u8 = 1;
/// The control record that a segment begins with, about the segments before: the time of their last
/// commit (i64, microseconds since the Unix epoch), then every source, then the [`Link`].
pub(crate) const CONTROL_BEGIN: u8 = 2;
/// The control record that says that the log was closed here.
pub(crate) const CONTROL_CLOSED: u8 = 3;
/// A control record with the running checksum of everything before it in its segment (u64): see the
/// module `chain`.
pub(crate) const CONTROL_CHECKPOINT: u8 = 4;
/// Bytes of the frame of a checkpoint record.
pub(crate) const CHECKPOINT: usize = HEADER + 9;

/// Appends a frame whose position, time and segment are not known yet; see [`complete`].
///
/// # Errors
/// The error of the body function; `out` is then unchanged.
pub(crate) fn prepare<E>(
    out: &mut Vec<u8>,
    flags: u8,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    if let Err(error) = body(out) {
        out.truncate(start);
        return Err(error);
    }
    let Some((header, body)) =
        out.get_mut(start..).and_then(|frame| frame.split_first_chunk_mut::<HEADER>())
    else {
        return Ok(());
    };
    let length = body.len().min(MAX_BODY) as u32;
    put(header, 0, &crc32c::crc32c(body).to_le_bytes());
    put_u24(header, 4, length);
    put_u48(header, 10, u64::from(flags) & FLAGS);
    Ok(())
}

/// Sets the position and the time of a prepared frame, both relative to the segment, and its
/// checksum.
pub(crate) fn complete(frame: &mut [u8], position: u32, time: u64, segment_checksum: u32) {
    let Some(header) = frame.first_chunk_mut::<HEADER>() else { return };
    put_u24(header, 7, position);
    let flags = u48(header, 10) & FLAGS;
    put_u48(header, 10, flags | time << FLAG_BITS);
    let body_checksum = u32::from_le_bytes(array(header, 0));
    let checksum = finish(body_checksum, header, segment_checksum);
    put(header, 0, &checksum.to_le_bytes());
}

/// The frame of a control record, which is a commit of its own.
pub(crate) fn control_frame(
    position: u32,
    time: u64,
    segment_checksum: u32,
    fill: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let filled = prepare(&mut bytes, CONTROL | LAST, |body| {
        fill(body);
        Ok::<_, Infallible>(())
    });
    let Ok(()) = filled;
    complete(&mut bytes, position, time, segment_checksum);
    bytes
}

/// Sets SYNCED on a complete frame.
pub(crate) fn mark_synced(frame: &mut [u8], segment_checksum: u32) {
    let Some((header, rest)) = frame.split_first_chunk_mut::<HEADER>() else { return };
    let marked = u48(header, 10) | u64::from(SYNCED);
    put_u48(header, 10, marked);
    let body = rest.get(..length_of(header)).unwrap_or(rest);
    let checksum = finish(crc32c::crc32c(body), header, segment_checksum);
    put(header, 0, &checksum.to_le_bytes());
}

/// The difference between the checksums of one frame in two segments: see [`reseal`].
///
/// The segment's checksum is the last part of the summed bytes, and CRC is linear. So the
/// difference between two sums over bytes that differ only there does not depend on the other
/// bytes.
pub(crate) fn resealing(from: u32, to: u32) -> u32 {
    crc32c::crc32c(&from.to_le_bytes()) ^ crc32c::crc32c(&to.to_le_bytes())
}

/// Changes the checksum of a verified frame to the checksum that it has in another segment.
pub(crate) fn reseal(frame: &mut [u8], resealing: u32) {
    if let Some(place) = frame.first_chunk_mut::<4>() {
        *place = (u32::from_le_bytes(*place) ^ resealing).to_le_bytes();
    }
}

#[inline]
fn finish(body_checksum: u32, header: &[u8; HEADER], segment_checksum: u32) -> u32 {
    let mut tail = [0; HEADER];
    tail[..12].copy_from_slice(&header[4..]);
    tail[12..].copy_from_slice(&segment_checksum.to_le_bytes());
    crc32c::crc32c_append(body_checksum, &tail)
}

fn put<const N: usize>(header: &mut [u8; HEADER], at: usize, bytes: &[u8; N]) {
    if let Some(place) = header.get_mut(at..at + N) {
        place.copy_from_slice(bytes);
    }
}

fn put_u24(header: &mut [u8; HEADER], at: usize, number: u32) {
    let [a, b, c, _] = number.to_le_bytes();
    put(header, at, &[a, b, c]);
}

fn put_u48(header: &mut [u8; HEADER], at: usize, number: u64) {
    let [a, b, c, d, e, f, ..] = number.to_le_bytes();
    put(header, at, &[a, b, c, d, e, f]);
}

#[inline]
fn array<const N: usize>(header: &[u8; HEADER], at: usize) -> [u8; N] {
    header.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

#[inline]
fn u24(header: &[u8; HEADER], at: usize) -> u32 {
    let [a, b, c] = array(header, at);
    u32::from_le_bytes([a, b, c, 0])
}

#[inline]
fn u48(header: &[u8; HEADER], at: usize) -> u64 {
    let [a, b, c, d, e, f] = array(header, at);
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

#[inline]
fn length_of(header: &[u8; HEADER]) -> usize {
    u24(header, 4) as usize
}

/// The fields of bytes that may be a header, before the body is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UncheckedHeader {
    pub(crate) flags: u8,
    pub(crate) position: u32,
    pub(crate) time: u64,
    /// Bytes of the whole frame.
    pub(crate) size: usize,
}

pub(crate) fn peek(header: &[u8; HEADER]) -> Option<UncheckedHeader> {
    let flags_and_time = u48(header, 10);
    let peeked = UncheckedHeader {
        flags: (flags_and_time & FLAGS) as u8,
        position: u24(header, 7),
        time: flags_and_time >> FLAG_BITS,
        size: HEADER + length_of(header),
    };
    (peeked.size > HEADER).then_some(peeked)
}

/// Bytes of the prepared or complete frame at the front of `bytes`.
pub(crate) fn size(bytes: &[u8]) -> usize {
    bytes.first_chunk::<HEADER>().map_or(0, |header| HEADER + length_of(header))
}

/// The checksum without SYNCED, and the size, of the frame at the front of `bytes`. The frame is
/// not verified.
pub(crate) fn checksum_and_size(bytes: &[u8]) -> Option<(u32, usize)> {
    let header = bytes.first_chunk::<HEADER>()?;
    let peeked = peek(header)?;
    Some((unsynced(u32::from_le_bytes(array(header, 0)), peeked.flags), peeked.size))
}

/// The checksum that a frame had before it was marked SYNCED, if it was.
///
/// CRC is linear: a bit at a fixed distance from the end always changes the sum in the same way.
fn unsynced(checksum: u32, flags: u8) -> u32 {
    if flags & SYNCED == 0 {
        return checksum;
    }
    let (plain, mut marked) = ([0; HEADER], [0; HEADER]);
    put_u48(&mut marked, 10, u64::from(SYNCED));
    checksum ^ finish(0, &plain, 0) ^ finish(0, &marked, 0)
}

/// A frame whose checksum is correct.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    checksum: u32,
    pub(crate) flags: u8,
    /// The position, minus the segment's first position.
    pub(crate) position: u32,
    /// Microseconds since the segment's base time.
    pub(crate) time: u64,
    /// The section, if there is one, and then the event or control record.
    pub(crate) body: &'a [u8],
}

/// Why there is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// No bytes are left, or only zeros where a header would be.
    Nothing,
    /// The bytes end inside of the frame.
    CutShort,
    /// The checksum is wrong.
    Checksum,
}

impl Flaw {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Flaw::Nothing => "there is no record",
            Flaw::CutShort => "the file ends inside of a record",
            Flaw::Checksum => "the checksum of a record is wrong",
        }
    }
}

/// Reads the frame at the front of `bytes`.
#[inline]
pub(crate) fn parse(bytes: &[u8], segment_checksum: u32) -> Result<Frame<'_>, Flaw> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(if bytes.is_empty() { Flaw::Nothing } else { Flaw::CutShort });
    };
    let length = length_of(header);
    if length == 0 {
        let empty = header.iter().all(|byte| *byte == 0);
        return Err(if empty { Flaw::Nothing } else { Flaw::Checksum });
    }
    let body = rest.get(..length).ok_or(Flaw::CutShort)?;
    let checksum = finish(crc32c::crc32c(body), header, segment_checksum);
    if checksum != u32::from_le_bytes(array(header, 0)) {
        return Err(Flaw::Checksum);
    }
    let flags_and_time = u48(header, 10);
    Ok(Frame {
        checksum,
        flags: (flags_and_time & FLAGS) as u8,
        position: u24(header, 7),
        time: flags_and_time >> FLAG_BITS,
        body,
    })
}

impl<'a> Frame<'a> {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Its checksum as it was when the commit was accepted.
    pub(crate) fn unsynced_checksum(&self) -> u32 {
        unsynced(self.checksum, self.flags)
    }

    /// Bytes of the whole frame.
    pub(crate) fn size(&self) -> usize {
        HEADER + self.body.len()
    }

    /// The event or control record: the body after its section.
    pub(crate) fn content(&self) -> Option<&'a [u8]> {
        if self.has(SECTION) {
            Section::parse(self.body).map(|(_, content)| content)
        } else {
            Some(self.body)
        }
    }

    /// The commit section; an empty one if there is none.
    pub(crate) fn section(&self) -> Option<Section> {
        if self.has(SECTION) {
            Section::parse(self.body).map(|(section, _)| section)
        } else {
            Some(Section::default())
        }
    }
}

/// Key and tracking of a commit, in its first frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) key: Option<Key>,
    pub(crate) tracking: Option<Tracking>,
}

impl Section {
    pub(crate) fn is_empty(&self) -> bool {
        self.key.is_none() && self.tracking.is_none()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let key = self.key.as_ref().map_or(0, |_| SECTION_KEY);
        let tracking = self.tracking.as_ref().map_or(0, |_| SECTION_TRACKING);
        put_varint(out, key | tracking);
        if let Some(key) = &self.key {
            put_bytes(out, key.name.as_bytes());
            out.extend_from_slice(&key.digest.0);
        }
        if let Some(tracking) = &self.tracking {
            put_tracking(out, tracking);
        }
    }

    fn parse(bytes: &[u8]) -> Option<(Section, &[u8])> {
        let (fields, mut rest) = take_varint(bytes)?;
        if fields & !(SECTION_KEY | SECTION_TRACKING | SECTION_CHAIN) != 0 {
            return None;
        }
        let mut section = Section::default();
        if fields & SECTION_KEY != 0 {
            let name;
            (name, rest) = take_text(rest)?;
            let digest;
            (digest, rest) = rest.split_first_chunk::<16>()?;
            section.key = Some(Key { name, digest: Digest(*digest) });
        }
        if fields & SECTION_TRACKING != 0 {
            let tracking;
            (tracking, rest) = take_tracking(rest)?;
            section.tracking = Some(tracking);
        }
        if fields & SECTION_CHAIN != 0 {
            rest = rest.get(32..)?;
        }
        Some((section, rest))
    }
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn take_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = take_varint(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

pub(crate) fn take_text(bytes: &[u8]) -> Option<(CompactString, &[u8])> {
    let (text, rest) = take_bytes(bytes)?;
    Some((CompactString::from_utf8(text).ok()?, rest))
}

fn put_tracking(out: &mut Vec<u8>, tracking: &Tracking) {
    put_bytes(out, tracking.source.as_bytes());
    put_varint(out, tracking.position.get());
    match tracking.origin {
        None => out.push(0),
        Some(origin) => {
            out.push(1);
            out.extend_from_slice(&origin.id.to_bytes());
            out.extend_from_slice(&origin.epoch.to_u64().to_le_bytes());
        }
    }
}

fn take_tracking(bytes: &[u8]) -> Option<(Tracking, &[u8])> {
    let (source, rest) = take_text(bytes)?;
    let (position, rest) = take_varint(rest)?;
    let (has_origin, mut rest) = rest.split_first()?;
    let mut tracking = Tracking::new(source, position);
    if *has_origin == 1 {
        let (id, after) = rest.split_first_chunk::<16>()?;
        let (epoch, after) = after.split_first_chunk::<8>()?;
        rest = after;
        let epoch = Epoch::from_u64(u64::from_le_bytes(*epoch));
        tracking.origin = Some(LogIdentity { id: LogId::from_bytes(*id), epoch });
    }
    Some((tracking, rest))
}

/// Every source's tracking, each with the head when it was stored; ordered by source.
pub(crate) type TrackingTable = std::collections::BTreeMap<CompactString, (Tracking, Position)>;

/// The statement in a segment about the segment before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The running checksum of all frames of that segment.
    pub(crate) chain: u64,
    /// Length of that segment.
    pub(crate) bytes: u64,
}

/// Appends the content of the control record that a segment begins with.
pub(crate) fn put_begin(out: &mut Vec<u8>, time: Timestamp, table: &TrackingTable, link: Link) {
    out.push(CONTROL_BEGIN);
    out.extend_from_slice(&time.as_micros().to_le_bytes());
    put_table(out, table);
    out.extend_from_slice(&link.chain.to_le_bytes());
    out.extend_from_slice(&link.bytes.to_le_bytes());
}

/// The link in the control record that a segment begins with; `None` if an older version wrote it.
pub(crate) fn take_link(content: &[u8]) -> Option<Link> {
    let (_, table) = content.strip_prefix(&[CONTROL_BEGIN])?.split_first_chunk::<8>()?;
    let (chain, rest) = take_table(table)?.1.split_first_chunk::<8>()?;
    let (bytes, _) = rest.split_first_chunk::<8>()?;
    Some(Link { chain: u64::from_le_bytes(*chain), bytes: u64::from_le_bytes(*bytes) })
}

pub(crate) fn put_checkpoint(out: &mut Vec<u8>, chain: u64) {
    out.push(CONTROL_CHECKPOINT);
    out.extend_from_slice(&chain.to_le_bytes());
}

/// The running checksum in the content of a control record, if that is a checkpoint record.
pub(crate) fn take_checkpoint(content: &[u8]) -> Option<u64> {
    let chain = content.strip_prefix(&[CONTROL_CHECKPOINT])?.try_into().ok()?;
    Some(u64::from_le_bytes(chain))
}

pub(crate) fn take_begin(content: &[u8]) -> Option<(Timestamp, TrackingTable)> {
    let (time, table) = content.strip_prefix(&[CONTROL_BEGIN])?.split_first_chunk::<8>()?;
    let time = Timestamp::from_micros(i64::from_le_bytes(*time));
    Some((time, take_table(table)?.0))
}

pub(crate) fn put_table(out: &mut Vec<u8>, table: &TrackingTable) {
    put_varint(out, table.len() as u64);
    for (tracking, at) in table.values() {
        put_tracking(out, tracking);
        put_varint(out, at.get());
    }
}

pub(crate) fn take_table(bytes: &[u8]) -> Option<(TrackingTable, &[u8])> {
    let (count, mut rest) = take_varint(bytes)?;
    let mut table = TrackingTable::new();
    for _ in 0..count {
        let tracking;
        (tracking, rest) = take_tracking(rest)?;
        let at;
        (at, rest) = take_varint(rest)?;
        table.insert(tracking.source.clone(), (tracking, Position::new(at)));
    }
    Some((table, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let fill = |out: &mut Vec<u8>| {
            out.extend_from_slice(body);
            Ok::<_, Infallible>(())
        };
        prepare(&mut out, flags, fill).unwrap();
        complete(&mut out, 7, 0x0203_0405_0607, 0xABCD_EF01);
        out
    }

    #[test]
    fn golden_bytes() {
        let bytes = frame(LAST, b"\x00\x04paid\x01\x03a:1xyz");
        let expected: &[u8] = &[
            14, 0, 0, // length
            7, 0, 0, // position
            0x71, 0x60, 0x50, 0x40, 0x30, 0x20, // time, and LAST in the low bits
        ];
        assert_eq!(bytes[..4], [0xce, 0x07, 0x3c, 0xb6]);
        assert_eq!(&bytes[4..HEADER], expected);
        assert_eq!(&bytes[HEADER..], b"\x00\x04paid\x01\x03a:1xyz");
        assert_eq!(size(&bytes), bytes.len());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = frame(LAST, b"some event");
        assert!(parse(&bytes, 0xABCD_EF01).is_ok());
        assert!(parse(&bytes, 0xABCD_EF02).is_err(), "of another segment");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&flipped, 0xABCD_EF01).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length], 0xABCD_EF01).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn a_complete_frame_can_be_marked_as_synced() {
        let mut bytes = frame(LAST, b"some event");
        mark_synced(&mut bytes, 0xABCD_EF01);
        let marked = parse(&bytes, 0xABCD_EF01).unwrap();
        assert_eq!((marked.flags, marked.body), (LAST | SYNCED, &b"some event"[..]));
    }

    #[test]
    fn a_frame_is_resealed_for_another_segment() {
        for length in [1, 2, 15, 16, 300] {
            let mut bytes = frame(LAST, &vec![5; length]);
            let mut expected = bytes[..].to_vec();
            reseal(&mut bytes, resealing(0xABCD_EF01, 7));
            complete_again(&mut expected, 7);
            assert_eq!(bytes, expected, "{length}");
        }
    }

    fn complete_again(frame: &mut [u8], segment_checksum: u32) {
        let body = crc32c::crc32c(&frame[HEADER..]);
        let header = frame.first_chunk_mut::<HEADER>().unwrap();
        let checksum = finish(body, header, segment_checksum);
        put(header, 0, &checksum.to_le_bytes());
    }

    #[test]
    fn zeros_are_not_a_frame() {
        assert_eq!(parse(&[], 1).unwrap_err(), Flaw::Nothing);
        assert_eq!(parse(&[0; 100], 1).unwrap_err(), Flaw::Nothing);
        assert_eq!(parse(&[0; 5], 1).unwrap_err(), Flaw::CutShort);
    }

    #[test]
    fn a_section_round_trips() {
        let section = Section {
            key: Some(Key::new("request 1", Digest([3; 16]))),
            tracking: Some(Tracking::new("billing", 9).origin(LogIdentity::random())),
        };
        let mut bytes = Vec::new();
        section.encode(&mut bytes);
        bytes.extend_from_slice(b"event");
        assert_eq!(Section::parse(&bytes), Some((section.clone(), &b"event"[..])));

        let table = [(section.tracking.unwrap(), Position::new(4))];
        let table: TrackingTable = table.map(|entry| (entry.0.source.clone(), entry)).into();
        let (time, mut bytes) = (Timestamp::from_micros(-7), Vec::new());
        let link = Link { chain: 0x0102_0304_0506_0708, bytes: 99 };
        put_begin(&mut bytes, time, &table, link);
        assert_eq!((take_begin(&bytes), take_link(&bytes)), (Some((time, table)), Some(link)));
        // An older version did not write the link.
        assert_eq!(take_link(&bytes[..bytes.len() - 16]), None);
    }
}
