//! Queries with their types erased: about the present and the past, live, and explained.

use std::{any::type_name, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::body::Bytes;
use diptych::{
    Answer, App, Event, Fold, Point, Position, Query, QueryError, Recorded, Session, SessionToken,
    follow::Standstill,
    past::{Explain, Explanation},
    query::Ask,
    store::RawEvent,
};
use futures_util::stream::{self, BoxStream};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    door::{
        access::{Caller, Denial},
        code::Code,
        limits::ServerLimits,
        problem::Problem,
        request::{AnyToken, RequestOptions, SentToken},
    },
    json::payload,
    panels::{
        answers::{PastAnswer, PastAnswers, QuestionKey},
        entries::{
            arguments::{AdmitQuery, Arguments},
            event,
            page::{ListOptions, Page, PagePlace, Pages},
            schema::ArgumentNames,
            sources::QuerySources,
        },
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
    /// `None` for a query without live answers.
    live: Option<LiveEntry>,
}

pub(crate) type QueryFuture<T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send>>;
type RunQuery<T> =
    Box<dyn Fn(App, Arguments, QueryOptions, Arc<PastAnswers>) -> QueryFuture<T> + Send + Sync>;
/// Watches a query from a position on.
type WatchQuery =
    Arc<dyn Fn(&App, &Arguments, Position) -> Result<LiveAnswers, Problem> + Send + Sync>;
type CheckCaller = Box<dyn Fn(&Arguments, &Caller) -> Result<(), Problem> + Send + Sync>;

/// A query that can be watched.
struct LiveEntry {
    watch: WatchQuery,
    /// Reads the arguments, and applies the rule of the route about the caller.
    check: CheckCaller,
}

/// Begins a watch whose first answer has this position or a later one.
pub(crate) type BeginWatch = Box<dyn Fn(Position) -> Result<LiveAnswers, Problem> + Send + Sync>;

/// A stream of changed answers.
pub(crate) type LiveAnswers = BoxStream<'static, Result<LiveAnswer, QueryError>>;

/// One answer of a live query.
pub(crate) struct LiveAnswer {
    pub(crate) position: Position,
    /// The answer as JSON.
    pub(crate) json: String,
    pub(crate) standstill: Option<Box<Standstill>>,
}

/// Wait of a query that says nothing about it: the default of [`Ask::within`].
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// The options of a query.
#[derive(Clone, Debug)]
pub(crate) struct QueryOptions {
    pub(crate) caller: Caller,
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
    /// The limit of events that are read for an answer about the past.
    past_reads: u64,
    /// Whether the address alone says which answer the client wants.
    is_addressed: bool,
}

/// How long an answer about the past holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// The request can have another answer at any time.
    Now,
    /// The address has this answer now. Later events change that.
    Open,
    /// The address has this answer whatever happens.
    Final,
}

/// An answer ready to send.
#[derive(Clone, Debug)]
pub(crate) struct EncodedAnswer {
    pub(crate) body: Bytes,
    pub(crate) validity: Validity,
    pub(crate) position: Position,
    pub(crate) stale: Option<Position>,
    pub(crate) standstill: Option<Box<Standstill>>,
    /// The number of events read for the answer.
    pub(crate) events: u64,
    pub(crate) token: String,
    pub(crate) session: Option<SessionToken>,
    /// The place of the answer in its list, if it is a page.
    pub(crate) page: Option<PagePlace>,
}

