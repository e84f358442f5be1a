//! Tests of processes: reactions, timers, parked letters, and kills.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[cfg(feature = "calendars")]
mod calendars;
#[path = "../support/distant.rs"]
mod distant;
mod doors;
mod gateways;
mod history;
mod kills;
mod kit;
mod letters;
mod nodes;
mod operations;
mod orders;
mod parallel;
mod pending;
mod reactions;
mod shards;
mod starts;
mod timers;
mod trace;
