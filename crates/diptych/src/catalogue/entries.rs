//! The entries of a catalogue, and the rules about their names.

use std::{any::type_name, collections::HashSet, fmt, sync::Arc};

use super::{command::CommandEntry, kind::EntryKind, query::QueryEntry, schemas::Describe};
use crate::{
    collaboration::{Feed, Intake, PublicEvent},
    event::{Event, EventType},
    fold::kept_name,
    process::{Gateways, Process},
    projection::Target,
    view::View,
};

/// The entries of a catalogue, in the order of their declaration.
#[derive(Clone, Default)]
pub(crate) struct CatalogueEntries {
    pub(super) commands: Vec<Arc<CommandEntry>>,
    pub(super) queries: Vec<Arc<QueryEntry>>,
    pub(super) events: Vec<EventEntry>,
    /// Views, projections, and any later kind that follows the log.
    pub(super) followers: Vec<FollowerEntry>,
    pub(crate) gateways: Gateways,
}

/// An event of an application, which can have several types.
#[derive(Clone, Copy)]
pub(super) struct EventEntry {
    pub(super) type_name: &'static str,
    pub(super) types: fn() -> Vec<EventType>,
    pub(super) describe: Describe,
}

/// A view, a projection, a process, a feed or an intake.
#[derive(Clone)]
pub(super) struct FollowerEntry {
    pub(super) kind: EntryKind,
    pub(super) name: String,
    pub(super) type_name: &'static str,
    pub(super) events: fn() -> Vec<EventType>,
    /// The schemas of its public events, if it is a feed that was declared with them.
    pub(super) describe: Describe,
}

/// A mistake in the declarations of a catalogue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// Two entries of one kind have one name.
    #[error("there are two {} {name:?}: {}", plural(.kind), remedy(.kind))]
    Twice {
        /// The kind of both.
        kind: EntryKind,
        /// The name of both.
        name: String,
    },
    /// A command, a query or a gateway has a name that cannot stand in an address.
    #[error("{name:?} is no name for a {kind}: use small letters, digits and dashes")]
    Name {
        /// The kind of the entry.
        kind: EntryKind,
        /// Its name.
        name: String,
    },
    /// Views, projections or processes were added to the catalogue of an app that runs already.
    #[error(
        "the {kind} {name:?} cannot be added to an app that runs: give it to the builder of the \
         app, or of an app beside this one"
    )]
    Running {
        /// The kind of the entry.
        kind: EntryKind,
        /// Its name.
        name: String,
    },
}

fn plural(kind: &EntryKind) -> String {
    match kind {
        EntryKind::Query => "queries".to_owned(),
        EntryKind::Process => "processes".to_owned(),
        kind => format!("{kind}s"),
    }
}

fn remedy(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::Event => "declare each event once",
        _ => "rename one",
    }
}

impl EventEntry {
    pub(super) fn of<E: Event>(describe: Describe) -> EventEntry {
        EventEntry { type_name: type_name::<E>(), types: E::types, describe }
    }
}

impl FollowerEntry {
    fn new<T>(kind: EntryKind, name: String, events: fn() -> Vec<EventType>) -> FollowerEntry {
        let (type_name, describe) = (type_name::<T>(), Describe::default());
        FollowerEntry { kind, name, type_name, events, describe }
    }

    pub(super) fn view<V: View>() -> FollowerEntry {
        let (kind, name) = (EntryKind::View, kept_name::<V>().to_owned());
        FollowerEntry::new::<V>(kind, name, V::Event::types)
    }

    pub(super) fn projection<T: Target>(target: &T) -> FollowerEntry {
        let (kind, name) = (EntryKind::Projection, target.name().to_owned());
        FollowerEntry::new::<T>(kind, name, T::Event::types)
    }

    pub(super) fn feed<F: Feed>(describe: Describe) -> FollowerEntry {
        let (kind, name) = (EntryKind::Feed, F::NAME.to_owned());
        FollowerEntry { describe, ..FollowerEntry::new::<F>(kind, name, F::Public::types) }
    }

    pub(super) fn intake<I: Intake>() -> FollowerEntry {
        let (kind, name) = (EntryKind::Intake, I::NAME.to_owned());
        FollowerEntry::new::<I>(kind, name, I::Public::types)
    }

    pub(super) fn process<P: Process>() -> FollowerEntry {
        let (kind, name) = (EntryKind::Process, P::NAME.to_owned());
        FollowerEntry::new::<P>(kind, name, P::Event::types)
    }
}

impl CatalogueEntries {
    pub(crate) fn append(&mut self, mut other: CatalogueEntries) {
        self.commands.append(&mut other.commands);
        self.queries.append(&mut other.queries);
        self.events.append(&mut other.events);
        self.followers.append(&mut other.followers);
        self.gateways.append(other.gateways);
    }

    /// Checks names. Views, projections and processes are checked where they are started.
    ///
    /// # Errors
    /// [`CatalogueError`] with the first mistake.
    pub(crate) fn check(&self) -> Result<(), CatalogueError> {
        let commands = self.commands.iter().map(|entry| entry.name.as_str());
        check_names(EntryKind::Command, commands)?;
        check_names(EntryKind::Query, self.queries.iter().map(|entry| entry.name.as_str()))?;
        check_names(EntryKind::Gateway, self.gateways.iter().map(|entry| entry.name.as_str()))?;
        let types = self.events.iter().flat_map(|entry| (entry.types)());
        check_once(EntryKind::Event, types.map(|known| known.name))
    }

    /// # Errors
    /// [`CatalogueError::Running`] if there is a view, a projection or a process.
    pub(super) fn check_followers(&self) -> Result<(), CatalogueError> {
        match self.followers.first() {
            Some(FollowerEntry { kind, name, .. }) => {
                Err(CatalogueError::Running { kind: *kind, name: name.clone() })
            }
            None => Ok(()),
        }
    }
}

/// Names of commands and queries stand in addresses, in file names and on command lines.
fn check_names<'n>(
    kind: EntryKind,
    names: impl Iterator<Item = &'n str> + Clone,
) -> Result<(), CatalogueError> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_bad = |name: &&str| name.is_empty() || !name.chars().all(is_plain);
    match names.clone().find(is_bad) {
        Some(name) => Err(CatalogueError::Name { kind, name: name.to_owned() }),
        None => check_once(kind, names),
    }
}

fn check_once<'n>(
    kind: EntryKind,
    mut names: impl Iterator<Item = &'n str>,
) -> Result<(), CatalogueError> {
    let mut seen = HashSet::new();
    match names.find(|name| !seen.insert(*name)) {
        Some(name) => Err(CatalogueError::Twice { kind, name: name.to_owned() }),
        None => Ok(()),
    }
}

impl fmt::Debug for CatalogueEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CatalogueEntries { commands, queries, events, followers, gateways } = self;
        let commands: Vec<_> = commands.iter().map(|entry| &entry.name).collect();
        let queries: Vec<_> = queries.iter().map(|entry| &entry.name).collect();
        let events: Vec<_> = events.iter().map(|entry| entry.type_name).collect();
        let followers: Vec<_> = followers.iter().map(|entry| &entry.name).collect();
        let gateways: Vec<_> = gateways.iter().map(|entry| &entry.name).collect();
        f.debug_struct("Catalogue")
            .field("commands", &commands)
            .field("queries", &queries)
            .field("events", &events)
            .field("followers", &followers)
            .field("gateways", &gateways)
            .finish()
    }
}
