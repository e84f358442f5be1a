//! Commands and queries of a Diptych app over HTTP: one line for each, and one to serve.
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
//! (`receipt`, `first`, `last`, `events`) and in the header `Diptych-Receipt`; then its events are
//! durable. Headers say more about a command: `Idempotency-Key`, `Diptych-Occurred-At`,
//! `Diptych-Correlation`, `Diptych-Causation`, `Diptych-Session`, `Diptych-After` (a receipt or a
//! token that it rests on), `Diptych-Unchanged-Since` (a position: nothing that it depends on came
//! after).
//!
//! A command that was begun is carried out, also if its client goes away or the server stops.
//! Fields that its type does not know are up to the type (`#[serde(deny_unknown_fields)]`).
//!
//! # Queries
//!
//! `GET /queries/{name}?arguments`, or `POST` with the arguments as JSON. The answer is the JSON of
//! the answer, with `Diptych-Position` (of which position it is), `Diptych-Token` (the same, to be
//! told to others as `Diptych-After`), `Diptych-Cost-Events` (what was read for it) and
//! `Diptych-Stale`, if it is. Of a view that takes in nothing more for now, `Diptych-View-State`
//! (`paused`, `stalled`, `stopped`, `ended` or `closed`) and `Diptych-View-Since` say so. How fresh
//! it has to be, and of when, is said by parameters, or by headers of the same names (`_as_of` is
//! `Diptych-As-Of`):
//!
//! | parameter | what |
//! |---|---|
//! | `_consistency` | `eventual`, or `strong` |
//! | `_after` | a receipt or token: what it speaks of is in the answer |
//! | `_session` | a session's token; the next one comes back in `Diptych-Session` |
//! | `_at_most` | milliseconds: not older than that |
//! | `_within` | milliseconds to wait for it |
//! | `_or_stale` | take what there is then, marked |
//! | `_as_of` | a position: the answer as it was then |
//! | `_recorded_before`, `_occurred_before` | an instant: what was known, or was so, until then |
//! | `_limit` | events of an explanation |
//!
//! A session begins with the token of any answer. One of another log, or of before a backup was
//! restored, is answered with `409`, and begins anew. Said in the address and in a header, it is
//! the address that counts. Of the past, what is said about freshness plays no role.
//!
//! `GET /queries/{name}/explanation` lists the events that made the answer. `GET
//! /queries/{name}/live` sends the answer and each changed one as server-sent events; the id of
//! an event, given as `Last-Event-ID`, resumes there; of the parameters it takes `_session` alone.
//! Trouble is an event `problem`, told once; the
//! stream goes on when it is over, except where the id is of another log: then open it anew.
//!
//! # Problems
//!
//! Whatever is not an answer is `application/problem+json`. Its `type` is `urn:diptych:` and one
//! of these words, its `detail` is a sentence for people.
//!
//! | status | words |
//! |---|---|
//! | 400 | `malformed`, `invalid`, `arguments`, `parameter`, `header`, `host`, `body` |
//! | 400 | `not-taken`, `above-head`, `too-many-events` |
//! | 401, 403 | `denied` by the [hook](Server::admit); `host` |
//! | 404, 405 | `unknown`, `method` |
//! | 408, 413, 415 | `slow`, `too-large`, `content-type` |
//! | 409 | `conflict` (with position and type of what was `missed`), `key-reused`, `token` |
//! | 422 | `rejected`, with the typed reason in `rejection` |
//! | 500 | `mistake` in the program |
//! | 503 | `not-yet` (with `need` and `have`), `outcome-unknown`, `unavailable`, `view-stopped` |
//! | 503 | `busy`, `slow`, `stopping`, `not-ready` |
//!
//! A problem quotes no events: a mistake says where it is, and the log of the program why. The
//! payloads of events that a conflict missed are in `missed` for callers whom the hook admits to
//! [`Operation::Explain`].
//!
//! `busy` is one request, live stream, or question about the past too many. What is asked about
//! the past is folded on threads of the app, of which [`AppBuilder::past_folds`] has few; a client
//! that goes away leaves its thread to the next.
//!
//! [`AppBuilder::past_folds`]: diptych::AppBuilder::past_folds
//!
//! Only what is no HTTP has no such answer: hyper says 400, or 431 where the head is too long.
//!
//! # For whoever runs it
//!
//! `/status` and `/status/live` show the log, the commands and the views; `/health` and `/ready`
//! are for load balancers, `/metrics` for Prometheus ([`Metrics`]). `/catalogue` and
//! `/openapi.json` list commands, queries, events and views with their schemas, made from the
//! types.
//!
//! The server listens where it is told to and answers under the names that it is told: on a
//! loopback address those of this machine; anything else has to be named with
//! [`host`](Server::host). A request of another site's page is refused, unless that is named
//! with [`origin`](Server::origin). Everything is bounded by [`ServerLimits`]. It speaks plain
//! HTTP/1.1: encryption is the work of what stands before it.

mod access;
mod catalogue;
mod commands;
mod connection;
mod files;
mod live;
mod options;
mod problem;
mod queries;
mod request;
mod serve;
mod site;
mod status;

use std::{collections::BTreeMap, convert::Infallible, fmt, future::Future};

pub use access::{Caller, Denied, Operation, Visit};
use axum::http::HeaderMap as _HeaderMap;
use diptych::{App, Command, Event, Query};
pub use options::ServerLimits;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
pub use serve::ServeError;
pub use status::{Metrics, MetricsError};

