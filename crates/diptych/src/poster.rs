//! Posters: views of a log that another process writes.
//!
//! A poster follows the log of a server, the folder of a log, or a backup, and answers queries from
//! its own views. It has no way to write: commands go to the application that owns the log, and
//! the poster shows their effect when the events arrive. While the source is away it goes on
//! answering, and says how old its answers are.
//!
//! `contact` remembers when the source was heard. `source` finds the store and takes away its
//! writes.

mod contact;
mod source;

use std::{fmt, sync::Arc, time::Duration};

use diptych_store::{EventStore, LogIdentity, Position, ReadError, Store};
use tokio::{runtime::Handle, task::AbortHandle};

#[cfg(feature = "remote")]
use crate::app::AddressError;
use crate::{
    app::{App, AppBuilder, StartError, StopError},
    catalogue::{Catalogue, NamedQuery},
    follow::FollowerStatus,
    poster::{contact::Contact, source::SourcePlace},
    query::{Ask, Query, QueryError, Watch},
    token::{Session, SessionToken},
    view::View,
};

pub use contact::{SourceAbsence, SourceContact};

/// A process that holds only views of a log, and answers queries from them.
///
/// A poster has no method that executes a command, and its store refuses every append. Projections
/// and everything else with an effect outside the process stay off, even if its catalogue has them.
///
/// Any number of posters follow one log. Each reads at its own pace and needs no memory of the
/// others. A restart reads the log again, from the snapshots of its views if it keeps
/// [some](PosterBuilder::with). Clones share one poster; it ends with the last.
///
/// ```no_run
/// # use diptych::{Query, catalogue::Catalogue, poster::Poster};
/// # type Failure = Box<dyn std::error::Error>;
/// # async fn run<Q: Query>(catalogue: Catalogue, question: Q) -> Result<(), Failure> {
/// let poster = Poster::follow("diptych://localhost:4500/log").catalogue(catalogue).open().await?;
/// let answer = poster.query(question).await?;
/// let source = poster.source();
/// if let Some(absence) = source.absence {
///     println!("the source is away since {}: {}", absence.since, absence.reason);
/// }
/// println!("the answer is {:?} old", poster.age(answer.position));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Poster {
    parts: Arc<PosterParts>,
}

struct PosterParts {
    app: App,
    contact: Arc<Contact>,
    listening: AbortHandle,
}

impl Drop for PosterParts {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// The times of a poster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PosterOptions {
    /// How long [`open`](PosterBuilder::open) tries to reach the source. A minute by default. It
    /// waits a little longer after each try, and logs each failure.
    pub source_time: Duration,
    /// The time between two questions to the source for the end of its log. It bounds how exactly
    /// the age of an answer is known. One second by default.
    pub ask_interval: Duration,
    /// The source counts as away if it has not answered for this time. Five seconds by default. A
    /// lost connection is noticed earlier.
    pub quiet_time: Duration,
    /// The connection to the log of a server. It has no effect on a folder.
    #[cfg(feature = "remote")]
    pub remote: diptych_remote::RemoteOptions,
}

impl Default for PosterOptions {
    fn default() -> PosterOptions {
        PosterOptions {
            source_time: Duration::from_secs(60),
            ask_interval: Duration::from_secs(1),
            quiet_time: Duration::from_secs(5),
            #[cfg(feature = "remote")]
            remote: diptych_remote::RemoteOptions::default(),
        }
    }
}

/// Why a poster does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PosterError {
    /// The address leads to no log, or its log could not be reached in time.
    #[cfg(feature = "remote")]
    #[error(
        "the source {address} cannot be followed: {cause}; a poster that starts needs its source \
         once, so start the source, or correct the address"
    )]
    Source {
        /// The address.
        address: String,
        /// The failure of the last try.
        #[source]
        cause: AddressError,
    },
    /// A poster follows a log that others write, and a store in memory has no others.
    #[cfg(feature = "remote")]
    #[error("a store in memory has no other writers: give the poster a folder or a server")]
    Memory,
    /// The source could not be read at the start.
    #[error("the end of the source is unknown: {0}")]
    Unreadable(#[source] ReadError),
    /// The views cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
}

type Prepare = Box<dyn FnOnce(AppBuilder) -> AppBuilder + Send>;

/// Builds a poster.
#[must_use = "a poster does nothing before it is opened"]
pub struct PosterBuilder {
    place: SourcePlace,
    prepare: Prepare,
    options: PosterOptions,
}

impl Poster {
    /// A poster of the log at an address: `diptych://host:port/log` for the log of a server, or a
    /// folder. A folder is that of a log, which another process may be writing, or a backup, which
    /// may grow by further backups.
    #[cfg(feature = "remote")]
    pub fn follow(address: impl Into<String>) -> PosterBuilder {
        PosterBuilder::of(SourcePlace::Address(address.into()))
    }

    /// A poster of a store of any kind.
    pub fn over(store: impl EventStore) -> PosterBuilder {
        Poster::over_store(Store::new(store))
    }

    /// A poster of a store that others use too.
    pub fn over_store(store: Store) -> PosterBuilder {
        PosterBuilder::of(SourcePlace::Store(store))
    }

