//! Descriptions of the entries for programs: the catalogue, and the OpenAPI and AsyncAPI documents.
//! They are made once, from the types.

mod asyncapi;
pub(crate) mod credential;
mod openapi;

use std::collections::BTreeMap;

use axum::body::Bytes;
use diptych::{
    EventType,
    catalogue::{CatalogueEntry, EntryDetail, Listing, PublishedLanguage},
    collaboration::FeedHandle,
};
use serde_json::{Value, json};

use crate::panels::{
    documents::credential::Credential,
    entries::{Entries, command::CommandEntry, event::EventEntry, mount::Mount, query::QueryEntry},
};

/// The routes of a server beside those of its entries.
#[derive(Clone, Copy)]
pub(crate) struct RoutesBeside<'s> {
    pub(crate) feeds: &'s [FeedHandle],
    pub(crate) mounts: &'s [Mount],
    /// The webhooks that come in, each with its path and its name.
    pub(crate) webhooks: &'s [(String, String)],
    pub(crate) has_metrics: bool,
    pub(crate) has_operations: bool,
}

/// The documents as JSON.
pub(crate) struct Documents {
    catalogue: Bytes,
    openapi: Bytes,
    asyncapi: Value,
}

impl Documents {
    /// The documents of these entries, which are those of this listing.
    pub(crate) fn of(
        entries: &Entries,
        (listing, language): (&Listing, &PublishedLanguage),
        shown: &RoutesBeside<'_>,
        credential: Option<&Credential>,
    ) -> Documents {
        let (schemas, feeds) = (&listing.components.schemas, shown.feeds);
        let mut openapi = openapi::document(entries, schemas, shown);
        let catalogue = json!({
            "title": entries.title,
            "version": entries.version,
            "commands": entries.commands.iter().map(command).collect::<Vec<_>>(),
            "queries": entries.queries.iter().map(query).collect::<Vec<_>>(),
            "events": entries.events.iter().map(event).collect::<Vec<_>>(),
            "views": views(entries, listing),
            "projections": projections(listing),
            "feeds": feeds.iter().map(feed).collect::<Vec<_>>(),
            "components": { "schemas": schemas },
        });
        let mut asyncapi = asyncapi::document(&entries.title, &entries.version, language);
        if let Some(credential) = credential {
            credential.add_to_openapi(&mut openapi);
            credential.add_to_asyncapi(&mut asyncapi);
        }
        let (catalogue, openapi) = (catalogue.to_string().into(), openapi.to_string().into());
        Documents { catalogue, openapi, asyncapi }
    }

    pub(crate) fn catalogue(&self) -> Bytes {
        self.catalogue.clone()
    }

    /// The AsyncAPI document of a server at this host, below this prefix.
    pub(crate) fn asyncapi(&self, host: &str, prefix: &str) -> Bytes {
        asyncapi::served(&self.asyncapi, host, prefix).to_string().into()
    }

    /// The OpenAPI document. If the routes are nested below a prefix, it names that prefix.
    pub(crate) fn openapi(&self, prefix: Option<&str>) -> Bytes {
        match prefix {
            Some(prefix) => openapi::below(prefix, &self.openapi),
            None => self.openapi.clone(),
        }
    }
}

fn feed(feed: &FeedHandle) -> Value {
    let events = feed.public_events();
    let event = |known: &EventType| json!({ "type": known.name, "version": known.version });
    let events: Vec<_> = events.iter().map(event).collect();
    json!({ "name": feed.name(), "path": format!("/feeds/{}", feed.name()), "events": events })
}

fn command((name, entry): (&String, &CommandEntry)) -> Value {
    json!({
        "name": name,
        "path": format!("/commands/{name}"),
        "type": entry.type_name,
        "events": entry.events,
        "body": entry.body,
        "rejection": entry.rejection,
    })
}

fn query((name, entry): (&String, &QueryEntry)) -> Value {
    json!({
        "name": name,
        "path": format!("/queries/{name}"),
        "type": entry.type_name,
        "view": entry.view,
        "live": entry.is_live(),
        "explained": entry.is_explained(),
        "page_items": entry.page_items(),
        "arguments": entry.arguments,
        "answer": entry.answer,
    })
}

fn event(entry: &EventEntry) -> Value {
    let EventEntry { name, version, tags, codec, schema } = entry;
    json!({
        "name": name, "version": version, "tags": tags, "codec": codec, "schema": schema,
    })
}

/// The views behind the queries and all others of the app, each with its queries and its events.
fn views(entries: &Entries, listing: &Listing) -> Vec<Value> {
    let mut views = BTreeMap::new();
    for entry in entries.queries.values() {
        views.insert(entry.view, entry.events.as_slice());
    }
    for listed in &listing.entries {
        if let EntryDetail::View { events, .. } = &listed.detail {
            views.insert(listed.type_name, events);
        }
    }
    let view = |(view, events): (&'static str, &[&'static str])| {
        let of = entries.queries.iter().filter(|(_, entry)| entry.view == view);
        let queries: Vec<_> = of.map(|(name, _)| name).collect();
        json!({ "type": view, "queries": queries, "events": events })
    };
    views.into_iter().map(view).collect()
}

fn projections(listing: &Listing) -> Vec<Value> {
    let projection = |listed: &CatalogueEntry| match &listed.detail {
        EntryDetail::Projection { events, .. } => {
            Some(json!({ "name": listed.name, "type": listed.type_name, "events": events }))
        }
        _ => None,
    };
    listing.entries.iter().filter_map(projection).collect()
}
