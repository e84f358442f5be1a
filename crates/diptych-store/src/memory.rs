//! A store in memory. Tests of a domain run on it, and other stores are tested against it. It keeps
//! encoded events, like every store, and an index of tags and types, so that a selective read does
//! not go through the whole log.

use std::{borrow::Cow, cmp::Reverse, collections::HashMap, hash::RandomState};

use bytes::{Bytes, BytesMut};
use compact_str::CompactString;
use parking_lot::RwLock;

use crate::{
    append::{AcceptedCommit, Append, AppendCondition, CommitSync, Key, KeyedCommit, Tracking},
    batch::{Batch, BatchBuilder, Direction, Read},
    encoding::{self, Fields, Layout},
    error::{AppendError, Corruption, InvalidRequest, ReadError, Refusal},
    event::RawEvent,
    filter::{Filter, FilterItem},
    head::{CommitNumber, Head, HeadPublisher},
    identity::LogIdentity,
    limits::Limits,
    position::Position,
    store::EventStore,
    tag::Tag,
    time::{TimeSource, Timestamp},
};

/// A store in memory. Its events are lost when the store is dropped or the process ends. A commit
/// is published as soon as it is accepted.
#[derive(Debug)]
pub struct Memory {
    identity: LogIdentity,
    limits: Limits,
    time: TimeSource,
    log: RwLock<Log>,
    head: HeadPublisher,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new()
    }
}

impl Memory {
    /// An empty log.
    pub fn new() -> Memory {
        Memory {
            identity: LogIdentity::random(),
            limits: Limits::default(),
            time: TimeSource::Clock,
            log: RwLock::new(Log::new()),
            head: HeadPublisher::new(Position::START),
        }
    }

    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Memory {
        self.limits = limits;
        self
    }

    /// Sets the source of `recorded_at`.
    #[must_use]
    pub fn time(mut self, time: TimeSource) -> Memory {
        self.time = time;
        self
    }
}

impl EventStore for Memory {
    fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn head(&self) -> Head {
        self.head.head()
    }

    async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        append.check(&self.limits)?;
        let encoded = self.encode(&append)?;
        let mut log = self.log.write();
        log.check(&append, &self.limits)?;
        let writes = !append.events.is_empty() || append.tracking.is_some();
        let recorded_at = match writes {
            true => self.time.next(append.recorded_at, log.recorded_at)?,
            // The request records nothing, so it needs no time.
            false => log.recorded_at,
        };
        log.recorded_at = recorded_at;
        let (first, last) = log.push(append, encoded);
        let commit = CommitNumber(log.commits);
        // Published under the lock, so that a reader that sees the head finds the events.
        self.head.publish(last, commit);
        Ok(AcceptedCommit {
            first,
            last,
            recorded_at,
            sync: CommitSync::new(commit, self.head.head()),
        })
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        filter.check(&self.limits)?;
        let log = self.log.read();
        let Some((low, high)) = BatchBuilder::range(&read, log.head())? else {
            return Ok(BatchBuilder::nothing(&read));
        };
        log.read(filter, low, high, &read, &self.limits)
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        filter.check(&self.limits)?;
        let log = self.log.read();
        let upto = upto.min(log.head());
        Ok(log.last(filter, Position::new(1), upto))
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        let log = self.log.read();
        let positions = log.tags.get(tag.as_str()).map_or(&[][..], Vec::as_slice);
        Ok(positions.partition_point(|position| *position <= upto) as u64)
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        Ok(self.log.read().keys.get(key).copied())
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        Ok(self.log.read().tracking.get(source).map(|(tracking, _)| tracking.clone()))
    }

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        let mut types: Vec<_> = self.log.read().types.keys().map(ToString::to_string).collect();
        types.sort_unstable();
        Ok(types)
    }
}

