//! Rows and checkpoints on a server that the tests start by themselves.

mod follow;
mod kill;
mod poison;
mod replicas;
mod rows;
mod shop;
mod speed;
mod versions;
