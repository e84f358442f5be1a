use std::ops::Range;

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    encoding::{DecodeError, Fields, Layout, Rest},
    error::InvalidRequest,
    event::{Metadata, RawEvent},
    position::Position,
    time::Timestamp,
};

/// The order of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// From low positions to high ones.
    #[default]
    Forwards,
    /// From high positions to low ones.
    Backwards,
}

/// A request to read one batch: the part of the log, the order, and the number of events.
///
/// Both bounds hold in both directions: a read returns events above `after` and at or below `upto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Only events above this position.
    pub after: Position,
    /// Only events at or below this position. A read ends at the head at the latest.
    pub upto: Position,
    /// The order of the events in the batch. `limit` counts from the end that is read first.
    pub direction: Direction,
    /// Maximum number of events. The [`Limits`](crate::Limits) of the store can make a batch
    /// smaller; [`Batch::upto`] then tells how far the read came. A read with limit 0 considers
    /// nothing.
    pub limit: usize,
    /// Whether a replica of the log may answer. Such a read is of the history of the log, as every
    /// read, and may wait for the replica. `false` by default.
    pub takes_replica: bool,
}

impl Read {
    /// Reads from the start of the log, as much as fits in one batch.
    pub fn all() -> Read {
        Read::after(Position::START)
    }

    /// Reads forwards from the event after `position`.
    pub fn after(position: Position) -> Read {
        Read {
            after: position,
            upto: Position::MAX,
            direction: Direction::Forwards,
            limit: usize::MAX,
            takes_replica: false,
        }
    }

    /// Reads backwards from the head.
    pub fn backwards() -> Read {
        Read { direction: Direction::Backwards, ..Read::all() }
    }

    /// Sets the maximum number of events.
    #[must_use]
    pub fn limit(mut self, events: usize) -> Read {
        self.limit = events;
        self
    }

    /// Sets the upper bound: events at or below `position`.
    #[must_use]
    pub fn upto(mut self, position: Position) -> Read {
        self.upto = position;
        self
    }

    /// Lets a replica of the log answer, if the store has one. For long reads on which no decision
    /// waits, such as those of views.
    #[must_use]
    pub fn takes_replica(mut self) -> Read {
        self.takes_replica = true;
        self
    }
}

/// Events of one read, and the position up to which the read considered the log.
///
/// Clones share the memory of the events. An [`EventRef`] borrows its bytes from the batch.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    chunks: Vec<Bytes>,
    entries: Vec<Entry>,
    upto: Position,
    commit_end: Position,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    position: Position,
    recorded_at: Timestamp,
    chunk: u32,
    start: u32,
    end: u32,
    layout: Layout,
}

impl Batch {
    /// Number of events.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the batch has no event: none matched in the considered part of the log.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The position up to which the read considered every event, matching or not.
    ///
    /// A forward read considered the positions above [`Read::after`] up to and including this one.
    /// To continue, read `after` this position. The read is complete when this position equals
    /// [`Read::upto`] or the head.
    ///
    /// A backward read considered the positions from its start down to and including this one. To
    /// continue, read `upto` the position [before](Position::before) this one. The read is complete
    /// when that position is [`Read::after`].
    pub fn upto(&self) -> Position {
        self.upto
    }

    /// The last position of the commit that the event at [`upto`](Batch::upto) belongs to. If it is
    /// `upto`, the batch ends where a commit ends. Otherwise a read up to this position completes
    /// the commit.
    ///
    /// Only a forward read that considered a position tells this. For other batches it is `upto`.
    pub fn commit_end(&self) -> Position {
        self.commit_end
    }

    /// The event at this index of the batch.
    pub fn get(&self, index: usize) -> Option<EventRef<'_>> {
        self.entries.get(index).map(|entry| self.event(entry))
    }

    /// The events, in the order of the read.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = EventRef<'_>> + ExactSizeIterator {
        self.entries.iter().map(|entry| self.event(entry))
    }

    /// The events at these indexes of the batch.
    pub(crate) fn range(
        &self,
        indexes: Range<usize>,
    ) -> impl ExactSizeIterator<Item = EventRef<'_>> + use<'_> {
        let entries = self.entries.get(indexes).unwrap_or(&[]);
        entries.iter().map(|entry| self.event(entry))
    }

    #[inline]
    fn event(&self, entry: &Entry) -> EventRef<'_> {
        let chunk = self.chunks.get(entry.chunk as usize).map_or(&[][..], |chunk| chunk);
        let bytes = chunk.get(entry.start as usize..entry.end as usize).unwrap_or(&[]);
        EventRef {
            position: entry.position,
            recorded_at: entry.recorded_at,
            fields: Fields::new(bytes, entry.layout),
        }
    }
}

