//! Tests of the gateways against a server of HTTP that fails in every way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod deliveries;
mod feeds;
mod formats;
mod http;
mod mail;
mod processes;
mod server;
mod traces;
mod verifier;
mod webhooks;
