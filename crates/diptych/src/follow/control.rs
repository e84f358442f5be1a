//! Requests to a follower: pause, step, resume, begin again.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    thread::{self, JoinHandle},
};

use diptych_store::{HistoryChanged, Position, Tag};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{
    FollowState, FollowerStop, Progress, poison::SkipNote, progress::HaltCause,
    versions::VersionChange,
};

/// Maximum number of requests that wait for one follower.
const WAITING: usize = 16;

/// A request to a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FollowerRequest {
    /// Apply nothing more, except on request.
    Pause,
    /// Apply one event.
    Step,
    /// Go on, also after a failure.
    Resume,
    /// Apply new events now, whatever its [`Refresh`](super::Refresh) is.
    Refresh,
    /// Begin from the start of the log.
    Rebuild,
    /// Save the state outside the log.
    Save,
    /// Check that its state outside the log is as the follower left it.
    Confirm,
    /// Compare, switch or drop versions.
    Change(VersionChange),
    /// Apply the held events of this poisoned key.
    Release {
        key: Tag,
        /// Whether to leave out the event that failed.
        skip: Option<SkipNote>,
    },
}

/// Why a view or a projection did not carry out a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// It is stopped, or it stopped while it carried out the request.
    #[error(transparent)]
    Stopped(FollowerStop),
    /// It is not paused. Only a paused view or projection can be stepped.
    #[error("it is not paused, and goes on by itself: pause it first")]
    NotPaused,
    /// The log has ended.
    #[error("the log ended: {reason}")]
    Ended {
        /// The reason that the log gives.
        reason: String,
    },
    /// The store has another history than at the start of the app.
    #[error(transparent)]
    HistoryChanged(HistoryChanged),
    /// The version that is to be served is not at the position of the served one.
    #[error(
        "the served version is at position {served}, and the other one at position {other}: wait \
         until they are equal, or switch at any position"
    )]
    Unequal {
        /// The position of the served version.
        served: Position,
        /// The position of the other version.
        other: Position,
    },
    /// The version that is to be served answers otherwise than the served one.
    #[error("the versions differ: {difference}; correct the new one, or accept the difference")]
    Different {
        /// The first difference.
        difference: String,
    },
    /// It could not carry out the request.
    #[error("{reason}")]
    Failed {
        /// The cause, and how to fix it.
        reason: String,
    },
    /// The app was stopped.
    #[error("the app was stopped: start it again")]
    Closed,
}

impl From<HaltCause> for ControlError {
    fn from(halted: HaltCause) -> ControlError {
        match halted {
            HaltCause::Stopped(stopped) => ControlError::Stopped(stopped),
            HaltCause::Ended { reason } => ControlError::Ended { reason },
            HaltCause::HistoryChanged(changed) => ControlError::HistoryChanged(changed),
            HaltCause::Closed => ControlError::Closed,
        }
    }
}

pub(super) type Reply = oneshot::Sender<Result<Position, ControlError>>;
type ReplyWait = oneshot::Receiver<Result<Position, ControlError>>;
pub(super) type Requests = mpsc::Receiver<(FollowerRequest, Reply)>;

/// The runner of a projection, as its [`Target`](crate::projection::Target) sees it.
///
/// A target that waits for something, such as a lock that another program holds, asks the runner
/// whether to continue to wait.
#[derive(Clone)]
pub struct RunnerHandle {
    progress: Arc<Progress>,
    /// Weak, because the thread ends when the app has dropped all senders.
    requests: mpsc::WeakSender<(FollowerRequest, Reply)>,
}

impl RunnerHandle {
    /// Whether the runner has to end, or a request waits for it: pause, step, rebuild. The target
    /// should then soon give up its wait with
    /// [`Unavailable`](crate::projection::TargetError::Unavailable). The runner calls it again
    /// later.
    pub fn is_wanted(&self) -> bool {
        let is_asked = |requests: mpsc::Sender<_>| requests.capacity() < requests.max_capacity();
        self.progress.is_ending() || self.requests.upgrade().is_none_or(is_asked)
    }

