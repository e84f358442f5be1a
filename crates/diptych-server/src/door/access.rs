//! Access: the hosts and origins that the server accepts, and the application's hook, which names
//! the caller or refuses.

use std::{collections::BTreeMap, future::Future, net::SocketAddr, pin::Pin, sync::Arc};

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
        uri::Authority,
    },
};
use serde_json::Value;

use crate::door::{code::Code, problem::Problem};

/// The operation that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Executing the command of this name.
    Command(String),
    /// Asking the query of this name. Each of the next three operations needs this one too.
    Query(String),
    /// Asking the query of this name about the past. The hook is asked about this operation in
    /// addition to [`Query`](Operation::Query).
    Past(String),
    /// Watching the query of this name. The hook is asked about this operation in addition to
    /// [`Query`](Operation::Query).
    Watch(String),
    /// Reading the payloads, actors and times of the events behind an answer of the query with this
    /// name. The hook is asked about this operation in addition to [`Query`](Operation::Query), and
    /// only for a query whose route has explanations.
    Explain(String),
    /// Reading the payloads of the events that the command of this name conflicts with. The hook is
    /// asked about this operation in addition to [`Command`](Operation::Command), and only for a
    /// command whose route [allows it](crate::CommandRoute::explained).
    ExplainConflict(String),
    /// Reading the feed of this name.
    Feed(String),
    /// Looking up the commit that was made under this idempotency key.
    Receipt(String),
    /// Reading the catalogue or the OpenAPI document.
    Catalogue,
    /// Reading the status or the metrics of the app.
    Status,
    /// Reading the processes and intakes of the log: parked letters with their events, calls,
    /// timers, instances, places, feeds and traces. They show the contents of events.
    Processes,
    /// Answering a parked letter of a process, or a parked event of an intake.
    AnswerLetter,
    /// Answering a call of a gateway that waits for an operator.
    AnswerCall,
    /// Fetching a file.
    File,
}

/// A request as the hook sees it, before it has any effect.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Visit {
    /// The operation that the request asks for.
    pub operation: Operation,
    /// The method of the request.
    pub method: Method,
    /// The path of the request below the routes of the server, as the client sent it.
    pub path: String,
    /// Names and values in the address, decoded: the arguments and parameters of a query. A query
    /// that is sent by `POST` has its arguments in its body, which the hook does not see. A rule
    /// about those is a [`QueryRoute::admit`](crate::QueryRoute::admit).
    pub arguments: Vec<(String, String)>,
    /// The headers of the request. One of them usually identifies the caller.
    pub headers: HeaderMap,
    /// The address of the client, or of the proxy before the server. With
    /// [`Server::into_router`](crate::Server::into_router) it is `None`, unless the program adds
    /// `ConnectInfo<SocketAddr>` to its requests.
    pub peer: Option<SocketAddr>,
}

/// The caller of an admitted request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caller {
    /// The actor that the events of a command get.
    pub actor: Option<String>,
    /// Facts about the caller by name, such as the tenant. The events of a command get them as
    /// extra metadata, and its rule sees them by
    /// [`DecisionContext::metadata`](diptych::DecisionContext::metadata).
    pub claims: BTreeMap<String, String>,
}

impl Caller {
    /// A caller without a name.
    pub fn anonymous() -> Caller {
        Caller::default()
    }

    /// A caller with this name.
    pub fn named(actor: impl Into<String>) -> Caller {
        Caller { actor: Some(actor.into()), ..Caller::default() }
    }

    /// Adds a claim. A name that begins with `diptych:` is reserved, and a mistake of the hook.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<String>) -> Caller {
        self.claims.insert(name.into(), value.into());
        self
    }
}

/// The refusal of a request, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    status: StatusCode,
    reason: String,
    challenge: Option<HeaderValue>,
}

impl Denial {
    /// The caller is not known: 401. The challenge names the way to authenticate, such as `Bearer`.
    /// A challenge that is not a valid header value is left out.
    pub fn unknown(reason: impl Into<String>, challenge: &str) -> Denial {
        let challenge = HeaderValue::from_str(challenge).ok();
        Denial { status: StatusCode::UNAUTHORIZED, reason: reason.into(), challenge }
    }

    /// The caller may not do that: 403.
    pub fn forbidden(reason: impl Into<String>) -> Denial {
        Denial { status: StatusCode::FORBIDDEN, reason: reason.into(), challenge: None }
    }
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Problem {
        let problem = Problem::new(denial.status, Code::Denied, denial.reason);
        match denial.challenge {
            Some(challenge) => problem.header(header::WWW_AUTHENTICATE, challenge),
            None => problem,
        }
    }
}

