//! The whole: a store, and what works on it.

use std::{any::TypeId, fmt, sync::Arc};

use diptych_store::{EventStore, LogIdentity, Store, Unavailable};
use serde::{Serialize, de::DeserializeOwned};
#[cfg(feature = "log")]
use tokio::runtime::Handle;

use crate::{
    Command, Execute, Figures, Fold, Lane, LaneOptions, Retries, SchemaError, SnapshotOptions,
    Snapshots, Upcasters,
    command::{
        core::Core,
        error::Failure,
        schema::{Keepings, Schema},
    },
    snapshot::Keeping,
};

/// A store and everything that works on it: executes commands. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct App {
    pub(crate) core: Arc<Core>,
    #[cfg(feature = "log")]
    log: Option<diptych_log::Log>,
}

/// An app that is being put together.
#[must_use = "an app does nothing before it is started"]
pub struct AppBuilder {
    store: Store,
    #[cfg(feature = "log")]
    log: Option<diptych_log::Log>,
    upcasters: Upcasters,
    cache_bytes: usize,
    retries: Retries,
    snapshots: Option<Arc<dyn Snapshots>>,
    keepings: Keepings,
}

/// Why an app could not be started.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Declarations that contradict each other.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Snapshots were asked for and have no place.
    #[error("snapshots were asked for and have no place: name one with `snapshots_in`")]
    NoSnapshotPlace,
    /// The place for snapshots beside the log cannot be used.
    #[error("the place for snapshots cannot be used: {0}; mend it, or start without snapshots")]
    SnapshotPlace(#[source] Arc<std::io::Error>),
}

/// Why an app did not stop in order. What was acknowledged is safe.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// Something that was accepted could not be synced; whoever waited for it was told.
    #[error("the app stopped, but not everything accepted is durable: {0}")]
    NotSynced(#[source] Unavailable),
}

impl App {
    /// Opens the log in this folder, creating both if missing.
    ///
    /// # Errors
    /// [`OpenError`](crate::OpenError): another process holds the folder, the log is damaged, or
    /// its files cannot be used.
    #[cfg(feature = "log")]
    pub fn open(folder: impl AsRef<std::path::Path>) -> Result<AppBuilder, crate::OpenError> {
        App::open_with(folder, crate::LogOptions::default())
    }

    /// Opens the log in this folder with these options, creating both if missing.
    ///
    /// # Errors
    /// As [`open`](App::open).
    #[cfg(feature = "log")]
    pub fn open_with(
        folder: impl AsRef<std::path::Path>,
        options: crate::LogOptions,
    ) -> Result<AppBuilder, crate::OpenError> {
        let log = diptych_log::Log::open(folder, options)?;
        let mut builder = App::over(log.clone());
        builder.log = Some(log);
        Ok(builder)
    }

    /// An app over a store of any kind.
    pub fn over(store: impl EventStore) -> AppBuilder {
        App::over_store(Store::new(store))
    }

    /// An app over a store that others use too.
    pub fn over_store(store: Store) -> AppBuilder {
        AppBuilder {
            store,
            #[cfg(feature = "log")]
            log: None,
            upcasters: Upcasters::new(),
            cache_bytes: AppBuilder::CACHE_BYTES,
            retries: Retries::default(),
            snapshots: None,
            keepings: Keepings::default(),
        }
    }

    /// Sends a command: fold its boundary, decide, append what was decided on the condition that
    /// nothing came in between.
    pub fn execute<C: Command>(&self, command: C) -> Execute<C> {
        Execute::new(self.clone(), None, command)
    }

    /// A lane: commands decided in the order in which they are submitted.
    pub fn lane(&self) -> Lane {
        self.lane_with(LaneOptions::default())
    }

    /// A lane with these options.
    pub fn lane_with(&self, options: LaneOptions) -> Lane {
        Lane::new(self.clone(), options)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.core.store
    }

    /// Which log this is, and which history of it.
    pub fn identity(&self) -> LogIdentity {
        self.core.identity
    }

    /// What was done since the app was started.
    pub fn figures(&self) -> Figures {
        self.core.figures()
    }

