//! The server from outside: over a socket, byte by byte where that matters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod access;
mod asyncapi;
mod catalogued;
mod client;
mod clients;
mod commands;
mod domain;
#[cfg(feature = "extract")]
mod extract;
mod feeds;
mod garbage;
mod grain;
mod intakes;
mod limits;
mod lists;
mod live;
mod mounted;
#[cfg(feature = "extract")]
mod mounts;
mod ordinals;
mod page_streams;
mod past_answers;
mod processes;
mod queries;
mod schemas;
mod served;
mod shutdown;
mod slow_heads;
mod status;
mod store;
mod time;
#[cfg(feature = "webhooks")]
mod webhooks;
