//! The server: its configuration, and the two ways to run it.

mod description;
#[cfg(feature = "webhooks")]
mod webhook;

use std::{
    any::type_name,
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    mem,
    sync::Arc,
    time::Instant,
};

use axum::Router;
use diptych::{
    App, Command, Event, Query,
    catalogue::{AppCatalogue, Catalogue, EntryKind, Listing, WithSchemas},
    poster::Poster,
};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpListener;

#[cfg(feature = "poster")]
use crate::owner::Owner;
#[cfg(feature = "webhooks")]
use crate::panels::entries::webhook::WebhookRoutes;
use crate::{
    door::{
        access::{Caller, Denial, Hook, Hosts, Visit, hook},
        entrance::Door,
        limits::ServerLimits,
        metrics::Metrics,
        serve::{ServeError, ServedRoutes, serve},
        stop::StopHandle,
    },
    panels::{
        answers::PastAnswers,
        documents::{Documents, RoutesBeside, credential::Credential},
        entries::{
            Entries,
            command::{CommandEntry, CommandRoute, CommandRules},
            event::EventEntry,
            file::FileEntry,
            mount::Mount,
            query::{QueryEntry, QueryRoute, QueryRules},
        },
        live::LiveQueries,
        site::Site,
    },
    router::{has_route, router},
};

/// An HTTP server for an app. It serves the commands, queries and events of the app's
/// [catalogue](diptych::catalogue): [serve](Server::serve) them, or take the
/// [router](Server::into_router) into another program.
///
/// [`command`](Server::command), [`query`](Server::query) and [`live_query`](Server::live_query)
/// give an entry of the catalogue the options of a route. A program that declares no catalogue
/// registers its commands and queries with them.
#[must_use = "a server does nothing before it serves"]
pub struct Server {
    app: App,
    title: String,
    version: String,
    /// The entries that the app declares.
    catalogue: AppCatalogue,
    /// The entries that only this server declares.
    more: Catalogue<WithSchemas>,
    /// Names of the events that either declares.
    events: BTreeSet<&'static str>,
    /// The options of routes, by the names of their commands.
    commands: BTreeMap<String, CommandRules>,
    queries: BTreeMap<String, QueryRules>,
    files: BTreeMap<String, FileEntry>,
    #[cfg(feature = "webhooks")]
    webhooks: WebhookRoutes,
    limits: ServerLimits,
    hosts: Hosts,
    hook: Option<Hook>,
    credential: Option<Credential>,
    metrics: Option<Metrics>,
    has_operations: bool,
    mounts: Vec<Mount>,
    poster: Option<Poster>,
    #[cfg(feature = "poster")]
    owner: Option<Arc<Owner>>,
    /// Mistakes in the configuration, reported when the server starts.
    mistakes: Vec<String>,
}

impl Server {
    /// A server for this app, with the commands, queries and events of its catalogue.
    pub fn new(app: App) -> Server {
        let catalogue = app.catalogue();
        Server {
            app,
            title: "Diptych".to_owned(),
            version: "1".to_owned(),
            events: catalogue.events().map(|known| known.name).collect(),
            catalogue,
            more: Catalogue::with_schemas(),
            commands: BTreeMap::new(),
            queries: BTreeMap::new(),
            files: BTreeMap::new(),
            #[cfg(feature = "webhooks")]
            webhooks: WebhookRoutes::new(),
            limits: ServerLimits::default(),
            hosts: Hosts::default(),
            hook: None,
            credential: None,
            metrics: None,
            has_operations: false,
            mounts: Vec::new(),
            poster: None,
            #[cfg(feature = "poster")]
            owner: None,
            mistakes: Vec::new(),
        }
    }

    /// A server for a [poster](diptych::poster): its queries have the routes of any server, and
    /// every answer says how old it is. Name the application that carries out the commands with
    /// [`owner`](Server::owner); without it they are refused.
    pub fn poster(poster: Poster) -> Server {
        let server = Server::new(poster.read_only_app().clone());
        Server { poster: Some(poster), ..server }
    }

    /// Names the application that carries out the commands of a [poster](Server::poster). Each
    /// command of the poster's catalogue is sent there as it came, with the credential of its
    /// sender, and the answer is returned. The poster shows the effect when its event arrives.
    #[cfg(feature = "poster")]
    pub fn owner(mut self, owner: Owner) -> Server {
        if self.poster.is_none() {
            let problem = "the server has an owner of its commands and is none of a poster: make \
                           it with `Server::poster`";
            self.mistakes.push(problem.to_owned());
        }
        self.owner = Some(Arc::new(owner));
        self
    }

