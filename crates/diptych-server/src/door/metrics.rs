//! Metrics of the process in the text format of Prometheus, and those of its requests.

use std::{fmt, time::Duration};

use axum::{body::Body, http::Response};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of the buckets of durations, in seconds.
const SECONDS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// The metrics of this process for Prometheus.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// The metrics cannot be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The process has another recorder.
    #[error(
        "the process has another recorder of metrics: {0}; use that recorder, or install this one \
         first"
    )]
    Installed(#[source] BuildError),
}

impl Metrics {
    /// Installs a recorder for the whole process. Install it before the app starts, because a
    /// metric registers with the recorder that it finds at its first use.
    ///
    /// # Errors
    /// [`MetricsError`] if the process has another recorder.
    pub fn install() -> Result<Metrics, MetricsError> {
        let suffix = Matcher::Suffix("_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(suffix, &SECONDS);
        let handle = builder.and_then(PrometheusBuilder::install_recorder);
        handle.map(Metrics).map_err(MetricsError::Installed)
    }

    /// All metrics in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Moves recorded durations into their buckets. Until then each duration takes memory, so call
    /// this every few seconds. [`Server::serve`](crate::Server::serve) does so; a program that
    /// takes the routes by [`Server::into_router`](crate::Server::into_router) calls it itself.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// The kind of route that a path has. Clients can put any name into a path, so names must not
/// become labels of a metric.
pub(crate) fn route_label(path: &str) -> &'static str {
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
        ("commands", Some(_), None) => "command",
        ("queries", Some(_), None) => "query",
        ("queries", Some(_), Some("live")) | ("live", None, None) => "live",
        ("queries", Some(_), Some("explanation")) => "explanation",
        ("v1", Some("logs"), _) => "log",
        _ => "other",
    }
}

pub(crate) fn record(path: &'static str, response: &Response<Body>, took: Duration) {
    let status = response.status().as_u16().to_string();
    metrics::counter!("diptych_http_requests_total", "path" => path, "status" => status)
        .increment(1);
    metrics::histogram!("diptych_http_seconds", "path" => path).record(took);
}

/// Counts an answer about the past by where it came from.
pub(crate) fn record_past_answer(from: &'static str) {
    metrics::counter!("diptych_http_past_answers_total", "from" => from).increment(1);
}
