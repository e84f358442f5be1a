//! Tests of the testing module: given-when-then, determinism, digests, the schema lock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod determinism;
mod digests;
mod given;
mod schema_lock;
mod strict;
#[path = "../support/mod.rs"]
mod support;
