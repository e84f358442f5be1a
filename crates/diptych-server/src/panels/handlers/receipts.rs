//! `GET /receipts/{key}`: the receipt of the commit under an idempotency key.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{Request, Response},
};

use crate::{
    door::{access::Operation, problem::Problem, request::Name, response::response_of},
    panels::{entries::command::CommandAnswer, handlers::commands::response, site::Site},
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
        let receipt = site.app.receipt_under(&key).await?.ok_or_else(|| {
            Problem::unknown(format!(
                "no commit has the key {key:?}: the command can be sent again"
            ))
        })?;
        Ok(response(&CommandAnswer { receipt, session: None }))
    };
    response_of(answer.await)
}
