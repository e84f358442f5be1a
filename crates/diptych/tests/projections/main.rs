//! Tests of projections over a target in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod database;
mod in_an_app;
mod isolation;
#[path = "../support/mod.rs"]
mod support;
mod target;
