//! Tests of events: upcasters, tags, and types that a program does not know.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod declared_twice;
mod evolution;
mod evolution_errors;
mod older_tags;
mod retagging;
mod retagging_racers;
#[path = "../support/mod.rs"]
mod support;
mod unknown_types;
mod values;
