//! Reads of events: as one answer, as lines, or as a stream that follows the log.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, Request, Response, header, request::Parts},
};
use diptych::store::{Batch, Direction, Filter, Limits, Position, Read, Store};
use futures_util::stream;
use hyper::body::Frame;
use serde_json::json;

use crate::{
    door::{
        code::Code,
        connection::CloseSignal,
        entrance::{RequestPermit, peer_of},
        problem::Problem,
        request::{from_form, json_body},
        response::{header_value, json_response},
        store_problems::of_read,
    },
    hinge::{
        admission::{Need, Revocation},
        held::{CallPlace, EarlyEnd, HeldBody, HoldTerms},
        http::{
            bodies::{QueryItem, ReadAnswer, ReadBody, ReadParameters, filter_of},
            event::EventAnswer,
            follow,
            site::HttpLog,
        },
    },
};

/// Events of one answer, if the request names no limit.
const ANSWER_EVENTS: u64 = 1_000;
/// The content type of lines of JSON.
const NDJSON: &str = "application/x-ndjson";
const EVENT_STREAM: &str = "text/event-stream";

/// `GET /v1/logs/{log}/events`
pub(crate) async fn by_address(
    State(log): State<Arc<HttpLog>>,
    request: Request<Body>,
) -> Response<Body> {
    let answer = async {
        let (mut parts, _) = request.into_parts();
        let revocation = log.admit(&parts, Need::READ)?;
        log.names(&mut parts).await?;
        let asked: ReadParameters = from_form(parts.uri.query().unwrap_or_default())?;
        let ReadParameters { types, tags, items, after, upto, backwards, limit } = asked;
        let filter = filter_in_address(types, tags, items.as_deref(), &log.store.limits())?;
        let read = ReadBody { items: None, after, upto, backwards, limit };
        EventRead { filter, read, revocation }.answer(&log, &parts).await
    };
    log.in_time(answer).await
}

/// `POST /v1/logs/{log}/events/read`
pub(crate) async fn by_body(
    State(log): State<Arc<HttpLog>>,
    request: Request<Body>,
) -> Response<Body> {
    let answer = async {
        let (mut parts, body) = request.into_parts();
        let revocation = log.admit(&parts, Need::READ)?;
        log.names(&mut parts).await?;
        let bytes = json_body(&parts.headers, body, log.door.limits()).await?;
        let mut read: ReadBody = log.forms.read(&bytes)?;
        let filter = match read.items.take() {
            Some(items) => filter_of(items, "items", &log.store.limits())?,
            None => Filter::everything(),
        };
        EventRead { filter, read, revocation }.answer(&log, &parts).await
    };
    log.in_time(answer).await
}

/// The filter of an address: types and tags are one item, or there is a list of items as JSON.
pub(crate) fn filter_in_address(
    types: Vec<String>,
    tags: Vec<String>,
    items: Option<&str>,
    limits: &Limits,
) -> Result<Filter, Problem> {
    let wrong = |detail: String| Problem::bad(Code::Arguments, detail).and("argument", "items");
    match items {
        None if types.is_empty() && tags.is_empty() => Ok(Filter::everything()),
        None => filter_of(vec![QueryItem { types, tags }], "tag", limits),
        Some(_) if !types.is_empty() || !tags.is_empty() => {
            Err(wrong("give either `items`, or `type` and `tag`".to_owned()))
        }
        Some(items) => {
            let items: Vec<QueryItem> = serde_json::from_str(items).map_err(|error| {
                let form = "[{\"types\":[\"paid\"],\"tags\":[\"account:1\"]}]";
                wrong(format!("the argument \"items\" is JSON such as {form}: {error}"))
            })?;
            filter_of(items, "items", limits)
        }
    }
}

/// A read that was asked for.
struct EventRead {
    filter: Filter,
    read: ReadBody,
    revocation: Option<Revocation>,
}

