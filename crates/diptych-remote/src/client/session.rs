//! The session through which all appends of a store go.
//!
//! Appends go out in their order, many in one message, and their answers come back in any order. A
//! session outlives its connection. When a new one is there, every append without an outcome is
//! sent again: the server executes each number once. A server that was started in between knows
//! nothing of the session, and then the log tells what became of each.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use diptych_store::{
    AcceptedCommit, AppendError, CommitSync, HistoryChanged, LogIdentity, ReadError, SyncError,
    Unavailable,
};
use futures_util::{StreamExt, stream};
use prost::Message;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout_at},
};
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::{
    client::{
        AppendAnswer,
        checks::{self, CommitPlace, Contradiction},
        link::{CallOrigin, History, Link, LogCaller, Pauses, Trouble},
        pending::{AppendJob, CommitTrace, DueAnswer, SessionOrder},
        resolve::{self, Finding},
        sync_line::SyncLine,
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
/// The most calls that are looked for at one time after a restart of the server.
const SEARCHES: usize = 32;
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
        deadlines: VecDeque::new(),
        syncs: SyncLine::new(),
        closing: Vec::new(),
        lost: None,
        instance: Vec::new(),
        entry: Vec::new(),
        pauses: Pauses::new(),
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
            // A server that takes calls and answers none is not asked in a loop.
            StreamEnd::Connection => session.pauses.wait().await,
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
    queued: VecDeque<Box<AppendJob>>,
    /// Calls without an outcome, by number.
    sent: BTreeMap<u64, SentCall>,
    /// When the callers of sent calls stop waiting, in the order of the numbers.
    deadlines: VecDeque<(Instant, u64)>,
    syncs: SyncLine,
    closing: Vec<oneshot::Sender<Result<(), SyncError>>>,
    /// The failure of an accepted commit.
    lost: Option<SyncError>,
    /// The server of the last stream.
    instance: Vec<u8>,
    /// The memory that this server had of the session.
    entry: Vec<u8>,
    /// Grows until the server gives an outcome.
    pauses: Pauses,
}

/// A call that was sent.
struct SentCall {
    /// Boxed, because it moves with each reply.
    job: Box<AppendJob>,
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
    /// The history that the server agreed to.
    history: History,
    origin: CallOrigin,
    opened: SessionOpened,
    requests: mpsc::Sender<AppendRequest>,
    replies: Streaming<AppendReply>,
}

impl Session {
    fn is_settled(&self) -> bool {
        self.queued.is_empty() && self.sent.is_empty()
    }

    fn take(&mut self, order: SessionOrder) {
        match order {
            SessionOrder::Append(mut job) => match self.link.closed() {
                Some(why) => job.answer(Err(why.into())),
                None => self.queued.push_back(job),
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
        let Some(stream) = self.connect().await else { return StreamEnd::Connection };
        self.leave_other_histories(stream.history.identity);
        let SessionOpened { resumed, instance, entry, .. } = &stream.opened;
        // Another entry knows nothing of the calls, also if an earlier stream opened it.
        let is_resumed = *resumed && !entry.is_empty() && *entry == self.entry;
        let is_same_server = *instance == self.instance;
        (self.instance, self.entry) = (instance.clone(), entry.clone());
        if !is_resumed && !self.sent.is_empty() {
            // A server that runs and has forgotten the session may still execute its calls.
            match is_same_server {
                true => self.forgotten(),
                false if self.resolve(&stream.history).await => {}
                false => return StreamEnd::Connection,
            }
        }
        self.exchange(stream, orders).await
    }

    /// Opens a stream. Calls whose time is over get an error meanwhile.
    async fn connect(&mut self) -> Option<OpenStream> {
        let mut pauses = Pauses::new();
        loop {
            let next = self.next_deadline();
            let patience = Instant::now() + self.link.options().connect_time;
            let trouble = match timeout_at(next.unwrap_or(patience), self.open()).await {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err((status, origin))) => self.link.why(status, origin),
                Err(_) => Trouble::Connection(Status::deadline_exceeded("no answer in time")),
            };
            match trouble {
                // Calls of the former history have no place in this one.
                Trouble::Final(ReadError::Unavailable(Unavailable::HistoryChanged(_))) => {
                    self.leave_other_histories(self.link.identity());
                }
                Trouble::Final(error) => self.give_up(&unavailable(error), None),
                Trouble::Connection(status) => {
                    let why = Unavailable::Backend(Arc::new(status));
                    self.give_up(&why, Some(Instant::now() + pauses.next()));
                }
            }
            if self.is_settled() {
                return None;
            }
            pauses.wait().await;
        }
    }

    /// Opens a stream. An error comes with the origin of the call.
    async fn open(&self) -> Result<OpenStream, (Status, CallOrigin)> {
        let history = self.link.history();
        let (log, origin) = self.link.caller_as(Some(history.identity));
        self.open_by(log, history, origin).await.map_err(|status| (status, origin))
    }

    async fn open_by(
        &self,
        mut log: LogCaller,
        history: History,
        origin: CallOrigin,
    ) -> Result<OpenStream, Status> {
        let (requests, waiting) = mpsc::channel::<AppendRequest>(WAITING_MESSAGES);
        let open = OpenSession {
            session: self.id.as_bytes().to_vec(),
            identity: Some(wire::identity_message(history.identity)),
        };
        let first = AppendRequest { open: Some(open), ..AppendRequest::default() };
        let closed = |_| Status::unavailable("the stream ended before it was used");
        requests.send(first).await.map_err(closed)?;
        let messages = stream::unfold(waiting, async |mut waiting| {
            let message = waiting.recv().await?;
            Some((message, waiting))
        });
        let mut replies = log.append(messages).await?.into_inner();
        let reply = replies.message().await?;
        let opened = reply.and_then(|reply| reply.opened);
        let opened = opened.ok_or_else(|| Status::unavailable("the stream was not opened"))?;
        Ok(OpenStream { history, origin, opened, requests, replies })
    }

    /// Ends the calls that were made for another history. Their conditions mean nothing here.
    fn leave_other_histories(&mut self, is: LogIdentity) {
        let changed = |was| Unavailable::HistoryChanged(HistoryChanged { was, is });
        for mut job in std::mem::take(&mut self.queued) {
            match job.history == is {
                true => self.queued.push_back(job),
                false => job.answer(Err(changed(job.history).into())),
            }
        }
        for (number, mut sent) in std::mem::take(&mut self.sent) {
            match sent.job.history == is {
                true => drop(self.sent.insert(number, sent)),
                false => {
                    // The head of that history has ended, so no decision rests on the commit.
                    let cause = changed(sent.job.history);
                    self.syncs.fail(cause.clone());
                    sent.job.answer(Err(SyncError { cause }.into()));
                }
            }
        }
    }

    /// Finds out what became of each call that was sent to a server that has ended. Returns whether
    /// all are found out.
    async fn resolve(&mut self, history: &History) -> bool {
        let has_failed = Arc::new(AtomicBool::new(false));
        let (link, failed) = (self.link.clone(), has_failed.clone());
        let searches = stream::iter(std::mem::take(&mut self.sent)).map(move |(number, sent)| {
            let (link, failed) = (link.clone(), failed.clone());
            async move {
                if failed.load(Ordering::Relaxed) {
                    return (number, sent, None);
                }
                let found = resolve::fate(&link, &sent.job, sent.place).await;
                failed.fetch_or(found.is_err(), Ordering::Relaxed);
                (number, sent, Some(found))
            }
        });
        // In the order of the numbers, in which the commits were sent.
        let found: Vec<_> = searches.buffered(SEARCHES).collect().await;
        for (number, mut sent, found) in found {
            match found {
                Some(Ok(Finding::Made(place))) => {
                    history.advance(place.last);
                    self.accept(number, &mut sent, place);
                    if let Some(due) = self.synced(number, &mut sent) {
                        due.send();
                    }
                }
                // Decisions can rest on the lost commit, and its positions will have other events.
                Some(Ok(Finding::NotMade)) if sent.is_known() => self.unknown(&mut sent, lost()),
                Some(Ok(Finding::NotMade)) => {
                    sent.place = None;
                    self.sent.insert(number, sent);
                }
                Some(Ok(Finding::Unknown)) => self.unknown(&mut sent, server_ended()),
                // A server that answers, and cannot tell, will not do so later.
                Some(Err(error)) if is_of_server(&error) => {
                    self.unknown(&mut sent, unavailable(error));
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "a commit could not be looked for");
                    self.sent.insert(number, sent);
                    self.give_up(&unavailable(error), Some(Instant::now()));
                }
                None => drop(self.sent.insert(number, sent)),
            }
        }
        if has_failed.load(Ordering::Relaxed) {
            // The calls that were found out are settled. The others are looked for again.
            self.instance.clear();
            self.entry.clear();
            return false;
        }
        true
    }

    /// The server has forgotten the session, and nothing tells what becomes of its calls.
    fn forgotten(&mut self) {
        for (_, mut sent) in std::mem::take(&mut self.sent) {
            let status = Status::aborted("the server has forgotten the session");
            self.unknown(&mut sent, Unavailable::Backend(Arc::new(status)));
        }
    }

    /// The server said what cannot be true, so that nothing of what it says about the calls can be
    /// relied on.
    fn contradicted(&mut self, contradiction: &Contradiction) {
        let why = self.link.contradiction(contradiction);
        for (_, mut sent) in std::mem::take(&mut self.sent) {
            self.unknown(&mut sent, why.clone());
        }
        self.give_up(&why, None);
    }

    /// The outcome of this call stays unknown.
    fn unknown(&mut self, sent: &mut SentCall, cause: Unavailable) {
        if sent.is_known() {
            let reason = match &cause {
                Unavailable::Failed { reason } => reason.clone(),
                other => other.to_string().into(),
            };
            let cause = Unavailable::Failed { reason };
            self.lost.get_or_insert_with(|| SyncError { cause: cause.clone() });
            self.syncs.fail(cause.clone());
            self.link.fail(cause);
        }
        sent.job.answer(Err(SyncError { cause }.into()));
    }

    /// Answers all callers, or those whose time is over by then. A commit whose place its caller
    /// knows is kept, because the log tells its fate.
    fn give_up(&mut self, why: &Unavailable, by: Option<Instant>) {
        let is_over = |job: &AppendJob| by.is_none_or(|by| job.deadline <= by);
        while self.queued.front().is_some_and(|job| is_over(job)) {
            if let Some(mut job) = self.queued.pop_front() {
                job.answer(Err(why.clone().into()));
            }
        }
        let over = |sent: &SentCall| !sent.is_known() && is_over(&sent.job);
        let numbers: Vec<u64> = match by {
            None => self.sent.keys().copied().collect(),
            Some(by) => {
                let before = self.deadlines.partition_point(|(deadline, _)| *deadline <= by);
                self.deadlines.drain(..before).map(|(_, number)| number).collect()
            }
        };
        for number in numbers {
            if self.sent.get(&number).is_some_and(over)
                && let Some(mut sent) = self.sent.remove(&number)
            {
                sent.job.answer(Err(SyncError { cause: why.clone() }.into()));
            }
        }
    }

    /// When the next caller stops waiting.
    fn next_deadline(&mut self) -> Option<Instant> {
        // Calls with an outcome, and those whose callers have an answer, wait for nothing.
        while let Some((_, number)) = self.deadlines.front()
            && self.sent.get(number).is_none_or(|sent| sent.job.is_answered())
        {
            self.deadlines.pop_front();
        }
        let sent = self.deadlines.front().map(|(deadline, _)| *deadline);
        let queued = self.queued.front().map(|job| job.deadline);
        sent.into_iter().chain(queued).min()
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
                self.give_up(&why, None);
                self.sent.clear();
                return StreamEnd::Connection;
            }
            // A handle that sees another history makes its calls for that.
            let is_other = |job: &AppendJob| job.history != stream.history.identity;
            if self.link.identity() != stream.history.identity
                || self.queued.front().is_some_and(|job| is_other(job))
            {
                return StreamEnd::Connection;
            }
            self.close_if_settled();
            let deadline = self.next_deadline();
            let has_calls = !again.is_empty() || !self.queued.is_empty();
            tokio::select! {
                reply = stream.replies.message() => match reply {
                    Ok(Some(reply)) => if let Err(error) = self.replied(&stream.history, reply) {
                        self.contradicted(&error);
                        return StreamEnd::Connection;
                    },
                    Ok(None) => return StreamEnd::Connection,
                    Err(status) => {
                        if let Trouble::Final(error) = self.link.why(status, stream.origin) {
                            self.give_up(&unavailable(error), None);
                        }
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
                    place.send(self.next_message(&mut again, stream.history.identity));
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    let status = Status::deadline_exceeded("the server gave no outcome in time");
                    self.give_up(&Unavailable::Backend(Arc::new(status)), Some(Instant::now()));
                }
            }
        }
    }

    /// The next message: calls that are sent again, then those that were never sent.
    fn next_message(&mut self, again: &mut VecDeque<u64>, history: LogIdentity) -> AppendRequest {
        let settled = self.sent.keys().next().map_or(self.last_number, |first| first - 1);
        let mut message = AppendRequest { settled, ..AppendRequest::default() };
        let mut bytes = 0;
        while message.calls.len() < MESSAGE_CALLS && bytes < MESSAGE_BYTES {
            let call = if let Some(number) = again.pop_front() {
                let Some(sent) = self.sent.get(&number) else { continue };
                sent.job.call.clone()
            } else if self.queued.front().is_some_and(|job| job.history == history)
                && let Some(mut job) = self.queued.pop_front()
            {
                self.last_number += 1;
                job.call.number = self.last_number;
                // The place of an accepted commit serves a caller that waits for it. It also tells
                // what became of a commit that cannot be found otherwise.
                job.call.synced_only = self.link.options().append_answer == AppendAnswer::Synced
                    && job.trace.can_be_found();
                // The bytes of the events are shared, not copied.
                let call = job.call.clone();
                self.deadlines.push_back((job.deadline, self.last_number));
                self.sent.insert(self.last_number, SentCall { job, place: None });
                call
            } else {
                break;
            };
            bytes += call.encoded_len();
            message.calls.push(call);
        }
        message
    }

    fn replied(&mut self, history: &History, reply: AppendReply) -> Result<(), Contradiction> {
        let mut due = Vec::with_capacity(reply.replies.len());
        let taken = self.take_replies(history, reply, &mut due);
        // All at once: a caller's thread that wakes for the first answer finds the others there,
        // too, and does not sleep again in between.
        due.into_iter().for_each(DueAnswer::send);
        taken
    }

    /// Takes the replies. The answers to the callers of synced commits are due then.
    fn take_replies(
        &mut self,
        history: &History,
        reply: AppendReply,
        due: &mut Vec<DueAnswer>,
    ) -> Result<(), Contradiction> {
        // The head is shown first, so that a caller reads its own write.
        history.advance(checks::head(reply.head)?);
        for CallReply { number, outcome } in reply.replies {
            if number > self.last_number {
                let statement = format!("it has an outcome of call {number}, which was never sent");
                return Err(Contradiction(statement));
            }
            let Some(outcome) = outcome else { continue };
            let Some(mut sent) = self.sent.remove(&number) else { continue };
            let CommitTrace { events, after, .. } = sent.job.trace;
            if let Err(error) = checks::outcome(&outcome, (events, after), sent.place) {
                self.sent.insert(number, sent);
                return Err(error);
            }
            self.pauses = Pauses::new();
            match outcome {
                call_reply::Outcome::Accepted(accepted) => {
                    let place = CommitPlace::of(&accepted);
                    self.accept(number, &mut sent, place);
                    match accepted.synced {
                        true => due.extend(self.synced(number, &mut sent)),
                        false => drop(self.sent.insert(number, sent)),
                    }
                }
                call_reply::Outcome::Synced(_) => due.extend(self.synced(number, &mut sent)),
                call_reply::Outcome::Failure(failure) => {
                    let error = wire::as_append_error(failure, history.identity);
                    let error = error.unwrap_or_else(|error| {
                        Unavailable::Server { what: error.to_string().into() }.into()
                    });
                    self.failed(&mut sent, error);
                }
            }
        }
        Ok(())
    }

    /// Notes the place of an accepted commit, and answers a caller that waits only for that.
    fn accept(&mut self, number: u64, sent: &mut SentCall, place: CommitPlace) {
        if sent.place.is_some_and(|known| known != place) && sent.is_known() {
            return self.unknown(sent, lost());
        }
        if sent.place.is_some() {
            return;
        }
        sent.place = Some(place);
        if self.link.options().append_answer == AppendAnswer::Accepted {
            let sync = self.syncs.enter(number);
            sent.job.answer(Ok(accepted(place, sync)));
        }
    }

    /// Publishes a synced commit. Returns the answer to a caller that waits for that.
    fn synced(&mut self, number: u64, sent: &mut SentCall) -> Option<DueAnswer> {
        let (Some(place), false) = (sent.place, sent.job.is_answered()) else {
            self.syncs.synced(number);
            return None;
        };
        let sync = self.syncs.enter(number);
        self.syncs.synced(number);
        sent.job.due(Ok(accepted(place, sync)))
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

/// Whether the server answered, and its answer is of no use.
fn is_of_server(error: &ReadError) -> bool {
    matches!(error, ReadError::Unavailable(Unavailable::Server { .. }) | ReadError::Corrupt(_))
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
