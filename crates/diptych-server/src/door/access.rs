//! Who may ask: the hosts and origins that are listened to, and the hook that an application has
//! for the rest.

use std::{future::Future, net::SocketAddr, pin::Pin};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, uri::Authority};

use crate::door::problem::Problem;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// To execute the command of this name.
    Command(String),
    /// To ask the query of this name: now, of the past, live, or for an explanation.
    Query(String),
    /// To read the events behind an answer of the query, or a conflict of the command, of this
    /// name: their payloads, actors and times. Asked in addition to [`Query`](Operation::Query) or
    /// [`Command`](Operation::Command), which have to be admitted, too.
    Explain(String),
    /// To read what there is: the catalogue, the OpenAPI document.
    Catalogue,
    /// To see how the app is: its status and its metrics.
    Status,
    /// To fetch a file.
    File,
}

/// A request, before anything is done about it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Visit {
    /// What it is about.
    pub operation: Operation,
    /// Its headers: who it is from stands in one of them, or in a cookie.
    pub headers: HeaderMap,
    /// Where it came from.
    pub peer: Option<SocketAddr>,
}

/// Who asks, as it is noted with the events of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The actor of what comes of the request.
    pub actor: Option<String>,
}

impl Caller {
    /// Somebody without a name.
    pub fn anonymous() -> Caller {
        Caller::default()
    }

    /// Somebody with this name.
    pub fn named(actor: impl Into<String>) -> Caller {
        Caller { actor: Some(actor.into()) }
    }
}

/// A request that is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    status: StatusCode,
    reason: String,
    challenge: Option<HeaderValue>,
}

impl Denied {
    /// Nobody knows who asks: 401. The challenge says how to tell, such as `Bearer`; one that is
    /// no header value is left out.
    pub fn unknown(reason: impl Into<String>, challenge: &str) -> Denied {
        let challenge = HeaderValue::from_str(challenge).ok();
        Denied { status: StatusCode::UNAUTHORIZED, reason: reason.into(), challenge }
    }

    /// Whoever asks may not do that: 403.
    pub fn forbidden(reason: impl Into<String>) -> Denied {
        Denied { status: StatusCode::FORBIDDEN, reason: reason.into(), challenge: None }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Problem {
        let problem = Problem::new(denied.status, "denied", denied.reason);
        match denied.challenge {
            Some(challenge) => problem.header(header::WWW_AUTHENTICATE, challenge),
            None => problem,
        }
    }
}

type Admission = Pin<Box<dyn Future<Output = Result<Caller, Denied>> + Send>>;
pub(crate) type Hook = Box<dyn Fn(Visit) -> Admission + Send + Sync>;

/// The hook as it is kept.
pub(crate) fn hook<F, Fut>(admit: F) -> Hook
where
    F: Fn(Visit) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Caller, Denied>> + Send + 'static,
{
    Box::new(move |visit| Box::pin(admit(visit)))
}

/// Names under which the server is reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts {
    /// Lower case, without a port, and without the brackets of an address.
    names: Vec<String>,
    /// Other sites whose pages may ask.
    origins: Vec<String>,
}

impl Hosts {
    pub(crate) fn add_host(&mut self, name: &str) {
        self.names.push(bare(name).to_ascii_lowercase());
    }

    pub(crate) fn add_origin(&mut self, origin: &str) {
        self.origins.push(origin.trim_end_matches('/').to_ascii_lowercase());
    }

    pub(crate) fn add_loopback(&mut self) {
        for name in ["localhost", "127.0.0.1", "::1"] {
            self.add_host(name);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether a request is for this server, and not from the page of another site. Without this,
    /// any page that somebody opens could ask a server on their machine, under a name that its
    /// owner points there.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let problem =
            |status, what: &str| Problem::new(status, "host", format!("{what}: nothing was done"));
        let refuse = |what: &str| problem(StatusCode::FORBIDDEN, what);
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => text(host).and_then(|host| host.parse::<Authority>().ok()),
            _ => None,
        };
        let host = host.ok_or_else(|| {
            let what = "the request has no Host that can be read, or more than one";
            problem(StatusCode::BAD_REQUEST, what)
        })?;
        let asked = [Some(&host), uri.authority()];
        if !asked.into_iter().flatten().all(|host| self.is_ours(host)) {
            let what = format!("the host {:?} is not this server", host.as_str());
            return Err(refuse(&what));
        }
        match headers.get(header::ORIGIN) {
            Some(origin) if !self.is_welcome(origin, &host) => {
                Err(refuse("the page of another site asks, which is not welcome here"))
            }
            _ => Ok(()),
        }
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

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// What every answer says to the browser.
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
        hosts.check(&Uri::from_static("/"), &headers).is_ok()
    }

    #[test]
    fn a_host_is_ours_under_any_port_and_any_case() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:80", "flights.example"] {
            assert!(check(host, None), "{host}");
        }
    }

    /// A page could have its own name point to this machine, and ask.
    #[test]
    fn another_name_is_not_ours() {
        let hosts =
            ["evil.example", "localhost.evil.example", "me@localhost", "127.0.0.2", "[::2]"];
        for host in hosts {
            assert!(!check(host, None), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_not_welcome_unless_it_was_named() {
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
        let mut headers = HeaderMap::new();
        assert!(hosts.check(&Uri::from_static("/"), &headers).is_err());
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(hosts.check(&Uri::from_static("/"), &headers).is_err());
        headers.remove(header::HOST);
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(hosts.check(&Uri::from_static("http://evil.example/"), &headers).is_err());
    }
}
