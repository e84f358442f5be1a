//! The left panel of an app as one value: the state that its commands share.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use diptych_store::{
    AcceptedCommit, EventRef, Filter, Head, Key, LogIdentity, Position, RawEvent, Store,
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify, task::JoinSet};

use super::{
    CacheFigures, KeyReused, cache::Cache, error::CommandError, folds::StateSource, gates::Gates,
    metrics::CommandMetrics, retries::Retries, state::Due, unsynced::Unsynced,
};
use crate::{
    event::{Declared, Recorded, Schema, SchemaError, derived_id},
    lineage::Lineage,
    panics::caught,
    snapshot::{Keepings, Snapshots},
    token::Receipt,
};

/// Snapshots that may be on their way at once.
const SAVES: usize = 64;
/// Commits in a row after which a store is taken to publish what it accepts at once.
const PROMPT: u32 = 64;

/// The left panel of an app.
pub(crate) struct LeftPanel {
    pub(crate) store: Store,
    /// The store's, which is asked for all the time.
    pub(crate) head: Head,
    pub(crate) identity: LogIdentity,
    /// Which history the log has.
    pub(crate) lineage: Arc<Lineage>,
    pub(crate) schema: Arc<Schema>,
    pub(crate) keepings: Keepings,
    pub(crate) cache: Cache,
    pub(crate) gates: Gates,
    pub(crate) unsynced: Unsynced,
    pub(crate) retries: Retries,
    pub(crate) figures: Counters,
    pub(crate) metrics: CommandMetrics,
    pub(crate) running: Running,
    pub(crate) snapshots: Option<Arc<dyn Snapshots>>,
    saves: Mutex<JoinSet<()>>,
    /// How many commits in a row were published by the time they were accepted: of a store that
    /// always does that nothing is copied for the time between.
    prompt: AtomicU32,
    /// The last position that was accepted for a command.
    last_accepted: AtomicU64,
}

#[derive(Default)]
pub(crate) struct Counters {
    conflicts: AtomicU64,
    accepted: AtomicU64,
}

/// What the left panel did since the app was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Commands whose events were accepted.
    pub accepted: u64,
    /// Decisions that something came in between of, so that they were made again or given up.
    pub conflicts: u64,
    /// States of decisions that are kept.
    pub cache: CacheFigures,
}

impl LeftPanel {
    pub(crate) fn new(
        lineage: Arc<Lineage>,
        schema: Arc<Schema>,
        keepings: Keepings,
        cache_bytes: usize,
        retries: Retries,
        snapshots: Option<Arc<dyn Snapshots>>,
    ) -> LeftPanel {
        LeftPanel {
            identity: lineage.log(),
            head: lineage.store().head(),
            store: lineage.store().clone(),
            lineage,
            schema,
            keepings,
            cache: Cache::new(cache_bytes),
            gates: Gates::default(),
            unsynced: Unsynced::default(),
            retries,
            figures: Counters::default(),
            metrics: CommandMetrics::new(),
            running: Running::default(),
            snapshots,
            saves: Mutex::default(),
            prompt: AtomicU32::new(0),
            last_accepted: AtomicU64::new(0),
        }
    }

