//! Asking a view as it is now: at once if it is fresh enough, else when it is.

use std::{
    any::type_name,
    fmt,
    future::Future,
    mem,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use diptych_store::{Ended, HistoryPoint, Position};
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep},
};

use super::{NotYet, Query, QueryError, QueryPanicked};
use crate::{
    App, Receipt, Session, SessionToken, Standstill,
    fold::panic_text,
    follow::Halted,
    lineage::{Claims, settled},
    view::copies::{Image, Live},
};

/// A query on its way: say how fresh the answer has to be, then await it.
///
/// Without a word it is answered at once from the view as it is (*eventual*). What is said adds
/// up: the answer satisfies all of it. If the view is not far enough, the query waits for it,
/// without polling, and at most as long as [`within`](Ask::within) says.
#[must_use = "a query does nothing until it is awaited"]
pub struct Ask<'a, Q> {
    pub(super) app: &'a App,
    pub(super) query: Q,
    wanted: Wanted,
    /// Whose writes are to be in the answer.
    writes: Option<Session>,
    /// Who is not to go back, and notes what it saw.
    reads: Option<Session>,
    pub(super) claims: Claims,
}

/// What was said about an answer.
#[derive(Clone, Debug)]
struct Wanted {
    position: Position,
    is_strong: bool,
    age: Option<Duration>,
    within: Duration,
    takes_stale: bool,
}

/// An answer, and what it is an answer of. It dereferences to its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<T> {
    /// The answer itself.
    pub value: T,
    /// Everything up to here is in it, and nothing after. Of an answer about what
    /// [occurred](crate::Point::occurred_before) before an instant: everything up to here was
    /// considered.
    pub position: Position,
    /// The position that it should have been of, at least, where it is not, or where the end of the
    /// log is not known any more: only if [`or_stale`](Ask::or_stale) allowed that.
    pub stale: Option<Position>,
    /// Why the view takes in nothing more, if it did not when it answered: it was paused, stands
    /// before an event that it cannot take in, or its log or app has ended. The next answer will be
    /// of the same position, whatever happens in the log. Answers of the past have none.
    pub standstill: Option<Box<Standstill>>,
    /// What it cost.
    pub cost: Cost,
}

/// What an answer cost: with which state it began, and what had to be read from there on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// Events that were read from the log; 0 if the view in memory had the answer.
    pub events: u64,
    /// The position of the state that it began with: of the view in memory, of a snapshot, or of
    /// the point before; [`Position::START`] if there was none.
    pub from: Position,
}

impl Cost {
    /// That of an answer of a view in memory at this position.
    pub(super) fn memory(from: Position) -> Cost {
        Cost { events: 0, from }
    }
}

impl<T> Answer<T> {
    /// The answer of a view in memory.
    pub(super) fn live(
        value: T,
        position: Position,
        standstill: Option<Box<Standstill>>,
    ) -> Answer<T> {
        Answer { value, position, stale: None, standstill, cost: Cost::memory(position) }
    }

    /// An answer from events of the log that do not change any more.
    pub(super) fn past(value: T, position: Position, cost: Cost) -> Answer<T> {
        Answer { value, position, stale: None, standstill: None, cost }
    }
}

impl<T> Deref for Answer<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'a, Q: Query> Ask<'a, Q> {
    pub(crate) const WITHIN: Duration = Duration::from_secs(5);

