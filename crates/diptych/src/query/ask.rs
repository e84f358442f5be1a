//! Queries to a view in memory. A query is answered at once if the view is fresh enough, and waits
//! otherwise.

use std::{
    any::type_name,
    fmt,
    future::Future,
    mem,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use diptych_store::{HistoryPoint, Position, ReadError, Unavailable};
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep},
};

use super::{Query, QueryError, QueryPanic, RightPanel};
use crate::{
    follow::{HaltCause, NotYet, PoisonedKey, Standstill},
    panics::{caught, panic_text},
    token::{ClaimError, Claims, Receipt, Session, SessionToken, settled},
    view::shown::{ServedImage, ServedView},
    wait,
};

/// A query being built: set how fresh the answer has to be, then await it.
///
/// It owns what it needs of the app, so it can be spawned as a task of its own. By default it is
/// answered at once from the view as it is (*eventual*). Requirements combine: the
/// answer satisfies all of the given ones. If the view is not far enough, the query waits for it
/// without polling, for at most the time given to [`within`](Ask::within). If the view is fresh
/// enough, it neither allocates nor waits, unless a token names an event that has to be looked up.
#[must_use = "a query does nothing until it is awaited"]
pub struct Ask<Q> {
    panel: Arc<RightPanel>,
    query: Q,
    wanted: Requirements,
    /// The session whose writes the answer must contain.
    writes: Option<Session>,
    /// The session for which answers never go back. It records the position of the answer.
    reads: Option<Session>,
    claims: Claims,
    /// The required position, fixed at the first poll. Later events are not required.
    began: Option<Position>,
    settling: Option<Settling>,
    wait: Option<Wait>,
}

/// The requirements on an answer.
#[derive(Clone, Debug)]
struct Requirements {
    position: Position,
    is_strong: bool,
    age: Option<Duration>,
    within: Duration,
    takes_stale: bool,
    takes_poisoned: bool,
}

/// An answer with its position. It dereferences to its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<T> {
    /// The answer itself.
    pub value: T,
    /// The answer contains all events up to here, and none after. An answer about events that
    /// [occurred](crate::Point::occurred_before) before an instant considered all events up to
    /// here.
    pub position: Position,
    /// The position that was required, if the answer is older, or if the end of the log is no
    /// longer known. It is set only if [`or_stale`](Ask::or_stale) allows such answers.
    pub stale: Option<Position>,
    /// Why the view stood still when it answered: it was paused, cannot apply an event, or its log
    /// or app has ended. Until the view continues, all answers have the same position, whatever
    /// happens in the log. Answers of the past have no standstill.
    pub standstill: Option<Box<Standstill>>,
    /// The poisoned keys of the view: the answer lacks their events since then. An answer about
    /// other keys, by the [scope](Query::scope) of its query, has none. A query about a poisoned
    /// key fails, unless it [takes such answers](Ask::or_poisoned).
    pub poisoned: Vec<PoisonedKey>,
    /// The cost of the answer.
    pub cost: Cost,
}

/// The cost of an answer: the state that it began with, and the number of events read from there
/// on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// Events that were read from the log; 0 if the view in memory had the answer.
    pub events: u64,
    /// The position of the state that it began with: the view in memory, a snapshot, or the
    /// previous point. [`Position::START`] if there was none.
    pub from: Position,
}

impl Cost {
    /// The cost of an answer from a view in memory at this position.
    pub(crate) fn memory(from: Position) -> Cost {
        Cost { events: 0, from }
    }
}

impl<T> Answer<T> {
    /// An answer from a view in memory.
    pub(super) fn live(
        value: T,
        position: Position,
        standstill: Option<Box<Standstill>>,
    ) -> Answer<T> {
        let (cost, poisoned) = (Cost::memory(position), Vec::new());
        Answer { value, position, stale: None, standstill, poisoned, cost }
    }

    /// An answer from a part of the log that can no longer change.
    pub(crate) fn past(value: T, position: Position, cost: Cost) -> Answer<T> {
        Answer { value, position, stale: None, standstill: None, poisoned: Vec::new(), cost }
    }
}

impl<T> Deref for Answer<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<Q: Query> Ask<Q> {
    pub(crate) const WITHIN: Duration = Duration::from_secs(5);

