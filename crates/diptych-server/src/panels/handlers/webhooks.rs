//! Webhooks of other systems, at the paths that the program chose.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use diptych_gateways::{WebhookFault, WebhookHeaders};
use serde_json::json;

use crate::{
    door::{
        code::Code,
        entrance::peer_of,
        problem::Problem,
        request::json_body,
        response::{json_response, response_of},
    },
    panels::{entries::webhook::WebhookOutcome, handlers::commands::completed, site::Site},
};

/// `POST` at the path of a webhook. The hook is not asked: the signature tells who sent it.
pub(crate) async fn receive(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
) -> Response<Body> {
    response_of(answer(&site, request).await)
}

async fn answer(site: &Arc<Site>, request: Request<Body>) -> Result<Response<Body>, Problem> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let unknown = || Problem::unknown(format!("there is no webhook at {path:?}"));
    let route = site.webhooks.get(path).ok_or_else(unknown)?;
    let peer = peer_of(&parts.extensions);
    let refused = |problem: Problem| {
        site.door.refused(peer, &format!("{path}: {}", problem.detail()));
        problem
    };
    let headers = WebhookHeaders::read(&parts.headers);
    let headers = headers.map_err(Problem::from).map_err(&refused)?;
    let mut limits = *site.door.limits();
    limits.body_bytes = route.limit(limits.body_bytes);
    let body = json_body(&parts.headers, body, &limits).await?;
    let id = headers.id().to_owned();
    let source = route.name();
    route.verify(&headers, &body).map_err(refused)?;
    let reaction = route.reaction(headers, &body).inspect_err(|problem| {
        let reason = problem.detail();
        tracing::warn!(source, id, "a webhook with a valid signature was not taken: {reason}");
    })?;
    let run = reaction.run(site.app.clone(), route.options(&id), site.door.notes());
    let run = site.door.hold(&parts).around(run);
    let outcome = completed(run, limits.answer_time).await?;
    let body = match outcome {
        WebhookOutcome::Done => json!({ "outcome": "done" }),
        WebhookOutcome::Ignored => json!({ "outcome": "ignored" }),
        WebhookOutcome::Rejected(reason) => {
            tracing::warn!(source, id, "the command of a webhook was rejected: {reason}");
            json!({ "outcome": "rejected", "detail": reason })
        }
    };
    Ok(json_response(body.to_string().into()))
}

impl From<WebhookFault> for Problem {
    fn from(fault: WebhookFault) -> Problem {
        let detail = fault.to_string();
        if let Some(header) = fault.header() {
            return Problem::bad(Code::Header, detail).and("header", header);
        }
        let problem = Problem::new(StatusCode::UNAUTHORIZED, Code::Denied, detail);
        let challenge = HeaderValue::from_static("StandardWebhooks");
        problem.header(header::WWW_AUTHENTICATE, challenge)
    }
}
