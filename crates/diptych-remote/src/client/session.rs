//! The session through which all appends of a store go.
//!
//! Appends go out in their order, many in one message, and their answers come back in any order. A
//! session outlives its connection. When a new one is there, every append without an outcome is
//! sent again: the server executes each number once. A server that was started in between knows
//! nothing of the session, and then the log tells what became of each.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use diptych_store::{
    AcceptedCommit, AppendError, CommitNumber, CommitSync, Head, HeadPublisher, Position,
    ReadError, SyncError, Timestamp, Unavailable,
};
use futures_util::stream;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::{
    client::{
        AppendAnswer,
        link::{Link, Pauses, Trouble},
        pending::{AppendJob, SessionOrder},
        resolve::{self, CommitPlace, Finding},
    },
    wire::{
        self,
        messages::{AppendReply, AppendRequest, CallReply, OpenSession, SessionOpened, call_reply},
    },
};

/// The most calls of one message.
const MESSAGE_CALLS: usize = 512;
/// A message takes no further call once it has this size.
const MESSAGE_BYTES: usize = 1 << 20;
/// Messages that wait for the connection. Calls behind them are gathered into one message.
const WAITING_MESSAGES: usize = 2;

/// Runs the session until all handles are dropped.
pub(crate) async fn run(link: Arc<Link>, mut orders: mpsc::UnboundedReceiver<SessionOrder>) {
    let mut session = Session {
        link,
        id: Uuid::new_v4(),
        last_number: 0,
        queued: VecDeque::new(),
        sent: BTreeMap::new(),
        syncs: SyncLine::new(),
        closing: Vec::new(),
        lost: None,
        instance: Vec::new(),
    };
    loop {
        session.close_if_settled();
        if session.is_settled() {
            match orders.recv().await {
                Some(order) => session.take(order),
                None => return,
            }
            continue;
        }
        match session.serve(&mut orders).await {
            StreamEnd::HandlesAreGone => return,
            StreamEnd::Connection => {}
        }
    }
}

/// Why a connection is no longer used.
enum StreamEnd {
    HandlesAreGone,
    Connection,
}

struct Session {
    link: Arc<Link>,
    id: Uuid,
    /// The number of the last call that was sent.
    last_number: u64,
    /// Calls that were never sent.
    queued: VecDeque<AppendJob>,
    /// Calls without an outcome, by number.
    sent: BTreeMap<u64, SentCall>,
    syncs: SyncLine,
    closing: Vec<oneshot::Sender<Result<(), SyncError>>>,
    /// The failure of an accepted commit.
    lost: Option<SyncError>,
    /// The server that has the session.
    instance: Vec<u8>,
}

/// A call that was sent.
struct SentCall {
    job: AppendJob,
    /// Its place, once it is accepted.
    place: Option<CommitPlace>,
}

impl SentCall {
    /// Whether the caller knows the place of a commit that is not synced. Its next decisions can
    /// rest on the commit.
    fn is_known(&self) -> bool {
        self.job.is_answered() && self.place.is_some()
    }
}

/// The open stream of a session.
struct OpenStream {
    requests: mpsc::Sender<AppendRequest>,
    replies: Streaming<AppendReply>,
}

impl Session {
    fn is_settled(&self) -> bool {
        self.queued.is_empty() && self.sent.is_empty()
    }

    fn take(&mut self, order: SessionOrder) {
        match order {
            SessionOrder::Append(mut job) => match self.link.failed() {
                Some(why) => job.answer(Err(why.into())),
                None => self.queued.push_back(*job),
            },
            SessionOrder::Close(reply) => self.closing.push(reply),
        }
    }

    fn close_if_settled(&mut self) {
        if self.is_settled() {
            for reply in self.closing.drain(..) {
                let _ = reply.send(self.lost.clone().map_or(Ok(()), Err));
            }
        }
    }