use crate::{
    access::{Hook, Hosts, hook},
    catalogue::EventEntry,
    commands::CommandEntry,
    files::File,
    queries::QueryEntry,
};

/// The headers of a [`Visit`].
pub type HeaderMap = _HeaderMap;

/// What an app is asked over HTTP: put together, then [served](Server::serve).
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
    /// Found while it was put together, and told when it is to serve.
    mistakes: Vec<String>,
}

impl Server {
    /// Nothing yet can be asked of this app.
    pub fn new(app: App) -> Server {
        Server {
            app,
            title: "Diptych".to_owned(),
            version: "1".to_owned(),
            commands: BTreeMap::new(),
            queries: BTreeMap::new(),
            events: Vec::new(),
            files: BTreeMap::new(),
            schemas: catalogue::schemas(),
            limits: ServerLimits::default(),
            hosts: Hosts::default(),
            hook: None,
            metrics: None,
            mistakes: Vec::new(),
        }
    }

    /// What the application is called, and the version of what it can be asked.
    pub fn title(mut self, title: impl Into<String>, version: impl Into<String>) -> Server {
        (self.title, self.version) = (title.into(), version.into());
        self
    }

    /// This command can be sent, under this name (`schedule-flight`).
    pub fn command<C>(mut self, name: &str) -> Server
    where
        C: Command<Rejection: Serialize + JsonSchema> + DeserializeOwned + Serialize + JsonSchema,
    {
        let entry = CommandEntry::new::<C>(&mut self.schemas);
        self.with_command(name, entry)
    }

    /// The same for a command that no rule rejects.
    pub fn certain_command<C>(mut self, name: &str) -> Server
    where
        C: Command<Rejection = Infallible> + DeserializeOwned + Serialize + JsonSchema,
    {
        let entry = CommandEntry::certain::<C>(&mut self.schemas);
        self.with_command(name, entry)
    }

    /// Like [`command`](Server::command), and what the rule says no to becomes a fact: after a
    /// rejection the command `note` is executed, with the same metadata. Under an idempotency key
    /// it is noted once for the same command and the same rejection
    /// ([`Execute::note_of`](diptych::Execute::note_of)).
    ///
    /// The answer tells the rejection in any case, and in `noted` whether it is on record: `false`
    /// if the note could not be written, `null` if that is not known, both with the type of the
    /// problem in `note_problem`.
    pub fn command_noting<C, N>(mut self, name: &str, note: fn(&C, &C::Rejection) -> N) -> Server
    where
        C: Command<Rejection: Serialize + JsonSchema>,
        C: Clone + DeserializeOwned + Serialize + JsonSchema,
        N: Command + Serialize,
    {
        let entry = CommandEntry::noting(&mut self.schemas, note);
        self.with_command(name, entry)
    }

    /// This query can be asked, under this name (`departure-board`). Its arguments are those of
    /// its schema: others are refused, and none may begin with `_`.
    pub fn query<Q>(mut self, name: &str) -> Server
    where
        Q: Query<Answer: Serialize + JsonSchema> + DeserializeOwned + JsonSchema,
    {
        let entry = QueryEntry::new::<Q>(&mut self.schemas);
        self.with_query(name, entry)
    }

    /// The same, and it can be watched: its answers are sent as they change.
    pub fn live_query<Q>(mut self, name: &str) -> Server
    where
        Q: Query<Answer: Serialize + JsonSchema + Clone + PartialEq>,
        Q: DeserializeOwned + JsonSchema,
    {
        let entry = QueryEntry::live::<Q>(&mut self.schemas);
        self.with_query(name, entry)
    }

    /// This event stands in the catalogue, with its schema.
    pub fn event<E: Event + JsonSchema>(mut self) -> Server {
        self.events.extend(EventEntry::of::<E>(&mut self.schemas));
        self
    }

    /// This file is served at this path, which begins with a slash.
    pub fn file(mut self, path: &str, content_type: &str, bytes: &'static [u8]) -> Server {
        if !path.starts_with('/') || site::is_taken(path) {
            let problem = "a path begins with a slash, and is none that the server answers itself";
            self.mistakes.push(format!("the file {path:?}: {problem}"));
        }
        match File::new(content_type, bytes) {
            Ok(file) => drop(self.files.insert(path.to_owned(), file)),
            Err(problem) => self.mistakes.push(format!("the file {path}: {problem}")),
        }
        self
    }

    /// Asked about every request but those for health and readiness: who it is from, or why it is
    /// not let in. Without this everybody may everything, and nobody has a name.
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

    /// It is also asked under this name, without a port: `flights.example.org`. Whoever looks at
    /// its health and readiness has to say one of its names, too.
    pub fn host(mut self, name: &str) -> Server {
        self.hosts.add_host(name);
        self
    }

    /// Pages of this site may ask: `https://flights.example.org`, for example where a proxy
    /// answers under another name than it asks. What a browser lets pages of other sites read is
    /// not widened by it.
    pub fn origin(mut self, origin: &str) -> Server {
        self.hosts.add_origin(origin);
        self
    }

    /// What is bounded, and how.
    pub fn limits(mut self, limits: ServerLimits) -> Server {
        self.limits = limits;
        self
    }

    /// What `/metrics` shows.
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

/// The payload of an event as JSON: as it is if it is JSON, else its bytes as a list.
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
