//! Tests of commands: their conflicts, keys, lanes and cached states.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod accepted_window;
mod cache;
mod conflict;
mod decision_time;
mod dropped_and_repeated;
mod execute;
mod hostile;
mod idempotency;
mod keyed_sets;
mod lane;
mod metadata;
mod ordinals;
#[path = "../support/mod.rs"]
mod support;
