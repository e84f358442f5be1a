//! The two panels over HTTP: `entries` are commands, queries, events and files with their types
//! erased. `documents` describe the entries, `site` holds the entries of one server, and `handlers`
//! answer requests from that site. `answers` keeps answers about the past,
//! and `live` runs the watches of live queries.

pub(crate) mod answers;
pub(crate) mod documents;
pub(crate) mod entries;
pub(crate) mod handlers;
pub(crate) mod live;
pub(crate) mod site;
