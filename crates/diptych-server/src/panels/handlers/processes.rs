//! The processes of the log for operators: what waits, and the answers to it.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{Request, Response, StatusCode, request::Parts},
};
use diptych::{
    Position,
    process::{
        Action, ActionRejection, CallAnswer, CallPhase, CallQuestion, LetterAnswer, LetterError,
        OperationError, ProcessOperations, Reactions, TraceError, TraceOptions, TraceTarget,
        WaitingCall,
    },
    store::RawEvent,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::operators::{
    MOST_ROWS, ROWS, admit, answered_at, counted, listed, read_answer, read_position,
};
use crate::{
    door::{
        access::Operation,
        code::Code,
        problem::Problem,
        request::{Name, from_form},
        response::{json_response, response_of},
        store_problems::{of_append, of_read},
    },
    panels::site::Site,
};

/// Maximum number of events that a trace reads for an id without an index.
const SEARCHED_EVENTS: u64 = 1_000_000;

/// The parameters of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowParameters {
    /// Only those of this process.
    #[serde(default)]
    process: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
}

impl RowParameters {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(ROWS).min(MOST_ROWS)
    }
}

/// The parameters of the list of all calls.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallParameters {
    #[serde(default)]
    process: Option<String>,
    #[serde(default)]
    gateway: Option<String>,
    #[serde(default)]
    state: Option<StateParameter>,
    #[serde(default)]
    before: Option<u64>,
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StateParameter {
    Pending,
    Waiting,
    Answered,
    Refused,
    Withheld,
}

/// The parameters of a trace.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceParameters {
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    whole_log: bool,
}

/// The answer to a letter.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LetterVerdict {
    Retry,
    Skip,
    Replace(Vec<Action>),
}

/// The answer to a call.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CallVerdict {
    Answered(Value),
    Refused(ActionRejection),
    SendAgain,
}

/// `GET /processes`
pub(crate) async fn list(State(site): State<Arc<Site>>, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        let operations = admitted(&site, &parts).await?;
        Ok(listed("processes", &operations.processes().await.map_err(of_read)?))
    };
    response_of(answer.await)
}

/// `GET /processes/instances`
pub(crate) async fn instances(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        let operations = admitted(&site, &parts).await?;
        let options = list_options(&parts)?;
        let found = operations.instances(options.process.as_deref(), options.limit()).await;
        Ok(listed("instances", &found.map_err(of_question)?))
    };
    response_of(answer.await)
}

/// `GET /processes/letters`
pub(crate) async fn letters(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        let operations = admitted(&site, &parts).await?;
        let options = list_options(&parts)?;
        let mut found =
            operations.letters(options.process.as_deref()).await.map_err(of_question)?;
        let count = found.len();
        found.truncate(options.limit());
        Ok(counted("letters", &found, count))
    };
    response_of(answer.await)
}

/// `GET /processes/letters/{position}`
pub(crate) async fn letter(
    State(site): State<Arc<Site>>,
    Name(position): Name,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        let operations = admitted(&site, &parts).await?;
        let at = read_position(&position)?;
        let letter = find_letter(&operations, at).await?;
        let trigger = operations.trigger(&letter).await.map_err(of_read)?;
        let answer = json!({ "letter": letter, "event": trigger.as_ref().map(event) });
        Ok(json_response(answer.to_string().into()))
    };
    response_of(answer.await)
}

/// `POST /processes/letters/{position}`
pub(crate) async fn answer_letter(
    State(site): State<Arc<Site>>,
    Name(position): Name,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let answer = async {
        let caller = admit(&site, Operation::AnswerLetter, &parts).await?;
        let operations = site.app.process_operations();
        let at = read_position(&position)?;
        let (verdict, who, why) = read_answer(&site, caller, &parts, body).await?;
        let letter = find_letter(&operations, at).await?;
        let given = match verdict {
            LetterVerdict::Retry => LetterAnswer::Retry,
            LetterVerdict::Skip => LetterAnswer::Skip,
            LetterVerdict::Replace(actions) => LetterAnswer::Replace(Reactions::of(actions)),
        };
        let answered = operations.answer(&letter, given, &who, &why).await;
        Ok(answered_at(answered.map_err(of_answer)?))
    };
    response_of(answer.await)
}

/// `GET /processes/calls`
pub(crate) async fn calls(State(site): State<Arc<Site>>, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        let operations = admitted(&site, &parts).await?;
        let options = list_options(&parts)?;
        let mut found =
            operations.waiting_calls(options.process.as_deref()).await.map_err(of_question)?;
        let count = found.len();
        found.truncate(options.limit());
        Ok(counted("calls", &found, count))
    };
    response_of(answer.await)
}

/// `GET /processes/calls/{position}`
pub(crate) async fn call(
    State(site): State<Arc<Site>>,
    Name(position): Name,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        let operations = admitted(&site, &parts).await?;
        let call = find_call(&operations, read_position(&position)?).await?;
        Ok(json_response(json!({ "call": call }).to_string().into()))
    };
    response_of(answer.await)
}

