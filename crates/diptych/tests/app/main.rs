//! Tests of an app as a whole: start, stop, drop, and its metrics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod following;
mod history;
mod metrics;
mod other_writers;
mod starting_and_dropping;
mod stopping;
mod subscriptions;
#[path = "../support/mod.rs"]
mod support;
