//! The status of an intake.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use diptych_store::Position;
use parking_lot::Mutex;

use super::metrics::{IntakeMetrics, IntakeOutcome};

/// The status of an intake in this program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IntakeStatus {
    /// Its name.
    pub name: &'static str,
    /// The name under which the log keeps its place.
    pub stored_as: String,
    /// The name of its source.
    pub source: String,
    /// Whether it works.
    pub state: IntakeState,
    /// Everything up to this position of the other log was taken in.
    pub position: Position,
    /// The number of positions between it and the end of the other log, when the source was last
    /// asked.
    pub behind: u64,
    /// The time since it had everything that the source had. It is the age of what this service
    /// knows of the other one; `None` if it never had everything.
    pub age: Option<Duration>,
    /// The number of events that wait because they, or one before them, were parked.
    pub waiting: usize,
    /// The number of published events that were left out since the start because the intake does
    /// not know their types, by type. At most [`IntakeStatus::TYPES`] are listed.
    pub left_out: BTreeMap<String, u64>,
}

impl IntakeStatus {
    /// Maximum number of types that were left out in a status.
    pub const TYPES: usize = 100;
}

/// Whether an intake works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IntakeState {
    /// It takes in older events.
    CatchingUp,
    /// It has everything that the source has, and waits for more.
    Live,
    /// Another program takes in events for it. This one takes over when the other ends.
    Standby,
    /// A step fails for now, and is tried again.
    Stalled {
        /// The reason.
        reason: String,
    },
    /// It stopped, and the app has to be started again.
    Stopped {
        /// The reason.
        reason: String,
    },
}

impl IntakeState {
    /// The state in one word, as metrics and servers show it.
    pub fn label(&self) -> &'static str {
        match self {
            IntakeState::CatchingUp => "catching-up",
            IntakeState::Live => "live",
            IntakeState::Standby => "standby",
            IntakeState::Stalled { .. } => "stalled",
            IntakeState::Stopped { .. } => "stopped",
        }
    }

    /// The reason of a state that needs one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            IntakeState::Stalled { reason } | IntakeState::Stopped { reason } => Some(reason),
            _ => None,
        }
    }
}

/// The label of types that are left out beyond [`IntakeStatus::TYPES`].
const OTHER_TYPES: &str = "other";

/// The status while the intake runs. Its task writes it, and callers read it.
#[derive(Debug)]
pub(super) struct IntakeStatusCell {
    fields: Mutex<StatusFields>,
    metrics: IntakeMetrics,
    started: Instant,
}

#[derive(Debug)]
struct StatusFields {
    state: IntakeState,
    position: Position,
    behind: u64,
    complete_at: Option<Instant>,
    waiting: usize,
    left_out: BTreeMap<String, u64>,
}

impl IntakeStatusCell {
    pub(super) fn new(intake: &'static str) -> IntakeStatusCell {
        let fields = StatusFields {
            state: IntakeState::CatchingUp,
            position: Position::START,
            behind: 0,
            complete_at: None,
            waiting: 0,
            left_out: BTreeMap::new(),
        };
        let metrics = IntakeMetrics::new(intake);
        metrics.state(fields.state.label());
        IntakeStatusCell { fields: Mutex::new(fields), metrics, started: Instant::now() }
    }

    pub(super) fn status(
        &self,
        name: &'static str,
        stored_as: String,
        source: String,
    ) -> IntakeStatus {
        let fields = self.fields.lock();
        IntakeStatus {
            name,
            stored_as,
            source,
            state: fields.state.clone(),
            position: fields.position,
            behind: fields.behind,
            age: fields.complete_at.map(|at| at.elapsed()),
            waiting: fields.waiting,
            left_out: fields.left_out.clone(),
        }
    }

    /// The intake does not go on for now, or no more.
    pub(super) fn interrupted(&self, state: IntakeState) {
        if !matches!(state, IntakeState::Standby) {
            self.metrics.failure();
        }
        let mut fields = self.fields.lock();
        fields.state = state;
        self.measure(&fields);
    }

    /// The log has everything up to `position`, before the source was asked. Positions without an
    /// event may have been passed since.
    pub(super) fn begins_at(&self, position: Position) {
        let mut fields = self.fields.lock();
        fields.position = fields.position.max(position);
    }

    /// Everything up to `position` was taken in, and the other log ended at `head`.
    pub(super) fn at(&self, position: Position, head: Position) {
        self.metrics.page();
        let mut fields = self.fields.lock();
        fields.position = position;
        fields.behind = head.get().saturating_sub(position.get());
        fields.state = match fields.behind {
            0 => IntakeState::Live,
            _ => IntakeState::CatchingUp,
        };
        if fields.behind == 0 {
            fields.complete_at = Some(Instant::now());
        }
        self.measure(&fields);
    }

    fn measure(&self, fields: &StatusFields) {
        let late = fields.complete_at.unwrap_or(self.started).elapsed();
        let late = if fields.state == IntakeState::Live { Duration::ZERO } else { late };
        self.metrics.lag(fields.behind, late);
        self.metrics.state(fields.state.label());
    }

    pub(super) fn waiting(&self, events: usize) {
        self.fields.lock().waiting = events;
        self.metrics.waiting(events);
    }

    /// Counts published events whose outcome is in the log.
    pub(super) fn count(&self, outcome: IntakeOutcome, events: u64) {
        self.metrics.count(outcome, events);
    }

    /// Counts an event whose type the intake does not know. Returns whether it is the first of its
    /// type.
    pub(super) fn left_out(&self, event_type: &str) -> bool {
        let mut fields = self.fields.lock();
        let types = fields.left_out.len();
        match fields.left_out.get_mut(event_type) {
            Some(count) => {
                *count += 1;
                self.metrics.left_out(event_type);
                false
            }
            None if types >= IntakeStatus::TYPES => {
                self.metrics.left_out(OTHER_TYPES);
                false
            }
            None => {
                fields.left_out.insert(event_type.to_owned(), 1);
                self.metrics.left_out(event_type);
                true
            }
        }
    }
}
