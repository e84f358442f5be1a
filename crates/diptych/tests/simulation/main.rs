//! Randomised tests of a whole app. Each one prints its seed and replays from it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod cache_and_snapshots;
mod interleave;
mod races;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