    pub(crate) fn new(panel: Arc<RightPanel>, query: Q) -> Ask<Q> {
        let wanted = Requirements {
            position: Position::START,
            is_strong: false,
            age: None,
            within: Ask::<Q>::WITHIN,
            takes_stale: false,
            takes_poisoned: false,
        };
        Ask {
            panel,
            query,
            wanted,
            writes: None,
            reads: None,
            claims: Claims::default(),
            began: None,
            settling: None,
            wait: None,
        }
    }

    /// *Strong*: the answer contains all events that are durable when the query is first polled.
    ///
    /// An app that was stopped, and one whose store has ended, cannot know what is durable: the
    /// answer is [`AppStopped`](QueryError::AppStopped) or [`Ended`](QueryError::Ended).
    pub fn strong(mut self) -> Self {
        self.wanted.is_strong = true;
        self
    }

    /// *Causal*, and *read your writes* for one command: the answer contains the events of this
    /// command.
    pub fn after(self, receipt: &Receipt) -> Self {
        self.at_least(receipt.point())
    }

    /// *Session*: the answer contains everything that was written or seen in this session until the
    /// query is first polled. The session records the position of the answer. So a session reads
    /// its own writes, and its answers never go back.
    pub fn session(self, session: &Session) -> Self {
        self.own_writes(session).monotonic(session)
    }

    /// *Read your writes*: the answer contains the writes of this session.
    pub fn own_writes(mut self, session: &Session) -> Self {
        self.writes = Some(session.clone());
        self.at_least_of(session, session.written())
    }

    /// *Monotonic reads*: the answer is not older than earlier answers in this session. The session
    /// records the position of the answer.
    pub fn monotonic(mut self, session: &Session) -> Self {
        self.reads = Some(session.clone());
        self.at_least_of(session, session.seen())
    }

    /// *Causal*: the answer contains everything that another session wrote and saw until this token
    /// was taken.
    pub fn token(self, token: &SessionToken) -> Self {
        token.logs().fold(self, |ask, (point, _)| ask.at_least(point))
    }

    /// *Bounded staleness*: the answer contains all events that were durable `age` ago. The age of
    /// a view is the time since it was last known to be at the head. For a stopped app this is an
    /// error, as with [`strong`](Ask::strong).
    pub fn at_most(mut self, age: Duration) -> Self {
        self.wanted.age = Some(self.wanted.age.map_or(age, |other| other.min(age)));
        self
    }

    /// How long to wait; the default is 5 seconds. After that the query fails with
    /// [`NotYet`](QueryError::NotYet). Outside of a tokio runtime nothing ends the wait. In a tokio
    /// runtime, the clock has to be enabled.
    pub fn within(mut self, longest: Duration) -> Self {
        self.wanted.within = longest;
        self
    }

    /// Instead of failing with [`NotYet`](QueryError::NotYet), answers from the view as it is then,
    /// marked as [stale](Answer::stale). With this, a stopped view or app answers, too.
    pub fn or_stale(mut self) -> Self {
        self.wanted.takes_stale = true;
        self
    }

    /// Answers about a [poisoned key](crate::Fold::KEY), too, from its rows as they were before the
    /// event that failed. The answer names the key in [`poisoned`](Answer::poisoned).
    pub fn or_poisoned(mut self) -> Self {
        self.wanted.takes_poisoned = true;
        self
    }

    /// The query, the tokens of its caller, and the longest time to wait for them. A question about
    /// the past needs only these, because the other requirements do not apply to it.
    pub(crate) fn into_parts(self) -> (Arc<RightPanel>, Q, Claims, Duration) {
        (self.panel, self.query, self.claims, self.wanted.within)
    }

    fn at_least(mut self, point: HistoryPoint) -> Self {
        let position = self.claims.point(&self.panel.lineage, point);
        self.wanted.position = self.wanted.position.max(position);
        self
    }

    fn at_least_of(mut self, session: &Session, position: Position) -> Self {
        let position = self.claims.session(&self.panel.lineage, session, position);
        self.wanted.position = self.wanted.position.max(position);
        self
    }
}

impl<Q> fmt::Debug for Ask<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

/// The running comparison of the caller's tokens with the log.
///
/// If the answer has to have the end of the log, and the log has other writers, it then asks the
/// store for that. It returns whether the end is known.
struct Settling(Pin<Box<dyn Future<Output = Result<bool, ClaimError>> + Send>>);