    /// Sets the route of a command: its name (`schedule-flight`), or a [`CommandRoute`] with
    /// options, such as for recorded rejections. If the app's catalogue has no command of this
    /// name, the server declares it.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use diptych::{App, Command, DecisionContext, Event, Filter, Tag};
    /// # use schemars::JsonSchema;
    /// # use serde::{Deserialize, Serialize};
    /// # use diptych_server::{CommandRoute, Server};
    /// # #[derive(Event, Serialize, Deserialize, JsonSchema)]
    /// # enum Parcel {
    /// #     #[event("parcel-arrived")]
    /// #     Arrived { text: String },
    /// #     #[event("parcel-refused")]
    /// #     Refused { text: String },
    /// # }
    /// # #[derive(Debug, thiserror::Error, Serialize, JsonSchema)]
    /// # #[error("the depot is full")]
    /// # struct DepotIsFull {}
    /// # #[derive(Clone, Serialize, Deserialize, JsonSchema)]
    /// # struct Bring {}
    /// # #[derive(Serialize, Deserialize, JsonSchema)]
    /// # struct NoteRefusal {
    /// #     text: String,
    /// # }
    /// # impl Command for Bring {
    /// #     type State = ();
    /// #     type Event = Parcel;
    /// #     type Rejection = DepotIsFull;
    /// #     fn boundary(&self) {}
    /// #     fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Parcel>, DepotIsFull> {
    /// #         Err(DepotIsFull {})
    /// #     }
    /// # }
    /// # impl Command for NoteRefusal {
    /// #     type State = ();
    /// #     type Event = Parcel;
    /// #     type Rejection = Infallible;
    /// #     fn boundary(&self) {}
    /// #     fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Parcel>, Infallible> {
    /// #         Ok(vec![Parcel::Refused { text: self.text.clone() }])
    /// #     }
    /// # }
    /// # fn server(app: App) -> Server {
    /// Server::new(app)
    ///     .command::<Bring>("bring-parcel")
    ///     .command(CommandRoute::<NoteRefusal>::infallible("note-refusal"))
    ///     .command(CommandRoute::<Bring>::new("bring-and-record").record_rejections(
    ///         |_, rejection| NoteRefusal { text: rejection.to_string() },
    ///     ))
    /// # }
    /// ```
    pub fn command<C>(mut self, route: impl Into<CommandRoute<C>>) -> Server
    where
        C: Command + DeserializeOwned + Serialize + JsonSchema,
    {
        let route = route.into();
        match self.catalogue.command(route.name()) {
            None => self.more = route.declare(self.more),
            Some(named) if named.is::<C>() => {}
            Some(named) => self.mistakes.push(other_type::<C>(named.name(), named.type_name())),
        }
        let (name, rules) = route.into_rules();
        if self.commands.insert(name.clone(), rules).is_some() {
            self.mistakes.push(format!("there are two commands {name:?}: rename one"));
        }
        self
    }

    /// Sets the route of a query: its name (`departure-board`), or a [`QueryRoute`] with options:
    /// for explanations, which a plain name does not have, for pages, and for a rule about the
    /// caller. If the app's catalogue has no query of this name, the server declares it.
    ///
    /// Arguments outside the schema of the query are refused, and none may begin with `_`.
    pub fn query<Q>(mut self, route: impl Into<QueryRoute<Q>>) -> Server
    where
        Q: Query<Answer: Serialize + JsonSchema> + DeserializeOwned + JsonSchema,
    {
        let route = route.into();
        match self.catalogue.query(route.name()) {
            None => self.more = self.more.query::<Q>(route.name()),
            Some(named) if named.is::<Q>() => {}
            Some(named) => self.mistakes.push(other_type::<Q>(named.name(), named.type_name())),
        }
        self.with_query(route)
    }

    /// Like [`query`](Server::query), and clients can watch the query: its answers are sent as they
    /// change.
    pub fn live_query<Q>(mut self, route: impl Into<QueryRoute<Q>>) -> Server
    where
        Q: Query<Answer: Serialize + JsonSchema + Clone + PartialEq>,
        Q: DeserializeOwned + JsonSchema,
    {
        let route = route.into();
        match self.catalogue.query(route.name()) {
            None => self.more = self.more.live_query::<Q>(route.name()),
            Some(named) if !named.is::<Q>() => {
                self.mistakes.push(other_type::<Q>(named.name(), named.type_name()));
            }
            Some(named) if !named.is_live() => self.mistakes.push(format!(
                "the app's catalogue has the query {:?} without live answers: declare it there \
                 with `live_query`",
                named.name()
            )),
            Some(_) => {}
        }
        self.with_query(route)
    }

