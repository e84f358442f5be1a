use bytes::Bytes;
use uuid::Uuid;

use crate::{
    encoding::{Fields, Layout, Malformed, Rest},
    error::InvalidRequest,
    event::{Metadata, RawEvent},
    position::Position,
    tag::Tag,
    time::Timestamp,
};

/// In which order a read goes through the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// From low positions to high ones.
    #[default]
    Forwards,
    /// From high positions to low ones.
    Backwards,
}

/// What part of the log to read, in which order, and how much at once.
///
/// Both bounds hold in both directions: events above `after`, at or below `upto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Only events above this position.
    pub after: Position,
    /// Only events at or below this position; the head at the latest.
    pub upto: Position,
    /// The order of the events in the batch, and the end from which `limit` counts.
    pub direction: Direction,
    /// At most this many events; a store may give fewer, bounded by its
    /// [`Limits`](crate::Limits), and says by the batch's `upto` how far it came. 0 considers
    /// nothing.
    pub limit: usize,
}

impl Read {
    /// Everything, forwards, as much as fits in one batch.
    pub fn all() -> Read {
        Read::after(Position::START)
    }

    /// Forwards from just after `position`.
    pub fn after(position: Position) -> Read {
        Read {
            after: position,
            upto: Position::MAX,
            direction: Direction::Forwards,
            limit: usize::MAX,
        }
    }

    /// Backwards from the head.
    pub fn backwards() -> Read {
        Read { direction: Direction::Backwards, ..Read::all() }
    }

    /// The same, for at most this many events.
    #[must_use]
    pub fn limit(mut self, events: usize) -> Read {
        self.limit = events;
        self
    }

    /// The same, for events at or below `position`.
    #[must_use]
    pub fn upto(mut self, position: Position) -> Read {
        self.upto = position;
        self
    }
}

/// Some events of one read, sharing memory, and how far the read considered the log.
///
/// Cloning shares. An event's bytes are borrowed from the batch: see [`EventRef`].
#[derive(Clone, Debug, Default)]
pub struct Batch {
    chunks: Vec<Bytes>,
    entries: Vec<Entry>,
    upto: Position,
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
    /// How many events.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing matched in the part that was considered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The position up to which everything was considered, matching or not.
    ///
    /// Forwards: everything above [`Read::after`] and at or below this. The next read goes on
    /// `after` it; the read is done when it equals [`Read::upto`] or the head. Backwards:
    /// everything from the start of the read down to and including this. The next read goes on
    /// `upto` the position [before](Position::before) it; the read is done when that is
    /// [`Read::after`].
    pub fn upto(&self) -> Position {
        self.upto
    }

    /// The event at this place in the batch.
    pub fn get(&self, index: usize) -> Option<EventRef<'_>> {
        self.entries.get(index).map(|entry| self.event(entry))
    }

    /// The events, in the order of the read.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = EventRef<'_>> + ExactSizeIterator {
        self.entries.iter().map(|entry| self.event(entry))
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

/// Fills a [`Batch`]; for authors of stores.
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

    /// Adds memory that holds encoded events; the number that [`push`](BatchBuilder::push) takes.
    pub fn chunk(&mut self, bytes: Bytes) -> u32 {
        self.batch.chunks.push(bytes);
        u32::try_from(self.batch.chunks.len() - 1).unwrap_or(u32::MAX)
    }

    /// Adds the event whose [encoded](crate::encoding) bytes are `start..end` of that chunk.
    ///
    /// # Errors
    /// [`Malformed`] if there is no event in those bytes; the batch is then as it was.
    #[inline]
    pub fn push(
        &mut self,
        position: Position,
        recorded_at: Timestamp,
        chunk: u32,
        start: u32,
        end: u32,
    ) -> Result<(), Malformed> {
        let bytes = self.batch.chunks.get(chunk as usize).map_or(&[][..], |chunk| chunk);
        let layout = Layout::of(bytes.get(start as usize..end as usize).unwrap_or(&[]))?;
        self.batch.entries.push(Entry { position, recorded_at, chunk, start, end, layout });
        Ok(())
    }

    /// How many events so far.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// The position of the event that was added last.
    pub fn last_position(&self) -> Option<Position> {
        self.batch.entries.last().map(|entry| entry.position)
    }

    /// Whether there is no event yet.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// The range of a read that is not empty, once it is cut to `head`: the first and the last
    /// position to consider, low to high.
    ///
    /// # Errors
    /// [`InvalidRequest::AboveHead`] if it begins above the head.
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

    /// The batch of a read that has nothing to consider.
    pub fn nothing(read: &Read) -> Batch {
        let upto = match read.direction {
            Direction::Forwards => read.after,
            Direction::Backwards if read.limit == 0 => read.upto.plus(1),
            Direction::Backwards => read.after.plus(1),
        };
        BatchBuilder::new().finish(upto)
    }

    /// The batch, with everything up to (backwards: down to) `upto` considered.
    pub fn finish(mut self, upto: Position) -> Batch {
        self.batch.upto = upto;
        self.batch
    }
}

/// An event in a [`Batch`], borrowed: reading a field costs no allocation.
#[derive(Clone, Copy, Debug)]
pub struct EventRef<'a> {
    position: Position,
    recorded_at: Timestamp,
    fields: Fields<'a>,
}

impl<'a> EventRef<'a> {
    /// Its place in the log.
    pub fn position(&self) -> Position {
        self.position
    }

    /// When the log learned it; never decreases along the log.
    pub fn recorded_at(&self) -> Timestamp {
        self.recorded_at
    }

    /// When it was so: as its writer said, else when it was recorded.
    pub fn occurred_at(&self) -> Timestamp {
        self.fields.rest().occurred_at.unwrap_or(self.recorded_at)
    }

    /// The stable name of its type.
    pub fn event_type(&self) -> &'a str {
        self.fields.event_type()
    }

    /// The schema version of its payload.
    pub fn version(&self) -> u32 {
        self.fields.rest().version
    }

    /// What it is about, each as `key:value`.
    pub fn tags(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.fields.tags()
    }

    /// What happened.
    pub fn payload(&self) -> &'a [u8] {
        self.fields.payload()
    }

    /// Its id, if its writer gave one.
    pub fn id(&self) -> Option<Uuid> {
        self.fields.rest().id
    }

    /// When it was so, why, and by whom.
    pub fn metadata(&self) -> Metadata {
        self.fields.rest().metadata()
    }

    /// All its [encoded](crate::encoding) bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.fields.bytes()
    }

    pub(crate) fn rest(&self) -> Rest<'a> {
        self.fields.rest()
    }

    /// A copy that owns its memory.
    pub fn to_raw(&self) -> RawEvent {
        let rest = self.fields.rest();
        RawEvent {
            event_type: self.event_type().to_owned().into(),
            version: rest.version,
            tags: self.tags().map(Tag::stored).collect(),
            payload: self.payload().to_vec(),
            id: rest.id,
            metadata: rest.metadata(),
        }
    }
}