/// Fills a [`Batch`]. For authors of stores.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    batch: Batch,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new() -> BatchBuilder {
        BatchBuilder::default()
    }

    /// An empty batch with room for this many events.
    pub fn with_capacity(events: usize) -> BatchBuilder {
        let mut builder = BatchBuilder::default();
        builder.batch.entries.reserve(events);
        builder
    }

    /// Adds memory that holds encoded events. It returns the number of the chunk for
    /// [`push`](BatchBuilder::push).
    pub fn chunk(&mut self, bytes: Bytes) -> u32 {
        self.batch.chunks.push(bytes);
        u32::try_from(self.batch.chunks.len() - 1).unwrap_or(u32::MAX)
    }

    /// Adds the event whose [encoded](crate::encoding) bytes are `start..end` of this chunk.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not an event. The batch does not change then.
    #[inline]
    pub fn push(
        &mut self,
        position: Position,
        recorded_at: Timestamp,
        chunk: u32,
        start: u32,
        end: u32,
    ) -> Result<(), DecodeError> {
        let bytes = self.batch.chunks.get(chunk as usize).map_or(&[][..], |chunk| chunk);
        let layout = Layout::of(bytes.get(start as usize..end as usize).unwrap_or(&[]))?;
        self.batch.entries.push(Entry { position, recorded_at, chunk, start, end, layout });
        Ok(())
    }

    /// Number of events so far.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Position of the last added event.
    pub fn last_position(&self) -> Option<Position> {
        self.batch.entries.last().map(|entry| entry.position)
    }

    /// Whether the batch has no event yet.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// The lowest and the highest position that a read has to consider, or `None` if there are
    /// none.
    ///
    /// # Errors
    /// [`InvalidRequest::AboveHead`] if the read begins above the head.
    pub fn range(
        read: &Read,
        head: Position,
    ) -> Result<Option<(Position, Position)>, InvalidRequest> {
        if read.after > head {
            return Err(InvalidRequest::AboveHead { position: read.after, head });
        }
        let last = read.upto.min(head);
        Ok((read.after < last && read.limit > 0).then(|| (read.after.plus(1), last)))
    }

    /// The batch of a read that has no position to consider.
    pub fn nothing(read: &Read) -> Batch {
        let upto = match read.direction {
            Direction::Forwards => read.after,
            Direction::Backwards if read.limit == 0 => read.upto.plus(1),
            Direction::Backwards => read.after.plus(1),
        };
        BatchBuilder::new().finish(upto, upto)
    }

    /// Completes the batch. The read considered every position up to (backwards: down to) `upto`.
    /// For `commit_end` see [`Batch::commit_end`]; that of a backward read is `upto`.
    pub fn finish(mut self, upto: Position, commit_end: Position) -> Batch {
        self.batch.upto = upto;
        self.batch.commit_end = commit_end;
        self.batch
    }
}

/// An event, borrowed from a [`Batch`]. Type, tags and payload are read in place, without an
/// allocation.
#[derive(Clone, Copy, Debug)]
pub struct EventRef<'a> {
    position: Position,
    recorded_at: Timestamp,
    fields: Fields<'a>,
}

impl<'a> EventRef<'a> {
    /// The position in the log.
    pub fn position(&self) -> Position {
        self.position
    }

    /// When the log recorded the event. It never decreases along the log.
    pub fn recorded_at(&self) -> Timestamp {
        self.recorded_at
    }

    /// When the event occurred: as its writer stated, or else when it was recorded.
    pub fn occurred_at(&self) -> Timestamp {
        self.fields.rest().occurred_at.unwrap_or(self.recorded_at)
    }

    /// The stable name of the event type.
    pub fn event_type(&self) -> &'a str {
        self.fields.event_type()
    }

    /// The schema version of the payload.
    pub fn version(&self) -> u32 {
        self.fields.rest().version
    }

    /// The tags, each as `key:value`.
    pub fn tags(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.fields.tags()
    }

    /// The encoded content of the event.
    pub fn payload(&self) -> &'a [u8] {
        self.fields.payload()
    }

    /// The id, if the writer gave one.
    pub fn id(&self) -> Option<Uuid> {
        self.fields.rest().id
    }

    /// The metadata, copied.
    pub fn metadata(&self) -> Metadata {
        self.fields.rest().metadata()
    }

    /// The [encoded](crate::encoding) bytes of the whole event.
    pub fn bytes(&self) -> &'a [u8] {
        self.fields.bytes()
    }

    pub(crate) fn rest(&self) -> Rest<'a> {
        self.fields.rest()
    }

    /// Copies the event into memory of its own.
    pub fn to_raw(&self) -> RawEvent {
        self.fields.to_raw()
    }
}