    /// Lists this event, with its schema, if the app's catalogue does not have it.
    pub fn event<E: Event + JsonSchema>(mut self) -> Server {
        let known = self.events.len();
        self.events.extend(E::types().into_iter().map(|known| known.name));
        if self.events.len() > known {
            self.more = self.more.event::<E>();
        }
        self
    }

    /// Serves this file at this path, which begins with a slash.
    pub fn file(mut self, path: &str, content_type: &str, bytes: &'static [u8]) -> Server {
        if !path.starts_with('/') || has_route(path) {
            let problem = "its path has to begin with a slash, and no route may have it";
            self.mistakes.push(format!("the file {path:?}: {problem}"));
        }
        match FileEntry::new(content_type, bytes) {
            Ok(file) => drop(self.files.insert(path.to_owned(), file)),
            Err(problem) => self.mistakes.push(format!("the file {path}: {problem}")),
        }
        self
    }

    /// Adds routes of another crate, or of the program, inside the door of the server.
    pub fn mount(mut self, mount: Mount) -> Server {
        if let Some(problem) = mount.problem_beside(&self.mounts, has_route) {
            self.mistakes.push(problem);
            return self;
        }
        self.mounts.push(mount);
        self
    }

    /// Sets the hook that admits requests. It is asked about each operation of a request, so
    /// several times for some requests, and returns the caller or the reason to refuse. It is not
    /// asked for health and readiness, or where there is nothing to admit to (a wrong method, the
    /// question of a browser before a request of another site). Without a hook all callers are
    /// anonymous and may do everything, except read the payloads of events that a conflict missed.
    ///
    /// ```
    /// # use diptych::{App, Memory};
    /// use diptych_server::{Caller, Denial, Operation, Server, Visit};
    ///
    /// async fn admit(visit: Visit) -> Result<Caller, Denial> {
    ///     let name = visit.headers.get("x-user").and_then(|name| name.to_str().ok());
    ///     match (&visit.operation, name) {
    ///         (Operation::Command(_), None) => Err(Denial::unknown("log in first", "Bearer")),
    ///         (Operation::Command(command), Some("guest")) => {
    ///             Err(Denial::forbidden(format!("guests may not {command}")))
    ///         }
    ///         (_, Some(name)) => Ok(Caller::named(name)),
    ///         (_, None) => Ok(Caller::anonymous()),
    ///     }
    /// }
    ///
    /// # fn server(app: App) -> Server {
    /// Server::new(app).admit(admit)
    /// # }
    /// ```
    pub fn admit<F, Fut>(mut self, admit: F) -> Server
    where
        F: Fn(Visit) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Caller, Denial>> + Send + 'static,
    {
        if self.hook.replace(hook(admit)).is_some() {
            let problem = "there are two hooks: admit callers with one that calls both";
            self.mistakes.push(problem.to_owned());
        }
        self
    }

    /// Adds a host, without a port, for which the server answers requests: `flights.example.org`.
    /// Checks of health and readiness have to use one of the server's names, too.
    pub fn host(mut self, name: &str) -> Server {
        self.hosts.add_host(name);
        self
    }

    /// Allows requests from pages of this site, such as `https://flights.example.org`. This is
    /// needed if a proxy has one name for its clients and uses another name for this server. Pages
    /// of such a site may send requests with the headers of this server, and read the answers.
    /// Browsers send no cookies with them, unless a layer of the program allows it.
    pub fn origin(mut self, origin: &str) -> Server {
        self.hosts.add_origin(origin);
        self
    }

    /// Lets pages of the allowed [sites](Server::origin) send this header, beside those of this
    /// server: `x-user`, for example, if the [hook](Server::admit) reads that.
    pub fn origin_header(mut self, name: &str) -> Server {
        match name.parse() {
            Ok(name) => self.hosts.add_origin_header(name),
            Err(_) => self.mistakes.push(format!("{name:?} is no name of a header")),
        }
        self
    }

    /// Sets the limits.
    pub fn limits(mut self, limits: ServerLimits) -> Server {
        self.limits = limits;
        self
    }

