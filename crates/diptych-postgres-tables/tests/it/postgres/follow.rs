//! Runs a projection: reads the log in batches and hands them to it, until it is at the head.

use diptych::{
    Event, Filter, Position, Recorded, Store,
    event::EncodedEvent,
    projection::{BatchError, Checkpoint, ReplacedError, Target, TargetError, check, take},
    store::{EventRef, LogIdentity, Read},
};
use pollster::block_on;

#[derive(Debug)]
pub(super) enum End {
    Replaced(ReplacedError),
    Stopped(BatchError),
    Target(TargetError),
}

/// Applies all events of the store. Returns how often another runner had moved the checkpoint.
pub(super) fn follow<T: Target>(
    store: &Store,
    target: &mut T,
    batch_events: usize,
) -> Result<u64, End> {
    follow_as(store.identity(), store, target, batch_events)
}

/// Follows the store as if it had the identity of this log.
pub(super) fn follow_as<T: Target>(
    log: LogIdentity,
    store: &Store,
    target: &mut T,
    batch_events: usize,
) -> Result<u64, End> {
    let at = target.checkpoint().map_err(End::Target)?;
    follow_from(at, log, store, target, batch_events)
}

/// Follows from this checkpoint, which the caller has read.
pub(super) fn follow_from<T: Target>(
    mut at: Option<Checkpoint>,
    log: LogIdentity,
    store: &Store,
    target: &mut T,
    batch_events: usize,
) -> Result<u64, End> {
    let mut moved = 0;
    loop {
        let head = store.head().position();
        let event = at.and_then(|at| block_on(store.checksum(at.position)).unwrap());
        let after = check(at, log, head, event).map_err(End::Replaced)?;
        if after == head {
            return Ok(moved);
        }
        let (events, position) = read::<T::Event>(store, after, batch_events);
        let checksum = |position| Ok(block_on(store.checksum(position)).unwrap().unwrap());
        let to = Checkpoint { log, position, checksum: checksum(position).ok() };
        match take(target, &events, at, to, checksum) {
            Ok(reached) => at = Some(reached),
            Err(BatchError { cause: TargetError::Moved { found }, .. }) => {
                moved += 1;
                at = found;
            }
            Err(stopped) => return Err(End::Stopped(stopped)),
        }
    }
}

/// The next events, and the position that they reach.
pub(super) fn read<E: Event>(
    store: &Store,
    after: Position,
    most: usize,
) -> (Vec<Recorded<E>>, Position) {
    let filter = Filter::types(E::types().iter().map(|known| known.name));
    let batch = block_on(store.read(&filter, Read::after(after).limit(most))).unwrap();
    (batch.iter().map(|event| decoded(&event)).collect(), batch.upto())
}

pub(super) fn decoded<E: Event>(event: &EventRef<'_>) -> Recorded<E> {
    let encoded = EncodedEvent {
        event_type: event.event_type(),
        version: event.version(),
        payload: event.payload(),
    };
    Recorded {
        position: event.position(),
        recorded_at: event.recorded_at(),
        id: event.id().unwrap_or_default(),
        metadata: event.metadata(),
        event: E::decode(&encoded).unwrap(),
    }
}

/// The error before or in a step.
pub(super) fn trouble(end: Result<u64, End>) -> TargetError {
    match end {
        Err(End::Target(error)) => error,
        Err(End::Stopped(stopped)) => stopped.cause,
        other => panic!("there was no trouble: {other:?}"),
    }
}

/// Where and why the projection refused an event.
pub(super) fn refused(end: Result<u64, End>) -> (u64, String) {
    match trouble(end) {
        TargetError::Event { position, reason, .. } => (position.get(), reason),
        other => panic!("no event was refused: {other}"),
    }
}
