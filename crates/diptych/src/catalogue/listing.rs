//! The entries of a catalogue as data, for programs that show or generate something from them.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    command::CommandEntry,
    entries::{CatalogueEntries, EventEntry, FollowerEntry},
    kind::EntryKind,
    query::QueryEntry,
    schemas::{SchemaCollector, description},
};
use crate::event::EventType;

/// The entries of a catalogue as data. As JSON it has `entries`, and the shared schemas below
/// `components`, so that references between schemas lead to them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Listing {
    /// All entries, in order of their kinds and within a kind as they were declared.
    pub entries: Vec<CatalogueEntry>,
    /// The schemas that others refer to.
    pub components: Components,
}

/// The shared parts of a [`Listing`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Components {
    /// Schemas by name. A reference to one is `#/components/schemas/` and the name.
    pub schemas: Map<String, Value>,
}

/// One entry of a catalogue.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CatalogueEntry {
    /// Its name, unique in its kind.
    pub name: String,
    /// Its Rust type.
    #[serde(rename = "type")]
    pub type_name: &'static str,
    /// The doc comment of the type, if the entry has schemas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The parts that depend on the kind.
    #[serde(flatten)]
    pub detail: EntryDetail,
}

/// The parts of an entry that depend on its kind. Schemas are `None` if the entry was declared
/// without them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EntryDetail {
    /// A command.
    #[non_exhaustive]
    Command {
        /// The events that it can write.
        events: Vec<&'static str>,
        /// The Rust type of its rejection; `None` for a command that no rule rejects.
        rejection_type: Option<&'static str>,
        /// The schema of the command.
        body: Option<Value>,
        /// The schema of its rejection.
        rejection: Option<Value>,
    },
    /// A query.
    #[non_exhaustive]
    Query {
        /// The Rust type of the view that it asks.
        view: &'static str,
        /// The events that the view folds.
        events: Vec<&'static str>,
        /// Whether it can be watched.
        is_live: bool,
        /// The schema of its arguments.
        arguments: Option<Value>,
        /// The schema of its answer.
        answer: Option<Value>,
    },
    /// An event.
    #[non_exhaustive]
    Event {
        /// The version that is written now.
        version: u32,
        /// The keys of its tags.
        tags: &'static [&'static str],
        /// The name of the codec of its payload.
        codec: &'static str,
        /// The schema of its payload.
        schema: Option<Value>,
    },
    /// A view.
    #[non_exhaustive]
    View {
        /// The events that it folds.
        events: Vec<&'static str>,
    },
    /// A projection.
    #[non_exhaustive]
    Projection {
        /// The events that it applies.
        events: Vec<&'static str>,
    },
    /// A process.
    #[non_exhaustive]
    Process {
        /// The events that it reacts to.
        events: Vec<&'static str>,
    },
    /// A gateway.
    #[non_exhaustive]
    Gateway {},
    /// A feed.
    #[non_exhaustive]
    Feed {
        /// The public events that it publishes.
        public_events: Vec<&'static str>,
    },
    /// An intake.
    #[non_exhaustive]
    Intake {
        /// The public events that it understands.
        public_events: Vec<&'static str>,
    },
}

impl CatalogueEntry {
    /// Its kind.
    pub fn kind(&self) -> EntryKind {
        match self.detail {
            EntryDetail::Command { .. } => EntryKind::Command,
            EntryDetail::Query { .. } => EntryKind::Query,
            EntryDetail::Event { .. } => EntryKind::Event,
            EntryDetail::View { .. } => EntryKind::View,
            EntryDetail::Projection { .. } => EntryKind::Projection,
            EntryDetail::Process { .. } => EntryKind::Process,
            EntryDetail::Gateway {} => EntryKind::Gateway,
            EntryDetail::Feed { .. } => EntryKind::Feed,
            EntryDetail::Intake { .. } => EntryKind::Intake,
        }
    }
}

