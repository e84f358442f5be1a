//! Queries with their types erased: about the present and the past, live, and explained.

use std::{
    any::type_name, collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc, time::Duration,
};

use axum::body::Bytes;
use diptych::{
    Answer, App, Event, Fold, Point, Position, Query, QueryError, Recorded, Session, SessionToken,
    follow::Standstill, past::Explain, query::Ask, store::RawEvent,
};
use futures_util::stream::{self, BoxStream};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Value, json};

use crate::{
    door::{
        access::{Caller, Denial},
        code::Code,
        limits::ServerLimits,
        problem::Problem,
        request::{AnyToken, RequestOptions, SentToken, from_form, from_json, pairs},
    },
    json::payload,
    panels::entries::{
        event,
        page::{ListOptions, Page, PagePlace, Pages},
        schema::ArgumentNames,
        sources::QuerySources,
    },
};

/// A query with its name and the options of its route, for
/// [`Server::query`](crate::Server::query) and [`Server::live_query`](crate::Server::live_query).
///
/// A plain name is a route without options: the query has no explanations.
pub struct QueryRoute<Q: Query> {
    name: String,
    is_explained: bool,
    mask: Option<Mask>,
    admit: Option<AdmitQuery<Q>>,
    pages: Option<Pages<Q::Answer>>,
}

/// Changes an event of an explanation for this caller.
type Mask = Arc<dyn Fn(&Caller, &mut Value) + Send + Sync>;
/// A rule about the caller of a decoded query.
type AdmitQuery<Q> = Arc<dyn Fn(&Caller, &Q) -> Result<(), Denial> + Send + Sync>;

impl<Q: Query> QueryRoute<Q> {
    /// A query without explanations.
    pub fn new(name: impl Into<String>) -> QueryRoute<Q> {
        QueryRoute { name: name.into(), is_explained: false, mask: None, admit: None, pages: None }
    }

    /// Answers with pages of at most this number of items. The answer is a list that serialises as
    /// an array, with the items of its iterator in a stable order. The parameters `_limit` and
    /// `_offset` ask for a part. The header `Diptych-Total` has the number of items of the whole
    /// list, and `Link` leads to the next page.
    ///
    /// The query still answers with the whole list, of which the server sends a page. Live answers
    /// are whole lists. The documentation of the [crate](crate#lists) says how pages fit together.
    pub fn paged(mut self, items: usize) -> QueryRoute<Q>
    where
        Q::Answer: IntoIterator<Item: Serialize>,
    {
        self.pages = Some(Pages::of(items));
        self
    }

    /// Answers explanations of the query: callers that the hook admits to
    /// [`Operation::Explain`](crate::Operation::Explain) read the events behind an answer, with
    /// their payloads and actors. Without a hook, every caller may do so.
    pub fn explained(mut self) -> QueryRoute<Q> {
        self.is_explained = true;
        self
    }

    /// Answers explanations of the query as [`explained`](QueryRoute::explained) does, and gives
    /// each event to `mask` before it is sent. The event is an object with the members of the
    /// explanation (`type`, `actor`, `data` and so on), and `mask` changes or removes what this
    /// caller may not read. An event that becomes `null` is left out. If `mask` panics, nothing is
    /// sent.
    pub fn explained_by(
        self,
        mask: impl Fn(&Caller, &mut Value) + Send + Sync + 'static,
    ) -> QueryRoute<Q> {
        QueryRoute { mask: Some(Arc::new(mask)), ..self.explained() }
    }

    /// Admits a caller by the arguments of the query, for example by its tenant: each time that the
    /// query is asked, watched or explained. The [hook](crate::Server::admit) is asked first,
    /// before the arguments are decoded.
    pub fn admit(
        mut self,
        admit: impl Fn(&Caller, &Q) -> Result<(), Denial> + Send + Sync + 'static,
    ) -> QueryRoute<Q> {
        self.admit = Some(Arc::new(admit));
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl<Q: Query> From<&str> for QueryRoute<Q> {
    fn from(name: &str) -> QueryRoute<Q> {
        QueryRoute::new(name)
    }
}

impl<Q: Query> fmt::Debug for QueryRoute<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QueryRoute { name, is_explained, pages, .. } = self;
        f.debug_struct("QueryRoute")
            .field("name", name)
            .field("is_explained", is_explained)
            .field("pages", pages)
            .finish_non_exhaustive()
    }
}

