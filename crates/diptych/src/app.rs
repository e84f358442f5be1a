//! An app: a store with the commands, views, queries and projections over it.

#[cfg(feature = "remote")]
mod connect;
mod declaring;
mod error;
#[cfg(feature = "log")]
mod opening;
mod past;
mod retag;
mod settings;

use std::{collections::HashSet, fmt, io, num::NonZeroUsize, sync::Arc, time::Duration};

use diptych_store::{EventStore, Filter, LogIdentity, Position, Store, Timestamp};
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Handle;

use crate::{
    catalogue::{CatalogueEntries, Declarations, ProcessCommands},
    collaboration::{Collaboration, CollaborationParts},
    command::{
        Command, CommandStats, Execute, Lane, LaneOptions, Retries, context::RuleClock,
        error::CommandError, panel::LeftPanel,
    },
    event::{Event, Schema, Upcasters},
    fold::Fold,
    follow::{FollowerControl, FollowerKind, FollowerStatus, Followers},
    lineage::Lineage,
    pool::ThreadPool,
    process::{AppParts, Processes},
    projection::NoSuchProjection,
    query::{Ask, Query, QueryError, RightPanel, Watch},
    snapshot::{SnapshotOptions, SnapshotPolicy, Snapshots},
    subscribe::Subscribe,
    token::{Claims, Receipt, Session, SessionToken, resumed},
    view::{NoSuchView, View},
};
#[cfg(feature = "remote")]
pub use connect::AddressError;
#[cfg(feature = "postgres")]
pub(crate) use connect::database_options;
pub use error::{StartError, StopError};
pub use retag::{RetagError, RetagReport, RetaggedKey};
use settings::Settings;

/// A store and everything that works on it: executes commands and answers queries. Cheap to clone;
/// clones share one app.
#[derive(Clone)]
pub struct App {
    // Dropped first, because they write.
    collaboration: Arc<Collaboration>,
    processes: Arc<Processes>,
    // The right panel is dropped before the store, because its threads read the store.
    right: Arc<RightPanel>,
    left: Arc<LeftPanel>,
    catalogue: Arc<CatalogueEntries>,
    /// The settings that an app beside this one inherits.
    beside: Arc<Settings>,
    /// Whether a stop closes the store.
    owns_store: bool,
    place: Option<SnapshotPlace>,
}

/// Opens the store's own place for snapshots. This is called only if the app needs the place.
type SnapshotPlace = Arc<dyn Fn() -> io::Result<Arc<dyn Snapshots>> + Send + Sync>;

/// Builds an app.
#[must_use = "an app does nothing before it is started"]
pub struct AppBuilder {
    store: Store,
    /// Whether a stop closes the store.
    owns_store: bool,
    place: Option<SnapshotPlace>,
    settings: Settings,
    declared: Declarations,
}

impl App {
    /// An app over a store of any kind.
    pub fn over(store: impl EventStore) -> AppBuilder {
        App::over_store(Store::new(store))
    }

    /// An app over a store that others use too.
    pub fn over_store(store: Store) -> AppBuilder {
        AppBuilder {
            store,
            owns_store: false,
            place: None,
            settings: Settings::default(),
            declared: Declarations::default(),
        }
    }

    /// An app beside this one, over the same store: for a new view of a running program. It
    /// inherits the settings of this one: upcasters, known events, checks, retries, budgets,
    /// decision snapshots and their place. It has none of this one's views and projections, and a
    /// catalogue of its own.
    ///
    /// Commands may go through either. Stopping the new app leaves this one running. Stopping this
    /// one ends the new app, if this one owns the store.
    pub fn beside(&self) -> AppBuilder {
        let mut builder = App::over_store(self.left.store.clone());
        builder.settings = (*self.beside).clone();
        builder.place = self.place.clone();
        builder
    }

    /// Sends a command: folds its boundary, decides, and appends the decision on the condition that
    /// no conflicting event came in between.
    pub fn execute<C: Command>(&self, command: C) -> Execute<C> {
        Execute::new(self.left.clone(), None, command)
    }

    /// A lane: commands decided in the order in which they are submitted.
    pub fn lane(&self) -> Lane {
        self.lane_with(LaneOptions::default())
    }

    /// A lane with these options.
    pub fn lane_with(&self, options: LaneOptions) -> Lane {
        Lane::new(self.left.clone(), options)
    }

    /// Asks a question: say how fresh the answer has to be, then await it.
    pub fn query<Q: Query>(&self, query: Q) -> Ask<Q> {
        Ask::new(self.right.clone(), query)
    }