    /// Connects, and serves until the connection is lost.
    async fn serve(&mut self, orders: &mut mpsc::UnboundedReceiver<SessionOrder>) -> StreamEnd {
        let Some((stream, opened)) = self.connect().await else { return StreamEnd::Connection };
        let is_same_server = self.instance == opened.instance;
        self.instance = opened.instance;
        if !opened.resumed && !self.sent.is_empty() {
            // A server that runs and has forgotten the session may still execute its calls.
            let is_settled = if is_same_server { self.forgotten() } else { self.resolve().await };
            if !is_settled {
                return StreamEnd::Connection;
            }
        }
        self.exchange(stream, orders).await
    }

    /// Opens a stream. Once the time is over, everything that waits gets an error.
    async fn connect(&mut self) -> Option<(OpenStream, SessionOpened)> {
        let deadline = Instant::now() + self.link.options().answer_time;
        let mut pauses = Pauses::new();
        loop {
            let trouble = match timeout_at(deadline, self.open()).await {
                Ok(Ok(opened)) => return Some(opened),
                Ok(Err(status)) => self.link.why(status),
                Err(_) => Trouble::Connection(Status::deadline_exceeded("no answer in time")),
            };
            match trouble {
                Trouble::Final(error) => {
                    self.fail(unavailable(error));
                    return None;
                }
                Trouble::Connection(status) if Instant::now() + pauses.next() >= deadline => {
                    self.fail(Unavailable::Backend(Arc::new(status)));
                    return None;
                }
                Trouble::Connection(_) => pauses.wait().await,
            }
        }
    }

    async fn open(&self) -> Result<(OpenStream, SessionOpened), Status> {
        let (requests, waiting) = mpsc::channel::<AppendRequest>(WAITING_MESSAGES);
        let open = OpenSession {
            session: self.id.as_bytes().to_vec(),
            identity: Some(wire::identity_message(self.link.identity())),
        };
        let first = AppendRequest { open: Some(open), ..AppendRequest::default() };
        let closed = |_| Status::unavailable("the stream ended before it was used");
        requests.send(first).await.map_err(closed)?;
        let messages = stream::unfold(waiting, async |mut waiting| {
            let message = waiting.recv().await?;
            Some((message, waiting))
        });
        let mut replies = self.link.caller().append(messages).await?.into_inner();
        let reply = replies.message().await?;
        let opened = reply.and_then(|reply| reply.opened);
        let opened = opened.ok_or_else(|| Status::unavailable("the stream was not opened"))?;
        Ok((OpenStream { requests, replies }, opened))
    }

    /// Finds out what became of each call that was sent to a server that has ended. Returns whether
    /// all are found out.
    async fn resolve(&mut self) -> bool {
        let numbers: Vec<u64> = self.sent.keys().copied().collect();
        for number in numbers {
            let Some(mut sent) = self.sent.remove(&number) else { continue };
            let found = match sent.place {
                Some(place) => {
                    let is_kept = resolve::is_kept(&self.link, &sent.job.trace, &place).await;
                    is_kept.map(|is_kept| match is_kept {
                        true => Finding::Made(place),
                        false => Finding::NotMade,
                    })
                }
                None => resolve::find(&self.link, &sent.job.trace).await,
            };
            match found {
                Ok(Finding::Made(place)) => {
                    self.link.advance(place.last);
                    self.accept(number, &mut sent, place);
                    self.synced(number, &mut sent);
                }
                // Decisions can rest on the lost commit, and its positions will have other events.
                Ok(Finding::NotMade) if sent.is_known() => self.unknown(&mut sent, lost()),
                Ok(Finding::NotMade) => {
                    sent.place = None;
                    self.sent.insert(number, sent);
                }
                Ok(Finding::Unknown) => self.unknown(&mut sent, server_ended()),
                Err(error) => {
                    self.sent.insert(number, sent);
                    self.fail(unavailable(error));
                    return false;
                }
            }
        }
        true
    }

