//! Projections into SQLite from outside: real files, real logs, and what may happen to them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod anew;
mod beside;
mod ended;
mod follow;
mod hostile;
#[cfg(unix)]
mod kill;
mod locked;
mod odd;
mod poison;
mod race;
mod refused;
mod renamed;
mod replaced;
mod report;
mod running;
mod shop;
mod stale_wal;
mod trouble;
