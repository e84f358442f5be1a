//! The circumstances of one decision: the time, and what its sender gave beside the command.

use std::{cell::Cell, fmt, sync::Arc};

use diptych_store::{Metadata, Timestamp};

use super::Invalid;
use crate::event::{DECIDED_AT, RESERVED, is_reserved};

/// The circumstances of one decision, which [`decide`](super::Command::decide) gets beside the
/// state.
///
/// A rule that depends on time asks for [`now`](DecisionContext::now), and never the system clock.
/// So a test can [set the time](crate::testing::Given::at), and the log keeps the time that the
/// rule used.
pub struct DecisionContext<'a> {
    clock: RuleClock,
    /// When the newest event in the states was recorded.
    newest: Timestamp,
    metadata: &'a Metadata,
    now: Cell<Option<Timestamp>>,
}

impl<'a> DecisionContext<'a> {
    pub(crate) fn new(
        clock: RuleClock,
        newest: Timestamp,
        metadata: &'a Metadata,
    ) -> DecisionContext<'a> {
        DecisionContext { clock, newest, metadata, now: Cell::new(None) }
    }

    /// A context for a test that calls `decide` itself: the clock shows this instant, and the
    /// sender gave nothing beside the command.
    #[cfg(feature = "testing")]
    pub fn at(now: Timestamp) -> DecisionContext<'static> {
        static NOTHING: Metadata = Metadata {
            occurred_at: None,
            correlation: None,
            causation: None,
            actor: None,
            extra: std::collections::BTreeMap::new(),
        };
        DecisionContext::new(RuleClock::at(now), Timestamp::NEVER, &NOTHING)
    }

    /// The time of this decision.
    ///
    /// It is read from the clock of the app once for each try, so all calls within one `decide`
    /// give the same instant. If a conflict makes the app decide again, the time is read again. It
    /// is never before the newest event in the states of the command was recorded.
    ///
    /// If the rule asks for it, the time is stored with the events of the decision:
    /// [`Recorded::decided_at`](crate::Recorded::decided_at). It is no part of the command. So a
    /// command that is sent again later under its [key](crate::Execute::key) is still the same.
    pub fn now(&self) -> Timestamp {
        if let Some(now) = self.now.get() {
            return now;
        }
        let now = self.clock.now().max(self.newest);
        self.now.set(Some(now));
        now
    }

    /// The actor, correlation, causation and extra metadata that the sender gave with the command.
    pub fn metadata(&self) -> &Metadata {
        self.metadata
    }

    /// The time, if the rule asked for it.
    pub(crate) fn decided_at(&self) -> Option<Timestamp> {
        self.now.get()
    }
}

impl fmt::Debug for DecisionContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionContext")
            .field("now", &self.now.get())
            .field("metadata", self.metadata)
            .finish_non_exhaustive()
    }
}

/// The clock of decisions.
#[derive(Clone, Default)]
pub(crate) enum RuleClock {
    #[default]
    System,
    Given(Arc<dyn Fn() -> Timestamp + Send + Sync>),
}

impl RuleClock {
    /// A clock that stands still.
    #[cfg(feature = "testing")]
    pub(crate) fn at(instant: Timestamp) -> RuleClock {
        RuleClock::Given(Arc::new(move || instant))
    }

    pub(crate) fn now(&self) -> Timestamp {
        match self {
            RuleClock::System => Timestamp::now(),
            RuleClock::Given(now) => now(),
        }
    }
}

/// Notes the time of the decision in the metadata of one of its events.
pub(crate) fn stamp(metadata: &mut Metadata, decided_at: Option<Timestamp>) {
    if let Some(at) = decided_at {
        metadata.extra.insert(DECIDED_AT.into(), at.to_string().into());
    }
}

/// Refuses extra metadata whose names only this crate writes.
pub(crate) fn check_extra(name: &str) -> Result<(), Invalid> {
    if !is_reserved(name) {
        return Ok(());
    }
    let problem = format!("names that begin with `{RESERVED}` are reserved: take another name");
    Err(Invalid::new(name, problem))
}
