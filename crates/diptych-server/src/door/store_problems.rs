//! Errors of a store as problems.

use axum::http::StatusCode;
use diptych::store::{
    AppendError, Corruption, InvalidRequest, ReadError, Refusal, SyncError, Unavailable,
};

use super::{code::Code, problem::Problem};

pub(crate) fn of_read(error: ReadError) -> Problem {
    match error {
        ReadError::Invalid(invalid) => of_invalid(&invalid),
        ReadError::Corrupt(corruption) => of_corruption(&corruption),
        ReadError::Unavailable(unavailable) => of_unavailable(&unavailable),
        other => Problem::later(Code::Unavailable, other.to_string()),
    }
}

pub(crate) fn of_append(error: AppendError) -> Problem {
    match error {
        AppendError::Invalid(invalid) => of_invalid(&invalid),
        AppendError::Refused(refusal) => of_refusal(&refusal),
        AppendError::Corrupt(corruption) => of_corruption(&corruption),
        AppendError::Unavailable(unavailable) => of_unavailable(&unavailable),
        AppendError::OutcomeUnknown(error) => of_sync(&error),
        other => Problem::later(Code::Unavailable, other.to_string()),
    }
}

pub(crate) fn of_sync(error: &SyncError) -> Problem {
    Problem::later(Code::OutcomeUnknown, error.to_string())
}

pub(crate) fn of_invalid(error: &InvalidRequest) -> Problem {
    let detail = error.to_string();
    match error {
        InvalidRequest::AboveHead { position, head } => Problem::bad(Code::AboveHead, detail)
            .and("position", position.get())
            .and("head", head.get()),
        InvalidRequest::TooLarge { limit, name, .. }
        | InvalidRequest::TooMany { limit, name, .. } => {
            Problem::bad(Code::NotTaken, detail).and("limit", *limit as u64).and("name", *name)
        }
        _ => Problem::bad(Code::NotTaken, detail),
    }
}

fn of_refusal(refusal: &Refusal) -> Problem {
    let problem = |code| Problem::new(StatusCode::CONFLICT, code, refusal.to_string());
    match refusal {
        Refusal::Conflict { at, after } => {
            problem(Code::Conflict).and("at", at.get()).and("after", after.get())
        }
        Refusal::KeyTaken { first, last } | Refusal::KeyReused { first, last } => {
            problem(Code::KeyReused).and("first", first.get()).and("last", last.get())
        }
        Refusal::AlreadyTracked { tracked, at, .. } => {
            problem(Code::Tracked).and("tracked", tracked.get()).and("at", at.get())
        }
        Refusal::Rows { .. } => {
            Problem::mistake("an inline projection refused the events", refusal)
        }
        _ => problem(Code::Tracked),
    }
}

fn of_corruption(corruption: &Corruption) -> Problem {
    Problem::mistake("the log is damaged at a place that the request reads", corruption)
}

pub(crate) fn of_unavailable(unavailable: &Unavailable) -> Problem {
    let detail = unavailable.to_string();
    match unavailable {
        Unavailable::HistoryChanged(changed) => {
            let problem = Problem::new(StatusCode::CONFLICT, Code::Token, detail);
            let epoch = changed.is.epoch.to_u64().to_string();
            problem.and("id", changed.is.id.to_string()).and("epoch", epoch)
        }
        Unavailable::Closed => Problem::later(Code::Stopping, detail),
        _ => Problem::later(Code::Unavailable, detail),
    }
}
