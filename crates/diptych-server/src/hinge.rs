//! The log itself on the wire, for stores in other processes: the hinge between the panels.
//!
//! `service` answers calls about the log. `appends` serves the stream of a session, and `sessions`
//! keeps the outcomes of each session, so that a client can ask again after it lost a connection.
//! `streams` are reads and subscriptions, and `pages` what subscribers share.

mod appends;
mod pages;
mod server;
mod service;
mod sessions;
mod streams;

pub use server::LogServer;
