//! The log as JSON over HTTP, for people with curl and for browsers. The words are those of the
//! specification of dynamic consistency boundaries.
//!
//! `event` is the form of one event, `bodies` has the forms of requests and answers. `appends`,
//! `reads`, `lookups` and `operations` have the handlers, and `openapi` describes them.

mod appends;
mod bodies;
mod event;
mod follow;
mod lookups;
mod openapi;
mod operations;
mod reads;
mod site;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{Request, Response, Uri},
    middleware::from_fn_with_state,
    response::IntoResponse,
    routing::{get, post},
};

pub(crate) use self::{bodies::RequestForms, site::HttpLog};
use crate::door::{entrance::enter, problem::Problem};

/// The routes of the log. Each has a line in the table of `openapi`.
pub(crate) fn routes(log: HttpLog) -> Router {
    let door = log.door.clone();
    Router::new()
        .route("/v1/logs/{log}", get(lookups::describe))
        .route("/v1/logs/{log}/events", get(reads::by_address).post(appends::append))
        .route("/v1/logs/{log}/events/read", post(reads::by_body))
        .route("/v1/logs/{log}/last", get(lookups::last))
        .route("/v1/logs/{log}/count", get(lookups::count))
        .route("/v1/logs/{log}/types", get(lookups::types))
        .route("/v1/logs/{log}/keys/{key}", get(lookups::key))
        .route("/v1/logs/{log}/tracking/{source}", get(lookups::tracking))
        .route("/v1/openapi.json", get(openapi::document))
        .route("/health", get(operations::health))
        .route("/ready", get(operations::ready))
        .route("/metrics", get(operations::metrics))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(door, enter))
        .with_state(Arc::new(log))
}

async fn no_such_path(uri: Uri) -> Response<Body> {
    let detail = format!("there is nothing at {:?}: /v1/openapi.json lists the paths", uri.path());
    Problem::unknown(detail).into_response()
}

async fn wrong_method(request: Request<Body>) -> Response<Body> {
    // The router adds the header `Allow`.
    Problem::method(request.method()).into_response()
}
