use std::{fmt, sync::Arc};

use super::{Command, Execute, LaneOptions, lane_order::LaneOrder, panel::LeftPanel};

/// Commands decided in the order in which they are submitted. A command does not wait until the
/// earlier ones are durable.
///
/// A loader or a consumer of messages gets pipelined speed and the same result every time: the next
/// command is decided as soon as the one before has its positions, and one sync covers all commands
/// that gathered meanwhile. Clones share the lane.
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
/// A command takes its place in the order when its future is first polled. If a commit cannot be
/// synced, its answer is an error, and no later command is accepted.
#[derive(Clone)]
pub struct Lane {
    panel: Arc<LeftPanel>,
    order: LaneOrder,
}

impl Lane {
    pub(crate) fn new(panel: Arc<LeftPanel>, options: LaneOptions) -> Lane {
        Lane { panel, order: LaneOrder::new(options) }
    }

    /// A command in this lane: [`submit`](Execute::submit) waits for its decision, and awaiting the
    /// command waits until it is durable.
    pub fn execute<C: Command>(&self, command: C) -> Execute<C> {
        Execute::new(self.panel.clone(), Some(self.order.clone()), command)
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lane")
    }
}
