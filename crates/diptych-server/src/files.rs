//! Files that the program brings along: pages for people, and what they need.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Request, Response, StatusCode, header},
};

use crate::{access::Operation, problem::Problem, site::Site};

/// What a page may do: run and show what comes with it, ask this server, and nothing else. So
/// neither a text that somebody sent nor another site gets a script to run.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

pub(crate) struct File {
    content_type: HeaderValue,
    bytes: &'static [u8],
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
        let tag = HeaderValue::from_str(&format!("\"{short}\"")).map_err(|e| e.to_string())?;
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
        let is_known = parts.headers.get(header::IF_NONE_MATCH) == Some(&file.tag);
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
