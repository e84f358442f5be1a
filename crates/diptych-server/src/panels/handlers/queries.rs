//! The right panel, `GET /queries/{name}`: questions about the present and the past, live answers,
//! and explanations.

use std::{
    any::type_name, collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, Method, Request, Response, header},
};
use diptych::{
    Answer, App, Ask, Event, Explain, Fold, Point, Position, Query, QueryError, Recorded, Session,
    SessionToken, Standstill, Timestamp,
};
use futures_util::stream::{self, BoxStream};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    ServerLimits,
    door::access::Operation,
    door::problem::Problem,
    door::request::{Name, SESSION, Said, Told, from_json, header_value, json_body, pairs},
    panels::handlers::catalogue::{Known, event_names},
    panels::handlers::status,
    panels::site::Site,
    payload,
};

/// A query of the application with its type erased.
pub(crate) struct QueryEntry {
    /// The Rust types of the query and of its view.
    pub(crate) type_name: &'static str,
    pub(crate) view: &'static str,
    /// Names of the events that the view applies.
    pub(crate) events: Vec<&'static str>,
    pub(crate) arguments: Value,
    pub(crate) answer: Value,
    pub(crate) known: Known,
    ask: Run<Answered>,
    explain: Run<Explained>,
    pub(crate) watch: Option<Watching>,
}

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send>>;
type Run<T> = Box<dyn Fn(App, Arguments, Asked) -> Boxed<T> + Send + Sync>;
type Watching = Box<dyn Fn(App, Arguments, &[SessionToken]) -> Watched + Send + Sync>;
type Watched = Result<LiveAnswers, Problem>;

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
    fn check(self, known: &Known) -> Result<Arguments, Problem> {
        let names: Vec<String> = match (&self, known) {
            (Arguments::Form(text), _) => pairs(text)?.into_iter().map(|(name, _)| name).collect(),
            (Arguments::Json(bytes), Known::Unit) => {
                let object: Option<BTreeMap<String, IgnoredAny>> =
                    from_json("the arguments", bytes)?;
                object.unwrap_or_default().into_keys().collect()
            }
            // If the JSON is not an object, decoding the type reports it.
            (Arguments::Json(bytes), _) => serde_json::from_slice(bytes)
                .map(|object: BTreeMap<String, IgnoredAny>| object.into_keys().collect())
                .unwrap_or_default(),
        };
        match known.first_unknown(&names) {
            Some((name, fields)) => {
                let detail = format!("there is no argument {name:?} (known: {fields:?})");
                Err(Problem::bad("arguments", detail).and("argument", name))
            }
            None if matches!(known, Known::Unit) => Ok(Arguments::Json("null".into())),
            None => Ok(self),
        }
    }

    fn read<Q: DeserializeOwned>(&self) -> Result<Q, Problem> {
        match self {
            Arguments::Json(bytes) => from_json("the arguments", bytes),
            Arguments::Form(text) => serde_html_form::from_str(text).map_err(|error| {
                Problem::bad("arguments", format!("the arguments cannot be read: {error}"))
            }),
        }
    }
}

/// The options of a query.
pub(crate) struct Asked {
    is_strong: bool,
    told: Option<Told>,
    session: Option<Session>,
    within: Option<Duration>,
    at_most: Option<Duration>,
    or_stale: bool,
    point: Option<Point>,
    limit: usize,
}

/// An answer ready to send.
pub(crate) struct Answered {
    body: Vec<u8>,
    position: Position,
    stale: Option<Position>,
    standstill: Option<Box<Standstill>>,
    events: u64,
    token: SessionToken,
    session: Option<SessionToken>,
}

/// An explanation ready to send.
struct Explained {
    body: Value,
    upto: Position,
}

impl QueryEntry {
    pub(crate) fn new<Q>(schemas: &mut SchemaGenerator) -> QueryEntry
    where
        Q: Query<Answer: Serialize + JsonSchema> + DeserializeOwned + JsonSchema,
    {
        let arguments: Value = schemas.subschema_for::<Q>().into();
        QueryEntry {
            known: Known::of(&arguments, schemas.definitions()),
            type_name: type_name::<Q>(),
            view: type_name::<Q::View>(),
            events: event_names(<Q::View as Fold>::Event::types()),
            arguments,
            answer: schemas.subschema_for::<Q::Answer>().into(),
            ask: Box::new(|app, arguments, asked| {
                Box::pin(async move { asked.ask(&app, arguments.read::<Q>()?).await })
            }),
            explain: Box::new(|app, arguments, asked| {
                Box::pin(async move { asked.explain(&app, arguments.read::<Q>()?).await })
            }),
            watch: None,
        }
    }

