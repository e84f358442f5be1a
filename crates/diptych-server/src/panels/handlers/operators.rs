//! The parts that the routes for operators share.

use axum::{
    body::Body,
    http::{Response, StatusCode, request::Parts},
};
use diptych::Position;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    door::{
        access::{Caller, Operation},
        code::Code,
        problem::Problem,
        request::{from_json, json_body},
        response::json_response,
    },
    panels::site::Site,
};

/// Number of rows in a list without the parameter `limit`.
pub(super) const ROWS: usize = 100;
/// Maximum number of rows in a list, and of steps in a trace.
pub(super) const MOST_ROWS: usize = 10_000;

/// The answer to a letter or to a call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerBody<A> {
    answer: A,
    /// The operator, if the hook names none.
    #[serde(default)]
    who: Option<String>,
    why: String,
}

/// Checks that the site serves operators, and that the hook admits the caller.
pub(super) async fn admit(
    site: &Site,
    operation: Operation,
    parts: &Parts,
) -> Result<Caller, Problem> {
    if !site.has_operations {
        let detail = "this server has no routes for operators of processes and intakes: add them \
                      with `Server::process_operations`";
        return Err(Problem::unknown(detail));
    }
    site.door.admit(operation, parts).await
}

/// The answer in a body, the operator, and the reason.
pub(super) async fn read_answer<A: for<'de> Deserialize<'de>>(
    site: &Site,
    caller: Caller,
    parts: &Parts,
    body: Body,
) -> Result<(A, String, String), Problem> {
    let body = json_body(&parts.headers, body, site.door.limits()).await?;
    let AnswerBody { answer, who, why } = from_json("the answer", &body)?;
    if site.poster.is_some() {
        let detail = "a poster changes nothing: answer at the application that owns the log";
        return Err(Problem::new(StatusCode::FORBIDDEN, Code::Denied, detail));
    }
    // The name that the hook gives is proven, and the one in the body is not.
    match caller.actor.or(who) {
        Some(who) => Ok((answer, who, why)),
        None => {
            let detail = "no hook names the caller: tell who answers, as `who`";
            Err(Problem::bad(Code::Malformed, detail).and("field", "who"))
        }
    }
}

pub(super) fn read_position(text: &str) -> Result<Position, Problem> {
    text.parse()
        .map(Position::new)
        .map_err(|_| Problem::unknown(format!("{text:?} is no position of a letter or a call")))
}

pub(super) fn listed<T: Serialize>(name: &str, rows: &[T]) -> Response<Body> {
    json_response(json!({ name: rows }).to_string().into())
}

/// A list that may be cut, with the number of all rows.
pub(super) fn counted<T: Serialize>(name: &str, rows: &[T], count: usize) -> Response<Body> {
    json_response(json!({ name: rows, "count": count }).to_string().into())
}

pub(super) fn answered_at(position: Position) -> Response<Body> {
    json_response(json!({ "answered_at": position.get() }).to_string().into())
}
