//! A store over the network.
//!
//! The store has a thread of its own with a runtime, so its futures can be polled anywhere. Three
//! kinds of work run there: the watch, which follows the head of the log; the session, through
//! which all appends go; and a task for each read.

mod address;
mod checks;
mod connection;
mod feeds;
mod link;
mod live;
mod pending;
mod read_ahead;
mod resolve;
mod session;
mod sync_line;
mod tls;
mod watch;

use std::{
    fmt,
    future::Future,
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

pub use feeds::{FeedCallError, FeedClient};

use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, CommitBatch, EventChecksum, EventStore, Filter,
    Head, KeyedCommit, Limits, LiveEvents, LogIdentity, Position, Read, ReadCommits, ReadError,
    SyncError, Tag, Tracking, Unavailable,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Semaphore, mpsc, oneshot},
    task::{AbortHandle, JoinError, JoinHandle},
    time::Instant,
};

use crate::{
    client::{
        address::ServerAddress,
        checks::{Contradiction, ReadFacts},
        link::{History, Link, LogCaller},
        live::LiveCalls,
        pending::{AppendJob, SessionOrder},
        read_ahead::{ReadAhead, Reader},
    },
    wire::{
        self, MessageError,
        messages::{
            ChecksumRequest, CountRequest, FindKeyRequest, FindTrackingRequest, HeadRequest,
            LastRequest, ReadCommitsRequest, TypesRequest,
        },
    },
};

/// Options of a [`RemoteStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteOptions {
    /// The token that the server asks for.
    pub token: Option<String>,
    /// A file with the certificates of authorities, in PEM form, that may vouch for an encrypted
    /// server. Without it those of the system may.
    pub authorities: Option<PathBuf>,
    /// The longest time of a call while the server does not answer. An append that was sent and has
    /// no answer by then has an unknown outcome. 15 seconds by default.
    pub answer_time: Duration,
    /// The longest time to establish one connection. 5 seconds by default.
    pub connect_time: Duration,
    /// The time between two signs of life of an idle server. The connection counts as lost after
    /// one and a half times as long without any. 8 seconds by default.
    pub heartbeat: Duration,
    /// When an append answers: once its commit is synced, by default.
    pub append_answer: AppendAnswer,
    /// The greatest number of commits that are sent and not synced. Further appends wait. 4,096 by
    /// default.
    pub commits_in_flight: usize,
}

impl Default for RemoteOptions {
    fn default() -> RemoteOptions {
        RemoteOptions {
            token: None,
            authorities: None,
            answer_time: Duration::from_secs(15),
            connect_time: Duration::from_secs(5),
            heartbeat: Duration::from_secs(8),
            append_answer: AppendAnswer::default(),
            commits_in_flight: 4_096,
        }
    }
}

impl RemoteOptions {
    /// The options, without values that clocks and counters cannot take.
    fn within_bounds(mut self) -> RemoteOptions {
        let times = [&mut self.answer_time, &mut self.connect_time, &mut self.heartbeat];
        for time in times {
            *time = (*time).clamp(SHORTEST_TIME, LONGEST_TIME);
        }
        self.commits_in_flight = self.commits_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        self
    }
}

/// The bounds of all times.
const SHORTEST_TIME: Duration = Duration::from_millis(1);
const LONGEST_TIME: Duration = Duration::from_secs(24 * 3_600);

/// When an append to a [`RemoteStore`] answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendAnswer {
    /// Once the commit is synced. A server that crashes loses nothing that this process has seen,
    /// so the store goes on when the server is back.
    #[default]
    Synced,
    /// Once the commit is accepted, so that the next decision can rest on it before it is synced.
    /// That is faster where many commands have one boundary. If the server crashes and loses such a
    /// commit, the store ends, as a log does after a failed write: connect again.
    Accepted,
}

