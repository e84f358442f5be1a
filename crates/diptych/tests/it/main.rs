//! The left panel as its users see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod around;
mod bank;
mod conflict;
mod execute;
mod hand;
mod hot;
mod idempotency;
mod interleave;
mod lane;
mod life;
mod races;
mod school;
mod world;
