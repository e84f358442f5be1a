//! Snapshots of a view, written while folding continues.

use std::{
    any::type_name,
    sync::Arc,
    thread::{self, JoinHandle},
};

use diptych_store::Position;
use tokio::runtime::Handle;

use super::{View, version::Version};
use crate::follow::SkippedEvent;
use crate::snapshot::{SavedState, ViewSnapshotStore};

/// Writes the snapshots of a view, for the thread that folds.
pub(crate) struct SnapshotWriter<V: View> {
    snapshots: Arc<ViewSnapshotStore<V>>,
    events_since: u64,
    /// The position of the last snapshot that this app wrote or loaded.
    kept: Position,
    /// The thread that writes a snapshot now.
    saving: Option<JoinHandle<Result<Position, String>>>,
}

impl<V: View> SnapshotWriter<V> {
    pub(crate) fn new(snapshots: Arc<ViewSnapshotStore<V>>) -> SnapshotWriter<V> {
        SnapshotWriter { snapshots, events_since: 0, kept: Position::START, saving: None }
    }

    /// The newest usable snapshot in a log that ends at `head`.
    pub(super) fn newest(&mut self, head: Position) -> Option<SavedState<V>> {
        let newest = self.snapshots.newest(head, head);
        self.kept = newest.as_ref().map_or(Position::START, |kept| kept.position);
        newest
    }

    /// The events that the view leaves out for good.
    pub(super) fn skipped(&self) -> Vec<SkippedEvent> {
        match self.snapshots.skipped() {
            Ok(skipped) => skipped,
            Err(reason) => {
                let view = type_name::<V>();
                tracing::warn!(view, reason, "the skipped events of a view cannot be read");
                Vec::new()
            }
        }
    }

    /// Notes the events that the view leaves out for good.
    pub(super) fn save_skipped(&self, skipped: &[SkippedEvent]) -> Result<(), String> {
        self.snapshots.save_skipped(skipped)
    }

    /// Counts events, and says whether a snapshot is due.
    pub(super) fn is_due_after(&mut self, events: usize) -> bool {
        self.events_since += events as u64;
        if self.saving.as_ref().is_some_and(JoinHandle::is_finished) {
            self.settle();
        }
        self.events_since >= self.snapshots.every_events() && self.saving.is_none()
    }

    /// Writes a snapshot of this version on a thread. Folding goes on with another copy.
    pub(super) fn begin(&mut self, image: Arc<Version<V>>) {
        self.events_since = 0;
        let snapshots = self.snapshots.clone();
        let name = format!("diptych snapshot of {}", type_name::<V>());
        // The thread asks the store for the last event, and the store may need the runtime for
        // that.
        let runtime = Handle::try_current().ok();
        let saving = thread::Builder::new().name(name).spawn(move || {
            let _entered = runtime.as_ref().map(Handle::enter);
            let position = image.position();
            let saved = snapshots.save(&image.state, position, image.payload_bytes());
            saved.map(|()| position)
        });
        match saving {
            Ok(saving) => self.saving = Some(saving),
            Err(error) => warn::<V>(&format!("there is no thread for it: {error}")),
        }
    }

    /// Writes a snapshot of this version now, unless there is one.
    pub(super) fn now(&mut self, image: &Version<V>) -> Result<(), String> {
        self.settle();
        let position = image.position();
        if position > self.kept {
            self.snapshots.save(&image.state, position, image.payload_bytes())?;
            (self.kept, self.events_since) = (position, 0);
        }
        Ok(())
    }

    /// Removes all snapshots.
    pub(super) fn forget(&mut self) {
        self.settle();
        (self.kept, self.events_since) = (Position::START, 0);
        if let Err(reason) = self.snapshots.forget() {
            let view = type_name::<V>();
            tracing::warn!(view, reason, "snapshots of a view that is rebuilt are still there");
        }
    }

    /// Waits for the snapshot that is being written.
    fn settle(&mut self) {
        match self.saving.take().map(JoinHandle::join) {
            Some(Ok(Ok(position))) => self.kept = position,
            Some(Ok(Err(reason))) => warn::<V>(&reason),
            Some(Err(_)) => warn::<V>("its thread panicked"),
            None => {}
        }
    }
}

pub(super) fn warn<V>(reason: &str) {
    tracing::warn!(view = type_name::<V>(), reason, "a view could not be kept as a snapshot");
}
