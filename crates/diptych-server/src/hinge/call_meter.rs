//! Metrics of gRPC calls: how many there are, how they end, and how long they take.
//!
//! The status of a call stands after the last message of its answer. So the meter goes with the
//! body of the answer, and measures when the body ends or is dropped.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Response},
};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use metrics::{counter, gauge, histogram};
use tonic::{Code, Status};

/// Measures one call, until it is dropped.
pub(crate) struct CallMeter {
    call: &'static str,
    begin: Instant,
    status: Option<Code>,
}

impl CallMeter {
    /// A call with this label begins.
    pub(crate) fn begin(call: &'static str) -> CallMeter {
        gauge!("diptych_grpc_calls_in_flight", "call" => call).increment(1.0);
        CallMeter { call, begin: Instant::now(), status: None }
    }

    /// Goes with the answer until its end.
    pub(crate) fn measure(mut self, response: Response<Body>) -> Response<Body> {
        self.note(response.headers());
        response.map(|body| Body::new(MeteredBody { body, meter: self }))
    }

    fn note(&mut self, headers: &HeaderMap) {
        self.status = Status::from_header_map(headers).map(|status| status.code()).or(self.status);
    }
}

impl Drop for CallMeter {
    fn drop(&mut self) {
        let status = name(self.status.unwrap_or(Code::Cancelled));
        gauge!("diptych_grpc_calls_in_flight", "call" => self.call).decrement(1.0);
        counter!("diptych_grpc_calls_total", "call" => self.call, "status" => status).increment(1);
        histogram!("diptych_grpc_call_seconds", "call" => self.call).record(self.begin.elapsed());
    }
}

/// The body of an answer that is measured.
struct MeteredBody {
    body: Body,
    meter: CallMeter,
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.meter.note(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The name of a status in the protocol.
fn name(status: Code) -> &'static str {
    match status {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
