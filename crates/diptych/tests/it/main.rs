//! The left panel as its users see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod around;
mod bank;
mod execute;
mod hand;
mod hot;
mod idempotency;
mod interleave;
mod lane;
mod school;
mod world;
