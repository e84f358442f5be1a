//! Every request passes here: its host is checked, requests are limited, and the caller is
//! identified.

use std::{
    future::poll_fn,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Instant,
};

use axum::{
    body::Body,
    extract::{ConnectInfo, State},
    http::{Extensions, HeaderValue, Request, Response, StatusCode, header, request::Parts},
    middleware::Next,
    response::IntoResponse,
};
use futures_util::FutureExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::door::{
    access::{Caller, EXPOSED_HEADERS, GUARDS, Hook, Hosts, Operation, POLICY, Visit},
    code::Code,
    limits::ServerLimits,
    metrics,
    notes::NoteBudget,
    peers::{PeerCounts, PeerPermit},
    problem::Problem,
    refusals::RefusalLog,
    request::pairs,
    stop::{RunningCommand, Stop},
};

/// Decides about every request before a handler sees it.
pub(crate) struct Door {
    hosts: Hosts,
    hook: Option<Hook>,
    limits: ServerLimits,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    peer_requests: Arc<PeerCounts>,
    peer_streams: Arc<PeerCounts>,
    notes: Arc<NoteBudget>,
    refusals: RefusalLog,
    stop: Stop,
    has_metrics: bool,
}

impl Door {
    pub(crate) fn new(
        hosts: Hosts,
        hook: Option<Hook>,
        limits: ServerLimits,
        has_metrics: bool,
    ) -> Door {
        let requests = Arc::new(Semaphore::new(limits.requests));
        let streams = Arc::new(Semaphore::new(limits.streams));
        Door {
            hosts,
            hook,
            limits,
            requests,
            streams,
            peer_requests: PeerCounts::new(limits.peer_requests),
            peer_streams: PeerCounts::new(limits.peer_streams),
            notes: Arc::new(NoteBudget::new(&limits)),
            refusals: RefusalLog::default(),
            stop: Stop::default(),
            has_metrics,
        }
    }

    pub(crate) fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    pub(crate) fn notes(&self) -> Arc<NoteBudget> {
        self.notes.clone()
    }

    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Holds a command of this request.
    pub(crate) fn hold(&self, parts: &Parts) -> CommandHold {
        let permit = parts.extensions.get::<RequestPermit>().cloned();
        CommandHold(Arc::new((self.stop.command(), permit)))
    }

    /// Tells the log of the program that a request was refused.
    pub(crate) fn refused(&self, peer: Option<SocketAddr>, reason: &str) {
        self.refusals.note(peer, reason);
    }

    /// Asks the hook for the caller.
    pub(crate) async fn admit(
        &self,
        operation: Operation,
        parts: &Parts,
    ) -> Result<Caller, Problem> {
        let Some(hook) = &self.hook else { return Ok(Caller::anonymous()) };
        let peer = peer_of(&parts.extensions);
        let arguments = pairs(parts.uri.query().unwrap_or_default())?;
        let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
        let headers = parts.headers.clone();
        let visit = Visit { operation, method, path, arguments, headers, peer };
        match timeout(self.limits.answer_time, hook(visit)).await {
            Ok(admitted) => admitted.map_err(Problem::from).and_then(checked),
            Err(_) => {
                Err(Problem::later(Code::Slow, "the caller was not identified in time: retry"))
            }
        }
    }

    /// Whether a hook decides about callers.
    pub(crate) fn has_hook(&self) -> bool {
        self.hook.is_some()
    }

    /// The caller, if it may read the events that conflict with this command. Without a hook no
    /// caller may, because the boundary can contain events that no query of the server shows.
    pub(crate) async fn explained_to(&self, command: &str, parts: &Parts) -> Option<Caller> {
        if !self.has_hook() {
            return None;
        }
        let admitted = self.admit(Operation::ExplainConflict(command.to_owned()), parts);
        // The conflict itself is known, so a panic of the hook must not hide it.
        AssertUnwindSafe(admitted).catch_unwind().await.ok()?.ok()
    }

    /// Takes the permit for one live stream of this peer.
    pub(crate) fn stream(&self, peer: Option<SocketAddr>) -> Result<StreamPermit, Problem> {
        let busy = |whose: &str| {
            let detail = format!("the limit of open live streams{whose} is reached: retry later");
            self.refused(peer, &detail);
            Problem::later(Code::Busy, detail)
        };
        let own =
            peer.map(|peer| self.peer_streams.enter(peer).ok_or_else(|| busy(" of one address")));
        let own = own.transpose()?;
        let all = self.streams.clone().try_acquire_owned().map_err(|_| busy(""))?;
        Ok(StreamPermit { _own: own, _all: all })
    }

