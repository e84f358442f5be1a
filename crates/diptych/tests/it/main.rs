//! The left panel as its users see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod alike;
mod bank;
mod cache;
mod declare;
mod derive;
mod evolution;
mod evolution_errors;
mod execute;
mod hostile;
mod kit;
mod look;
mod metadata;
mod snapshots;
mod watched;
