//! Server-sent events: `GET /queries/{name}/live` and `GET /status/live`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Request, Response},
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use diptych::{QueryError, SessionToken};
use futures_util::{StreamExt, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, interval, sleep, sleep_until},
};

use crate::{
    door::access::Operation,
    door::problem::Problem,
    door::request::{Name, header_text},
    panels::handlers::queries::{LiveAnswer, LiveAnswers, Visited, visit},
    panels::handlers::status,
    panels::site::Site,
};

/// How often the status is sent.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait before checking whether a problem is over.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(1);

/// `GET /queries/{name}/live`
pub(crate) async fn answers(
    State(site): State<Arc<Site>>,
    Name(name): Name,
    request: Request<Body>,
) -> Response<Body> {
    site.answered(open(&site, &name, request).await)
}

async fn open(
    site: &Arc<Site>,
    name: &str,
    request: Request<Body>,
) -> Result<Response<Body>, Problem> {
    let visited = visit(site, name, &[Operation::Query], request).await?;
    let Visited { entry, arguments, asked, headers } = visited;
    let watch = entry.watch.as_ref().ok_or_else(|| {
        Problem::unknown(format!("the query {name:?} has no live answers: ask it again instead"))
    })?;
    let tokens: Vec<_> = last_seen(&headers)?.into_iter().chain(asked.live().await?).collect();
    let answers = watch(site.app.clone(), arguments, &tokens)?;
    let live = Live {
        site: site.clone(),
        answers,
        due: Instant::now(),
        trouble: None,
        stopping: site.stopping.clone(),
        _permit: permit(site)?,
    };
    let events = stream::unfold(live, |mut live| async { Some((live.next().await?, live)) });
    Ok(Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default()).into_response())
}

/// The position of a client that reconnects.
fn last_seen(headers: &HeaderMap) -> Result<Option<SessionToken>, Problem> {
    let Some(text) = header_text(headers, "last-event-id")? else { return Ok(None) };
    text.parse().map(Some).map_err(|error| {
        Problem::bad("header", format!("last-event-id cannot be read: {error}"))
            .and("header", "last-event-id")
    })
}

fn permit(site: &Site) -> Result<OwnedSemaphorePermit, Problem> {
    site.streams.clone().try_acquire_owned().map_err(|_| {
        Problem::later("busy", "all live streams that this server has are taken: come again")
    })
}

struct Live {
    site: Arc<Site>,
    answers: LiveAnswers,
    /// When the next answer may go out.
    due: Instant,
    /// The last problem that was sent, so that it is sent only once.
    trouble: Option<QueryError>,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Live {
    /// The next event, or `None` when the server stops.
    async fn next(&mut self) -> Option<Event> {
        let Live { answers, due, trouble, stopping, site, .. } = self;
        let next = async {
            sleep_until(*due).await;
            loop {
                match answers.next().await? {
                    Ok(answer) => {
                        *trouble = None;
                        return Some(answered(site, &answer).await);
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
            _ = stopping.wait_for(|stopping| *stopping) => return None,
        };
        self.due = Instant::now() + self.site.limits.live_interval;
        Some(next)
    }
}

async fn answered(site: &Site, answer: &LiveAnswer) -> Event {
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
        site.admit(Operation::Status, &parts).await?;
        let ticks = interval(STATUS_INTERVAL);
        let open = (site.clone(), ticks, site.stopping.clone(), permit(&site)?);
        let events = stream::unfold(open, |(site, mut ticks, mut stopping, permit)| async {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stopping.wait_for(|stopping| *stopping) => return None,
            }
            let data = status::status(&site).to_string();
            let event = Event::default().event("status").data(data);
            Some((Ok::<_, Infallible>(event), (site, ticks, stopping, permit)))
        });
        Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
    };
    site.answered(stream.await)
}
