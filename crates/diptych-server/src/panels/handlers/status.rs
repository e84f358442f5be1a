//! The state of the app for people, for load balancers, and for Prometheus.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Request, Response, header},
};
use diptych::{
    follow::{FollowState, FollowerStatus, Lag, PoisonedKey, SkippedEvent, VersionStatus},
    process::{ProcessState, ProcessStatus},
};
use serde_json::{Value, json};

use crate::{
    door::{
        access::Operation,
        code::Code,
        problem::Problem,
        response::{json_response, response_of},
    },
    json::merged,
    panels::{
        handlers::{intakes, source},
        site::Site,
    },
};

/// The present state of log, commands, views and projections.
pub(crate) fn status(site: &Site) -> Value {
    let app = &site.app;
    let (log, figures) = (app.identity(), app.stats());
    let head = app.store().head();
    let refuses = head.ended().or_else(|| head.paused());
    let status = json!({
        "title": site.entries.title,
        "log": {
            "id": log.id.to_string(),
            "epoch": log.epoch.to_string(),
            "head": app.head().get(),
            "takes_no_commits": refuses.map(|why| why.to_string()),
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
        "processes": app.processes().iter().map(process).collect::<Vec<_>>(),
        "intakes": app.intakes().iter().map(|it| intakes::status(&it.status())).collect::<Vec<_>>(),
        "uptime_seconds": site.started.elapsed().as_secs_f64(),
    });
    match &site.poster {
        Some(poster) => merged(status, json!({ "source": source::described(&poster.source()) })),
        None => status,
    }
}

fn view(status: &FollowerStatus) -> Value {
    let FollowerStatus { name, position, state, since, lag, events, memory, .. } = status;
    let poisoned = status.poisoned.iter().map(poisoned_key).collect::<Vec<_>>();
    let skipped = status.skipped.iter().map(skipped_event).collect::<Vec<_>>();
    let memory = memory.unwrap_or_default();
    let extra = json!({
        "type": name,
        "events": events,
        "since": since.to_string(),
        "poisoned": poisoned,
        "skipped": skipped,
        "versions": versions(status),
        "copies": memory.copies,
        "bytes": memory.bytes(),
    });
    let name = name.rsplit("::").next().unwrap_or(name);
    follower(name, position.get(), state, *lag, extra)
}

fn process(status: &ProcessStatus) -> Value {
    let (state, trouble) = match &status.state {
        ProcessState::CatchingUp => ("catching up", None),
        ProcessState::Live => ("live", None),
        ProcessState::Standby => ("standby", None),
        ProcessState::Stalled { reason } => ("stalled", Some(reason)),
        ProcessState::Stopped { reason } => ("stopped", Some(reason)),
        _ => ("other", None),
    };
    let troubles = status.troubles.iter();
    let troubles = troubles.map(|(instance, why)| json!({ "instance": instance, "reason": why }));
    json!({
        "name": status.name,
        "position": status.position.get(),
        "state": state,
        "trouble": trouble,
        "lag_positions": status.lag.positions,
        "lag_seconds": status.lag.time.as_secs_f64(),
        "carrying": status.carrying,
        "troubles": troubles.collect::<Vec<_>>(),
        "parked": status.parked,
        "unknown_calls": status.unknown_calls,
        "timers": status.timers,
        "next_timer": status.next_timer.map(|due| due.to_string()),
    })
}

fn poisoned_key(poisoned: &PoisonedKey) -> Value {
    json!({
        "key": poisoned.key.as_str(),
        "at": poisoned.at.get(),
        "failed": poisoned.failed.get(),
        "held": poisoned.held,
        "reason": poisoned.reason,
    })
}

fn skipped_event(skipped: &SkippedEvent) -> Value {
    json!({
        "position": skipped.position.get(),
        "key": skipped.key.as_str(),
        "reason": skipped.reason,
        "at": skipped.at.to_string(),
        "who": skipped.note.who,
        "why": skipped.note.why,
    })
}

fn projection(status: &FollowerStatus) -> Value {
    let FollowerStatus { name, position, state, lag, events, .. } = status;
    let extra = json!({
        "events": events,
        "poisoned": status.poisoned.iter().map(poisoned_key).collect::<Vec<_>>(),
        "skipped": status.skipped.iter().map(skipped_event).collect::<Vec<_>>(),
        "versions": versions(status),
    });
    follower(name, position.get(), state, *lag, extra)
}

/// The versions side by side; empty if there is one.
fn versions(status: &FollowerStatus) -> Vec<Value> {
    let version = |it: &VersionStatus| {
        json!({
            "version": it.version,
            "state": it.state.to_string(),
            "position": it.position.get(),
        })
    };
    status.versions.iter().map(version).collect()
}

fn follower(name: &str, position: u64, state: &FollowState, lag: Lag, extra: Value) -> Value {
    let follower = json!({
        "name": name,
        "position": position,
        "state": word(state),
        "trouble": trouble(state),
        "lag_positions": lag.positions,
        "lag_seconds": lag.time.as_secs_f64(),
    });
    merged(follower, extra)
}

pub(crate) fn word(state: &FollowState) -> &'static str {
    match state {
        FollowState::CatchingUp => "catching up",
        FollowState::Live => "live",
        FollowState::Resting => "resting",
        FollowState::Beside { .. } => "beside",
        FollowState::Paused => "paused",
        FollowState::Stalled { .. } => "stalled",
        FollowState::Stopped(_) => "stopped",
        FollowState::Ended { .. } => "ended",
        FollowState::HistoryChanged(_) => "history changed",
        _ => "closed",
    }
}