/// A query of the application with its type erased.
pub(crate) struct QueryEntry {
    /// The Rust types of the query and of its view.
    pub(crate) type_name: &'static str,
    pub(crate) view: &'static str,
    /// Names of the events that the view applies.
    pub(crate) events: Vec<&'static str>,
    pub(crate) arguments: Value,
    pub(crate) answer: Value,
    pub(crate) argument_names: ArgumentNames,
    /// The number of items of the longest page; `None` for a query without pages.
    pub(crate) page_items: Option<usize>,
    ask: RunQuery<EncodedAnswer>,
    /// `None` for a query without explanations.
    explain: Option<RunQuery<EncodedExplanation>>,
    watch: Option<WatchQuery>,
}

pub(crate) type QueryFuture<T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send>>;
type RunQuery<T> = Box<dyn Fn(App, Arguments, QueryOptions) -> QueryFuture<T> + Send + Sync>;
type WatchQuery =
    Box<dyn Fn(App, Arguments, &Caller, &[SessionToken]) -> WatchResult + Send + Sync>;
type WatchResult = Result<LiveAnswers, Problem>;

/// A stream of changed answers.
pub(crate) type LiveAnswers = BoxStream<'static, Result<LiveAnswer, QueryError>>;

/// One answer of a live query.
pub(crate) struct LiveAnswer {
    pub(crate) position: Position,
    /// The answer as JSON.
    pub(crate) json: String,
    pub(crate) standstill: Option<Box<Standstill>>,
}

/// The raw arguments of a query.
pub(crate) enum Arguments {
    Form(String),
    Json(Bytes),
}

impl Arguments {
    /// Refuses unknown arguments, which would otherwise be ignored silently.
    pub(crate) fn check(self, names: &ArgumentNames) -> Result<Arguments, Problem> {
        let own: Vec<String> = match (&self, names) {
            (Arguments::Form(text), _) => pairs(text)?.into_iter().map(|(name, _)| name).collect(),
            (Arguments::Json(bytes), ArgumentNames::Unit) => {
                let object: Option<BTreeMap<String, IgnoredAny>> =
                    from_json("the arguments", bytes)?;
                object.unwrap_or_default().into_keys().collect()
            }
            // If the JSON is not an object, decoding the type reports it.
            (Arguments::Json(bytes), _) => serde_json::from_slice(bytes)
                .map(|object: BTreeMap<String, IgnoredAny>| object.into_keys().collect())
                .unwrap_or_default(),
        };
        match names.first_unknown(&own) {
            Some((name, fields)) => {
                let detail = format!("there is no argument {name:?} (known: {fields:?})");
                Err(Problem::bad(Code::Arguments, detail).and("argument", name))
            }
            None if matches!(names, ArgumentNames::Unit) => Ok(Arguments::Json("null".into())),
            None => Ok(self),
        }
    }

    /// Decodes the query, if the rule of its route admits the caller.
    fn read<Q: DeserializeOwned>(
        &self,
        caller: &Caller,
        admit: Option<&AdmitQuery<Q>>,
    ) -> Result<Q, Problem> {
        let query = match self {
            Arguments::Json(bytes) => from_json("the arguments", bytes),
            Arguments::Form(text) => from_form(text),
        }?;
        admit.map(|admit| admit(caller, &query)).transpose()?;
        Ok(query)
    }
}

/// Wait of a query that says nothing about it: the default of [`Ask::within`].
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// The options of a query.
pub(crate) struct QueryOptions {
    caller: Caller,
    is_strong: bool,
    after: Option<SentToken>,
    session: Option<Session>,
    within: Option<Duration>,
    /// The server's limit for `within`, and for the wait of a request without it.
    wait_time: Duration,
    at_most: Option<Duration>,
    or_stale: bool,
    point: Option<Point>,
    pub(crate) list: ListOptions,
    sources: QuerySources,
    /// The server's limit for the events of an explanation.
    explained_events: usize,
}

