//! The status of a process.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use diptych_store::{Position, Timestamp};
use parking_lot::Mutex;

use crate::follow::Lag;

/// The status of a process in this program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessStatus {
    /// Its name.
    pub name: &'static str,
    /// Everything up to here was considered.
    pub position: Position,
    /// Whether it works.
    pub state: ProcessState,
    /// How far it is behind the end of the log, and for how long.
    pub lag: Lag,
    /// Number of pending timers that this program knows of.
    pub timers: usize,
    /// The due time of the first pending timer. If it has passed, the timer is late.
    pub next_timer: Option<Timestamp>,
    /// Number of parked instances: letters that wait for an answer.
    pub parked: usize,
    /// Number of calls that wait for an operator.
    pub unknown_calls: usize,
    /// Number of reactions whose actions this program has read and not carried out yet.
    pub carrying: usize,
    /// Instances whose command cannot be carried out for now, each with the reason. The command is
    /// tried again, and the instance's later commands wait behind it. At most
    /// [`ProcessStatus::TROUBLES`] are listed.
    pub troubles: Vec<(String, String)>,
}

impl ProcessStatus {
    /// Maximum number of troubles that a status lists.
    pub const TROUBLES: usize = 100;
}

/// Whether a process works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessState {
    /// It reads older events.
    CatchingUp,
    /// It has reacted to every event, and follows new ones.
    Live,
    /// Another program reacts for this process. This one takes over when the other ends.
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

/// The status while the process runs. Its tasks write it, and callers read it.
#[derive(Debug)]
pub(super) struct StatusCell(Mutex<StatusParts>);

#[derive(Debug)]
struct StatusParts {
    position: Position,
    state: ProcessState,
    timers: usize,
    next_timer: Option<Timestamp>,
    carrying: usize,
    troubles: BTreeMap<Arc<str>, String>,
}

impl StatusCell {
    pub(super) fn new() -> StatusCell {
        StatusCell(Mutex::new(StatusParts {
            position: Position::START,
            state: ProcessState::CatchingUp,
            timers: 0,
            next_timer: None,
            carrying: 0,
            troubles: BTreeMap::new(),
        }))
    }

    /// The status without the counts of the [watch](super::watch).
    pub(super) fn status(&self, name: &'static str) -> ProcessStatus {
        let parts = self.0.lock();
        let listed = parts.troubles.iter().take(ProcessStatus::TROUBLES);
        ProcessStatus {
            name,
            position: parts.position,
            state: parts.state.clone(),
            lag: Lag { positions: 0, time: Duration::ZERO },
            timers: parts.timers,
            next_timer: parts.next_timer,
            parked: 0,
            unknown_calls: 0,
            carrying: parts.carrying,
            troubles: listed.map(|(of, why)| (of.to_string(), why.clone())).collect(),
        }
    }

    pub(super) fn at(&self, position: Position, state: ProcessState) {
        let mut parts = self.0.lock();
        parts.position = position;
        if !matches!(parts.state, ProcessState::Stopped { .. }) {
            parts.state = state;
        }
    }

    pub(super) fn state(&self, state: ProcessState) {
        let mut parts = self.0.lock();
        // The first reason of a stop counts.
        if !matches!(parts.state, ProcessState::Stopped { .. }) {
            parts.state = state;
        }
    }

    pub(super) fn timers(&self, pending: usize) {
        self.0.lock().timers = pending;
    }

    pub(super) fn next_timer(&self, due: Option<Timestamp>) {
        self.0.lock().next_timer = due;
    }

    pub(super) fn carrying(&self, reactions: usize) {
        self.0.lock().carrying = reactions;
    }

    pub(super) fn trouble(&self, instance: &Arc<str>, reason: Option<String>) {
        let mut parts = self.0.lock();
        match reason {
            Some(reason) => drop(parts.troubles.insert(instance.clone(), reason)),
            None => drop(parts.troubles.remove(instance)),
        }
    }
}