    /// The server has forgotten the session, and nothing tells what becomes of its calls.
    fn forgotten(&mut self) -> bool {
        for (_, mut sent) in std::mem::take(&mut self.sent) {
            let status = Status::aborted("the server has forgotten the session");
            self.unknown(&mut sent, Unavailable::Backend(Arc::new(status)));
        }
        true
    }

    /// The outcome of this call stays unknown.
    fn unknown(&mut self, sent: &mut SentCall, cause: Unavailable) {
        let error = SyncError { cause: cause.clone() };
        if sent.is_known() {
            self.lost.get_or_insert_with(|| error.clone());
            self.syncs.fail(cause.clone());
            self.link.fail(cause);
        }
        sent.job.answer(Err(error.into()));
    }

    /// Nothing can be sent for now: whatever waits gets an error.
    fn fail(&mut self, cause: Unavailable) {
        for mut job in std::mem::take(&mut self.queued) {
            job.answer(Err(cause.clone().into()));
        }
        for (_, mut sent) in std::mem::take(&mut self.sent) {
            self.unknown(&mut sent, cause.clone());
        }
        // The server may still have calls of the old session. Their callers have an answer.
        self.id = Uuid::new_v4();
    }

    /// Sends calls and takes replies until the connection is lost.
    async fn exchange(
        &mut self,
        mut stream: OpenStream,
        orders: &mut mpsc::UnboundedReceiver<SessionOrder>,
    ) -> StreamEnd {
        let mut again: VecDeque<u64> = self.sent.keys().copied().collect();
        loop {
            if let Some(why) = self.link.failed() {
                self.fail(why);
                return StreamEnd::Connection;
            }
            self.close_if_settled();
            let has_calls = !again.is_empty() || !self.queued.is_empty();
            tokio::select! {
                reply = stream.replies.message() => match reply {
                    Ok(Some(reply)) => self.replied(reply),
                    Ok(None) => return StreamEnd::Connection,
                    Err(status) => {
                        // A final answer is found again when the next stream is opened.
                        let _ = self.link.why(status);
                        return StreamEnd::Connection;
                    }
                },
                order = orders.recv() => match order {
                    Some(order) => self.take(order),
                    None => return StreamEnd::HandlesAreGone,
                },
                place = stream.requests.reserve(), if has_calls => {
                    let Ok(place) = place else { return StreamEnd::Connection };
                    while let Ok(order) = orders.try_recv() {
                        self.take(order);
                    }
                    place.send(self.next_message(&mut again));
                }
            }
        }
    }

    /// The next message: calls that are sent again, then those that were never sent.
    fn next_message(&mut self, again: &mut VecDeque<u64>) -> AppendRequest {
        let settled = self.sent.keys().next().map_or(self.last_number, |first| first - 1);
        let mut message = AppendRequest { settled, ..AppendRequest::default() };
        let mut bytes = 0;
        while message.calls.len() < MESSAGE_CALLS && bytes < MESSAGE_BYTES {
            let call = if let Some(number) = again.pop_front() {
                let Some(sent) = self.sent.get(&number) else { continue };
                sent.job.call.clone()
            } else if let Some(mut job) = self.queued.pop_front() {
                self.last_number += 1;
                job.call.number = self.last_number;
                // The bytes of the events are shared, not copied.
                let call = job.call.clone();
                self.sent.insert(self.last_number, SentCall { job, place: None });
                call
            } else {
                break;
            };
            bytes += call.encoded.as_ref().map_or(0, |encoded| encoded.bytes.len());
            message.calls.push(call);
        }
        message
    }

