//! One request and its answer.

use std::{error::Error, sync::Arc, time::Duration};

use diptych::process::{ActionRejection, CallFailure};
use reqwest::{
    Client, Method, Request, StatusCode, Url,
    header::{self, HeaderMap},
    redirect,
};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use serde_json::Value;

use crate::address::{GuardedResolver, InternalAddress, Reach};

/// An idle connection is not used after this time: a server that ends it at that moment would leave
/// it unknown whether it took the request.
const IDLE: Duration = Duration::from_secs(4);

/// The bounds of the requests of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpOptions {
    /// How long a connection may take to open. After that nothing was sent.
    pub connect_within: Duration,
    /// How long a request may take from its connection to the end of its answer. Keep it below
    /// [`GatewayOptions::longest_call`](diptych::process::GatewayOptions::longest_call).
    pub answer_within: Duration,
    /// Number of bytes that the body of an answer may have. The body of a longer answer is not read
    /// further.
    pub answer_bytes: usize,
    /// Where requests may be sent to.
    pub reach: Reach,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions {
            connect_within: Duration::from_secs(5),
            answer_within: Duration::from_secs(20),
            answer_bytes: 1 << 20,
            reach: Reach::Anywhere,
        }
    }
}

/// Why a gateway cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewaySetupError {
    /// An address is no URL of HTTP.
    #[error("{url:?} is no URL of http or https: correct it")]
    Url {
        /// The address.
        url: String,
    },
    /// A header has a name or a value that HTTP does not allow. The value is not shown, because it
    /// may be a secret.
    #[error("the header {name:?} has a name or a value that HTTP does not allow: correct it")]
    Header {
        /// The name.
        name: String,
    },
    /// The client of HTTP cannot be made, most likely because of the system's certificates.
    #[error("the client of HTTP cannot be made: {0}; check the certificates of the system")]
    Client(String),
}

/// A client of HTTP, and its bounds.
pub(crate) struct Exchange {
    client: Client,
    options: HttpOptions,
}

/// An answer. Its body is no longer than it may be.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) location: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Why the body is not complete.
    pub(crate) cut: Option<String>,
}

impl Exchange {
    /// # Errors
    /// [`GatewaySetupError::Client`] if the system has no certificates that can be read.
    pub(crate) fn new(options: HttpOptions) -> Result<Exchange, GatewaySetupError> {
        let setup = |error: &dyn Error| GatewaySetupError::Client(chain(error));
        let tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .and_then(BuilderVerifierExt::with_platform_verifier)
                .map_err(|error| setup(&error))?
                .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(GuardedResolver(options.reach))
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("diptych/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_within)
            .timeout(options.answer_within)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|error| setup(&error))?;
        Ok(Exchange { client, options })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn reach(&self) -> Reach {
        self.options.reach
    }

    /// A request with these headers. A user and a password in the URL are sent as
    /// `Authorization`, unless the headers have one.
    ///
    /// # Errors
    /// The reason why there is no such request.
    pub(crate) fn request(
        &self,
        method: Method,
        url: Url,
        headers: &HeaderMap,
    ) -> Result<Request, String> {
        let request = self.client.request(method, url).headers(headers.clone()).build();
        request.map_err(|error| chain(&error.without_url()))
    }

    /// Sends a request, and reads its answer.
    ///
    /// # Errors
    /// [`CallFailure`] if no status came.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, CallFailure> {
        if let Err(error) = self.options.reach.check(request.url()) {
            return Err(internal(&error));
        }
        let mut response = self.client.execute(request).await.map_err(|error| failed(&error))?;
        let header = |name| response.headers().get(name)?.to_str().ok();
        let retry_after = header(header::RETRY_AFTER).and_then(wait_of);
        let location = header(header::LOCATION).map(str::to_owned);
        let headers = response.headers().clone();
        let (body, cut) = self.body(&mut response).await;
        Ok(Response { status: response.status(), retry_after, location, headers, body, cut })
    }

    async fn body(&self, response: &mut reqwest::Response) -> (Vec<u8>, Option<String>) {
        let most = self.options.answer_bytes;
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => return (body, None),
                Ok(Some(bytes)) => {
                    let room = most - body.len();
                    body.extend(bytes.iter().take(room));
                    if bytes.len() > room {
                        return (body, Some(format!("the answer has more than {most} bytes")));
                    }
                }
                Err(error) => {
                    let why = chain(&error.without_url());
                    return (body, Some(format!("the answer was cut short: {why}")));
                }
            }
        }
    }
}

impl Response {
    /// The body as JSON, or as text if it is none.
    pub(crate) fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| String::from_utf8_lossy(&self.body).into())
    }

    /// The status, and the words of the other service about it.
    pub(crate) fn said(&self) -> String {
        let problem = self.json();
        match problem.get("detail").and_then(Value::as_str) {
            Some(detail) => format!("{}: {detail}", self.text()),
            None => self.text(),
        }
    }

    /// The status for people.
    pub(crate) fn text(&self) -> String {
        match &self.location {
            Some(to) if self.status.is_redirection() => {
                format!("the answer is {} to {to}, and no redirect is followed", self.status)
            }
            _ => format!("the answer is {}", self.status),
        }
    }
}

/// The meaning of an error without a status.
fn failed(error: &reqwest::Error) -> CallFailure {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<InternalAddress>() {
            return internal(error);
        }
        source = cause.source();
    }
    // The URL may have secrets in it.
    let reason = match error.source() {
        Some(source) => chain(source),
        None if error.is_timeout() => "no answer came in time".to_owned(),
        None => "the request failed".to_owned(),
    };
    match error.is_connect() || error.is_builder() {
        true => CallFailure::NotSent { reason, retry_after: None },
        false => CallFailure::Unknown { reason },
    }
}

fn internal(error: &InternalAddress) -> CallFailure {
    let json = serde_json::json!({ "internal_address": error.host });
    CallFailure::Refused(ActionRejection::new(error.to_string(), json))
}

/// Why a question had no answer, in words.
pub(crate) fn reason_of(failure: CallFailure) -> String {
    match failure {
        CallFailure::Refused(rejection) => rejection.text,
        CallFailure::NotSent { reason, .. } | CallFailure::Unknown { reason } => reason,
        failure => format!("{failure:?}"),
    }
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The wait that `Retry-After` asks for: a number of seconds, or a date.
fn wait_of(retry_after: &str) -> Option<Duration> {
    match retry_after.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let at = httpdate::parse_http_date(retry_after).ok()?;
            Some(at.duration_since(std::time::SystemTime::now()).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_wait_is_a_number_of_seconds_or_a_date() {
        assert_eq!(wait_of(" 120 "), Some(Duration::from_secs(120)));
        let hour = Duration::from_secs(3_600);
        let wait = wait_of(&httpdate::fmt_http_date(SystemTime::now() + hour)).unwrap();
        assert!(wait > hour / 2 && wait <= hour, "{wait:?}");
        assert_eq!(wait_of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(wait_of("soon"), None);
    }
}
