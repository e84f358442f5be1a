//! One answer over a range of the log.

use std::{any::type_name, collections::VecDeque, fmt, sync::Arc};

use diptych_store::{Batch, Position};
use tokio::task::yield_now;

use super::{
    Point,
    job::{PastFold, start},
    point::Prefix,
    refold::Refold,
    replay::{Cursor, EventOf, Selection},
};
use crate::query::{Answer, Cost, Query, QueryError, RightPanel, answer};

/// Number of events between two checks whether the caller still waits. They are few, because it may
/// take longer to compute an answer than to apply an event.
const TURN_EVENTS: usize = 64;
/// Number of changed answers that are computed ahead of the caller.
const AHEAD_ANSWERS: usize = 64;

/// The answers to one query over a range of the log: see [`App::history`](crate::App::history).
pub struct History<Q: Query> {
    panel: Arc<RightPanel>,
    query: Arc<Q>,
    from: Position,
    to: Position,
    /// Computed answers that were not asked for yet.
    ahead: VecDeque<Answer<Q::Answer>>,
    state: HistoryState<Q>,
}

enum HistoryState<Q: Query> {
    NotBegun,
    /// `None` only while a turn is being started.
    Going(Option<Box<Going<Q>>>),
    /// A thread computes the next answers. It ends by itself within a page.
    Turning(PastFold<HistoryTurn<Q>>),
    /// No more answers follow. Holds the error if the history ended early.
    Done(Option<QueryError>),
}

struct Going<Q: Query> {
    query: Arc<Q>,
    selection: Selection<EventOf<Q>>,
    view: Q::View,
    last: Q::Answer,
    cursor: Cursor,
    page: Batch,
    /// The next event of the page.
    index: usize,
    /// Cost of the next answer so far.
    cost: Cost,
}

/// The result of one turn.
struct HistoryTurn<Q: Query> {
    answers: VecDeque<Answer<Q::Answer>>,
    /// The state to continue from, or the error that ends the history.
    next: Result<Option<Box<Going<Q>>>, QueryError>,
}

impl<Q: Query> History<Q> {
    pub(crate) fn new(
        panel: Arc<RightPanel>,
        query: Q,
        from: Position,
        to: Position,
    ) -> History<Q> {
        let query = Arc::new(query);
        History { panel, query, from, to, ahead: VecDeque::new(), state: HistoryState::NotBegun }
    }
}

impl<Q: Query<Answer: Clone + PartialEq>> History<Q> {
    /// The next answer, or `None` after the last one. The [cost](Answer::cost) counts the events
    /// since the answer before. Dropping the future loses only time.
    ///
    /// # Errors
    /// [`QueryError`] of the query at that point; further calls return it again. After
    /// [`QueryError::Busy`] the next call continues.
    pub async fn next(&mut self) -> Result<Option<Answer<Q::Answer>>, QueryError> {
        loop {
            if let Some(answer) = self.ahead.pop_front() {
                return Ok(Some(answer));
            }
            let turned = match &mut self.state {
                HistoryState::NotBegun => self.begin().await,
                HistoryState::Going(going) => match turn(&self.panel, going) {
                    Ok(folding) => {
                        self.state = HistoryState::Turning(folding);
                        continue;
                    }
                    Err(error) => Err(error),
                },
                HistoryState::Turning(folding) => folding.await,
                HistoryState::Done(None) => return Ok(None),
                HistoryState::Done(Some(error)) => return Err(error.clone()),
            };
            let next = match turned {
                Ok(HistoryTurn { answers, next }) => {
                    self.ahead = answers;
                    next
                }
                // The turn did not begin, so nothing is lost.
                Err(error @ QueryError::Busy { .. }) => return Err(error),
                Err(error) => Err(error),
            };
            self.state = match next {
                Ok(Some(going)) => HistoryState::Going(Some(going)),
                Ok(None) => HistoryState::Done(None),
                Err(error) => HistoryState::Done(Some(error)),
            };
        }
    }

    /// All answers that follow, if there are at most `limit` of them. Each is kept in memory, so a
    /// history of unknown length is better taken with [`next`](History::next).
    ///
    /// # Errors
    /// [`QueryError::TooManyAnswers`] if there are more, or as of [`next`](History::next). The
    /// answers so far are dropped.
    pub async fn collect(mut self, limit: usize) -> Result<Vec<Answer<Q::Answer>>, QueryError> {
        let mut answers = Vec::new();
        while let Some(answer) = self.next().await? {
            if answers.len() == limit {
                return Err(QueryError::TooManyAnswers { limit, at: answer.position });
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    async fn begin(&self) -> Result<HistoryTurn<Q>, QueryError> {
        // The end is checked first, so that a position above the head fails at once.
        Prefix::resolve(&self.panel, Point::at(self.to)).await?;
        let prefix = Prefix::resolve(&self.panel, Point::at(self.from)).await?;
        let refold = Refold::new::<Q>(&self.panel, self.query.scope()).await?;
        let (query, cursor) =
            (self.query.clone(), Cursor { at: self.from, upto: self.to, events: 0 });
        let begin = async move {
            let folded = refold.folded(prefix).await?;
            let answer = folded.answer(&*query)?;
            let going = Going {
                query,
                selection: refold.selection,
                view: folded.view,
                last: answer.value.clone(),
                cursor,
                page: Batch::default(),
                index: 0,
                cost: Cost::memory(cursor.at),
            };
            Ok(HistoryTurn { answers: VecDeque::from([answer]), next: Ok(Some(Box::new(going))) })
        };
        start::<Q, _, _>(&self.panel, || begin)?.await
    }
}

/// Starts a turn. Takes the state out of its place only if the pool admits the turn.
fn turn<Q: Query<Answer: Clone + PartialEq>>(
    panel: &RightPanel,
    going: &mut Option<Box<Going<Q>>>,
) -> Result<PastFold<HistoryTurn<Q>>, QueryError> {
    start::<Q, _, _>(panel, || {
        let going = going.take();
        async move {
            let mut answers = VecDeque::new();
            let next = match going {
                Some(mut going) => match going.turn(&mut answers).await {
                    Ok(true) => Ok(Some(going)),
                    Ok(false) => Ok(None),
                    Err(error) => Err(error),
                },
                None => Ok(None),
            };
            Ok(HistoryTurn { answers, next })
        }
    })
}

impl<Q: Query<Answer: Clone + PartialEq>> Going<Q> {
    /// Continues for one page at most. Returns whether there may be more.
    async fn turn(
        &mut self,
        answers: &mut VecDeque<Answer<Q::Answer>>,
    ) -> Result<bool, QueryError> {
        while let Some(event) = self.page.get(self.index) {
            self.index += 1;
            self.cost.events += 1;
            let position = event.position();
            self.selection.take(&mut self.view, [event])?;
            let value = answer(&*self.query, &self.view)?;
            if value != self.last {
                self.last = value.clone();
                let cost = std::mem::replace(&mut self.cost, Cost::memory(position));
                answers.push_back(Answer::past(value, position, cost));
                if answers.len() == AHEAD_ANSWERS {
                    return Ok(true);
                }
            }
            if self.index.is_multiple_of(TURN_EVENTS) {
                yield_now().await;
            }
        }
        let Some(page) = self.selection.page(&mut self.cursor).await? else {
            return Ok(false);
        };
        (self.page, self.index) = (page, 0);
        Ok(true)
    }
}

impl<Q: Query> fmt::Debug for History<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut history = f.debug_struct("History");
        history.field("query", &type_name::<Q>());
        history.field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}
