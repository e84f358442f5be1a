//! The store over the network, against a server in the same process or in another one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod conformance;
mod door;
mod door_server;
mod encryption;
mod http_json;
mod served_log;