/// A store that could not connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is none of a log on a server.
    #[error("{address:?} is no address of a log: {problem}")]
    Address {
        /// The address.
        address: String,
        /// The mistake, and the right form.
        problem: &'static str,
    },
    /// The address is none of a feed on a server.
    #[error("{address:?} is no address of a feed: {problem}")]
    FeedAddress {
        /// The address.
        address: String,
        /// The mistake, and the right form.
        problem: &'static str,
    },
    /// The system gave no thread.
    #[error("the thread of the connection cannot start: {0}")]
    Thread(#[source] io::Error),
    /// The server does not answer, or refuses.
    #[error("the server at {address} cannot be used: {cause}")]
    Server {
        /// The address.
        address: String,
        /// The answer, or the reason why there is none.
        #[source]
        cause: ReadError,
    },
}

/// A log that a server offers. Clones share one connection.
///
/// Every promise of the store contract holds. A lost connection is made again. Calls wait for it,
/// at most [`answer_time`](RemoteOptions::answer_time):
///
/// - A read is sent again.
/// - An append that has no answer is sent again in the same session, and the server executes it
///   once. After a restart of the server the store looks for the commit, by its key or the id of
///   its first event. Without both, the outcome is unknown.
/// - An append answers once its commit is synced, or once it is accepted
///   ([`append_answer`](RemoteOptions::append_answer)).
/// - If the log has another history after that, every call fails with
///   [`HistoryChanged`](Unavailable::HistoryChanged) for a pinned handle.
#[derive(Clone)]
pub struct RemoteStore {
    shared: Arc<StoreParts>,
}

struct StoreParts {
    link: Arc<Link>,
    orders: mpsc::UnboundedSender<SessionOrder>,
    in_flight: Arc<Semaphore>,
    live_calls: LiveCalls,
    read_ahead: ReadAhead,
    thread: StoreThread,
}

impl Drop for StoreParts {
    fn drop(&mut self) {
        self.link.end(Unavailable::Closed);
    }
}

impl RemoteStore {
    /// Connects to the log at an address such as `diptych://localhost:4500/log`, or encrypted with
    /// `diptychs://` or `https://`.
    ///
    /// # Errors
    /// [`ConnectError`] if the address has another form, or the server does not answer in
    /// [`answer_time`](RemoteOptions::answer_time).
    pub async fn connect(
        address: &str,
        options: RemoteOptions,
    ) -> Result<RemoteStore, ConnectError> {
        let server = ServerAddress::parse(address)?;
        let options = options.within_bounds();
        let thread = StoreThread::start().map_err(ConnectError::Thread)?;
        let linked = thread.run(Link::connect(server, options.clone())).await;
        let link =
            linked.map_err(|cause| ConnectError::Server { address: address.to_owned(), cause })?;
        let (orders, received) = mpsc::unbounded_channel();
        thread.spawn(watch::follow(link.clone()));
        thread.spawn(session::run(link.clone(), received));
        let in_flight = Arc::new(Semaphore::new(options.commits_in_flight));
        let (live_calls, read_ahead) = (LiveCalls::default(), ReadAhead::default());
        let shared = StoreParts { link, orders, in_flight, live_calls, read_ahead, thread };
        Ok(RemoteStore { shared: Arc::new(shared) })
    }

    /// Runs a read on the thread of the store. `ask` is called again after a lost connection.
    /// The reply comes with the history that it is about.
    async fn ask<T, F, Fut>(&self, ask: F) -> Result<(T, History), ReadError>
    where
        T: Send + 'static,
        F: Fn(LogCaller) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, tonic::Status>> + Send,
    {
        let link = self.shared.link.clone();
        if let Some(closed) = link.closed() {
            return Err(closed.into());
        }
        let task = async move {
            let history = link.history();
            let answer = link.ask_as(Some(history.identity), ask).await?;
            Ok((answer, history))
        };
        self.shared.thread.run(task).await
    }

