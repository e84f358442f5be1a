//! Finds the whole commits in the bytes of a segment, and where they end. Pure functions over
//! bytes.
//!
//! The tail of the last segment may be torn: unsynced writes may be lost in part and in any order.
//! Recovery cuts the segment back to its last whole commit. The subtle point is to distinguish a
//! torn tail from damage. A frame marked SYNCED was written after everything before it was durable.
//! So if such a frame follows a damaged place, durable history is damaged, and the log refuses to
//! open.

use crate::format::frame::{self, CONTROL, Frame, LAST, SYNCED};

/// Where a scan begins: after frames that are known to be whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanStart {
    /// Offset in the segment of the first byte to read.
    pub(crate) offset: u64,
    /// The position of the next event, minus the segment's first.
    pub(crate) next: u32,
    /// The time of the last frame before `offset`, since the base time.
    pub(crate) time: u64,
    /// The header's checksum.
    pub(crate) checksum: u32,
}

/// A frame and the offset in the segment where it starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameAt<'a> {
    pub(crate) offset: u64,
    pub(crate) frame: Frame<'a>,
}

/// The end of the whole commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// The offset after the last whole commit.
    pub(crate) end: u64,
    /// The position of the next event, minus the segment's first.
    pub(crate) next: u32,
    /// The time of the last frame, since the base time.
    pub(crate) time: u64,
    /// The bytes from this offset on are there, but nothing proves that they are durable.
    pub(crate) unproven: u64,
    /// Whether bytes other than zeros follow the end.
    pub(crate) torn: bool,
}

/// Bytes that were whole once and are damaged now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Defect {
    /// Offset in the segment.
    pub(crate) offset: u64,
    pub(crate) what: &'static str,
}

