//! Routes of other crates, behind the hook of a server.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Method, Request, Response, StatusCode, request::Parts},
    middleware::{Next, from_fn_with_state},
    response::IntoResponse,
};

use crate::{
    door::{
        access::{Caller, Operation},
        code::Code,
        problem::Problem,
    },
    panels::{
        entries::mount::{DeniedExtras, Mount, Operations},
        site::Site,
    },
};

/// The routes, behind the hook of this site.
pub(crate) fn routes(mount: Mount, site: &Arc<Site>) -> Router<Arc<Site>> {
    let (routes, operations, extras) = mount.into_parts();
    let router = routes
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(&path, methods));
    let entrance = from_fn_with_state((site.clone(), operations, extras), admit);
    router.with_state(site.app.clone()).layer(entrance)
}

/// Asks the hook, and passes the caller and the limits on to the handler.
async fn admit(
    State((site, operations, extras)): State<(Arc<Site>, Operations, Operations)>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let mut caller = Caller::anonymous();
    let asked = named(&operations, &mut parts);
    // Wrong methods do not come here, so a handler would run.
    if asked.is_empty() && site.door.has_hook() {
        let detail = "the program names no operation for this request, so it admits no caller";
        return Problem::new(StatusCode::FORBIDDEN, Code::Denied, detail).into_response();
    }
    for operation in asked {
        match site.door.admit(operation, &parts).await {
            Ok(admitted) => caller = admitted,
            Err(problem) => return problem.into_response(),
        }
    }
    if site.poster.is_some() && !parts.method.is_safe() {
        let detail = "this poster changes nothing: ask the application that owns the log";
        return Problem::unknown(detail).into_response();
    }
    let mut denied = DeniedExtras::default();
    for operation in named(&extras, &mut parts) {
        if site.door.admit(operation.clone(), &parts).await.is_err() {
            denied.0.push(operation);
        }
    }
    parts.extensions.insert(denied);
    parts.extensions.insert(site.door.hold(&parts));
    parts.extensions.insert(caller);
    parts.extensions.insert(*site.door.limits());
    next.run(Request::from_parts(parts, body)).await
}

/// The operations of a request. The handler of `GET` answers `HEAD` too, so one is asked about as
/// the other.
fn named(operations: &Operations, parts: &mut Parts) -> Vec<Operation> {
    if parts.method != Method::HEAD {
        return operations(parts);
    }
    parts.method = Method::GET;
    let named = operations(parts);
    parts.method = Method::HEAD;
    named
}
