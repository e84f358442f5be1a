//! The order of the commands of one lane.

use std::{collections::VecDeque, sync::Arc};

use diptych_store::CommitSync;
use tokio::sync::Mutex;

use super::{
    Command,
    decide::{CommandRequest, Decision, decide},
    error::CommandError,
    panel::LeftPanel,
};

/// Options of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneOptions {
    /// Maximum number of commands that are decided and not durable. The next command waits.
    pub in_flight: usize,
}

impl Default for LaneOptions {
    fn default() -> LaneOptions {
        LaneOptions { in_flight: 1024 }
    }
}

/// Lets one command of a lane decide at a time, in the order in which they come. Clones share the
/// order.
#[derive(Clone)]
pub(crate) struct LaneOrder(Arc<Mutex<InFlight>>);

/// Commands that are decided and not durable.
struct InFlight {
    options: LaneOptions,
    syncs: VecDeque<CommitSync>,
}

impl LaneOrder {
    pub(super) fn new(options: LaneOptions) -> LaneOrder {
        LaneOrder(Arc::new(Mutex::new(InFlight { options, syncs: VecDeque::new() })))
    }

    /// Decides a command after those that came before it.
    pub(super) async fn decide<C: Command>(
        &self,
        panel: &LeftPanel,
        request: &CommandRequest<C>,
    ) -> Result<Decision<C::Rejection>, CommandError> {
        let mut in_flight = self.0.lock().await;
        in_flight.make_room().await;
        let decided = decide(panel, request).await?;
        if let Decision::Accepted { sync, .. } = &decided {
            in_flight.syncs.push_back(sync.clone());
        }
        Ok(decided)
    }
}

impl InFlight {
    async fn make_room(&mut self) {
        while self.syncs.len() >= self.options.in_flight.max(1) {
            let Some(first) = self.syncs.front().cloned() else { return };
            // After a failed sync the store takes no commits, and the next decision gets the error.
            let _ = first.wait().await;
            // The sync leaves the queue only now, because this future may be dropped while it
            // waits.
            self.syncs.pop_front();
            while self.syncs.front().is_some_and(CommitSync::is_done) {
                self.syncs.pop_front();
            }
        }
    }
}
