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
use diptych::{
    App, Filter, Position, Query, Uuid, View,
    collaboration::IntakeOptions,
    digest,
    process::{StepKind, Trace, TraceError, TraceOptions, TraceTarget},
    store::Read,
};
use diptych_gateways::{GatewaySetupError, HttpFeed, HttpOptions};
use diptych_server::Server;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::Failure;

/// The feed at an address of another member.
///
/// # Errors
/// [`GatewaySetupError`] if the address is none.
pub(crate) fn feed(url: &str) -> Result<HttpFeed, GatewaySetupError> {
    let mut options: HttpOptions = HttpFeed::options();
    options.connect_within = Duration::from_millis(500);
    HttpFeed::new(url, options)
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
        .route("/flow/{target}", get(flow))
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

/// The part of a flow that happened in one service.
#[derive(Serialize)]
struct FlowPart {
    correlation: Uuid,
    steps: Vec<FlowStep>,
    remarks: Vec<String>,
}

#[derive(Serialize)]
struct FlowStep {
    depth: u32,
    /// The event of another service that an event of an intake came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    came_from: Option<Uuid>,
    #[serde(flatten)]
    kind: StepKind,
}

/// `GET /flow/{target}`: the target is a position of this log, or a correlation.
async fn flow(State(app): State<App>, Path(target): Path<String>) -> Response {
    let Ok(target) = target.parse::<TraceTarget>() else {
        return (StatusCode::BAD_REQUEST, "give a position or a correlation").into_response();
    };
    let mut options = TraceOptions::default();
    // Events of intakes have no cause in this log, so the log is read for them.
    options.whole_log = true;
    match app.process_operations().trace(target, options).await {
        // The flow has not come here yet.
        Err(TraceError::NoSuchId { .. } | TraceError::NoSuchPosition { .. }) => {
            (StatusCode::NOT_FOUND, "this service knows no such flow").into_response()
        }
        Err(error) => json::<()>(Err(error.into())),
        Ok(trace) => json(flow_part(&app, trace).await),
    }
}

/// # Errors
/// The reason why the log cannot be read.
async fn flow_part(app: &App, trace: Trace) -> Result<FlowPart, Failure> {
    let Trace { correlation, steps, remarks, .. } = trace;
    let mut found = Vec::new();
    for step in steps {
        let mut came_from = None;
        if let (0, StepKind::Event { position, .. }) = (step.depth, &step.kind) {
            let read = Read::after(position.before()).upto(*position);
            let batch = app.store().read(&Filter::everything(), read).await?;
            came_from = batch.get(0).and_then(|event| event.metadata().causation);
        }
        found.push(FlowStep { depth: step.depth, came_from, kind: step.kind });
    }
    Ok(FlowPart { correlation, steps: found, remarks })
}

/// An answer of a route of the example.
pub(crate) fn json<T: Serialize>(answer: Result<T, Failure>) -> Response {
    let written = answer.and_then(|value| Ok(serde_json::to_vec(&value)?));
    match written {
        Ok(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
