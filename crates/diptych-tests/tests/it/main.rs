//! Tests of the whole workspace.

// A test fails by panicking, and so may what it calls.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod processes;
mod tidy;
