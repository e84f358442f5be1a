//! The shards of a process: parts of its instances that are worked on independently.

use std::sync::Arc;

use diptych_store::{Filter, FilterItem, RawEvent, Store};

use super::{
    Process,
    shared::{AnyProcess, ProcessShared},
    status::{ProcessState, ProcessStatus, StatusCell},
    stored::{InstanceId, PARKED, REACTED, process_tag, shard_tag},
};

/// One shard of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    /// Its number, from 0.
    pub(super) number: u32,
    /// The number of shards of the process.
    pub(super) of: u32,
}

/// The shards of a process that this program runs.
pub(super) struct RunningShards<P: Process> {
    pub(super) process: Arc<str>,
    pub(super) store: Store,
    pub(super) shards: Vec<Arc<ProcessShared<P>>>,
}

impl Shard {
    /// Whether the instance belongs to it.
    pub(super) fn has(self, id: &InstanceId) -> bool {
        self.of == 1 || id.shard(self.of) == self.number
    }

    /// Where the reactions of the shard are, and the instances that it parked.
    pub(super) fn reactions(self, process: &str) -> Filter {
        let own = FilterItem::everything().or_type(REACTED).or_type(PARKED);
        Filter::from(match self.of {
            1 => own.and_tag(process_tag(process)),
            _ => own.and_tag(shard_tag(process, self.number)),
        })
    }

    /// Marks a reaction as one of the shard. A process with one shard needs no mark.
    pub(super) fn mark(self, process: &str, event: RawEvent) -> RawEvent {
        match self.of {
            1 => event,
            _ => event.tag(shard_tag(process, self.number)),
        }
    }
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
