//! `GET /receipts/{key}`: the commit that was made under an idempotency key.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{Request, Response},
};
use diptych::QueryError;
use serde_json::json;

use crate::{
    door::{
        access::Operation,
        problem::Problem,
        request::Name,
        response::{TOKEN, header_value, json_response, response_of},
    },
    panels::site::Site,
};

/// `GET /receipts/{key}`
pub(crate) async fn find(
    State(site): State<Arc<Site>>,
    Name(key): Name,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        site.door.admit(Operation::Receipt(key.clone()), &parts).await?;
        let store = site.app.store();
        // Another process may have made the commit.
        store.fresh_head().await.map_err(unread)?;
        let commit = store.keyed(&key).await.map_err(unread)?.ok_or_else(|| {
            Problem::unknown(format!(
                "no commit has the key {key:?}: the command can be sent again"
            ))
        })?;
        let token = site.app.token_at(commit.last).await?;
        let (first, last) = (commit.first.get(), commit.last.get());
        let body = json!({ "token": token.to_string(), "first": first, "last": last });
        let mut response = json_response(body.to_string().into());
        let headers = response.headers_mut();
        headers.insert("diptych-position", last.into());
        headers.extend(header_value(token).map(|value| (TOKEN, value)));
        Ok(response)
    };
    response_of(answer.await)
}

fn unread(error: impl Into<QueryError>) -> Problem {
    Problem::from(error.into())
}