    fn replied(&mut self, reply: AppendReply) {
        // The head is shown first, so that a caller reads its own write.
        self.link.advance(Position::new(reply.head));
        for CallReply { number, outcome } in reply.replies {
            let Some(outcome) = outcome else { continue };
            let Some(mut sent) = self.sent.remove(&number) else { continue };
            match outcome {
                call_reply::Outcome::Accepted(accepted) => {
                    let place = CommitPlace {
                        first: accepted.first.into(),
                        last: accepted.last.into(),
                        recorded_at: Timestamp::from_micros(accepted.recorded_at),
                    };
                    self.accept(number, &mut sent, place);
                    match accepted.synced {
                        true => self.synced(number, &mut sent),
                        false => drop(self.sent.insert(number, sent)),
                    }
                }
                call_reply::Outcome::Synced(_) => self.synced(number, &mut sent),
                call_reply::Outcome::Failure(failure) => {
                    let error = wire::as_append_error(failure, self.link.identity());
                    let error = error.unwrap_or_else(|error| {
                        Unavailable::Server { what: error.to_string().into() }.into()
                    });
                    self.failed(&mut sent, error);
                }
            }
        }
    }

    /// Notes the place of an accepted commit, and answers a caller that waits only for that.
    fn accept(&mut self, number: u64, sent: &mut SentCall, place: CommitPlace) {
        if sent.place.is_some() {
            return;
        }
        sent.place = Some(place);
        if self.link.options().append_answer == AppendAnswer::Accepted {
            let sync = self.syncs.enter(number);
            sent.job.answer(Ok(accepted(place, sync)));
        }
    }

    /// Publishes a synced commit, and answers a caller that waits for that.
    fn synced(&mut self, number: u64, sent: &mut SentCall) {
        if let (Some(place), false) = (sent.place, sent.job.is_answered()) {
            let sync = self.syncs.enter(number);
            self.syncs.synced(number);
            sent.job.answer(Ok(accepted(place, sync)));
        } else {
            self.syncs.synced(number);
        }
    }

    fn failed(&mut self, sent: &mut SentCall, error: AppendError) {
        match (error, sent.place) {
            (AppendError::OutcomeUnknown(SyncError { cause }), _) => self.unknown(sent, cause),
            (AppendError::Unavailable(cause), Some(_)) => self.unknown(sent, cause),
            (error, _) => sent.job.answer(Err(error)),
        }
    }
}

fn accepted(place: CommitPlace, sync: CommitSync) -> AcceptedCommit {
    let CommitPlace { first, last, recorded_at } = place;
    AcceptedCommit { first, last, recorded_at, sync }
}

fn unavailable(error: ReadError) -> Unavailable {
    match error {
        ReadError::Unavailable(unavailable) => unavailable,
        other => Unavailable::Server { what: other.to_string().into() },
    }
}

/// Why a store ends whose server lost commits.
fn lost() -> Unavailable {
    let reason = "its server ended, and lost commits that it had accepted and not synced";
    Unavailable::Failed { reason: reason.into() }
}

fn server_ended() -> Unavailable {
    let status = Status::aborted("the server ended before it answered");
    Unavailable::Backend(Arc::new(status))
}

/// The accepted commits, in the order in which they were accepted. A caller waits for the sync of
/// its commit by a number of this line.
struct SyncLine {
    publisher: HeadPublisher,
    last: u64,
    /// The commits that are not published: the number of the call, and whether it is synced.
    waiting: VecDeque<(u64, bool)>,
}

impl SyncLine {
    fn new() -> SyncLine {
        let publisher = HeadPublisher::new(Position::START);
        SyncLine { publisher, last: 0, waiting: VecDeque::new() }
    }

    fn enter(&mut self, number: u64) -> CommitSync {
        self.last += 1;
        self.waiting.push_back((number, false));
        let head: Head = self.publisher.head();
        CommitSync::new(CommitNumber(self.last), head)
    }

    fn synced(&mut self, number: u64) {
        if let Some(place) = self.waiting.iter_mut().find(|place| place.0 == number) {
            place.1 = true;
        }
        while self.waiting.front().is_some_and(|place| place.1) {
            self.waiting.pop_front();
        }
        let published = self.last - self.waiting.len() as u64;
        self.publisher.publish(Position::START, CommitNumber(published));
    }

    /// Fails all waits for commits of the line. Later commits are in a new one.
    fn fail(&mut self, cause: Unavailable) {
        let failed = std::mem::replace(self, SyncLine::new());
        failed.publisher.end(cause);
    }
}
