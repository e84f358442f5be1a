//! Serves the commands and queries of a Diptych app over HTTP, with one line for each.
//!
//! ```
//! use diptych::{App, Command, Event, Filter, Fold, Memory, Query, Recorded, Tag};
//! use diptych_server::Server;
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! /// A seat was taken.
//! #[derive(Event, Serialize, Deserialize, JsonSchema)]
//! #[event("seat-taken")]
//! struct Taken {
//!     #[tag]
//!     seat: String,
//! }
//!
//! #[derive(Clone, Default)]
//! struct Seats(u64);
//!
//! impl Fold for Seats {
//!     type Event = Taken;
//!
//!     fn apply(&mut self, _: &Recorded<Taken>) {
//!         self.0 += 1;
//!     }
//! }
//!
//! #[derive(Debug, thiserror::Error, Serialize, JsonSchema)]
//! #[error("the seat is taken")]
//! struct IsTaken {}
//!
//! /// Takes a seat.
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Take {
//!     seat: String,
//! }
//!
//! impl Command for Take {
//!     type State = Seats;
//!     type Event = Taken;
//!     type Rejection = IsTaken;
//!
//!     fn boundary(&self) -> Filter {
//!         Filter::tag(Tag::new("seat", &self.seat))
//!     }
//!
//!     fn decide(&self, seats: &Seats) -> Result<Vec<Taken>, IsTaken> {
//!         match seats.0 {
//!             0 => Ok(vec![Taken { seat: self.seat.clone() }]),
//!             _ => Err(IsTaken {}),
//!         }
//!     }
//! }
//!
//! /// How many seats are taken.
//! #[derive(Deserialize, JsonSchema)]
//! struct HowMany {}
//!
//! impl Query for HowMany {
//!     type View = Seats;
//!     type Answer = u64;
//!
//!     fn answer(&self, seats: &Seats) -> u64 {
//!         seats.0
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = App::over(Memory::new()).view::<Seats>().start().await?;
//! let server = Server::new(app.clone())
//!     .command::<Take>("take-seat")
//!     .live_query::<HowMany>("how-many")
//!     .event::<Taken>();
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let shutdown = async {};
//! server.serve(listener, shutdown).await?; // until `shutdown` is ready
//! app.stop().await?;
//! # Ok(()) }
//! ```
//!
//! # Commands
//!
//! `POST /commands/{name}` with the command as JSON. The answer is the receipt, in the body
//! (`receipt`, `first`, `last`, `events`) and in the header `Diptych-Receipt`; by then the events
//! of the command are durable. Headers say more about a command: `Idempotency-Key`,
//! `Diptych-Occurred-At`, `Diptych-Correlation`, `Diptych-Causation`, `Diptych-Session`,
//! `Diptych-After` (a receipt or a token that it rests on), `Diptych-Unchanged-Since` (a position:
//! nothing that it depends on came after).
//!
//! A command that has begun is carried out, even if its client goes away or the server stops. The
//! type decides about unknown fields (`#[serde(deny_unknown_fields)]`).
//!
//! # Queries
//!
//! `GET /queries/{name}?arguments`, or `POST` with the arguments as JSON. The body is the answer as
//! JSON. Headers tell more: `Diptych-Position` is its position, `Diptych-Token` names that position
//! for use as `Diptych-After`, and `Diptych-Cost-Events` is the number of events read for it.
//! `Diptych-Stale` is there if the answer is stale. If the view stands still, `Diptych-View-State`
//! (`paused`, `stalled`, `stopped`, `ended` or `closed`) and `Diptych-View-Since` say so.
//! Parameters, or headers of the same names (`_as_of` is `Diptych-As-Of`), set how fresh the answer
//! has to be, or its point in the past:
//!
//! | parameter | meaning |
//! |---|---|
//! | `_consistency` | `eventual`, or `strong` |
//! | `_after` | a receipt or token: the answer contains its events |
//! | `_session` | a session's token; the next one comes back in `Diptych-Session` |
//! | `_at_most` | milliseconds: maximum age of the answer |
//! | `_within` | milliseconds to wait for it |
//! | `_or_stale` | after the wait, accept a stale answer with a mark |
//! | `_as_of` | a position: the answer as it was then |
//! | `_recorded_before`, `_occurred_before` | an instant: events recorded, or occurred, before it |
//! | `_limit` | events of an explanation |
//!
//! A session begins with the token of any answer. A token of another log, or from before a backup
//! was restored, gets `409`; then begin a new session. If both the address and a header set a
//! value, the address wins. Requirements on freshness do not apply to questions about the past.
//!
//! `GET /queries/{name}/explanation` lists the events that made the answer.
//! `GET /queries/{name}/live` sends the answer and each changed one as server-sent events; the id
//! of an event, given as `Last-Event-ID`, resumes there; it takes only the parameter `_session`. A
//! problem is sent once, as an event `problem`, and the stream continues when it is over. If the id
//! belongs to another log, open a new stream.
//!
//! # Problems
//!
//! Every other response is `application/problem+json`. Its `type` is `urn:diptych:` and one of
//! these words; its `detail` is a sentence for people.
//!
//! | status | words |
//! |---|---|
//! | 400 | `malformed`, `invalid`, `arguments`, `parameter`, `header`, `host`, `body` |
//! | 400 | `not-taken`, `above-head`, `too-many-events` |
//! | 401, 403 | `denied` by the [hook](Server::admit); `host` |
//! | 404, 405 | `unknown`, `method` |
//! | 408, 413, 415 | `slow`, `too-large`, `content-type` |
//! | 409 | `conflict` (`missed` has position and type of events), `key-reused`, `token` |
//! | 422 | `rejected`, with the typed reason in `rejection` |
//! | 500 | `mistake` in the program |
//! | 503 | `not-yet` (with `need` and `have`), `outcome-unknown`, `unavailable`, `view-stopped` |
//! | 503 | `busy`, `slow`, `stopping`, `not-ready` |
//!
//! A problem quotes no events. A `mistake` names its place, and the log of the program has the
//! reason. The payloads of events that a conflict missed are in `missed` only for callers whom the
//! hook admits to [`Operation::Explain`].
//!
//! `busy` means that the limit of requests, live streams, or questions about the past is reached.
//! Questions about the past are folded on a few threads of the app ([`AppBuilder::past_folds`]).
//! When a client goes away, its thread takes the next question.
//!
//! [`AppBuilder::past_folds`]: diptych::AppBuilder::past_folds
//!
//! Only malformed HTTP gets another answer: hyper responds with 400, or with 431 if the head is too
//! long.
//!
//! # For operators
//!
//! `/status` and `/status/live` show the log, the commands and the views; `/health` and `/ready`
//! are for load balancers, `/metrics` for Prometheus ([`Metrics`]). `/catalogue` and
//! `/openapi.json` list commands, queries, events and views with their schemas, made from the
//! types.
//!
//! The server listens on the listener that it gets. On a loopback address it answers under the
//! names of this machine; add any other name with [`host`](Server::host). A request from a page of
//! another site is refused, unless that site is allowed with [`origin`](Server::origin).
//! [`ServerLimits`] bounds all resources. The server speaks plain HTTP/1.1; put a proxy in front
//! for encryption.

mod door;
mod panels;

use std::{collections::BTreeMap, convert::Infallible, fmt, future::Future};

use axum::http::HeaderMap as _HeaderMap;
use diptych::{App, Command, Event, Query};
pub use door::access::{Caller, Denied, Operation, Visit};
pub use door::limits::ServerLimits;
pub use door::serve::ServeError;
pub use panels::handlers::status::{Metrics, MetricsError};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    door::access::{Hook, Hosts, hook},
    panels::handlers::catalogue::EventEntry,
    panels::handlers::commands::CommandEntry,
    panels::handlers::files::File,
    panels::handlers::queries::QueryEntry,
};

