//! Prefetches bytes that are not in memory. A read requests everything that it will touch at once,
//! so that the disk works on all requests together and reads nothing else.
//!
//! Prefetching must cost nothing if the bytes are in memory. So this module checks only a few
//! places, each with one system call. It requests the rest only if one of these places is missing.

use bytes::Bytes;

use crate::disk::{is_resident, will_need};

/// Number of bytes that a scan requests at a time.
const PIECE: usize = 1 << 20;
/// Frames with smaller gaps than this between them are requested together, gaps included.
const GAP: usize = 16 << 10;
/// Number of bytes to request for a frame; most frames are smaller.
const FRAME: usize = 512;

/// Prefetches the frames at these offsets, which will be read.
pub(crate) fn ask_for_frames(bytes: &[u8], offsets: impl ExactSizeIterator<Item = u32> + Clone) {
    let count = offsets.len();
    let looked_at = [0, count / 2, count.saturating_sub(1)];
    let mut some = looked_at.into_iter().filter_map(|at| offsets.clone().nth(at));
    if some.all(|offset| is_resident(bytes, offset as usize)) {
        return;
    }
    let mut range: Option<(usize, usize)> = None;
    for offset in offsets {
        let (start, end) = (offset as usize, offset as usize + FRAME);
        range = match range {
            Some((from, to)) if start + GAP >= from && start <= to + GAP => {
                Some((from.min(start), to.max(end)))
            }
            Some((from, to)) => {
                will_need(bytes, from, to - from);
                Some((start, end))
            }
            None => Some((start, end)),
        };
    }
    if let Some((from, to)) = range {
        will_need(bytes, from, to - from);
    }
}

/// Prefetches these bytes, which will be read from the front.
///
/// The pieces have fixed places. If the beginning of a piece is in memory, an earlier call has
/// requested or read the whole piece.
pub(crate) fn ask_for_all(bytes: &[u8], start: usize, length: usize) {
    let end = start.saturating_add(length).min(bytes.len());
    for piece in (start / PIECE * PIECE..end).step_by(PIECE) {
        if !is_resident(bytes, piece) {
            will_need(bytes, piece, PIECE);
        }
    }
}

/// Prefetches a mapped file, which will be read to its end.
pub(crate) fn ask_for_file(bytes: Bytes) -> Bytes {
    ask_for_all(&bytes, 0, bytes.len());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request changes no bytes.
    #[test]
    fn any_range_can_be_asked_for() {
        let bytes = vec![7; 3 * PIECE + 100];
        for (start, length) in [(0, 0), (5, 10), (PIECE - 1, 2), (2 * PIECE, usize::MAX)] {
            ask_for_all(&bytes, start, length);
            ask_for_all(&bytes, bytes.len() + start, length);
        }
        for offsets in [vec![], vec![0], vec![9, 3_000_000, 40, u32::MAX], vec![1, 2, 3]] {
            ask_for_frames(&bytes, offsets.iter().copied());
        }
        assert_eq!(ask_for_file(Bytes::from(bytes)).len(), 3 * PIECE + 100);
    }
}
