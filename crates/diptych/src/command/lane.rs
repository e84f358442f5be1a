use std::{collections::VecDeque, fmt, sync::Arc};

use diptych_store::CommitSync;
use tokio::sync::Mutex;

use super::{
    Command, Execute,
    core::Core,
    decide::{Decided, Request, decide},
    error::Failure,
};
use crate::app::App;

/// Commands in the order in which they are submitted, also while earlier ones are not durable.
///
/// A loader or a consumer of messages gets pipelined speed and the same result every time:
/// the next command is decided as soon as the one before has its place in the log, and one sync
/// covers all that gathered meanwhile. Cloning shares the lane.
///
/// ```
/// # use diptych::{App, Command, ExecuteError, Receipt};
/// async fn load<C: Command>(
///     app: &App,
///     commands: Vec<C>,
/// ) -> Result<Vec<Receipt>, ExecuteError<C::Rejection>> {
///     let lane = app.lane();
///     let mut pending = Vec::new();
///     for command in commands {
///         pending.push(lane.execute(command).submit().await);
///     }
///     let mut receipts = Vec::new();
///     for answer in pending {
///         receipts.push(answer.await?);
///     }
///     Ok(receipts)
/// }
/// ```
///
/// The order is that in which the futures are first polled. Where a commit could not be synced,
/// its answer says so, and no command after it is taken.
#[derive(Clone)]
pub struct Lane {
    app: App,
    order: Arc<Mutex<InFlight>>,
}

/// How a lane works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneOptions {
    /// Commands that are decided and not durable, at most; who comes then waits.
    pub in_flight: usize,
}

impl Default for LaneOptions {
    fn default() -> LaneOptions {
        LaneOptions { in_flight: 1024 }
    }
}

struct InFlight {
    options: LaneOptions,
    syncs: VecDeque<CommitSync>,
}

impl Lane {
    pub(crate) fn new(app: App, options: LaneOptions) -> Lane {
        let in_flight = InFlight { options, syncs: VecDeque::new() };
        Lane { app, order: Arc::new(Mutex::new(in_flight)) }
    }

    /// A command in this lane: [`submit`](Execute::submit) waits for its decision,
    /// awaiting it waits until it is durable.
    pub fn execute<C: Command>(&self, command: C) -> Execute<C> {
        Execute::new(self.app.clone(), Some(self.clone()), command)
    }

    pub(crate) async fn decide<C: Command>(
        &self,
        core: &Core,
        request: &Request<C>,
    ) -> Result<Decided<C::Rejection>, Failure> {
        let mut in_flight = self.order.lock().await;
        in_flight.make_room().await;
        let decided = decide(core, request).await?;
        if let Decided::Accepted { sync, .. } = &decided {
            in_flight.syncs.push_back(sync.clone());
        }
        Ok(decided)
    }
}

impl InFlight {
    async fn make_room(&mut self) {
        while self.syncs.len() >= self.options.in_flight.max(1) {
            let Some(first) = self.syncs.front().cloned() else { return };
            // A sync that failed ends the store, which the next decision meets.
            let _ = first.wait().await;
            // Only now, because who waits here may be dropped.
            self.syncs.pop_front();
            while self.syncs.front().is_some_and(CommitSync::is_done) {
                self.syncs.pop_front();
            }
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lane")
    }
}
