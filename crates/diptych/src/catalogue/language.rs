//! The published language of an application: the events of its feeds, as data.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    entries::{CatalogueEntries, FollowerEntry},
    kind::EntryKind,
    listing::Components,
    schemas::{SchemaCollector, description},
};
use crate::event::EventType;

/// The feeds of an application with their public events, for documents that other services read.
/// The schemas are those of JSON Schema draft 7, which AsyncAPI takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PublishedLanguage {
    /// The feeds, in the order of their names.
    pub feeds: Vec<FeedDescription>,
    /// The schemas that others refer to.
    pub components: Components,
}

/// A feed with its public events.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FeedDescription {
    /// The name of the feed.
    pub name: String,
    /// Its public events, in the order of their declaration.
    pub events: Vec<PublicEventDescription>,
}

/// A public event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PublicEventDescription {
    /// The name of the event.
    pub name: &'static str,
    /// The version that is published now.
    pub version: u32,
    /// The keys of its tags. The first one is the subject.
    pub tags: &'static [&'static str],
    /// The doc comment of the type, if the feed has schemas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The schema of the payload, if the feed was declared with schemas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

impl PublishedLanguage {
    pub(super) fn of(entries: &CatalogueEntries) -> PublishedLanguage {
        let mut schemas = SchemaCollector::draft7();
        let declared = entries.followers.iter().filter(|entry| entry.kind == EntryKind::Feed);
        let mut feeds: Vec<_> = declared.map(|entry| feed(entry, &mut schemas)).collect();
        feeds.sort_by(|one, other| one.name.cmp(&other.name));
        let schemas = used(schemas.into_definitions(), &feeds);
        for event in feeds.iter_mut().flat_map(|feed| &mut feed.events) {
            event.description = described(event, &schemas);
        }
        PublishedLanguage { feeds, components: Components { schemas } }
    }
}

fn feed(entry: &FollowerEntry, schemas: &mut SchemaCollector) -> FeedDescription {
    let mut own = schemas.schemas(entry.describe).into_iter();
    let event = |of: EventType| {
        let EventType { name, version, tags, .. } = of;
        PublicEventDescription { name, version, tags, description: None, schema: own.next() }
    };
    let events = (entry.events)().into_iter().map(event).collect();
    FeedDescription { name: entry.name.clone(), events }
}

/// The definitions that the schemas of these events need. That of an enum is none of them, because
/// each of its variants is an event.
fn used(mut all: Map<String, Value>, feeds: &[FeedDescription]) -> Map<String, Value> {
    let events = feeds.iter().flat_map(|feed| &feed.events);
    let mut found: Vec<Value> = events.filter_map(|event| event.schema.clone()).collect();
    let mut kept = Map::new();
    while let Some(schema) = found.pop() {
        let mut names = Vec::new();
        references(&schema, &mut names);
        for name in names {
            if let Some((name, definition)) = all.remove_entry(&name) {
                found.push(definition.clone());
                kept.insert(name, definition);
            }
        }
    }
    kept
}

/// Adds the names of the definitions that a schema refers to.
fn references(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            let place = members.get("$ref").and_then(Value::as_str);
            names.extend(place.and_then(|place| Some(place.rsplit_once('/')?.1.to_owned())));
            members.values().for_each(|member| references(member, names));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        _ => {}
    }
}

fn described(event: &PublicEventDescription, schemas: &Map<String, Value>) -> Option<String> {
    event.schema.as_ref().and_then(|schema| description(schema, schemas))
}
