//! How the app is: for people, for whoever balances load, and for Prometheus.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Request, Response, header},
};
use diptych::{FollowState, Lag, ViewStatus, projection::ProjectionStatus};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};

use crate::{
    door::access::Operation, door::problem::Problem, merged,
    panels::handlers::queries::json_response, panels::site::Site,
};

/// Upper ends of the bins in which durations are counted, in seconds.
const SECONDS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// The figures of this process, as Prometheus reads them.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// Another recorder was installed before.
    #[error("figures go elsewhere already: {0}; use that recorder, or install this one first")]
    Installed(#[source] BuildError),
}

impl Metrics {
    /// Begins to count, for the whole process. Do it before the app is started: that is when it
    /// is asked for what it counts.
    ///
    /// # Errors
    /// [`MetricsError`] if the program has another recorder.
    pub fn install() -> Result<Metrics, MetricsError> {
        let suffix = Matcher::Suffix("_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(suffix, &SECONDS);
        let handle = builder.and_then(PrometheusBuilder::install_recorder);
        handle.map(Metrics).map_err(MetricsError::Installed)
    }

    /// All figures, in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Makes room: has to be done now and then, or what is recorded piles up.
    pub(crate) fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// Log, commands, views and projections as they are now.
pub(crate) fn status(site: &Site) -> Value {
    let app = &site.app;
    let (log, figures) = (app.identity(), app.figures());
    json!({
        "title": site.title,
        "log": {
            "id": log.id.to_string(),
            "epoch": log.epoch.to_string(),
            "head": app.head().get(),
        },
        "commands": {
            "accepted": figures.accepted,
            "conflicts": figures.conflicts,
            "cache": {
                "states": figures.cache.states,
                "bytes": figures.cache.bytes,
                "hits": figures.cache.hits,
                "misses": figures.cache.misses,
            },
        },
        "views": app.views().iter().map(view).collect::<Vec<_>>(),
        "projections": app.projections().iter().map(projection).collect::<Vec<_>>(),
        "uptime_seconds": site.began.elapsed().as_secs_f64(),
    })
}

fn view(status: &ViewStatus) -> Value {
    let name = status.view.rsplit("::").next().unwrap_or(status.view);
    let further = json!({
        "type": status.view,
        "events": status.events,
        "since": status.since.to_string(),
        "copies": status.memory.copies,
        "bytes": status.memory.bytes(),
    });
    follower(name, status.position.get(), &status.state, status.lag, further)
}

fn projection(status: &ProjectionStatus) -> Value {
    let ProjectionStatus { projection, position, state, lag, events, .. } = status;
    follower(projection, position.get(), state, *lag, json!({ "events": events }))
}

fn follower(name: &str, position: u64, state: &FollowState, lag: Lag, further: Value) -> Value {
    let follower = json!({
        "name": name,
        "position": position,
        "state": word(state),
        "trouble": trouble(state),
        "lag_positions": lag.positions,
        "lag_seconds": lag.time.as_secs_f64(),
    });
    merged(follower, further)
}

pub(crate) fn word(state: &FollowState) -> &'static str {
    match state {
        FollowState::CatchingUp => "catching up",
        FollowState::Live => "live",
        FollowState::Resting => "resting",
        FollowState::Paused => "paused",
        FollowState::Stalled { .. } => "stalled",
        FollowState::Stopped(_) => "stopped",
        FollowState::Ended { .. } => "ended",
        _ => "closed",
    }
}

fn trouble(state: &FollowState) -> Option<String> {
    let is_well = matches!(
        state,
        FollowState::CatchingUp | FollowState::Live | FollowState::Resting | FollowState::Paused
    );
    (!is_well).then(|| state.to_string())
}

/// `GET /status`
pub(crate) async fn show(State(site): State<Arc<Site>>, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = site.admit(Operation::Status, &parts).await;
    site.answered(answer.map(|_| json_response(status(&site).to_string().into())))
}

/// `GET /health`: the process answers.
pub(crate) async fn health() -> Response<Body> {
    json_response("{\"status\":\"up\"}".into())
}

/// `GET /ready`: it should be sent requests.
pub(crate) async fn ready(State(site): State<Arc<Site>>) -> Response<Body> {
    site.answered(readiness(&site))
}

fn readiness(site: &Site) -> Result<Response<Body>, Problem> {
    if *site.stopping.borrow() {
        return Err(Problem::later("stopping", "the server stops: ask another one"));
    }
    if site.app.is_stopped() {
        return Err(Problem::later("stopping", "the app was stopped: ask another server"));
    }
    if site.app.store().head().is_ended() {
        let detail = "the log ended, and nothing more is taken: start the server again";
        return Err(Problem::later("not-ready", detail));
    }
    let views = site.app.views();
    let not_ready = views.iter().filter_map(|status| {
        // It is called live a moment after it came as far as the log.
        let is_behind = status.state == FollowState::CatchingUp && status.lag.positions > 0;
        let is_in_trouble = is_behind || trouble(&status.state).is_some();
        // The reason may quote events, and readiness is told to callers whom no hook has seen.
        is_in_trouble.then(|| format!("{}: {}", status.view, word(&status.state)))
    });
    let not_ready: Vec<_> = not_ready.collect();
    match not_ready.is_empty() {
        true => Ok(json_response("{\"status\":\"ready\"}".into())),
        false => {
            let detail = format!("{}; the status says why", not_ready.join("; "));
            Err(Problem::later("not-ready", detail).and("views", not_ready))
        }
    }
}

/// `GET /metrics`
pub(crate) async fn figures(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        site.admit(Operation::Status, &parts).await?;
        let metrics = site.metrics.as_ref().ok_or_else(|| {
            Problem::unknown("this server was not given figures: see `Server::metrics`")
        })?;
        let mut response = Response::new(Body::from(metrics.render()));
        let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        Ok(response)
    };
    site.answered(answer.await)
}
