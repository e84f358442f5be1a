//! The settings that an app shares with an app beside it, and their check against the log.

use std::{num::NonZeroUsize, sync::Arc, thread, time::Duration};

use diptych_store::Store;

use super::{AppBuilder, StartError, error::unknown};
use crate::{
    command::{Retries, context::RuleClock},
    event::{
        AnyReading, Declare, EventType, OutdatedEvent, Schema, TagExemption, Upcasters, is_reserved,
    },
    pool::PoolLimits,
    snapshot::{SnapshotPolicies, Snapshots},
};

/// The settings that an app shares with an app beside it.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) upcasters: Upcasters,
    pub(super) declared: Vec<Declare>,
    /// Event types in the log that the app leaves to others.
    pub(super) foreign: Vec<String>,
    pub(super) is_strict: bool,
    /// Processes in the log that the app no longer runs.
    pub(super) retired: Vec<String>,
    /// Intakes in the log that this app leaves alone.
    pub(super) retired_intakes: Vec<String>,
    /// Whether stored events may lack tags, because the app is to give them these.
    pub(super) is_retagging: bool,
    pub(super) untagged: Vec<TagExemption>,
    pub(super) cache_bytes: usize,
    pub(super) retries: Retries,
    pub(super) clock: RuleClock,
    pub(super) stop_within: Duration,
    pub(super) snapshots: Option<Arc<dyn Snapshots>>,
    pub(super) policies: SnapshotPolicies,
    pub(super) requires_views: bool,
    pub(super) past_events: usize,
    pub(super) past_limits: PoolLimits,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            upcasters: Upcasters::new(),
            declared: Vec::new(),
            foreign: Vec::new(),
            is_strict: false,
            retired: Vec::new(),
            retired_intakes: Vec::new(),
            is_retagging: false,
            untagged: Vec::new(),
            cache_bytes: AppBuilder::CACHE_BYTES,
            retries: Retries::default(),
            clock: RuleClock::default(),
            stop_within: AppBuilder::STOP_WITHIN,
            snapshots: None,
            policies: SnapshotPolicies::default(),
            requires_views: false,
            past_events: AppBuilder::PAST_EVENTS,
            past_limits: PoolLimits {
                running: half_the_cores(),
                waiting: AppBuilder::PAST_WAITING,
            },
        }
    }
}

fn half_the_cores() -> NonZeroUsize {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(cores / 2).unwrap_or(NonZeroUsize::MIN)
}

impl Settings {
    /// Compares the events that the app knows with those in the log.
    pub(super) async fn check_log(&self, store: &Store, schema: &Schema) -> Result<(), StartError> {
        let declared = self.declared.iter().map(|declared| declared(schema));
        let declared = declared.collect::<Result<Vec<_>, _>>()?;
        if let Some(outdated) = outdated(schema, &declared) {
            return Err(StartError::Outdated(outdated));
        }
        for declared in &declared {
            let untagged = schema.untagged(store, &**declared).await?;
            if let Some(untagged) = untagged.first().filter(|_| !self.is_retagging) {
                return Err(StartError::MissingTag(untagged.clone()));
            }
        }
        // An app without known events cannot tell its own types from others.
        if declared.is_empty() {
            return Ok(());
        }
        let mut types = match store.types().await {
            Ok(types) => types,
            Err(error) if self.is_strict => return Err(StartError::Unreadable(error)),
            // The readers of the log will meet the error and report it themselves.
            Err(_) => return Ok(()),
        };
        types.retain(|name| {
            let is_known = declared.iter().any(|declared| declared.knows(name));
            let is_ours = is_known || schema.upcasts(name) || is_reserved(name);
            !is_ours && !self.foreign.contains(name)
        });
        if types.is_empty() {
            return Ok(());
        }
        if self.is_strict {
            return Err(StartError::UnknownTypes { types });
        }
        tracing::warn!("{}", unknown(&types));
        Ok(())
    }
}

/// The first type that lacks a tag which older events got later, in every declaration of the type.
/// A program may have one Rust type that writes an event, and others with fewer tags that read it.
fn outdated(schema: &Schema, declared: &[Arc<dyn AnyReading>]) -> Option<OutdatedEvent> {
    let types: Vec<_> = declared.iter().flat_map(|declared| declared.types()).collect();
    types.iter().find_map(|known| {
        let outdated = schema.outdated(known)?;
        let is_newer =
            |other: &&&EventType| other.name == known.name && schema.outdated(other).is_none();
        types.iter().find(is_newer).is_none().then_some(outdated)
    })
}
