//! The running checksum of a segment: one number for all its frames up to some place, in the order
//! of arrival. Pure functions over bytes.
//!
//! The running checksum binds a derived file to the records that the file was made from. A checksum
//! of the last frame or of the segment's header would not do that: two copies of a log share the
//! header of a segment, and one copy can continue with other events of the same sizes. The log
//! itself contains the running checksum, in a checkpoint record behind each part of the index and
//! in the record that begins the next segment. So one comparison with such a record is enough.
//!
//! The running checksum is computed from the checksum and the size of each frame. It leaves out the
//! flag SYNCED, because a frame gets this flag when it is written, after it was accepted. It takes
//! the checksum that a frame has under the header of the order of arrival, so clustering a segment
//! does not change it.

use crate::format::{
    frame::{self, CONTROL, Frame, Link},
    frame_order,
    recovery::Defect,
    segment::{self, Head, Header, Order},
};

/// The running checksum of some frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain(u64);

impl Chain {
    /// The running checksum of a segment without frames. `seal` is the checksum of its header in
    /// the order of arrival.
    pub(crate) fn begin(seal: u32) -> Chain {
        Chain(mix(0, u64::from(seal)))
    }

    pub(crate) fn from_u64(number: u64) -> Chain {
        Chain(number)
    }

    pub(crate) fn to_u64(self) -> u64 {
        self.0
    }

    /// Adds the next frame. `checksum` is computed for the header of the order of arrival, and
    /// without SYNCED.
    fn add(&mut self, checksum: u32, size: usize) {
        self.0 = mix(self.0, u64::from(checksum) | (size as u64) << 32);
    }

    /// Adds the next frame, of a segment in the order of arrival.
    pub(crate) fn add_frame(&mut self, frame: &Frame<'_>) {
        self.add(frame.unsynced_checksum(), frame.size());
    }

    /// Adds whole frames in the order of arrival that were not written yet.
    pub(crate) fn add_accepted(&mut self, mut frames: &[u8]) {
        while let Some((checksum, size)) = frame::checksum_and_size(frames) {
            self.add(checksum, size);
            frames = frames.get(size..).unwrap_or(&[]);
        }
    }
}

/// For each `word`, different chains give different results. So two chains that differ once stay
/// different as long as the same frames follow.
fn mix(chain: u64, word: u64) -> u64 {
    let mixed = (chain ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ mixed >> 32
}

/// The content of a checkpoint record, and the running checksum behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The running checksum of all frames before the record.
    pub(crate) chain: Chain,
    /// The running checksum with the record itself.
    pub(crate) after: Chain,
    /// The position of the next event, minus the segment's first.
    pub(crate) position: u32,
}

impl Checkpoint {
    /// The checkpoint record at the front of these bytes of a segment, if one is there.
    pub(crate) fn at(bytes: &[u8], head: &Head) -> Option<Checkpoint> {
        Checkpoint::of(&frame::parse(bytes, head.checksum).ok()?, head)
    }

    /// The checkpoint in this frame, if it is a checkpoint record.
    pub(crate) fn of(frame: &Frame<'_>, head: &Head) -> Option<Checkpoint> {
        let content = frame.has(CONTROL).then(|| frame.content()).flatten()?;
        let chain = Chain(frame::take_checkpoint(content)?);
        let mut after = chain;
        after.add(in_arrival(frame.unsynced_checksum(), head), frame.size());
        Some(Checkpoint { chain, after, position: frame.position })
    }
}

/// The checksum that a frame has under the header of the order of arrival.
fn in_arrival(checksum: u32, head: &Head) -> u32 {
    match head.order {
        Order::Arrival => checksum,
        Order::Clustered => checksum ^ frame::resealing(head.checksum, head.seal),
    }
}

/// The link in the record that the next segment begins with; `None` if an older version wrote that
/// segment, or the record is not whole. `bytes` are those of the next segment, at least up to the
/// end of that record.
pub(crate) fn link_in(bytes: &[u8], header: &Header) -> Option<Link> {
    let frame = frame::parse(bytes.get(segment::HEADER..)?, header.checksum()).ok()?;
    frame.has(CONTROL).then(|| frame.content()).flatten().and_then(frame::take_link)
}

/// Checks that a complete segment still ends with the records that it had when the next segment
/// began. `events` is the number of its events.
///
/// # Errors
/// [`Defect`] if it does not.
pub(crate) fn ends_as(bytes: &[u8], head: &Head, link: &Link, events: u64) -> Result<(), Defect> {
    let last = match head.order {
        Order::Arrival => {
            let at = bytes.len().checked_sub(frame::CHECKPOINT);
            at.and_then(|at| Checkpoint::at(bytes.get(at..)?, head))
        }
        Order::Clustered => checkpoints(bytes, head).last().map(|(_, checkpoint)| checkpoint),
    };
    if last.is_none() && bytes.len() as u64 == link.bytes {
        // The last checkpoint record is damaged, or an older version without such records wrote
        // this segment.
        let whole = by_content(bytes, head, bytes.len());
        if whole.is_some_and(|whole| whole.to_u64() == link.chain) {
            return Ok(());
        }
    }
    fits(bytes.len() as u64, last, link, events)
}