    /// Takes the permit for one request of this peer.
    pub(crate) fn request(&self, peer: Option<SocketAddr>) -> Result<RequestPermit, Problem> {
        let busy = |whose: &str| {
            let detail =
                format!("the limit of requests{whose} at one time is reached: retry later");
            self.refused(peer, &detail);
            Problem::later(Code::Busy, detail)
        };
        let own =
            peer.map(|peer| self.peer_requests.enter(peer).ok_or_else(|| busy(" of one address")));
        let own = own.transpose()?;
        let all = self.requests.clone().try_acquire_owned().map_err(|_| busy(""))?;
        Ok(RequestPermit(Arc::new((own, all))))
    }

    async fn answer(&self, mut request: Request<Body>, next: Next) -> Response<Body> {
        let permit = match self.request(peer_of(request.extensions())) {
            Ok(permit) => permit,
            Err(problem) => return problem.into_response(),
        };
        request.extensions_mut().insert(permit.clone());
        let response = without_panic(next.run(request)).await;
        drop(permit);
        response
    }
}

/// Refuses a caller with a claim that no command can carry.
fn checked(caller: Caller) -> Result<Caller, Problem> {
    match caller.claims.keys().find(|name| name.starts_with("diptych:")) {
        None => Ok(caller),
        Some(name) => {
            tracing::error!(name, "a claim of the hook has a reserved name: take another name");
            let detail =
                "the caller has a claim with a reserved name: the log of the program has it";
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Mistake, detail))
        }
    }
}

/// The place of a request, until its last clone is dropped. A command keeps it until it has ended,
/// also if its client went away before.
#[derive(Clone)]
pub(crate) struct RequestPermit(#[expect(dead_code, reason = "it is only held")] Arc<Places>);

/// The place among the requests of the peer, and the one among all.
type Places = (Option<PeerPermit>, OwnedSemaphorePermit);

/// Keeps a command of a handler running for the server until the command has ended, also if its
/// client went away before.
#[derive(Clone)]
pub(crate) struct CommandHold(
    #[expect(dead_code, reason = "it is only held")] Arc<(RunningCommand, Option<RequestPermit>)>,
);

impl CommandHold {
    /// Runs a command, and keeps it held until it has ended.
    pub(crate) async fn around<T>(self, command: impl Future<Output = T>) -> T {
        let outcome = command.await;
        drop(self);
        outcome
    }
}

/// The place of a live stream, until it is dropped.
pub(crate) struct StreamPermit {
    _own: Option<PeerPermit>,
    _all: OwnedSemaphorePermit,
}

/// The address of the client, if the server adds it to requests.
pub(crate) fn peer_of(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0)
}

/// Passes a request to its handler if host and limits allow it. This is the layer around all
/// routes.
pub(crate) async fn enter(
    State(door): State<Arc<Door>>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let started = Instant::now();
    let label = door.has_metrics.then(|| metrics::route_label(request.uri().path()));
    let origin = door.hosts.allowed_origin(&request);
    let preflight = door.hosts.preflight(&request);
    let mut response = match (door.hosts.check(&request), preflight) {
        (Err(problem), _) => problem.into_response(),
        (Ok(()), Some(answer)) => answer,
        // A busy server is healthy: a supervisor must not restart it.
        (Ok(()), None) if request.uri().path() == "/health" => next.run(request).await,
        (Ok(()), None) => door.answer(request, next).await,
    };
    let headers = response.headers_mut();
    for (name, value) in GUARDS {
        headers.insert(name, value);
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(POLICY);
    if door.hosts.has_origins() {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        let cross_origin = HeaderValue::from_static("cross-origin");
        headers.insert("cross-origin-resource-policy", cross_origin);
    }
    if let Some(label) = label {
        metrics::record(label, &response, started.elapsed());
    }
    response
}

/// A panic of the application's code becomes a problem, and does not end the connection.
async fn without_panic(answer: impl Future<Output = Response<Body>>) -> Response<Body> {
    let mut answer = pin!(answer);
    let polled =
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context))) {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        });
    match polled.await {
        Some(response) => response,
        None => {
            tracing::error!("the program panicked in a request");
            let detail = "the program panicked: its log has the reason";
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Problem::new(status, Code::Mistake, detail).into_response()
        }
    }
}