/// Changes an event before this caller reads it.
pub(crate) type Mask = Arc<dyn Fn(&Caller, &mut Value) + Send + Sync>;

type Admission = Pin<Box<dyn Future<Output = Result<Caller, Denial>> + Send>>;
pub(crate) type Hook = Box<dyn Fn(Visit) -> Admission + Send + Sync>;

/// Erases the type of a hook.
pub(crate) fn hook<F, Fut>(admit: F) -> Hook
where
    F: Fn(Visit) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Caller, Denial>> + Send + 'static,
{
    Box::new(move |visit| Box::pin(admit(visit)))
}

/// The names of the server, and the sites that may use it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts {
    /// Lower case, without a port, and without the brackets of an address.
    names: Vec<String>,
    /// Other sites whose pages may send requests.
    origins: Vec<String>,
    /// Headers that their pages may send beside those of this server.
    origin_headers: Vec<HeaderName>,
}

impl Hosts {
    pub(crate) fn add_host(&mut self, name: &str) {
        self.names.push(bare(name).to_ascii_lowercase());
    }

    pub(crate) fn add_origin(&mut self, origin: &str) {
        self.origins.push(origin.trim_end_matches('/').to_ascii_lowercase());
    }

    pub(crate) fn add_origin_header(&mut self, name: HeaderName) {
        self.origin_headers.push(name);
    }

    /// Whether answers differ by the origin of a request.
    pub(crate) fn has_origins(&self) -> bool {
        !self.origins.is_empty()
    }

    pub(crate) fn add_loopback(&mut self) {
        for name in ["localhost", "127.0.0.1", "::1"] {
            self.add_host(name);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Refuses requests for another host and requests from pages of other sites. Without this
    /// check, any page that a user opens could send requests to a server on the user's machine: the
    /// owner of the page only needs a name that resolves to that machine.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let (uri, headers) = (request.uri(), request.headers());
        let problem = |status, what: &str| {
            Problem::new(status, Code::Host, format!("{what}: nothing was done"))
        };
        let refuse = |what: &str| problem(StatusCode::FORBIDDEN, what);
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => text(host).and_then(|host| host.parse::<Authority>().ok()),
            // HTTP/2 has the pseudo-header `:authority` instead.
            (None, _) if request.version() >= Version::HTTP_2 => uri.authority().cloned(),
            _ => None,
        };
        let host = host.ok_or_else(|| {
            let what = "the request has no readable Host, or more than one";
            problem(StatusCode::BAD_REQUEST, what)
        })?;
        let asked = [Some(&host), uri.authority()];
        if !asked.into_iter().flatten().all(|host| self.is_ours(host)) {
            let what = format!("the host {:?} is not a name of this server", host.as_str());
            return Err(refuse(&what));
        }
        match headers.get(header::ORIGIN) {
            Some(origin) if !self.is_welcome(origin, &host) => Err(refuse(
                "pages of this origin may not send requests: allow it with `Server::origin`",
            )),
            Some(_) => Ok(()),
            None => check_site(request),
        }
    }

    /// The answer to a browser that asks, before a request of a page of another site, whether that
    /// site may send it. `None` if the request is no such question.
    pub(crate) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let headers = request.headers();
        let is_asked = request.method() == Method::OPTIONS
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !is_asked {
            return None;
        }
        self.allowed_origin(request)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let allowed = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PUT, PATCH, DELETE"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, PREFLIGHT_HEADERS),
            (header::ACCESS_CONTROL_MAX_AGE, "600"),
        ];
        let headers = response.headers_mut();
        for (name, value) in allowed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for name in &self.origin_headers {
            headers.append(header::ACCESS_CONTROL_ALLOW_HEADERS, name.clone().into());
        }
        Some(response)
    }

    /// The origin of the request, if it is one of the other sites that may send requests.
    pub(crate) fn allowed_origin<B>(&self, request: &Request<B>) -> Option<HeaderValue> {
        let origin = request.headers().get(header::ORIGIN)?;
        let is_allowed =
            text(origin).is_some_and(|text| self.origins.contains(&text.to_ascii_lowercase()));
        is_allowed.then(|| origin.clone())
    }

    fn is_ours(&self, authority: &Authority) -> bool {
        let host = bare(authority.host()).to_ascii_lowercase();
        !authority.as_str().contains('@') && self.names.contains(&host)
    }

    fn is_welcome(&self, origin: &HeaderValue, host: &Authority) -> bool {
        let Some(origin) = text(origin).map(str::to_ascii_lowercase) else { return false };
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        own == Some(&host.as_str().to_ascii_lowercase()) || self.origins.contains(&origin)
    }
}

