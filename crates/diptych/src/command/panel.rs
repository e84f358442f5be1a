//! The left panel of an app as one value: the state that its commands share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use diptych_store::{
    AcceptedCommit, EventRef, Filter, Head, Key, KeyedCommit, LogIdentity, Position, RawEvent,
    Store,
};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{runtime::Handle, sync::Notify, task::JoinSet};

use super::{
    CacheStats, KeyReused,
    accepted::AcceptedWindow,
    cache::Cache,
    context::RuleClock,
    error::CommandError,
    folds::StateSource,
    gates::Gates,
    metrics::CommandMetrics,
    note::{check_key, note_key},
    ordinals::Ordinals,
    retries::Retries,
    state::SnapshotToSave,
};
use crate::{
    event::{AnyReading, Recorded, Schema, derived_id},
    lineage::Lineage,
    panics::caught,
    snapshot::{SnapshotPolicies, Snapshots},
    token::Receipt,
    wait,
};

/// Maximum number of snapshots that are written at once.
const SAVES: usize = 64;
/// After this number of commits in a row that were published at once, the store is assumed to
/// publish every commit at once.
const PROMPT: u32 = 64;

/// The left panel of an app.
pub(crate) struct LeftPanel {
    pub(crate) store: Store,
    /// The head of the store, kept here because every command asks for it.
    pub(crate) head: Head,
    pub(crate) identity: LogIdentity,
    /// The history of the log.
    pub(crate) lineage: Arc<Lineage>,
    pub(crate) schema: Arc<Schema>,
    pub(crate) policies: SnapshotPolicies,
    pub(crate) cache: Cache,
    pub(crate) gates: Gates,
    pub(crate) ordinals: Ordinals,
    pub(crate) accepted_window: AcceptedWindow,
    pub(crate) retries: Retries,
    /// The clock of rules.
    pub(crate) clock: RuleClock,
    pub(crate) counters: Counters,
    pub(crate) metrics: CommandMetrics,
    pub(crate) running: Running,
    pub(crate) snapshots: Option<Arc<dyn Snapshots>>,
    saves: Mutex<JoinSet<()>>,
    /// Number of commits in a row that were published by the time they were accepted. For a store
    /// that publishes every commit at once, no events are copied into the window.
    prompt: AtomicU32,
    /// The last position that was accepted for a command.
    last_accepted: AtomicU64,
}

#[derive(Default)]
pub(crate) struct Counters {
    conflicts: AtomicU64,
    accepted: AtomicU64,
}

/// Counters of commands since the app was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandStats {
    /// Commands whose events were accepted.
    pub accepted: u64,
    /// Decisions invalidated by a concurrent commit. Each was made again or given up.
    pub conflicts: u64,
    /// The cache of decision states.
    pub cache: CacheStats,
}

impl LeftPanel {
    pub(crate) fn new(
        lineage: Arc<Lineage>,
        schema: Arc<Schema>,
        policies: SnapshotPolicies,
        cache_bytes: usize,
        retries: Retries,
        clock: RuleClock,
        snapshots: Option<Arc<dyn Snapshots>>,
    ) -> LeftPanel {
        LeftPanel {
            identity: lineage.log(),
            head: lineage.store().head(),
            store: lineage.store().clone(),
            lineage,
            schema,
            policies,
            cache: Cache::new(cache_bytes),
            gates: Gates::default(),
            ordinals: Ordinals::default(),
            accepted_window: AcceptedWindow::default(),
            retries,
            clock,
            counters: Counters::default(),
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
            policies: Some(&self.policies),
            cache: Some(&self.cache),
        }
    }

    /// Whether the events of a commit have to be kept until it is published.
    pub(crate) fn keeps_accepted(&self) -> bool {
        self.prompt.load(Ordering::Relaxed) < PROMPT
    }

