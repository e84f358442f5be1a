//! The commands, queries and events of the app's catalogue with the options of their routes, and
//! the files. They know requests and problems, but no routes.

pub(crate) mod arguments;
pub(crate) mod command;
pub(crate) mod event;
pub(crate) mod file;
pub(crate) mod mount;
pub(crate) mod options;
pub(crate) mod page;
pub(crate) mod query;
pub(crate) mod schema;
pub(crate) mod sources;
#[cfg(feature = "webhooks")]
pub(crate) mod webhook;

use std::{any::type_name, collections::BTreeMap, io};

use crate::{
    door::problem::Problem,
    panels::entries::{
        command::CommandEntry, event::EventEntry, file::FileEntry, query::QueryEntry,
    },
};

/// All entries of a server, by their names.
pub(crate) struct Entries {
    pub(crate) title: String,
    pub(crate) version: String,
    // Queries are dropped before commands: as in an app, the right panel goes first.
    pub(crate) queries: BTreeMap<String, QueryEntry>,
    pub(crate) commands: BTreeMap<String, CommandEntry>,
    pub(crate) events: Vec<EventEntry>,
    pub(crate) files: BTreeMap<String, FileEntry>,
}

/// The options of a route are for another type than its entry. Registering a route compares both,
/// so this is a mistake of the server.
fn other_type<T>() -> Problem {
    let error = io::Error::other(type_name::<T>());
    Problem::mistake("a route is for another type than its entry", &error)
}
