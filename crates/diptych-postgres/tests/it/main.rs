//! Tests of logs in PostgreSQL, with a real server.

// A test fails by panicking, and so may what it calls.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod postgres;
