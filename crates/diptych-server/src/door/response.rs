//! Responses other than problems.

use std::fmt::Display;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, header},
    response::IntoResponse,
};

use crate::door::problem::Problem;

/// The header with the token of a session.
pub(crate) const SESSION: HeaderName = HeaderName::from_static("diptych-session");

/// The header with the token of a position.
pub(crate) const TOKEN: HeaderName = HeaderName::from_static("diptych-token");

/// The response of a handler.
pub(crate) fn response_of(answer: Result<Response<Body>, Problem>) -> Response<Body> {
    answer.unwrap_or_else(Problem::into_response)
}

pub(crate) fn json_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A token or a number as the value of a header. Their characters are all allowed there.
pub(crate) fn header_value(text: impl Display) -> Option<HeaderValue> {
    HeaderValue::from_str(&text.to_string()).ok()
}