/// An answer ready to send.
pub(crate) struct EncodedAnswer {
    pub(crate) body: Vec<u8>,
    pub(crate) position: Position,
    pub(crate) stale: Option<Position>,
    pub(crate) standstill: Option<Box<Standstill>>,
    /// The number of events read for the answer.
    pub(crate) events: u64,
    pub(crate) token: SessionToken,
    pub(crate) session: Option<SessionToken>,
    /// The place of the answer in its list, if it is a page.
    pub(crate) page: Option<PagePlace>,
}

/// An explanation ready to send.
pub(crate) struct EncodedExplanation {
    pub(crate) body: Value,
    pub(crate) upto: Position,
    /// The place at which the next list begins.
    pub(crate) next: Option<Position>,
}

impl QueryEntry {
    pub(crate) fn of<Q>(schemas: &mut SchemaGenerator, route: QueryRoute<Q>) -> QueryEntry
    where
        Q: Query<Answer: Serialize + JsonSchema> + DeserializeOwned + JsonSchema,
    {
        let arguments: Value = schemas.subschema_for::<Q>().into();
        let QueryRoute { name: _, is_explained, mask, admit, pages } = route;
        let explain = is_explained.then(|| explained::<Q>(mask, admit.clone()));
        QueryEntry {
            argument_names: ArgumentNames::of(&arguments, schemas.definitions()),
            type_name: type_name::<Q>(),
            view: type_name::<Q::View>(),
            events: event::names(<Q::View as Fold>::Event::types()),
            arguments,
            answer: schemas.subschema_for::<Q::Answer>().into(),
            page_items: pages.as_ref().map(Pages::items),
            ask: Box::new(move |app, arguments, options| {
                let query = arguments.read::<Q>(&options.caller, admit.as_ref());
                Box::pin(async move { options.ask(&app, query?, pages).await })
            }),
            explain,
            watch: None,
        }
    }

    /// A query that can also be watched.
    pub(crate) fn live<Q>(schemas: &mut SchemaGenerator, route: QueryRoute<Q>) -> QueryEntry
    where
        Q: Query<Answer: Serialize + JsonSchema + Clone + PartialEq>,
        Q: DeserializeOwned + JsonSchema,
    {
        let admit = route.admit.clone();
        let watch: WatchQuery = Box::new(move |app, arguments, caller, tokens| {
            let watch = app.watch(arguments.read::<Q>(caller, admit.as_ref())?);
            let watch = tokens.iter().fold(watch, |watch, token| watch.token(token));
            let answers = stream::unfold(watch, |mut watch| async {
                let next = watch.next().await.map(|answer| {
                    // An answer that cannot be JSON also fails in a plain query, so tests find it.
                    let json = serde_json::to_string(&answer.value);
                    let json = json.unwrap_or_else(|_| "null".to_owned());
                    let Answer { position, standstill, .. } = answer;
                    LiveAnswer { position, json, standstill }
                });
                Some((next, watch))
            });
            Ok(Box::pin(answers))
        });
        QueryEntry { watch: Some(watch), ..QueryEntry::of::<Q>(schemas, route) }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.watch.is_some()
    }

    pub(crate) fn is_explained(&self) -> bool {
        self.explain.is_some()
    }

    pub(crate) fn ask(
        &self,
        app: App,
        arguments: Arguments,
        options: QueryOptions,
    ) -> QueryFuture<EncodedAnswer> {
        (self.ask)(app, arguments, options)
    }

    /// The events behind an answer; `None` if the query has no explanations.
    pub(crate) fn explain(
        &self,
        app: App,
        arguments: Arguments,
        options: QueryOptions,
    ) -> Option<QueryFuture<EncodedExplanation>> {
        self.explain.as_ref().map(|explain| explain(app, arguments, options))
    }

