//! The two orders that the frames of a sealed segment can have, and how one is made from the other.
//! Pure functions over bytes.
//!
//! A segment is written in the order of arrival. Once it is sealed, it may be clustered: its frames
//! are ordered by tag, so that a reader of the events of one account finds them next to each other.
//! In a frame only the checksum changes. It depends on the header of the segment, and the header
//! states the order. So the bytes in the order of arrival can be restored exactly, and reads of a
//! whole segment use them.

use std::borrow::Cow;

use diptych_store::encoding::{Fields, Layout};

use crate::{
    by_name::ByName,
    format::{
        frame::{self, CONTROL, Flaw, Frame, LAST},
        recovery::{Defect, FrameAt},
        segment::{self, Header, Order},
    },
};

/// Stands for "no event" and "no group".
const NONE: u32 = u32::MAX;

/// A clustered segment.
#[derive(Debug)]
pub(crate) struct ClusteredSegment {
    pub(crate) header: Header,
    pub(crate) bytes: Vec<u8>,
    /// Where the frame of each event starts, by position.
    pub(crate) offsets: Vec<u32>,
}

/// A segment in the order of arrival, whatever order its file has.
#[derive(Debug)]
pub(crate) struct ArrivalOrder<'a> {
    /// The header of these bytes.
    pub(crate) header: Header,
    pub(crate) bytes: Cow<'a, [u8]>,
    /// Where the frame of each event starts in the file, by position; `None` if the file is not
    /// clustered.
    pub(crate) offsets: Option<Vec<u32>>,
}

impl ArrivalOrder<'_> {
    /// The offset of this frame in the file.
    pub(crate) fn place_of(&self, placed: &FrameAt<'_>) -> u64 {
        let offsets = self.offsets.as_ref();
        let offset = offsets.and_then(|offsets| offsets.get(placed.frame.position as usize));
        offset.map_or(placed.offset, |offset| u64::from(*offset))
    }
}

/// Clusters a whole segment in the order of arrival.
///
/// Control records come first, in their order. Then come the events, in groups. A tag is shared if
/// at least two events of the segment have it. A group contains the events with the same rarest
/// shared tag. If two tags are equally rare, the tag that occurs first in the segment counts. An
/// event without a shared tag is a group of its own. Groups are ordered by their first position,
/// and the events of a group by position. Zeros at the end stay at the end.
///
/// # Errors
/// [`Defect`] if the segment is not whole, or not in the order of arrival.
pub(crate) fn cluster(bytes: &[u8]) -> Result<ClusteredSegment, Defect> {
    let header = Header::parse(bytes).map_err(|_| damaged(0, HEADER_DAMAGED))?;
    if header.order != Order::Arrival {
        return Err(damaged(0, "the segment is clustered"));
    }
    let Survey { controls, control_bytes, events, tags } = survey(bytes, header.checksum())?;
    let begin = segment::HEADER + control_bytes;
    let offsets = places(&events, &tags, begin as u32);
    let header = header.in_order(Order::Clustered);
    let mut out = vec![0; bytes.len()];
    let reseal = frame::resealing(header.in_order(Order::Arrival).checksum(), header.checksum());
    let mut put = |from: usize, size: usize, to: usize| {
        let place = out.get_mut(to..to + size).zip(bytes.get(from..from + size));
        if let Some((place, frame)) = place {
            place.copy_from_slice(frame);
            frame::reseal(place, reseal);
        }
    };
    let mut at = segment::HEADER;
    for (start, size) in controls {
        put(start, size, at);
        at += size;
    }
    for (event, offset) in events.iter().zip(&offsets) {
        put(event.start as usize, event.size as usize, *offset as usize);
    }
    if let Some(place) = out.get_mut(..segment::HEADER) {
        place.copy_from_slice(&header.encode());
    }
    Ok(ClusteredSegment { header, bytes: out, offsets })
}

/// The bytes of a segment in the order of arrival; `bytes` themselves if they are in that order.
///
/// # Errors
/// [`Defect`] if the segment is clustered and not whole.
pub(crate) fn arrival_bytes(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Defect> {
    in_arrival_order(bytes).map(|arrived| arrived.bytes)
}

/// Whether `clustered` is the clustered form of the segment in `arrival`. This copies neither.
///
/// # Errors
/// [`Defect`] if the clustered bytes are not clustered, or not whole.
pub(crate) fn is_clustering_of(clustered: &[u8], arrival: &[u8]) -> Result<bool, Defect> {
    let header = Header::parse(clustered).map_err(|_| damaged(0, HEADER_DAMAGED))?;
    let scattered = clustered_offsets(clustered, header.checksum())?;
    let header = header.in_order(Order::Arrival);
    let mut rest = arrival.strip_prefix(&header.encode());
    each_in_arrival_order(clustered, &scattered, &header, |frame| {
        rest = rest.and_then(|rest| rest.strip_prefix(frame));
    })?;
    let zeros = rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
    Ok(zeros && clustered.len() == arrival.len())
}

/// The bytes of a segment in the order of arrival, with their header and with the offsets in the
/// file.
///
/// # Errors
/// [`Defect`] if the header is damaged, or if the segment is clustered and not whole.
pub(crate) fn in_arrival_order(bytes: &[u8]) -> Result<ArrivalOrder<'_>, Defect> {
    let header = Header::parse(bytes).map_err(|_| damaged(0, HEADER_DAMAGED))?;
    if header.order == Order::Arrival {
        return Ok(ArrivalOrder { header, bytes: Cow::Borrowed(bytes), offsets: None });
    }
    let scattered = clustered_offsets(bytes, header.checksum())?;
    let header = header.in_order(Order::Arrival);
    let bytes = restore_arrival_order(bytes, &scattered, &header)?;
    Ok(ArrivalOrder { header, bytes: Cow::Owned(bytes), offsets: Some(scattered.offsets) })
}

