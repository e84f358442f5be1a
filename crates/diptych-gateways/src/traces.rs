//! The flows of another service, read over HTTP.

use std::fmt;

use diptych::process::{Trace, TraceOptions, TraceSource, TraceSourceError, TraceTarget};
use reqwest::{
    Method, Request, StatusCode, Url,
    header::{ACCEPT, HeaderMap, HeaderName, HeaderValue},
};

use crate::{
    exchange::{Exchange, GatewaySetupError, HttpOptions, Response, reason_of},
    http::{checked, without_user},
};

/// The flows of another service, such as `https://shipping.example`: one of the
/// [services](diptych::process::TraceSources) of a trace. Its server needs the routes for operators
/// (`Server::process_operations`), and the hook has to admit the reader to them.
pub struct HttpTraces {
    exchange: Exchange,
    url: Url,
    headers: HeaderMap,
}

impl HttpTraces {
    /// Default for the number of bytes of a trace.
    pub const TRACE_BYTES: usize = 32 << 20;

    /// The flows of the server at this address. Its routes are below it. A user and a password in
    /// the address are sent as `Authorization`, unless there is [another](HttpTraces::header).
    ///
    /// # Errors
    /// [`GatewaySetupError`] if the address is none, or the client cannot be made.
    pub fn new(url: &str, options: HttpOptions) -> Result<HttpTraces, GatewaySetupError> {
        let url = checked(url)?;
        Ok(HttpTraces { exchange: Exchange::new(options)?, url, headers: HeaderMap::new() })
    }

    /// Options with the defaults for traces: one is larger than the answer of a call.
    pub fn options() -> HttpOptions {
        HttpOptions { answer_bytes: HttpTraces::TRACE_BYTES, ..HttpOptions::default() }
    }

    /// Adds a header to each request, such as a token. It stands in no log and no output.
    ///
    /// # Errors
    /// [`GatewaySetupError::Header`] if HTTP does not allow it.
    pub fn header(mut self, name: &str, value: &str) -> Result<HttpTraces, GatewaySetupError> {
        let wrong = || GatewaySetupError::Header { name: name.to_owned() };
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        self.headers.insert(HeaderName::try_from(name).map_err(|_| wrong())?, value);
        Ok(self)
    }

    /// # Errors
    /// The reason why there is no such request.
    fn request(&self, target: TraceTarget, options: &TraceOptions) -> Result<Request, String> {
        let target = match target {
            TraceTarget::Position(position) => position.to_string(),
            TraceTarget::Id(id) => id.to_string(),
        };
        let mut url = self.url.clone();
        // Addresses of HTTP can have a path, so this never fails.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("trace").push(&target);
        }
        let limit = options.steps.to_string();
        url.query_pairs_mut()
            .append_pair("limit", &limit)
            .append_pair("whole_log", if options.whole_log { "true" } else { "false" });
        let mut request = self.exchange.request(Method::GET, url, &self.headers)?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        Ok(request)
    }
}

impl TraceSource for HttpTraces {
    async fn trace(
        &self,
        target: TraceTarget,
        options: TraceOptions,
    ) -> Result<Trace, TraceSourceError> {
        let away = |reason: String| TraceSourceError::Away { reason };
        let request = self.request(target, &options).map_err(away)?;
        let received = self.exchange.send(request).await;
        let received = received.map_err(|failure| away(reason_of(failure)))?;
        match received.status {
            StatusCode::OK => read(&received),
            StatusCode::NOT_FOUND if is_unknown_flow(&received) => {
                Err(TraceSourceError::Nothing(received.said()))
            }
            _ => Err(away(received.said())),
        }
    }
}

fn read(received: &Response) -> Result<Trace, TraceSourceError> {
    if let Some(cut) = &received.cut {
        return Err(TraceSourceError::Away { reason: cut.clone() });
    }
    serde_json::from_slice(&received.body).map_err(|error| TraceSourceError::Away {
        reason: format!(
            "the answer is no trace that this release reads: {error}; is this the address of a \
             server of Diptych, and of which release?"
        ),
    })
}

/// Whether the server has the route, and no such flow.
fn is_unknown_flow(received: &Response) -> bool {
    let problem = received.json();
    problem.get("id").is_some() || problem.get("position").is_some()
}

impl fmt::Debug for HttpTraces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTraces").field("url", &without_user(&self.url)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_no_user_and_no_password() {
        let url = "https://ada:secret@shipping.example/a";
        let source = HttpTraces::new(url, HttpOptions::default()).unwrap();
        let shown = format!("{source:?}");
        assert!(shown.contains("https://shipping.example/a"), "{shown}");
        assert!(!shown.contains("ada") && !shown.contains("secret"), "{shown}");
    }
}