    /// Asks a question: say how fresh the answer has to be, then await it. Tokens and receipts of
    /// the owning application are valid here.
    pub fn query<Q: Query>(&self, query: Q) -> Ask<Q> {
        self.parts.app.query(query)
    }

    /// Keeps asking: returns the answer, then each changed answer.
    pub fn watch<Q>(&self, query: Q) -> Watch<Q>
    where
        Q: Query<Answer: Clone + PartialEq>,
    {
        self.parts.app.watch(query)
    }

    /// The query of this name in the catalogue.
    pub fn named_query(&self, name: &str) -> Option<NamedQuery> {
        self.parts.app.catalogue().query(name)
    }

    /// The status of each view, in the order in which they were added. If the source has another
    /// history than at the start, it says so: no view mixes two histories. Open the poster again.
    pub fn views(&self) -> Vec<FollowerStatus> {
        self.parts.app.views()
    }

    /// A new session, in which nothing was written or seen.
    pub fn session(&self) -> Session {
        self.parts.app.session()
    }

    /// The session that this token was taken from, here or in another process.
    ///
    /// # Errors
    /// As [`App::resume_session`].
    pub async fn resume_session(&self, token: &SessionToken) -> Result<Session, QueryError> {
        self.parts.app.resume_session(token).await
    }

    /// The end of the log as this poster has seen it.
    pub fn head(&self) -> Position {
        self.parts.app.head()
    }

    /// The id and the epoch of the log.
    pub fn identity(&self) -> LogIdentity {
        self.parts.app.identity()
    }

    /// When the source was heard, and whether it is away.
    pub fn source(&self) -> SourceContact {
        self.parts.contact.now()
    }

    /// The age of an answer with this position: it has everything that the source had that long
    /// ago. The poster remembers 256 ends of the source. An answer from before them has at least
    /// this age. If the source is a replica, the time by which it is behind comes on top.
    pub fn age(&self, position: Position) -> Duration {
        self.parts.contact.age(position)
    }

    /// Waits until the source goes away, if it `is_away` is false, or is back, if it is true.
    pub async fn source_changed(&self, is_away: bool) {
        self.parts.contact.changed(is_away).await;
    }

    /// The app over the source, for a server of its queries. Its store refuses all commands.
    #[doc(hidden)]
    pub fn read_only_app(&self) -> &App {
        &self.parts.app
    }

    /// Stops the views and closes the connection. Views that keep snapshots make one.
    ///
    /// # Errors
    /// As [`App::stop`].
    pub async fn stop(self) -> Result<(), StopError> {
        self.parts.listening.abort();
        self.parts.app.clone().stop().await
    }
}

impl PosterBuilder {
    fn of(place: SourcePlace) -> PosterBuilder {
        PosterBuilder {
            place,
            prepare: Box::new(|builder| builder),
            options: PosterOptions::default(),
        }
    }

    /// Keeps the views of this catalogue, and answers its queries by name. Its projections and its
    /// processes are left out. Its commands are known by name, so that a server can forward them.
    pub fn catalogue<S: Send + 'static>(self, catalogue: Catalogue<S>) -> PosterBuilder {
        self.with(move |builder| builder.catalogue(catalogue))
    }

    /// Keeps this view.
    pub fn view<V: View>(self) -> PosterBuilder {
        self.with(AppBuilder::view::<V>)
    }

    /// Sets the options of the app behind the poster: upcasters, snapshots of views and their
    /// [place](AppBuilder::snapshots_in), how many folds of the past run at once.
    pub fn with(
        mut self,
        prepare: impl FnOnce(AppBuilder) -> AppBuilder + Send + 'static,
    ) -> PosterBuilder {
        let before = self.prepare;
        self.prepare = Box::new(move |builder| prepare(before(builder)));
        self
    }

    /// Sets the times, and the connection.
    pub fn options(mut self, options: PosterOptions) -> PosterBuilder {
        self.options = options;
        self
    }

    /// Opens the poster, on a tokio runtime. Returns when each view has what the source has now. If
    /// the source is away, it tries again for [`source_time`](PosterOptions::source_time).
    ///
    /// # Errors
    /// [`PosterError`]
    pub async fn open(self) -> Result<Poster, PosterError> {
        let PosterBuilder { place, prepare, options } = self;
        let is_own = place.is_own();
        let store = place.open(&options).await?;
        // Pinned: it stays away if the source has another history.
        let listened = store.pinned();
        let contact = Arc::new(Contact::new());
        contact::ask(&listened, &contact, &options).await.map_err(PosterError::Unreadable)?;
        let app = App::over_store(store);
        let app = if is_own { app.close_store() } else { app };
        let app = prepare(app).only_views().start().await?;
        let listening = contact::listen(listened, contact.clone(), options);
        let listening = Handle::current().spawn(listening).abort_handle();
        Ok(Poster { parts: Arc::new(PosterParts { app, contact, listening }) })
    }
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.source();
        f.debug_struct("Poster").field("source", &source).finish_non_exhaustive()
    }
}

impl fmt::Debug for PosterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PosterBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}