    /// Shows in the state of the projection that it waits, and for what, until it continues.
    pub fn waits(&self, reason: String) {
        if self.progress.is_running() {
            tracing::warn!(follower = self.progress.name(), reason, "following the log waits");
            self.progress.set(FollowState::Stalled { reason });
        }
    }
}

impl fmt::Debug for RunnerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RunnerHandle").field(&self.progress.name()).finish()
    }
}

/// The thread of a follower, seen from outside.
pub(crate) struct WorkerControl {
    pub(crate) progress: Arc<Progress>,
    requests: mpsc::Sender<(FollowerRequest, Reply)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl WorkerControl {
    pub(super) fn new(progress: Arc<Progress>) -> (WorkerControl, Requests) {
        let (requests, received) = mpsc::channel(WAITING);
        (WorkerControl { progress, requests, thread: Mutex::default() }, received)
    }

    pub(super) fn handle(&self) -> RunnerHandle {
        RunnerHandle { progress: self.progress.clone(), requests: self.requests.downgrade() }
    }

    pub(super) fn runs_on(&self, thread: JoinHandle<()>) {
        *self.thread.lock() = Some(thread);
    }

    /// Sends a request, and waits until it is done.
    pub(crate) async fn ask(&self, request: FollowerRequest) -> Result<Position, ControlError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send((request, reply)).await.map_err(|_| ControlError::Closed)?;
        self.answered(answer).await
    }

    /// Waits for the answer, or until the thread has ended.
    ///
    /// A request that is sent while the thread drops its end of the channel can stay in the
    /// channel. Then it is neither answered nor dropped.
    async fn answered(&self, mut answer: ReplyWait) -> Result<Position, ControlError> {
        let mut ended = pin!(self.ended());
        poll_fn(|context| {
            if let Poll::Ready(answered) = Pin::new(&mut answer).poll(context) {
                return Poll::Ready(answered.unwrap_or(Err(ControlError::Closed)));
            }
            ready!(ended.as_mut().poll(context));
            // It may have been answered since it was asked for above.
            Poll::Ready(answer.try_recv().unwrap_or(Err(ControlError::Closed)))
        })
        .await
    }

    /// Tells the thread to end, and does not wait for it.
    pub(crate) fn end(&self) {
        self.progress.end();
        if let Some(thread) = &*self.thread.lock() {
            thread.thread().unpark();
        }
    }

    /// Waits until the thread has dropped everything that it owns.
    pub(crate) async fn ended(&self) {
        // The thread drops the receiver of requests together with everything else that it owns.
        self.requests.closed().await;
    }

    /// Blocks the calling thread until the thread has ended.
    pub(crate) fn join(&self) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread.filter(|other| other.thread().id() != thread::current().id()) {
            // Its panic was logged already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pollster::block_on;

    use super::*;

    fn control() -> (WorkerControl, Requests) {
        WorkerControl::new(Arc::new(Progress::new("view", "ledger".to_owned(), Position::START)))
    }

    /// Once, a request that was sent at this moment waited for ever.
    #[test]
    fn a_request_that_stays_in_the_channel_of_an_ended_thread_is_answered() {
        let (control, requests) = control();
        let place = control.requests.try_reserve().unwrap();
        let (reply, answer) = oneshot::channel();
        drop(requests);
        place.send((FollowerRequest::Pause, reply));
        assert_eq!(block_on(control.answered(answer)), Err(ControlError::Closed));
    }

    #[test]
    fn an_answer_that_came_before_the_thread_ended_counts() {
        let (control, requests) = control();
        let (reply, answer) = oneshot::channel();
        let ending = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            reply.send(Ok(Position::new(7))).unwrap();
            drop(requests);
        });
        assert_eq!(block_on(control.answered(answer)), Ok(Position::new(7)));
        ending.join().unwrap();
    }
}
