//! Tests of views: the two copies, failures, shared reading, and derived rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod basics;
mod candidate;
mod derived;
mod interrupted;
mod left_right;
mod occurrence;
mod poison;
mod poison_by_key;
mod sharing;
mod standstill;
#[path = "../support/mod.rs"]
mod support;
