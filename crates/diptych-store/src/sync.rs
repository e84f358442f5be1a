//! The locks and atomics by which threads hand over to each other.
//!
//! A build with `--cfg diptych_model` has other ones, under which one schedule after another can be
//! explored (docs/explain/schedules.md). It is only for that. Its types are here, and also serve
//! the log.

#[cfg(diptych_model)]
mod model;

#[cfg(not(diptych_model))]
pub(crate) use std::sync::atomic;

#[cfg(diptych_model)]
pub use model::*;
#[cfg(not(diptych_model))]
pub(crate) use parking_lot::Mutex;
