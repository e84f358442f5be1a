//! One shard of a process: a part of its instances that is worked on independently.

use diptych_store::{Filter, FilterItem, RawEvent};

use super::stored::{InstanceId, PARKED, REACTED, process_tag, shard_tag};

/// One shard of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessShard {
    /// Its number, from 0.
    pub(super) number: u32,
    /// The number of shards of the process.
    pub(super) of: u32,
}

impl ProcessShard {
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