impl Listing {
    pub(super) fn of(entries: &CatalogueEntries) -> Listing {
        let mut schemas = SchemaCollector::new();
        let mut all = Vec::new();
        all.extend(entries.commands.iter().map(|entry| command(entry, &mut schemas)));
        all.extend(entries.queries.iter().map(|entry| query(entry, &mut schemas)));
        all.extend(entries.events.iter().flat_map(|entry| events(entry, &mut schemas)));
        let (mut views, mut projections, mut processes) = (Vec::new(), Vec::new(), Vec::new());
        let (mut feeds, mut intakes) = (Vec::new(), Vec::new());
        for follower in &entries.followers {
            let FollowerEntry { kind, name, type_name, events, .. } = follower;
            let events = names(&events());
            let (list, detail) = match kind {
                EntryKind::Projection => (&mut projections, EntryDetail::Projection { events }),
                EntryKind::Process => (&mut processes, EntryDetail::Process { events }),
                EntryKind::Feed => (&mut feeds, EntryDetail::Feed { public_events: events }),
                EntryKind::Intake => (&mut intakes, EntryDetail::Intake { public_events: events }),
                _ => (&mut views, EntryDetail::View { events }),
            };
            let (name, type_name, description) = (name.clone(), *type_name, None);
            list.push(CatalogueEntry { name, type_name, description, detail });
        }
        all.append(&mut views);
        all.append(&mut projections);
        all.append(&mut processes);
        all.extend(entries.gateways.iter().map(|gateway| CatalogueEntry {
            name: gateway.name.clone(),
            type_name: gateway.type_name,
            description: None,
            detail: EntryDetail::Gateway {},
        }));
        all.append(&mut feeds);
        all.append(&mut intakes);
        let schemas = schemas.into_definitions();
        for entry in &mut all {
            let schema = match &entry.detail {
                EntryDetail::Command { body, .. } => body.as_ref(),
                EntryDetail::Query { arguments, .. } => arguments.as_ref(),
                EntryDetail::Event { schema, .. } => schema.as_ref(),
                EntryDetail::View { .. }
                | EntryDetail::Projection { .. }
                | EntryDetail::Process { .. }
                | EntryDetail::Gateway {}
                | EntryDetail::Feed { .. }
                | EntryDetail::Intake { .. } => None,
            };
            entry.description = schema.and_then(|schema| description(schema, &schemas));
        }
        Listing { entries: all, components: Components { schemas } }
    }

    /// The entries of one kind.
    pub fn of_kind(&self, kind: EntryKind) -> impl Iterator<Item = &CatalogueEntry> {
        self.entries.iter().filter(move |entry| entry.kind() == kind)
    }

    /// The entry of this kind and name.
    pub fn entry(&self, kind: EntryKind, name: &str) -> Option<&CatalogueEntry> {
        self.of_kind(kind).find(|entry| entry.name == name)
    }
}

fn command(entry: &CommandEntry, schemas: &mut SchemaCollector) -> CatalogueEntry {
    let CommandEntry { name, type_name, events, rejection_type, describe, .. } = entry;
    let mut own = schemas.schemas(*describe).into_iter();
    let (body, rejection) = (own.next(), own.next());
    let (events, rejection_type) = (names(&events()), *rejection_type);
    let detail = EntryDetail::Command { events, rejection_type, body, rejection };
    CatalogueEntry { name: name.clone(), type_name, description: None, detail }
}

fn query(entry: &QueryEntry, schemas: &mut SchemaCollector) -> CatalogueEntry {
    let QueryEntry { name, type_name, view, events, describe, .. } = entry;
    let mut own = schemas.schemas(*describe).into_iter();
    let (arguments, answer) = (own.next(), own.next());
    let (events, is_live) = (names(&events()), entry.is_live());
    let detail = EntryDetail::Query { view, events, is_live, arguments, answer };
    CatalogueEntry { name: name.clone(), type_name, description: None, detail }
}

/// The entries of all types of an event.
fn events(entry: &EventEntry, schemas: &mut SchemaCollector) -> Vec<CatalogueEntry> {
    let mut own = schemas.schemas(entry.describe).into_iter();
    let event = |of: EventType| {
        let EventType { name, version, tags, codec, .. } = of;
        let detail = EntryDetail::Event { version, tags, codec, schema: own.next() };
        let type_name = of.declared_in().unwrap_or(entry.type_name);
        CatalogueEntry { name: name.to_owned(), type_name, description: None, detail }
    };
    (entry.types)().into_iter().map(event).collect()
}

fn names(types: &[EventType]) -> Vec<&'static str> {
    types.iter().map(|known| known.name).collect()
}
