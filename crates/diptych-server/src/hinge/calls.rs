//! The entrance of gRPC calls: the form of the call, its token, and a place for it.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Request, Response, StatusCode, Version, header},
    middleware::Next,
    response::IntoResponse,
};
use diptych::collaboration::FeedHandle;
use hyper::body::Frame;
use tokio::time::timeout;
use tonic::Status;

use crate::{
    door::{
        code::Code,
        connection::CloseSignal,
        entrance::{Door, peer_of},
        problem::Problem,
    },
    hinge::{
        admission::{Gate, Need, TokenRefusal},
        append_times::AppendTimes,
        call_meter::CallMeter,
        held::{CallPlace, EarlyEnd, HeldBody, HoldTerms},
    },
};

/// The service of the protocol.
pub(crate) const SERVICE: &str = "diptych.v1.Log";
/// The service of feeds.
pub(crate) const FEEDS_SERVICE: &str = "diptych.v1.Feeds";
/// The service of gRPC that tells whether the log can be used.
pub(crate) const HEALTH_SERVICE: &str = "grpc.health.v1.Health";

/// How a call is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallKind {
    /// One answer.
    Request,
    /// Some answers, which count as a stream if they take long.
    Read,
    /// Answers without end.
    Stream,
    /// One answer, for which the call can wait. Its service takes the place of a stream then.
    Page,
}

/// The right that a call needs, and its kind, by the path of the call. `None` if there is no such
/// call.
fn kind_of_path(path: &str) -> Option<(Need, CallKind)> {
    match path.strip_prefix('/').and_then(|path| path.split_once('/'))? {
        (SERVICE, call) => kind_of(call),
        (FEEDS_SERVICE, "Page") => Some((Need::SomeFeed, CallKind::Page)),
        (HEALTH_SERVICE, "Check") => Some((Need::Nothing, CallKind::Request)),
        (HEALTH_SERVICE, "Watch") => Some((Need::Nothing, CallKind::Stream)),
        _ => None,
    }
}

fn kind_of(call: &str) -> Option<(Need, CallKind)> {
    Some(match call {
        "Describe" | "Head" => (Need::LOG, CallKind::Request),
        "Watch" => (Need::LOG, CallKind::Stream),
        "Append" => (Need::APPEND, CallKind::Stream),
        "Commit" => (Need::APPEND, CallKind::Request),
        "Read" | "ReadCommits" => (Need::READ, CallKind::Read),
        "Subscribe" => (Need::READ, CallKind::Stream),
        "Last" | "Count" | "Checksum" | "Types" => (Need::READ, CallKind::Request),
        "FindKey" | "FindTracking" => (Need::OUTCOME, CallKind::Request),
        _ => return None,
    })
}

/// The state of the entrance.
pub(crate) struct CallEntrance {
    pub(crate) door: Arc<Door>,
    pub(crate) gate: Gate,
    pub(crate) times: AppendTimes,
}

/// The kind of call that a path has. Clients can put any name into a path, so names must not become
/// labels of a metric.
fn label(path: &str) -> &'static str {
    const CALLS: [&str; 14] = [
        "Describe",
        "Head",
        "Watch",
        "Append",
        "Commit",
        "Read",
        "ReadCommits",
        "Subscribe",
        "Last",
        "Count",
        "FindKey",
        "FindTracking",
        "Checksum",
        "Types",
    ];
    match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
        Some((SERVICE, call)) => CALLS.into_iter().find(|known| *known == call).unwrap_or("other"),
        Some((FEEDS_SERVICE, "Page")) => "FeedPage",
        Some((HEALTH_SERVICE, "Check" | "Watch")) => "Health",
        _ => "other",
    }
}

/// Passes a call to the service if its token and the limits allow it.
pub(crate) async fn enter(
    State(entrance): State<Arc<CallEntrance>>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    if let Err(problem) = check_form(&request) {
        return problem.into_response();
    }
    let meter = CallMeter::begin(label(request.uri().path()));
    let answer = entrance.answer(request, next).await;
    meter.measure(answer.unwrap_or_else(|status| status.into_http()))
}

/// Browsers send no gRPC over HTTP/1.1, and a page of another site cannot send HTTP/2 without
/// encryption. So hosts and origins need no check here.
fn check_form(request: &Request<Body>) -> Result<(), Problem> {
    let refuse = |detail: &str| {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Err(Problem::new(status, Code::ContentType, detail).and("header", "content-type"))
    };
    if request.version() != Version::HTTP_2 {
        return refuse("connect with HTTP/2 for calls of gRPC: HTTP/1.1 has the log at /v1/logs");
    }
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.map(|value| value.as_bytes()).unwrap_or_default();
    let rest = content_type.strip_prefix(b"application/grpc");
    match rest.map(|rest| rest.first()) {
        Some(None | Some(b'+' | b';')) => Ok(()),
        _ => refuse("a call of gRPC has the content-type application/grpc"),
    }
}

