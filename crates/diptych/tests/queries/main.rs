//! Tests of queries: freshness of answers, queries of the past, and live queries.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod bitemporal;
mod consistency;
mod fold_threads;
mod parts;
#[path = "../support/mod.rs"]
mod support;
mod time_travel;
mod watching;