    /// Notes an accepted commit; `events` are its events, if they were kept.
    pub(crate) fn accepted(&self, accepted: &AcceptedCommit, events: Option<Arc<[RawEvent]>>) {
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
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
                self.accepted_window.enter(accepted.first, accepted.recorded_at, events, head);
            }
            None => self.accepted_window.enter_unknown(accepted.last, head),
        }
    }

    /// # Errors
    /// [`SchemaError::MissingTag`] if a stored event lacks a tag that the boundary asks for.
    pub(crate) async fn sees_older(
        &self,
        declared: &dyn AnyReading,
        boundary: &Filter,
    ) -> Result<(), CommandError> {
        let untagged = self.schema.untagged(&self.store, declared).await?;
        if untagged.iter().any(|untagged| untagged.concerns(boundary)) {
            // Another process may have given the older events their tags.
            self.schema.keys_over(&self.store, declared, boundary).await?;
        }
        Ok(())
    }

    /// The events in this boundary that a stored event is today.
    pub(crate) fn recorded(
        &self,
        event: &EventRef<'_>,
        boundary: &Filter,
    ) -> impl Iterator<Item = Recorded<RawEvent>> + use<> {
        let (position, recorded_at, metadata) =
            (event.position(), event.recorded_at(), event.metadata());
        let id = event.id().unwrap_or_else(|| derived_id(self.identity.id, position));
        let today = self.schema.today(event, boundary).into_iter();
        today.map(move |event| Recorded {
            position,
            recorded_at,
            id,
            metadata: metadata.clone(),
            event,
        })
    }

    pub(crate) fn stats(&self) -> CommandStats {
        CommandStats {
            accepted: self.counters.accepted.load(Ordering::Relaxed),
            conflicts: self.counters.conflicts.load(Ordering::Relaxed),
            cache: self.cache.stats(),
        }
    }

    /// Counts a decision that a concurrent commit invalidated.
    pub(crate) fn conflict(&self) {
        self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
        self.metrics.conflicts.increment(1);
    }

    /// The last position that was accepted for a command of this app.
    pub(crate) fn last_accepted(&self) -> Position {
        Position::new(self.last_accepted.load(Ordering::Relaxed))
    }

    /// Whether every accepted commit of this app is published.
    pub(crate) fn is_published(&self) -> bool {
        self.head.position() >= self.last_accepted()
    }

    /// Admits no further command, and waits until the running commands have their answers, at most
    /// `longest`, and every accepted commit is synced. Returns the number of commands that still
    /// run.
    pub(crate) async fn drain(&self, longest: Duration) -> (usize, Result<(), CommandError>) {
        let running = match wait::within(longest, self.running.stop()).await {
            Some(()) => 0,
            None => self.running.count(),
        };
        let synced = self.published_upto(self.last_accepted()).await;
        // This waits for saves even after a failure, because they contain synced events only.
        let mut saves = std::mem::take(&mut *self.saves.lock());
        while saves.join_next().await.is_some() {}
        (running, synced)
    }

    /// Waits until everything up to here is published.
    pub(crate) async fn published_upto(&self, position: Position) -> Result<(), CommandError> {
        if self.head.position() < position {
            self.head.upto(position).await?;
        }
        Ok(())
    }

    /// The receipt of the commit under this key, if there is one.
    pub(crate) async fn committed_under(&self, key: &Key) -> Result<Option<Receipt>, CommandError> {
        let Some(commit) = self.keyed(&key.name).await? else { return Ok(None) };
        let (first, last) = (commit.first, commit.last);
        if commit.digest != key.digest {
            let key = key.name.to_string();
            return Err(CommandError::KeyReused(KeyReused { key, first, last }));
        }
        Ok(Some(self.receipt(first, last).await?))
    }

    /// The receipt of the commit under the key of this name, whatever its command is.
    pub(crate) async fn receipt_under(&self, key: &str) -> Result<Option<Receipt>, CommandError> {
        check_key(key).map_err(CommandError::Invalid)?;
        match self.keyed(key).await? {
            Some(KeyedCommit { first, last, .. }) => Ok(Some(self.receipt(first, last).await?)),
            None => Ok(None),
        }
    }

    /// The receipt of the note that this command, sent under `key`, was rejected for this reason.
    pub(crate) async fn note_under(
        &self,
        key: &str,
        command: &(impl Serialize + ?Sized),
        rejection: &(impl Serialize + ?Sized),
    ) -> Result<Option<Receipt>, CommandError> {
        let key = note_key(key, command, rejection).map_err(CommandError::Invalid)?;
        self.committed_under(&key).await
    }

    /// Whether the log has a commit under this key, also one that was accepted just now.
    pub(crate) async fn is_committed(&self, key: &str) -> Result<bool, CommandError> {
        self.published_upto(self.last_accepted()).await?;
        Ok(self.keyed(key).await?.is_some())
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, CommandError> {
        let found = self.store.keyed(key).await?;
        if found.is_some() || !self.store.has_other_writers() {
            return Ok(found);
        }
        // Another process may have committed it.
        self.store.fresh_head().await?;
        Ok(self.store.keyed(key).await?)
    }

    /// The receipt of the events from `first` to `last`.
    pub(crate) async fn receipt(
        &self,
        first: Position,
        last: Position,
    ) -> Result<Receipt, CommandError> {
        Ok(Receipt::new(first, self.lineage.point(last).await?))
    }

    /// Writes a snapshot in the background, once the events in its state are published.
    pub(crate) fn save(&self, due: SnapshotToSave) {
        let (Some(place), Ok(runtime)) = (self.snapshots.clone(), Handle::try_current()) else {
            return;
        };
        let mut saves = self.saves.lock();
        while saves.try_join_next().is_some() {}
        // A snapshot may be skipped, because a later one follows.
        if saves.len() >= SAVES {
            return;
        }
        let (head, lineage) = (self.head.clone(), self.lineage.clone());
        let save = async move {
            let SnapshotToSave { name, position, snapshot } = due;
            if head.position() < position && head.upto(position).await.is_err() {
                return;
            }
            // The log can be asked for the event at the snapshot's end only now that it is
            // published.
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

/// The number of running commands, and whether further commands may begin.
#[derive(Default)]
pub(crate) struct Running {
    /// Twice the number of running commands, plus one when no further command may begin.
    state: AtomicUsize,
    ended: Notify,
}

/// A running command. Dropping it ends the command.
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

    fn count(&self) -> usize {
        self.state.load(Ordering::Acquire) / 2
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
