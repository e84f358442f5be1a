//! The answers to requests about rows.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use diptych::{App, ExecuteError, Filter, Position, Query};
use diptych_server::{Problem, extract::ReceiptResponse};
use serde::{Serialize, Serializer};

use crate::{
    record::Record,
    refusal::Refusal,
    view::{Entry, Get, RecordView},
};

/// Asks for a row whose JSON is the row itself.
pub(super) struct ShowRow<R: Record>(pub(super) Get<R>);

/// A row whose revision is in a header.
#[derive(Clone, PartialEq)]
pub(super) struct RowBody<R>(pub(super) Entry<R>);

impl<R: Serialize> Serialize for RowBody<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.row.serialize(serializer)
    }
}

impl<R: Record> Query for ShowRow<R> {
    type View = RecordView<R>;
    type Answer = Option<RowBody<R>>;

    fn answer(&self, view: &RecordView<R>) -> Option<RowBody<R>> {
        self.0.answer(view).map(RowBody)
    }

    fn scope(&self) -> Filter {
        self.0.scope()
    }
}

/// The revision as the tag of an entity. It has the epoch of the log, because after a restore the
/// position can name another event.
pub(super) fn revision_tag(app: &App, revision: Position) -> HeaderValue {
    let tag = format!("\"{}-{}\"", app.identity().epoch, revision.get());
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// The response to a write: the row after it, with the receipt in headers.
///
/// If the row cannot be shown, because the caller may not read it (`shown` is `None`), its view
/// stands still, or the row is gone already, the receipt is the body: the write has succeeded.
pub(super) async fn written<R: Record>(
    app: &App,
    shown: Option<R::Key>,
    receipt: ReceiptResponse,
    status: StatusCode,
) -> Response<Body> {
    let entry = match shown {
        Some(key) => {
            let row = app.query(Get::<R> { key }).after(receipt.receipt()).await;
            row.ok().and_then(|answer| answer.value)
        }
        None => None,
    };
    let mut response = receipt.into_response();
    *response.status_mut() = status;
    if let Some(entry) = entry
        && let Ok(json) = serde_json::to_vec(&entry.row)
    {
        *response.body_mut() = json.into();
        response.headers_mut().insert(header::ETAG, revision_tag(app, entry.position()));
    }
    response
}

/// The problem of this refusal.
pub(super) fn refused(refusal: Refusal) -> Problem {
    with_own_status(ExecuteError::Rejected(refusal).into())
}

/// The problem with the status that a client of REST expects.
pub(super) fn with_own_status(problem: Problem) -> Problem {
    let status = match (problem.word(), kind(&problem)) {
        (_, Some("missing" | "unknown-before-import" | "list-unknown-before-import")) => {
            StatusCode::NOT_FOUND
        }
        (_, Some("exists" | "taken")) => StatusCode::CONFLICT,
        (_, Some("stale" | "other-epoch")) => StatusCode::PRECONDITION_FAILED,
        ("invalid", _) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => return problem,
    };
    problem.with_status(status)
}

/// Whether the row to create exists already.
pub(super) fn is_there(problem: &Problem) -> bool {
    kind(problem) == Some("exists")
}

/// The kind of a [`Refusal`].
fn kind(problem: &Problem) -> Option<&str> {
    problem.member("rejection")?.get("kind")?.as_str()
}