impl Memory {
    fn encode(&self, append: &Append) -> Result<EncodedEvents, InvalidRequest> {
        let limit = self.limits.commit_bytes;
        let room = append.events.iter().map(room).fold(0_usize, usize::saturating_add);
        let mut encoded = EncodedEvents {
            // At most the size of one commit: a larger commit is refused while it is encoded.
            bytes: Vec::with_capacity(room.min(limit)),
            layouts: Vec::with_capacity(append.events.len()),
        };
        for event in &append.events {
            let start = encoded.bytes.len();
            let layout = encoding::encode_laid_out(event, &self.limits, &mut encoded.bytes)?;
            let end = encoded.bytes.len();
            if end > limit {
                return Err(InvalidRequest::too_large("commit", end, limit, "commit_bytes"));
            }
            encoded.layouts.push((end - start, layout));
        }
        Ok(encoded)
    }
}

/// Estimate of the encoded size of an event in bytes.
fn room(event: &RawEvent) -> usize {
    let tags = event.tags.iter().map(|tag| tag.as_str().len() + 2).sum::<usize>();
    16 + event.event_type.len() + tags + event.payload.len()
}

/// The encoded events of a commit, one after another.
#[derive(Debug)]
struct EncodedEvents {
    bytes: Vec<u8>,
    /// Length and layout of each event.
    layouts: Vec<(usize, Layout)>,
}

/// Memory for encoded events. One piece holds many events, because an allocation for each event
/// would cost more than to encode it. A batch keeps the pieces of its events alive.
#[derive(Debug, Default)]
struct Pieces {
    rest: BytesMut,
    size: usize,
}

impl Pieces {
    const SMALLEST: usize = 1 << 10;
    const LARGEST: usize = 64 << 10;

    fn keep(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > self.rest.capacity() {
            if bytes.len() > Pieces::LARGEST / 4 {
                // The rest of the current piece stays free for smaller commits.
                return Bytes::copy_from_slice(bytes);
            }
            // Pieces begin small, because most logs in memory belong to tests and stay small.
            self.size = (self.size * 2).clamp(Pieces::SMALLEST, Pieces::LARGEST);
            self.rest = BytesMut::with_capacity(self.size.max(bytes.len()));
        }
        self.rest.extend_from_slice(bytes);
        self.rest.split().freeze()
    }
}

/// Users choose these names. The hash has a random key, so that they cannot choose names that
/// collide.
type ByName<V> = HashMap<CompactString, V, RandomState>;

#[derive(Debug)]
struct Log {
    pieces: Pieces,
    events: Vec<StoredEvent>,
    commits: u64,
    /// The time of the last commit, which may be one without events.
    recorded_at: Timestamp,
    tags: ByName<Vec<Position>>,
    types: ByName<Vec<Position>>,
    keys: ByName<KeyedCommit>,
    /// The tracking of each source, with the head when it was stored.
    tracking: ByName<(Tracking, Position)>,
}

#[derive(Debug)]
struct StoredEvent {
    recorded_at: Timestamp,
    bytes: Bytes,
    layout: Layout,
}

impl Log {
    fn new() -> Log {
        Log {
            pieces: Pieces::default(),
            events: Vec::new(),
            commits: 0,
            recorded_at: Timestamp::NEVER,
            tags: HashMap::default(),
            types: HashMap::default(),
            keys: HashMap::default(),
            tracking: HashMap::default(),
        }
    }

    fn head(&self) -> Position {
        Position::new(self.events.len() as u64)
    }

    fn check(&self, append: &Append, limits: &Limits) -> Result<(), AppendError> {
        append.check_positions(self.head())?;
        if let Some(tracking) = &append.tracking {
            self.check_tracking(tracking, limits)?;
        }
        if let Some(key) = &append.key {
            self.check_key(key)?;
        }
        Ok(self.check_conditions(&append.conditions)?)
    }

