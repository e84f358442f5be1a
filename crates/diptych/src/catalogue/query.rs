//! Queries by name, with their types erased.

use std::{
    any::{Any, TypeId, type_name},
    fmt,
    pin::Pin,
    sync::Arc,
};

use diptych_store::{Position, RawEvent};
use serde::{Deserializer, Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    decode::{DecodeError, decode_erased, decode_json},
    schemas::Describe,
};
use crate::{
    event::{Event, EventType, Recorded},
    fold::Fold,
    past::{Explain, Explanation, Past, Point, ResolvedPoint},
    query::{Answer, Ask, AskOptions, Query, QueryError, RightPanel, Watch},
    request::BoxFuture,
};

/// An answer whose value is JSON.
pub type JsonAnswer = Answer<Box<RawValue>>;

/// A query of an application, as declared.
#[derive(Clone)]
pub(super) struct QueryEntry {
    pub(super) name: String,
    pub(super) type_name: &'static str,
    /// The Rust type of the view that the query asks.
    pub(super) view: &'static str,
    /// The events of that view.
    pub(super) events: fn() -> Vec<EventType>,
    /// The schemas of the arguments and of the answer.
    pub(super) describe: Describe,
    id: TypeId,
    decode: DecodeQuery,
    read: ReadQuery,
    /// `None` for a query that cannot be watched.
    watch: Option<BeginWatch>,
}

/// Reads a query from JSON.
type DecodeQuery = fn(&[u8]) -> Result<Box<dyn ErasedQuery>, DecodeError>;
/// Reads a query from any format.
type ReadQuery = for<'de> fn(
    &mut dyn erased_serde::Deserializer<'de>,
) -> Result<Box<dyn ErasedQuery>, erased_serde::Error>;
/// Begins a watch of a query of the type that the entry knows.
type BeginWatch = fn(Box<dyn Any>, Arc<RightPanel>) -> Option<Box<dyn ErasedWatch>>;

impl QueryEntry {
    pub(super) fn new<Q>(name: String, describe: Describe) -> QueryEntry
    where
        Q: Query<Answer: Serialize> + DeserializeOwned,
    {
        QueryEntry {
            name,
            type_name: type_name::<Q>(),
            view: type_name::<Q::View>(),
            events: <Q::View as Fold>::Event::types,
            describe,
            id: TypeId::of::<Q>(),
            decode: |json| Ok(Box::new(decode_json::<Q>(json)?)),
            read: |reader| Ok(Box::new(erased_serde::deserialize::<Q>(reader)?)),
            watch: None,
        }
    }

    pub(super) fn live<Q>(name: String, describe: Describe) -> QueryEntry
    where
        Q: Query<Answer: Serialize + Clone + PartialEq> + DeserializeOwned,
    {
        let watch: BeginWatch = |query, panel| {
            let query = query.downcast::<Q>().ok()?;
            Some(Box::new(Watch::new(panel, *query)))
        };
        QueryEntry { watch: Some(watch), ..QueryEntry::new::<Q>(name, describe) }
    }

    pub(super) fn is_live(&self) -> bool {
        self.watch.is_some()
    }
}

/// A query of a running app, found by its name in [`App::catalogue`](crate::App::catalogue).
#[derive(Clone)]
pub struct NamedQuery {
    pub(super) entry: Arc<QueryEntry>,
    pub(super) panel: Arc<RightPanel>,
}

/// Why a query that was asked by name has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamedQueryError {
    /// The text is not the arguments of this query.
    #[error("the arguments of the query {query} cannot be read: {error}")]
    Arguments {
        /// The name of the query.
        query: String,
        /// The problem with the arguments.
        #[source]
        error: DecodeError,
    },
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The answer cannot be written as JSON: a map without text as its keys, for example.
    #[error("the answer of {query} cannot be written as JSON: {error}")]
    NotJson {
        /// The Rust type of the query.
        query: &'static str,
        /// The position of the answer.
        position: Position,
        /// The problem with the answer.
        #[source]
        error: serde_json::Error,
    },
}

