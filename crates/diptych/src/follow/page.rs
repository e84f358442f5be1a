//! Events as they are handed to followers: a page of the log, decoded once for each Rust type.

use std::{
    any::{Any, TypeId},
    ops::Range,
    sync::{Arc, OnceLock},
};

use diptych_store::{Batch, EventChecksum, Position, Tag};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::event::{Event, Reading, Recorded, SchemaError, StoredEvent};

/// A part of the log that was read at once, and the events decoded from it.
pub(crate) struct Page {
    /// Everything up to here was considered.
    pub(super) upto: Position,
    end: End,
    pub(super) batches: Vec<Batch>,
    /// By the Rust type of the events. There are few types, so a list is enough.
    decoded: Mutex<Vec<(TypeId, Decoding)>>,
}

/// Where a page ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At the head, as it was at this time.
    Head(Instant),
    /// Where a commit ends.
    Commit,
}

/// The first follower that asks decodes the events; the others wait for it.
type Decoding = Arc<OnceLock<Arc<dyn Any + Send + Sync>>>;

/// The events of a page that are events of `E`.
struct DecodedPage<E> {
    events: Vec<Recorded<E>>,
    /// The events that could not be read.
    failed: Vec<(Position, SchemaError)>,
    payload_bytes: usize,
}

impl Page {
    pub(super) fn new(upto: Position, end: End, batches: Vec<Batch>) -> Page {
        Page { upto, end, batches, decoded: Mutex::default() }
    }

    /// The checksum of the event that the page ends with, if that event was read.
    pub(super) fn end_checksum(&self) -> Option<EventChecksum> {
        let last = self.batches.iter().rev().find_map(|batch| batch.iter().next_back())?;
        (last.position() == self.upto).then(|| EventChecksum::of(&last))
    }

    /// A slice of these events, without reading a log.
    #[cfg(feature = "testing")]
    pub(crate) fn decoded_before<E: Event>(events: Vec<Recorded<E>>) -> Slice<E> {
        let position = |event: Option<&Recorded<E>>| event.map(|event| event.position);
        let after = position(events.first()).unwrap_or_default().before();
        let upto = position(events.last()).unwrap_or_default();
        let range = 0..events.len();
        let decoded = Arc::new(DecodedPage { events, failed: Vec::new(), payload_bytes: 0 });
        let page = Arc::new(Page::new(upto, End::Commit, Vec::new()));
        let failures = Failures::End;
        Slice { page, decoded, range, after, upto, failures, is_cut: false }
    }

    /// The events of the page above `after`, decoded by `reading`.
    pub(super) fn slice<E: Event>(
        self: &Arc<Page>,
        reading: &Reading<E>,
        after: Position,
        failures: Failures,
    ) -> Slice<E> {
        let decoded = self.decoded(reading);
        let from = decoded.events.partition_point(|event| event.position <= after);
        let failed = decoded.failed.iter().find(|(at, _)| *at > after);
        let upto = match failed.filter(|_| failures == Failures::End) {
            Some((at, _)) => at.before().min(self.upto),
            None => self.upto,
        };
        let range = from..decoded.events.partition_point(|event| event.position <= upto).max(from);
        Slice { page: self.clone(), decoded, range, after, upto, failures, is_cut: false }
    }

    fn decoded<E: Event>(&self, reading: &Reading<E>) -> Arc<DecodedPage<E>> {
        let decoding = {
            let mut decoded = self.decoded.lock();
            let known = decoded.iter().find(|(of, _)| *of == TypeId::of::<E>());
            match known {
                Some((_, decoding)) => decoding.clone(),
                None => {
                    let decoding = Decoding::default();
                    decoded.push((TypeId::of::<E>(), decoding.clone()));
                    decoding
                }
            }
        };
        let events = decoding.get_or_init(|| Arc::new(self.decode(reading)));
        match events.clone().downcast() {
            Ok(decoded) => decoded,
            // Not reached: the decoded page is stored under the type of its events.
            Err(_) => Arc::new(self.decode(reading)),
        }
    }

    fn decode<E: Event>(&self, reading: &Reading<E>) -> DecodedPage<E> {
        let size = self.batches.iter().map(Batch::len).sum();
        let mut decoded =
            DecodedPage { events: Vec::with_capacity(size), failed: Vec::new(), payload_bytes: 0 };
        for event in self.batches.iter().flat_map(Batch::iter) {
            if event.position() > self.upto {
                break;
            }
            if !reading.selects(event.event_type()) {
                continue;
            }
            let stored = StoredEvent::of(&event);
            let before = decoded.events.len();
            let read = reading.read(
                &stored.encoded,
                |_| true,
                |event| {
                    decoded.events.push(reading.recorded(&stored, event));
                },
            );
            if let Err(error) = read {
                // An upcaster may make several events of a stored one: all are applied, or none.
                decoded.events.truncate(before);
                decoded.failed.push((stored.position, error));
                continue;
            }
            decoded.payload_bytes += stored.encoded.payload.len();
        }
        decoded
    }
}

