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
//! An app that was started with a [catalogue](diptych::catalogue) needs none of these lines:
//! `Server::new(app)` serves its commands, queries and events.
//!
//! # Where to go next
//!
//! | page | contents |
//! |---|---|
//! | [`reference`](mod@reference) | routes, headers, parameters, problems, permissions, clients |
//! | [`Server`], [`CommandRoute`], [`QueryRoute`] | what a server has, and what a route allows |
//! | [`ServerLimits`] | the bounds of every resource |
//! | [Plain axum][axum] | the guide: handlers of your own beside the routes |
//! | [Errors][errors], [metrics][metrics] | what to do about each error; what to watch |
//!
//! A command that has started completes, even if its client goes away or the server stops. Each
//! answer has its position, and no answer is silently stale. [`Server::serve`] speaks plain
//! HTTP/1.1: put a proxy in front for encryption, or take the routes into a server of your own by
//! [`Server::into_router`].
//!
//! # Features
//!
//! | feature | default | contents |
//! |---|---|---|
//! | `extract` | no | headers, parameters and answers for axum handlers of your own (`extract`) |
//! | `log` | no | [the log itself on the wire](crate::LogServer), for stores in other processes |
//! | `webhooks` | no | [webhooks of other systems](Server::webhook) become commands |
//! | `poster` | no | [commands of a poster](crate::Owner) go to the application that owns the log |
//!
//! [axum]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/axum.md
//! [errors]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/errors.md
//! [metrics]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/metrics.md

mod door;
#[cfg(feature = "extract")]
pub mod extract;
#[cfg(feature = "log")]
mod hinge;
mod json;
#[cfg(feature = "poster")]
mod owner;
mod panels;
#[cfg(all(doc, not(doctest)))]
#[doc = include_str!("http.md")]
pub mod reference {}
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
#[cfg(feature = "poster")]
pub use owner::{Owner, OwnerError};
#[cfg(feature = "webhooks")]
pub use panels::entries::webhook::{ReceivedWebhook, WebhookReaction, WebhookRoute};
pub use panels::{
    documents::credential::Credential,
    entries::{
        command::CommandRoute,
        mount::{DeniedExtras, Mount},
        query::QueryRoute,
    },
};
pub use server::Server;