    /// Keeps asking: returns the answer, then each changed answer.
    pub fn watch<Q>(&self, query: Q) -> Watch<Q>
    where
        Q: Query<Answer: Clone + PartialEq>,
    {
        Watch::new(self.right.clone(), query)
    }

    /// Subscribes to the events of `E` in this filter, existing and future ones, as the program
    /// knows them: for a worker that reacts to events.
    ///
    /// ```no_run
    /// # use diptych::{App, Event, Filter};
    /// # async fn worker<E: Event>(app: App) -> Result<(), Box<dyn std::error::Error>> {
    /// let events = app.subscribe::<E>(Filter::everything()).tracked_as("mailer");
    /// let mut events = events.start().await?;
    /// loop {
    ///     let arrival = events.next().await?;
    ///     # drop(arrival);
    /// }
    /// # }
    /// ```
    pub fn subscribe<E: Event>(&self, filter: Filter) -> Subscribe<E> {
        Subscribe::new(self.left.lineage.clone(), self.left.schema.clone(), filter)
    }

    /// A new session, in which nothing was written or seen.
    pub fn session(&self) -> Session {
        Session::new(self.left.lineage.clone())
    }

    /// The session that this token was taken from, as it was then.
    ///
    /// # Errors
    /// [`QueryError::Token`] if the token belongs to another log or another history, or names an
    /// event that the log no longer has; [`QueryError::NotYet`] if the app reads from a replica,
    /// which did not reach the event within 5 seconds; other errors if the log cannot be read.
    pub async fn resume_session(&self, token: &SessionToken) -> Result<Session, QueryError> {
        let (session, mut claims) = (self.session(), Claims::default());
        for (point, known) in token.logs() {
            claims.point(&self.left.lineage, point);
            session.join(known);
        }
        resumed(claims, &self.left.lineage).await?;
        Ok(session)
    }

    /// A token that stands for having seen everything up to this position, without any writes. Use
    /// it to carry an [answer's position](crate::Answer::position) elsewhere. The token names the
    /// event at the position, which may cost a read.
    ///
    /// # Errors
    /// [`QueryError`] if the log has no such position, or cannot be read.
    pub async fn token_at(&self, position: Position) -> Result<SessionToken, QueryError> {
        let session = self.session();
        session.saw(position);
        Ok(session.token().await?)
    }

    /// The receipt of the commit that was made under this [key](Execute::key), as a retry of its
    /// command would get it; `None` if there is no such commit. A client that lost its connection
    /// asks this if it no longer has the command.
    ///
    /// The events of the commit are durable. If the log has other writers, their commits are found
    /// too. `None` is no promise: a command that was sent before may still commit.
    ///
    /// # Errors
    /// [`CommandError::Invalid`] if the key begins with `diptych:`, because such keys are reserved;
    /// other errors if the log cannot be read.
    pub async fn receipt_under(
        &self,
        key: impl AsRef<str>,
    ) -> Result<Option<Receipt>, CommandError> {
        self.left.receipt_under(key.as_ref()).await
    }

    /// The receipt of the [note](Execute::note_of) that `command`, sent under `key`, was rejected
    /// for this reason; `None` if there is no such note. It is found as by
    /// [`receipt_under`](App::receipt_under).
    ///
    /// # Errors
    /// [`CommandError::Invalid`] if the command or the rejection cannot be serialised; other errors
    /// if the log cannot be read.
    pub async fn note_under(
        &self,
        key: impl AsRef<str>,
        command: &(impl Serialize + ?Sized),
        rejection: &(impl Serialize + ?Sized),
    ) -> Result<Option<Receipt>, CommandError> {
        self.left.note_under(key.as_ref(), command, rejection).await
    }

    /// A handle on a view: status, waiting, pause, step, resume, rebuild.
    ///
    /// # Errors
    /// [`NoSuchView`] if the app does not keep it.
    pub fn view<V: View>(&self) -> Result<FollowerControl, NoSuchView> {
        self.right.views.control::<V>()
    }

    /// The status of each view, in the order in which they were added.
    pub fn views(&self) -> Vec<FollowerStatus> {
        self.right.followers.status(FollowerKind::View)
    }

    /// A handle on a projection: status, waiting, pause, step, resume, rebuild.
    ///
    /// # Errors
    /// [`NoSuchProjection`] if the app does not run it.
    pub fn projection(&self, name: &str) -> Result<FollowerControl, NoSuchProjection> {
        let mut projections = self.right.followers.of_kind(FollowerKind::Projection);
        let named = projections.find(|projection| projection.name() == name);
        named.cloned().ok_or_else(|| NoSuchProjection { name: name.to_owned() })
    }

