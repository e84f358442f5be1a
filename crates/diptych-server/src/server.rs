//! The server: its configuration, and the two ways to run it.

use std::{fmt, future::Future, sync::Arc, time::Instant};

use axum::Router;
use diptych::{App, Command, Event, Query};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::net::TcpListener;

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
        documents::Documents,
        entries::{
            Entries,
            command::CommandRoute,
            event::EventEntry,
            file::FileEntry,
            query::{QueryEntry, QueryRoute},
            schema::{self, resolved},
        },
        live::LiveQueries,
        site::Site,
    },
    router::{has_route, router},
};

/// An HTTP server for an app: register commands and queries, then [serve](Server::serve), or take
/// the [router](Server::into_router) into another program.
#[must_use = "a server does nothing before it serves"]
pub struct Server {
    app: App,
    entries: Entries,
    /// Collects the schemas of all types.
    schemas: SchemaGenerator,
    limits: ServerLimits,
    hosts: Hosts,
    hook: Option<Hook>,
    metrics: Option<Metrics>,
    /// Mistakes in the configuration, reported when the server starts.
    mistakes: Vec<String>,
}

impl Server {
    /// A server for this app, without commands and queries.
    pub fn new(app: App) -> Server {
        Server {
            app,
            entries: Entries::new(),
            schemas: schema::generator(),
            limits: ServerLimits::default(),
            hosts: Hosts::default(),
            hook: None,
            metrics: None,
            mistakes: Vec::new(),
        }
    }

    /// Sets the name of the application and the version of its API.
    pub fn title(mut self, title: impl Into<String>, version: impl Into<String>) -> Server {
        (self.entries.title, self.entries.version) = (title.into(), version.into());
        self
    }

    /// Registers a command. The route is its name (`schedule-flight`), or a [`CommandRoute`] with
    /// options: for a command that no rule rejects, or for recorded rejections.
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
        let (name, entry) = route.into().into_entry(&mut self.schemas);
        self.check_name(&name);
        if self.entries.commands.insert(name.clone(), entry).is_some() {
            self.mistakes.push(format!("there are two commands {name:?}: rename one"));
        }
        self
    }

    /// Registers a query under this name (`departure-board`). Arguments outside its schema are
    /// refused, and none may begin with `_`.
    ///
    /// The route is its name, or a [`QueryRoute`] with options: for explanations, which a plain
    /// name does not have, and for a rule about the caller.
    pub fn query<Q>(mut self, route: impl Into<QueryRoute<Q>>) -> Server
    where
        Q: Query<Answer: Serialize + JsonSchema> + DeserializeOwned + JsonSchema,
    {
        let route = route.into();
        let name = route.name().to_owned();
        let entry = QueryEntry::of::<Q>(&mut self.schemas, route);
        self.with_query(&name, entry)
    }

    /// Like [`query`](Server::query), and clients can watch the query: its answers are sent as they
    /// change.
    pub fn live_query<Q>(mut self, route: impl Into<QueryRoute<Q>>) -> Server
    where
        Q: Query<Answer: Serialize + JsonSchema + Clone + PartialEq>,
        Q: DeserializeOwned + JsonSchema,
    {
        let route = route.into();
        let name = route.name().to_owned();
        let entry = QueryEntry::live::<Q>(&mut self.schemas, route);
        self.with_query(&name, entry)
    }

    /// Lists this event in the catalogue, with its schema.
    pub fn event<E: Event + JsonSchema>(mut self) -> Server {
        self.entries.events.extend(EventEntry::of::<E>(&mut self.schemas));
        self
    }

    /// Serves this file at this path, which begins with a slash.
    pub fn file(mut self, path: &str, content_type: &str, bytes: &'static [u8]) -> Server {
        if !path.starts_with('/') || has_route(path) {
            let problem = "its path has to begin with a slash, and no route may have it";
            self.mistakes.push(format!("the file {path:?}: {problem}"));
        }
        match FileEntry::new(content_type, bytes) {
            Ok(file) => drop(self.entries.files.insert(path.to_owned(), file)),
            Err(problem) => self.mistakes.push(format!("the file {path}: {problem}")),
        }
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
        let site = self.into_site()?;
        if is_open {
            return Err(ServeError::NotLoopback { address });
        }
        let (limits, stop) = (*site.door.limits(), site.door.stop().clone());
        let metrics = site.metrics.clone();
        let served = ServedRoutes {
            router: router(site),
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
    pub fn into_router(self) -> Result<(Router, StopHandle), ServeError> {
        let has_host = !self.hosts.is_empty();
        let site = self.into_site()?;
        if !has_host {
            return Err(ServeError::NoHost);
        }
        let stop = StopHandle::new(site.door.stop().clone(), site.door.limits().stop_time);
        Ok((router(site), stop))
    }

    fn into_site(self) -> Result<Arc<Site>, ServeError> {
        let Server { app, entries, mut schemas, limits, hosts, hook, metrics, mistakes } = self;
        if let Some(problem) = mistakes.into_iter().next() {
            return Err(ServeError::Declaration { problem });
        }
        let definitions = schemas.take_definitions(true);
        let documents = Documents::of(&entries, definitions.clone(), metrics.is_some());
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
            metrics,
            started,
        }))
    }

    fn with_query(mut self, name: &str, entry: QueryEntry) -> Server {
        self.check_name(name);
        let is_reserved = |field: &&String| field.starts_with('_');
        if let Some(field) = entry.argument_names.fields().find(is_reserved) {
            let problem = format!(
                "the query {name:?} has the argument {field:?}: rename it, because names that \
                 begin with `_` are for the parameters of every query"
            );
            self.mistakes.push(problem);
        }
        let kind = resolved(&entry.answer, Some(self.schemas.definitions())).get("type");
        if entry.page_items.is_some() && kind.and_then(Value::as_str) != Some("array") {
            let problem = "its answer is no array: leave `paged` out, or answer with a list";
            self.mistakes.push(format!("the query {name:?} has pages, and {problem}"));
        }
        if self.entries.queries.insert(name.to_owned(), entry).is_some() {
            self.mistakes.push(format!("there are two queries {name:?}: rename one"));
        }
        self
    }

    fn check_name(&mut self, name: &str) {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(is_plain) {
            let problem = format!("{name:?} is no name: use small letters, digits and dashes");
            self.mistakes.push(problem);
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (commands, queries) = (self.entries.commands.keys(), self.entries.queries.keys());
        f.debug_struct("Server")
            .field("commands", &commands.collect::<Vec<_>>())
            .field("queries", &queries.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