    /// The answers from these tokens on; `None` if the query has no live answers.
    pub(crate) fn watch(
        &self,
        app: App,
        arguments: Arguments,
        caller: &Caller,
        tokens: &[SessionToken],
    ) -> Option<WatchResult> {
        self.watch.as_ref().map(|watch| watch(app, arguments, caller, tokens))
    }
}

fn explained<Q>(mask: Option<Mask>, admit: Option<AdmitQuery<Q>>) -> RunQuery<EncodedExplanation>
where
    Q: Query + DeserializeOwned,
{
    Box::new(move |app, arguments, options| {
        let query = arguments.read::<Q>(&options.caller, admit.as_ref());
        let mask = mask.clone();
        Box::pin(async move {
            let caller = options.caller.clone();
            let mut explanation = options.explain(&app, query?).await?;
            if let (Some(mask), Some(Value::Array(events))) =
                (mask, explanation.body.get_mut("events"))
            {
                events.iter_mut().for_each(|event| mask(&caller, event));
                events.retain(|event| !event.is_null());
            }
            Ok(explanation)
        })
    })
}

impl QueryOptions {
    pub(crate) async fn read(
        app: &App,
        options: &RequestOptions<'_>,
        limits: &ServerLimits,
        caller: Caller,
    ) -> Result<QueryOptions, Problem> {
        let is_strong = match options.text("consistency")? {
            None | Some("eventual") => false,
            Some("strong") => true,
            Some(other) => {
                let wrong = format!("is eventual or strong, and not {other:?}");
                return Err(options.wrong("consistency", wrong));
            }
        };
        Ok(QueryOptions {
            caller,
            is_strong,
            after: options.after()?,
            session: options.session(app).await?,
            within: milliseconds(options, "within")?,
            wait_time: limits.wait_time,
            at_most: milliseconds(options, "at-most")?,
            or_stale: options.flag("or-stale")?,
            point: point(options)?,
            list: ListOptions::read(options)?,
            sources: QuerySources::of(options)?,
            explained_events: limits.explained_events,
        })
    }

    pub(crate) fn is_about_past(&self) -> bool {
        self.point.is_some()
    }

    async fn ask<Q>(
        self,
        app: &App,
        query: Q,
        pages: Option<Pages<Q::Answer>>,
    ) -> Result<EncodedAnswer, Problem>
    where
        Q: Query<Answer: Serialize>,
    {
        let ask = self.set(app.query(query));
        let answer = match self.point {
            Some(point) => ask.at(point).await,
            None => ask.await,
        };
        let answer = answer.map_err(|error| self.sources.problem(error))?;
        let Answer { value, position, stale, standstill, cost, .. } = answer;
        let (body, page) =
            encoded(value, pages, self.list).map_err(|error| not_json::<Q>(&error))?;
        let token = app.token_at(position).await?;
        let session = match &self.session {
            Some(session) => Some(session.token().await.map_err(QueryError::from)?),
            None => None,
        };
        let events = cost.events;
        Ok(EncodedAnswer { body, position, stale, standstill, events, token, session, page })
    }

    /// Sets the options about freshness.
    fn set<Q: Query>(&self, mut ask: Ask<Q>) -> Ask<Q> {
        if self.is_strong {
            ask = ask.strong();
        }
        match self.after.as_ref().map(|after| &after.token) {
            Some(AnyToken::Receipt(receipt)) => ask = ask.after(receipt),
            Some(AnyToken::Session(token)) => ask = ask.token(token),
            None => {}
        }
        if let Some(session) = &self.session {
            ask = ask.session(session);
        }
        if let Some(age) = self.at_most {
            ask = ask.at_most(age);
        }
        let within = self.within.unwrap_or(DEFAULT_WAIT).min(self.wait_time);
        ask = ask.within(within);
        if self.or_stale { ask.or_stale() } else { ask }
    }

