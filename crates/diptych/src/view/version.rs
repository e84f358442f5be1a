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
    follow::{FollowerStop, Portion, Quarantine},
    panics::panic_text,
};

/// A view as it was at a position.
pub(crate) struct Version<V> {
    pub(crate) state: V,
    /// All events up to here are applied. The position may grow while the version is shown, if no
    /// new event matches the view.
    position: AtomicU64,
    /// The keys that lack events.
    quarantine: Arc<Quarantine>,
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
        quarantine: Arc<Quarantine>,
        alive: &Arc<()>,
    ) -> Version<V> {
        let (position, payload_bytes) =
            (AtomicU64::new(position.get()), AtomicU64::new(payload_bytes));
        Version { state, position, quarantine, payload_bytes, _alive: alive.clone() }
    }

    pub(crate) fn position(&self) -> Position {
        Position::new(self.position.load(Ordering::Acquire))
    }

    pub(super) fn set_quarantine(&mut self, quarantine: Arc<Quarantine>) {
        self.quarantine = quarantine;
    }

    pub(crate) fn quarantine(&self) -> &Arc<Quarantine> {
        &self.quarantine
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
    /// Applies the events of a portion. After a failure the state is incomplete.
    pub(super) fn take(&mut self, portion: &Portion<V::Event>) -> Result<(), FollowerStop> {
        let Portion { slice, left_out, quarantine } = portion;
        let at = Cell::new(Position::START);
        let state = &mut self.state;
        let run = || {
            for event in slice.events() {
                if !left_out.is_empty() && left_out.contains(&event.position) {
                    continue;
                }
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
        // Held events are below the position of the version.
        self.position.fetch_max(slice.upto.get(), Ordering::AcqRel);
        self.quarantine = quarantine.clone();
        Ok(())
    }
}
