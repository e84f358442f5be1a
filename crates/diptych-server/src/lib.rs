//! Serves the commands and queries of a Diptych app over HTTP, with one line of code for each.
//!
//! ```
//! use diptych::{App, Command, DecisionContext, Event, Filter, Fold, Memory, Query, Recorded, Tag};
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
//!     fn decide(&self, seats: &Seats, _: &DecisionContext) -> Result<Vec<Taken>, IsTaken> {
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
//! of the command are durable. The options of a command are headers: `Idempotency-Key`,
//! `Diptych-Occurred-At`, `Diptych-Correlation`, `Diptych-Causation`, `Diptych-Session`,
//! `Diptych-After` (a receipt or a token: the command sees its events), `Diptych-Unchanged-Since`
//! (a position: the command is refused if a relevant event came after it). `If-Match` with the
//! position in quotes is another name of the last one. `GET /receipts/{key}` answers with the
//! receipt of the commit that was made under an idempotency key, in the same form.
//!
//! A command that has started completes, even if its client goes away or the server stops. The type
//! of the command decides whether unknown fields are refused (`#[serde(deny_unknown_fields)]`). A
//! list in place of an object is refused, although serde would read it. The problem of a malformed
//! body names the place in its member `field`.
//!
//! # Queries
//!
//! `GET /queries/{name}?arguments`, or `POST` with the arguments as JSON. The body is the answer as
//! JSON. `Diptych-Position` is its position, `Diptych-Token` names that position for use as
//! `Diptych-After`, and `Diptych-Cost-Events` is the number of events read for it. A stale answer
//! has `Diptych-Stale`. If the view stands still, `Diptych-View-State` (`paused`, `stalled`,
//! `stopped`, `ended`, `history changed` or `closed`) and `Diptych-View-Since` say so. Parameters,
//! or headers of the same names (`_as_of` is `Diptych-As-Of`), set how fresh the answer has to be,
//! or its point in the past:
//!
//! | parameter | meaning |
//! |---|---|
//! | `_consistency` | `eventual`, or `strong` |
//! | `_after` | a receipt or token: the answer contains its events |
//! | `_session` | a session's token; the next one comes back in `Diptych-Session` |
//! | `_at_most` | milliseconds: maximum age of the answer |
//! | `_within` | milliseconds: maximum wait for the answer |
//! | `_or_stale` | after that wait, accept a stale answer, which has `Diptych-Stale` |
//! | `_as_of` | a position: the answer as it was then |
//! | `_recorded_before`, `_occurred_before` | an instant: events recorded, or occurred, before it |
//! | `_limit` | maximum number of items of a page, or of events in an explanation |
//! | `_offset` | the number of items before the page |
//! | `_start_after` | a position: an explanation lists the events after the one there |
//!
//! A session begins with the token of any answer. A token of another log, or from before a backup
//! was restored, gets `409`: begin a new session. If the address and a header both set a value, the
//! address wins. Requirements on freshness do not apply to questions about the past.
//!
//! Equal questions about an equal part of the log are computed once, and the last answers are kept.
//! If the address alone names the point, its answer has an `ETag`, and a client that sends it back
//! in `If-None-Match` gets 304. If the answer can no longer change, it is `immutable`, and a client
//! may keep it for [`past_answer_age`](ServerLimits::past_answer_age).
//!
//! `GET /queries/{name}/explanation` lists the events that made the answer, if the query allows it
//! ([`QueryRoute::explained`]).
//! `GET /queries/{name}/live` sends the answer, and then each changed answer, as server-sent
//! events. Each is the whole answer. The only parameter is `_session`. A client that gives the id
//! of an event as `Last-Event-ID` resumes after that event. A problem is sent once, as an event
//! `problem`; the stream continues when the problem is over. If the id belongs to another log, open
//! a new stream.
//!
//! # Lists
//!
//! A query whose route is [paged](QueryRoute::paged) answers with at most a page of its list. The
//! body stays an array. `Diptych-Total` is the number of items of the whole list, and
//! `Link: <?…>; rel="next"` (RFC 8288) leads to the next page, if there is one. The link is
//! relative to the address of the request. It has the arguments and options of the request, those
//! of headers too, and the token of this page as `_after`, so that the next page is not older. By
//! `POST` the arguments are in the body: send the same one to the link.
//!
//! Each page is of the list at its own `Diptych-Position`. If two pages have one position, they are
//! of one list. If the position changed, the list may have changed: items can be missing or there
//! twice. Pages of one list are those of one point in the past: ask for each with `_as_of`, which
//! the link keeps. The server does not add it by itself, because a question about the past reads
//! events, and needs a right of its own. The order of the items has to be stable.
//!
//! An explanation that is cut off (`is_whole` is false) has the position of its last event in
//! `next`, and a `Link` that continues after it with `_start_after`. In log order, events come only
//! to the end. With `_occurred_before` a new event can belong before that position: add `_as_of`.
//!
//! `GET /live?query=seats%3Frow%3Da&query=how-many&status` sends several queries, and the status,
//! in one stream. Each `query` is the name of a live query with its arguments, percent-encoded; the
//! event of an answer or problem has it as the member `query`. Its other parameter is `_session`.
//! Clients that watch equal queries share one watch, which computes each answer once.
//!
//! # Problems
//!
//! A request that fails is answered with `application/problem+json`. Its `type` is `urn:diptych:`
//! and one of these words; its `detail` is a sentence for people.
//!
//! | status | words | more |
//! |---|---|---|
//! | 400 | `malformed`, `invalid`, `arguments`, `parameter`, `header`, `host`, `body` | |
//! | 400 | `not-taken`, `above-head`, `too-many-events` | |
//! | 401, 403 | `denied`, `host` | the [hook](Server::admit) denies |
//! | 404, 405 | `unknown`, `method` | |
//! | 408, 413, 415 | `slow`, `too-large`, `content-type` | |
//! | 409 | `conflict`, `key-reused`, `token` | `missed`: position and type of events |
//! | 409 | `tracked` | only the routes of a log |
//! | 422 | `rejected` | `rejection`: the typed reason |
//! | 500 | `mistake` | a mistake in the program |
//! | 503 | `not-yet`, `outcome-unknown`, `unavailable`, `view-stopped` | `need` and `have` |
//! | 503 | `busy`, `slow`, `stopping`, `not-ready` | |
//!
//! If one part of the request is wrong, the problem names it: `argument` of an address, `field` of
//! a body (a path such as `passengers[2].name`), `parameter` or `header`.
//!
//! A problem quotes no events, with one exception: if the [route](CommandRoute::explained) of a
//! command allows it, and the hook admits the caller to [`Operation::ExplainConflict`], the
//! `missed` of a conflict has the payloads of the events. A `mistake` names its place only; the log
//! of the program has the reason.
//!
//! `busy` means that the limit of requests, live streams, or questions about the past is reached.
//! Questions about the past are folded on a few threads of the app ([`AppBuilder::past_folds`]). If
//! a client goes away, the thread of its question takes the next one. A question that needs more
//! events than [`past_reads`](ServerLimits::past_reads) gets `too-many-events`, and one that takes
//! longer than [`answer_time`](ServerLimits::answer_time) gets `slow`.
//!
//! [`AppBuilder::past_folds`]: diptych::AppBuilder::past_folds
//!
//! Malformed HTTP gets no problem: hyper responds with 400, or with 431 if the head is too long.
//!
//! # For operators
//!
//! `/status` and `/status/live` show the log, the commands and the views; `/health` and `/ready`
//! are for load balancers, `/metrics` is for Prometheus ([`Metrics`]). `/catalogue` and
//! `/openapi.json` list commands, queries, events and views with their schemas, made from the
//! types. The tests generate clients from `/openapi.json` by openapi-python-client and
//! openapi-typescript.
//!
//! The server listens on the listener that it gets. On a loopback address it answers under the
//! names of this machine; add any other name with [`host`](Server::host). A request from a page of
//! another site is refused, unless that site is allowed with [`origin`](Server::origin). A link
//! from another site is followed.
//! [`ServerLimits`] bounds all resources. [`Server::serve`] speaks plain HTTP/1.1; put a proxy in
//! front for encryption, or take the routes into a server of your own by [`Server::into_router`].
//!
//! # Your own handlers
//!
//! With the feature `extract`, the module `extract` has extractors and responses for axum handlers
//! that you write yourself: they read the headers and parameters of this page, and answer as the
//! routes of a server do. A [`Problem`] is a response.

mod door;
#[cfg(feature = "extract")]
pub mod extract;
#[cfg(feature = "log")]
mod hinge;
mod json;
mod panels;
mod router;
mod server;

pub use axum::http::HeaderMap;
#[cfg(feature = "log")]
pub use door::tls::TlsError;
pub use door::{
    access::{Caller, Denial, Operation, Visit},
    limits::ServerLimits,
    metrics::{Metrics, MetricsError},
    problem::Problem,
    serve::{MissingProtection, ServeError},
    stop::StopHandle,
};
#[cfg(feature = "log")]
pub use hinge::{LogServer, TokenFile, TokenFileError, TokenScope, UnknownScope};
pub use panels::entries::{command::CommandRoute, query::QueryRoute};
pub use server::Server;