    /// The status of each projection, in the order in which they were added.
    pub fn projections(&self) -> Vec<FollowerStatus> {
        self.right.followers.status(FollowerKind::Projection)
    }

    /// The end of the log: everything up to here is durable. If the log has other writers, it is
    /// the last position that this app has seen.
    pub fn head(&self) -> Position {
        self.left.head.position()
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.left.store
    }

    /// The id and the epoch of the log.
    pub fn identity(&self) -> LogIdentity {
        self.left.identity
    }

    /// Whether this app or a clone was [stopped](App::stop), or is stopping. A stopped app takes no
    /// commands, and its views apply no more events.
    pub fn is_stopped(&self) -> bool {
        self.left.running.is_stopped()
    }

    /// Counters since the app was started.
    pub fn stats(&self) -> CommandStats {
        self.left.stats()
    }

    /// Stops the app and all its clones. It takes no further commands and ends folds of the past
    /// within a page of events. It waits until running commands have their answers and every
    /// accepted commit is durable. Then it stops the views, and closes the store if the app [owns
    /// it](AppBuilder::close_store). Views still answer queries that demand no freshness, and such
    /// an answer carries [a mark](crate::Answer::standstill). Dropping an app instead is safe, too:
    /// acknowledged commands are durable.
    ///
    /// A command whose future is neither polled nor dropped never gets its answer. So the wait for
    /// commands has a [limit](AppBuilder::stop_within).
    ///
    /// # Errors
    /// [`StopError`] if an accepted commit could not be synced, or commands did not end in time.
    pub async fn stop(self) -> Result<(), StopError> {
        self.collaboration.stop().await;
        self.processes.stop().await;
        self.right.past.stop().await;
        let (commands, drained) = self.left.drain(self.beside.stop_within).await;
        self.right.followers.stop().await;
        if self.owns_store {
            let store = self.left.store.clone();
            // A store may block the thread while it closes.
            let close = move || pollster::block_on(store.close());
            let closed = match Handle::try_current() {
                Ok(runtime) => runtime.spawn_blocking(close).await.unwrap_or(Ok(())),
                // Without a runtime this thread itself waits.
                Err(_) => close(),
            };
            if let Err(error) = closed {
                return Err(StopError::NotSynced(error.cause));
            }
        }
        match drained {
            // A store that waited for space may have written everything as it was closed.
            Err(CommandError::Unavailable(cause)) if !self.left.is_published() => {
                Err(StopError::NotSynced(cause))
            }
            _ if commands > 0 => Err(StopError::StillRunning { commands }),
            _ => Ok(()),
        }
    }
}

impl AppBuilder {
    /// Default for the memory that decision states may use.
    pub const CACHE_BYTES: usize = 64 << 20;
    /// Default for the number of events that an answer of the past may keep in memory.
    pub const PAST_EVENTS: usize = 5_000_000;
    /// Default for the number of questions about the past that may wait for a thread.
    pub const PAST_WAITING: usize = 64;
    /// Default for how long a stop waits for running commands.
    pub const STOP_WITHIN: Duration = Duration::from_secs(60);

    /// Makes the app the owner of its store: [`stop`](App::stop) closes it. An app that
    /// [opened](App::open) its log owns it anyway.
    pub fn close_store(mut self) -> AppBuilder {
        self.owns_store = true;
        self
    }

    /// Sets how events of older programs are read.
    pub fn upcasters(mut self, upcasters: Upcasters) -> AppBuilder {
        self.settings.upcasters = upcasters;
        self
    }

    /// Refuses to start if the log has a type that no known event and no upcaster takes. Without
    /// this the app only warns.
    pub fn strict(mut self) -> AppBuilder {
        self.settings.is_strict = true;
        self
    }

    /// Declares that events of these types belong to other programs on the same log. The start then
    /// does not report a missing upcaster for them.
    pub fn foreign_types<N: Into<String>>(
        mut self,
        types: impl IntoIterator<Item = N>,
    ) -> AppBuilder {
        self.settings.foreign.extend(types.into_iter().map(Into::into));
        self
    }

    /// Allows stored events of this type to lack the tag of this key, though new ones carry it. Use
    /// it if no rule over the tag has to see the older events.
    pub fn accept_untagged(
        mut self,
        event_type: impl Into<String>,
        key: impl Into<String>,
    ) -> AppBuilder {
        self.settings.untagged.push((event_type.into(), key.into()));
        self
    }

    /// Starts even if stored events lack a tag that they would get today, so that the app can
    /// [retag](App::retag) them. Until that is completed, a command whose boundary asks for the tag
    /// is refused, and so is a question about the past whose scope does.
    pub fn retagging(mut self) -> AppBuilder {
        self.settings.is_retagging = true;
        self
    }

