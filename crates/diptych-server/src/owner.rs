//! The way out of a poster: commands go to the application that owns the log.
//!
//! A request is passed on as it came, with the credential of its sender, and so is the answer. The
//! subtle part is a lost answer: each command has a key or a number, so it can be sent again and is
//! carried out once.

mod headers;

use std::{error::Error, fmt, io, path::Path, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, header},
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::{
    door::{code::Code, problem::Problem},
    owner::headers::{FORWARDED, KEY},
};

/// The first and the longest pause before a command is sent again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// The posters that one command may pass. More are a mistake in their addresses.
const LONGEST_CHAIN: usize = 4;

/// The application that carries out the commands of a poster, at the address of its HTTP server.
///
/// Only these headers of a request are passed on: `Authorization`, `Content-Type`,
/// `Idempotency-Key`, `Traceparent`, `Tracestate`, all that begin with `Diptych-`, and those of
/// [`pass_header`](Owner::pass_header). Cookies stay behind. The poster adds no credential of its
/// own: the application sees the sender.
#[must_use = "an owner is named with `Server::owner`"]
pub struct Owner {
    base: String,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    passed: Vec<HeaderName>,
    send_time: Duration,
    answer_bytes: usize,
    /// Tells this poster from others on the way of a command.
    id: String,
}

/// An owner that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnerError {
    /// The text is no address of an HTTP server.
    #[error("{address:?} is no address of an application: {problem}")]
    Address {
        /// The address.
        address: String,
        /// The mistake, and the right form.
        problem: &'static str,
    },
    /// The certificates of the system cannot be read.
    #[error(
        "the authorities of the system, which vouch for an encrypted owner, cannot be read: {0}"
    )]
    Authorities(#[source] io::Error),
    /// The file with the certificates of authorities cannot be used.
    #[error("the certificates of authorities in {file} are unusable: {reason}")]
    AuthorityFile {
        /// The file.
        file: String,
        /// The mistake.
        reason: String,
    },
}

impl Owner {
    /// Default for [`send_time`](Owner::send_time).
    pub const SEND_TIME: Duration = Duration::from_secs(10);
    /// Default for [`answer_bytes`](Owner::answer_bytes).
    pub const ANSWER_BYTES: usize = 1 << 20;
    /// The longest time to establish one connection.
    pub const CONNECT_TIME: Duration = Duration::from_secs(5);

    /// The application at this address, such as `https://bank.example` or
    /// `http://localhost:8080/api`. The certificate of an encrypted one has to be issued by an
    /// authority of the system, as long as [`at_with`](Owner::at_with) names no others.
    ///
    /// # Errors
    /// [`OwnerError`]
    pub fn at(address: &str) -> Result<Owner, OwnerError> {
        Owner::trusting(address, None)
    }

    /// The application at this address, whose certificate was issued by an authority in this file:
    /// one or more certificates in PEM form, such as the root of a private authority. No authority
    /// of the system is trusted then. The file has no effect on an address with `http`.
    ///
    /// # Errors
    /// [`OwnerError`]
    pub fn at_with(address: &str, authorities: impl AsRef<Path>) -> Result<Owner, OwnerError> {
        Owner::trusting(address, Some(authorities.as_ref()))
    }