    fn check_conditions(&self, conditions: &[AppendCondition]) -> Result<(), Refusal> {
        let conflict = |AppendCondition { fail_if, after }: &AppendCondition| {
            let found = self.last(fail_if, after.plus(1), self.head());
            found.map(|at| (at, Reverse(*after)))
        };
        match conditions.iter().filter_map(conflict).max() {
            Some((at, Reverse(after))) => Err(Refusal::Conflict { at, after }),
            None => Ok(()),
        }
    }

    fn check_tracking(&self, tracking: &Tracking, limits: &Limits) -> Result<(), AppendError> {
        let Some((stored, at)) = self.tracking.get(&tracking.source) else {
            let (sources, limit) = (self.tracking.len() + 1, limits.tracking_sources);
            if sources > limit {
                let what = "tracking sources";
                return Err(
                    InvalidRequest::too_many(what, sources, limit, "tracking_sources").into()
                );
            }
            return Ok(());
        };
        Ok(tracking.check_against(stored, *at)?)
    }

    fn check_key(&self, key: &Key) -> Result<(), Refusal> {
        self.keys.get(&key.name).map_or(Ok(()), |commit| Err(commit.refuse(key)))
    }

    fn push(&mut self, append: Append, encoded: EncodedEvents) -> (Position, Position) {
        let (first, recorded_at) = (self.head().plus(1), self.recorded_at);
        let mut rest = self.pieces.keep(&encoded.bytes);
        for (event, (length, layout)) in append.events.iter().zip(encoded.layouts) {
            let position = self.head().plus(1);
            add(&mut self.types, &event.event_type, position);
            for tag in &event.tags {
                add(&mut self.tags, tag.as_str(), position);
            }
            self.events.push(StoredEvent { recorded_at, bytes: rest.split_to(length), layout });
        }
        let last = self.head();
        if !append.events.is_empty() || append.tracking.is_some() {
            self.commits += 1;
        }
        if let Some(Key { name, digest }) = append.key {
            self.keys.insert(name, KeyedCommit { first, last, digest });
        }
        if let Some(tracking) = append.tracking {
            self.tracking.insert(tracking.source.clone(), (tracking, last));
        }
        (first, last)
    }

    fn read(
        &self,
        filter: &Filter,
        low: Position,
        high: Position,
        read: &Read,
        limits: &Limits,
    ) -> Result<Batch, ReadError> {
        let limit = read.limit.min(limits.batch_events);
        let mut builder = BatchBuilder::new();
        let mut bytes = 0;
        let mut given = None;
        // The last event of a batch that a limit cut short: more events may match after it.
        let mut cut = None;
        for position in self.matching(filter, low, high, read.direction, limit) {
            let Some(stored) = self.event(position) else {
                break;
            };
            bytes += stored.bytes.len();
            if bytes > limits.batch_bytes && given.is_some() {
                cut = given;
                break;
            }
            let chunk = builder.chunk(stored.bytes.clone());
            let end = u32::try_from(stored.bytes.len()).unwrap_or(u32::MAX);
            builder.push(position, stored.recorded_at, chunk, 0, end).map_err(|error| {
                Corruption {
                    place: format!("memory, position {position}"),
                    what: error.to_string(),
                    advice: "this is an error in the memory store: report it".to_owned(),
                }
            })?;
            given = Some(position);
            if builder.len() == limit {
                cut = given;
            }
        }
        let upto = match (cut, read.direction) {
            (Some(position), _) => position,
            (None, Direction::Forwards) => high,
            (None, Direction::Backwards) => low,
        };
        Ok(builder.finish(upto))
    }

    fn event(&self, position: Position) -> Option<&StoredEvent> {
        let index = usize::try_from(position.before().get()).ok()?;
        self.events.get(index)
    }

    /// The last matching position in `low..=high`. It allocates nothing.
    fn last(&self, filter: &Filter, mut low: Position, high: Position) -> Option<Position> {
        let mut last = None;
        for item in filter.items() {
            if low > high {
                break;
            }
            let found = self.last_of(item, low, high);
            if let Some(at) = found {
                // From now on only a match above this position can be the last one.
                (last, low) = (found, at.plus(1));
            }
        }
        last
    }

