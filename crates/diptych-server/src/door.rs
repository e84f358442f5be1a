//! The way in. `serve` and `connection` serve connections within limits. Each request passes the
//! `entrance`, which checks hosts, limits and callers, before a handler sees it. `request` reads
//! the parts of a request, `response` and `problem` write the answer. `store_problems` translates
//! errors of a store.
//!
//! `access`, `limits` and `stop` do not depend on the routes. `tls` encrypts connections, and reads
//! its `files` again when they change.

pub(crate) mod access;
pub(crate) mod code;
pub(crate) mod connection;
pub(crate) mod entrance;
#[cfg(feature = "log")]
pub(crate) mod files;
pub(crate) mod limits;
pub(crate) mod metrics;
pub(crate) mod notes;
pub(crate) mod peers;
pub(crate) mod problem;
pub(crate) mod refusals;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod serve;
pub(crate) mod stop;
pub(crate) mod store_problems;
#[cfg(feature = "log")]
pub(crate) mod tls;
