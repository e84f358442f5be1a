//! Explores schedules of the threads that hand over to each other in a log: callers, the writer,
//! readers, subscribers, the indexer, clustering. docs/explain/schedules.md lists the properties.
//!
//! The code is that of `diptych-log`; only its locks, atomics, threads and clock are those of
//! Shuttle. So these tests exist only in the build with `--cfg diptych_model`.

#![cfg(diptych_model)]
// These lints are for code outside of tests. All of this crate is tests, helpers included.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod appends;
mod conditions;
mod ends;
mod explore;
mod flaws;
mod head;
mod log;
mod maintenance;
mod reads;
mod replay;
mod small;
mod subscribers;