impl NamedQuery {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Its Rust type.
    pub fn type_name(&self) -> &'static str {
        self.entry.type_name
    }

    /// Whether it is of this Rust type.
    pub fn is<Q: Query>(&self) -> bool {
        self.entry.id == TypeId::of::<Q>()
    }

    /// Whether it can be [watched](AnyQuery::watch).
    pub fn is_live(&self) -> bool {
        self.entry.is_live()
    }

    /// Reads the query from JSON.
    ///
    /// # Errors
    /// [`DecodeError`] if the JSON is not the arguments of this query.
    pub fn decode(&self, json: &[u8]) -> Result<AnyQuery, DecodeError> {
        Ok(self.with((self.entry.decode)(json)?))
    }

    /// Reads the query from another format.
    ///
    /// # Errors
    /// [`DecodeError`] if the text is not the arguments of this query.
    pub fn decode_from<'de, D>(&self, reader: D) -> Result<AnyQuery, DecodeError>
    where
        D: Deserializer<'de>,
    {
        Ok(self.with(decode_erased(self.entry.read, reader)?))
    }

    /// Reads the query from JSON, and asks it of the present with these options.
    ///
    /// # Errors
    /// [`NamedQueryError`] if the JSON is not the arguments of this query, the query fails, or its
    /// answer cannot be JSON.
    pub async fn ask(
        &self,
        json: &[u8],
        options: &AskOptions,
    ) -> Result<JsonAnswer, NamedQueryError> {
        let query = self.decode(json).map_err(|error| {
            let query = self.entry.name.clone();
            NamedQueryError::Arguments { query, error }
        })?;
        query.ask(options).await
    }

    fn with(&self, query: Box<dyn ErasedQuery>) -> AnyQuery {
        AnyQuery { query, watch: self.entry.watch, panel: self.panel.clone() }
    }
}

impl fmt::Debug for NamedQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QueryEntry { name, type_name, .. } = &*self.entry;
        f.debug_struct("NamedQuery")
            .field("name", name)
            .field("type_name", type_name)
            .finish_non_exhaustive()
    }
}

/// A query that was read by name. It is ready to be asked, and its type is known only to the
/// catalogue.
pub struct AnyQuery {
    query: Box<dyn ErasedQuery>,
    watch: Option<BeginWatch>,
    panel: Arc<RightPanel>,
}

/// The options of an [explanation](AnyQuery::explain), as those of
/// [`App::explain`](crate::App::explain).
#[derive(Clone, Copy, Debug, Default)]
pub struct ExplainOptions {
    /// The point in the past; by default the present.
    pub point: Point,
    /// The maximum number of events in the list.
    pub limit: Option<usize>,
    /// The maximum number of events that may be read.
    pub read_at_most: Option<u64>,
    /// The list continues after the event at this position.
    pub start_after: Option<Position>,
}

impl AnyQuery {
    /// The query as this type, if it is one.
    pub fn downcast_ref<Q: Query>(&self) -> Option<&Q> {
        self.query.query().downcast_ref()
    }

    /// The query as this type, or `None` if it is of another type.
    pub fn downcast<Q: Query>(self) -> Option<Q> {
        let query = self.query.into_query().downcast().ok()?;
        Some(*query)
    }

    /// Asks the query of the present, as [`App::query`](crate::App::query) does.
    ///
    /// # Errors
    /// [`NamedQueryError`] if the query fails, or its answer cannot be JSON.
    pub async fn ask(self, options: &AskOptions) -> Result<JsonAnswer, NamedQueryError> {
        self.query.ask(self.panel, options).await
    }

    /// Asks the query at a point in the past. Options about freshness do not apply to it, but the
    /// tokens of the caller are compared with the log.
    pub fn at(self, point: impl Into<Point>, options: &AskOptions) -> AnyPast {
        AnyPast(self.query.at(self.panel, point.into(), options))
    }

    /// Asks for the events that made the answer, as [`App::explain`](crate::App::explain) does.
    pub fn explain(self, options: ExplainOptions) -> AnyExplain {
        AnyExplain(self.query.explain(self.panel, options))
    }

    /// Watches the query, as [`App::watch`](crate::App::watch) does; `None` if it was not declared
    /// as a live query. The first answer has the position `from` or a later one.
    pub fn watch(self, from: Position) -> Option<AnyWatch> {
        let begin = self.watch?;
        let watch = begin(self.query.into_query(), self.panel)?;
        Some(AnyWatch(watch.from_position(from)))
    }
}

impl fmt::Debug for AnyQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyQuery").field(&self.query.type_name()).finish()
    }
}

