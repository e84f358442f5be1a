//! The server for load balancers and Prometheus.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Request, Response, header},
};

use crate::{
    door::{
        code::Code,
        problem::Problem,
        response::{json_response, response_of},
    },
    hinge::{admission::Need, http::site::HttpLog},
};

/// `GET /health`: the process answers requests.
pub(crate) async fn health() -> Response<Body> {
    json_response("{\"status\":\"up\"}".into())
}

/// `GET /ready`: the log can be read, and says whether it takes commits.
pub(crate) async fn ready(State(log): State<Arc<HttpLog>>) -> Response<Body> {
    response_of(readiness(&log))
}

fn readiness(log: &HttpLog) -> Result<Response<Body>, Problem> {
    let head = log.store.head();
    if log.door.stop().has_begun() {
        return Err(Problem::later(Code::Stopping, "the server stops: use another one"));
    }
    if head.is_ended() {
        let detail = "the log has ended and takes no more events: start the server again";
        return Err(Problem::later(Code::NotReady, detail));
    }
    // The reason names files, and callers of this route show no token.
    Ok(json_response(match head.paused().is_some() {
        true => "{\"status\":\"ready\",\"commits\":\"paused\"}".into(),
        false => "{\"status\":\"ready\"}".into(),
    }))
}

/// `GET /metrics`
pub(crate) async fn metrics(
    State(log): State<Arc<HttpLog>>,
    request: Request<Body>,
) -> Response<Body> {
    let answer = || {
        log.gate.admit(request.headers(), Need::ADMIN)?;
        let metrics = log.metrics.as_ref().ok_or_else(|| {
            Problem::unknown("this server has no metrics: set them with `LogServer::metrics`")
        })?;
        let mut response = Response::new(Body::from(metrics.render()));
        let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        Ok(response)
    };
    response_of(answer())
}