    /// Shows the head of a reply.
    fn seen(&self, history: &History, head: u64) -> Result<Position, ReadError> {
        let head = self.true_or_error(checks::head(head))?;
        history.advance(head);
        Ok(head)
    }

    /// The checked answer, or the error of a server that says what cannot be true.
    fn true_or_error<T>(&self, checked: Result<T, Contradiction>) -> Result<T, ReadError> {
        checked.map_err(|contradiction| self.shared.link.contradiction(&contradiction).into())
    }
}

/// A read on the thread of the store. It ends if its caller goes away.
struct AskTask<T>(JoinHandle<T>);

impl<T> Future for AskTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for AskTask<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The thread of a store, with its runtime.
struct StoreThread {
    /// Taken when this value is dropped.
    runtime: Option<Runtime>,
}

impl StoreThread {
    fn start() -> io::Result<StoreThread> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("diptych-remote").enable_all();
        Ok(StoreThread { runtime: Some(builder.build()?) })
    }

    /// Runs the task on the thread and waits for its answer.
    async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, ReadError>> + Send + 'static,
    ) -> Result<T, ReadError> {
        let Some(runtime) = &self.runtime else { return Err(Unavailable::Closed.into()) };
        let answer = AskTask(runtime.spawn(task)).await;
        answer.unwrap_or_else(|_| Err(Unavailable::Closed.into()))
    }

    /// Begins the task on the thread.
    fn begin<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<AskTask<T>> {
        Some(AskTask(self.runtime.as_ref()?.spawn(task)))
    }

    /// Makes something whose tasks run on the thread.
    fn within<T>(&self, make: impl FnOnce() -> T) -> Option<T> {
        let _guard = self.runtime.as_ref()?.enter();
        Some(make())
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        Some(self.runtime.as_ref()?.spawn(task).abort_handle())
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        // A handle may be dropped in a task, where a runtime cannot wait for its own end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn unusable(error: MessageError) -> ReadError {
    Unavailable::Server { what: error.to_string().into() }.into()
}

impl EventStore for RemoteStore {
    fn identity(&self) -> LogIdentity {
        self.shared.link.identity()
    }

    fn limits(&self) -> Limits {
        self.shared.link.limits().clone()
    }

    fn head(&self) -> Head {
        self.shared.link.head()
    }

    fn has_other_writers(&self) -> bool {
        true
    }

    async fn fresh_head(&self) -> Result<Position, ReadError> {
        let known = self.shared.link.head().position();
        let (reply, history) = self
            .ask(|mut log: LogCaller| async move { log.head(HeadRequest::default()).await })
            .await?;
        let reply = reply.into_inner();
        let head = self.seen(&history, reply.head)?;
        self.true_or_error(checks::fresh_head(head, known))?;
        Ok(head)
    }

