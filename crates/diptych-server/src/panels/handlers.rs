//! The answers to requests, one file for each kind of route.

pub(crate) mod catalogue;
pub(crate) mod commands;
pub(crate) mod feeds;
pub(crate) mod files;
pub(crate) mod intakes;
pub(crate) mod links;
pub(crate) mod live;
pub(crate) mod mounted;
mod operators;
pub(crate) mod processes;
pub(crate) mod queries;
pub(crate) mod receipts;
pub(crate) mod source;
pub(crate) mod status;
#[cfg(feature = "webhooks")]
pub(crate) mod webhooks;
