//! A store that gives the answers of another one, with one lie.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use diptych_store::{
    Batch, BatchBuilder, Direction, HeadPublisher, Limits, Position, RawEvent, Store, Timestamp,
    encoding, testing::WrappedStore,
};

/// The lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Every third batch has events with another payload.
    OtherBytes,
    /// Every third batch has one more event, at a position that no log reaches.
    OneMoreEvent,
    /// Every second head is the head at the start.
    FirstHead,
    /// The handle is the only one that writes.
    WritesAlone,
}

/// A store that gives the answers of this one, with the lie.
pub(crate) fn tampered(store: Store, lie: Lie) -> WrappedStore {
    let first = HeadPublisher::new(store.head().position());
    let wrapped = WrappedStore::over(store);
    let turns = Arc::new(Turns::default());
    match lie {
        Lie::OtherBytes => wrapped.read_by(move |store, filter, read| {
            let turns = turns.clone();
            async move {
                let batch = store.read(&filter, read).await?;
                Ok(if turns.is_turn(3) { rebuild(&batch, None) } else { batch })
            }
        }),
        Lie::OneMoreEvent => wrapped.read_by(move |store, filter, read| {
            let turns = turns.clone();
            async move {
                let forwards = read.direction == Direction::Forwards;
                let batch = store.read(&filter, read.clone()).await?;
                let lies = forwards && batch.len() < read.limit && turns.is_turn(3);
                Ok(if lies { rebuild(&batch, Some(1_000_000)) } else { batch })
            }
        }),
        Lie::FirstHead => {
            wrapped.head_by(move |store| if turns.is_turn(2) { first.head() } else { store.head() })
        }
        Lie::WritesAlone => wrapped.other_writers(false),
    }
}

#[derive(Default)]
struct Turns(AtomicU64);

impl Turns {
    fn is_turn(&self, every: u64) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst) % every == every - 1
    }
}

/// The batch with other payloads, or with one more event at this position.
fn rebuild(batch: &Batch, more: Option<u64>) -> Batch {
    let mut builder = BatchBuilder::new();
    let mut push = |position: Position, at: Timestamp, event: &RawEvent| {
        let mut bytes = Vec::new();
        encoding::encode(event, &Limits::default(), &mut bytes).unwrap();
        let end = u32::try_from(bytes.len()).unwrap();
        let chunk = builder.chunk(Bytes::from(bytes));
        builder.push(position, at, chunk, 0, end).unwrap();
    };
    for event in batch.iter() {
        let mut raw = event.to_raw();
        if more.is_none() {
            raw.payload.push(b'!');
        }
        push(event.position(), event.recorded_at(), &raw);
    }
    if let Some(position) = more {
        push(position.into(), Timestamp::NEVER, &RawEvent::new("opened", b"phantom"));
    }
    builder.finish(batch.upto(), batch.commit_end())
}
