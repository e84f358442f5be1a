//! Files, and every path without another route.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Method, Request, Response, StatusCode, header},
};

use crate::{
    door::{access::Operation, problem::Problem, response::response_of},
    panels::site::Site,
};

/// A page may load scripts, styles and pictures from this server and send requests to it, and
/// nothing else. So scripts that a user hid in a text do not run, and neither do scripts of other
/// sites.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// Answers a path without another route: with the file of that path, or with 404.
pub(crate) async fn fetch(State(site): State<Arc<Site>>, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        site.door.admit(Operation::File, &parts).await?;
        let path = parts.uri.path();
        let file = site.entries.files.get(path).ok_or_else(|| {
            Problem::unknown(format!("there is nothing at {path:?}: see the catalogue"))
        })?;
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            let allow = HeaderValue::from_static("GET,HEAD");
            return Err(Problem::method(&parts.method).header(header::ALLOW, allow));
        }
        let is_cached = file.is_cached(&parts.headers);
        let mut response = match is_cached {
            true => Response::new(Body::empty()),
            false => Response::new(Body::from(file.bytes)),
        };
        if is_cached {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, file.content_type.clone());
        headers.insert(header::ETAG, file.tag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
        Ok(response)
    };
    response_of(answer.await)
}