    /// The token of the session, if the request names one. A live query begins with the present
    /// answer, which must not be older than this token.
    pub(crate) async fn live(self) -> Result<Option<SessionToken>, Problem> {
        let QueryOptions {
            caller: _,
            is_strong,
            after,
            session,
            within,
            at_most,
            or_stale,
            point,
            list,
            wait_time: _,
            explained_events: _,
            sources: _,
        } = self;
        let is_other = is_strong || or_stale || after.is_some() || point.is_some();
        let is_other = is_other || !list.is_empty();
        if is_other || within.is_some() || at_most.is_some() {
            let detail = "a live query sends the present answer and then each changed one: its \
                          only option is the session; use other options without /live";
            return Err(Problem::bad(Code::Parameter, detail));
        }
        match session {
            Some(session) => Ok(Some(session.token().await.map_err(QueryError::from)?)),
            None => Ok(None),
        }
    }

    async fn explain<Q: Query>(self, app: &App, query: Q) -> Result<EncodedExplanation, Problem> {
        let explain: Explain<Q> =
            app.explain(query).limit(self.list.limit_upto(self.explained_events));
        let explain = match self.list.start_after() {
            Some(position) => explain.start_after(position),
            None => explain,
        };
        let explanation = match self.point {
            Some(point) => explain.at(point).await,
            None => explain.await,
        };
        let explanation = explanation.map_err(|error| self.sources.problem(error))?;
        let events: Vec<_> = explanation.events.iter().map(event_json).collect();
        let (upto, is_whole, next) = (explanation.upto, explanation.is_whole, explanation.next);
        let body = json!({
            "upto": upto.get(),
            "is_whole": is_whole,
            "next": next.map(Position::get),
            "events": events,
        });
        Ok(EncodedExplanation { body, upto, next })
    }
}

/// The answer, or a page of it, as JSON.
fn encoded<A: Serialize>(
    answer: A,
    pages: Option<Pages<A>>,
    list: ListOptions,
) -> serde_json::Result<(Vec<u8>, Option<PagePlace>)> {
    match pages {
        Some(pages) => {
            let Page { body, place } = pages.cut(answer, list)?;
            Ok((body, Some(place)))
        }
        None => Ok((serde_json::to_vec(&answer)?, None)),
    }
}

/// An event in an explanation.
fn event_json<E: Event>(recorded: &Recorded<E>) -> Value {
    let raw = recorded.event.encode().ok();
    let tags = |raw: &RawEvent| -> Vec<String> {
        raw.tags.iter().map(|tag| tag.as_str().to_owned()).collect()
    };
    json!({
        "position": recorded.position.get(),
        "id": recorded.id.to_string(),
        "type": raw.as_ref().map(|raw| raw.event_type.to_string()),
        "version": raw.as_ref().map(|raw| raw.version),
        "occurred_at": recorded.occurred_at().to_string(),
        "recorded_at": recorded.recorded_at.to_string(),
        "actor": recorded.metadata.actor.as_ref().map(|actor| actor.as_str()),
        "correlation": recorded.metadata.correlation.map(|id| id.to_string()),
        "causation": recorded.metadata.causation.map(|id| id.to_string()),
        "tags": raw.as_ref().map(tags),
        "data": raw.as_ref().map(|raw| payload(&raw.payload)),
    })
}

fn not_json<Q>(error: &serde_json::Error) -> Problem {
    let query = type_name::<Q>();
    Problem::mistake(&format!("the answer of {query} cannot be written as JSON"), error)
}

fn milliseconds(options: &RequestOptions<'_>, name: &str) -> Result<Option<Duration>, Problem> {
    Ok(options.value::<u64>(name)?.map(Duration::from_millis))
}

/// The point in the past that the request names, if any.
fn point(options: &RequestOptions<'_>) -> Result<Option<Point>, Problem> {
    let as_of = options.position("as-of")?;
    let recorded_before = options.instant("recorded-before")?;
    let occurred_before = options.instant("occurred-before")?;
    if as_of.is_none() && recorded_before.is_none() && occurred_before.is_none() {
        return Ok(None);
    }
    let mut point = Point::now();
    if let Some(position) = as_of {
        point = point.as_of(position);
    }
    if let Some(instant) = recorded_before {
        point = point.recorded_before(instant);
    }
    if let Some(instant) = occurred_before {
        point = point.occurred_before(instant);
    }
    Ok(Some(point))
}
