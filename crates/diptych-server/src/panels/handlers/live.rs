//! Server-sent events: `GET /queries/{name}/live`, `GET /live` and `GET /status/live`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, request::Parts},
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use diptych::{Position, QueryError, SessionToken};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use serde_json::Value;
use tokio::time::{Instant, interval, sleep, sleep_until};

use crate::{
    door::{
        access::Operation,
        code::Code,
        entrance::{StreamPermit, peer_of},
        problem::Problem,
        request::{Name, header_text, pairs},
        response::{SESSION, response_of},
    },
    panels::{
        entries::{
            arguments::Arguments,
            query::{BeginWatch, LiveAnswer},
        },
        handlers::{
            queries::{QueryRequest, read},
            source, status,
        },
        live::{LiveFeed, LiveNews, SentAnswer},
        site::Site,
    },
};

/// Time between two events of the live status.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Time before the tokens of a stream are compared with the log again.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(1);

/// `GET /queries/{name}/live`
pub(crate) async fn answers(
    State(site): State<Arc<Site>>,
    Name(name): Name,
    request: Request<Body>,
) -> Response<Body> {
    response_of(one(&site, &name, request).await)
}

async fn one(
    site: &Arc<Site>,
    name: &str,
    request: Request<Body>,
) -> Result<Response<Body>, Problem> {
    let peer = peer_of(request.extensions());
    let watched = watched(site, name, None, request).await?;
    let permit = site.door.stream(peer)?;
    Ok(sent(site, vec![watched.events(site)], permit))
}

/// `GET /live`
pub(crate) async fn many(State(site): State<Arc<Site>>, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    response_of(page(&site, &parts).await)
}

/// The stream of a page: several queries, and the status if it asks for that.
async fn page(site: &Arc<Site>, parts: &Parts) -> Result<Response<Body>, Problem> {
    let PageStream { queries, has_status, session } = PageStream::read(parts)?;
    let most = site.door.limits().stream_queries;
    if queries.len() > most {
        let detail = format!(
            "the stream asks for {} queries, and this server sends at most {most} in one stream",
            queries.len()
        );
        return Err(Problem::bad(Code::Parameter, detail).and("parameter", "query"));
    }
    let mut streams = Vec::new();
    for query in queries {
        let of_query = |problem: Problem| problem.and("query", query.as_str());
        let (name, request) = alone(parts, &query, session.as_ref()).map_err(of_query)?;
        let watched = watched(site, &name, Some(query.clone()), request).await.map_err(of_query)?;
        streams.push(watched.events(site));
    }
    if has_status {
        site.door.admit(Operation::Status, parts).await?;
        streams.push(statuses(site));
    }
    let permit = site.door.stream(peer_of(&parts.extensions))?;
    Ok(sent(site, streams, permit))
}

/// The address of a stream of several queries.
struct PageStream {
    queries: Vec<String>,
    has_status: bool,
    session: Option<HeaderValue>,
}

impl PageStream {
    fn read(parts: &Parts) -> Result<PageStream, Problem> {
        let mut page = PageStream { queries: Vec::new(), has_status: false, session: None };
        for (name, value) in pairs(parts.uri.query().unwrap_or_default())? {
            let wrong = |detail: String| {
                Problem::bad(Code::Parameter, detail).and("parameter", name.as_str())
            };
            match (&*name, &*value) {
                ("query", _) => page.queries.push(value),
                ("status", "" | "true") => page.has_status = true,
                ("status", "false") => {}
                ("status", _) => {
                    return Err(wrong(format!("status is true or false, and not {value:?}")));
                }
                ("_session", _) => {
                    let header = HeaderValue::from_str(&value);
                    let header = header.map_err(|_| wrong("it is no token".to_owned()))?;
                    page.session = Some(header);
                }
                _ => {
                    let detail = format!(
                        "there is no parameter {name:?} (known: query, status, _session): write \
                         the arguments of a query into its `query`, percent-encoded"
                    );
                    return Err(wrong(detail));
                }
            }
        }
        if page.queries.is_empty() && !page.has_status {
            let detail = "the stream asks for nothing: name each query as `query`, with its \
                          arguments behind a question mark, percent-encoded";
            return Err(Problem::bad(Code::Parameter, detail).and("parameter", "query"));
        }
        Ok(page)
    }
}

