//! The two panels over HTTP: `entries` are commands, queries, events and files without their types.
//! `documents` describe them, `site` holds those of one server, and `handlers` answer requests with
//! it.

pub(crate) mod documents;
pub(crate) mod entries;
pub(crate) mod handlers;
pub(crate) mod site;
