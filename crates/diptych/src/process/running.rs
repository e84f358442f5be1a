//! The shards of a process that a program runs, as one process.

use std::sync::Arc;

use diptych_store::Store;

use super::{
    Process,
    shared::{AnyProcess, ProcessShared},
    status::{ProcessState, ProcessStatus, StatusCell},
};

/// The shards of a process that this program runs.
pub(super) struct RunningShards<P: Process> {
    pub(super) process: Arc<str>,
    pub(super) store: Store,
    pub(super) shards: Vec<Arc<ProcessShared<P>>>,
}

impl<P: Process> AnyProcess for RunningShards<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn process(&self) -> &Arc<str> {
        &self.process
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn status(&self) -> ProcessStatus {
        let mut all = self.shards.iter().map(|shared| shared.status.status(P::NAME));
        match all.next() {
            Some(first) => all.fold(first, together),
            None => {
                // Other programs run all shards.
                let none = StatusCell::new();
                none.state(ProcessState::Standby);
                none.status(P::NAME)
            }
        }
    }
}

/// The status of two parts of a process: it is where the part behind is, and as well as the worse.
fn together(mut one: ProcessStatus, other: ProcessStatus) -> ProcessStatus {
    one.position = one.position.min(other.position);
    if badness(&other.state) > badness(&one.state) {
        one.state = other.state;
    }
    one.timers += other.timers;
    one.next_timer = one.next_timer.into_iter().chain(other.next_timer).min();
    one.carrying += other.carrying;
    one.troubles.extend(other.troubles);
    one.troubles.sort();
    one.troubles.truncate(ProcessStatus::TROUBLES);
    one
}

fn badness(state: &ProcessState) -> u8 {
    match state {
        ProcessState::Live => 0,
        ProcessState::Standby => 1,
        ProcessState::CatchingUp => 2,
        ProcessState::Stalled { .. } => 3,
        ProcessState::Stopped { .. } => 4,
    }
}