/// The request that watches this query alone, such as `board?airport=JFK`. The hook decides about
/// the query as if it came in this request.
fn alone(
    parts: &Parts,
    query: &str,
    session: Option<&HeaderValue>,
) -> Result<(String, Request<Body>), Problem> {
    let (name, arguments) = query.split_once('?').unwrap_or((query, ""));
    let malformed = |_| {
        let detail = format!("the query {query:?} is no name with arguments behind `?`");
        Problem::bad(Code::Malformed, detail)
    };
    let address = match arguments {
        "" => format!("/queries/{name}/live"),
        arguments => format!("/queries/{name}/live?{arguments}"),
    };
    let mut parts = parts.clone();
    parts.uri = address.parse::<Uri>().map_err(malformed)?;
    if let Some(session) = session {
        parts.headers.insert(SESSION, session.clone());
    }
    Ok((name.to_owned(), Request::from_parts(parts, Body::empty())))
}

/// A query that a client watches.
struct LiveRequest {
    name: String,
    /// The query as the client wrote it, if the stream has several.
    label: Option<String>,
    arguments: Arguments,
    begin: BeginWatch,
    /// The first answer contains the events of these tokens.
    tokens: Vec<SessionToken>,
}

/// Reads a request to watch a query.
async fn watched(
    site: &Site,
    name: &str,
    label: Option<String>,
    request: Request<Body>,
) -> Result<LiveRequest, Problem> {
    let request = read(site, name, &[Operation::Watch], request).await?;
    let QueryRequest { entry, arguments, options, caller, headers, .. } = request;
    let not_live =
        || Problem::unknown(format!("the query {name:?} has no live answers: poll it instead"));
    if !entry.is_live() {
        return Err(not_live());
    }
    let tokens: Vec<_> = last_seen(&headers)?.into_iter().chain(options.live().await?).collect();
    let begin = entry.watch(&arguments, &caller).ok_or_else(not_live)??;
    Ok(LiveRequest { name: name.to_owned(), label, arguments, begin, tokens })
}

/// The position of a client that reconnects.
fn last_seen(headers: &HeaderMap) -> Result<Option<SessionToken>, Problem> {
    let Some(text) = header_text(headers, LAST_EVENT_ID.as_str())? else { return Ok(None) };
    text.parse().map(Some).map_err(|error| {
        Problem::bad(Code::Header, format!("last-event-id cannot be read: {error}"))
            .and("header", "last-event-id")
    })
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// An event of a stream, with the position and the token of an answer.
struct StreamEvent {
    event: &'static str,
    data: String,
    id: Option<(Position, String)>,
}

type EventStream = BoxStream<'static, StreamEvent>;

impl LiveRequest {
    /// Its answers and problems.
    fn events(self, site: &Arc<Site>) -> EventStream {
        let feed = RequestFeed {
            site: site.clone(),
            trouble: None,
            label: self.label.clone(),
            state: FeedState::Claimed(Box::new(self)),
        };
        stream::unfold(feed, |mut feed| async { Some((feed.next().await?, feed)) }).boxed()
    }
}

struct RequestFeed {
    site: Arc<Site>,
    label: Option<String>,
    /// The last problem with the tokens, so that it is sent only once.
    trouble: Option<QueryError>,
    state: FeedState,
}

enum FeedState {
    /// The tokens are not yet compared with the log.
    Claimed(Box<LiveRequest>),
    Open(LiveFeed),
    Ended,
}

impl RequestFeed {
    async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            match std::mem::replace(&mut self.state, FeedState::Ended) {
                FeedState::Claimed(watched) => match position_of(&self.site, &watched).await {
                    Ok(from) => self.state = FeedState::Open(self.opened(*watched, from)),
                    Err(error) => {
                        self.state = FeedState::Claimed(watched);
                        if self.trouble.as_ref() != Some(&error) {
                            self.trouble = Some(error.clone());
                            return Some(self.problem(error));
                        }
                        sleep(TROUBLE_INTERVAL).await;
                    }
                },
                FeedState::Open(mut feed) => {
                    let news = feed.next().await?;
                    self.state = FeedState::Open(feed);
                    return Some(match news {
                        LiveNews::Answer(sent) => self.answer(&sent),
                        LiveNews::Trouble(sent) => self.problem(sent.error.clone()),
                    });
                }
                FeedState::Ended => return None,
            }
        }
    }

    fn opened(&self, watched: LiveRequest, from: Position) -> LiveFeed {
        let LiveRequest { name, arguments, begin, .. } = watched;
        let interval = self.site.door.limits().live_interval;
        let query = arguments.digest(&name);
        self.site.live.feed(&self.site.app, query, from, interval, begin)
    }

    fn answer(&self, sent: &SentAnswer) -> StreamEvent {
        let SentAnswer { answer: LiveAnswer { position, json, standstill }, token, .. } = sent;
        let label = self.label.as_deref().map(|label| format!("\"query\":{},", Value::from(label)));
        let label = label.unwrap_or_default();
        let state = standstill.as_ref().map(|standstill| status::word(&standstill.state));
        let state = state.map(|word| format!(",\"view_state\":\"{word}\"")).unwrap_or_default();
        let data = format!("{{{label}\"position\":{},\"answer\":{json}{state}}}", position.get());
        let id = token.clone().map(|token| (*position, token));
        StreamEvent { event: "answer", data, id }
    }

    fn problem(&self, error: QueryError) -> StreamEvent {
        let problem = Problem::from(error);
        let problem = match &self.label {
            Some(label) => problem.and("query", label.as_str()),
            None => problem,
        };
        StreamEvent { event: "problem", data: problem.to_json().to_string(), id: None }
    }
}