    /// A query that can also be watched.
    pub(crate) fn live<Q>(schemas: &mut SchemaGenerator) -> QueryEntry
    where
        Q: Query<Answer: Serialize + JsonSchema + Clone + PartialEq>,
        Q: DeserializeOwned + JsonSchema,
    {
        let watch: Watching = Box::new(|app, arguments, tokens| {
            let watch = app.watch(arguments.read::<Q>()?);
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
        QueryEntry { watch: Some(watch), ..QueryEntry::new::<Q>(schemas) }
    }
}

impl Asked {
    async fn read(app: &App, said: &Said<'_>, limits: &ServerLimits) -> Result<Asked, Problem> {
        let is_strong = match said.text("consistency")? {
            None | Some("eventual") => false,
            Some("strong") => true,
            Some(other) => {
                let detail = format!("consistency is eventual or strong, and not {other:?}");
                return Err(Problem::bad("parameter", detail).and("parameter", "consistency"));
            }
        };
        let limit = said.value::<usize>("limit")?.unwrap_or(limits.explained_events);
        Ok(Asked {
            is_strong,
            told: said.after()?,
            session: said.session(app).await?,
            within: milliseconds(said, "within")?.map(|within| within.min(limits.wait_time)),
            at_most: milliseconds(said, "at-most")?,
            or_stale: said.flag("or-stale")?,
            point: point(said)?,
            limit: limit.min(limits.explained_events),
        })
    }

    async fn ask<Q>(self, app: &App, query: Q) -> Result<Answered, Problem>
    where
        Q: Query<Answer: Serialize>,
    {
        let session = self.session.clone();
        let point = self.point;
        let ask = self.of(app.query(query));
        let answer = match point {
            Some(point) => ask.at(point).await?,
            None => ask.await?,
        };
        let Answer { value, position, stale, standstill, cost, .. } = answer;
        let body = serde_json::to_vec(&value).map_err(|error| not_json::<Q>(&error))?;
        let token = app.token_at(position).await?;
        let session = match session {
            Some(session) => Some(session.token().await?),
            None => None,
        };
        Ok(Answered { body, position, stale, standstill, events: cost.events, token, session })
    }

    fn of<Q: Query>(self, mut ask: Ask<'_, Q>) -> Ask<'_, Q> {
        if self.is_strong {
            ask = ask.strong();
        }
        match &self.told {
            Some(Told::Receipt(receipt)) => ask = ask.after(receipt),
            Some(Told::Session(token)) => ask = ask.token(token),
            None => {}
        }
        if let Some(session) = &self.session {
            ask = ask.session(session);
        }
        if let Some(age) = self.at_most {
            ask = ask.at_most(age);
        }
        if let Some(within) = self.within {
            ask = ask.within(within);
        }
        if self.or_stale { ask.or_stale() } else { ask }
    }

    /// The token to begin a live query after. It begins with the present, and not before the
    /// position of the session.
    pub(crate) async fn live(self) -> Result<Option<SessionToken>, Problem> {
        let Asked { is_strong, told, within, at_most, or_stale, point, session, .. } = self;
        let is_other = is_strong || or_stale || told.is_some() || point.is_some();
        if is_other || within.is_some() || at_most.is_some() {
            let detail = "a live query gives what is now, and then what changes: of what is said \
                          about an answer it takes a session alone; ask for others without /live";
            return Err(Problem::bad("parameter", detail));
        }
        match session {
            Some(session) => Ok(Some(session.token().await?)),
            None => Ok(None),
        }
    }

    async fn explain<Q: Query>(self, app: &App, query: Q) -> Result<Explained, Problem> {
        let explain: Explain<'_, Q> = app.explain(query).limit(self.limit);
        let explained = match self.point {
            Some(point) => explain.at(point).await?,
            None => explain.await?,
        };
        let events: Vec<_> = explained.events.iter().map(event).collect();
        let (upto, is_whole) = (explained.upto, explained.is_whole);
        let body = json!({ "upto": upto.get(), "is_whole": is_whole, "events": events });
        Ok(Explained { body, upto })
    }
}

/// An event as people read it.
fn event<E: Event>(recorded: &Recorded<E>) -> Value {
    let raw = recorded.event.encode().ok();
    let tags = |raw: &diptych::RawEvent| -> Vec<String> {
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

fn milliseconds(said: &Said<'_>, name: &str) -> Result<Option<Duration>, Problem> {
    Ok(said.value::<u64>(name)?.map(Duration::from_millis))
}

/// The point in the past that the query names, if any.
fn point(said: &Said<'_>) -> Result<Option<Point>, Problem> {
    let as_of = said.position("as-of")?;
    let recorded_before = said.value::<Timestamp>("recorded-before")?;
    let occurred_before = said.value::<Timestamp>("occurred-before")?;
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

/// A query with the parts of its request.
pub(crate) struct Visited<'s> {
    pub(crate) entry: &'s QueryEntry,
    pub(crate) arguments: Arguments,
    pub(crate) asked: Asked,
    pub(crate) headers: HeaderMap,
}

/// Admits the caller if the hook allows all of these operations on the query.
pub(crate) async fn visit<'s>(
    site: &'s Site,
    name: &str,
    operations: &[fn(String) -> Operation],
    request: Request<Body>,
) -> Result<Visited<'s>, Problem> {
    let (parts, body) = request.into_parts();
    for operation in operations {
        site.admit(operation(name.to_owned()), &parts).await?;
    }
    let entry = site.queries.get(name).ok_or_else(|| {
        let known: Vec<_> = site.queries.keys().collect();
        Problem::unknown(format!("there is no query {name:?} (known: {known:?})"))
    })?;
    let (said, form) = Said::split(&parts.headers, parts.uri.query())?;
    let asked = Asked::read(&site.app, &said, &site.limits).await?;
    let arguments = match parts.method {
        Method::POST if !form.is_empty() => {
            let detail = "the arguments of a query that is sent by POST are in its body";
            return Err(Problem::bad("arguments", detail));
        }
        Method::POST => Arguments::Json(json_body(&parts.headers, body, &site.limits).await?),
        _ => Arguments::Form(form),
    };
    let arguments = arguments.check(&entry.known)?;
    Ok(Visited { entry, arguments, asked, headers: parts.headers })
}

/// `GET` and `POST /queries/{name}`
pub(crate) async fn ask(
    State(site): State<Arc<Site>>,
    Name(name): Name,
    request: Request<Body>,
) -> Response<Body> {
    let answer = async {
        let visited = visit(&site, &name, &[Operation::Query], request).await?;
        let Visited { entry, arguments, asked, .. } = visited;
        let answered = in_time(&site, (entry.ask)(site.app.clone(), arguments, asked)).await?;
        Ok(response(answered))
    };
    site.answered(answer.await)
}

/// `GET /queries/{name}/explanation`
pub(crate) async fn explain(
    State(site): State<Arc<Site>>,
    Name(name): Name,
    request: Request<Body>,
) -> Response<Body> {
    let answer = async {
        let operations: [fn(String) -> Operation; 2] = [Operation::Query, Operation::Explain];
        let visited = visit(&site, &name, &operations, request).await?;
        let Visited { entry, arguments, asked, .. } = visited;
        let explained = in_time(&site, (entry.explain)(site.app.clone(), arguments, asked)).await?;
        let Explained { body, upto } = explained;
        let mut response = json_response(body.to_string().into());
        response.headers_mut().insert("diptych-position", upto.get().into());
        Ok(response)
    };
    site.answered(answer.await)
}

async fn in_time<T>(site: &Site, answer: Boxed<T>) -> Result<T, Problem> {
    match timeout(site.limits.answer_time, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Problem::later(
            "slow",
            "the answer takes longer than this server works on one: ask for less, or give the \
             query a scope",
        )),
    }
}

fn response(answered: Answered) -> Response<Body> {
    let Answered { body, position, stale, standstill, events, token, session } = answered;
    let mut response = json_response(body.into());
    let headers = response.headers_mut();
    headers.insert("diptych-position", position.get().into());
    headers.insert("diptych-cost-events", events.into());
    let token = header_value(token);
    headers.extend(token.map(|value| (header::HeaderName::from_static("diptych-token"), value)));
    if let Some(need) = stale {
        headers.insert("diptych-stale", need.get().into());
    }
    if let Some(Standstill { state, since, .. }) = standstill.as_deref() {
        headers.insert("diptych-view-state", HeaderValue::from_static(status::word(state)));
        headers.extend(header_value(since).map(|since| (VIEW_SINCE, since)));
    }
    let session = session.as_ref().and_then(header_value);
    headers.extend(session.map(|value| (header::HeaderName::from_static(SESSION), value)));
    response
}

const VIEW_SINCE: header::HeaderName = header::HeaderName::from_static("diptych-view-since");

pub(crate) fn json_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