    fn trusting(address: &str, authorities: Option<&Path>) -> Result<Owner, OwnerError> {
        let wrong = |problem| OwnerError::Address { address: address.to_owned(), problem };
        let uri: Uri = address.parse().map_err(|_| wrong("write https://host:port"))?;
        let is_encrypted = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("write https://host:port, or http:// inside one network")),
        };
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(wrong("name a host, and no user: the poster has no credential of its own"));
        }
        if uri.query().is_some() {
            return Err(wrong("leave out the part behind `?`"));
        }
        Ok(Owner {
            base: address.trim_end_matches('/').to_owned(),
            client: client(is_encrypted, authorities)?,
            passed: Vec::new(),
            send_time: Owner::SEND_TIME,
            answer_bytes: Owner::ANSWER_BYTES,
            id: Uuid::new_v4().to_string(),
        })
    }

    /// Passes this header of requests on, too, for an application that reads a credential or a
    /// tenant from a header of its own.
    pub fn pass_header(mut self, name: HeaderName) -> Owner {
        self.passed.push(name);
        self
    }

    /// How long the poster tries to get an answer to one command. The
    /// [`answer_time`](crate::ServerLimits::answer_time) of the server bounds it, too.
    pub fn send_time(mut self, longest: Duration) -> Owner {
        self.send_time = longest;
        self
    }

    /// The largest answer that is passed back.
    pub fn answer_bytes(mut self, bytes: usize) -> Owner {
        self.answer_bytes = bytes;
        self
    }

    /// Sends a command until there is an answer, or the time is over.
    pub(crate) async fn send(
        &self,
        name: &str,
        headers: &HeaderMap,
        body: Bytes,
        answer_time: Duration,
    ) -> Result<Response<Body>, Problem> {
        let passed = headers::of_request(headers, &self.passed);
        let (passed, key) = headers::with_key(passed);
        let passed = self.with_hop(passed)?;
        let deadline = Instant::now() + self.send_time.min(answer_time);
        let (mut pause, mut may_have_arrived) = (PAUSES.0, false);
        loop {
            let request = self.request(name, &passed, body.clone())?;
            let failure = match timeout_at(deadline, self.once(request)).await {
                Ok(Ok(mut response)) => {
                    response.headers_mut().extend(key.clone().map(|key| (KEY, key)));
                    return Ok(response);
                }
                Ok(Err(Failure::TooLarge)) => return Err(too_large(self.answer_bytes)),
                Ok(Err(failure)) => failure,
                // The time ended while the owner had the request, or while it was connected.
                Err(_) => Failure::Lost("no answer in time".to_owned()),
            };
            let reason = match failure {
                Failure::NotConnected(reason) => reason,
                Failure::Lost(reason) => {
                    may_have_arrived = true;
                    reason
                }
                Failure::TooLarge => return Err(too_large(self.answer_bytes)),
            };
            let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            // A command without a key has a number. Both let it be carried out once.
            if Instant::now() + wait >= deadline {
                tracing::warn!(owner = self.base, command = name, reason, "no answer");
                let sent_key = key.as_ref().and_then(|key| key.to_str().ok());
                let problem = unanswered(may_have_arrived, sent_key);
                return Err(key.iter().fold(problem, |it, key| it.header(KEY, key.clone())));
            }
            sleep(wait).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn request(
        &self,
        name: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Problem> {
        let uri = format!("{}/commands/{name}", self.base);
        let request = Request::builder().method(Method::POST).uri(uri).body(Full::new(body));
        let mut request =
            request.map_err(|error| Problem::mistake("the address of the owner", &error))?;
        *request.headers_mut() = headers.clone();
        Ok(request)
    }

    /// The headers with this poster among those that the command has passed.
    fn with_hop(&self, mut headers: HeaderMap) -> Result<HeaderMap, Problem> {
        let before = headers.get(FORWARDED).and_then(|value| value.to_str().ok());
        let before = before.unwrap_or_default().to_owned();
        let mut posters: Vec<&str> =
            before.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
        if posters.contains(&self.id.as_str()) || posters.len() >= LONGEST_CHAIN {
            let detail = "the command came back to a poster, or passed too many: the owner of a \
                          poster has to be the application that carries the commands out; nothing \
                          was done";
            return Err(Problem::new(StatusCode::LOOP_DETECTED, Code::Loop, detail));
        }
        posters.push(&self.id);
        let value = posters.join(",").parse();
        let value =
            value.map_err(|error| Problem::mistake("the posters before this one", &error))?;
        headers.insert(FORWARDED, value);
        Ok(headers)
    }

    async fn once(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, Failure> {
        let answered = self.client.request(request).await.map_err(|error| {
            let reason = with_causes(&error);
            match error.is_connect() {
                true => Failure::NotConnected(reason),
                false => Failure::Lost(reason),
            }
        })?;
        let (head, body) = answered.into_parts();
        let body = Limited::new(body, self.answer_bytes).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => Failure::TooLarge,
            false => Failure::Lost(error.to_string()),
        })?;
        let mut response = Response::new(Body::from(body.to_bytes()));
        *response.status_mut() = head.status;
        *response.headers_mut() = headers::of_answer(&head.headers);
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(headers::NO_STORE);
        Ok(response)
    }
}

/// Why a try has no answer.
enum Failure {
    /// There was no connection, so nothing was sent.
    NotConnected(String),
    /// The owner may have the request.
    Lost(String),
    /// The answer is there, and too large.
    TooLarge,
}

fn client(
    is_encrypted: bool,
    authorities: Option<&Path>,
) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, OwnerError> {
    let mut http = HttpConnector::new();
    http.set_connect_timeout(Some(Owner::CONNECT_TIME));
    http.set_nodelay(true);
    // The connector below tells encrypted addresses from others.
    http.enforce_http(false);
    let builder = HttpsConnectorBuilder::new();
    let builder = match (is_encrypted, authorities) {
        (true, Some(file)) => builder.with_tls_config(trusting(roots_in(file)?)?).https_only(),
        (true, None) => builder
            .with_provider_and_native_roots(ring::default_provider())
            .map_err(OwnerError::Authorities)?
            .https_only(),
        (false, _) => builder.with_tls_config(trusting(RootCertStore::empty())?).https_or_http(),
    };
    Ok(Client::builder(TokioExecutor::new()).build(builder.enable_http1().wrap_connector(http)))
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, OwnerError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| OwnerError::Authorities(io::Error::other(error)))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The certificates in a file.
fn roots_in(file: &Path) -> Result<RootCertStore, OwnerError> {
    let unusable = |reason: String| {
        let file = file.display().to_string();
        OwnerError::AuthorityFile { file, reason }
    };
    let pem = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(added).map_err(|error| unusable(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(unusable("the file has none in PEM form".to_owned())),
        false => Ok(roots),
    }
}

fn too_large(limit: usize) -> Problem {
    let detail = format!(
        "the answer of the application is longer than {limit} bytes: the command was answered, and \
         its receipt can be asked for by its key"
    );
    Problem::new(StatusCode::BAD_GATEWAY, Code::TooLarge, detail).and("limit_bytes", limit as u64)
}

/// The problem of a command that has no answer.
fn unanswered(may_have_arrived: bool, key: Option<&str>) -> Problem {
    let problem = match (may_have_arrived, key) {
        (false, _) => Problem::later(
            Code::Unavailable,
            "the application that owns the log cannot be reached: the command was not carried \
             out; send it again later, under the same key",
        ),
        (true, Some(_)) => Problem::later(
            Code::OutcomeUnknown,
            "the application that owns the log did not answer: the command may have been carried \
             out; send it again under the same key, and it is carried out once",
        ),
        (true, None) => Problem::later(
            Code::OutcomeUnknown,
            "the application that owns the log did not answer: the command may have been carried \
             out; send it again under the same number, and it is carried out once",
        ),
    };
    match key {
        Some(key) => problem.and("key", key),
        None => problem,
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("base", &self.base).finish_non_exhaustive()
    }
}