    pub(crate) fn new(app: &'a App, query: Q) -> Ask<'a, Q> {
        let wanted = Wanted {
            position: Position::START,
            is_strong: false,
            age: None,
            within: Ask::<Q>::WITHIN,
            takes_stale: false,
        };
        Ask { app, query, wanted, writes: None, reads: None, claims: Claims::default() }
    }

    /// *Strong*: everything that was durable when the query is first polled is in the answer.
    ///
    /// An app that was stopped, and one whose store has ended, cannot know what is durable: the
    /// answer is [`AppStopped`](QueryError::AppStopped) or [`Ended`](QueryError::Ended).
    pub fn strong(mut self) -> Self {
        self.wanted.is_strong = true;
        self
    }

    /// *Causal*, and reading one's own write: what this command wrote is in the answer.
    pub fn after(self, receipt: &Receipt) -> Self {
        self.at_least(receipt.point())
    }

    /// Everything that was written or seen in this session, until the query is first polled, is
    /// in the answer, and the session notes what it saw: own writes are read, and answers never
    /// go back (*session*).
    pub fn session(self, session: &Session) -> Self {
        self.own_writes(session).monotonic(session)
    }

    /// What was written in this session is in the answer (*read your writes*).
    pub fn own_writes(mut self, session: &Session) -> Self {
        self.writes = Some(session.clone());
        self.at_least_of(session, session.written())
    }

    /// The answer is not older than what was seen in this session, which notes what it saw
    /// (*monotonic reads*).
    pub fn monotonic(mut self, session: &Session) -> Self {
        self.reads = Some(session.clone());
        self.at_least_of(session, session.seen())
    }

    /// *Causal*: what another session wrote and saw, up to when this token was taken, is in the
    /// answer.
    pub fn token(self, token: &SessionToken) -> Self {
        token.logs().fold(self, |ask, (point, _)| ask.at_least(point))
    }

    /// *Bounded staleness*: everything that was durable this long ago is in the answer. The age of
    /// a view is the time since it was last known to be at the head. Of an app that was stopped it
    /// is an error, as [`strong`](Ask::strong) is.
    pub fn at_most(mut self, age: Duration) -> Self {
        self.wanted.age = Some(self.wanted.age.map_or(age, |other| other.min(age)));
        self
    }

    /// How long to wait, 5 seconds if nothing is said. Then the answer is
    /// [`NotYet`](QueryError::NotYet). Outside of a tokio runtime nothing ends the wait; in one,
    /// its clock has to be enabled.
    pub fn within(mut self, longest: Duration) -> Self {
        self.wanted.within = longest;
        self
    }

    /// Rather than [`NotYet`](QueryError::NotYet), the answer as the view has it then, marked as
    /// [stale](Answer::stale). It is also given of a view that stopped, and of an app that did.
    pub fn or_stale(mut self) -> Self {
        self.wanted.takes_stale = true;
        self
    }

    /// How long it waits, at most.
    pub(super) fn longest_wait(&self) -> Duration {
        self.wanted.within
    }

    fn at_least(mut self, point: HistoryPoint) -> Self {
        let position = self.claims.point(self.app.lineage(), point);
        self.wanted.position = self.wanted.position.max(position);
        self
    }

    fn at_least_of(mut self, session: &Session, position: Position) -> Self {
        let position = self.claims.session(self.app.lineage(), session, position);
        self.wanted.position = self.wanted.position.max(position);
        self
    }
}

impl<'a, Q: Query> IntoFuture for Ask<'a, Q> {
    type Output = Result<Answer<Q::Answer>, QueryError>;
    type IntoFuture = Answering<'a, Q>;

    fn into_future(self) -> Answering<'a, Q> {
        Answering { ask: self, began: None, settling: None, wait: None }
    }
}

impl<Q> fmt::Debug for Ask<'_, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

/// The answer to a query, once it is there. Where the view is fresh enough, nothing is allocated
/// and nothing waited for, unless a token names an event that has to be looked up.
#[must_use = "a query does nothing until it is awaited"]
#[derive(Debug)]
pub struct Answering<'a, Q> {
    ask: Ask<'a, Q>,
    /// The position that is needed, once the query was polled: what came later need not be in.
    began: Option<Position>,
    settling: Option<Settling>,
    wait: Option<Wait>,
}

/// Comparing what the caller carries along with the log.
struct Settling(Pin<Box<dyn Future<Output = Result<(), QueryError>> + Send>>);

impl fmt::Debug for Settling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settling")
    }
}

type Arrival = Pin<Box<dyn Future<Output = Result<Position, Ended>> + Send>>;

struct Wait {
    arrival: Option<Arrival>,
    /// Nothing without a runtime that has a clock.
    timeout: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wait")
    }
}

impl<Q> Unpin for Answering<'_, Q> {}

