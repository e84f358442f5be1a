//! Tests of the catalogue: declarations, their listing, and commands and queries by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod by_name;
mod declarations;
mod listing;
#[path = "../support/mod.rs"]
mod support;
mod theatre;