impl fmt::Debug for Settling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settling")
    }
}

type ArrivalFuture = Pin<Box<dyn Future<Output = Result<Position, Unavailable>> + Send>>;

struct Wait {
    arrival: Option<ArrivalFuture>,
    /// `None` without a tokio runtime.
    timeout: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wait")
    }
}

// No field is pinned.
impl<Q> Unpin for Ask<Q> {}

impl<Q: Query> Future for Ask<Q> {
    type Output = Result<Answer<Q::Answer>, QueryError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ask = &mut *self;
        let is_end_known = match ask.began {
            Some(_) => true,
            None => match ask.settle(context) {
                Poll::Ready(Ok(is_end_known)) => is_end_known,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            },
        };
        let live = match ask.panel.views.served::<Q::View>() {
            Ok(live) => live,
            Err(error) => return Poll::Ready(Err(error.into())),
        };
        if !is_end_known {
            // Only a query that takes stale answers comes here.
            let at_least = Some(ask.panel.durable().max(ask.wanted.position));
            return Poll::Ready(ask.answer(&live, &live.now(), at_least));
        }
        let need = match ask.began {
            Some(need) => need,
            None => match ask.need(&live) {
                Need::Position(need) => *ask.began.insert(need),
                Need::Unknown { at_least, .. } if ask.wanted.takes_stale => {
                    return Poll::Ready(ask.answer(&live, &live.now(), Some(at_least)));
                }
                Need::Unknown { halted, .. } => {
                    return Poll::Ready(Err(QueryError::halted(halted, type_name::<Q::View>())));
                }
            },
        };
        loop {
            let now = live.now();
            if now.position() >= need {
                return Poll::Ready(ask.answer(&live, &now, None));
            }
            drop(now);
            match Self::wait(&mut ask.wait, ask.wanted.within, &live, need, context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) if ask.wanted.takes_stale => {
                    let now = live.now();
                    let stale = Some(need).filter(|need| now.position() < *need);
                    return Poll::Ready(ask.answer(&live, &now, stale));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// The lowest position that an answer may have.
enum Need {
    Position(Position),
    /// The query requires all durable events, and the end of the log is no longer known.
    Unknown {
        at_least: Position,
        halted: HaltCause,
    },
}

impl<Q: Query> Ask<Q> {
    /// Compares the caller's tokens with the log, and makes sure that the head is its end if the
    /// answer needs that. Returns whether it is.
    fn settle(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, QueryError>> {
        if self.settling.is_none() {
            let needs_fresh_head = self.needs_fresh_head();
            if self.claims.are_settled() && !needs_fresh_head {
                return Poll::Ready(Ok(true));
            }
            let (claims, lineage) = (mem::take(&mut self.claims), self.panel.lineage.clone());
            let (within, takes_stale) = (self.wanted.within, self.wanted.takes_stale);
            self.settling = Some(Settling(Box::pin(async move {
                match settled(claims, lineage.clone(), within).await {
                    Err(ClaimError::Behind { .. }) if takes_stale => return Ok(false),
                    settled => settled?,
                }
                if !needs_fresh_head {
                    return Ok(true);
                }
                match wait::within(within, lineage.store().fresh_head()).await {
                    Some(Ok(_)) => Ok(true),
                    _ if takes_stale => Ok(false),
                    Some(Err(error)) => Err(error.into()),
                    None => Err(ClaimError::Late { within }),
                }
            })));
        }
        let Some(Settling(future)) = &mut self.settling else { return Poll::Ready(Ok(true)) };
        let outcome = future.as_mut().poll(context);
        if outcome.is_ready() {
            self.settling = None;
        }
        outcome.map_err(Into::into)
    }

    /// Whether the answer depends on the end of the log, and other writers may have moved it.
    fn needs_fresh_head(&self) -> bool {
        let is_young = || {
            let (Some(age), Ok(live)) = (self.wanted.age, self.panel.views.served::<Q::View>())
            else {
                return true;
            };
            let complete_at = live.progress().complete_at();
            complete_at.is_some_and(|at| Instant::now().duration_since(at) <= age)
        };
        (self.wanted.is_strong || !is_young()) && self.panel.store().has_other_writers()
    }

    /// Computes the lowest position that the answer may have, as of now.
    fn need(&self, live: &ServedView<'_, Q::View>) -> Need {
        // The session is read again, because it may have written and seen more since the query was
        // built.
        let written = self.writes.as_ref().map(Session::written).unwrap_or_default();
        let seen = self.reads.as_ref().map(Session::seen).unwrap_or_default();
        let wanted = self.wanted.position.max(written).max(seen);
        if !self.wanted.is_strong && self.wanted.age.is_none() {
            return Need::Position(wanted);
        }
        let asked = self.wanted.age.map(|age| (Instant::now(), age));
        // If the store has another history now, this call ends the head, so that the check below
        // fails.
        let _ = self.panel.store().check_history();
        let head = self.panel.durable();
        // The order matters: if the head has not ended by now, the position read before was the end
        // of the log.
        if let Err(halted) = live.progress().check_current(&self.panel.head) {
            return Need::Unknown { at_least: wanted.max(head), halted };
        }
        let is_young = |(asked, age)| {
            if live.now().position() >= head {
                // Other writers may have moved the end of the log since it was asked for.
                if !self.panel.store().has_other_writers() {
                    live.progress().was_complete(asked);
                }
                return true;
            }
            live.progress().complete_at().is_some_and(|at| asked.duration_since(at) <= age)
        };
        Need::Position(match self.wanted.is_strong || !asked.is_none_or(is_young) {
            true => wanted.max(head),
            false => wanted,
        })
    }

    /// Waits until the view reaches this position.
    fn wait(
        wait: &mut Option<Wait>,
        within: Duration,
        live: &ServedView<'_, Q::View>,
        need: Position,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), QueryError>> {
        let wait = wait.get_or_insert_with(|| Wait {
            arrival: None,
            timeout: Handle::try_current().is_ok().then(|| Box::pin(sleep(within))),
        });
        loop {
            let arrival = match &mut wait.arrival {
                Some(arrival) => arrival,
                None => match live.progress().arrivals() {
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
                let have = live.now().position();
                Poll::Ready(Err(QueryError::NotYet(NotYet { need, have, within })))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn answer(
        &self,
        live: &ServedView<'_, Q::View>,
        image: &ServedImage<Q::View>,
        stale: Option<Position>,
    ) -> Result<Answer<Q::Answer>, QueryError> {
        let position = image.position();
        let poisoned = poisoned(&self.query, image, self.wanted.takes_poisoned)?;
        let answer = answer(&self.query, image.state())?;
        if let Some(session) = &self.reads {
            session.saw(position);
        }
        let standstill = live.progress().standstill();
        if standstill.is_some() {
            self.panel.store().check_history().map_err(ReadError::from)?;
        }
        let answer = Answer::live(answer, position, standstill);
        Ok(Answer { stale, poisoned, ..answer })
    }
}

/// The poisoned keys that the answer depends on, by the scope of the query.
///
/// # Errors
/// [`QueryError::Poisoned`] if the query is about a poisoned key, and takes no such answers.
pub(super) fn poisoned<Q: Query>(
    query: &Q,
    image: &ServedImage<Q::View>,
    takes_poisoned: bool,
) -> Result<Vec<PoisonedKey>, QueryError> {
    let quarantine = image.quarantine();
    let Some(name) = image.key().filter(|_| quarantine.is_poisoned()) else {
        return Ok(Vec::new());
    };
    let scope = caught(|| query.scope())
        .map_err(|message| QueryError::Panicked(QueryPanic { query: type_name::<Q>(), message }))?;
    match quarantine.within(scope.items(), name) {
        Some(None) => Ok(Vec::new()),
        Some(Some(key)) if !takes_poisoned => {
            let view = type_name::<Q::View>();
            Err(QueryError::Poisoned { view, poisoned: Box::new(key.clone()) })
        }
        Some(Some(key)) => Ok(vec![key.clone()]),
        None => Ok(quarantine.poisoned()),
    }
}

/// Answers a query from this state, and turns a panic into an error.
pub(crate) fn answer<Q: Query>(query: &Q, state: &Q::View) -> Result<Q::Answer, QueryError> {
    let answer = catch_unwind(AssertUnwindSafe(|| query.answer(state)));
    answer.map_err(|panic| {
        let (query, message) = (type_name::<Q>(), panic_text(&*panic));
        QueryError::Panicked(QueryPanic { query, message })
    })
}
