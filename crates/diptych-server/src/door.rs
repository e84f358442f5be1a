//! The way in: connections, limits, callers, the form of requests and of problems.

pub(crate) mod access;
pub(crate) mod connection;
pub(crate) mod limits;
pub(crate) mod problem;
pub(crate) mod request;
pub(crate) mod serve;
