//! The orderly end of a server: streams end, and commands that have started complete.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

/// Whether the server stops, and the number of its running commands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    stopping: watch::Sender<bool>,
    commands: watch::Sender<usize>,
    /// Whether the server has ended, and the number of its appends that have not.
    #[cfg(feature = "log")]
    fence: (watch::Sender<bool>, watch::Sender<usize>),
}

/// Counts a command as running, until this value is dropped.
pub(crate) struct RunningCommand(watch::Sender<usize>);

impl Stop {
    pub(crate) fn begin(&self) {
        self.stopping.send_replace(true);
    }

    pub(crate) fn has_begun(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Waits until the server stops.
    pub(crate) async fn begun(&self) {
        // The sender is in `self`, so the channel stays open.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    pub(crate) fn command(&self) -> RunningCommand {
        self.commands.send_modify(|commands| *commands += 1);
        RunningCommand(self.commands.clone())
    }

    /// Waits until no command runs. Commands whose clients went away count, too.
    pub(crate) async fn commands_ended(&self) {
        // The sender is in `self`, so the channel stays open.
        let _ = self.commands.subscribe().wait_for(|commands| *commands == 0).await;
    }
}

#[cfg(feature = "log")]
impl Stop {
    /// Appends as a command of the server. An append that has not ended when the server does is
    /// dropped: another server of the store may have answered by then that it was not made. So it
    /// must not be made later. Returns `None` for such an append.
    pub(crate) async fn fenced<T>(&self, append: impl Future<Output = T>) -> Option<T> {
        let _running = self.command();
        self.fence.1.send_modify(|appends| *appends += 1);
        let _append = RunningCommand(self.fence.1.clone());
        let mut ended = self.fence.0.subscribe();
        tokio::select! {
            biased;
            // The sender is in `self`, so the channel stays open.
            _ = ended.wait_for(|ended| *ended) => None,
            appended = append => Some(appended),
        }
    }

    /// Drops the appends that have not ended. One that its thread works on at the moment ends
    /// first.
    pub(crate) async fn close_fence(&self) {
        self.fence.0.send_replace(true);
        let _ = self.fence.1.subscribe().wait_for(|appends| *appends == 0).await;
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        self.0.send_modify(|commands| *commands = commands.saturating_sub(1));
    }
}

/// Stops the routes that a program took by [`Server::into_router`](crate::Server::into_router).
/// Dropping the handle stops nothing.
#[derive(Clone, Debug)]
pub struct StopHandle {
    stop: Stop,
    stop_time: Duration,
}

impl StopHandle {
    pub(crate) fn new(stop: Stop, stop_time: Duration) -> StopHandle {
        StopHandle { stop, stop_time }
    }

    /// Ends the live streams. From then on `/ready` answers 503 `stopping`. Other requests are
    /// still answered, because only the caller's server knows its connections. Call this together
    /// with the graceful shutdown of that server, which otherwise waits for the live streams.
    pub fn stop(&self) {
        self.stop.begin();
    }

    /// Waits until all commands that have started are complete, at most
    /// [`stop_time`](crate::ServerLimits::stop_time). A command completes even if its client goes
    /// away, so the end of all connections is not enough. Returns whether all are complete. Appends
    /// to a log that are not are dropped, so that they are not made later.
    pub async fn commands_ended(&self) -> bool {
        let have_ended = timeout(self.stop_time, self.stop.commands_ended()).await.is_ok();
        #[cfg(feature = "log")]
        self.stop.close_fence().await;
        have_ended
    }
}
