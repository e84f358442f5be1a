//! Files that the program brings along: pages for people, and what they need.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header},
};

use crate::{
    door::access::Operation,
    door::problem::Problem,
    panels::site::{Site, method_problem},
};

/// What a page may do: run and show what comes with it, ask this server, and nothing else. So
/// neither a text that somebody sent nor another site gets a script to run.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

pub(crate) struct File {
    content_type: HeaderValue,
    bytes: &'static [u8],
    /// Weak: the same for what is compressed and what is not.
    tag: HeaderValue,
}

impl File {
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(content_type: &str, bytes: &'static [u8]) -> Result<File, String> {
        let content_type = HeaderValue::from_str(content_type)
            .map_err(|_| format!("{content_type:?} is no content type"))?;
        let digest = diptych::digest(bytes).map_err(|error| error.to_string())?.to_string();
        let short: String = digest.chars().take(16).collect();
        let tag = HeaderValue::from_str(&format!("W/\"{short}\"")).map_err(|e| e.to_string())?;
        Ok(File { content_type, bytes, tag })
    }
}

/// Any other path: a file, or nothing.
pub(crate) async fn fetch(State(site): State<Arc<Site>>, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        site.admit(Operation::File, &parts).await?;
        let path = parts.uri.path();
        let file = site.files.get(path).ok_or_else(|| {
            Problem::unknown(format!("there is nothing at {path:?}: see /catalogue"))
        })?;
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            let allow = HeaderValue::from_static("GET,HEAD");
            return Err(method_problem(&parts.method).header(header::ALLOW, allow));
        }
        let is_known = is_known(&parts.headers, &file.tag);
        let mut response = match is_known {
            true => Response::new(Body::empty()),
            false => Response::new(Body::from(file.bytes)),
        };
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, file.content_type.clone());
        headers.insert(header::ETAG, file.tag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
        Ok(response)
    };
    site.answered(answer.await)
}

/// Whether the client has the file with this tag.
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().flat_map(|value| {
        let value = value.to_str().unwrap_or_default();
        value.split(',').map(str::trim)
    });
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let own = tag.to_str().map(opaque).unwrap_or_default();
    known.into_iter().any(|known| known == "*" || opaque(known) == own)
}