/// The headers of a [`Visit`].
pub type HeaderMap = _HeaderMap;

/// An HTTP server for an app: register commands and queries, then [serve](Server::serve).
#[must_use = "a server does nothing before it serves"]
pub struct Server {
    app: App,
    title: String,
    version: String,
    commands: BTreeMap<String, CommandEntry>,
    queries: BTreeMap<String, QueryEntry>,
    events: Vec<EventEntry>,
    files: BTreeMap<String, File>,
    schemas: SchemaGenerator,
    limits: ServerLimits,
    hosts: Hosts,
    hook: Option<Hook>,
    metrics: Option<Metrics>,
    /// Mistakes in its configuration, reported when it is to serve.
    mistakes: Vec<String>,
}

impl Server {
    /// A server for this app, without commands and queries.
    pub fn new(app: App) -> Server {
        Server {
            app,
            title: "Diptych".to_owned(),
            version: "1".to_owned(),
            commands: BTreeMap::new(),
            queries: BTreeMap::new(),
            events: Vec::new(),
            files: BTreeMap::new(),
            schemas: panels::handlers::catalogue::schemas(),
            limits: ServerLimits::default(),
            hosts: Hosts::default(),
            hook: None,
            metrics: None,
            mistakes: Vec::new(),
        }
    }

