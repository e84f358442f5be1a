//! The stream of a session: calls come in, outcomes go out.
//!
//! The calls of a stream are given to the store in their order. Many can be under way. When a
//! stream ends, however it ends, the calls that the store has are awaited, and their outcomes are
//! kept in the session.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use diptych::store::{AcceptedCommit, AppendError, CommitSync, Store, SyncError, Unavailable};
use diptych_remote::wire::{
    self, FailureCause,
    messages::{
        Accepted, AppendReply, AppendRequest, CallReply, Failure, SessionOpened, Synced, call_reply,
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
    door::stop::{RunningCommand, Stop},
    hinge::sessions::{CallOutcome, OpenSession, Sessions},
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
type Accepting = Pin<Box<dyn Future<Output = (u64, Result<AcceptedCommit, AppendError>)> + Send>>;
type Syncing = Pin<Box<dyn Future<Output = Result<(), SyncError>> + Send>>;

/// The parts of the server that a stream of appends uses.
pub(crate) struct AppendStream {
    pub(crate) store: Store,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) instance: Uuid,
    pub(crate) stop: Stop,
}

impl AppendStream {
    /// Serves the stream until it ends.
    pub(crate) async fn run(self, mut requests: Streaming<AppendRequest>, replies: Replies) {
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
            under_way: HashMap::new(),
            syncing: VecDeque::new(),
            front: None,
            outbox: Vec::new(),
            _running: self.stop.command(),
        };
        if is_open {
            calls.take(first_calls);
            calls.exchange(&mut requests, &replies, &self.stop).await;
        }
        calls.complete().await;
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

/// The calls of one stream.
struct RunningCalls {
    store: Store,
    session: OpenSession,
    /// Calls that the store has not accepted yet.
    accepting: FuturesUnordered<Accepting>,
    /// Their numbers, and when each has its reply.
    under_way: HashMap<u64, CallAnswer>,
    /// Accepted commits that are not synced, in the order in which they were accepted.
    syncing: VecDeque<(u64, CallAnswer, CommitSync)>,
    /// Waits for the first of them.
    front: Option<Syncing>,
    /// Replies that wait for the connection.
    outbox: Vec<CallReply>,
    _running: RunningCommand,
}

impl RunningCalls {
    /// Takes calls and sends outcomes until the client, the server, or a newer stream ends it.
    async fn exchange(
        &mut self,
        requests: &mut Streaming<AppendRequest>,
        replies: &Replies,
        stop: &Stop,
    ) {
        let mut superseded = std::pin::pin!(self.session.superseded());
        let mut stopping = std::pin::pin!(stop.begun());
        let mut is_reading = true;
        loop {
            self.collect();
            let waiting = self.accepting.len() + self.syncing.len();
            if !is_reading && waiting == 0 && self.outbox.is_empty() {
                return;
            }
            let has_room = waiting + self.outbox.len() < STREAM_CALLS;
            if self.session.calls.outcomes.len() >= STREAM_OUTCOMES {
                let unsettled = "the client does not tell which outcomes it has (`settled`)";
                return drop(replies.try_send(Err(Status::resource_exhausted(unsettled))));
            }
            tokio::select! {
                request = requests.message(), if is_reading && has_room => match request {
                    Ok(Some(request)) => self.take(request),
                    Ok(None) => is_reading = false,
                    Err(status) => return drop(replies.try_send(Err(status))),
                },
                Some((number, accepted)) = self.accepting.next(), if !self.accepting.is_empty() => {
                    self.accepted(number, accepted);
                }
                synced = async {
                    match &mut self.front {
                        Some(front) => front.await,
                        None => std::future::pending().await,
                    }
                }, if self.front.is_some() => self.front_synced(synced),
                place = replies.reserve(), if !self.outbox.is_empty() => {
                    let Ok(place) = place else { return };
                    let replies = std::mem::take(&mut self.outbox);
                    // The head is read after the outcomes, so it covers them.
                    let head = self.store.head().position().get();
                    let reply = AppendReply { replies, head, ..AppendReply::default() };
                    place.send(Ok(reply));
                }
                () = replies.closed() => return,
                () = &mut superseded => return,
                () = &mut stopping, if is_reading => is_reading = false,
            }
        }
    }

    /// Collects everything that is ready now, so that it goes into one message.
    fn collect(&mut self) {
        while let Some(Some((number, accepted))) = self.accepting.next().now_or_never() {
            self.accepted(number, accepted);
        }
        while self.syncing.front().is_some_and(|(.., sync)| sync.is_done()) {
            self.front_synced(Ok(()));
        }
    }

    fn take(&mut self, request: AppendRequest) {
        self.session.calls.settle(request.settled);
        let limits = self.store.limits();
        for call in request.calls {
            let (number, answer) = (call.number, CallAnswer::of(call.synced_only));
            if self.answer_again(number, answer) || self.under_way.contains_key(&number) {
                continue;
            }
            if self.session.calls.is_settled(number) {
                let problem = "its number is not above those that the client has settled";
                self.outbox.push(refused(&self.store, number, problem));
                continue;
            }
            match wire::append_of(call, &limits) {
                Ok(append) => {
                    self.under_way.insert(number, answer);
                    let store = self.store.clone();
                    let accepted = async move { (number, store.append(append).await) };
                    self.offer(Box::pin(accepted));
                }
                Err(error) => self.failed(number, failure(&self.store, &error)),
            }
        }
    }

    /// Gives a call to the store. A store that answers at once, as a log with room for the commit,
    /// is asked here. A call behind others that wait keeps its place.
    fn offer(&mut self, mut accepted: Accepting) {
        let answer = match self.accepting.is_empty() {
            true => (&mut accepted).now_or_never(),
            false => None,
        };
        match answer {
            Some((number, accepted)) => self.accepted(number, accepted),
            None => self.accepting.push(accepted),
        }
    }

    /// Sends the outcome of a call that was executed before. Returns whether it was.
    fn answer_again(&mut self, number: u64, answer: CallAnswer) -> bool {
        let outcome = match self.session.calls.outcomes.get(&number) {
            Some(CallOutcome::Failed(failure)) => call_reply::Outcome::Failure(failure.clone()),
            Some(outcome @ CallOutcome::Accepted { sync, .. }) => {
                let Some(accepted) = outcome.accepted() else { return false };
                if !accepted.synced {
                    self.syncing.push_back((number, answer, sync.clone()));
                    self.wait_for_front();
                    if answer == CallAnswer::Synced {
                        return true;
                    }
                }
                call_reply::Outcome::Accepted(accepted)
            }
            None => return false,
        };
        self.outbox.push(CallReply { number, outcome: Some(outcome) });
        true
    }

    fn accepted(&mut self, number: u64, accepted: Result<AcceptedCommit, AppendError>) {
        let answer = self.under_way.remove(&number).unwrap_or(CallAnswer::Both);
        match accepted {
            Ok(AcceptedCommit { first, last, recorded_at, sync }) => {
                let outcome = CallOutcome::Accepted { first, last, recorded_at, sync };
                self.session.calls.outcomes.insert(number, outcome);
                self.answer_again(number, answer);
            }
            Err(error) => self.failed(number, failure(&self.store, &error)),
        }
    }

    fn failed(&mut self, number: u64, failure: Failure) {
        self.session.calls.outcomes.insert(number, CallOutcome::Failed(failure));
        self.answer_again(number, CallAnswer::Both);
    }

    fn wait_for_front(&mut self) {
        if self.front.is_none() {
            let front = self.syncing.front().map(|(.., sync)| sync.clone());
            self.front = front.map(|sync| Box::pin(sync.wait()) as Syncing);
        }
    }

    fn front_synced(&mut self, synced: Result<(), SyncError>) {
        self.front = None;
        // The store keeps the commit, and writes it when there is room again.
        if let (Err(SyncError { cause: Unavailable::Storage { .. } }), Some((.., sync))) =
            (&synced, self.syncing.front())
        {
            let sync = sync.clone();
            self.front = Some(Box::pin(async move {
                sleep(WRITE_PAUSE).await;
                sync.wait().await
            }));
            return;
        }
        if let Some((number, answer, _)) = self.syncing.pop_front() {
            let outcome = match synced {
                Ok(()) => self.synced(number, answer),
                Err(error) => {
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

    /// The reply to a call whose commit is synced.
    fn synced(&self, number: u64, answer: CallAnswer) -> call_reply::Outcome {
        let place = match answer {
            CallAnswer::Synced => {
                self.session.calls.outcomes.get(&number).and_then(CallOutcome::accepted)
            }
            CallAnswer::Both => None,
        };
        match place {
            Some(place) => call_reply::Outcome::Accepted(Accepted { synced: true, ..place }),
            None => call_reply::Outcome::Synced(Synced {}),
        }
    }

    /// Waits until the store has answered every call. The session keeps the outcomes.
    async fn complete(mut self) {
        while let Some((number, accepted)) = self.accepting.next().await {
            self.outbox.clear();
            self.accepted(number, accepted);
        }
        // The server does not stop before they are durable.
        while let Some((.., sync)) = self.syncing.pop_front() {
            let _ = sync.wait().await;
        }
        self.session.calls.complete();
    }
}
