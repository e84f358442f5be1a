//! `GET /feeds/{name}`: the feeds of the application, for other services.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, Request, Response, header, request::Parts},
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use diptych::{
    Position,
    collaboration::{
        CloudEvent, EventPlace, FeedCursor, FeedError, FeedHandle, FeedName, FeedPage, FeedRead,
    },
};
use futures_util::stream;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    door::{
        access::Operation,
        code::Code,
        entrance::{StreamPermit, peer_of},
        limits::MOST_EVENTS,
        problem::Problem,
        request::{Name, header_text, pairs},
        response::{header_value, response_of},
    },
    panels::site::Site,
};

/// The content type of a page.
const BATCH: &str = "application/cloudevents-batch+json";
const EVENT_STREAM: &str = "text/event-stream";
/// The log and the feed of a page.
const FEED: HeaderName = HeaderName::from_static("diptych-feed");
/// Everything up to here was considered.
const UPTO: HeaderName = HeaderName::from_static("diptych-upto");
/// The end of the log.
const HEAD: HeaderName = HeaderName::from_static("diptych-head");
const LAST_EVENT_ID: &str = "last-event-id";
/// The wait of a stream for its next event. After it the stop of the server is looked at again.
const STREAM_WAIT: Duration = Duration::from_secs(20);
/// Time before a stream reads again after an error of the log.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(1);

/// `GET /feeds/{name}`
pub(crate) async fn read(
    State(site): State<Arc<Site>>,
    Name(name): Name,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    response_of(answer(&site, &name, &parts).await)
}

async fn answer(site: &Arc<Site>, name: &str, parts: &Parts) -> Result<Response<Body>, Problem> {
    site.door.admit(Operation::Feed(name.to_owned()), parts).await?;
    let unknown = || Problem::unknown(format!("there is no feed {name:?}"));
    let feed = site.app.feed(name).ok_or_else(unknown)?;
    let asked = FeedAddress::read(parts)?;
    let peer = peer_of(&parts.extensions);
    if asked.is_stream {
        let permit = site.door.stream(peer)?;
        return Ok(streamed(site, feed, asked.read.after, permit));
    }
    // A request that waits holds a place among the streams, so that waiting has a bound.
    let _permit = match asked.read.wait.is_zero() {
        true => None,
        false => Some(site.door.stream(peer)?),
    };
    let page = tokio::select! {
        page = feed.page(asked.read) => page?,
        () = site.door.stop().begun() => feed.page(asked.read.wait(Duration::ZERO)).await?,
    };
    batch(name, &page)
}

/// The question in an address and its headers.
struct FeedAddress {
    read: FeedRead,
    is_stream: bool,
}

impl FeedAddress {
    fn read(parts: &Parts) -> Result<FeedAddress, Problem> {
        let accepted = header_text(&parts.headers, header::ACCEPT.as_str())?;
        let is_stream = accepted.is_some_and(|accepted| accepted.contains(EVENT_STREAM));
        let mut read = FeedRead::after(FeedCursor::Position(Position::START));
        if let Some(id) = header_text(&parts.headers, LAST_EVENT_ID)? {
            let place = EventPlace::parse(id).ok_or_else(|| {
                Problem::bad(Code::Header, format!("{id:?} is no id of an event of a feed"))
                    .and("header", LAST_EVENT_ID)
            })?;
            read.after = FeedCursor::Event(place);
        }
        for (name, value) in pairs(parts.uri.query().unwrap_or_default())? {
            let wrong = |detail: String| Problem::parameter(&name, detail);
            let number = || {
                let no_number = |_| wrong(format!("{name} is a number, and not {value:?}"));
                value.parse::<u64>().map_err(no_number)
            };
            match (&*name, &*value) {
                ("lastEventId", id) => {
                    let place = EventPlace::parse(id);
                    let no_id = || wrong(format!("{id:?} is no id of an event of a feed"));
                    read.after = FeedCursor::Event(place.ok_or_else(no_id)?);
                }
                ("after", "end") => read.after = FeedCursor::End,
                ("after", _) => read.after = FeedCursor::Position(Position::new(number()?)),
                ("timeout", _) => read.wait = Duration::from_millis(number()?),
                ("limit", _) => {
                    let limit = usize::try_from(number()?).unwrap_or(usize::MAX);
                    read.limit = limit.clamp(1, MOST_EVENTS);
                }
                _ => {
                    return Err(wrong(format!(
                        "there is no parameter {name:?} (known: lastEventId, after, timeout, limit)"
                    )));
                }
            }
        }
        Ok(FeedAddress { read, is_stream })
    }
}

/// A page as a batch of CloudEvents.
fn batch(name: &str, page: &FeedPage) -> Result<Response<Body>, Problem> {
    let json = serde_json::to_vec(&page.events);
    let json =
        json.map_err(|error| Problem::mistake("a page of a feed cannot be written", &error))?;
    let mut response = Response::new(Body::from(json));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(BATCH));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let feed = FeedName { log: page.log, feed: name.to_owned() };
    for (name, value) in [
        (FEED, header_value(feed)),
        (UPTO, header_value(page.upto.get())),
        (HEAD, header_value(page.head.get())),
    ] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

/// A reader of a stream.
struct FeedStream {
    site: Arc<Site>,
    feed: FeedHandle,
    after: FeedCursor,
    waiting: std::vec::IntoIter<CloudEvent>,
    end: Option<Instant>,
    _permit: StreamPermit,
}

/// Server-sent events: each has a CloudEvent as its data, and its id to go on after.
fn streamed(
    site: &Arc<Site>,
    feed: FeedHandle,
    after: FeedCursor,
    permit: StreamPermit,
) -> Response<Body> {
    let end = Instant::now().checked_add(site.door.limits().stream_time);
    let waiting = Vec::new().into_iter();
    let open = FeedStream { site: site.clone(), feed, after, waiting, end, _permit: permit };
    let events = stream::unfold(open, |mut open| async {
        let event = open.next().await?;
        Some((Ok::<_, Infallible>(event), open))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl FeedStream {
    /// The next event; `None` if the stream ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.next() {
                let id = event.id.clone();
                let data = serde_json::to_string(&event).ok()?;
                return Some(Event::default().id(id).data(data));
            }
            let read = FeedRead::after(self.after).wait(STREAM_WAIT);
            let page = tokio::select! {
                page = self.feed.page(read) => page,
                () = self.site.door.stop().begun() => return None,
                () = sleep_until(self.end.unwrap_or_else(far_away)) => return None,
            };
            match page {
                Ok(page) => {
                    self.after = FeedCursor::Position(page.upto);
                    self.waiting = page.events.into_iter();
                }
                Err(error) => {
                    let is_passing = matches!(error, FeedError::Read(_));
                    let problem = Problem::from(error).to_json().to_string();
                    // A client that reconnects gets the same error as a response.
                    if !is_passing {
                        self.end = Some(Instant::now());
                    }
                    sleep(TROUBLE_INTERVAL).await;
                    return Some(Event::default().event("problem").data(problem));
                }
            }
        }
    }
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(24 * 60 * 60)
}

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Problem {
        let detail = error.to_string();
        match error {
            FeedError::AboveHead { after, head } => {
                let problem = Problem::bad(Code::AboveHead, detail);
                problem.and("after", after.get()).and("head", head.get())
            }
            FeedError::Read(_) | FeedError::Unreachable { .. } => {
                Problem::later(Code::Unavailable, detail)
            }
            error => Problem::mistake("an event of the feed cannot be published", &error),
        }
    }
}
