//! What all requests share, and how they come to their handlers.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, State},
    http::{Method, Request, Response, StatusCode, request::Parts},
    middleware::{Next, from_fn_with_state},
    routing::{get, post},
};
use diptych::App;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};
use tower_http::{
    CompressionLevel,
    compression::{
        CompressionLayer, Predicate,
        predicate::{DefaultPredicate, SizeAbove},
    },
};

use crate::{
    Metrics, Server, ServerLimits,
    door::access::{Caller, GUARDS, Hook, Hosts, Operation, Visit},
    door::problem::Problem,
    panels::handlers::catalogue,
    panels::handlers::commands::{self, CommandEntry},
    panels::handlers::files::{self, File},
    panels::handlers::live,
    panels::handlers::queries::{self, QueryEntry},
    panels::handlers::status,
};

/// Answers that are shorter are not worth the time to compress.
const COMPRESSED_BYTES: u64 = 1_024;

pub(crate) struct Site {
    pub(crate) app: App,
    pub(crate) title: String,
    pub(crate) commands: BTreeMap<String, CommandEntry>,
    pub(crate) queries: BTreeMap<String, QueryEntry>,
    pub(crate) files: BTreeMap<String, File>,
    pub(crate) catalogue: Bytes,
    pub(crate) openapi: Bytes,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) limits: ServerLimits,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) began: Instant,
    pub(crate) begun: Begun,
    requests: Semaphore,
    hosts: Hosts,
    hook: Option<Hook>,
}

impl Site {
    pub(crate) fn new(mut server: Server, stopping: watch::Receiver<bool>) -> Site {
        let (catalogue, openapi) = catalogue::documents(&mut server);
        let Server { app, title, commands, queries, files, metrics, limits, hosts, hook, .. } =
            server;
        Site {
            app,
            title,
            commands,
            queries,
            files,
            catalogue: catalogue.to_string().into(),
            openapi: openapi.to_string().into(),
            metrics,
            limits,
            stopping,
            streams: Arc::new(Semaphore::new(limits.streams)),
            began: Instant::now(),
            begun: Begun::default(),
            requests: Semaphore::new(limits.requests),
            hosts,
            hook,
        }
    }

    /// Whether the request is let in, and who it is from.
    pub(crate) async fn admit(
        &self,
        operation: Operation,
        parts: &Parts,
    ) -> Result<Caller, Problem> {
        let Some(hook) = &self.hook else { return Ok(Caller::anonymous()) };
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let visit = Visit { operation, headers: parts.headers.clone(), peer };
        match timeout(self.limits.answer_time, hook(visit)).await {
            Ok(admitted) => admitted.map_err(Problem::from),
            Err(_) => {
                let detail = "who asks could not be found out in time: come again";
                Err(Problem::later("slow", detail))
            }
        }
    }

    /// Whether the caller may read the events behind what this command met. Without a hook no
    /// caller is known to: a boundary may have events that no query of the server shows.
    pub(crate) async fn may_explain(&self, command: &str, parts: &Parts) -> bool {
        self.hook.is_some()
            && self.admit(Operation::Explain(command.to_owned()), parts).await.is_ok()
    }

    /// What goes out, answer or problem.
    pub(crate) fn answered(&self, answer: Result<Response<Body>, Problem>) -> Response<Body> {
        answer.unwrap_or_else(Problem::into_response)
    }
}

/// Commands that were begun, also those whose clients went away meanwhile.
#[derive(Default)]
pub(crate) struct Begun(watch::Sender<usize>);

/// One of them, until it is dropped.
pub(crate) struct Command(watch::Sender<usize>);

impl Begun {
    pub(crate) fn one(&self) -> Command {
        self.0.send_modify(|commands| *commands += 1);
        Command(self.0.clone())
    }

    /// Waits until there are none.
    pub(crate) async fn ended(&self) {
        // The sender is here, so there is an answer.
        let _ = self.0.subscribe().wait_for(|commands| *commands == 0).await;
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        self.0.send_modify(|commands| *commands = commands.saturating_sub(1));
    }
}

pub(crate) fn router(site: Arc<Site>) -> Router {
    let large_enough = DefaultPredicate::new().and(SizeAbove::new(COMPRESSED_BYTES));
    let compression = CompressionLayer::new().quality(CompressionLevel::Fastest);
    Router::new()
        .route("/commands/{name}", post(commands::execute))
        .route("/queries/{name}", get(queries::ask).post(queries::ask))
        .route("/queries/{name}/explanation", get(queries::explain))
        .route("/queries/{name}/live", get(live::answers))
        .route("/status", get(status::show))
        .route("/status/live", get(live::status))
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .route("/metrics", get(status::figures))
        .route("/catalogue", get(catalogue::catalogue))
        .route("/openapi.json", get(catalogue::openapi))
        .fallback(files::fetch)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(site.clone(), at_the_door))
        .layer(compression.compress_when(large_enough))
        .with_state(site)
}

/// What holds for every request: whom it is for, how many there may be, what is said to browsers.
async fn at_the_door(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let began = Instant::now();
    let measured = site.metrics.is_some().then(|| measured_path(request.uri().path()));
    let mut response = match site.hosts.check(request.uri(), request.headers()) {
        Err(problem) => problem.into_response(),
        // Whoever restarts what is not healthy is not to restart what is busy.
        Ok(()) if request.uri().path() == "/health" => next.run(request).await,
        Ok(()) => match site.requests.try_acquire() {
            Ok(_permit) => caught(next.run(request)).await,
            Err(_) => {
                let detail = "the server has as many requests as it answers at once: come again";
                Problem::later("busy", detail).into_response()
            }
        },
    };
    for (name, value) in GUARDS {
        response.headers_mut().insert(name, value);
    }
    if let Some(path) = measured {
        measure(path, &response, began.elapsed());
    }
    response
}

/// Whether the server answers at this path itself.
pub(crate) fn is_taken(path: &str) -> bool {
    let own = ["/status", "/status/live", "/health", "/ready", "/metrics", "/catalogue"];
    let is_below = |part| path.starts_with(part);
    own.contains(&path)
        || path == "/openapi.json"
        || is_below("/commands/")
        || is_below("/queries/")
}

/// A panic of the application's code is an answer, and does not end the connection.
async fn caught(answer: impl Future<Output = Response<Body>>) -> Response<Body> {
    let mut answer = pin!(answer);
    let polled =
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context))) {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        });
    match polled.await {
        Some(response) => response,
        None => {
            tracing::error!("a request met a panic in the program");
            let detail = "the program panicked: whoever runs it has more in its log";
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Problem::new(status, "mistake", detail).into_response()
        }
    }
}

/// The parts of an address that are few: names are the clients' to choose.
fn measured_path(path: &str) -> &'static str {
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
        ("commands", Some(_), None) => "command",
        ("queries", Some(_), None) => "query",
        ("queries", Some(_), Some("live")) => "live",
        ("queries", Some(_), Some("explanation")) => "explanation",
        _ => "other",
    }
}

fn measure(path: &'static str, response: &Response<Body>, took: Duration) {
    let status = response.status().as_u16().to_string();
    metrics::counter!("diptych_http_requests_total", "path" => path, "status" => status)
        .increment(1);
    metrics::histogram!("diptych_http_seconds", "path" => path).record(took);
}

async fn wrong_method(request: Request<Body>) -> Response<Body> {
    // The router says in `Allow` what does something.
    method_problem(request.method()).into_response()
}

pub(crate) fn method_problem(method: &Method) -> Problem {
    let detail = format!("{method} does nothing here: the header Allow says what does");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail)
}
