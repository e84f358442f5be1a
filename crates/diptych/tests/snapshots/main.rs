//! Tests of snapshots of decision states and views.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod faithful;
mod lost_history;
mod same_names;
mod states;
#[path = "../support/mod.rs"]
mod support;
mod views;
