//! The log itself on the wire, for stores in other processes: the hinge between the panels.
//!
//! `service` answers calls about the log. `appends` serves the stream of a session, and `sessions`
//! keeps the outcomes of each session, so that a client can ask again after it lost a connection.
//! `append_times` tells whether an append may bring its time, as those of a copy do.
//! `streams` are reads and subscriptions, and `live` has the events that
//! subscribers share. `feeds` answers with pages of feeds.
//! `http` has the log as JSON, for people and browsers.
//!
//! Each call passes `calls`, which asks `admission` about its token and takes a place for it; its
//! answer is `held` to that place. `health` tells load balancers whether the log can be used.

mod admission;
mod append_bytes;
mod append_times;
mod appends;
mod call_meter;
mod calls;
mod feeds;
mod health;
mod held;
mod http;
mod live;
mod server;
mod service;
mod sessions;
mod streams;
mod token_file;
mod tokens;

pub use server::LogServer;
pub use token_file::{TokenFile, TokenFileError};
pub use tokens::{TokenScope, UnknownScope};
