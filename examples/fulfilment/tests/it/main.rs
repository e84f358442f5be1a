//! The example as a user starts it.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)] // A test panics.