const HEADER_DAMAGED: &str = "the header of the segment is damaged";
const OUT_OF_ORDER: &str = "a record is out of order";

fn damaged(offset: usize, what: &'static str) -> Defect {
    Defect { offset: offset as u64, what }
}

/// Calls `visit` with the offset and the content of every frame of a whole segment. Zeros may
/// follow the last frame.
fn walk<'a>(
    bytes: &'a [u8],
    checksum: u32,
    mut visit: impl FnMut(usize, Frame<'a>) -> Result<(), Defect>,
) -> Result<(), Defect> {
    let mut at = segment::HEADER;
    loop {
        let rest = bytes.get(at..).unwrap_or(&[]);
        match frame::parse(rest, checksum) {
            Ok(frame) => {
                let size = frame.size();
                visit(at, frame)?;
                at += size;
            }
            Err(_) if rest.iter().all(|byte| *byte == 0) => return Ok(()),
            Err(Flaw::Nothing) => return Err(damaged(at, Flaw::Checksum.text())),
            Err(flaw) => return Err(damaged(at, flaw.text())),
        }
    }
}

/// A frame of an event, in the order of arrival.
struct Event {
    start: u32,
    size: u32,
    /// Where its tags end in [`Tags::of_events`].
    tags_end: u32,
}

/// The tags of a segment, numbered.
#[derive(Default)]
struct Tags<'a> {
    numbers: ByName<&'a str, u32>,
    /// Number of events with each tag, by the tag's number.
    counts: Vec<u32>,
    /// The last event with each tag, by the tag's number.
    last: Vec<u32>,
    /// The tag numbers of every event, one event after another.
    of_events: Vec<u32>,
}

impl<'a> Tags<'a> {
    fn add(&mut self, tag: &'a str, event: u32) {
        let new = self.counts.len() as u32;
        let number = *self.numbers.entry(tag).or_insert(new);
        if number == new {
            self.counts.push(0);
            self.last.push(NONE);
        }
        self.of_events.push(number);
        // A tag that an event carries twice counts once.
        if let Some((count, last)) =
            self.counts.get_mut(number as usize).zip(self.last.get_mut(number as usize))
            && *last != event
        {
            *count += 1;
            *last = event;
        }
    }

    /// The rarest of these tags that is shared, which means that at least two events have it. If
    /// two are equally rare, the first to occur counts. So events with the same tags are in one
    /// group, whatever the order of their tags.
    fn rarest(&self, tags: &[u32]) -> Option<u32> {
        let count = |tag: &u32| self.counts.get(*tag as usize).copied().unwrap_or(0);
        let shared = tags.iter().filter(|tag| count(tag) > 1);
        shared.min_by_key(|tag| (count(tag), **tag)).copied()
    }
}

struct Survey<'a> {
    /// Where control records start, and their sizes.
    controls: Vec<(usize, usize)>,
    control_bytes: usize,
    events: Vec<Event>,
    tags: Tags<'a>,
}

fn survey(bytes: &[u8], checksum: u32) -> Result<Survey<'_>, Defect> {
    let (mut controls, mut control_bytes) = (Vec::new(), 0);
    let (mut events, mut tags) = (Vec::new(), Tags::default());
    let (mut time, mut flags) = (0, LAST);
    walk(bytes, checksum, |start, frame| {
        if frame.position as usize != events.len() || frame.time < time {
            return Err(damaged(start, OUT_OF_ORDER));
        }
        (time, flags) = (frame.time, frame.flags);
        if frame.has(CONTROL) {
            controls.push((start, frame.size()));
            control_bytes += frame.size();
            return Ok(());
        }
        // Bytes that are not an event have no tags. A read of them reports the damage.
        let content = frame.content().unwrap_or(&[]);
        if let Ok(layout) = Layout::of(content) {
            let number = events.len() as u32;
            Fields::new(content, layout).tags().for_each(|tag| tags.add(tag, number));
        }
        let (start, size) = (start as u32, frame.size() as u32);
        events.push(Event { start, size, tags_end: tags.of_events.len() as u32 });
        Ok(())
    })?;
    if flags & LAST == 0 {
        return Err(damaged(bytes.len(), UNFINISHED));
    }
    Ok(Survey { controls, control_bytes, events, tags })
}

const UNFINISHED: &str = "the last commit is not finished";

