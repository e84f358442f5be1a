//! The state of one fold while a command works with it: folded up to a position, with a filter of
//! its own.

use std::{
    any::type_name,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use diptych_store::{
    Batch, Filter, HistoryPoint, LogIdentity, Metadata, Position, RawEvent, Tag, Timestamp,
};
use uuid::Uuid;

use super::{accepted::AcceptedEvent, error::CommandError};
use crate::{
    event::{
        AnyReading, BoundaryError, Reading, Recorded, RetaggedBoundary, RetaggedKeys, Schema,
        SchemaError, StoredEvent, encoded,
    },
    fold::{Fold, FoldError, FoldFailure},
    panics::{caught, panic_text},
    snapshot::{SavedState, SnapshotPolicy, SnapshotProblem, Snapshots, UnsealedSnapshot},
};

/// The type-erased state of one fold while a command works with it.
pub trait Slot: Send {
    /// The position up to which the state contains all matching events.
    fn position(&self) -> Position;
    /// The filter of the events that are folded.
    fn filter(&self) -> &Filter;
    /// The filter that the command gave, before it was narrowed.
    fn boundary(&self) -> &Filter;
    /// When the newest event in the state was recorded, or [`Timestamp::NEVER`].
    fn newest(&self) -> Timestamp;
    /// Whether no events were read yet.
    fn is_cold(&self) -> bool;
    /// Applies the events of a batch.
    fn fold(&mut self, batch: &Batch) -> Result<(), FoldError>;
    /// Applies one event.
    fn fold_one(&mut self, stored: &StoredEvent<'_>) -> Result<(), FoldError>;
    /// Applies accepted events that are not published yet; `found` is complete up to `upto`.
    fn fold_accepted(&mut self, found: &[AcceptedEvent], upto: Position) -> Result<(), FoldError>;
    /// Notes that the state contains all matching events up to here.
    fn considered(&mut self, upto: Position);
    /// Decodes the command's own events that match the filter. Returns their number.
    fn prepare(&mut self, events: &[RawEvent]) -> Result<usize, SchemaError>;
    /// Applies the prepared events, now that their positions are known.
    fn advance(
        &mut self,
        first: Position,
        last: Position,
        recorded_at: Timestamp,
    ) -> Result<(), FoldError>;
    /// Marks the state as incomplete, so that it is never used again.
    fn poison(&mut self);
    /// Loads a usable snapshot and returns the point at which it ends. The caller checks that the
    /// log has the event at that point.
    fn load_snapshot(
        &mut self,
        place: &dyn Snapshots,
        log: LogIdentity,
        head: Position,
    ) -> Option<HistoryPoint>;
    /// Starts over from an empty state, and removes the snapshot. `reason` says why it is useless.
    fn forget(&mut self, place: &dyn Snapshots, reason: &str);
    /// A snapshot of the state, if one is due.
    fn snapshot_if_due(&mut self, log: LogIdentity) -> Option<SnapshotToSave>;
    /// The event types of the fold, or `None` if their stored events are known to lack no tag.
    fn unchecked(&self) -> Option<Arc<dyn AnyReading>>;
    /// How to find the events of the boundary, if older events got its tags later.
    fn retagged(&self) -> Option<RetaggedBoundary>;
    /// Whether an event is in the boundary, by the tags that it has today.
    fn sees(&self, stored: &StoredEvent<'_>) -> Result<bool, SchemaError>;
    /// Narrows a filter to the fold's events.
    fn narrow(&self, filter: &Filter) -> Result<Filter, BoundaryError>;
}

/// A snapshot to save once its position is published.
pub struct SnapshotToSave {
    pub(crate) name: String,
    pub(crate) position: Position,
    pub(crate) snapshot: UnsealedSnapshot,
}

/// A fold's state, complete up to a position. The cache keeps these.
pub struct FoldState<F: Fold> {
    pub(crate) fold: F,
    pub(crate) position: Position,
    /// When the newest event in the state was recorded.
    newest: Timestamp,
    /// No events were read yet.
    is_cold: bool,
    /// An event was applied only in part.
    pub(crate) is_poisoned: bool,
    /// The filter that the command gave. Together with the fold's type it identifies the state.
    pub(crate) boundary: Filter,
    /// The hash of the fold's type and the boundary.
    pub(crate) hash: u64,
    /// The boundary, narrowed to the fold's event types.
    pub(crate) filter: Filter,
    reading: Arc<Reading<F::Event>>,
    /// The retagged keys that were known when the state was begun.
    keys: Arc<RetaggedKeys>,
    /// Whether older events got tags of the boundary later.
    is_retagged: bool,
    policy: Option<Arc<SnapshotPolicy<F>>>,
    /// Number of events applied since the last snapshot.
    events_since: u64,
    /// Payload bytes of the applied events: the size estimate for a state that does not report its
    /// own.
    pub(crate) payload_bytes: usize,
    /// The command's own events, until their positions are known.
    own: Vec<Own<F::Event>>,
}

struct Own<E> {
    index: u64,
    id: Option<Uuid>,
    metadata: Metadata,
    payload_bytes: usize,
    event: E,
}

impl<F: Fold> FoldState<F> {
    pub(super) fn new(
        boundary: Filter,
        hash: u64,
        schema: &Schema,
        policy: Option<Arc<SnapshotPolicy<F>>>,
    ) -> Result<FoldState<F>, CommandError> {
        schema.check_tags(&boundary)?;
        let reading = schema.reading::<F::Event>()?;
        reading.check_current()?;
        let filter = reading.narrow(&boundary)?;
        let keys = schema.retags().keys();
        let is_retagged = reading.retagged(&boundary, &keys)?.is_some();
        Ok(FoldState {
            fold: F::default(),
            position: Position::START,
            newest: Timestamp::NEVER,
            is_cold: true,
            is_poisoned: false,
            boundary,
            hash,
            filter,
            reading,
            keys,
            is_retagged,
            policy,
            events_since: 0,
            payload_bytes: 0,
            own: Vec::new(),
        })
    }

    /// Whether the state was begun with the retagged keys that are known now. Otherwise it may lack
    /// older events.
    pub(super) fn is_of(&self, generation: u64) -> bool {
        self.keys.generation == generation
    }

    /// The declarations that a snapshot of the state depends on, as text.
    fn declared(&self) -> String {
        self.reading.declared_over(&self.boundary, &self.keys)
    }

    /// Estimate of the memory that the state uses, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        // A state whose `heap_bytes` panics is treated as too large for the cache. Its command is
        // answered like any other.
        let heap = match caught(|| self.fold.heap_bytes()) {
            Ok(Some(bytes)) => bytes,
            Ok(None) if !std::mem::needs_drop::<F>() => 0,
            Ok(None) => self.payload_bytes,
            Err(_) => usize::MAX,
        };
        let filters = filter_bytes(&self.boundary) + filter_bytes(&self.filter);
        // A fold may report any number, so the sum saturates.
        heap.saturating_add(size_of::<FoldState<F>>() + filters)
    }

    /// Drops leftover events of an aborted attempt. The cache budget does not count this buffer.
    pub(super) fn drop_own_events(&mut self) {
        self.own = Vec::new();
    }

    fn take(&mut self, stored: &StoredEvent<'_>) -> Result<(), SchemaError> {
        let FoldState { reading, fold, boundary, keys, is_retagged, .. } = self;
        self.payload_bytes += stored.encoded.payload.len();
        self.events_since += 1;
        self.newest = self.newest.max(stored.recorded_at);
        // The filter selected the event by its stored type. An upcaster may have given it another
        // type.
        let keys = is_retagged.then_some(&**keys);
        reading.read_in(stored, boundary, keys, |event| {
            fold.apply(&reading.recorded(stored, event));
        })
    }

    fn remove_snapshot(&self, place: &dyn Snapshots, name: &str) {
        let reason = match caught(|| place.remove(name)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic,
        };
        let (fold, boundary) = (type_name::<F>(), &self.boundary);
        tracing::warn!(fold, %boundary, reason, "a snapshot of no use cannot be removed");
    }

    fn warn_of_snapshot(&self, reason: &str) {
        let (fold, boundary) = (type_name::<F>(), &self.boundary);
        tracing::warn!(fold, %boundary, reason, "a snapshot is of no use: replaying");
    }

    /// Runs code that calls the fold, which may panic or refuse an event.
    fn guarded(
        &mut self,
        run: impl FnOnce(&mut Self, &mut Position) -> Result<(), SchemaError>,
    ) -> Result<(), FoldError> {
        let mut position = self.position;
        // A half-applied state is not used again: the caller that gets the error drops it.
        let outcome = catch_unwind(AssertUnwindSafe(|| run(self, &mut position)));
        let cause = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => FoldFailure::Schema(error),
            Err(panic) => FoldFailure::Panicked(panic_text(&*panic)),
        };
        Err(FoldError { fold: type_name::<F>(), position, cause })
    }
}

fn filter_bytes(filter: &Filter) -> usize {
    let tags = |tags: &[Tag]| tags.iter().map(|tag| size_of::<Tag>() + tag.as_str().len()).sum();
    let of_item = |item: &diptych_store::FilterItem| -> usize {
        let tags: usize = tags(&item.tags);
        tags + size_of_val(item) + item.types.len() * size_of::<String>()
    };
    filter.items().iter().map(of_item).sum()
}

impl<F: Fold> Slot for Box<FoldState<F>> {
    fn position(&self) -> Position {
        self.position
    }

    fn filter(&self) -> &Filter {
        &self.filter
    }

    fn boundary(&self) -> &Filter {
        &self.boundary
    }

    fn newest(&self) -> Timestamp {
        self.newest
    }

    fn is_cold(&self) -> bool {
        self.is_cold
    }

    fn fold(&mut self, batch: &Batch) -> Result<(), FoldError> {
        self.guarded(|state, at| {
            for event in batch.iter() {
                *at = event.position();
                state.take(&StoredEvent::of(&event))?;
            }
            Ok(())
        })?;
        self.considered(batch.upto());
        Ok(())
    }

    fn fold_one(&mut self, stored: &StoredEvent<'_>) -> Result<(), FoldError> {
        self.guarded(|state, at| {
            *at = stored.position;
            state.take(stored)
        })
    }

    fn fold_accepted(&mut self, found: &[AcceptedEvent], upto: Position) -> Result<(), FoldError> {
        self.guarded(|state, at| {
            for found in found {
                *at = found.position;
                if let Some(event) = found.event() {
                    state.take(&StoredEvent::accepted(event, found.position, found.recorded_at))?;
                }
            }
            Ok(())
        })?;
        self.considered(upto);
        Ok(())
    }

    fn considered(&mut self, upto: Position) {
        self.position = self.position.max(upto);
        self.is_cold = false;
    }

    fn prepare(&mut self, events: &[RawEvent]) -> Result<usize, SchemaError> {
        self.own.clear();
        let mut read = 0;
        let FoldState { own, reading, boundary, filter, .. } = &mut **self;
        for (index, raw) in (0..).zip(events) {
            let tags = || raw.tags.iter().map(Tag::as_str);
            if !filter.matches_parts(&raw.event_type, tags) {
                continue;
            }
            let before = own.len();
            let wanted = |name: &str| boundary.matches_parts(name, tags);
            reading.read(&encoded(raw), wanted, |event| {
                own.push(Own {
                    index,
                    id: raw.id,
                    metadata: raw.metadata.clone(),
                    payload_bytes: raw.payload.len(),
                    event,
                });
            })?;
            read += usize::from(own.len() > before);
        }
        Ok(read)
    }

    fn advance(
        &mut self,
        first: Position,
        last: Position,
        recorded_at: Timestamp,
    ) -> Result<(), FoldError> {
        self.guarded(|state, at| {
            let FoldState { own, fold, reading, payload_bytes, events_since, newest, .. } = state;
            *events_since += own.len() as u64;
            if !own.is_empty() {
                *newest = recorded_at.max(*newest);
            }
            for Own { index, id, metadata, payload_bytes: bytes, event } in std::mem::take(own) {
                let position = first.plus(index);
                *at = position;
                *payload_bytes += bytes;
                let id = id.unwrap_or_else(|| reading.derived_id(position));
                fold.apply(&Recorded { position, recorded_at, id, metadata, event });
            }
            Ok(())
        })?;
        self.considered(last);
        Ok(())
    }

    fn poison(&mut self) {
        self.is_poisoned = true;
    }

    fn load_snapshot(
        &mut self,
        place: &dyn Snapshots,
        log: LogIdentity,
        head: Position,
    ) -> Option<HistoryPoint> {
        let policy = self.policy.clone()?;
        let name = SnapshotPolicy::<F>::name(&self.boundary);
        let declared = self.declared();
        let read = match caught(|| place.load(&name)) {
            Ok(Ok(None)) => return None,
            Ok(Ok(Some(bytes))) => policy.read(log, &name, &declared, &bytes, head),
            Ok(Err(error)) => Err(SnapshotProblem::Unread(error.to_string())),
            Err(panic) => Err(SnapshotProblem::Unread(panic)),
        };
        let reason = match read {
            Ok((kept, checksum)) => {
                self.fold = kept.fold;
                self.position = kept.position;
                self.newest = kept.newest;
                self.payload_bytes = usize::try_from(kept.payload_bytes).unwrap_or(usize::MAX);
                return Some(HistoryPoint { log, position: kept.position, checksum });
            }
            Err(SnapshotProblem::Useless(reason)) => {
                self.remove_snapshot(place, &name);
                reason
            }
            // A snapshot of other code is left alone: that code may run beside this program.
            Err(SnapshotProblem::Unread(reason) | SnapshotProblem::Foreign(reason)) => reason,
        };
        self.warn_of_snapshot(&reason);
        None
    }

    fn forget(&mut self, place: &dyn Snapshots, reason: &str) {
        self.fold = F::default();
        self.position = Position::START;
        self.newest = Timestamp::NEVER;
        self.payload_bytes = 0;
        self.remove_snapshot(place, &SnapshotPolicy::<F>::name(&self.boundary));
        self.warn_of_snapshot(reason);
    }

    fn snapshot_if_due(&mut self, log: LogIdentity) -> Option<SnapshotToSave> {
        let policy = self.policy.as_ref()?;
        if self.events_since < policy.every_events || self.is_poisoned {
            return None;
        }
        let name = SnapshotPolicy::<F>::name(&self.boundary);
        let position = self.position;
        let payload_bytes = self.payload_bytes as u64;
        let newest = self.newest;
        let kept = SavedState { fold: &self.fold, position, newest, payload_bytes };
        let written = policy.write(log, &name, &self.declared(), kept);
        self.events_since = 0;
        match written {
            Ok(snapshot) => Some(SnapshotToSave { name, position, snapshot }),
            Err(reason) => {
                let (fold, boundary) = (type_name::<F>(), &self.boundary);
                tracing::warn!(fold, %boundary, reason, "a state cannot be kept as a snapshot");
                None
            }
        }
    }

    fn unchecked(&self) -> Option<Arc<dyn AnyReading>> {
        let is_checked = self.reading.lacks_no_tag(self.keys.generation);
        (!is_checked).then(|| self.reading.clone() as Arc<dyn AnyReading>)
    }

    fn retagged(&self) -> Option<RetaggedBoundary> {
        // The boundary was narrowed before, so there is no error.
        let found = self.is_retagged.then(|| self.reading.retagged(&self.boundary, &self.keys));
        found?.ok()?
    }

    fn sees(&self, stored: &StoredEvent<'_>) -> Result<bool, SchemaError> {
        let mut is_seen = false;
        let keys = self.is_retagged.then_some(&*self.keys);
        self.reading.read_in(stored, &self.boundary, keys, |_| is_seen = true)?;
        Ok(is_seen)
    }

    fn narrow(&self, filter: &Filter) -> Result<Filter, BoundaryError> {
        self.reading.narrow(filter)
    }
}