/// A question about the past whose type is erased: see [`AnyQuery::at`].
#[must_use = "a query does nothing until it is awaited"]
pub struct AnyPast(Box<dyn ErasedPast>);

impl AnyPast {
    /// Reads at most this many events of the log: see [`Past::read_at_most`].
    pub fn read_at_most(self, events: u64) -> AnyPast {
        AnyPast(self.0.reading_at_most(events))
    }

    /// Finds the part of the log that the answer is about: see [`Past::resolve`].
    ///
    /// # Errors
    /// [`QueryError`] as of the query.
    pub async fn resolve(self) -> Result<(AnyPast, ResolvedPoint), QueryError> {
        let (past, part) = self.0.resolved().await?;
        Ok((AnyPast(past), part))
    }

    /// The answer.
    ///
    /// # Errors
    /// [`NamedQueryError`] if the query fails, or its answer cannot be JSON.
    pub async fn answer(self) -> Result<JsonAnswer, NamedQueryError> {
        self.0.answered().await
    }
}

impl fmt::Debug for AnyPast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyPast").finish_non_exhaustive()
    }
}

/// An explanation whose type is erased: see [`AnyQuery::explain`].
#[must_use = "nothing is explained until it is awaited"]
pub struct AnyExplain(Box<dyn ErasedExplain>);

/// Events of an explanation, as named bytes. An event that cannot be written so is `None`.
pub type RawExplanation = Explanation<Option<RawEvent>>;

impl AnyExplain {
    /// Finds the part of the log that the explanation is about: see [`Explain::resolve`].
    ///
    /// # Errors
    /// [`QueryError`] as of the query.
    pub async fn resolve(self) -> Result<(AnyExplain, ResolvedPoint), QueryError> {
        let (explain, part) = self.0.resolved().await?;
        Ok((AnyExplain(explain), part))
    }

    /// The explanation.
    ///
    /// # Errors
    /// [`QueryError`] as of the query.
    pub async fn explanation(self) -> Result<RawExplanation, QueryError> {
        self.0.explained().await
    }
}

impl fmt::Debug for AnyExplain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyExplain").finish_non_exhaustive()
    }
}

/// The answers to a query as they change: see [`AnyQuery::watch`].
pub struct AnyWatch(Box<dyn ErasedWatch>);

impl AnyWatch {
    /// Waits for the next answer: see [`Watch::next`].
    ///
    /// # Errors
    /// [`NamedQueryError`] if the query fails, or this answer cannot be JSON.
    pub async fn next(&mut self) -> Result<JsonAnswer, NamedQueryError> {
        self.0.next_answer().await
    }
}

impl fmt::Debug for AnyWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyWatch").finish_non_exhaustive()
    }
}

/// A query whose type is erased.
trait ErasedQuery: Send + Sync {
    fn type_name(&self) -> &'static str;

    fn query(&self) -> &dyn Any;

    fn into_query(self: Box<Self>) -> Box<dyn Any>;

    fn ask(
        self: Box<Self>,
        panel: Arc<RightPanel>,
        options: &AskOptions,
    ) -> BoxFuture<Result<JsonAnswer, NamedQueryError>>;

    fn at(
        self: Box<Self>,
        panel: Arc<RightPanel>,
        point: Point,
        options: &AskOptions,
    ) -> Box<dyn ErasedPast>;

    fn explain(
        self: Box<Self>,
        panel: Arc<RightPanel>,
        options: ExplainOptions,
    ) -> Box<dyn ErasedExplain>;
}

impl<Q: Query<Answer: Serialize>> ErasedQuery for Q {
    fn type_name(&self) -> &'static str {
        type_name::<Q>()
    }

    fn query(&self) -> &dyn Any {
        self
    }

    fn into_query(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn ask(
        self: Box<Self>,
        panel: Arc<RightPanel>,
        options: &AskOptions,
    ) -> BoxFuture<Result<JsonAnswer, NamedQueryError>> {
        let ask = Ask::new(panel, *self).options(options);
        Box::pin(async move { to_json::<Q>(ask.await?) })
    }

    fn at(
        self: Box<Self>,
        panel: Arc<RightPanel>,
        point: Point,
        options: &AskOptions,
    ) -> Box<dyn ErasedPast> {
        Box::new(Ask::new(panel, *self).options(options).at(point))
    }

    fn explain(
        self: Box<Self>,
        panel: Arc<RightPanel>,
        options: ExplainOptions,
    ) -> Box<dyn ErasedExplain> {
        let ExplainOptions { point, limit, read_at_most, start_after } = options;
        let mut explain = Explain::new(panel, *self).at(point);
        if let Some(limit) = limit {
            explain = explain.limit(limit);
        }
        if let Some(events) = read_at_most {
            explain = explain.read_at_most(events);
        }
        if let Some(position) = start_after {
            explain = explain.start_after(position);
        }
        Box::new(explain)
    }
}

