//! The status of a process.

use std::{collections::BTreeMap, sync::Arc};

use diptych_store::Position;
use parking_lot::Mutex;

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
    /// Number of pending timers that this program knows of.
    pub timers: usize,
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
    carrying: usize,
    troubles: BTreeMap<Arc<str>, String>,
}

impl StatusCell {
    pub(super) fn new() -> StatusCell {
        StatusCell(Mutex::new(StatusParts {
            position: Position::START,
            state: ProcessState::CatchingUp,
            timers: 0,
            carrying: 0,
            troubles: BTreeMap::new(),
        }))
    }

    pub(super) fn status(&self, name: &'static str) -> ProcessStatus {
        let parts = self.0.lock();
        let listed = parts.troubles.iter().take(ProcessStatus::TROUBLES);
        ProcessStatus {
            name,
            position: parts.position,
            state: parts.state.clone(),
            timers: parts.timers,
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