    /// Where the states of decisions come from.
    pub(super) fn states(&self) -> StateSource<'_> {
        StateSource {
            schema: &self.schema,
            keepings: Some(&self.keepings),
            cache: Some(&self.cache),
        }
    }

    /// Whether the events of a commit are to be kept until it is published.
    pub(crate) fn keeps_accepted(&self) -> bool {
        self.prompt.load(Ordering::Relaxed) < PROMPT
    }

    /// Notes what was accepted; `events` are its events, if they were kept.
    pub(crate) fn accepted(&self, accepted: &AcceptedCommit, events: Option<Arc<[RawEvent]>>) {
        self.figures.accepted.fetch_add(1, Ordering::Relaxed);
        self.last_accepted.fetch_max(accepted.last.get(), Ordering::Relaxed);
        if accepted.sync.is_done() {
            if events.is_some() {
                self.prompt.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        self.prompt.store(0, Ordering::Relaxed);
        let head = self.head.position();
        match events {
            Some(events) => {
                self.unsynced.enter(accepted.first, accepted.recorded_at, events, head);
            }
            None => self.unsynced.enter_unknown(accepted.last, head),
        }
    }

    /// # Errors
    /// [`SchemaError::Untagged`] if a stored event lacks a tag that the boundary asks for.
    pub(crate) async fn sees_older(
        &self,
        declared: &dyn Declared,
        boundary: &Filter,
    ) -> Result<(), CommandError> {
        let untagged = self.schema.untagged(&self.store, declared).await?;
        match untagged.iter().find(|untagged| untagged.concerns(boundary)) {
            Some(untagged) => Err(SchemaError::Untagged(untagged.clone()).into()),
            None => Ok(()),
        }
    }

    pub(crate) fn recorded(&self, event: &EventRef<'_>) -> Recorded<RawEvent> {
        let position = event.position();
        Recorded {
            position,
            recorded_at: event.recorded_at(),
            id: event.id().unwrap_or_else(|| derived_id(self.identity.id, position)),
            metadata: event.metadata(),
            event: event.to_raw(),
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            accepted: self.figures.accepted.load(Ordering::Relaxed),
            conflicts: self.figures.conflicts.load(Ordering::Relaxed),
            cache: self.cache.figures(),
        }
    }

    /// Something came in between of a decision and its append.
    pub(crate) fn conflict(&self) {
        self.figures.conflicts.fetch_add(1, Ordering::Relaxed);
        self.metrics.conflicts.increment(1);
    }

    /// The last position that was accepted for a command of this app.
    pub(crate) fn last_accepted(&self) -> Position {
        Position::new(self.last_accepted.load(Ordering::Relaxed))
    }

    /// Lets no further command begin, and waits until those that run have their answers and
    /// everything that was accepted is synced.
    pub(crate) async fn drain(&self) -> Result<(), CommandError> {
        self.running.stop().await;
        let last = Position::new(self.last_accepted.load(Ordering::Relaxed));
        let synced = match self.head.position() < last {
            true => self.head.after(last.before()).await.map(drop),
            false => Ok(()),
        };
        // Also where that failed: what is being saved is of what was synced before.
        let mut saves = std::mem::take(&mut *self.saves.lock());
        while saves.join_next().await.is_some() {}
        Ok(synced?)
    }

    /// Waits until everything up to here is published.
    pub(crate) async fn published_upto(&self, position: Position) -> Result<(), CommandError> {
        if self.head.position() < position {
            self.head.after(position.before()).await?;
        }
        Ok(())
    }

    /// The receipt of the commit under this key, if there is one.
    pub(crate) async fn committed_under(&self, key: &Key) -> Result<Option<Receipt>, CommandError> {
        let Some(commit) = self.store.keyed(&key.name).await? else { return Ok(None) };
        let (first, last) = (commit.first, commit.last);
        if commit.digest != key.digest {
            let key = key.name.to_string();
            return Err(CommandError::KeyReused(KeyReused { key, first, last }));
        }
        Ok(Some(self.receipt(first, last).await?))
    }

    /// The receipt of the events from `first` to `last`.
    pub(crate) async fn receipt(
        &self,
        first: Position,
        last: Position,
    ) -> Result<Receipt, CommandError> {
        Ok(Receipt::new(first, self.lineage.point(last).await?))
    }

    /// Keeps a state outside the log in the background, once what it rests on is published.
    pub(crate) fn save(&self, due: Due) {
        let (Some(place), Ok(runtime)) = (self.snapshots.clone(), Handle::try_current()) else {
            return;
        };
        let mut saves = self.saves.lock();
        while saves.try_join_next().is_some() {}
        // A snapshot may be left out; the next one comes.
        if saves.len() >= SAVES {
            return;
        }
        let (head, lineage) = (self.head.clone(), self.lineage.clone());
        let save = async move {
            let Due { name, position, snapshot } = due;
            if head.position() < position && head.after(position.before()).await.is_err() {
                return;
            }
            // Only now the log has the event that the snapshot ends with.
            let checksum = match lineage.point(position).await {
                Ok(point) => point.checksum,
                Err(error) => {
                    tracing::warn!(%error, "a snapshot could not be saved");
                    return;
                }
            };
            let save = move || {
                let bytes = snapshot.seal(checksum);
                caught(|| place.save(&name, &bytes))
            };
            let error = match tokio::task::spawn_blocking(save).await {
                Ok(Ok(Err(error))) => error.to_string(),
                Ok(Err(panic)) => panic,
                _ => return,
            };
            tracing::warn!(error, "a snapshot could not be saved");
        };
        saves.spawn_on(save, &runtime);
    }
}

/// How many commands run, and whether others may begin.
#[derive(Default)]
pub(crate) struct Running {
    /// Twice the number of commands, plus one when no other may begin.
    state: AtomicUsize,
    ended: Notify,
}

/// A command that runs.
pub(crate) struct Run<'a>(&'a Running);

impl Running {
    pub(crate) fn begin(&self) -> Result<Run<'_>, CommandError> {
        let before = self.state.fetch_add(2, Ordering::AcqRel);
        let run = Run(self);
        if before & 1 == 1 {
            return Err(CommandError::Stopped);
        }
        Ok(run)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state.load(Ordering::Acquire) & 1 == 1
    }

    async fn stop(&self) {
        self.state.fetch_or(1, Ordering::AcqRel);
        loop {
            let ended = self.ended.notified();
            if self.state.load(Ordering::Acquire) == 1 {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(2, Ordering::AcqRel) == 3 {
            self.0.ended.notify_waiters();
        }
    }
}
