//! One version of a view: its state at a position.

use std::{
    any::type_name,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use diptych_store::Position;

use super::View;
use crate::{
    fold::{FoldError, FoldFailure},
    follow::{FollowerStop, Slice},
    panics::panic_text,
};

/// A view as it was at a position.
pub(crate) struct Version<V> {
    pub(crate) state: V,
    /// All events up to here are applied. The position may grow while the version is shown, if no
    /// new event matches the view.
    position: AtomicU64,
    /// Bytes of the payloads that were applied.
    payload_bytes: AtomicU64,
    /// Counts the existing versions.
    _alive: Arc<()>,
}

impl<V> Version<V> {
    pub(super) fn new(
        state: V,
        position: Position,
        payload_bytes: u64,
        alive: &Arc<()>,
    ) -> Version<V> {
        let (position, payload_bytes) =
            (AtomicU64::new(position.get()), AtomicU64::new(payload_bytes));
        Version { state, position, payload_bytes, _alive: alive.clone() }
    }

    pub(crate) fn position(&self) -> Position {
        Position::new(self.position.load(Ordering::Acquire))
    }

    pub(crate) fn payload_bytes(&self) -> u64 {
        self.payload_bytes.load(Ordering::Relaxed)
    }

    /// Notes that no further event up to here matches the view.
    pub(super) fn considered(&self, upto: Position) {
        self.position.fetch_max(upto.get(), Ordering::AcqRel);
    }

    /// Sets the position up to which all events are applied.
    pub(super) fn set_position(&self, upto: Position) {
        self.position.store(upto.get(), Ordering::Release);
    }
}

impl<V: View> Version<V> {
    /// Applies the events of a slice. After a failure the state is incomplete.
    pub(super) fn take(&mut self, slice: &Slice<V::Event>) -> Result<(), FollowerStop> {
        let at = Cell::new(Position::START);
        let state = &mut self.state;
        let run = || {
            for event in slice.events() {
                at.set(event.position);
                state.apply(event);
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            let cause = FoldFailure::Panicked(panic_text(&*panic));
            let (fold, position) = (type_name::<V>(), at.get());
            let reason = FoldError { fold, position, cause }.to_string();
            return Err(FollowerStop { at: position, reason });
        }
        let bytes = slice.payload_bytes() as u64;
        self.payload_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.position.store(slice.upto.get(), Ordering::Release);
        Ok(())
    }
}
