//! Tests of the gateways against a server of HTTP that fails in every way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod feeds;
mod http;
mod mail;
mod processes;
mod server;
mod traces;
mod webhooks;