impl CallEntrance {
    async fn answer(
        &self,
        mut request: Request<Body>,
        next: Next,
    ) -> Result<Response<Body>, Status> {
        let path = request.uri().path();
        let (need, kind) = kind_of_path(path).ok_or_else(|| {
            Status::unimplemented(format!("the server has no call {path:?}: compare the versions"))
        })?;
        let need = if need == Need::APPEND { self.times.need() } else { need };
        let peer = peer_of(request.extensions());
        let revocation = self.gate.admit(request.headers(), need).map_err(|refusal| {
            self.door.refused(peer, &refusal.reason);
            refused(refusal)
        })?;
        let limits = *self.door.limits();
        let stall = request.extensions().get::<CloseSignal>().cloned();
        let stall = stall.map(|close| (limits.write_time, close));
        let place = match kind {
            CallKind::Stream => Some(CallPlace::stream(self.door.stream(peer).map_err(busy)?)),
            CallKind::Request | CallKind::Read => {
                let permit = self.door.request(peer).map_err(busy)?;
                // A commit keeps its place until it has ended, also if its client goes away.
                request.extensions_mut().insert(permit.clone());
                Some(CallPlace::Request(permit))
            }
            CallKind::Page => {
                request.extensions_mut().insert(self.door.request(peer).map_err(busy)?);
                None
            }
        };
        let longest = match kind {
            CallKind::Page => limits.answer_time.saturating_add(FeedHandle::LONGEST_WAIT),
            _ => limits.answer_time,
        };
        let answer = timeout(longest, next.run(request)).await;
        let mut response = answer.map_err(|_| {
            Status::deadline_exceeded("the call was not answered in time: nothing is known of it")
        })?;
        let becomes_stream = (kind == CallKind::Read).then(|| {
            let door = self.door.clone();
            let take = move || door.stream(peer);
            (limits.answer_time, Box::new(take) as _)
        });
        let place = place.or_else(|| response.extensions_mut().remove());
        let is_one_answer = matches!(kind, CallKind::Request | CallKind::Page);
        let terms = HoldTerms {
            place,
            revocation: revocation.filter(|_| !is_one_answer),
            stream_time: limits.stream_time,
            becomes_stream,
            stall,
            ending,
        };
        Ok(response.map(|body| Body::new(HeldBody::new(body, terms))))
    }
}

pub(crate) fn refused(refusal: TokenRefusal) -> Status {
    match refusal.is_known {
        true => Status::permission_denied(refusal.reason),
        false => Status::unauthenticated(refusal.reason),
    }
}

pub(crate) fn busy(problem: Problem) -> Status {
    Status::unavailable(problem.detail())
}

/// The end of a stream of gRPC: its status stands after the messages.
fn ending(end: EarlyEnd) -> Result<Frame<Bytes>, axum::Error> {
    let status = match end {
        EarlyEnd::Revoked => Status::unauthenticated(
            "the token was revoked, or lost the scope of this stream: give another one",
        ),
        EarlyEnd::TimeOver => Status::unavailable(
            "the stream has lasted its longest time: open it again after its last position",
        ),
        EarlyEnd::NoPlace(problem) => busy(problem),
    };
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).map_err(axum::Error::new)?;
    Ok(Frame::trailers(trailers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_protocol_has_a_right_and_a_kind() {
        let definition = diptych_remote::wire::DEFINITION;
        let calls = definition.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        let calls: Vec<&str> = calls.map(|call| call.split('(').next().unwrap()).collect();
        assert!(calls.len() > 10, "{calls:?}");
        for call in calls {
            assert!(kind_of(call).is_some(), "{call} has no right: add it to `kind_of`");
            let path = format!("/{SERVICE}/{call}");
            assert_eq!(label(&path), call, "{call} has no metrics: add it to `label`");
        }
        let calls = diptych_remote::wire::FEEDS_DEFINITION.lines();
        for call in calls.filter_map(|line| line.trim().strip_prefix("rpc ")) {
            let path = format!("/{FEEDS_SERVICE}/{}", call.split('(').next().unwrap());
            assert!(kind_of_path(&path).is_some() && label(&path) != "other", "{path}");
        }
        assert_eq!(kind_of("Delete"), None);
        assert_eq!(label(&format!("/{SERVICE}/Delete")), "other");
    }
}
