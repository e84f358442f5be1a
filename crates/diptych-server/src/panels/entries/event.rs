//! Events in the catalogue.

use diptych::catalogue::{CatalogueEntry, EntryDetail};
use serde_json::Value;

/// An event type of the application.
pub(crate) struct EventEntry {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) tags: &'static [&'static str],
    pub(crate) codec: &'static str,
    pub(crate) schema: Value,
}

impl EventEntry {
    /// The event of this listing, if it is one.
    pub(crate) fn of(listed: &CatalogueEntry) -> Option<EventEntry> {
        let EntryDetail::Event { version, tags, codec, schema, .. } = &listed.detail else {
            return None;
        };
        let schema = schema.clone().unwrap_or(Value::Bool(true));
        let (version, tags, codec) = (*version, *tags, *codec);
        Some(EventEntry { name: listed.name.clone(), version, tags, codec, schema })
    }
}
