//! Live events of a subscription, by a call of their own.
//!
//! A task takes the messages at once, whether the subscription reads or not. Otherwise a slow
//! subscription would keep the window of the connection, and delay the answers of all calls. If too
//! much waits, the task ends the call, and the subscription reads from the log.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use diptych_store::{Batch, BatchBuilder, Filter, LiveEvents, Position};
use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, timeout},
};
use tonic::Status;

use crate::{
    client::{
        checks,
        link::{History, Link, LogCaller, Trouble},
        read_ahead::goes_on,
    },
    wire::{
        self,
        messages::{ReadReply, SubscribeReply, SubscribeRequest, subscribe_reply::Delivery},
    },
};

/// The longest time in which the position of a subscription without events stands still while the
/// log goes on.
const PROGRESS: Duration = Duration::from_secs(1);
/// The most batches, and the most bytes of their events, that wait for a subscription.
const WAITING: (usize, usize) = (1_024, 4 << 20);
/// Pause after a call that gave nothing, before another one is made.
const PAUSE: Duration = Duration::from_secs(1);

/// The live calls of a store.
#[derive(Default)]
pub(crate) struct LiveCalls {
    /// The time up to which no further call is made.
    pause: Arc<Mutex<Option<Instant>>>,
}

impl LiveCalls {
    /// Whether a call may be made.
    pub(crate) fn is_ready(&self) -> bool {
        self.pause.lock().is_none_or(|until| until <= Instant::now())
    }

    /// A task that follows the matching events, and the other end of it. The caller runs the task.
    pub(crate) fn follow(
        &self,
        link: Arc<Link>,
        filter: &Filter,
        after: Position,
    ) -> (impl Future<Output = ()> + Send + use<>, LiveCall) {
        let (send, batches) = mpsc::channel(WAITING.0);
        let waiting = Arc::new(AtomicUsize::new(0));
        let request = SubscribeRequest {
            filter: Some(wire::message_of_filter(filter)),
            after: after.get(),
            heartbeat_ms: PROGRESS.as_millis() as u32,
            ..SubscribeRequest::default()
        };
        let (pause, bytes, filter) = (self.pause.clone(), waiting.clone(), filter.clone());
        let task = async move {
            let history = link.history();
            let (upto, waiting) = (after, bytes);
            let (has_answered, behind_since) = (false, None);
            let mut call = OpenCall { filter, upto, send, waiting, has_answered, behind_since };
            let (log, origin) = link.caller_as(Some(history.identity));
            if let Err(status) = call.run(log, &link, &history, request).await {
                // A change of the history ends the head, which the subscription sees.
                if let Trouble::Final(error) = link.why(status, origin) {
                    tracing::debug!(%error, "live events of a remote log ended");
                }
            }
            // A server whose calls give nothing is not called in a loop.
            if !call.has_answered || call.upto == after {
                *pause.lock() = Some(Instant::now() + PAUSE);
            }
        };
        (task, LiveCall { batches, waiting, task: None })
    }
}

/// The call of one subscription.
struct OpenCall {
    filter: Filter,
    /// The end of the last batch.
    upto: Position,
    send: mpsc::Sender<(Batch, usize)>,
    /// Bytes of the batches that wait.
    waiting: Arc<AtomicUsize>,
    has_answered: bool,
    /// Since when the log is known to go on, and the call stands still.
    behind_since: Option<Instant>,
}

impl OpenCall {
    /// Takes messages until the connection is lost, or too many wait.
    async fn run(
        &mut self,
        mut log: LogCaller,
        link: &Link,
        history: &History,
        request: SubscribeRequest,
    ) -> Result<(), Status> {
        let silent = |_| Status::unavailable("the server sends no sign of life");
        let patience = link.options().heartbeat * 3 / 2;
        let stream = timeout(patience, log.subscribe(request)).await.map_err(silent)??;
        let mut stream = stream.into_inner();
        while let Some(reply) = timeout(patience, stream.message()).await.map_err(silent)?? {
            self.has_answered = true;
            let before = self.upto;
            if !self.take(history, reply)? {
                return Ok(());
            }
            if self.upto > before || self.upto >= history.head().position() {
                self.behind_since = None;
            } else if self.behind_since.get_or_insert_with(Instant::now).elapsed() > patience {
                return Err(Status::data_loss("live events of the server stand still"));
            }
        }
        Ok(())
    }

    /// Hands a message on. Returns whether the call goes on.
    fn take(&mut self, history: &History, reply: SubscribeReply) -> Result<bool, Status> {
        let (batch, bytes) = match reply.delivery {
            Some(Delivery::Batch(reply)) => {
                let bytes = reply.encoded.as_ref().map_or(0, |encoded| encoded.bytes.len());
                (self.batch(history, reply)?, bytes)
            }
            // A subscription finds by itself that it has caught up, or is behind.
            Some(Delivery::CaughtUp(_) | Delivery::FellBehind(_)) | None => return Ok(true),
            Some(Delivery::Heartbeat(heartbeat)) => {
                let upto = Position::new(heartbeat.upto);
                if checks::head(upto.get()).is_err() {
                    return Err(Status::data_loss("no log has the position of a heartbeat"));
                }
                if upto <= self.upto {
                    return Ok(true);
                }
                history.advance(upto);
                (BatchBuilder::new().finish(upto, upto), 0)
            }
        };
        self.upto = batch.upto();
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING.1 {
            return Ok(false);
        }
        Ok(self.send.try_send((batch, bytes)).is_ok())
    }

    fn batch(&self, history: &History, reply: ReadReply) -> Result<Batch, Status> {
        let head = Position::new(reply.head);
        let batch = wire::batch_of(reply);
        let batch = batch.map_err(|error| Status::data_loss(error.to_string()))?;
        if !goes_on(&batch, &self.filter, self.upto, head) {
            return Err(Status::data_loss("live events of the server are not the next ones"));
        }
        history.advance(head);
        Ok(batch)
    }
}

/// Live events as a subscription takes them. Dropping it ends the call.
pub(crate) struct LiveCall {
    batches: mpsc::Receiver<(Batch, usize)>,
    waiting: Arc<AtomicUsize>,
    /// The task of the call, once it runs.
    pub(crate) task: Option<AbortHandle>,
}

impl LiveEvents for LiveCall {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Batch>> {
        self.batches.poll_recv(context).map(|next| {
            let (batch, bytes) = next?;
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            Some(batch)
        })
    }
}

impl fmt::Debug for LiveCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveCall").field("waiting", &self.batches.len()).finish()
    }
}

impl Drop for LiveCall {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
