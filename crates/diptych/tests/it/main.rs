//! The left panel from outside, as a program uses it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod alike;
mod around;
mod bank;
#[cfg(feature = "testing")]
mod begun;
mod bitemporal;
mod cache;
mod checker;
mod conflict;
mod consistency;
mod copies;
mod declare;
mod derive;
mod derived;
#[cfg(feature = "testing")]
mod determinism;
#[cfg(feature = "testing")]
mod digests;
mod evolution;
mod evolution_errors;
mod execute;
mod faithful;
mod hand;
mod hostile;
mod hot;
mod idempotency;
mod interleave;
mod journal;
mod keyed_sets;
#[cfg(feature = "testing")]
mod kit;
mod lane;
mod ledger;
mod life;
mod living;
mod look;
mod lost_history;
mod metadata;
mod meters;
mod obstacles;
mod older_tags;
mod past;
mod past_folds;
mod poison;
mod projection;
mod projections;
mod races;
mod rows;
#[cfg(feature = "testing")]
mod same_names;
mod schema_lock;
mod school;
mod sharing;
mod snapshots;
mod standstill;
mod unknown_types;
mod values;
mod view_snapshots;
mod views;
mod watched;
mod watching;
mod world;
mod wrapped;