    /// How many bytes the states of decisions may use in memory. With 0 nothing is cached, and
    /// every command reads its boundary.
    pub fn cache_bytes(mut self, bytes: usize) -> AppBuilder {
        self.settings.cache_bytes = bytes;
        self
    }

    /// Sets the clock that rules [ask for the time](crate::DecisionContext::now), in place of the
    /// system clock. This is for tests of a whole app, and for simulations. The time at which the
    /// log records events is a matter of its store.
    pub fn clock(mut self, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> AppBuilder {
        self.settings.clock = RuleClock::Given(Arc::new(now));
        self
    }

    /// How long a [stop](App::stop) waits for running commands; the default is a minute. Then it
    /// goes on without them, and says so. Outside of a tokio runtime nothing ends the wait.
    pub fn stop_within(mut self, longest: Duration) -> AppBuilder {
        self.settings.stop_within = longest;
        self
    }

    /// How often, and after which waits, a command is decided again after a conflict.
    pub fn retries(mut self, retries: Retries) -> AppBuilder {
        self.settings.retries = retries;
        self
    }

    /// Makes [`start`](AppBuilder::start) fail with [`StartError::RequiredView`] if a view stops
    /// before an event that it cannot apply. Without it the app starts, and that view answers as of
    /// the position before the event, with [a mark](crate::Answer::standstill).
    pub fn require_views(mut self) -> AppBuilder {
        self.settings.requires_views = true;
        self
    }

    /// How many events one answer may keep in memory at once to put them in order of when they
    /// [occurred](crate::Point::occurred_before). If the log already has that order, none is kept.
    pub fn past_events(mut self, events: usize) -> AppBuilder {
        self.settings.past_events = events;
        self
    }

    /// How many folds of the past run at once, each on its own thread. The default is half the
    /// cores of the machine, and at least one. Commands, queries of the present and views keep the
    /// other cores, whatever the number of questions about the past.
    ///
    /// Questions about the [past](crate::query::Ask::as_of), [differences](App::diff),
    /// [histories](App::history), [explanations](App::explain) and [checks of a
    /// scope](App::check_scope) share these threads. If the view in memory has the answer, no
    /// thread is needed.
    pub fn past_folds(mut self, folds: NonZeroUsize) -> AppBuilder {
        self.settings.past_limits.running = folds;
        self
    }

    /// How many questions about the past may wait until a running [fold](AppBuilder::past_folds)
    /// ends. A further question fails with [`QueryError::Busy`](crate::QueryError::Busy) at once.
    pub fn past_waiting(mut self, questions: usize) -> AppBuilder {
        self.settings.past_limits.waiting = questions;
        self
    }

    /// Keeps states of `F` outside the log, so that a restart need not fold a long history from its
    /// beginning. If `F` is a [view](AppBuilder::view), questions about the past also have a nearby
    /// state to begin with. An app that opened its log keeps snapshots beside it; any other needs
    /// [`snapshots_in`](AppBuilder::snapshots_in).
    ///
    /// Snapshots are made in the background, and those of views also when the app is
    /// [stopped](App::stop). While a snapshot of a view is written there is one more copy of the
    /// view. Only the executable that made a snapshot uses it, unless the fold has a
    /// [version](Fold::VERSION).
    ///
    /// Snapshots are written as MessagePack, which has one form for `None`, `Some(None)` and
    /// `Some(())`. A state that holds one of the latter two is not kept, and the app logs a
    /// warning. Fields that are not serialised (`#[serde(skip)]`) are not in the snapshot.
    pub fn snapshots<F>(mut self, options: SnapshotOptions) -> AppBuilder
    where
        F: Fold + Serialize + DeserializeOwned,
    {
        let SnapshotOptions { every_events, keep } = options;
        let of_states = every_events.unwrap_or(SnapshotOptions::STATE_EVENTS);
        if let Some(policy) = SnapshotPolicy::<F>::new(of_states) {
            self.settings.policies.insert(policy);
        }
        let of_view = every_events.unwrap_or(SnapshotOptions::VIEW_EVENTS);
        if let Some(policy) = SnapshotPolicy::<F>::new(of_view) {
            self.declared.plans.snapshots.add(policy, keep);
        }
        self
    }

    /// Where snapshots are kept.
    pub fn snapshots_in(mut self, place: impl Snapshots) -> AppBuilder {
        self.settings.snapshots = Some(Arc::new(place));
        self
    }

    /// Starts the app. Returns when every view has reached the end that the log has now, or has
    /// stopped before an event that it cannot apply.
    ///
    /// # Errors
    /// [`StartError`] if declarations contradict each other or do not fit the log, snapshots have
    /// no place, or a view that is [required](AppBuilder::require_views) stopped.
    pub async fn start(mut self) -> Result<App, StartError> {
        let limits = self.store.limits();
        self.check_plans()?;
        if self.settings.snapshots.is_none()
            && !(self.settings.policies.is_empty() && self.declared.plans.snapshots.is_empty())
        {
            self.settings.snapshots = Some(self.beside_the_store()?);
        }
        self.declared.plans.snapshots.place = self.settings.snapshots.clone();
        let log = self.store.identity().id;
        let AppBuilder { store, mut settings, declared, .. } = self;
        let Declarations { entries, plans, processes, collaboration, known } = declared;
        settings.declared.extend(known);
        let Settings { upcasters, policies, untagged, snapshots, .. } = settings.clone();
        let snapshots = snapshots.filter(|_| !policies.is_empty());
        let schema = Schema::new(upcasters, log, limits.tag_bytes)?.accept_untagged(untagged);
        // From here on the head has everything that was committed before the start.
        let head = store.known_head().await.map_err(StartError::Unreadable)?;
        schema.retags().refresh(&store, head).await?;
        settings.check_log(&store, &schema).await?;
        let lineage = Arc::new(Lineage::new(store));
        let started = plans.start(lineage.clone(), &schema).await?;
        if settings.requires_views
            && let Some(FollowerStatus { name, state, .. }) = halted(&started.0)
        {
            started.0.stop().await;
            return Err(StartError::RequiredView { view: name, state });
        }
        let schema = Arc::new(schema);
        let past = ThreadPool::new("diptych past", settings.past_limits);
        let past_events = settings.past_events;
        let right = RightPanel::new(lineage.clone(), schema.clone(), started, past, past_events);
        let Settings { cache_bytes, retries, ref clock, .. } = settings;
        let clock = clock.clone();
        let left =
            LeftPanel::new(lineage, schema, policies, cache_bytes, retries, clock, snapshots);
        let (left, catalogue) = (Arc::new(left), Arc::new(entries));
        let parts = AppParts {
            store: left.store.clone(),
            schema: left.schema.clone(),
            clock: left.clock.clone(),
            commands: Arc::new(ProcessCommands::new(catalogue.clone(), left.clone())),
            gateways: catalogue.gateways.clone(),
            retired: settings.retired.clone(),
        };
        let processes = match Processes::start(processes, &parts).await {
            Ok(processes) => Arc::new(processes),
            Err(error) => {
                return Err(not_started(&Processes::default(), &right, error.into()).await);
            }
        };
        let (store, schema) = (&left.store, &*left.schema);
        let parts = CollaborationParts { store, schema, retired: &settings.retired_intakes };
        let collaboration = match collaboration.start(&parts).await {
            Ok(collaboration) => Arc::new(collaboration),
            Err(error) => return Err(not_started(&processes, &right, error.into()).await),
        };
        Ok(App {
            collaboration,
            processes,
            right: Arc::new(right),
            left,
            catalogue,
            beside: Arc::new(settings),
            owns_store: self.owns_store,
            place: self.place,
        })
    }

    fn check_plans(&self) -> Result<(), StartError> {
        let states = twice(self.settings.policies.names());
        if let Some(name) = states.or_else(|| twice(self.declared.plans.snapshots.names())) {
            return Err(StartError::SnapshotsAlike { name });
        }
        error::check_followers(&self.declared.plans)?;
        self.declared.processes.check()?;
        self.declared.collaboration.check()?;
        Ok(self.declared.entries.check()?)
    }

    fn beside_the_store(&self) -> Result<Arc<dyn Snapshots>, StartError> {
        let place = self.place.as_ref().ok_or(StartError::NoSnapshotPlace)?;
        place().map_err(|error| StartError::SnapshotPlace(Arc::new(error)))
    }
}

/// Ends the parts of an app that were started before this error.
async fn not_started(processes: &Processes, right: &RightPanel, error: StartError) -> StartError {
    processes.stop().await;
    right.followers.stop().await;
    error
}

/// The first view that stopped.
fn halted(followers: &Followers) -> Option<FollowerStatus> {
    let mut views = followers.required_views();
    views.find(|view| view.progress().arrivals().is_err()).map(FollowerControl::status)
}

/// The first name that occurs twice.
fn twice(names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let mut seen = HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("store", &self.left.store).finish_non_exhaustive()
    }
}

impl fmt::Debug for AppBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppBuilder").field("store", &self.store).finish_non_exhaustive()
    }
}
