//! The embedded log from outside.

// These lints are for code outside of tests. All of this crate is tests, helpers included.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]
// This feature has the simulated disk and its random numbers.
#![cfg(feature = "testing")]

mod archive;
mod archive_back;
mod archive_power;
mod backup;
mod backup_kills;
mod backup_power;
mod check;
mod checksums;
mod clock;
mod cluster;
mod commits;
mod conformance;
mod crash;
mod damage;
mod every_operation;
mod forgetful;
mod groups;
mod histories;
mod hooked;
mod interference;
mod late_index;
mod log_files;
mod many_types;
mod maps;
mod model;
mod mounts;
mod move_power;
mod open_log;
mod prepared;
mod read_only;
mod read_only_disk;
mod requests;
mod run;
mod samples;
mod scrub;
mod seeds;
mod simulated;
mod snapshots;
mod stopped_opens;
mod tuning;
mod unfinished;
mod verify_and_open;
mod waiting_appends;
mod warnings;
mod witness;
mod writers;