    async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        let link = &self.shared.link;
        let call = wire::call_of(&append, 0, link.limits())?;
        let place = self.shared.in_flight.clone().acquire_owned().await;
        let place = place.map_err(|_| Unavailable::Closed)?;
        if let Some(closed) = link.closed() {
            return Err(closed.into());
        }
        let (reply, replied) = oneshot::channel();
        let deadline = Instant::now() + link.options().answer_time;
        let job = AppendJob::new(append, call, &link.history(), deadline, reply, place);
        let sent = self.shared.orders.send(SessionOrder::Append(Box::new(job)));
        sent.map_err(|_| Unavailable::Closed)?;
        // The session ended. It may have sent the append.
        let ended = || Err(SyncError { cause: Unavailable::Closed }.into());
        replied.await.unwrap_or_else(|_| ended())
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        let StoreParts { link, read_ahead, thread, .. } = &*self.shared;
        filter.check(link.limits())?;
        let known = link.head().position();
        let reader = read_ahead.take(link.identity(), filter, &read);
        if let Some(mut reader) = reader.filter(|_| link.closed().is_none()) {
            if !reader.has_call() {
                thread.spawn(reader.call(link.clone()));
            }
            if let Some(batch) = reader.next(read.upto).await {
                read_ahead.put(reader);
                return Ok(batch);
            }
        }
        let request = wire::read_request(filter, &read, 1);
        let (reply, history) = self
            .ask(move |mut log: LogCaller| {
                let request = request.clone();
                async move { first(log.read(request).await?.into_inner()).await }
            })
            .await?;
        let head = self.seen(&history, reply.head)?;
        let batch = wire::batch_of(reply).map_err(unusable)?;
        let facts = ReadFacts { filter, read: &read, known, head };
        self.true_or_error(facts.check(&batch))?;
        if let Some(reader) = Reader::of(&history, filter, &read, &batch) {
            self.shared.read_ahead.put(reader);
        }
        Ok(batch)
    }

    async fn commits(&self, read: ReadCommits) -> Result<CommitBatch, ReadError> {
        let unlimited = read.limit_events == usize::MAX;
        let known = self.shared.link.head().position();
        let request = ReadCommitsRequest {
            after: read.after.get(),
            limit_events: (!unlimited).then_some(read.limit_events as u64),
            batches: 1,
            as_messages: false,
            ..ReadCommitsRequest::default()
        };
        let (reply, history) = self
            .ask(move |mut log: LogCaller| async move {
                first(log.read_commits(request).await?.into_inner()).await
            })
            .await?;
        let head = self.seen(&history, reply.head)?;
        let batch = wire::commits_of(reply).map_err(unusable)?;
        self.true_or_error(checks::commits(&batch, read.after, known, head))?;
        Ok(batch)
    }

    async fn checksum(&self, position: Position) -> Result<Option<EventChecksum>, ReadError> {
        let request = ChecksumRequest { position: position.get(), ..ChecksumRequest::default() };
        let (reply, history) =
            self.ask(move |mut log: LogCaller| async move { log.checksum(request).await }).await?;
        let reply = reply.into_inner();
        self.seen(&history, reply.head)?;
        Ok(reply.checksum.map(EventChecksum::from_u64))
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        filter.check(self.shared.link.limits())?;
        let filter = Some(wire::message_of_filter(filter));
        let request = LastRequest { filter, upto: bound(upto), ..LastRequest::default() };
        let (reply, history) = self
            .ask(move |mut log: LogCaller| {
                let request = request.clone();
                async move { log.last(request).await }
            })
            .await?;
        let reply = reply.into_inner();
        let head = self.seen(&history, reply.head)?;
        self.true_or_error(checks::last(reply.position, upto, head))
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        let request = CountRequest {
            tag: tag.as_str().to_owned(),
            upto: bound(upto),
            ..CountRequest::default()
        };
        let (reply, history) = self
            .ask(move |mut log: LogCaller| {
                let request = request.clone();
                async move { log.count(request).await }
            })
            .await?;
        let reply = reply.into_inner();
        let head = self.seen(&history, reply.head)?;
        self.true_or_error(checks::count(reply.count, upto, head))
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        let request = FindKeyRequest { key: key.to_owned(), ..FindKeyRequest::default() };
        let (reply, history) = self
            .ask(move |mut log: LogCaller| {
                let request = request.clone();
                async move { log.find_key(request).await }
            })
            .await?;
        let reply = reply.into_inner();
        let head = self.seen(&history, reply.head)?;
        let commit = reply.commit.map(wire::keyed_commit_of).transpose().map_err(unusable)?;
        commit.map(|commit| self.true_or_error(checks::keyed(commit, head))).transpose()
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        let request =
            FindTrackingRequest { source: source.to_owned(), ..FindTrackingRequest::default() };
        let (reply, history) = self
            .ask(move |mut log: LogCaller| {
                let request = request.clone();
                async move { log.find_tracking(request).await }
            })
            .await?;
        let reply = reply.into_inner();
        self.seen(&history, reply.head)?;
        reply.tracking.map(wire::tracking_of).transpose().map_err(unusable)
    }

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        let (reply, history) = self
            .ask(|mut log: LogCaller| async move { log.types(TypesRequest::default()).await })
            .await?;
        let reply = reply.into_inner();
        self.seen(&history, reply.head)?;
        self.true_or_error(checks::types(reply.types))
    }

    fn live(&self, filter: &Filter, after: Position) -> Option<Box<dyn LiveEvents>> {
        let StoreParts { link, live_calls, thread, .. } = &*self.shared;
        if link.closed().is_some() || !live_calls.is_ready() {
            return None;
        }
        filter.check(link.limits()).ok()?;
        let (task, mut call) = live_calls.follow(link.clone(), filter, after);
        call.task = thread.spawn(task);
        Some(Box::new(call))
    }

    async fn close(&self) -> Result<(), SyncError> {
        self.shared.link.close(Unavailable::Closed);
        let (reply, replied) = oneshot::channel();
        if self.shared.orders.send(SessionOrder::Close(reply)).is_err() {
            return Ok(());
        }
        let settled = replied.await.unwrap_or(Ok(()));
        self.shared.link.end(Unavailable::Closed);
        settled
    }
}