/// The position that the tokens of a client name, if the log has it.
async fn position_of(site: &Site, watched: &LiveRequest) -> Result<Position, QueryError> {
    let mut from = Position::START;
    for token in &watched.tokens {
        let session = site.app.resume_session(token).await?;
        from = from.max(session.seen()).max(session.written());
    }
    Ok(from)
}

/// The status, once a second.
fn statuses(site: &Arc<Site>) -> EventStream {
    let open = (site.clone(), interval(STATUS_INTERVAL));
    let events = stream::unfold(open, |(site, mut ticks)| async {
        ticks.tick().await;
        let data = status::status(&site).to_string();
        Some((StreamEvent { event: "status", data, id: None }, (site, ticks)))
    });
    events.boxed()
}

/// Sends these streams as one, until the server stops. An event has the id of the highest position
/// that was sent, so that a client that reconnects goes back in no query.
fn sent(site: &Arc<Site>, streams: Vec<EventStream>, permit: StreamPermit) -> Response<Body> {
    let source = source::changes(site.poster.as_ref()).map(|data| {
        let data = data.to_string();
        StreamEvent { event: "source", data, id: None }
    });
    let streams: SelectAll<EventStream> = streams.into_iter().chain([source.boxed()]).collect();
    let end = Instant::now().checked_add(site.door.limits().stream_time);
    let open = (site.clone(), streams, None, permit);
    let events = stream::unfold(open, move |(site, mut streams, mut highest, permit)| async move {
        let next = tokio::select! {
            next = streams.next() => next?,
            () = site.door.stop().begun() => return None,
            () = until(end) => return None,
        };
        let StreamEvent { event, data, id } = next;
        let mut sent = Event::default().event(event).data(data);
        if let Some(next) = id {
            let is_higher = highest.as_ref().is_none_or(|(position, _)| next.0 >= *position);
            let (_, token) =
                if is_higher { highest.insert(next) } else { highest.get_or_insert(next) };
            sent = sent.id(token.as_str());
        }
        Some((Ok::<_, Infallible>(sent), (site, streams, highest, permit)))
    });
    streamed(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Waits until this instant; for ever if there is none.
async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// A stream that no proxy holds back. nginx would otherwise collect events in a buffer.
fn streamed(sse: impl IntoResponse) -> Response<Body> {
    let mut response = sse.into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// `GET /status/live`
pub(crate) async fn status(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let stream = async {
        site.door.admit(Operation::Status, &parts).await?;
        let permit = site.door.stream(peer_of(&parts.extensions))?;
        Ok(sent(&site, vec![statuses(&site)], permit))
    };
    response_of(stream.await)
}