/// `POST /processes/calls/{position}`
pub(crate) async fn answer_call(
    State(site): State<Arc<Site>>,
    Name(position): Name,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let answer = async {
        let caller = admit(&site, Operation::AnswerCall, &parts).await?;
        let operations = site.app.process_operations();
        let at = read_position(&position)?;
        let (verdict, who, why) = read_answer(&site, caller, &parts, body).await?;
        let call = find_call(&operations, at).await?;
        let given = match verdict {
            CallVerdict::Answered(answer) => CallAnswer::Answered(answer),
            CallVerdict::Refused(rejection) => CallAnswer::Refused(rejection),
            CallVerdict::SendAgain => CallAnswer::SendAgain,
        };
        let answered = operations.answer_call(&call, given, &who, &why).await;
        Ok(answered_at(answered.map_err(of_answer)?))
    };
    response_of(answer.await)
}

/// `GET /processes/gateway-calls`
pub(crate) async fn gateway_calls(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        let operations = admitted(&site, &parts).await?;
        let asked: CallParameters = from_form(parts.uri.query().unwrap_or_default())?;
        let mut question = CallQuestion::default();
        (question.process, question.gateway) = (asked.process, asked.gateway);
        question.before = asked.before.map(Position::new);
        question.most = asked.limit.unwrap_or(ROWS).min(MOST_ROWS);
        question.phase = asked.state.map(|state| match state {
            StateParameter::Pending => CallPhase::Pending,
            StateParameter::Waiting => CallPhase::Waiting,
            StateParameter::Answered => CallPhase::Answered,
            StateParameter::Refused => CallPhase::Refused,
            StateParameter::Withheld => CallPhase::Withheld,
        });
        Ok(listed("calls", &operations.calls(&question).await.map_err(of_question)?))
    };
    response_of(answer.await)
}

/// `GET /processes/timers`
pub(crate) async fn timers(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        let operations = admitted(&site, &parts).await?;
        let options = list_options(&parts)?;
        let found = operations.timers(options.process.as_deref(), options.limit()).await;
        let (timers, count) = found.map_err(of_question)?;
        Ok(counted("timers", &timers, count))
    };
    response_of(answer.await)
}

/// `GET /trace/{id}`
pub(crate) async fn trace(
    State(site): State<Arc<Site>>,
    Name(id): Name,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        admit(&site, Operation::Processes, &parts).await?;
        let parameters: TraceParameters = from_form(parts.uri.query().unwrap_or_default())?;
        let target: TraceTarget =
            id.parse().map_err(|error| Problem::unknown(format!("{error}")))?;
        let mut options = TraceOptions::default();
        options.steps = parameters.limit.unwrap_or(options.steps).min(MOST_ROWS);
        options.whole_log = parameters.whole_log;
        options.searched_events = SEARCHED_EVENTS;
        let trace = site.app.trace_with(target, options).await.map_err(of_trace)?;
        let json = serde_json::to_string(&trace)
            .map_err(|error| Problem::mistake("a trace cannot be written", &error))?;
        Ok(json_response(json.into()))
    };
    response_of(answer.await)
}

/// The processes of the site, for questions.
async fn admitted(site: &Site, parts: &Parts) -> Result<ProcessOperations, Problem> {
    admit(site, Operation::Processes, parts).await?;
    Ok(site.app.process_operations())
}

async fn find_letter(
    operations: &ProcessOperations,
    at: Position,
) -> Result<diptych::process::ParkedLetter, Problem> {
    let letters = operations.letters(None).await.map_err(of_question)?;
    letters.into_iter().find(|letter| letter.parked_at == at).ok_or_else(|| {
        Problem::unknown(format!("no letter waits at position {at}: list the letters again"))
    })
}

async fn find_call(operations: &ProcessOperations, at: Position) -> Result<WaitingCall, Problem> {
    let calls = operations.waiting_calls(None).await.map_err(of_question)?;
    calls.into_iter().find(|call| call.listed_at == at).ok_or_else(|| {
        Problem::unknown(format!("no call waits at position {at}: list the calls again"))
    })
}

fn list_options(parts: &Parts) -> Result<RowParameters, Problem> {
    from_form(parts.uri.query().unwrap_or_default())
}

/// An event as it is stored.
fn event(event: &RawEvent) -> Value {
    let data = serde_json::from_slice::<Value>(&event.payload);
    json!({
        "type": event.event_type,
        "version": event.version,
        "tags": event.tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(),
        "data": data.unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&event.payload))),
    })
}

fn of_question(error: OperationError) -> Problem {
    match error {
        OperationError::Read(error) => of_read(error),
        error => Problem::unknown(error.to_string()),
    }
}

fn of_trace(error: TraceError) -> Problem {
    match error {
        TraceError::Read(error) => of_read(error),
        // The members tell a caller that the route is there, and the flow is not.
        TraceError::NoSuchId { id, .. } => {
            Problem::unknown(error.to_string()).and("id", id.to_string())
        }
        TraceError::NoSuchPosition { position, .. } => {
            Problem::unknown(error.to_string()).and("position", position.get())
        }
        error => Problem::unknown(error.to_string()),
    }
}

fn of_answer(error: LetterError) -> Problem {
    let detail = error.to_string();
    match error {
        LetterError::Answered { at, .. } => {
            Problem::new(StatusCode::CONFLICT, Code::Answered, detail).and("at", at.get())
        }
        LetterError::Malformed(_) => Problem::bad(Code::Malformed, detail),
        LetterError::Read(error) => of_read(error),
        LetterError::Append(error) => of_append(error),
        error => Problem::mistake("an answer cannot be stored", &error),
    }
}
