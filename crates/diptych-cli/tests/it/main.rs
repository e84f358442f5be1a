//! The built program, run as a user runs it.

// A failed test panics, and so do its helpers.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)]

mod adopt;
mod archive;
mod authority;
mod backup;
mod browser;
mod command_line;
mod copy;
mod copy_to_server;
mod demo;
mod input;
mod intakes;
mod kept;
mod mounts;
mod move_log;
mod postgres;
mod processes;
mod program;
mod read_only;
mod records;
mod reference;
mod secured;
mod serve;
mod serve_faults;
mod serve_settings;
mod served;
mod token;
