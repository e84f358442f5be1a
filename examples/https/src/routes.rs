//! The routes of the program: its own page, and those of Diptych below `/api`, behind layers of its
//! own.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::get,
};
use diptych::App;
use diptych_server::{Caller, Denial, Operation, ServeError, Server, StopHandle, Visit};
use tower::ServiceBuilder;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

use crate::{
    commands::Bring,
    queries::{Depot, HowMany},
};

/// The header by which the layer tells the hook who the caller is.
const USER: &str = "x-user";

/// The users by their tokens. A real program checks a signed token.
pub(crate) type Users = Arc<BTreeMap<String, String>>;

/// An app with the view that the routes ask.
pub(crate) async fn start(builder: diptych::AppBuilder) -> Result<App, diptych::StartError> {
    builder.view::<Depot>().start().await
}

/// The routes, and the handle that ends them.
pub(crate) fn routes(
    app: App,
    host: &str,
    users: Users,
) -> Result<(Router, StopHandle), ServeError> {
    let server = Server::new(app)
        .host(host)
        .admit(admit)
        .command::<Bring>("bring")
        .live_query::<HowMany>("how-many");
    let (generated, handle) = server.into_router()?;
    let layers = ServiceBuilder::new()
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(from_fn_with_state(users, name_user));
    let routes =
        Router::new().route("/", get(async || "the depot")).nest("/api", generated).layer(layers);
    Ok((routes, handle))
}

/// Names the user of a known token. A name that the client sent is removed, so the hook can trust
/// the header.
async fn name_user(State(users): State<Users>, mut request: Request, next: Next) -> Response {
    let headers = request.headers_mut();
    headers.remove(USER);
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer "));
    let user = token.and_then(|token| users.get(token));
    if let Some(user) = user.and_then(|user| HeaderValue::from_str(user).ok()) {
        headers.insert(USER, user);
    }
    next.run(request).await
}

/// Every caller may ask; a command needs a user. Its events get the user as their actor, and the
/// address of the client.
async fn admit(visit: Visit) -> Result<Caller, Denial> {
    let user = visit.headers.get(USER).and_then(|user| user.to_str().ok());
    let caller = match (&visit.operation, user) {
        (Operation::Command(_), None) => return Err(Denial::unknown("log in first", "Bearer")),
        (_, Some(user)) => Caller::named(user),
        (_, None) => Caller::anonymous(),
    };
    Ok(match visit.peer {
        Some(peer) => caller.claim("address", peer.ip().to_string()),
        None => caller,
    })
}
