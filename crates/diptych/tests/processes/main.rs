//! Tests of processes: reactions, timers, parked letters, and kills.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod doors;
mod gateways;
mod kills;
mod kit;
mod letters;
mod nodes;
mod operations;
mod orders;
mod reactions;
mod starts;
mod timers;
mod trace;
