//! Rows and checkpoints on a server that the tests start by themselves.

mod follow;
mod inline;
mod inline_speed;
mod kill;
mod poison;
mod rows;
mod shop;
mod speed;
mod versions;
