//! A service as a process of the operating system: its routes, and the routes of the example.

use std::{marker::PhantomData, time::Duration};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HOST},
    },
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::get,
};
use diptych::{App, Position, Query, View, collaboration::IntakeOptions, digest};
use diptych_gateways::{GatewaySetupError, HttpFeed, HttpOptions, HttpTraces};
use diptych_server::Server;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::Failure;

/// The feed at an address of another member.
///
/// # Errors
/// [`GatewaySetupError`] if the address is none.
pub(crate) fn feed(url: &str) -> Result<HttpFeed, GatewaySetupError> {
    HttpFeed::new(url, soon(HttpFeed::options()))
}

/// The flows of the member at an address.
///
/// # Errors
/// [`GatewaySetupError`] if the address is none.
pub(crate) fn traces(url: &str) -> Result<HttpTraces, GatewaySetupError> {
    HttpTraces::new(url, soon(HttpTraces::options()))
}

/// All members run on this machine, so one that does not accept a connection soon is down.
fn soon(mut options: HttpOptions) -> HttpOptions {
    options.connect_within = Duration::from_millis(500);
    options
}

/// Members are killed often here, so an intake asks again soon.
pub(crate) fn intakes() -> IntakeOptions {
    let mut options = IntakeOptions::default();
    options.wait = Duration::from_secs(2);
    options.quiet_time = Duration::from_secs(3);
    options.longest_wait = Duration::from_millis(500);
    options
}

/// Serves a service with the view `V`, until the process ends.
///
/// # Errors
/// The reason why it cannot be served.
pub(crate) async fn serve<V>(app: App, title: &str, listener: TcpListener) -> Result<(), Failure>
where
    V: View + Clone + Serialize,
{
    let server = Server::new(app.clone())
        .title(title, env!("CARGO_PKG_VERSION"))
        .host("127.0.0.1")
        .process_operations();
    let (routes, _) = server.into_router()?;
    let own = Router::new()
        .route("/state", get(state::<V>))
        .route("/state/{at}", get(past_state::<V>))
        .route("/work", get(work))
        .layer(from_fn(loopback_only))
        .with_state(app);
    Ok(axum::serve(listener, own.merge(routes)).await?)
}

/// Refuses requests that name another host: a page of the web could send them through the browser
/// of this machine.
pub(crate) async fn loopback_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    match host.rsplit_once(':').map_or(host, |(name, _)| name) {
        "127.0.0.1" | "localhost" => next.run(request).await,
        _ => (StatusCode::FORBIDDEN, "ask for 127.0.0.1 or localhost").into_response(),
    }
}

/// Asks for the whole view.
struct Whole<V>(PhantomData<fn() -> V>);

impl<V: View + Clone> Query for Whole<V> {
    type View = V;
    type Answer = V;

    fn answer(&self, view: &V) -> V {
        view.clone()
    }
}

/// The state that the view of a service shows, and the digest of a fold of its log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServiceState<V> {
    /// Both have the events up to here.
    pub(crate) position: u64,
    pub(crate) view_digest: String,
    /// The digest of a fold of the log from its begin.
    pub(crate) fold_digest: String,
    pub(crate) view: V,
}

/// `GET /state`
async fn state<V: View + Clone + Serialize>(State(app): State<App>) -> Response {
    let answer = async {
        let shown = app.query(Whole::<V>(PhantomData)).strong().await?;
        let folded = app.query(Whole::<V>(PhantomData)).as_of(shown.position).await?;
        Ok(ServiceState {
            position: shown.position.get(),
            view_digest: digest(&shown.value)?.to_string(),
            fold_digest: digest(&folded.value)?.to_string(),
            view: shown.value,
        })
    };
    json(answer.await)
}

/// `GET /state/{at}`: the digest of a fold of the log up to this position.
async fn past_state<V>(State(app): State<App>, Path(at): Path<u64>) -> Response
where
    V: View + Clone + Serialize,
{
    let answer = async {
        let folded = app.query(Whole::<V>(PhantomData)).as_of(Position::new(at)).await?;
        Ok(digest(&folded.value)?.to_string())
    };
    json(answer.await)
}

/// Something that waits for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkItem {
    pub(crate) order: u64,
    pub(crate) kind: WorkKind,
    pub(crate) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WorkKind {
    /// A call may have been sent, and the system outside cannot tell.
    Call,
    /// A process cannot take an event.
    Letter,
    /// An intake cannot take an event of another service.
    Intake,
}

/// `GET /work`
async fn work(State(app): State<App>) -> Response {
    json(work_list(&app).await)
}

/// # Errors
/// The reason why the log cannot be read.
async fn work_list(app: &App) -> Result<Vec<WorkItem>, Failure> {
    let operations = app.process_operations();
    let mut found = Vec::new();
    let mut add = |key: &str, kind, reason: &str| {
        let number = key.split_once(':').and_then(|(_, number)| number.parse().ok());
        let reason = reason.to_owned();
        found.extend(number.map(|order| WorkItem { order, kind, reason }));
    };
    for call in operations.waiting_calls(None).await? {
        add(&call.instance, WorkKind::Call, &call.reason);
    }
    for letter in operations.letters(None).await? {
        add(&letter.instance, WorkKind::Letter, &letter.reason);
    }
    for intake in app.intakes() {
        for letter in intake.letters().await? {
            add(&letter.subject, WorkKind::Intake, &letter.reason);
        }
    }
    Ok(found)
}

/// An answer of a route of the example.
pub(crate) fn json<T: Serialize>(answer: Result<T, Failure>) -> Response {
    let written = answer.and_then(|value| Ok(serde_json::to_vec(&value)?));
    match written {
        Ok(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
