//! Shared by the tests of several areas: domains, stores with hooks, and futures polled by hand.
//!
//! Each area compiles its own copy and uses a part of it.
#![allow(dead_code)]

pub(crate) mod bank;
pub(crate) mod call_hooks;
pub(crate) mod counted_store;
pub(crate) mod declare;
pub(crate) mod distant;
pub(crate) mod journal;
pub(crate) mod ledger;
pub(crate) mod manual_sync;
pub(crate) mod measured;
pub(crate) mod model;
pub(crate) mod probe;
pub(crate) mod releases;
pub(crate) mod rows;
pub(crate) mod school;
pub(crate) mod view_digest;
