//! Tests of services that collaborate: feeds, intakes, and what can go wrong between them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/distant.rs"]
mod distant;
mod exchange;
mod feeds;
mod flows;
mod history;
mod hostile_sources;
mod kept;
mod kills;
mod loops;
#[path = "../support/measured.rs"]
mod measured;
mod metrics;
mod parked;
mod services;
mod starts;
