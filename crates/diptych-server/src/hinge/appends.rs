//! The stream of a session: calls come in, outcomes go out.
//!
//! The calls of a stream are given to the store in their order. Many can be under way. When a
//! stream ends, however it ends, the calls that the store has are awaited, and their outcomes are
//! kept in the session.

use std::{
    collections::{HashSet, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use diptych::store::{
    AcceptedCommit, Append, AppendError, CommitSync, Limits, Store, SyncError, Unavailable,
};
use diptych_remote::wire::{
    self, FailureCause, RequestError,
    messages::{
        Accepted, AppendReply, AppendRequest, Call, CallReply, Failure, SessionOpened, Synced,
        call_reply,
    },
};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::{
    door::stop::Stop,
    hinge::{
        append_bytes::AppendBytes,
        append_times::AppendTimes,
        sessions::{CallOutcome, OpenSession, Sessions},
    },
};

/// Time for the first message of a stream.
const OPEN_TIME: Duration = Duration::from_secs(10);
/// Calls of one stream without a final outcome. No further calls are read above it.
const STREAM_CALLS: usize = 16_384;
/// Outcomes of one session that its client has not settled. A stream with more ends.
const STREAM_OUTCOMES: usize = 4 * STREAM_CALLS;
/// Pause before a commit is asked again that the store keeps and cannot write for now.
const WRITE_PAUSE: Duration = Duration::from_millis(200);

type Replies = mpsc::Sender<Result<AppendReply, Status>>;
type Accepting = Pin<Box<dyn Future<Output = AnsweredCall> + Send>>;
type Syncing = Pin<Box<dyn Future<Output = Result<(), SyncError>> + Send>>;

/// The parts of the server that a stream of appends uses.
pub(crate) struct AppendStream {
    pub(crate) store: Store,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) instance: Uuid,
    pub(crate) bytes: Arc<AppendBytes>,
    pub(crate) times: AppendTimes,
    pub(crate) stop: Stop,
}

impl AppendStream {
    /// Serves the stream until it ends, or the server does.
    pub(crate) async fn run(self, requests: Streaming<AppendRequest>, replies: Replies) {
        let stop = self.stop.clone();
        stop.fenced(self.serve(requests, replies)).await;
    }

    async fn serve(self, mut requests: Streaming<AppendRequest>, replies: Replies) {
        let (session, first_calls) = match self.open(&mut requests).await {
            Ok(opened) => opened,
            Err(status) => return drop(replies.send(Err(status)).await),
        };
        let opened = SessionOpened {
            resumed: session.is_resumed,
            instance: self.instance.as_bytes().to_vec(),
            entry: session.entry.as_bytes().to_vec(),
        };
        let head = self.store.head().position().get();
        let first = AppendReply {
            opened: Some(opened),
            replies: Vec::new(),
            head,
            ..AppendReply::default()
        };
        let is_open = replies.send(Ok(first)).await.is_ok();
        let mut calls = RunningCalls {
            store: self.store,
            session,
            accepting: FuturesUnordered::new(),
            under_way: HashSet::new(),
            syncing: VecDeque::new(),
            front: None,
            outbox: Vec::new(),
            bytes: self.bytes,
            times: self.times,
        };
        let mut is_stopped = false;
        if is_open {
            calls.take(first_calls);
            is_stopped = calls.exchange(&mut requests, &replies, &self.stop).await;
        }
        calls.complete().await;
        if is_stopped {
            let _ = replies.send(Err(stopping())).await;
        }
    }

    /// Opens the session that the first message names, and returns that message with its calls.
    async fn open(
        &self,
        requests: &mut Streaming<AppendRequest>,
    ) -> Result<(OpenSession, AppendRequest), Status> {
        let missing = || Status::invalid_argument("the first message of a stream opens a session");
        let first = timeout(OPEN_TIME, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no message came in time"))??;
        let mut first = first.ok_or_else(missing)?;
        let open = first.open.take().ok_or_else(missing)?;
        let was = open.identity.map(wire::identity_of).transpose();
        if let Some(was) = was.map_err(|error| Status::invalid_argument(error.to_string()))? {
            let is = self.store.identity();
            if is != was {
                let changed = diptych::store::HistoryChanged { was, is };
                let changed = diptych::store::Unavailable::HistoryChanged(changed);
                return Err(wire::status(&failure(&self.store, &changed)));
            }
        }
        let id = Uuid::from_slice(&open.session)
            .map_err(|_| Status::invalid_argument("the id of a session has 16 bytes"))?;
        // The older stream ends by itself once it has its outcomes, however slow its client is.
        let session = self.sessions.open(id).await;
        let full = || Status::resource_exhausted("the server has too many sessions with streams");
        Ok((session.ok_or_else(full)?, first))
    }
}

/// The end of a stream whose client may have sent calls that the server does not read.
fn stopping() -> Status {
    Status::unavailable(
        "the server stops and reads no further calls: connect again, open the session again, and \
         send the calls without an outcome again",
    )
}

/// The reply to a call whose number cannot be used.
fn refused(store: &Store, number: u64, problem: &'static str) -> CallReply {
    let failure = failure(store, &wire::MessageError::new(problem));
    CallReply { number, outcome: Some(call_reply::Outcome::Failure(failure)) }
}

fn failure(store: &Store, cause: &impl FailureCause) -> Failure {
    wire::failure_of(cause, store.head().position())
}

/// The replies to a call whose commit is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CallAnswer {
    /// Once it is accepted, and once it is synced.
    Both,
    /// Once it is synced, with its place.
    Synced,
}

impl CallAnswer {
    fn of(synced_only: bool) -> CallAnswer {
        if synced_only { CallAnswer::Synced } else { CallAnswer::Both }
    }
}

/// The answer of the store to a call.
struct AnsweredCall {
    number: u64,
    answer: CallAnswer,
    accepted: Result<AcceptedCommit, AppendError>,
}

/// An accepted commit that is not synced.
struct SyncingCall {
    number: u64,
    answer: CallAnswer,
    place: Accepted,
    sync: CommitSync,
}

/// The calls of one stream.
struct RunningCalls {
    store: Store,
    session: OpenSession,
    /// Calls that the store has not accepted yet.
    accepting: FuturesUnordered<Accepting>,
    /// Their numbers.
    under_way: HashSet<u64>,
    /// Accepted commits that are not synced, in the order in which they were accepted.
    syncing: VecDeque<SyncingCall>,
    /// Waits for the first of them.
    front: Option<Syncing>,
    /// Replies that wait for the connection.
    outbox: Vec<CallReply>,
    /// The bytes of the appends of all streams.
    bytes: Arc<AppendBytes>,
    times: AppendTimes,
}

impl RunningCalls {
    /// Takes calls and sends outcomes until the client, the server, or a newer stream ends it.
    /// Answers whether the server stopped, and the client got the outcome of each call that was
    /// read: it may have sent others.
    async fn exchange(
        &mut self,
        requests: &mut Streaming<AppendRequest>,
        replies: &Replies,
        stop: &Stop,
    ) -> bool {
        let mut superseded = std::pin::pin!(self.session.superseded());
        let mut stopping = std::pin::pin!(stop.begun());
        let (mut is_reading, mut is_stopped) = (true, false);
        loop {
            self.collect();
            let waiting = self.accepting.len() + self.syncing.len();
            if !is_reading && waiting == 0 && self.outbox.is_empty() {
                return is_stopped;
            }
            let has_bytes = self.bytes.have_room();
            let has_room = has_bytes && waiting + self.outbox.len() < STREAM_CALLS;
            if self.session.calls.outcomes.len() >= STREAM_OUTCOMES {
                let unsettled = "the client does not tell which outcomes it has (`settled`)";
                drop(replies.try_send(Err(Status::resource_exhausted(unsettled))));
                return false;
            }
            tokio::select! {
                request = requests.message(), if is_reading && has_room => match request {
                    Ok(Some(_)) if stop.has_begun() => {
                        (is_reading, is_stopped) = (false, true);
                    }
                    Ok(Some(request)) => self.take(request),
                    Ok(None) => is_reading = false,
                    Err(status) => {
                        drop(replies.try_send(Err(status)));
                        return false;
                    }
                },
                Some(answered) = self.accepting.next(), if !self.accepting.is_empty() => {
                    self.waited(answered);
                }
                synced = async {
                    match &mut self.front {
                        Some(front) => front.await,
                        None => std::future::pending().await,
                    }
                }, if self.front.is_some() => self.front_synced(synced),
                place = replies.reserve(), if !self.outbox.is_empty() => {
                    let Ok(place) = place else { return false };
                    let replies = std::mem::take(&mut self.outbox);
                    // The head is read after the outcomes, so it covers them.
                    let head = self.store.head().position().get();
                    let reply = AppendReply { replies, head, ..AppendReply::default() };
                    place.send(Ok(reply));
                }
                () = self.bytes.room(), if is_reading && !has_bytes => {}
                () = replies.closed() => return false,
                () = &mut superseded => return false,
                () = &mut stopping, if is_reading => {
                    (is_reading, is_stopped) = (false, true);
                }
            }
        }
    }

    /// Collects everything that is ready now, so that it goes into one message.
    fn collect(&mut self) {
        while let Some(Some(answered)) = self.accepting.next().now_or_never() {
            self.waited(answered);
        }
        while self.syncing.front().is_some_and(|call| call.sync.is_done()) {
            self.front_synced(Ok(()));
        }
    }

    fn take(&mut self, request: AppendRequest) {
        self.session.calls.settle(request.settled);
        let limits = self.store.limits();
        for call in request.calls {
            let (number, answer) = (call.number, CallAnswer::of(call.synced_only));
            if self.answer_again(number, answer) || self.under_way.contains(&number) {
                continue;
            }
            if self.session.calls.is_settled(number) {
                let problem = "its number is not above those that the client has settled";
                self.outbox.push(refused(&self.store, number, problem));
                continue;
            }
            let held = self.bytes.hold(&call);
            match self.append_of(call, &limits) {
                Ok(append) => {
                    let store = self.store.clone();
                    let answered = async move {
                        let _held = held;
                        let accepted = store.append(append).await;
                        AnsweredCall { number, answer, accepted }
                    };
                    self.offer(number, Box::pin(answered));
                }
                Err(error) => self.failed(number, failure(&self.store, &error)),
            }
        }
    }

    fn append_of(&self, call: Call, limits: &Limits) -> Result<Append, RequestError> {
        let append = wire::append_of(call, limits)?;
        self.times.check(&append)?;
        Ok(append)
    }

    /// Gives a call to the store. A store that answers at once, as a log with room for the commit,
    /// is asked here. A call behind others that wait keeps its place.
    fn offer(&mut self, number: u64, mut call: Accepting) {
        let answered = match self.accepting.is_empty() {
            true => (&mut call).now_or_never(),
            false => None,
        };
        match answered {
            Some(answered) => self.accepted(answered),
            None => {
                self.under_way.insert(number);
                self.accepting.push(call);
            }
        }
    }

    /// Takes the answer to a call that has waited for the store.
    fn waited(&mut self, answered: AnsweredCall) {
        self.under_way.remove(&answered.number);
        self.accepted(answered);
    }

    /// Sends the outcome of a call that was executed before. Returns whether it was.
    fn answer_again(&mut self, number: u64, answer: CallAnswer) -> bool {
        match self.session.calls.outcomes.get(&number) {
            Some(CallOutcome::Failed(failure)) => {
                let outcome = Some(call_reply::Outcome::Failure(failure.clone()));
                self.outbox.push(CallReply { number, outcome });
            }
            Some(outcome @ CallOutcome::Accepted { sync, .. }) => {
                let (Some(place), sync) = (outcome.accepted(), sync.clone()) else { return false };
                self.answer_accepted(SyncingCall { number, answer, place, sync });
            }
            None => return false,
        }
        true
    }

    /// Sends the place of an accepted commit, now or once it is synced.
    fn answer_accepted(&mut self, call: SyncingCall) {
        let SyncingCall { number, answer, place, .. } = call;
        if !place.synced {
            self.syncing.push_back(call);
            self.wait_for_front();
            if answer == CallAnswer::Synced {
                return;
            }
        }
        let outcome = Some(call_reply::Outcome::Accepted(place));
        self.outbox.push(CallReply { number, outcome });
    }

    fn accepted(&mut self, AnsweredCall { number, answer, accepted }: AnsweredCall) {
        match accepted {
            Ok(AcceptedCommit { first, last, recorded_at, sync }) => {
                let kept = CallOutcome::Accepted { first, last, recorded_at, sync: sync.clone() };
                if let Some(place) = kept.accepted() {
                    self.answer_accepted(SyncingCall { number, answer, place, sync });
                }
                self.session.calls.outcomes.insert(number, kept);
            }
            Err(error) => self.failed(number, failure(&self.store, &error)),
        }
    }

    fn failed(&mut self, number: u64, failure: Failure) {
        let outcome = Some(call_reply::Outcome::Failure(failure.clone()));
        self.session.calls.outcomes.insert(number, CallOutcome::Failed(failure));
        self.outbox.push(CallReply { number, outcome });
    }

    fn wait_for_front(&mut self) {
        if self.front.is_none() {
            let front = self.syncing.front().map(|call| call.sync.clone());
            self.front = front.map(|sync| Box::pin(sync.wait()) as Syncing);
        }
    }

    fn front_synced(&mut self, synced: Result<(), SyncError>) {
        self.front = None;
        // The store keeps the commit, and writes it when there is room again.
        if let (Err(SyncError { cause: Unavailable::Storage { .. } }), Some(call)) =
            (&synced, self.syncing.front())
        {
            let sync = call.sync.clone();
            self.front = Some(Box::pin(async move {
                sleep(WRITE_PAUSE).await;
                sync.wait().await
            }));
            return;
        }
        if let Some(SyncingCall { number, answer, place, .. }) = self.syncing.pop_front() {
            let outcome = match (synced, answer) {
                (Ok(()), CallAnswer::Both) => call_reply::Outcome::Synced(Synced {}),
                (Ok(()), CallAnswer::Synced) => {
                    call_reply::Outcome::Accepted(Accepted { synced: true, ..place })
                }
                (Err(error), _) => {
                    let failure = failure(&self.store, &error);
                    let kept = CallOutcome::Failed(failure.clone());
                    self.session.calls.outcomes.insert(number, kept);
                    call_reply::Outcome::Failure(failure)
                }
            };
            self.outbox.push(CallReply { number, outcome: Some(outcome) });
        }
        self.wait_for_front();
    }

    /// Waits until the store has answered every call. The session keeps the outcomes.
    async fn complete(mut self) {
        while let Some(answered) = self.accepting.next().await {
            self.outbox.clear();
            self.waited(answered);
        }
        // The server does not stop before they are durable.
        while let Some(call) = self.syncing.pop_front() {
            let _ = call.sync.wait().await;
        }
        self.session.calls.complete();
    }
}
