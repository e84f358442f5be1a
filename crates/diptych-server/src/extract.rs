//! Extractors and responses for axum handlers that a program writes itself (feature `extract`).
//!
//! They read the headers and parameters that the routes of a [`Server`](crate::Server) read, and
//! answer with the same status, headers and body:
//!
//! ```
//! # use diptych::{App, Command, DecisionContext, Event, Filter, Fold, Query, Recorded, Tag};
//! # use schemars::JsonSchema;
//! # use serde::{Deserialize, Serialize};
//! use axum::{Router, extract::State, routing::{get, post}};
//! use diptych_server::{
//!     Problem,
//!     extract::{
//!         AnswerResponse, CommandBody, CommandHeaders, QueryArguments, QueryParameters,
//!         ReceiptResponse,
//!     },
//! };
//! # #[derive(Event, Serialize, Deserialize)]
//! # #[event("seat-taken")]
//! # struct Taken {
//! #     #[tag]
//! #     seat: String,
//! # }
//! # #[derive(Clone, Default)]
//! # struct Seats(u64);
//! # impl Fold for Seats {
//! #     type Event = Taken;
//! #     fn apply(&mut self, _: &Recorded<Taken>) {
//! #         self.0 += 1;
//! #     }
//! # }
//! # #[derive(Debug, thiserror::Error, Serialize)]
//! # #[error("the seat is taken")]
//! # struct IsTaken {}
//! # #[derive(Serialize, Deserialize)]
//! # struct Take {
//! #     seat: String,
//! # }
//! # impl Command for Take {
//! #     type State = Seats;
//! #     type Event = Taken;
//! #     type Rejection = IsTaken;
//! #     fn boundary(&self) -> Filter {
//! #         Filter::tag(Tag::new("seat", &self.seat))
//! #     }
//! #     fn decide(&self, seats: &Seats, _: &DecisionContext) -> Result<Vec<Taken>, IsTaken> {
//! #         match seats.0 {
//! #             0 => Ok(vec![Taken { seat: self.seat.clone() }]),
//! #             _ => Err(IsTaken {}),
//! #         }
//! #     }
//! # }
//! # #[derive(Deserialize)]
//! # struct HowMany {}
//! # impl Query for HowMany {
//! #     type View = Seats;
//! #     type Answer = u64;
//! #     fn answer(&self, seats: &Seats) -> u64 {
//! #         seats.0
//! #     }
//! # }
//!
//! async fn take(
//!     State(app): State<App>,
//!     headers: CommandHeaders,
//!     CommandBody(take): CommandBody<Take>,
//! ) -> Result<ReceiptResponse, Problem> {
//!     headers.execute(&app, take).await
//! }
//!
//! async fn how_many(
//!     State(app): State<App>,
//!     parameters: QueryParameters,
//!     QueryArguments(query): QueryArguments<HowMany>,
//! ) -> Result<AnswerResponse, Problem> {
//!     parameters.ask(&app, query).await
//! }
//!
//! # fn routes(app: App) -> Router {
//! Router::new().route("/take", post(take)).route("/how-many", get(how_many)).with_state(app)
//! # }
//! ```
//!
//! The tokens in a request are compared with the log, so the state of the router has to give the
//! [`App`](diptych::App): it is the state itself, or the state implements
//! [`FromRef`](axum::extract::FromRef) for it.
//!
//! A layer can set two extensions of the request. A [`Caller`] is the actor and the
//! claims that the events of a command get; without it the caller is anonymous.
//! [`ServerLimits`] are the limits of the request: `body_bytes`, `body_time`,
//! `answer_time` and `wait_time` count here. Without them the default limits hold.
//!
//! The routes of a server do more than these handlers. They check hosts and origins, ask the hook,
//! count requests, refuse arguments with unknown names, parameters of a command and lists in place
//! of objects, and add headers that protect browsers.

mod command;
mod query;

use axum::http::Extensions;
pub use command::{CommandBody, CommandHeaders, ReceiptResponse};
pub use query::{AnswerResponse, QueryArguments, QueryParameters};

use crate::door::{access::Caller, limits::ServerLimits};

/// The caller that a layer of the program named.
fn caller_of(extensions: &Extensions) -> Caller {
    extensions.get::<Caller>().cloned().unwrap_or_default()
}

/// The limits that a layer of the program set.
fn limits_of(extensions: &Extensions) -> ServerLimits {
    extensions.get::<ServerLimits>().copied().unwrap_or_default()
}
