//! The commands of a catalogue, as processes send them.

use std::sync::Arc;

use super::{command::NamedCommand, entries::CatalogueEntries};
use crate::{
    command::panel::LeftPanel,
    process::{CommandsByName, PreparedCommand},
};

/// The commands of a running app.
pub(crate) struct ProcessCommands {
    entries: Arc<CatalogueEntries>,
    panel: Arc<LeftPanel>,
}

impl ProcessCommands {
    pub(crate) fn new(entries: Arc<CatalogueEntries>, panel: Arc<LeftPanel>) -> ProcessCommands {
        ProcessCommands { entries, panel }
    }
}

impl CommandsByName for ProcessCommands {
    fn prepare(&self, name: &str, json: &str) -> Result<PreparedCommand, String> {
        let entry = self.entries.commands.iter().find(|entry| entry.name == name);
        let Some(entry) = entry.cloned() else {
            return Err(format!("the catalogue has no command {name:?}: declare it there"));
        };
        let command = NamedCommand { entry, panel: self.panel.clone() }.decode(json.as_bytes());
        let command = command.map_err(|error| format!("{json} is no {name}: {error}"))?;
        Ok(Box::new(move |action| command.send(action)))
    }
}
