use std::{fmt, sync::Arc};

use super::{Command, Execute, LaneOptions, lane_order::LaneOrder, panel::LeftPanel};

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
    panel: Arc<LeftPanel>,
    order: LaneOrder,
}

impl Lane {
    pub(crate) fn new(panel: Arc<LeftPanel>, options: LaneOptions) -> Lane {
        Lane { panel, order: LaneOrder::new(options) }
    }

    /// A command in this lane: [`submit`](Execute::submit) waits for its decision, awaiting it waits
    /// until it is durable.
    pub fn execute<C: Command>(&self, command: C) -> Execute<C> {
        Execute::new(self.panel.clone(), Some(self.order.clone()), command)
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lane")
    }
}
