//! `POST /commands/{name}`.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, Request, Response},
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    door::{
        access::Operation,
        code::Code,
        problem::Problem,
        request::{Name, json_body, pairs},
        response::{SESSION, header_value, json_response, response_of},
    },
    panels::{
        entries::{
            command::{CommandAnswer, CommandOptions},
            schema::refuse_lists,
        },
        site::Site,
    },
};

const RECEIPT: HeaderName = HeaderName::from_static("diptych-receipt");

/// `POST /commands/{name}`
pub(crate) async fn execute(
    State(site): State<Arc<Site>>,
    Name(name): Name,
    request: Request<Body>,
) -> Response<Body> {
    response_of(answer(&site, &name, request).await)
}

async fn answer(
    site: &Arc<Site>,
    name: &str,
    request: Request<Body>,
) -> Result<Response<Body>, Problem> {
    let (parts, body) = request.into_parts();
    let caller = site.door.admit(Operation::Command(name.to_owned()), &parts).await?;
    let entry = site.entries.commands.get(name).ok_or_else(|| {
        let known: Vec<_> = site.entries.commands.keys().collect();
        Problem::unknown(format!("there is no command {name:?} (known: {known:?})"))
    })?;
    if let Some((first, _)) = pairs(parts.uri.query().unwrap_or_default())?.into_iter().next() {
        let detail = "a command takes no parameters in its address: send its options as headers \
                      (Diptych-Unchanged-Since, for example)";
        return Err(Problem::parameter(&first, detail));
    }
    let limits = site.door.limits();
    let body = json_body(&parts.headers, body, limits).await?;
    if site.poster.is_some() {
        return forward(site, name, &parts.headers, body).await;
    }
    let options = CommandOptions::read(&site.app, &parts.headers, caller).await?;
    refuse_lists("the command", &entry.body, &site.definitions, &body)?;
    let run = entry.run(site.app.clone(), &body, options, site.door.notes());
    let run = site.door.hold(&parts).around(run);
    match completed(run, limits.answer_time).await {
        Ok(answer) => Ok(response(&answer)),
        Err(problem) if problem.has_events() && entry.is_explained() => {
            match site.door.explained_to(name, &parts).await {
                Some(caller) => Err(entry.explain(&caller, problem)),
                None => Err(problem),
            }
        }
        Err(problem) => Err(problem),
    }
}

/// Sends a command of a poster to its owner.
#[cfg_attr(
    not(feature = "poster"),
    expect(clippy::unused_async, reason = "only an owner is waited for")
)]
async fn forward(
    site: &Site,
    name: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, Problem> {
    #[cfg(feature = "poster")]
    if let Some(owner) = &site.owner {
        return owner.send(name, headers, body, site.door.limits().answer_time).await;
    }
    #[cfg(not(feature = "poster"))]
    let _ = (site, headers, body);
    Err(Problem::unknown(format!(
        "this poster sends no commands: send {name:?} to the application that owns the log"
    )))
}

/// Runs a command in a separate task, so that it completes even if the client goes away.
pub(crate) async fn completed<A: Send + 'static>(
    run: impl Future<Output = Result<A, Problem>> + Send + 'static,
    answer_time: Duration,
) -> Result<A, Problem> {
    match timeout(answer_time, tokio::spawn(run)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Problem::later(
            Code::OutcomeUnknown,
            "the command ended without an answer: read its effects, or retry it under the same key",
        )),
        Err(_) => Err(Problem::later(
            Code::OutcomeUnknown,
            "the command takes longer than this server waits, and may still complete: read its \
             effects, or retry it under the same key",
        )),
    }
}

/// The response with a receipt.
pub(crate) fn response(answer: &CommandAnswer) -> Response<Body> {
    let CommandAnswer { receipt, session } = answer;
    let token = receipt.to_string();
    let (first, last, events) = (receipt.first().get(), receipt.last().get(), receipt.events());
    let body = json!({ "receipt": &token, "first": first, "last": last, "events": events });
    let mut response = json_response(body.to_string().into());
    let headers = response.headers_mut();
    headers.insert("diptych-position", last.into());
    headers.extend(header_value(&token).map(|value| (RECEIPT, value)));
    let session = session.as_ref().and_then(header_value);
    headers.extend(session.map(|value| (SESSION, value)));
    response
}