    /// Takes no further commands, waits until those that run have their answers and everything
    /// that was accepted is durable, and closes the log if the app opened it. All clones are
    /// stopped. Dropping an app instead is safe, too: what was acknowledged is durable.
    ///
    /// # Errors
    /// [`StopError`] if something that was accepted could not be synced.
    pub async fn stop(self) -> Result<(), StopError> {
        let drained = self.core.drain().await;
        #[cfg(feature = "log")]
        if let Some(log) = self.log {
            let closed = match Handle::try_current() {
                Ok(runtime) => runtime.spawn_blocking(move || log.close()).await.unwrap_or(Ok(())),
                // Without a runtime it is this thread's to wait.
                Err(_) => log.close(),
            };
            if let Err(error) = closed {
                return Err(StopError::NotSynced(error.cause));
            }
        }
        match drained {
            Err(Failure::Unavailable(cause)) => Err(StopError::NotSynced(cause)),
            _ => Ok(()),
        }
    }
}

impl AppBuilder {
    /// What decision states may take in memory, if nothing else is said.
    pub const CACHE_BYTES: usize = 64 << 20;

    /// How events that older programs wrote are read.
    pub fn upcasters(mut self, upcasters: Upcasters) -> AppBuilder {
        self.upcasters = upcasters;
        self
    }

    /// How many bytes the states of decisions may take in memory; 0 for none, so that every
    /// command reads its boundary.
    pub fn cache_bytes(mut self, bytes: usize) -> AppBuilder {
        self.cache_bytes = bytes;
        self
    }

    /// What is done when others were quicker.
    pub fn retries(mut self, retries: Retries) -> AppBuilder {
        self.retries = retries;
        self
    }

    /// Keeps states that `F` has in decisions outside the log, so that a long history is not
    /// folded from its beginning after a restart. An app that opened its log keeps them beside
    /// it; any other needs [`snapshots_in`](AppBuilder::snapshots_in).
    ///
    /// A snapshot is used by the executable that made it alone, unless the fold has a
    /// [version](Fold::VERSION).
    ///
    /// Snapshots are written as MessagePack, which cannot tell `Some` of nothing from `None`: a
    /// state that holds a `Some(None)` or a `Some(())` is not kept, with a warning. What a type
    /// does not serialise (`#[serde(skip)]`) is not in the snapshot.
    pub fn decision_snapshots<F>(mut self, options: SnapshotOptions) -> AppBuilder
    where
        F: Fold + Serialize + DeserializeOwned,
    {
        if let Some(keeping) = Keeping::<F>::new(options.every_events) {
            self.keepings.insert(TypeId::of::<F>(), Arc::new(keeping));
        }
        self
    }

    /// Where snapshots are kept.
    pub fn snapshots_in(mut self, place: impl Snapshots) -> AppBuilder {
        self.snapshots = Some(Arc::new(place));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`StartError`] if declarations contradict each other, or snapshots have no place.
    pub async fn start(mut self) -> Result<App, StartError> {
        let limits = self.store.limits();
        if self.keepings.is_empty() {
            self.snapshots = None;
        } else if self.snapshots.is_none() {
            self.snapshots = Some(self.beside_the_log()?);
        }
        let log = self.store.identity().id;
        let schema = Schema::new(self.upcasters, log, limits.tag_bytes, self.keepings)?;
        let AppBuilder { store, cache_bytes, retries, snapshots, .. } = self;
        let core = Core::new(store, schema, cache_bytes, retries, snapshots);
        Ok(App {
            core: Arc::new(core),
            #[cfg(feature = "log")]
            log: self.log,
        })
    }

    #[cfg(feature = "log")]
    fn beside_the_log(&self) -> Result<Arc<dyn Snapshots>, StartError> {
        let log = self.log.as_ref().ok_or(StartError::NoSnapshotPlace)?;
        match log.snapshots() {
            Ok(place) => Ok(Arc::new(place)),
            Err(error) => Err(StartError::SnapshotPlace(Arc::new(error))),
        }
    }

    #[cfg(not(feature = "log"))]
    fn beside_the_log(&self) -> Result<Arc<dyn Snapshots>, StartError> {
        Err(StartError::NoSnapshotPlace)
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("store", &self.core.store).finish_non_exhaustive()
    }
}

impl fmt::Debug for AppBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppBuilder").field("store", &self.store).finish_non_exhaustive()
    }
}
