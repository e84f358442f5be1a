//! The ways in which threads of the log hand over to each other: locks, atomics, sleeping on a
//! word, threads, and the clock of limited waits.
//!
//! A build with `--cfg diptych_model` has other ones, under which one schedule after another can be
//! explored (docs/explain/schedules.md). So code that hands over takes them from here.

#[cfg(not(diptych_model))]
pub(crate) use std::{sync::atomic, thread, time::Instant};

#[cfg(diptych_model)]
pub(crate) use diptych_store::sync::*;
#[cfg(not(diptych_model))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};
#[cfg(not(diptych_model))]
pub(crate) use pollster::block_on;

#[cfg(not(diptych_model))]
pub(crate) mod atomic_wait {
    pub(crate) use ::atomic_wait::{wait, wake_all};
}
