//! One answer over a range of the log.

use std::{any::type_name, fmt};

use diptych_store::{Batch, Position};
use tokio::task::yield_now;

use super::{
    Answer, Cost, Point, Query, QueryError,
    ask::answer,
    past::Replay,
    replay::{Cursor, EventOf, Selection},
};
use crate::App;

/// Events after which others have a turn: an answer may take longer than an event.
const TURN_EVENTS: usize = 64;

/// The answers to one query over a range of the log: see [`App::history`].
pub struct History<Q: Query> {
    app: App,
    query: Q,
    from: Position,
    to: Position,
    state: State<Q>,
}

enum State<Q: Query> {
    NotBegun,
    Going(Box<Going<Q>>),
    /// Nothing more comes, and why, if that is not the end.
    Done(Option<QueryError>),
}

struct Going<Q: Query> {
    selection: Selection<EventOf<Q>>,
    view: Q::View,
    last: Q::Answer,
    cursor: Cursor,
    page: Batch,
    /// The next event of the page.
    index: usize,
    /// What the next answer cost so far.
    cost: Cost,
}

impl App {
    /// The answer to this query as of one position, and then each changed answer with the
    /// position of the event that changed it, up to and with another. Events of one commit are
    /// taken one by one, as in [`Ask::as_of`](crate::Ask::as_of).
    ///
    /// It takes an answer for every event in the query's [scope](Query::scope).
    pub fn history<Q>(&self, query: Q, from: Position, to: Position) -> History<Q>
    where
        Q: Query<Answer: Clone + PartialEq>,
    {
        History { app: self.clone(), query, from, to, state: State::NotBegun }
    }
}

impl<Q: Query<Answer: Clone + PartialEq>> History<Q> {
    /// The next answer; nothing once there are no more. The [cost](Answer::cost) is what came
    /// since the answer before. Dropping the future loses nothing but time.
    ///
    /// # Errors
    /// [`QueryError`] as of the query at that point; then again the same.
    pub async fn next(&mut self) -> Result<Option<Answer<Q::Answer>>, QueryError> {
        let outcome = match &mut self.state {
            State::NotBegun => self.begin().await,
            State::Going(going) => going.next(&self.query).await,
            State::Done(None) => Ok(None),
            State::Done(Some(error)) => Err(error.clone()),
        };
        match &outcome {
            Ok(Some(_)) => {}
            Ok(None) => self.state = State::Done(None),
            Err(error) => self.state = State::Done(Some(error.clone())),
        }
        outcome
    }

    async fn begin(&mut self) -> Result<Option<Answer<Q::Answer>>, QueryError> {
        // The end is looked at first: what lies above the head is known at once.
        self.app.prefix(Point::at(self.to)).await?;
        let prefix = self.app.prefix(Point::at(self.from)).await?;
        let replay = Replay::new(&self.app, &self.query)?;
        let folded = replay.folded(&prefix).await?;
        let answer = replay.answer_of(&folded)?;
        self.state = State::Going(Box::new(Going {
            selection: replay.selection,
            view: folded.view,
            last: answer.value.clone(),
            cursor: Cursor { at: self.from, upto: self.to, events: 0 },
            page: Batch::default(),
            index: 0,
            cost: Cost::memory(self.from),
        }));
        Ok(Some(answer))
    }
}

impl<Q: Query<Answer: Clone + PartialEq>> Going<Q> {
    async fn next(&mut self, query: &Q) -> Result<Option<Answer<Q::Answer>>, QueryError> {
        loop {
            while let Some(event) = self.page.get(self.index) {
                self.index += 1;
                self.cost.events += 1;
                let position = event.position();
                self.selection.take(&mut self.view, [event])?;
                let value = answer(query, &self.view)?;
                if value != self.last {
                    self.last = value.clone();
                    let cost = std::mem::replace(&mut self.cost, Cost::memory(position));
                    return Ok(Some(Answer::past(value, position, cost)));
                }
                if self.index.is_multiple_of(TURN_EVENTS) {
                    yield_now().await;
                }
            }
            let Some(page) = self.selection.page(&mut self.cursor).await? else {
                return Ok(None);
            };
            (self.page, self.index) = (page, 0);
        }
    }
}

impl<Q: Query> fmt::Debug for History<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut history = f.debug_struct("History");
        history.field("query", &type_name::<Q>());
        history.field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}