    /// Sets the name of the application and the version of its API.
    pub fn title(mut self, title: impl Into<String>, version: impl Into<String>) -> Server {
        (self.title, self.version) = (title.into(), version.into());
        self
    }

    /// Registers a command under this name (`schedule-flight`).
    pub fn command<C>(mut self, name: &str) -> Server
    where
        C: Command<Rejection: Serialize + JsonSchema> + DeserializeOwned + Serialize + JsonSchema,
    {
        let entry = CommandEntry::new::<C>(&mut self.schemas);
        self.with_command(name, entry)
    }

    /// Registers a command that no rule rejects.
    pub fn certain_command<C>(mut self, name: &str) -> Server
    where
        C: Command<Rejection = Infallible> + DeserializeOwned + Serialize + JsonSchema,
    {
        let entry = CommandEntry::certain::<C>(&mut self.schemas);
        self.with_command(name, entry)
    }

    /// Like [`command`](Server::command), and records rejections: after a rejection the server
    /// executes the command that `note` makes, with the same metadata. Under an idempotency key,
    /// one rejection of one command is noted once
    /// ([`Execute::note_of`](diptych::Execute::note_of)).
    ///
    /// The answer always contains the rejection. Its member `noted` says whether the note was
    /// written: `false` if it could not be, `null` if that is not known. In both cases
    /// `note_problem` has the type of the problem.
    pub fn command_noting<C, N>(mut self, name: &str, note: fn(&C, &C::Rejection) -> N) -> Server
    where
        C: Command<Rejection: Serialize + JsonSchema>,
        C: Clone + DeserializeOwned + Serialize + JsonSchema,
        N: Command + Serialize,
    {
        let entry = CommandEntry::noting(&mut self.schemas, note);
        self.with_command(name, entry)
    }

    /// Registers a query under this name (`departure-board`). Arguments outside its schema are
    /// refused, and none may begin with `_`.
    pub fn query<Q>(mut self, name: &str) -> Server
    where
        Q: Query<Answer: Serialize + JsonSchema> + DeserializeOwned + JsonSchema,
    {
        let entry = QueryEntry::new::<Q>(&mut self.schemas);
        self.with_query(name, entry)
    }

    /// Like [`query`](Server::query), and clients can watch the query: its answers are sent as they
    /// change.
    pub fn live_query<Q>(mut self, name: &str) -> Server
    where
        Q: Query<Answer: Serialize + JsonSchema + Clone + PartialEq>,
        Q: DeserializeOwned + JsonSchema,
    {
        let entry = QueryEntry::live::<Q>(&mut self.schemas);
        self.with_query(name, entry)
    }