/// The running checksum up to offset `end` in the order of arrival, computed from all frames. It
/// takes the checksum that each frame contains, without verifying it. So a frame whose other bytes
/// are damaged counts as the original one.
pub(crate) fn by_content(bytes: &[u8], head: &Head, end: usize) -> Option<Chain> {
    let arrived = frame_order::arrival_bytes(bytes).ok()?;
    let mut chain = Chain::begin(head.seal);
    chain.add_accepted(arrived.get(segment::HEADER..end)?);
    Some(chain)
}

/// Checks a complete segment of this length, with this last checkpoint record, against the link in
/// the next segment.
///
/// # Errors
/// [`Defect`] if they do not agree.
pub(crate) fn fits(
    bytes: u64,
    last: Option<Checkpoint>,
    link: &Link,
    events: u64,
) -> Result<(), Defect> {
    let damaged = |what| Defect { offset: bytes, what };
    if bytes != link.bytes {
        return Err(damaged("the segment has another length than when the next one began"));
    }
    let is_it =
        |last: &Checkpoint| last.after.to_u64() == link.chain && u64::from(last.position) == events;
    match last.filter(is_it) {
        Some(_) => Ok(()),
        None => Err(damaged(
            "the next segment continues other records: one of the two is from another copy",
        )),
    }
}

/// The checkpoint records among the control records that a clustered segment begins with, each with
/// its offset.
fn checkpoints<'a>(
    bytes: &'a [u8],
    head: &'a Head,
) -> impl Iterator<Item = (usize, Checkpoint)> + 'a {
    let mut at = segment::HEADER;
    let controls = std::iter::from_fn(move || {
        let frame = frame::parse(bytes.get(at..)?, head.checksum).ok()?;
        let start = at;
        at += frame.size();
        frame.has(CONTROL).then_some((start, frame))
    });
    controls.filter_map(|(start, frame)| Some((start, Checkpoint::of(&frame, head)?)))
}

/// Offset of the checkpoint record with this running checksum in a clustered segment.
pub(crate) fn find_checkpoint(bytes: &[u8], head: &Head, chain: Chain) -> Option<u64> {
    let found = checkpoints(bytes, head).find(|(_, checkpoint)| checkpoint.chain == chain);
    found.map(|(start, _)| start as u64)
}

/// Largest number of frames in a sample.
const SAMPLED: u32 = 64;

/// A checksum of some frames: those of the first event, of the last event, and of others between.
/// It is for segments that a version without checkpoint records wrote. An event without a frame at
/// its offset counts as zeros.
///
/// `offset` tells where the frame of each event starts in `bytes`.
pub(crate) fn sample(
    bytes: &[u8],
    head: &Head,
    events: u32,
    offset: impl Fn(u32) -> Option<u32>,
) -> Chain {
    let mut chain = Chain::begin(head.seal);
    let last = events.saturating_sub(1);
    let steps = SAMPLED.min(events).saturating_sub(1).max(1);
    for step in 0..=steps {
        let at = (u64::from(last) * u64::from(step) / u64::from(steps)) as u32;
        let start = offset(at).and_then(|start| bytes.get(start as usize..));
        let (checksum, size) = start.and_then(frame::checksum_and_size).unwrap_or((0, 0));
        chain.add(in_arrival(checksum, head), size);
    }
    chain
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use diptych_store::{LogIdentity, Position, Timestamp};

    use super::*;
    use crate::format::frame::LAST;

    fn header() -> Header {
        Header {
            format: segment::FORMAT,
            order: Order::Arrival,
            sequence: 2,
            identity: LogIdentity::random(),
            base: Position::new(7),
            base_time: Timestamp::from_micros(0),
        }
    }

    fn frames(header: &Header, payloads: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for (position, payload) in (0..).zip(payloads) {
            let start = out.len();
            let filled = frame::prepare(&mut out, LAST, |body| {
                body.extend_from_slice(payload.as_bytes());
                Ok::<_, Infallible>(())
            });
            filled.unwrap();
            frame::complete(&mut out[start..], position, 0, header.checksum());
        }
        out
    }

    fn chain_of(header: &Header, mut frames: &[u8]) -> Chain {
        let mut chain = Chain::begin(header.checksum());
        while let Ok(frame) = frame::parse(frames, header.checksum()) {
            chain.add_frame(&frame);
            frames = &frames[frame.size()..];
        }
        chain
    }

    #[test]
    fn marking_a_frame_as_synced_does_not_change_the_running_checksum() {
        let header = header();
        let mut bytes = frames(&header, &["one", "two", "three"]);
        let mut accepted = Chain::begin(header.checksum());
        accepted.add_accepted(&bytes);
        assert_eq!(chain_of(&header, &bytes), accepted);
        frame::mark_synced(&mut bytes, header.checksum());
        assert_eq!(chain_of(&header, &bytes), accepted);
    }

    #[test]
    fn other_events_before_the_same_last_event_change_the_running_checksum() {
        let header = header();
        let one = frames(&header, &["one", "two", "three"]);
        let other = frames(&header, &["one", "TWO", "three"]);
        assert_eq!(one.len(), other.len());
        assert_ne!(chain_of(&header, &one), chain_of(&header, &other));
    }

    #[test]
    fn golden_chain() {
        let mut chain = Chain::begin(1);
        assert_eq!(chain.to_u64(), 0x17fb_89ee_9dca_b42a);
        chain.add(2, 3);
        assert_eq!(chain.to_u64(), 0x7cbf_5c1b_2233_a1d7);
    }
}