/// Refuses requests without an origin that a page of another site made, by a picture or a script,
/// for example. A link to a page of this server is a navigation, and is followed.
fn check_site<B>(request: &Request<B>) -> Result<(), Problem> {
    let is = |name: &str, value: &str| {
        request.headers().get(name).is_some_and(|found| found.as_bytes() == value.as_bytes())
    };
    let is_other = is("sec-fetch-site", "cross-site") || is("sec-fetch-site", "same-site");
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_followed =
        is_read && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document");
    if is_other && !is_followed {
        let detail = "pages of other sites may only link to this server: nothing was done";
        return Err(Problem::new(StatusCode::FORBIDDEN, Code::Host, detail));
    }
    Ok(())
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// Headers that pages of allowed origins may send.
const PREFLIGHT_HEADERS: &str = "content-type, authorization, idempotency-key, if-match, \
    if-none-match, last-event-id, diptych-client, diptych-ordinal, diptych-settled, \
    diptych-occurred-at, diptych-correlation, diptych-causation, diptych-session, diptych-after, \
    diptych-unchanged-since, diptych-consistency, diptych-within, diptych-at-most, \
    diptych-or-stale, diptych-as-of, diptych-recorded-before, diptych-occurred-before, \
    diptych-limit, diptych-offset, diptych-start-after";

/// Headers of answers that pages of allowed origins may read.
pub(crate) const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "etag, retry-after, diptych-position, diptych-token, diptych-receipt, diptych-session, \
     diptych-stale, diptych-cost-events, diptych-view-state, diptych-view-since, diptych-total, \
     diptych-poisoned-keys, diptych-source-age, diptych-source-away-since, idempotency-key, link",
);

/// The policy of every response without one of its own: it loads nothing, and stands in no frame.
pub(crate) const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Headers of every response that restrict what a browser does with it.
pub(crate) const GUARDS: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, version: Version, headers: &HeaderMap) -> Request<()> {
        let mut request = Request::new(());
        (*request.uri_mut(), *request.version_mut()) = (uri.parse().unwrap(), version);
        *request.headers_mut() = headers.clone();
        request
    }

    fn check(host: &str, origin: Option<&str>) -> bool {
        let mut hosts = Hosts::default();
        hosts.add_loopback();
        hosts.add_host("Flights.example");
        hosts.add_origin("https://friend.example/");
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        hosts.check(&request("/", Version::HTTP_11, &headers)).is_ok()
    }

    #[test]
    fn a_named_host_is_accepted_with_any_port_and_in_any_case() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:80", "flights.example"] {
            assert!(check(host, None), "{host}");
        }
    }

    /// The owner of a page could have a name that resolves to this machine.
    #[test]
    fn other_hosts_are_refused() {
        let hosts =
            ["evil.example", "localhost.evil.example", "me@localhost", "127.0.0.2", "[::2]"];
        for host in hosts {
            assert!(!check(host, None), "{host}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused_unless_their_origin_was_named() {
        assert!(check("localhost:80", Some("http://localhost:80")));
        assert!(check("flights.example", Some("https://flights.example")));
        assert!(check("localhost", Some("https://friend.example")));
        for origin in ["http://evil.example", "null", "http://localhost:81", "localhost:80"] {
            assert!(!check("localhost:80", Some(origin)), "{origin}");
        }
    }

    #[test]
    fn no_host_and_two_hosts_are_refused() {
        let mut hosts = Hosts::default();
        hosts.add_loopback();
        let check = |uri: &str, headers: &HeaderMap| {
            hosts.check(&request(uri, Version::HTTP_11, headers)).is_ok()
        };
        let mut headers = HeaderMap::new();
        assert!(!check("/", &headers));
        assert!(!check("http://localhost/", &headers), "HTTP/1.1 needs the header");
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(!check("/", &headers));
        headers.remove(header::HOST);
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(!check("http://evil.example/", &headers));
        assert!(check("http://localhost/", &headers));
    }

    /// HTTP/2 sends the host as `:authority`, which is part of the address here.
    #[test]
    fn over_http_2_the_authority_is_the_host() {
        let mut hosts = Hosts::default();
        hosts.add_host("flights.example");
        let check = |uri: &str, origin: Option<&'static str>| {
            let origin = origin.map(|origin| (header::ORIGIN, HeaderValue::from_static(origin)));
            hosts.check(&request(uri, Version::HTTP_2, &origin.into_iter().collect())).is_ok()
        };
        assert!(check("https://flights.example/", None));
        assert!(check("https://flights.example/", Some("https://flights.example")));
        assert!(!check("https://flights.example/", Some("https://evil.example")));
        assert!(!check("https://evil.example/", None));
        assert!(!check("/", None));
    }
}