/// The only message of a stream.
///
/// The end of the stream is read, too. A stream that is dropped before its end is reset, and a
/// connection with a thousand resets in a short time is closed by HTTP/2.
async fn first<T>(mut stream: tonic::Streaming<T>) -> Result<T, tonic::Status> {
    let message = stream.message().await?;
    let none = || tonic::Status::data_loss("the server ended a read without an answer");
    let message = message.ok_or_else(none)?;
    stream.message().await?;
    Ok(message)
}

/// An upper bound; none for the head.
fn bound(upto: Position) -> Option<u64> {
    (upto != Position::MAX).then(|| upto.get())
}

impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = &self.shared.link;
        f.debug_struct("RemoteStore")
            .field("log", &link.identity())
            .field("head", &link.head())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicBool, Ordering},
    };

    use bytes::Bytes;
    use hyper::{
        HeaderMap, StatusCode,
        body::{Body, Frame},
        header::{HeaderName, HeaderValue},
    };
    use tonic::{Streaming, codec::Codec};

    use super::*;
    use crate::wire::{CheckedCodec, OutgoingMessage, messages::CountReply};

    /// The answer of a server: one message, and the end after it.
    struct OneMessage {
        message: Option<Bytes>,
        is_taken_to_the_end: Arc<AtomicBool>,
    }

    impl Body for OneMessage {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some(message) = self.message.take() else {
                self.is_taken_to_the_end.store(true, Ordering::SeqCst);
                let trailers = HeaderMap::from_iter([(
                    HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("0"),
                )]);
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            };
            let size = u32::try_from(message.len()).unwrap().to_be_bytes();
            let framed = [&[0], &size[..], &message].concat();
            Poll::Ready(Some(Ok(Frame::data(framed.into()))))
        }
    }

    /// A read dropped its stream after the message. HTTP/2 then reset the stream, and closed the
    /// connection once it had reset a thousand. Reads under load failed with that error.
    #[test]
    fn a_read_of_one_message_takes_its_stream_to_the_end() {
        let reply = CountReply { count: 7, ..CountReply::default() };
        let is_taken_to_the_end = Arc::new(AtomicBool::new(false));
        let body = OneMessage {
            message: Some(reply.into_bytes()),
            is_taken_to_the_end: is_taken_to_the_end.clone(),
        };
        let decoder = CheckedCodec::<CountReply, CountReply>::default().decoder();
        let stream = Streaming::new_response(decoder, body, StatusCode::OK, None, None);
        let runtime = Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(first(stream)).unwrap().count, 7);
        assert!(is_taken_to_the_end.load(Ordering::SeqCst));
    }
}