/// The answer with its value as JSON.
fn to_json<Q>(answer: Answer<Q::Answer>) -> Result<JsonAnswer, NamedQueryError>
where
    Q: Query<Answer: Serialize>,
{
    let Answer { value, position, stale, standstill, poisoned, cost } = answer;
    let query = type_name::<Q>();
    let value = to_raw_value(&value);
    let value = value.map_err(|error| NamedQueryError::NotJson { query, position, error })?;
    Ok(Answer { value, position, stale, standstill, poisoned, cost })
}

/// A question whose part of the log is found.
type ResolvedFuture<T> = BoxFuture<Result<(Box<T>, ResolvedPoint), QueryError>>;

/// A question about the past whose type is erased.
trait ErasedPast: Send {
    fn reading_at_most(self: Box<Self>, events: u64) -> Box<dyn ErasedPast>;

    fn resolved(self: Box<Self>) -> ResolvedFuture<dyn ErasedPast>;

    fn answered(self: Box<Self>) -> BoxFuture<Result<JsonAnswer, NamedQueryError>>;
}

impl<Q: Query<Answer: Serialize>> ErasedPast for Past<Q> {
    fn reading_at_most(self: Box<Self>, events: u64) -> Box<dyn ErasedPast> {
        Box::new(self.read_at_most(events))
    }

    fn resolved(self: Box<Self>) -> ResolvedFuture<dyn ErasedPast> {
        Box::pin(async move {
            let (past, part) = self.resolve().await?;
            Ok((Box::new(past) as Box<dyn ErasedPast>, part))
        })
    }

    fn answered(self: Box<Self>) -> BoxFuture<Result<JsonAnswer, NamedQueryError>> {
        Box::pin(async move { to_json::<Q>((*self).await?) })
    }
}

/// An explanation whose type is erased.
trait ErasedExplain: Send {
    fn resolved(self: Box<Self>) -> ResolvedFuture<dyn ErasedExplain>;

    fn explained(self: Box<Self>) -> BoxFuture<Result<RawExplanation, QueryError>>;
}

impl<Q: Query> ErasedExplain for Explain<Q> {
    fn resolved(self: Box<Self>) -> ResolvedFuture<dyn ErasedExplain> {
        Box::pin(async move {
            let (explain, part) = self.resolve().await?;
            Ok((Box::new(explain) as Box<dyn ErasedExplain>, part))
        })
    }

    fn explained(self: Box<Self>) -> BoxFuture<Result<RawExplanation, QueryError>> {
        Box::pin(async move {
            let Explanation { events, upto, is_whole, next, cost } = (*self).await?;
            let raw = |recorded: Recorded<_>| {
                let Recorded { position, recorded_at, id, metadata, event } = recorded;
                let event = Event::encode(&event).ok();
                Recorded { position, recorded_at, id, metadata, event }
            };
            let events = events.into_iter().map(raw).collect();
            Ok(Explanation { events, upto, is_whole, next, cost })
        })
    }
}

/// A watch whose type is erased.
trait ErasedWatch: Send {
    fn from_position(self: Box<Self>, position: Position) -> Box<dyn ErasedWatch>;

    fn next_answer(
        &mut self,
    ) -> Pin<Box<dyn Future<Output = Result<JsonAnswer, NamedQueryError>> + Send + '_>>;
}

impl<Q> ErasedWatch for Watch<Q>
where
    Q: Query<Answer: Serialize + Clone + PartialEq>,
{
    fn from_position(self: Box<Self>, position: Position) -> Box<dyn ErasedWatch> {
        Box::new(self.from(position))
    }

    fn next_answer(
        &mut self,
    ) -> Pin<Box<dyn Future<Output = Result<JsonAnswer, NamedQueryError>> + Send + '_>> {
        Box::pin(async move { to_json::<Q>(self.next().await?) })
    }
}
