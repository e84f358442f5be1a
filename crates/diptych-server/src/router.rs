//! The routes of a server.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{Request, Response},
    middleware::from_fn_with_state,
    response::IntoResponse,
    routing::{get, post},
};
use tower_http::{
    CompressionLevel,
    compression::{
        CompressionLayer, Predicate,
        predicate::{DefaultPredicate, SizeAbove},
    },
};

#[cfg(feature = "webhooks")]
use crate::panels::handlers::webhooks;
use crate::{
    door::{entrance::enter, problem::Problem},
    panels::{
        entries::mount::Mount,
        handlers::{
            catalogue, commands, feeds, files, intakes, live, mounted, processes, queries,
            receipts, source, status,
        },
        site::Site,
    },
};

/// Shorter responses are not worth the time to compress them.
const COMPRESSED_BYTES: u64 = 1_024;

pub(crate) fn router(site: Arc<Site>, mounts: Vec<Mount>) -> Router {
    let routes = own_routes();
    #[cfg(feature = "webhooks")]
    let routes = site
        .webhooks
        .keys()
        .fold(routes, |routes, path| routes.route(path, post(webhooks::receive)));
    let large_enough = DefaultPredicate::new().and(SizeAbove::new(COMPRESSED_BYTES));
    let compression = CompressionLayer::new().quality(CompressionLevel::Fastest);
    let mounted = mounts.into_iter().map(|mount| mounted::routes(mount, &site));
    mounted
        .fold(routes, Router::merge)
        .fallback(files::fetch)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(site.clone(), source::with_age))
        .layer(from_fn_with_state(site.door.clone(), enter))
        .layer(compression.compress_when(large_enough))
        .with_state(site)
}

/// The routes that each server has.
fn own_routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/commands/{name}", post(commands::execute))
        .route("/queries/{name}", get(queries::ask).post(queries::ask))
        .route("/queries/{name}/explanation", get(queries::explain))
        .route("/queries/{name}/live", get(live::answers))
        .route("/live", get(live::many))
        .route("/feeds", get(intakes::feeds))
        .route("/feeds/{name}", get(feeds::read))
        .route("/receipts/{key}", get(receipts::find))
        .route("/processes", get(processes::list))
        .route("/processes/instances", get(processes::instances))
        .route("/processes/letters", get(processes::letters))
        .route(
            "/processes/letters/{position}",
            get(processes::letter).post(processes::answer_letter),
        )
        .route("/processes/calls", get(processes::calls))
        .route("/processes/calls/{position}", get(processes::call).post(processes::answer_call))
        .route("/processes/gateway-calls", get(processes::gateway_calls))
        .route("/processes/timers", get(processes::timers))
        .route("/intakes", get(intakes::list))
        .route("/intakes/letters", get(intakes::letters))
        .route("/intakes/letters/{position}", get(intakes::letter).post(intakes::answer_letter))
        .route("/trace/{id}", get(processes::trace))
        .route("/status", get(status::show))
        .route("/status/live", get(live::status))
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .route("/metrics", get(status::metrics))
        .route("/catalogue", get(catalogue::catalogue))
        .route("/openapi.json", get(catalogue::openapi))
        .route("/asyncapi.json", get(catalogue::asyncapi))
}

/// Whether a route has this path, so that no file can have it.
pub(crate) fn has_route(path: &str) -> bool {
    let own = [
        "/live",
        "/status",
        "/status/live",
        "/health",
        "/ready",
        "/metrics",
        "/catalogue",
        "/openapi.json",
        "/asyncapi.json",
        "/processes",
        "/intakes",
        "/feeds",
    ];
    let is_below = |part| path.starts_with(part);
    own.contains(&path)
        || is_below("/processes/")
        || is_below("/intakes/")
        || is_below("/trace/")
        || is_below("/commands/")
        || is_below("/queries/")
        || is_below("/receipts/")
        || is_below("/feeds/")
}

async fn wrong_method(request: Request<Body>) -> Response<Body> {
    // The router adds the header `Allow`.
    Problem::method(request.method()).into_response()
}
