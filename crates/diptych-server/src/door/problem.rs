//! Problems as clients read them: `application/problem+json` (RFC 9457).

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Method, Response, StatusCode, header},
    response::IntoResponse,
};
use diptych::{
    CommandError, ExecuteError, Invalid, Position, QueryError, Recorded,
    command::{Conflict, KeyReused, OrdinalError, OutcomeUnknown},
    event::BoundaryError,
    fold::FoldError,
    follow::{FollowerStop, NotYet},
    store::RawEvent,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    door::code::Code,
    json::{payload, rejection},
};

/// The content type of problems.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";
/// Seconds until a client should retry, if waiting helps.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The response to a request that failed: `application/problem+json`.
///
/// The routes of a [`Server`](crate::Server) answer with it. A handler of your own makes the same
/// problem from an [`ExecuteError`], a [`CommandError`], a [`QueryError`] or a
/// [`Denial`](crate::Denial).
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    status: StatusCode,
    code: Code,
    detail: String,
    /// Members for programs.
    extra: Map<String, Value>,
    /// Members that replace those of the same name in `extra` if the caller may read events.
    events: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The problem with another status, for a handler that tells its reasons apart by status. The
    /// word and the members stay.
    pub fn with_status(mut self, status: StatusCode) -> Problem {
        self.status = status;
        self
    }

    /// A member for programs, such as `rejection`.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.extra.get(name)
    }

    /// The word that programs tell problems apart by. The type of the problem is `urn:diptych:` and
    /// this word.
    pub fn word(&self) -> &'static str {
        self.code.word()
    }

    pub(crate) fn is(&self, code: Code) -> bool {
        self.code == code
    }

    /// The problem for a caller with the right to read events: a conflict then lists the payloads
    /// of the events that the command missed. Other problems stay as they are.
    pub fn with_events(mut self) -> Problem {
        self.extra.append(&mut self.events);
        self
    }

    /// The problem for a caller with the right to read events that `mask` lets through. An event
    /// that it removes keeps its position and type.
    pub(crate) fn with_masked_events(mut self, mask: impl Fn(&mut Value)) -> Problem {
        let with_payloads = self.events.remove("missed");
        if let (Some(Value::Array(missed)), Some(Value::Array(payloads))) =
            (self.extra.get_mut("missed"), with_payloads)
        {
            for (event, mut with_payload) in missed.iter_mut().zip(payloads) {
                mask(&mut with_payload);
                if !with_payload.is_null() {
                    *event = with_payload;
                }
            }
        }
        self
    }

    pub(crate) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Problem {
        let (extra, events, headers) = (Map::new(), Map::new(), Vec::new());
        Problem { status, code, detail: detail.into(), extra, events, headers }
    }

    /// The caller's mistake.
    pub(crate) fn bad(code: Code, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// A parameter in the address is wrong.
    pub(crate) fn parameter(name: &str, detail: impl Into<String>) -> Problem {
        Problem::bad(Code::Parameter, detail).and("parameter", name)
    }

    /// The name is unknown.
    pub(crate) fn unknown(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, Code::Unknown, detail)
    }

    /// The path has no such method. The header `Allow` lists those that it has.
    pub(crate) fn method(method: &Method) -> Problem {
        let detail = format!("{method} is not possible here: the header Allow lists the methods");
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, Code::Method, detail)
    }

    /// A mistake of the program. The client gets only the place, because a panic or a decoding
    /// error may quote events of others. The error goes to the log of the program.
    pub(crate) fn mistake(place: &str, error: &dyn std::error::Error) -> Problem {
        let error = with_causes(error);
        tracing::error!(place, error, "a request failed by a mistake in the program");
        let detail = format!("{place}: the log of the program says why");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Mistake, detail)
    }

    /// A retry may succeed.
    pub(crate) fn later(code: Code, detail: impl Into<String>) -> Problem {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        problem.header(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into())
    }

    pub(crate) fn and(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// The sentence for people.
    #[cfg(any(feature = "log", feature = "webhooks"))]
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Whether callers with the right to read events get more members.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// The problem with another sentence for people.
    pub(crate) fn saying(self, detail: String) -> Problem {
        Problem { detail, ..self }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn to_json(&self) -> Value {
        let title = self.status.canonical_reason().unwrap_or("problem");
        let mut members = Map::new();
        members.insert("type".into(), format!("urn:diptych:{}", self.code.word()).into());
        members.insert("title".into(), title.into());
        members.insert("status".into(), self.status.as_u16().into());
        members.insert("detail".into(), self.detail.clone().into());
        members.extend(self.extra.clone());
        Value::Object(members)
    }

    /// The problem of a command that was rejected or failed. `rejection` serialises the reason of
    /// the rule.
    pub(crate) fn of_command<R>(
        error: ExecuteError<R>,
        rejection: impl FnOnce(&R) -> Value,
    ) -> Problem
    where
        R: std::error::Error + 'static,
    {
        match error {
            ExecuteError::Rejected(reason) => {
                let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Rejected, "");
                let detail = reason.to_string();
                Problem { detail, ..problem }.and("rejection", rejection(&reason))
            }
            ExecuteError::Failed(error) => error.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

/// A rejection has its typed reason in the member `rejection`. A command that no rule rejects has
/// no such error: convert its [`CommandError`].
impl<R> From<ExecuteError<R>> for Problem
where
    R: std::error::Error + Serialize + 'static,
{
    fn from(error: ExecuteError<R>) -> Problem {
        Problem::of_command(error, rejection)
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Problem {
        let detail = with_causes(&error);
        match &error {
            CommandError::Invalid(Invalid { field, problem }) => {
                let bad = Problem::bad(Code::Invalid, detail);
                bad.and("field", field.as_str()).and("problem", problem.as_str())
            }
            CommandError::Conflict(conflict) => of_conflict(detail, conflict),
            CommandError::Boundary(BoundaryError::NoBoundary { .. }) => {
                Problem::bad(Code::Header, detail).and("header", "diptych-unchanged-since")
            }
            CommandError::KeyReused(KeyReused { first, last, .. }) => {
                let problem = Problem::new(StatusCode::CONFLICT, Code::KeyReused, detail);
                problem.and("first", first.get()).and("last", last.get())
            }
            CommandError::Ordinal(error) => of_ordinal(detail, error),
            CommandError::Token(_) => Problem::new(StatusCode::CONFLICT, Code::Token, detail),
            CommandError::InvalidRequest(_) => Problem::bad(Code::NotTaken, detail),
            CommandError::OutcomeUnknown(OutcomeUnknown { first, last, .. }) => {
                let problem = Problem::later(Code::OutcomeUnknown, detail);
                match *first {
                    // They were sent to a server, and have no known place.
                    Position::START => problem,
                    _ => problem.and("first", first.get()).and("last", last.get()),
                }
            }
            CommandError::Unavailable(_) => Problem::later(Code::Unavailable, detail),
            CommandError::Stopped => Problem::later(Code::Stopping, detail),
            error => mistake_of_command(error),
        }
    }
}

fn mistake_of_command(error: &CommandError) -> Problem {
    let place = match error {
        CommandError::Boundary(_) => "the boundary of the command is wrong",
        CommandError::Schema(_) => "an event of the command could not be read again",
        CommandError::Outdated(_) => "the program is older than the log",
        CommandError::Fold(FoldError { position, .. }) => {
            let place = "an event that the command depends on cannot be applied";
            return Problem::mistake(place, error).and("at", position.get());
        }
        CommandError::Panicked(_) => "the rule of the command panicked",
        CommandError::Corrupt(_) => "the log is damaged at a place that the command reads",
        CommandError::Rows(_) => "an inline projection refused the events of the command",
        _ => "the command could not be decided",
    };
    Problem::mistake(place, error)
}

fn mistake_of_query(error: &QueryError) -> Problem {
    let place = match error {
        QueryError::NoSuchView(_) => "the app has no view for the query",
        QueryError::Scope { .. } => "the scope of the query is wrong",
        QueryError::Schema(_) => "the declarations of the view's events contradict the log",
        QueryError::Fold(FoldError { position, .. }) => {
            let place = "an event that the answer depends on cannot be applied";
            return Problem::mistake(place, error).and("at", position.get());
        }
        QueryError::Panicked(_) => "the answer panicked",
        QueryError::Corrupt(_) => "the log is damaged at a place that the query reads",
        _ => "the query could not be answered",
    };
    Problem::mistake(place, error)
}

/// The text of an error, followed by causes that the text does not contain, for example a full
/// disk.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Lists the missed events with position and type only. A client that sends `Unchanged-Since: 0`
/// gets every event of the boundary as missed, and the right to send a command is no right to read
/// them.
fn of_conflict(detail: String, conflict: &Conflict) -> Problem {
    let events: Vec<Value> = conflict.missed.iter().map(missed).collect();
    let with_payloads: Vec<Value> = conflict.missed.iter().map(missed_with_payload).collect();
    let mut problem = Problem::new(StatusCode::CONFLICT, Code::Conflict, detail)
        .and("at", conflict.at.get())
        .and("after", conflict.after.get())
        .and("attempts", conflict.attempts)
        .and("missed", events);
    if !with_payloads.is_empty() {
        problem.events.insert("missed".to_owned(), with_payloads.into());
    }
    problem
}

/// Nothing was written. A gap has no `Retry-After`, because waiting alone does not close it.
fn of_ordinal(detail: String, error: &OrdinalError) -> Problem {
    let problem = |code| Problem::new(StatusCode::CONFLICT, code, detail);
    match error {
        OrdinalError::Missing { number, missing } => {
            problem(Code::OrdinalGap).and("ordinal", *number).and("missing", *missing)
        }
        OrdinalError::Passed { number } => problem(Code::OrdinalPassed).and("ordinal", *number),
        _ => problem(Code::OrdinalGap),
    }
}

fn missed(event: &Recorded<RawEvent>) -> Value {
    json!({ "position": event.position.get(), "type": event.event_type })
}

fn missed_with_payload(event: &Recorded<RawEvent>) -> Value {
    json!({
        "position": event.position.get(),
        "type": event.event_type,
        "recorded_at": event.recorded_at.to_string(),
        "data": payload(&event.payload),
    })
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Problem {
        let detail = with_causes(&error);
        match error {
            QueryError::NotYet(NotYet { need, have, within }) => {
                Problem::later(Code::NotYet, detail)
                    .and("need", need.get())
                    .and("have", have.get())
                    .and("within_ms", u64::try_from(within.as_millis()).unwrap_or(u64::MAX))
            }
            QueryError::Token(_) => Problem::new(StatusCode::CONFLICT, Code::Token, detail),
            QueryError::Stopped { stopped: FollowerStop { at, .. }, .. } => {
                // The reason may quote the event, so only the status and the program's log show it.
                let detail = format!(
                    "the view stopped before position {at}, and applies no more events: its status \
                     has the reason"
                );
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::ViewStopped, detail)
                    .and("at", at.get())
            }
            QueryError::Poisoned { poisoned, .. } => {
                let detail = format!(
                    "the view cannot apply the event at position {}, and holds back the later \
                     events of its key: its status has the reason",
                    poisoned.failed
                );
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::KeyPoisoned, detail)
                    .and("at", poisoned.failed.get())
            }
            QueryError::AboveHead { position, head } => Problem::bad(Code::AboveHead, detail)
                .and("position", position.get())
                .and("head", head.get()),
            QueryError::TooManyEvents { limit } => {
                Problem::bad(Code::TooManyEvents, detail).and("limit", limit as u64)
            }
            QueryError::OverBudget { limit } => {
                let detail = format!(
                    "the answer needs more than {limit} events of the log, and this server reads \
                     no more for one question: ask about an earlier point, or about the present"
                );
                Problem::bad(Code::TooManyEvents, detail).and("limit", limit)
            }
            QueryError::NotListed { .. } => Problem::bad(Code::Parameter, detail),
            QueryError::OwnOrder { .. } => {
                // The error names Rust types and methods.
                let detail = "the view of this query has its own order of when events occurred, so \
                              the explanation cannot leave out events by that time: leave out \
                              `_occurred_before`, and it lists all events and corrections";
                Problem::bad(Code::Parameter, detail)
            }
            QueryError::InvalidRequest(_) => Problem::bad(Code::NotTaken, detail),
            // Do not tell clients how the app is configured.
            QueryError::Busy { .. } => Problem::later(
                Code::Busy,
                "the limit of queries about the past at one time is reached: retry later, or ask \
                 about the present",
            ),
            QueryError::NoThread { .. } => Problem::later(Code::Unavailable, detail),
            QueryError::Ended { .. }
            | QueryError::HistoryChanged(_)
            | QueryError::Unavailable { .. } => Problem::later(Code::Unavailable, detail),
            QueryError::AppStopped => Problem::later(Code::Stopping, detail),
            error => mistake_of_query(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_that_was_not_closed_in_time_names_the_missing_command() {
        let error = CommandError::from(OrdinalError::Missing { number: 4, missing: 2 });
        let problem = Problem::from(error);
        assert_eq!((problem.status(), problem.word()), (StatusCode::CONFLICT, "ordinal-gap"));
        let members = problem.to_json();
        assert_eq!((&members["ordinal"], &members["missing"]), (&json!(4), &json!(2)));
        assert!(members["detail"].as_str().unwrap().contains("waited 10 s for its command 2"));
    }

    #[test]
    fn a_view_with_an_order_of_its_own_is_no_mistake_and_tells_no_type() {
        let problem = Problem::from(QueryError::OwnOrder { view: "shop::Ledger" });
        assert_eq!((problem.status(), problem.word()), (StatusCode::BAD_REQUEST, "parameter"));
        let text = problem.to_json().to_string();
        assert!(
            text.contains("leave out `_occurred_before`") && !text.contains("Ledger"),
            "{text}"
        );
    }
}
