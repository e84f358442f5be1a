//! Rows and checkpoints on a server that the tests start by themselves.

mod commit_proxy;
mod faults;
mod follow;
mod inline;
mod inline_speed;
mod kill;
mod pgbouncer;
mod poison;
mod replicas;
mod rows;
mod shop;
mod speed;
mod versions;