fn trouble(state: &FollowState) -> Option<String> {
    let is_well = matches!(
        state,
        FollowState::CatchingUp
            | FollowState::Live
            | FollowState::Resting
            | FollowState::Beside { .. }
            | FollowState::Paused
    );
    (!is_well).then(|| state.to_string())
}

/// `GET /status`
pub(crate) async fn show(State(site): State<Arc<Site>>, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = site.door.admit(Operation::Status, &parts).await;
    response_of(answer.map(|_| json_response(status(&site).to_string().into())))
}

/// `GET /health`: the process answers requests.
pub(crate) async fn health() -> Response<Body> {
    json_response("{\"status\":\"up\"}".into())
}

/// `GET /ready`: the server is ready for requests.
pub(crate) async fn ready(State(site): State<Arc<Site>>) -> Response<Body> {
    response_of(readiness(&site))
}

fn readiness(site: &Site) -> Result<Response<Body>, Problem> {
    if site.door.stop().has_begun() {
        return Err(Problem::later(Code::Stopping, "the server stops: use another one"));
    }
    if site.app.is_stopped() {
        return Err(Problem::later(Code::Stopping, "the app was stopped: use another server"));
    }
    if site.app.store().head().is_ended() {
        let detail = "the log has ended and accepts no more events: restart the server";
        return Err(Problem::later(Code::NotReady, detail));
    }
    let away = site.poster.as_ref().and_then(|poster| poster.source().absence);
    let views = site.app.views();
    let not_ready = views.iter().filter_map(|status| {
        // A view that has just reached the head may still report that it is catching up.
        let is_behind = status.state == FollowState::CatchingUp && status.lag.positions > 0;
        // While the source of a poster is away, its views answer with their age.
        let is_cut_off = away.is_some() && matches!(status.state, FollowState::Stalled { .. });
        let is_in_trouble = is_behind || trouble(&status.state).is_some() && !is_cut_off;
        // The reason may quote events, and no hook admits the callers of this route.
        is_in_trouble.then(|| format!("{}: {}", status.name, word(&status.state)))
    });
    let not_ready: Vec<_> = not_ready.collect();
    if let Some(away) = away.filter(|_| not_ready.is_empty()) {
        // The reason may name hosts, and no hook admits the callers of this route.
        let answer = json!({ "status": "ready", "source_away_since": away.since.to_string() });
        return Ok(json_response(answer.to_string().into()));
    }
    match not_ready.is_empty() {
        // Queries are answered. The reason names files, and no hook admits the callers of this
        // route.
        true if site.app.store().head().paused().is_some() => {
            Ok(json_response("{\"status\":\"ready\",\"commits\":\"paused\"}".into()))
        }
        true => Ok(json_response("{\"status\":\"ready\"}".into())),
        false => {
            let detail = format!("{}: the status has the reason", not_ready.join("; "));
            Err(Problem::later(Code::NotReady, detail).and("views", not_ready))
        }
    }
}

/// `GET /metrics`
pub(crate) async fn metrics(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let answer = async {
        site.door.admit(Operation::Status, &parts).await?;
        let metrics = site.metrics.as_ref().ok_or_else(|| {
            Problem::unknown("this server has no metrics: set them with `Server::metrics`")
        })?;
        let mut response = Response::new(Body::from(metrics.render()));
        let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        Ok(response)
    };
    response_of(answer.await)
}