    fn last_of(&self, item: &FilterItem, low: Position, high: Position) -> Option<Position> {
        if item.is_everything() {
            return Some(high);
        }
        let Some(rarest) = self.rarest(item) else {
            let last = |name: &Cow<'_, str>| {
                newest_first(list(self.types.get(name.as_ref())), low, high).next().copied()
            };
            return item.types.iter().filter_map(last).max();
        };
        // If the item consists of one tag, every event in the list of that tag matches.
        let matches_all = item.types.is_empty() && item.tags.len() == 1;
        let matches = |at: &&Position| matches_all || self.matches(item, **at);
        newest_first(rarest, low, high).find(matches).copied()
    }

    /// The first `limit` matching positions in `low..=high`, in the order of `direction`.
    fn matching(
        &self,
        filter: &Filter,
        low: Position,
        high: Position,
        direction: Direction,
        limit: usize,
    ) -> Vec<Position> {
        let backwards = direction == Direction::Backwards;
        let mut found = Vec::new();
        for item in filter.items() {
            if item.is_everything() {
                let all = low.get()..=high.get();
                return match backwards {
                    false => all.take(limit).map(Position::new).collect(),
                    true => all.rev().take(limit).map(Position::new).collect(),
                };
            }
            for candidates in self.candidates(item) {
                let start = candidates.partition_point(|position| *position < low);
                let end = candidates.partition_point(|position| *position <= high);
                let within = candidates.get(start..end).unwrap_or(&[]);
                let matches = |position: &&Position| self.matches(item, **position);
                match backwards {
                    false => found.extend(within.iter().filter(matches).take(limit)),
                    true => found.extend(within.iter().rev().filter(matches).take(limit)),
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        if backwards {
            found.reverse();
        }
        found.truncate(limit);
        found
    }

    /// Lists of positions that together contain every match of the item.
    fn candidates(&self, item: &FilterItem) -> Vec<&[Position]> {
        match self.rarest(item) {
            Some(rarest) => vec![rarest],
            None => item.types.iter().map(|name| list(self.types.get(name.as_ref()))).collect(),
        }
    }

    /// The positions of the item's rarest tag, or `None` for an item without tags. They contain
    /// every match, because an event must carry all tags.
    fn rarest(&self, item: &FilterItem) -> Option<&[Position]> {
        let tags = item.tags.iter().map(|tag| list(self.tags.get(tag.as_str())));
        tags.min_by_key(|positions| positions.len())
    }

    fn matches(&self, item: &FilterItem, position: Position) -> bool {
        self.event(position).is_some_and(|stored| {
            let fields = Fields::new(&stored.bytes, stored.layout);
            item.matches_parts(fields.event_type(), || fields.tags())
        })
    }
}

/// Adds the position to the list of a name.
fn add(lists: &mut ByName<Vec<Position>>, name: &str, position: Position) {
    // The look-up comes first, so that only a new name is copied.
    match lists.get_mut(name) {
        // A repeated tag of one event counts once.
        Some(positions) if positions.last() == Some(&position) => {}
        Some(positions) => positions.push(position),
        None => {
            lists.insert(name.into(), vec![position]);
        }
    }
}

/// The positions of the list in `low..=high`, from the highest to the lowest.
fn newest_first(
    positions: &[Position],
    low: Position,
    high: Position,
) -> impl Iterator<Item = &Position> {
    // Most look-ups go up to the head, so no search is needed.
    let end = match positions.last() {
        Some(last) if *last > high => positions.partition_point(|position| *position <= high),
        _ => positions.len(),
    };
    let upto = positions.get(..end).unwrap_or(&[]);
    upto.iter().rev().take_while(move |position| **position >= low)
}

fn list(positions: Option<&Vec<Position>>) -> &[Position] {
    positions.map_or(&[], Vec::as_slice)
}