/// Decoded events that a follower applies together, in order, with the range of positions that they
/// cover.
pub(crate) struct Slice<E> {
    page: Arc<Page>,
    decoded: Arc<DecodedPage<E>>,
    range: Range<usize>,
    /// The slice has all events of `E` above this position…
    pub(crate) after: Position,
    /// …and at or below this one.
    pub(crate) upto: Position,
    failures: Failures,
    /// Whether the follower cut off the rest.
    is_cut: bool,
}

/// The effect of an unreadable event on a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failures {
    /// The slice ends before it.
    End,
    /// The slice contains it, for a follower that isolates failures by key.
    Contain,
}

impl<E> Clone for Slice<E> {
    fn clone(&self) -> Slice<E> {
        let (page, decoded, range) = (self.page.clone(), self.decoded.clone(), self.range.clone());
        let Slice { after, upto, failures, is_cut, .. } = *self;
        Slice { page, decoded, range, after, upto, failures, is_cut }
    }
}

impl<E> Slice<E> {
    pub(crate) fn events(&self) -> &[Recorded<E>] {
        self.decoded.events.get(self.range.clone()).unwrap_or_default()
    }

    /// The event right after the slice, if it could not be read.
    pub(crate) fn failed(&self) -> Option<&(Position, SchemaError)> {
        if self.is_cut || self.failures == Failures::Contain {
            return None;
        }
        self.decoded.failed.iter().find(|(at, _)| self.upto == at.before())
    }

    /// Whether an event in the slice could not be read.
    pub(crate) fn has_failures(&self) -> bool {
        self.own_failures().next().is_some()
    }

    fn own_failures(&self) -> impl Iterator<Item = &(Position, SchemaError)> {
        let contains = self.failures == Failures::Contain;
        let failed = self.decoded.failed.iter().filter(move |_| contains);
        failed.filter(|(at, _)| self.after < *at && *at <= self.upto)
    }

    /// The position of each event of the slice, its tags, and why it could not be read.
    pub(crate) fn marks(&self) -> Vec<(Position, Vec<Tag>, Option<String>)> {
        let mut marks = Vec::new();
        for event in self.page.batches.iter().flat_map(Batch::iter) {
            let position = event.position();
            let failure = self.own_failures().find(|(at, _)| *at == position);
            let is_own =
                || self.events().binary_search_by_key(&position, |event| event.position).is_ok();
            if failure.is_some() || is_own() {
                let tags = event.tags().filter_map(|tag| Tag::parse(tag).ok()).collect();
                marks.push((position, tags, failure.map(|(_, error)| error.to_string())));
            }
        }
        marks
    }

    /// A time at which the log had nothing beyond the slice.
    pub(crate) fn complete_at(&self) -> Option<Instant> {
        match self.page.end {
            End::Head(at) if self.upto == self.page.upto => Some(at),
            _ => None,
        }
    }

    /// The checksum of the event that the slice ends with, if that event was read.
    pub(crate) fn checksum(&self) -> Option<EventChecksum> {
        let batches = self.page.batches.iter().rev();
        let mut events = batches.flat_map(|batch| batch.iter().rev());
        let last = events.find(|event| event.position() <= self.upto)?;
        (last.position() == self.upto).then(|| EventChecksum::of(&last))
    }

    /// Estimate of the payload bytes of the events.
    pub(crate) fn payload_bytes(&self) -> usize {
        let of_page = self.decoded.events.len().max(1);
        self.decoded.payload_bytes / of_page * self.range.len()
    }

    /// The part of it that is before this position.
    pub(crate) fn before(&self, position: Position) -> Slice<E> {
        let events = self.events().partition_point(|event| event.position < position);
        let range = self.range.start..self.range.start + events;
        let upto = position.before().min(self.upto);
        let (page, decoded) = (self.page.clone(), self.decoded.clone());
        let (after, failures) = (self.after, self.failures);
        Slice { page, decoded, range, after, upto, failures, is_cut: true }
    }

    /// The part of it that is above this position.
    pub(crate) fn above(&self, position: Position) -> Slice<E> {
        let events = self.events().partition_point(|event| event.position <= position);
        let range = self.range.start + events..self.range.end;
        Slice { range, after: position.max(self.after), ..self.clone() }
    }

    /// The part of it up to and including its first event.
    pub(crate) fn first(self) -> Slice<E> {
        match self.events().first().map(|event| event.position) {
            Some(position) => self.before(position.plus(1)),
            None => self,
        }
    }
}