/// An explanation ready to send.
pub(crate) struct EncodedExplanation {
    pub(crate) body: Bytes,
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
        let QueryRoute { name, is_explained, mask, admit, pages } = route;
        let explain = is_explained.then(|| explained::<Q>(name.clone(), mask, admit.clone()));
        QueryEntry {
            argument_names: ArgumentNames::of(&arguments, schemas.definitions()),
            type_name: type_name::<Q>(),
            view: type_name::<Q::View>(),
            events: event::names(<Q::View as Fold>::Event::types()),
            arguments,
            answer: schemas.subschema_for::<Q::Answer>().into(),
            page_items: pages.as_ref().map(Pages::items),
            ask: Box::new(move |app, arguments, options, answers| {
                let query = arguments.read::<Q>(&options.caller, admit.as_ref());
                let name = name.clone();
                Box::pin(async move {
                    match options.point {
                        Some(point) => {
                            let question = (&*name, &arguments);
                            let answered =
                                options.ask_past(&app, question, query?, point, &answers);
                            options.page_of(answered.await?, pages)
                        }
                        None => options.ask(&app, query?, pages).await,
                    }
                })
            }),
            explain,
            live: None,
        }
    }

    /// A query that can also be watched.
    pub(crate) fn live<Q>(schemas: &mut SchemaGenerator, route: QueryRoute<Q>) -> QueryEntry
    where
        Q: Query<Answer: Serialize + JsonSchema + Clone + PartialEq>,
        Q: DeserializeOwned + JsonSchema,
    {
        let admit = route.admit.clone();
        let check: CheckCaller = Box::new(move |arguments, caller| {
            arguments.read::<Q>(caller, admit.as_ref()).map(drop)
        });
        let watch: WatchQuery = Arc::new(|app, arguments, from| {
            let query = arguments.read::<Q>(&Caller::anonymous(), None)?;
            let answers = stream::unfold(app.watch(query).from(from), |mut watch| async {
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
        let live = Some(LiveEntry { watch, check });
        QueryEntry { live, ..QueryEntry::of::<Q>(schemas, route) }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    pub(crate) fn is_explained(&self) -> bool {
        self.explain.is_some()
    }

    pub(crate) fn ask(
        &self,
        app: App,
        arguments: Arguments,
        options: QueryOptions,
        answers: &Arc<PastAnswers>,
    ) -> QueryFuture<EncodedAnswer> {
        (self.ask)(app, arguments, options, answers.clone())
    }

    /// The events behind an answer; `None` if the query has no explanations.
    pub(crate) fn explain(
        &self,
        app: App,
        arguments: Arguments,
        options: QueryOptions,
        answers: &Arc<PastAnswers>,
    ) -> Option<QueryFuture<EncodedExplanation>> {
        let explain = self.explain.as_ref()?;
        Some(explain(app, arguments, options, answers.clone()))
    }

    /// Begins watches of this query for this caller; `None` if the query has no live answers.
    ///
    /// # Errors
    /// [`Problem`] if the arguments cannot be read, or the route does not admit the caller.
    pub(crate) fn watch(
        &self,
        app: &App,
        arguments: &Arguments,
        caller: &Caller,
    ) -> Option<Result<BeginWatch, Problem>> {
        let LiveEntry { watch, check } = self.live.as_ref()?;
        let (watch, app, own) = (watch.clone(), app.clone(), arguments.clone());
        let begin: BeginWatch = Box::new(move |from| watch(&app, &own, from));
        Some(check(arguments, caller).map(|()| begin))
    }
}

fn explained<Q>(
    name: String,
    mask: Option<Mask>,
    admit: Option<AdmitQuery<Q>>,
) -> RunQuery<EncodedExplanation>
where
    Q: Query + DeserializeOwned,
{
    Box::new(move |app, arguments, options, answers| {
        let query = arguments.read::<Q>(&options.caller, admit.as_ref());
        let (name, mask) = (name.clone(), mask.clone());
        Box::pin(async move {
            let caller = options.caller.clone();
            let explanation = options.explain(&app, (&name, &arguments), query?, &answers).await?;
            let mut body = explanation.body.clone();
            if let Some(mask) = mask {
                let unread = |error| Problem::mistake("an explanation is no JSON", &error);
                let mut explained: Value = serde_json::from_slice(&body).map_err(unread)?;
                if let Some(Value::Array(events)) = explained.get_mut("events") {
                    events.iter_mut().for_each(|event| mask(&caller, event));
                    events.retain(|event| !event.is_null());
                }
                body = explained.to_string().into();
            }
            let (upto, next) = (explanation.position, explanation.next);
            Ok(EncodedExplanation { body, upto, next })
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
            past_reads: limits.past_reads,
            is_addressed: options.are_in_address(),
        })
    }

    pub(crate) fn is_about_past(&self) -> bool {
        self.point.is_some()
    }

    /// Asks a query about the present or the past, without the answers that others have asked for.
    pub(crate) async fn ask<Q>(
        &self,
        app: &App,
        query: Q,
        pages: Option<Pages<Q::Answer>>,
    ) -> Result<EncodedAnswer, Problem>
    where
        Q: Query<Answer: Serialize>,
    {
        let answer = self.answer(app.query(query)).await;
        let answer = answer.map_err(|error| self.sources.problem(error))?;
        self.encode(app, answer, pages, type_name::<Q>()).await
    }

    /// The answer that these options ask for.
    pub(crate) async fn answer<Q: Query>(
        &self,
        ask: Ask<Q>,
    ) -> Result<Answer<Q::Answer>, QueryError> {
        let ask = self.set(ask);
        match self.point {
            Some(point) => ask.at(point).read_at_most(self.past_reads).await,
            None => ask.await,
        }
    }

    /// Encodes an answer that was given with these options, or a page of it. `query` names the
    /// query in the log.
    pub(crate) async fn encode<T: Serialize>(
        &self,
        app: &App,
        answer: Answer<T>,
        pages: Option<Pages<T>>,
        query: &str,
    ) -> Result<EncodedAnswer, Problem> {
        let Answer { value, position, stale, standstill, cost, .. } = answer;
        let encoded = encoded(value, pages, self.list);
        let (body, page) = encoded.map_err(|error| not_json(query, &error))?;
        Ok(EncodedAnswer {
            body: body.into(),
            validity: Validity::Now,
            position,
            stale,
            standstill,
            events: cost.events,
            token: app.token_at(position).await?.to_string(),
            session: token_of(self.session.as_ref()).await?,
            page,
        })
    }

    /// Answers a question about the past: by the kept answer to an equal one, or together with
    /// others.
    async fn ask_past<Q>(
        &self,
        app: &App,
        (name, arguments): (&str, &Arguments),
        query: Q,
        point: Point,
        answers: &Arc<PastAnswers>,
    ) -> Result<EncodedAnswer, Problem>
    where
        Q: Query<Answer: Serialize>,
    {
        let has_tokens = self.session.is_some() || self.after.is_some();
        let is_addressed = self.is_addressed && !has_tokens;
        let past = self.set(app.query(query)).at(point).read_at_most(self.past_reads);
        // The tokens of this caller are compared with the log, also if the answer is there.
        let resolved = past.resolve().await;
        let (past, part) = resolved.map_err(|error| self.sources.problem(error))?;
        let (upto, at) = (part.upto, part.occurred_before);
        let question = QuestionKey::new(None, name, &arguments.key(), upto, at);
        let own = app.clone();
        let compute = async move {
            let Answer { value, position, cost, .. } = past.await?;
            let token = own.token_at(position).await?.to_string();
            let body = serde_json::to_vec(&value);
            let body = body.map_err(|error| not_json(type_name::<Q>(), &error))?.into();
            Ok(PastAnswer { body, position, token, events: cost.events, next: None })
        };
        let answer = answers.answer(question, compute).await?;
        Ok(EncodedAnswer {
            body: answer.body.clone(),
            validity: match (is_addressed, part.is_final) {
                (false, _) => Validity::Now,
                (true, false) => Validity::Open,
                (true, true) => Validity::Final,
            },
            position: answer.position,
            stale: None,
            standstill: None,
            events: answer.events,
            token: answer.token.clone(),
            session: token_of(self.session.as_ref()).await?,
            page: None,
        })
    }

    /// The page of a whole answer that these options ask for, if the query has pages.
    fn page_of<A>(
        &self,
        answer: EncodedAnswer,
        pages: Option<Pages<A>>,
    ) -> Result<EncodedAnswer, Problem> {
        let Some(pages) = pages else { return Ok(answer) };
        let cut = pages.cut_json(&answer.body, self.list);
        let no_list =
            |error| Problem::mistake("the answer of a query with pages is no list", &error);
        let Page { body, place } = cut.map_err(no_list)?;
        Ok(EncodedAnswer { body: body.into(), page: Some(place), ..answer })
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
            past_reads: _,
            is_addressed: _,
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
        token_of(session.as_ref()).await
    }

    /// The events behind an answer, by the kept explanation or together with others.
    async fn explain<Q: Query>(
        self,
        app: &App,
        (name, arguments): (&str, &Arguments),
        query: Q,
        answers: &Arc<PastAnswers>,
    ) -> Result<Arc<PastAnswer>, Problem> {
        let QueryOptions { list, sources, past_reads, point, explained_events, .. } = self;
        let (limit, start_after) = (list.limit_upto(explained_events), list.start_after());
        let explain: Explain<Q> = app.explain(query).limit(limit).read_at_most(past_reads);
        let explain = match start_after {
            Some(position) => explain.start_after(position),
            None => explain,
        };
        let resolved = explain.at(point.unwrap_or_default()).resolve().await;
        let (explain, part) = resolved.map_err(|error| sources.problem(error))?;
        let (upto, at) = (part.upto, part.occurred_before);
        let listed = Some((limit, start_after));
        let question = QuestionKey::new(listed, name, &arguments.key(), upto, at);
        let compute = async move {
            let explanation = explain.await.map_err(|error| sources.problem(error))?;
            let Explanation { events, upto, is_whole, next, cost, .. } = explanation;
            let events: Vec<_> = events.iter().map(event_json).collect();
            let body = json!({
                "upto": upto.get(),
                "is_whole": is_whole,
                "next": next.map(Position::get),
                "events": events,
            });
            let (body, token) = (body.to_string().into(), String::new());
            Ok(PastAnswer { body, position: upto, token, events: cost.events, next })
        };
        answers.answer(question, compute).await
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

async fn token_of(session: Option<&Session>) -> Result<Option<SessionToken>, Problem> {
    match session {
        Some(session) => Ok(Some(session.token().await.map_err(QueryError::from)?)),
        None => Ok(None),
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

fn not_json(query: &str, error: &serde_json::Error) -> Problem {
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