    /// Sets the metrics that `/metrics` shows.
    pub fn metrics(mut self, metrics: Metrics) -> Server {
        self.metrics = Some(metrics);
        self
    }

    /// Adds the routes for operators of [processes](diptych::process) and
    /// [intakes](diptych::collaboration): parked letters and events, calls that wait, timers,
    /// instances, places and traces, and the answers to letters, events and calls. They show the
    /// contents of events, and the answers have effects. So let the [hook](Server::admit) admit
    /// few callers to `Operation::Processes`, `Operation::AnswerLetter` and
    /// `Operation::AnswerCall`.
    pub fn process_operations(mut self) -> Server {
        self.has_operations = true;
        self
    }

    /// Serves until `shutdown` is ready. Then the server accepts no more connections, ends live
    /// streams, and answers the requests that have started, within
    /// [`stop_time`](ServerLimits::stop_time). It also waits for commands whose clients went away.
    /// The app continues: its owner stops it.
    ///
    /// # Errors
    /// [`ServeError`] if the server cannot start.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let address = listener.local_addr().map_err(ServeError::Listener)?;
        if address.ip().is_loopback() {
            self.hosts.add_loopback();
        }
        let is_open = self.hosts.is_empty();
        let mounts = mem::take(&mut self.mounts);
        let site = self.into_site(&mounts)?;
        if is_open {
            return Err(ServeError::NotLoopback { address });
        }
        let (limits, stop) = (*site.door.limits(), site.door.stop().clone());
        let metrics = site.metrics.clone();
        let served = ServedRoutes {
            router: router(site, mounts),
            limits,
            stop,
            metrics,
            has_http2: false,
            #[cfg(feature = "log")]
            tls: None,
        };
        serve(served, listener, shutdown).await;
        Ok(())
    }

    /// The routes as a [`Router`] for another program, which runs its own server with its own
    /// middleware, encryption or HTTP/2. Nest it below a prefix.
    ///
    /// The routes check hosts and origins, ask the hook, catch panics, compress answers, and
    /// enforce all limits of requests, streams, bodies and answer times. At least one
    /// [`host`](Server::host) has to be named, because no listener shows the address.
    ///
    /// The program provides these itself:
    ///
    /// - `head_time`, `write_time`, `connections`, `peer_connections` and `discarded_bytes` of
    ///   [`ServerLimits`] are limits of connections. Its server needs such limits of its own;
    ///   `axum::serve` has none.
    /// - [`Visit::peer`](crate::Visit::peer) needs the extension `ConnectInfo<SocketAddr>`, for
    ///   example by `into_make_service_with_connect_info`.
    /// - [`Metrics::upkeep`](crate::Metrics::upkeep) has to be called every few seconds.
    /// - The [`StopHandle`] has to be stopped when the graceful shutdown of the server begins.
    ///
    /// ```
    /// use std::net::SocketAddr;
    ///
    /// use axum::{Router, middleware::from_fn, routing::get};
    /// use diptych::App;
    /// use diptych_server::Server;
    /// # use axum::{extract::Request, middleware::Next, response::Response};
    /// # async fn my_middleware(request: Request, next: Next) -> Response {
    /// #     next.run(request).await
    /// # }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let app = App::over(diptych::Memory::new()).start().await?;
    /// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let shutdown = async {};
    /// let (routes, handle) = Server::new(app.clone()).host("localhost").into_router()?;
    /// let service = Router::new()
    ///     .route("/", get(async || "my own page"))
    ///     .nest("/api", routes)
    ///     .layer(from_fn(my_middleware));
    /// let stopping = handle.clone();
    /// axum::serve(listener, service.into_make_service_with_connect_info::<SocketAddr>())
    ///     .with_graceful_shutdown(async move {
    ///         shutdown.await;
    ///         stopping.stop(); // ends live streams, which the shutdown would wait for
    ///     })
    ///     .await?;
    /// handle.commands_ended().await; // also those whose clients went away
    /// app.stop().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ServeError`] if the configuration is wrong, or names no host.
    pub fn into_router(mut self) -> Result<(Router, StopHandle), ServeError> {
        let has_host = !self.hosts.is_empty();
        let mounts = mem::take(&mut self.mounts);
        let site = self.into_site(&mounts)?;
        if !has_host {
            return Err(ServeError::NoHost);
        }
        let stop = StopHandle::new(site.door.stop().clone(), site.door.limits().stop_time);
        Ok((router(site, mounts), stop))
    }

    fn into_site(mut self, mounts: &[Mount]) -> Result<Arc<Site>, ServeError> {
        let wrong = |problem: String| ServeError::Declaration { problem };
        if let Some(problem) = self.mistakes.first() {
            return Err(wrong(problem.clone()));
        }
        for path in self.files.keys() {
            if let Some(mounted) = mounts.iter().find_map(|mount| mount.answers(path)) {
                let problem = "would answer its requests: give one of them another path";
                return Err(wrong(format!("the file {path:?}: the mounted {mounted:?} {problem}")));
            }
        }
        #[cfg(feature = "webhooks")]
        let webhooks = self.take_webhooks(mounts).map_err(wrong)?;
        let more = mem::replace(&mut self.more, Catalogue::with_schemas());
        let catalogue = self.catalogue.with(more).map_err(|error| wrong(error.to_string()))?;
        let listing = catalogue.listing();
        let known = &listing.components.schemas;
        if let Some(problem) = mounts.iter().find_map(|mount| mount.problem_with(known)) {
            return Err(wrong(problem));
        }
        let entries = self.take_entries(&catalogue, &listing);
        for (name, entry) in &entries.queries {
            entry.check(name, &listing).map_err(wrong)?;
        }
        let Server { app, limits, hosts, hook, metrics, has_operations, poster, .. } = self;
        #[cfg(feature = "poster")]
        let owner = self.owner;
        let (feeds, has_metrics) = (app.feeds(), metrics.is_some());
        #[cfg(feature = "webhooks")]
        let hooks = webhook::listed(&webhooks);
        #[cfg(not(feature = "webhooks"))]
        let hooks: Vec<(String, String)> = Vec::new();
        let shown = RoutesBeside { feeds, mounts, webhooks: &hooks, has_metrics, has_operations };
        let listed = (&listing, &catalogue.language());
        let documents = Documents::of(&entries, listed, &shown, self.credential.as_ref());
        let definitions = listing.components.schemas;
        let answers = PastAnswers::new(limits.past_answer_bytes);
        let door = Arc::new(Door::new(hosts, hook, limits, metrics.is_some()));
        let started = Instant::now();
        let live = LiveQueries::default();
        Ok(Arc::new(Site {
            app,
            door,
            entries,
            answers,
            live,
            documents,
            definitions,
            #[cfg(feature = "webhooks")]
            webhooks,
            metrics,
            has_operations,
            started,
            poster,
            #[cfg(feature = "poster")]
            owner,
        }))
    }

    /// The entries of this catalogue, each with the options of its route.
    fn take_entries(&mut self, catalogue: &AppCatalogue, listing: &Listing) -> Entries {
        let (mut commands, mut queries) = (BTreeMap::new(), BTreeMap::new());
        for named in catalogue.commands() {
            let name = named.name().to_owned();
            let rules = self.commands.remove(&name).unwrap_or_default();
            if let Some(listed) = listing.entry(EntryKind::Command, &name) {
                commands.insert(name, CommandEntry::new(named, listed, rules));
            }
        }
        for named in catalogue.queries() {
            let name = named.name().to_owned();
            let rules = self.queries.remove(&name).unwrap_or_default();
            if let Some(listed) = listing.entry(EntryKind::Query, &name) {
                let schemas = &listing.components.schemas;
                queries.insert(name, QueryEntry::new(named, listed, schemas, rules));
            }
        }
        Entries {
            title: mem::take(&mut self.title),
            version: mem::take(&mut self.version),
            commands,
            queries,
            events: listing.of_kind(EntryKind::Event).filter_map(EventEntry::of).collect(),
            files: mem::take(&mut self.files),
        }
    }

    fn with_query<Q: Query>(mut self, route: QueryRoute<Q>) -> Server {
        let (name, rules) = route.into_rules();
        if self.queries.insert(name.clone(), rules).is_some() {
            self.mistakes.push(format!("there are two queries {name:?}: rename one"));
        }
        self
    }
}

/// The mistake that a route is for another type than the entry of its name.
fn other_type<T>(name: &str, declared: &str) -> String {
    let own = type_name::<T>();
    format!(
        "the route {name:?} is for {own}, and the app's catalogue has {declared} under this name: \
         rename one"
    )
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { catalogue, more, .. } = self;
        f.debug_struct("Server")
            .field("catalogue", catalogue)
            .field("more", more)
            .finish_non_exhaustive()
    }
}