impl<Q: Query> Future for Answering<'_, Q> {
    type Output = Result<Answer<Q::Answer>, QueryError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Answering { ask, began, settling, wait } = &mut *self;
        match ask.settle(settling, context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        let live = match ask.app.panel.live::<Q::View>() {
            Ok(live) => live,
            Err(error) => return Poll::Ready(Err(error.into())),
        };
        let need = match *began {
            Some(need) => need,
            None => match ask.need(live) {
                Need::Position(need) => *began.insert(need),
                Need::Unknown { at_least, .. } if ask.wanted.takes_stale => {
                    return Poll::Ready(ask.answer(live, &live.now(), Some(at_least)));
                }
                Need::Unknown { halted, .. } => {
                    return Poll::Ready(Err(QueryError::halted(halted, type_name::<Q::View>())));
                }
            },
        };
        loop {
            let now = live.now();
            if now.position() >= need {
                return Poll::Ready(ask.answer(live, &now, None));
            }
            drop(now);
            match ask.wait(wait, live, need, context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) if ask.wanted.takes_stale => {
                    let now = live.now();
                    let stale = Some(need).filter(|need| now.position() < *need);
                    return Poll::Ready(ask.answer(live, &now, stale));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// The position that an answer has to be of, at least.
enum Need {
    Position(Position),
    /// It was asked for everything that is durable, and how far that goes is not known any more.
    Unknown {
        at_least: Position,
        halted: Halted,
    },
}

impl<Q: Query> Ask<'_, Q> {
    /// Compares what the caller carries along with the log.
    fn settle(
        &mut self,
        settling: &mut Option<Settling>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), QueryError>> {
        if settling.is_none() && self.claims.are_settled() {
            return Poll::Ready(Ok(()));
        }
        let Settling(future) = settling.get_or_insert_with(|| {
            let (claims, lineage) = (mem::take(&mut self.claims), self.app.lineage().clone());
            Settling(Box::pin(settled(claims, lineage, self.wanted.within)))
        });
        let outcome = future.as_mut().poll(context);
        if outcome.is_ready() {
            *settling = None;
        }
        outcome
    }

    /// The position that the answer has to be of, at least, asked now.
    fn need(&self, live: &Live<Q::View>) -> Need {
        // Again: more may have been written and seen since the query was put together.
        let written = self.writes.as_ref().map(Session::written).unwrap_or_default();
        let seen = self.reads.as_ref().map(Session::seen).unwrap_or_default();
        let wanted = self.wanted.position.max(written).max(seen);
        if !self.wanted.is_strong && self.wanted.age.is_none() {
            return Need::Position(wanted);
        }
        let asked = self.wanted.age.map(|age| (Instant::now(), age));
        let head = self.app.head();
        // In this order: a head that has not ended by now was the end of the log before.
        if let Err(halted) = live.progress.check_current(&self.app.core.head) {
            return Need::Unknown { at_least: wanted.max(head), halted };
        }
        let is_young = |(asked, age)| {
            if live.now().position() >= head {
                live.progress.was_complete(asked);
                return true;
            }
            live.progress.complete_at().is_some_and(|at| asked.duration_since(at) <= age)
        };
        Need::Position(match self.wanted.is_strong || !asked.is_none_or(is_young) {
            true => wanted.max(head),
            false => wanted,
        })
    }

    /// Waits for the view to come this far.
    fn wait(
        &self,
        wait: &mut Option<Wait>,
        live: &Live<Q::View>,
        need: Position,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), QueryError>> {
        let wait = wait.get_or_insert_with(|| Wait {
            arrival: None,
            timeout: Handle::try_current().is_ok().then(|| Box::pin(sleep(self.wanted.within))),
        });
        loop {
            let arrival = match &mut wait.arrival {
                Some(arrival) => arrival,
                None => match live.progress.arrivals() {
                    Ok(head) => wait.arrival.insert(Box::pin(head.after(need.before()))),
                    Err(halted) => {
                        let error = QueryError::halted(halted, type_name::<Q::View>());
                        return Poll::Ready(Err(error));
                    }
                },
            };
            match arrival.as_mut().poll(context) {
                Poll::Ready(reached) => {
                    wait.arrival = None;
                    if reached.is_ok() {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending => break,
            }
        }
        let Some(timeout) = &mut wait.timeout else { return Poll::Pending };
        match timeout.as_mut().poll(context) {
            Poll::Ready(()) => {
                let (have, within) = (live.now().position(), self.wanted.within);
                Poll::Ready(Err(QueryError::NotYet(NotYet { need, have, within })))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn answer(
        &self,
        live: &Live<Q::View>,
        image: &Image<Q::View>,
        stale: Option<Position>,
    ) -> Result<Answer<Q::Answer>, QueryError> {
        let position = image.position();
        let answer = answer(&self.query, &image.state)?;
        if let Some(session) = &self.reads {
            session.saw(position);
        }
        let answer = Answer::live(answer, position, live.progress.standstill());
        Ok(Answer { stale, ..answer })
    }
}

/// What a query says of this state.
pub(super) fn answer<Q: Query>(query: &Q, state: &Q::View) -> Result<Q::Answer, QueryError> {
    let answer = catch_unwind(AssertUnwindSafe(|| query.answer(state)));
    answer.map_err(|panic| {
        let (query, message) = (type_name::<Q>(), panic_text(&*panic));
        QueryError::Panicked(QueryPanicked { query, message })
    })
}
