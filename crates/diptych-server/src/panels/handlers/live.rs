//! Server-sent events: `GET /queries/{name}/live` and `GET /status/live`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Request, Response},
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use diptych::{QueryError, SessionToken};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, interval, sleep, sleep_until};

use crate::{
    door::{
        access::Operation,
        code::Code,
        entrance::{StreamPermit, peer_of},
        problem::Problem,
        request::{Name, header_text},
        response::response_of,
    },
    panels::{
        entries::query::{LiveAnswer, LiveAnswers},
        handlers::{
            queries::{QueryRequest, read},
            status,
        },
        site::Site,
    },
};

/// Time between two events of the live status.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Time before a stream with a problem tries again.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(1);

/// `GET /queries/{name}/live`
pub(crate) async fn answers(
    State(site): State<Arc<Site>>,
    Name(name): Name,
    request: Request<Body>,
) -> Response<Body> {
    response_of(open(&site, &name, request).await)
}

async fn open(
    site: &Arc<Site>,
    name: &str,
    request: Request<Body>,
) -> Result<Response<Body>, Problem> {
    let request = read(site, name, &[Operation::Watch], request).await?;
    let QueryRequest { entry, arguments, options, caller, headers, peer, .. } = request;
    let not_live =
        || Problem::unknown(format!("the query {name:?} has no live answers: poll it instead"));
    if !entry.is_live() {
        return Err(not_live());
    }
    let tokens: Vec<_> = last_seen(&headers)?.into_iter().chain(options.live().await?).collect();
    let answers = entry.watch(site.app.clone(), arguments, &caller, &tokens);
    let answers = answers.ok_or_else(not_live)??;
    let live = Live {
        site: site.clone(),
        answers,
        due: Instant::now(),
        trouble: None,
        _permit: site.door.stream(peer)?,
    };
    let events = stream::unfold(live, |mut live| async { Some((live.next().await?, live)) });
    Ok(streamed(Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default())))
}

/// A stream that no proxy holds back. nginx would otherwise collect events in a buffer.
fn streamed(sse: impl IntoResponse) -> Response<Body> {
    let mut response = sse.into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The position of a client that reconnects.
fn last_seen(headers: &HeaderMap) -> Result<Option<SessionToken>, Problem> {
    let Some(text) = header_text(headers, "last-event-id")? else { return Ok(None) };
    text.parse().map(Some).map_err(|error| {
        Problem::bad(Code::Header, format!("last-event-id cannot be read: {error}"))
            .and("header", "last-event-id")
    })
}

struct Live {
    site: Arc<Site>,
    answers: LiveAnswers,
    /// The earliest time of the next answer.
    due: Instant,
    /// The last problem that was sent, so that it is sent only once.
    trouble: Option<QueryError>,
    _permit: StreamPermit,
}

impl Live {
    /// The next event, or `None` when the server stops.
    async fn next(&mut self) -> Option<Event> {
        let Live { answers, due, trouble, site, .. } = self;
        let next = async {
            sleep_until(*due).await;
            loop {
                match answers.next().await? {
                    Ok(answer) => {
                        *trouble = None;
                        return Some(event(site, &answer).await);
                    }
                    Err(error) if trouble.as_ref() == Some(&error) => {
                        sleep(TROUBLE_INTERVAL).await;
                    }
                    Err(error) => {
                        *trouble = Some(error.clone());
                        let problem = Problem::from(error).to_json().to_string();
                        return Some(Event::default().event("problem").data(problem));
                    }
                }
            }
        };
        let next = tokio::select! {
            next = next => next?,
            () = site.door.stop().begun() => return None,
        };
        self.due = Instant::now() + self.site.door.limits().live_interval;
        Some(next)
    }
}

async fn event(site: &Site, answer: &LiveAnswer) -> Event {
    let LiveAnswer { position, json, standstill } = answer;
    let state = standstill.as_ref().map(|standstill| status::word(&standstill.state));
    let state = state.map(|word| format!(",\"view_state\":\"{word}\"")).unwrap_or_default();
    let data = format!("{{\"position\":{},\"answer\":{json}{state}}}", position.get());
    let event = Event::default().event("answer").data(data);
    match site.app.token_at(*position).await {
        Ok(token) => event.id(token.to_string()),
        // The client resumes from the previous event.
        Err(error) => {
            tracing::warn!(%error, "a live answer has no token");
            event
        }
    }
}

/// `GET /status/live`
pub(crate) async fn status(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let stream = async {
        site.door.admit(Operation::Status, &parts).await?;
        let peer = peer_of(&parts.extensions);
        let open = (site.clone(), interval(STATUS_INTERVAL), site.door.stream(peer)?);
        let events = stream::unfold(open, |(site, mut ticks, permit)| async {
            tokio::select! {
                _ = ticks.tick() => {}
                () = site.door.stop().begun() => return None,
            }
            let data = status::status(&site).to_string();
            let event = Event::default().event("status").data(data);
            Some((Ok::<_, Infallible>(event), (site, ticks, permit)))
        });
        Ok(streamed(Sse::new(events).keep_alive(KeepAlive::default())))
    };
    response_of(stream.await)
}