impl EventRead {
    async fn answer(self, log: &Arc<HttpLog>, parts: &Parts) -> Result<Response<Body>, Problem> {
        let accepts = |kind: &str| accepts(&parts.headers, kind);
        if accepts(EVENT_STREAM) {
            let ReadBody { after, upto, backwards, limit, .. } = self.read;
            if upto.is_some() || backwards || limit.is_some() {
                let detail = "a stream follows the log: leave out upto, backwards and limit";
                return Err(Problem::bad(Code::Arguments, detail));
            }
            return follow::events(log, parts, self.filter, after, self.revocation);
        }
        let direction = match self.read.backwards {
            true => Direction::Backwards,
            false => Direction::Forwards,
        };
        let is_lines = accepts(NDJSON);
        let limit = self.read.limit.unwrap_or(if is_lines { u64::MAX } else { ANSWER_EVENTS });
        let head = log.store.head().position();
        let mut reading = Reading {
            store: log.store.clone(),
            filter: self.filter,
            read: Read {
                after: Position::new(self.read.after),
                upto: self.read.upto.map_or(head, Position::new),
                direction,
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
                takes_replica: false,
            },
            head,
        };
        let first = reading.first().await?;
        match is_lines {
            true => Ok(lines(log, parts, first, reading, self.revocation)),
            false => {
                let answer = ReadAnswer::new(&first, log.store.head().position());
                let text = serde_json::to_vec(&answer)
                    .map_err(|error| Problem::mistake("the events cannot be written", &error))?;
                Ok(json_response(text.into()))
            }
        }
    }
}

/// Whether the client asks for this kind of answer.
fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = values.flat_map(|value| value.split(','));
    kinds.any(|value| value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind))
}

/// A read of several batches, up to the head at its begin.
struct Reading {
    store: Store,
    filter: Filter,
    read: Read,
    head: Position,
}

impl Reading {
    /// The first batch with an event, or the last one. A store may consider a part of the log
    /// without finding a match.
    async fn first(&mut self) -> Result<Batch, Problem> {
        loop {
            let batch = self.store.read(&self.filter, self.read.clone()).await.map_err(of_read)?;
            let is_continued = self.advance(&batch);
            if !batch.is_empty() || !is_continued {
                return Ok(batch);
            }
        }
    }

    /// The next batch. `None` at the end.
    async fn next(&mut self) -> Result<Option<Batch>, Problem> {
        if !self.is_open() {
            return Ok(None);
        }
        let batch = self.store.read(&self.filter, self.read.clone()).await.map_err(of_read)?;
        self.advance(&batch);
        Ok(Some(batch))
    }

    /// Moves behind the batch. Returns whether there is more to read.
    fn advance(&mut self, batch: &Batch) -> bool {
        let Read { after, upto, direction, limit, .. } = &mut self.read;
        *limit = limit.saturating_sub(batch.len());
        match direction {
            Direction::Forwards => *after = batch.upto(),
            Direction::Backwards => *upto = batch.upto().before(),
        }
        self.is_open()
    }

    fn is_open(&self) -> bool {
        let Read { after, upto, limit, .. } = self.read;
        limit > 0 && after < upto.min(self.head)
    }
}

/// Every event on a line of its own, up to the head of now.
fn lines(
    log: &Arc<HttpLog>,
    parts: &Parts,
    first: Batch,
    reading: Reading,
    revocation: Option<Revocation>,
) -> Response<Body> {
    let head = reading.head;
    let batches = stream::unfold(Some((Some(first), reading)), async |state| {
        let (first, mut reading) = state?;
        let batch = match first {
            Some(first) => Ok(Some(first)),
            None => reading.next().await,
        };
        match batch {
            Ok(batch) => Some((Ok(lines_of(&batch?)), Some((None, reading)))),
            // The body breaks off, so that a client does not take a part for the whole.
            Err(problem) => Some((Err(broken(&problem)), None)),
        }
    });
    let body = Body::from_stream(batches);
    let mut response = match parts.extensions.get::<RequestPermit>().cloned() {
        Some(permit) => {
            let limits = log.door.limits();
            let (door, peer) = (log.door.clone(), peer_of(&parts.extensions));
            let take = move || door.stream(peer);
            let stall = parts.extensions.get::<CloseSignal>().cloned();
            let terms = HoldTerms {
                place: Some(CallPlace::Request(permit)),
                revocation,
                stream_time: limits.stream_time,
                becomes_stream: Some((limits.answer_time, Box::new(take))),
                stall: stall.map(|close| (limits.write_time, close)),
                ending,
            };
            Response::new(Body::new(HeldBody::new(body, terms)))
        }
        None => Response::new(body),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(header_value(head.get()).map(|head| (follow::POSITION, head)));
    response
}

fn lines_of(batch: &Batch) -> Bytes {
    let mut lines = Vec::new();
    for event in batch.iter() {
        // Only writing to memory could fail.
        if serde_json::to_writer(&mut lines, &EventAnswer::new(&event)).is_ok() {
            lines.push(b'\n');
        }
    }
    lines.into()
}

fn broken(problem: &Problem) -> std::io::Error {
    std::io::Error::other(json!(problem.detail()).to_string())
}

/// The end of lines that break off.
fn ending(end: EarlyEnd) -> Result<Frame<Bytes>, axum::Error> {
    Err(axum::Error::new(broken(&follow::problem_of(end))))
}
