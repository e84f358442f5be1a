//! The registered commands, queries, events and files. They know requests and problems, but no
//! routes.

pub(crate) mod arguments;
pub(crate) mod command;
pub(crate) mod event;
pub(crate) mod file;
pub(crate) mod options;
pub(crate) mod page;
pub(crate) mod query;
pub(crate) mod schema;
pub(crate) mod sources;

use std::collections::BTreeMap;

use crate::panels::entries::{
    command::CommandEntry, event::EventEntry, file::FileEntry, query::QueryEntry,
};

/// All entries of a server, by their names.
pub(crate) struct Entries {
    pub(crate) title: String,
    pub(crate) version: String,
    pub(crate) commands: BTreeMap<String, CommandEntry>,
    pub(crate) queries: BTreeMap<String, QueryEntry>,
    pub(crate) events: Vec<EventEntry>,
    pub(crate) files: BTreeMap<String, FileEntry>,
}

impl Entries {
    pub(crate) fn new() -> Entries {
        Entries {
            title: "Diptych".to_owned(),
            version: "1".to_owned(),
            commands: BTreeMap::new(),
            queries: BTreeMap::new(),
            events: Vec::new(),
            files: BTreeMap::new(),
        }
    }
}
