//! `GET /catalogue`, `GET /openapi.json` and `GET /asyncapi.json`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{OriginalUri, State},
    http::{Request, Response, header, uri::Authority},
};

use crate::{
    door::{
        access::Operation,
        response::{json_response, response_of},
    },
    panels::site::Site,
};

/// `GET /catalogue`
pub(crate) async fn catalogue(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let admitted = site.door.admit(Operation::Catalogue, &parts).await;
    response_of(admitted.map(|_| json_response(site.documents.catalogue().into())))
}

/// `GET /openapi.json`
pub(crate) async fn openapi(
    State(site): State<Arc<Site>>,
    OriginalUri(uri): OriginalUri,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let admitted = site.door.admit(Operation::Catalogue, &parts).await;
    let prefix = uri.path().strip_suffix("/openapi.json").filter(|prefix| !prefix.is_empty());
    response_of(admitted.map(|_| json_response(site.documents.openapi(prefix).into())))
}

/// `GET /asyncapi.json`
pub(crate) async fn asyncapi(
    State(site): State<Arc<Site>>,
    OriginalUri(uri): OriginalUri,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let admitted = site.door.admit(Operation::Catalogue, &parts).await;
    // The door has checked that the host is one of this server.
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(Authority::as_str)).unwrap_or_default();
    let prefix = uri.path().strip_suffix("/asyncapi.json").unwrap_or_default();
    response_of(admitted.map(|_| json_response(site.documents.asyncapi(host, prefix).into())))
}
