//! `POST /v1/logs/{log}/events`: one commit.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{Request, Response, request::Parts},
};
use diptych::store::{
    Append, AppendError, Digest, Filter, InvalidRequest, Key, Limits, Position, RawEvent, Read,
    Refusal, Store,
};
use diptych_remote::wire;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    door::{
        code::Code,
        problem::Problem,
        request::json_body,
        response::{json_response, response_of},
        store_problems::{of_append, of_invalid, of_read},
    },
    hinge::http::{
        bodies::{AppendAnswer, AppendBody, ConditionBody},
        site::HttpLog,
    },
};

/// `POST /v1/logs/{log}/events`
pub(crate) async fn append(
    State(log): State<Arc<HttpLog>>,
    request: Request<Body>,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    response_of(appended(&log, &mut parts, body).await)
}

async fn appended(
    log: &Arc<HttpLog>,
    parts: &mut Parts,
    body: Body,
) -> Result<Response<Body>, Problem> {
    log.admit(parts, log.times.need())?;
    log.names(parts).await?;
    let bytes = json_body(&parts.headers, body, log.door.limits()).await?;
    let AppendBody { events, condition, key, tracking } = log.forms.append(&bytes)?;
    let limits = log.store.limits();
    let events = events.into_iter().enumerate().map(|(index, event)| event.into_raw(index));
    let events: Vec<RawEvent> = events.collect::<Result<_, _>>()?;
    let mut append = Append::events(events);
    if let Some(name) = key {
        let digest = digest(&append, &limits).map_err(|error| of_invalid(&error))?;
        append = append.key(Key::new(name, digest));
    }
    append.tracking = tracking.map(|tracking| tracking.into_tracking());
    log.times.check(&append).map_err(|error| of_invalid(&error))?;
    if let Some(condition) = condition.clone() {
        append = append.condition(condition.into_condition(&limits)?);
    }
    let hold = log.door.hold(parts);
    let (store, stop) = (log.store.clone(), log.door.stop().clone());
    // A client that goes away does not leave the commit half way.
    let committed = async move { stop.fenced(commit(&store, append)).await };
    let committed = tokio::spawn(hold.around(committed));
    let unfinished = || {
        let detail = "the append is not done yet: send it again with its key to learn its outcome";
        Problem::later(Code::OutcomeUnknown, detail)
    };
    let committed = timeout(log.door.limits().answer_time, committed).await;
    let answer = committed.map_err(|_| unfinished())?.map_err(|_| unfinished())?;
    let answer = answer.ok_or_else(unfinished)?;
    let answer = answer.map_err(|problem| named(problem, condition.as_ref()))?;
    Ok(json_response(json!(answer).to_string().into()))
}

/// Appends, and finds the commit of a request that was sent again.
async fn commit(store: &Store, append: Append) -> Result<AppendAnswer, Problem> {
    let accepted = match store.append(append).await {
        Ok(accepted) => accepted,
        Err(AppendError::Refused(Refusal::KeyTaken { first, last })) => {
            return repeated(store, first, last).await;
        }
        Err(error) => return Err(of_append(error)),
    };
    let recorded_at = accepted.recorded_at.to_string();
    let synced = accepted.synced().await.map_err(|error| of_append(error.into()))?;
    let (first, last) = (synced.first.get(), synced.last.get());
    Ok(AppendAnswer { first, last, recorded_at, repeated: false })
}

async fn repeated(store: &Store, first: Position, last: Position) -> Result<AppendAnswer, Problem> {
    let read = Read::after(first.before()).upto(first).limit(1);
    let batch = store.read(&Filter::everything(), read).await.map_err(of_read)?;
    let recorded_at = batch.get(0).map(|event| event.recorded_at().to_string());
    let recorded_at = recorded_at.ok_or_else(|| {
        Problem::later(Code::Unavailable, "the commit of this key cannot be read: send it again")
    })?;
    Ok(AppendAnswer { first: first.get(), last: last.get(), recorded_at, repeated: true })
}

/// The problem of a conflict names the condition that failed.
fn named(problem: Problem, condition: Option<&ConditionBody>) -> Problem {
    match condition {
        Some(condition) if problem.is(Code::Conflict) => {
            problem.and("failIfEventsMatch", json!(condition.fail_if_events_match))
        }
        _ => problem,
    }
}

/// A digest of the events and of their order. It leaves out the condition, because a client that
/// sends its request again may have read further.
fn digest(append: &Append, limits: &Limits) -> Result<Digest, InvalidRequest> {
    let encoded = wire::call_of(append, 0, limits)?.encoded.unwrap_or_default();
    let mut all = encoded.bytes.to_vec();
    all.extend(encoded.sizes.iter().flat_map(|size| size.to_le_bytes()));
    Ok(Digest::of(&all))
}
