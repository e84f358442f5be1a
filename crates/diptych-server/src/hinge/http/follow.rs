//! A subscription as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, Response, StatusCode, request::Parts},
    response::{
        IntoResponse,
        sse::{Event, Sse},
    },
};
use diptych::store::{
    Batch, Delivery, Filter, Position, SubscribeError, SubscribeOptions, Subscription,
};
use futures_util::stream;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    door::{
        code::Code,
        connection::CloseSignal,
        entrance::peer_of,
        problem::Problem,
        request::header_text,
        stop::Stop,
        store_problems::{of_read, of_unavailable},
    },
    hinge::{
        admission::Revocation,
        held::{CallPlace, EarlyEnd, HeldBody, HoldTerms},
        http::{bodies::ReadAnswer, site::HttpLog},
    },
};

/// The header with a position of the log.
pub(crate) const POSITION: HeaderName = HeaderName::from_static("diptych-position");
/// The longest time without a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Events in one event of the stream.
const BATCH_EVENTS: usize = 256;

/// The matching events after this position, or after the last position that the client names.
pub(crate) fn events(
    log: &Arc<HttpLog>,
    parts: &Parts,
    filter: Filter,
    after: u64,
    revocation: Option<Revocation>,
) -> Result<Response<Body>, Problem> {
    let after = last_event_id(parts)?.unwrap_or(after);
    let permit = log.door.stream(peer_of(&parts.extensions))?;
    let options = SubscribeOptions { batch_events: BATCH_EVENTS, ..SubscribeOptions::default() };
    let follower = Follower {
        log: log.clone(),
        stop: log.door.stop().clone(),
        subscription: log.store.subscribe(filter, Position::new(after), options),
    };
    let events = stream::unfold(Some(follower), async |follower| {
        let mut follower = follower?;
        match follower.next().await {
            Ok(event) => Some((Ok::<_, Infallible>(event), Some(follower))),
            Err(problem) => Some((Ok(problem_event(&problem)), None)),
        }
    });
    let limits = log.door.limits();
    let stall = parts.extensions.get::<CloseSignal>().cloned();
    let terms = HoldTerms {
        place: Some(CallPlace::stream(permit)),
        revocation,
        stream_time: limits.stream_time,
        becomes_stream: None,
        stall: stall.map(|close| (limits.write_time, close)),
        ending,
    };
    let response = Sse::new(events).into_response();
    Ok(response.map(|body| Body::new(HeldBody::new(body, terms))))
}

/// The position that a client names when it opens its stream again.
fn last_event_id(parts: &Parts) -> Result<Option<u64>, Problem> {
    const NAME: &str = "last-event-id";
    let Some(text) = header_text(&parts.headers, NAME)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let detail = format!("the header {NAME} is the position of an event, and not {text:?}");
        Problem::bad(Code::Header, detail).and("header", NAME)
    })
}

struct Follower {
    log: Arc<HttpLog>,
    stop: Stop,
    subscription: Subscription,
}

impl Follower {
    /// The next event of the stream, at the latest with the heartbeat.
    async fn next(&mut self) -> Result<Event, Problem> {
        let next = async {
            match timeout(HEARTBEAT, with_events(&mut self.subscription)).await {
                Ok(delivery) => delivery.map(Some),
                Err(_) => Ok(None),
            }
        };
        let delivery = tokio::select! {
            delivery = next => delivery.map_err(of_subscription)?,
            () = self.stop.begun() => {
                let detail = "the server stops: connect again, and the stream goes on";
                return Err(Problem::later(Code::Stopping, detail));
            }
        };
        let upto = self.subscription.upto().get();
        Ok(match delivery {
            Some(Delivery::Batch(batch)) => batch_event(&batch, self.log.store.head().position()),
            Some(Delivery::CaughtUp { upto }) => {
                named("caught-up", upto.get(), &json!({ "upto": upto.get() }))
            }
            Some(Delivery::FellBehind { by }) => named("fell-behind", upto, &json!({ "by": by })),
            // A comment tells that the stream lives. Its id has no event, and moves the position
            // from which a client goes on.
            _ => Event::default().comment(format!("upto {upto}")).id(upto.to_string()),
        })
    }
}

/// The next delivery that tells something. A batch without events only moves the position.
async fn with_events(subscription: &mut Subscription) -> Result<Delivery, SubscribeError> {
    loop {
        match subscription.next().await? {
            Delivery::Batch(batch) if batch.is_empty() => {}
            delivery => return Ok(delivery),
        }
    }
}

fn batch_event(batch: &Batch, head: Position) -> Event {
    let answer = ReadAnswer::new(batch, head);
    let text = serde_json::to_string(&answer).unwrap_or_default();
    // A carriage return stands between the parts of a payload, and would end the line here.
    let text = text.replace('\r', " ");
    Event::default().event("batch").id(batch.upto().get().to_string()).data(text)
}

fn named(name: &str, upto: u64, data: &Value) -> Event {
    Event::default().event(name).id(upto.to_string()).data(data.to_string())
}

fn problem_event(problem: &Problem) -> Event {
    Event::default().event("problem").data(problem.to_json().to_string())
}

fn of_subscription(error: SubscribeError) -> Problem {
    match error {
        SubscribeError::Read { cause, .. } => of_read(cause),
        SubscribeError::Ended { cause, .. } => of_unavailable(&cause),
        other => Problem::later(Code::Unavailable, other.to_string()),
    }
}

/// The problem of a stream that ends early.
pub(crate) fn problem_of(end: EarlyEnd) -> Problem {
    match end {
        EarlyEnd::Revoked => {
            let detail = "the token was revoked, or lost its scope: give another one";
            Problem::new(StatusCode::UNAUTHORIZED, Code::Denied, detail)
        }
        EarlyEnd::TimeOver => {
            let detail = "the stream has lasted its longest time: connect again, and it goes on";
            Problem::later(Code::Busy, detail)
        }
        EarlyEnd::NoPlace(problem) => problem,
    }
}

/// The end of a stream of server-sent events.
fn ending(end: EarlyEnd) -> Result<Frame<Bytes>, axum::Error> {
    let problem = problem_of(end).to_json();
    Ok(Frame::data(format!("event: problem\ndata: {problem}\n\n").into()))
}