/// Reads `bytes` of a segment from `from` on and calls `visit` with every whole commit.
///
/// # Errors
/// [`Defect`] if bytes that were durable are damaged now.
pub(crate) fn recover(
    bytes: &[u8],
    from: ScanStart,
    mut visit: impl FnMut(&[FrameAt<'_>]),
) -> Result<Recovery, Defect> {
    let mut found = Recovery {
        end: from.offset,
        next: from.next,
        time: from.time,
        unproven: from.offset,
        torn: false,
    };
    let mut commit: Vec<FrameAt<'_>> = Vec::new();
    let mut at = 0;
    let (mut next, mut time) = (from.next, from.time);
    loop {
        let rest = bytes.get(at..).unwrap_or(&[]);
        let offset = from.offset + at as u64;
        let frame = match frame::parse(rest, from.checksum) {
            Ok(frame) if frame.position == next && frame.time >= time => frame,
            Ok(_) => {
                return Err(Defect { offset, what: "a record is out of order" });
            }
            Err(flaw)
                if synced_frame_in(rest.get(1..).unwrap_or(&[]), next, time, from.checksum) =>
            {
                return Err(Defect { offset, what: flaw.text() });
            }
            Err(_) => break,
        };
        if frame.has(SYNCED) && commit.is_empty() {
            found.unproven = offset;
        }
        at += frame.size();
        time = frame.time;
        next = next.saturating_add(u32::from(!frame.has(CONTROL)));
        commit.push(FrameAt { offset, frame });
        if frame.has(LAST) {
            visit(&commit);
            commit.clear();
            (found.end, found.next, found.time) = (offset + frame.size() as u64, next, time);
        }
    }
    let behind = usize::try_from(found.end - from.offset).ok().and_then(|end| bytes.get(end..));
    found.torn = behind.is_some_and(|behind| behind.iter().any(|byte| *byte != 0));
    Ok(found)
}

/// The bytes without the zeros at their end, except for one block of zeros.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    const BLOCK: usize = 4096;
    let mut rest = bytes;
    while let Some((before, block)) = rest.split_last_chunk::<BLOCK>()
        && *block == [0; BLOCK]
    {
        rest = before;
    }
    bytes.get(..rest.len() + BLOCK).unwrap_or(bytes)
}

/// Largest size of a frame that is checksummed whatever follows it.
const SMALL: usize = 4096;

/// Whether `bytes` contain a whole frame marked SYNCED, with position `next` or a later one.
///
/// A large frame is checksummed only if the bytes behind it may be a frame, too. Otherwise payload
/// bytes that look like a header would cost the time of a checksum over the length that they state.
fn synced_frame_in(bytes: &[u8], next: u32, time: u64, checksum: u32) -> bool {
    // Every frame is larger than its header, so no frame here has a position beyond this one.
    let furthest = u64::from(next) + (bytes.len() / frame::HEADER) as u64 + 1;
    let plausible = |peeked: &frame::UncheckedHeader| {
        (u64::from(next)..=furthest).contains(&u64::from(peeked.position)) && peeked.time >= time
    };
    let followed = |at: usize, peeked: &frame::UncheckedHeader| {
        let follows = bytes.get(at + peeked.size..).unwrap_or(&[]).first_chunk();
        let follows = follows.and_then(frame::peek);
        follows.is_none_or(|follows| plausible(&follows) && follows.time >= peeked.time)
    };
    // No header is all zeros, so the search leaves out the zeros at the end. A frame that it finds
    // may still end with zeros.
    let candidates =
        without_zeros(bytes).windows(frame::HEADER).enumerate().filter(|(at, header)| {
            let peeked = header.first_chunk().and_then(frame::peek);
            let Some(peeked) = peeked.filter(plausible) else { return false };
            peeked.flags & SYNCED != 0 && (peeked.size <= SMALL || followed(*at, &peeked))
        });
    let mut candidates = candidates.filter_map(|(at, _)| bytes.get(at..));
    candidates.any(|bytes| frame::parse(bytes, checksum).is_ok())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const CHECKSUM: u32 = 77;

    fn put(out: &mut Vec<u8>, flags: u8, position: u32, body: &[u8]) {
        put_at(out, flags, (position, u64::from(position)), body);
    }

    /// A frame with any position and time.
    fn put_at(out: &mut Vec<u8>, flags: u8, (position, time): (u32, u64), body: &[u8]) {
        let start = out.len();
        let fill = |out: &mut Vec<u8>| {
            out.extend_from_slice(body);
            Ok::<_, Infallible>(())
        };
        frame::prepare(out, flags, fill).unwrap();
        frame::complete(&mut out[start..], position, time, CHECKSUM);
    }

    /// Three batches: one event; two commits, of two events and of one; one event.
    fn log() -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, LAST | SYNCED, 0, b"event zero");
        put(&mut bytes, SYNCED, 1, b"event one, longer");
        put(&mut bytes, LAST, 2, b"event two");
        put(&mut bytes, LAST, 3, b"three");
        put(&mut bytes, LAST | SYNCED, 4, b"event four");
        bytes
    }

    fn from() -> ScanStart {
        ScanStart { offset: 64, next: 0, time: 0, checksum: CHECKSUM }
    }

    fn commits(bytes: &[u8]) -> Result<(Vec<usize>, Recovery), Defect> {
        let mut sizes = Vec::new();
        let recovered = recover(bytes, from(), |commit| sizes.push(commit.len()))?;
        Ok((sizes, recovered))
    }

    #[test]
    fn a_whole_log_is_recovered_whole() {
        let (sizes, found) = commits(&log()).unwrap();
        assert_eq!(sizes, [1, 2, 1, 1]);
        assert_eq!((found.next, found.end), (5, 64 + log().len() as u64));
        assert!(!found.torn);
    }

    #[test]
    fn a_log_that_is_cut_anywhere_keeps_its_whole_commits() {
        let bytes = log();
        let (_, whole) = commits(&bytes).unwrap();
        let mut ends = vec![0];
        recover(&bytes, from(), |commit| {
            let last = commit.last().unwrap();
            ends.push((last.offset - 64) as usize + last.frame.size());
        })
        .unwrap();
        for length in 0..=bytes.len() {
            let (sizes, found) = commits(&bytes[..length]).unwrap();
            let expected = ends.iter().filter(|end| **end <= length).count() - 1;
            assert_eq!(sizes.len(), expected, "cut at {length}");
            assert_eq!(found.torn, !ends.contains(&length), "cut at {length}");
            assert!(found.end <= whole.end);
        }
    }

    #[test]
    fn every_flipped_bit_is_refused_or_cut_off_with_its_batch() {
        let bytes = log();
        let last_batch = bytes.len() - frame::HEADER - b"event four".len();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match commits(&flipped) {
                Err(damaged) => {
                    assert!(bit / 8 < last_batch, "bit {bit}");
                    assert!(damaged.offset - 64 <= (bit / 8) as u64, "bit {bit}");
                }
                Ok((sizes, found)) => {
                    assert!(bit / 8 >= last_batch, "bit {bit} of history went unnoticed");
                    assert_eq!((sizes, found.next, found.torn), (vec![1, 2, 1], 4, true));
                }
            }
        }
    }

    #[test]
    fn a_batch_that_lost_a_piece_in_the_middle_is_cut_there() {
        let mut bytes = log();
        let second_batch = frame::HEADER + b"event zero".len();
        let last_batch = bytes.len() - frame::HEADER - b"event four".len();
        bytes.truncate(last_batch);
        // The first frame of the second batch is lost, but the rest of that batch is there.
        bytes[second_batch..second_batch + 10].fill(0);
        let (sizes, found) = commits(&bytes).unwrap();
        assert_eq!((sizes, found.next, found.torn), (vec![1], 1, true));
        assert_eq!(found.unproven, 64);
    }

    /// Once, zeros at the end of the file were cut off before the file was read. An event that
    /// ended with zeros lost its end.
    #[test]
    fn zeros_at_the_end_of_an_event_belong_to_the_event() {
        let mut bytes = log();
        put(&mut bytes, LAST | SYNCED, 5, &[&b"zeros"[..], &[0; 20_000]].concat());
        for prepared in [0, 1, 5_000, 70_000] {
            let mut all = bytes.clone();
            all.extend(vec![0; prepared]);
            let (sizes, found) = commits(&all).unwrap();
            assert_eq!((sizes.len(), found.torn), (5, false), "{prepared}");
            assert_eq!((found.next, found.end), (6, 64 + bytes.len() as u64), "{prepared}");
            // This event is marked SYNCED, so damage before it is not a torn tail.
            all[log().len() - 3] ^= 1;
            assert!(commits(&all).is_err(), "{prepared}");
        }
    }

    #[test]
    fn a_whole_record_with_an_earlier_time_or_a_wrong_position_is_out_of_order() {
        for (place, is_in_order) in [((5, 4), true), ((5, 3), false), ((6, 5), false)] {
            let mut bytes = log();
            put_at(&mut bytes, LAST, place, b"one more");
            let found = commits(&bytes).map(|(_, found)| found.next);
            let offset = 64 + log().len() as u64;
            let defect = Defect { offset, what: "a record is out of order" };
            assert_eq!(found, if is_in_order { Ok(6) } else { Err(defect) }, "{place:?}");
        }
    }

    /// The payload of a lost event may look like a frame of an older time.
    #[test]
    fn behind_a_damaged_place_only_a_synced_frame_with_a_later_time_is_evidence() {
        for (time, is_evidence) in [(2, false), (3, true), (9, true)] {
            let mut bytes = log();
            let damaged = bytes.len() - 3;
            bytes[damaged] ^= 1;
            // The last whole record has the position and the time 3.
            put_at(&mut bytes, LAST | SYNCED, (5, time), b"behind");
            let found = commits(&bytes).map(|(_, found)| (found.next, found.torn));
            let is_torn = Ok((4, true)) == found;
            assert_eq!((is_torn, found.is_err()), (!is_evidence, is_evidence), "time {time}");
        }
    }

    #[test]
    fn zeros_behind_the_end_are_not_a_torn_tail() {
        let mut bytes = log();
        bytes.extend([0; 500]);
        let (sizes, found) = commits(&bytes).unwrap();
        assert_eq!((sizes.len(), found.torn), (4, false));
    }
}