    /// Lists this event in the catalogue, with its schema.
    pub fn event<E: Event + JsonSchema>(mut self) -> Server {
        self.events.extend(EventEntry::of::<E>(&mut self.schemas));
        self
    }

    /// Serves this file at this path, which begins with a slash.
    pub fn file(mut self, path: &str, content_type: &str, bytes: &'static [u8]) -> Server {
        if !path.starts_with('/') || panels::site::is_taken(path) {
            let problem = "a path begins with a slash, and is none that the server answers itself";
            self.mistakes.push(format!("the file {path:?}: {problem}"));
        }
        match File::new(content_type, bytes) {
            Ok(file) => drop(self.files.insert(path.to_owned(), file)),
            Err(problem) => self.mistakes.push(format!("the file {path}: {problem}")),
        }
        self
    }

    /// Sets the hook that admits requests. It is called for every request except health and
    /// readiness, and returns the caller or the reason to refuse. Without a hook all callers are
    /// anonymous and may do everything.
    ///
    /// ```
    /// # use diptych::{App, Memory};
    /// use diptych_server::{Caller, Denied, Operation, Server, Visit};
    ///
    /// async fn admit(visit: Visit) -> Result<Caller, Denied> {
    ///     let name = visit.headers.get("x-user").and_then(|name| name.to_str().ok());
    ///     match (&visit.operation, name) {
    ///         (Operation::Command(_), None) => Err(Denied::unknown("say who you are", "Bearer")),
    ///         (Operation::Command(command), Some("guest")) => {
    ///             Err(Denied::forbidden(format!("guests may not {command}")))
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
        Fut: Future<Output = Result<Caller, Denied>> + Send + 'static,
    {
        self.hook = Some(hook(admit));
        self
    }

    /// Also answers requests for this host, without a port: `flights.example.org`. Checks of health
    /// and readiness have to use one of its names, too.
    pub fn host(mut self, name: &str) -> Server {
        self.hosts.add_host(name);
        self
    }

    /// Allows requests from pages of this site: `https://flights.example.org`, for example if a
    /// proxy answers under another name than it uses towards this server. This sets no CORS
    /// headers, so a browser lets pages of other sites read no more than before.
    pub fn origin(mut self, origin: &str) -> Server {
        self.hosts.add_origin(origin);
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

    fn with_command(mut self, name: &str, entry: CommandEntry) -> Server {
        self.check_name(name);
        if self.commands.insert(name.to_owned(), entry).is_some() {
            self.mistakes.push(format!("there are two commands {name:?}: name one differently"));
        }
        self
    }

    fn with_query(mut self, name: &str, entry: QueryEntry) -> Server {
        self.check_name(name);
        if let Some(field) = entry.known.fields().find(|field| field.starts_with('_')) {
            let problem = format!(
                "the query {name:?} has the argument {field:?}: name it without `_` at the front, \
                 which is for what every query can be told"
            );
            self.mistakes.push(problem);
        }
        if self.queries.insert(name.to_owned(), entry).is_some() {
            self.mistakes.push(format!("there are two queries {name:?}: name one differently"));
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
        let (commands, queries) = (self.commands.keys(), self.queries.keys());
        f.debug_struct("Server")
            .field("commands", &commands.collect::<Vec<_>>())
            .field("queries", &queries.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The payload of an event as JSON. A payload that is not JSON becomes a list of its bytes.
fn payload(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| json!({ "bytes": bytes }))
}

/// The members of both objects.
fn merged(first: Value, second: Value) -> Value {
    let members = [first, second].into_iter().filter_map(|value| match value {
        Value::Object(members) => Some(members),
        _ => None,
    });
    Value::Object(members.flatten().collect())
}
