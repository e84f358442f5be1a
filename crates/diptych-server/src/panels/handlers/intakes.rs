//! The feeds and intakes of the application for operators: how far they are, what waits, and the
//! answers to it.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{Request, Response, StatusCode, request::Parts},
};
use diptych::{
    Position,
    collaboration::{
        FeedHandle, IntakeAnswer, IntakeAnswerError, IntakeOperationError, IntakeOperations,
        IntakeStatus, KnownIntake, ParkedForeignEvent,
    },
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
    json::merged,
    panels::site::Site,
};

/// The parameters of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LetterParameters {
    /// Only those of this intake.
    #[serde(default)]
    intake: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
}

/// The answer to a parked event.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum IntakeVerdict {
    Retry,
    Skip,
    Replace(Value),
}

/// `GET /feeds`
pub(crate) async fn feeds(State(site): State<Arc<Site>>, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        admit(&site, Operation::Processes, &parts).await?;
        Ok(listed("feeds", &site.app.feeds().iter().map(feed).collect::<Vec<_>>()))
    };
    response_of(answer.await)
}

/// `GET /intakes`
pub(crate) async fn list(State(site): State<Arc<Site>>, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        let known = admitted(&site, &parts).await?.intakes().await.map_err(of_read)?;
        let running: Vec<_> = site.app.intakes().iter().map(|intake| intake.status()).collect();
        let rows = known.iter().map(|known| {
            let status = running.iter().find(|status| status.stored_as == known.name);
            row(known, status)
        });
        Ok(listed("intakes", &rows.collect::<Vec<_>>()))
    };
    response_of(answer.await)
}

/// `GET /intakes/letters`
pub(crate) async fn letters(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        let operations = admitted(&site, &parts).await?;
        let LetterParameters { intake, limit } = from_form(parts.uri.query().unwrap_or_default())?;
        let mut found = operations.letters(intake.as_deref()).await.map_err(of_question)?;
        let count = found.len();
        found.truncate(limit.unwrap_or(ROWS).min(MOST_ROWS));
        Ok(counted("letters", &found, count))
    };
    response_of(answer.await)
}

/// `GET /intakes/letters/{position}`
pub(crate) async fn letter(
    State(site): State<Arc<Site>>,
    Name(position): Name,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        let operations = admitted(&site, &parts).await?;
        let letter = find_letter(&operations, read_position(&position)?).await?;
        Ok(json_response(json!({ "letter": letter }).to_string().into()))
    };
    response_of(answer.await)
}

/// `POST /intakes/letters/{position}`
pub(crate) async fn answer_letter(
    State(site): State<Arc<Site>>,
    Name(position): Name,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let answer = async {
        let caller = admit(&site, Operation::AnswerLetter, &parts).await?;
        let operations = site.app.intake_operations();
        let at = read_position(&position)?;
        let (verdict, who, why) = read_answer(&site, caller, &parts, body).await?;
        let letter = find_letter(&operations, at).await?;
        let given = match verdict {
            IntakeVerdict::Retry => IntakeAnswer::Retry,
            IntakeVerdict::Skip => IntakeAnswer::Skip,
            IntakeVerdict::Replace(data) => IntakeAnswer::Replace(data),
        };
        let answered = operations.answer(&letter, given, &who, &why).await;
        Ok(answered_at(answered.map_err(of_answer)?))
    };
    response_of(answer.await)
}

/// The intakes of the site, for questions.
async fn admitted(site: &Site, parts: &Parts) -> Result<IntakeOperations, Problem> {
    admit(site, Operation::Processes, parts).await?;
    Ok(site.app.intake_operations())
}

async fn find_letter(
    operations: &IntakeOperations,
    at: Position,
) -> Result<ParkedForeignEvent, Problem> {
    let letters = operations.letters(None).await.map_err(of_question)?;
    letters.into_iter().find(|letter| letter.parked_at == at).ok_or_else(|| {
        Problem::unknown(format!("no event is parked at position {at}: list the letters again"))
    })
}

fn feed(feed: &FeedHandle) -> Value {
    let status = feed.status();
    let types = feed.public_events();
    let types = types.iter().map(|known| format!("{}.v{}", known.name, known.version));
    json!({
        "name": status.name,
        "types": types.collect::<Vec<_>>(),
        "reads": status.reads,
        "events": status.events,
        "failures": status.failures,
        "read_upto": status.read_upto.get(),
    })
}

/// An intake that the log knows, with its status if this program runs it.
fn row(known: &KnownIntake, running: Option<&IntakeStatus>) -> Value {
    let of_log = json!({ "types": known.types, "log": known.log.map(|log| log.to_string()) });
    let rest = match running {
        Some(running) => status(running),
        None => json!({
            "name": known.name,
            "stored_as": known.name,
            "source": known.source,
            "position": known.position.get(),
            "state": null,
        }),
    };
    merged(rest, of_log)
}

/// The status of an intake of this program.
pub(crate) fn status(status: &IntakeStatus) -> Value {
    json!({
        "name": status.name,
        "stored_as": status.stored_as,
        "source": status.source,
        "position": status.position.get(),
        "state": status.state.label(),
        "trouble": status.state.reason(),
        "lag_positions": status.behind,
        "age_seconds": status.age.map(|age| age.as_secs_f64()),
        "waiting": status.waiting,
        "left_out": status.left_out,
    })
}

fn of_question(error: IntakeOperationError) -> Problem {
    match error {
        IntakeOperationError::Read(error) => of_read(error),
        error => Problem::unknown(error.to_string()),
    }
}

fn of_answer(error: IntakeAnswerError) -> Problem {
    let detail = error.to_string();
    match error {
        IntakeAnswerError::Answered { at, .. } => {
            let problem = Problem::new(StatusCode::CONFLICT, Code::Answered, detail);
            problem.and("at", at.map(Position::get))
        }
        IntakeAnswerError::Author
        | IntakeAnswerError::Unreadable { .. }
        | IntakeAnswerError::Malformed(_) => Problem::bad(Code::Malformed, detail),
        IntakeAnswerError::Read(error) => of_read(error),
        IntakeAnswerError::Append(error) => of_append(error),
        error => Problem::mistake("an answer cannot be stored", &error),
    }
}
