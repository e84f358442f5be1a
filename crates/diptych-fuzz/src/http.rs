//! A target over requests to the server, from the head on as text.
//!
//! An input is `METHOD PATH`, then lines `NAME: VALUE`, an empty line, and the body.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use diptych::{Position, Receipt, SessionToken};
use diptych_server::{Server, ServerLimits};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use crate::{
    domain::{All, PutNote, app, runtime},
    observe::note,
};

/// A request that the library of HTTP lets through; a server never sees others.
pub(crate) fn request(data: &[u8]) -> Option<Request<Body>> {
    let end = data.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = data.split_at(end.unwrap_or(data.len()));
    let body = body.get(2..).unwrap_or(&[]);
    let mut lines = head.split(|byte| *byte == b'\n');
    let (method, path) = str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(path);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
        let value = HeaderValue::from_bytes(line.get(colon + 1..)?.trim_ascii()).ok()?;
        request = request.header(name, value);
    }
    request.body(Body::from(Bytes::copy_from_slice(body))).ok()
}

/// Each request gets an answer in the form that the server promises. An option that cannot be read
/// is refused.
pub(crate) fn http(data: &[u8]) {
    let Some(request) = request(data) else { return };
    let headers = request.headers().clone();
    let has_parameters = request.uri().query().is_some();
    let (status, body) = runtime().block_on(answer(request));
    note(status.as_str());
    let problem: Option<Value> = serde_json::from_slice(&body).ok();
    if status.is_client_error() || status.is_server_error() {
        let problem = problem.as_ref();
        let code = problem.and_then(|problem| problem.get("code").or(problem.get("type")));
        let code = code.and_then(Value::as_str);
        let code = code.unwrap_or_else(|| panic!("{status} without a problem: {body:?}"));
        note(code);
        assert!(
            !status.is_server_error() || status == StatusCode::SERVICE_UNAVAILABLE,
            "{status} {code}"
        );
    }
    if status.is_success() && !has_parameters {
        options_are_readable(&headers);
    }
}

async fn answer(request: Request<Body>) -> (StatusCode, Bytes) {
    let app = app(None).await;
    let mut limits = ServerLimits::default();
    limits.wait_time = Duration::from_millis(5);
    limits.body_bytes = 4 << 10;
    let server = Server::new(app.clone())
        .limits(limits)
        .host("localhost")
        .command::<PutNote>("put-note")
        .query::<All>("all");
    let (routes, _stop) = server.into_router().unwrap();
    let response = TowerToHyperService::new(routes).call(request).await.unwrap();
    let status = response.status();
    // A stream has no end.
    let is_stream =
        response.headers().get("content-type").is_some_and(|of| of == "text/event-stream");
    let body = match is_stream {
        true => Bytes::new(),
        false => to_bytes(response.into_body(), 16 << 20).await.unwrap(),
    };
    app.stop().await.unwrap();
    (status, body)
}

/// The options in headers, where they were honoured.
fn options_are_readable(headers: &HeaderMap) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(after) = text("diptych-after") {
        let is_token = after.parse::<Receipt>().is_ok() || after.parse::<SessionToken>().is_ok();
        assert!(is_token, "{after:?} is honoured as a token");
    }
    if let Some(session) = text("diptych-session") {
        assert!(session.parse::<SessionToken>().is_ok(), "{session:?} is honoured as a session");
    }
    if let Some(since) = text("diptych-unchanged-since") {
        assert!(since.parse::<u64>().is_ok(), "{since:?} is honoured as a position");
    }
}

pub(crate) fn http_seeds() -> Vec<Vec<u8>> {
    let (whole, early) = runtime().block_on(async {
        let app = app(None).await;
        let whole = app.token_at(app.head()).await.unwrap().to_string();
        let early = app.token_at(Position::new(3)).await.unwrap().to_string();
        app.stop().await.unwrap();
        (whole, early)
    });
    let body = r#"{"shelf":"a","text":"x"}"#;
    let post = "POST /commands/put-note\nhost: localhost\ncontent-type: application/json\n";
    let get = "GET /queries/all?shelf=a&most=3";
    let texts = [
        format!("{post}idempotency-key: k\ndiptych-session: {whole}\n\n{body}"),
        format!("{post}diptych-unchanged-since: 7\ndiptych-actor: ann\n\n{body}"),
        format!(
            "{post}diptych-occurred-at: 2013-01-01T05:15:00Z\ndiptych-correlation: \
            00000000-0000-0000-0000-000000000002\n\n{body}"
        ),
        format!("{post}\n{}", r#"{"shelf":"\ud83d\ude00","text":"","copies":9}"#),
        format!("{get}&_after={whole}&_within=1\nhost: localhost\n\n"),
        format!("{get}&_session={early}&_consistency=strong\nhost: localhost\n\n"),
        format!("{get}&_as_of=5&_limit=2\nhost: localhost\n\n"),
        format!("{get}&_recorded_before=2013-01-01T05:15:00Z\nhost: localhost\n\n"),
        "POST /queries/all\nhost: localhost\ncontent-type: application/json\n\n{\"most\":3}".into(),
        "GET /queries/all/explanation?_as_of=40\nhost: localhost\ndiptych-or-stale: true\n\n"
            .into(),
        "GET /catalogue\nhost: localhost\n\n".into(),
        "GET /openapi.json\nhost: localhost\naccept-encoding: gzip\n\n".into(),
        "GET /status\nhost: localhost\n\n".into(),
    ];
    texts.map(String::into_bytes).into()
}