/// Where the frame of each event goes. The first frame goes to `begin`.
fn places(events: &[Event], tags: &Tags<'_>, begin: u32) -> Vec<u32> {
    let mut group_of_tag = vec![NONE; tags.counts.len()];
    let mut groups = Vec::with_capacity(events.len());
    let mut sizes: Vec<u32> = Vec::new();
    let mut tags_start = 0;
    for event in events {
        let of_event = tags.of_events.get(tags_start..event.tags_end as usize);
        tags_start = event.tags_end as usize;
        let shared = tags.rarest(of_event.unwrap_or(&[]));
        let mut new = sizes.len() as u32;
        let group = shared.and_then(|tag| group_of_tag.get_mut(tag as usize)).unwrap_or(&mut new);
        if *group == NONE || *group as usize == sizes.len() {
            *group = sizes.len() as u32;
            sizes.push(0);
        }
        if let Some(size) = sizes.get_mut(*group as usize) {
            *size += event.size;
        }
        groups.push(*group);
    }
    let mut next = begin;
    for size in &mut sizes {
        // From here on `size` is the offset of the next event of the group.
        next += std::mem::replace(size, next);
    }
    let place = |(event, group): (&Event, &u32)| {
        let next = sizes.get_mut(*group as usize)?;
        Some(std::mem::replace(next, *next + event.size))
    };
    events.iter().zip(&groups).filter_map(place).collect()
}

/// The frames of a clustered segment.
struct ClusteredOffsets {
    /// Control records, in order: the position of the next event, and the offset of the record.
    controls: Vec<(u32, u32)>,
    /// Where each event starts, by position.
    offsets: Vec<u32>,
}

fn clustered_offsets(bytes: &[u8], checksum: u32) -> Result<ClusteredOffsets, Defect> {
    // Every frame is larger than its header, so a whole segment has fewer events than this.
    let most = bytes.len() / frame::HEADER;
    let mut found = ClusteredOffsets { controls: Vec::new(), offsets: Vec::new() };
    let mut count = 0;
    walk(bytes, checksum, |start, frame| {
        let position = frame.position as usize;
        if frame.has(CONTROL) {
            let before = found.controls.last().map_or(0, |(position, _)| *position);
            if count > 0 || frame.position < before {
                return Err(damaged(start, OUT_OF_ORDER));
            }
            found.controls.push((frame.position, start as u32));
            return Ok(());
        }
        if position >= most {
            return Err(damaged(start, OUT_OF_ORDER));
        }
        if found.offsets.len() <= position {
            found.offsets.resize(position + 1, NONE);
        }
        match found.offsets.get_mut(position) {
            Some(place) if *place == NONE => *place = start as u32,
            _ => return Err(damaged(start, "two records have the same position")),
        }
        count += 1;
        Ok(())
    })?;
    let last_control = found.controls.last().map_or(0, |(position, _)| *position as usize);
    if count != found.offsets.len() || last_control > count {
        return Err(damaged(bytes.len(), "a record is missing"));
    }
    Ok(found)
}

/// Puts the frames back into the order of arrival. `header` is the header of that order.
fn restore_arrival_order(
    bytes: &[u8],
    scattered: &ClusteredOffsets,
    header: &Header,
) -> Result<Vec<u8>, Defect> {
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&header.encode());
    each_in_arrival_order(bytes, scattered, header, |frame| out.extend_from_slice(frame))?;
    // Zeros at the end stay at the end.
    out.resize(bytes.len(), 0);
    Ok(out)
}

/// Calls `visit` with every frame of a clustered segment, in the order of arrival and with the
/// checksum of that order. `header` is the header of that order.
fn each_in_arrival_order(
    bytes: &[u8],
    scattered: &ClusteredOffsets,
    header: &Header,
    mut visit: impl FnMut(&[u8]),
) -> Result<(), Defect> {
    let reseal = frame::resealing(
        header.in_order(Order::Clustered).checksum(),
        header.in_order(Order::Arrival).checksum(),
    );
    let (mut time, mut flags, mut resealed) = (0, LAST, Vec::new());
    let mut put = |start: u32| {
        let rest = bytes.get(start as usize..).unwrap_or(&[]);
        let peeked = rest.first_chunk().and_then(frame::peek);
        let frame = peeked.and_then(|peeked| Some((peeked, rest.get(..peeked.size)?)));
        let Some((peeked, frame)) = frame.filter(|(peeked, _)| peeked.time >= time) else {
            return Err(damaged(start as usize, OUT_OF_ORDER));
        };
        (time, flags) = (peeked.time, peeked.flags);
        resealed.clear();
        resealed.extend_from_slice(frame);
        frame::reseal(&mut resealed, reseal);
        visit(&resealed);
        Ok(())
    };
    let mut controls = scattered.controls.iter().peekable();
    for (position, start) in (0..).zip(&scattered.offsets) {
        while let Some((_, start)) = controls.next_if(|(next, _)| *next <= position) {
            put(*start)?;
        }
        put(*start)?;
    }
    controls.try_for_each(|(_, start)| put(*start))?;
    match flags & LAST {
        0 => Err(damaged(bytes.len(), UNFINISHED)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
