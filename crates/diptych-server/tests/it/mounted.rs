//! The routes as a router in another program: below a prefix, behind a layer, on its own server.

use std::{
    future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::Request as HttpRequest,
    http::{HeaderValue, Version},
    middleware::{Next, from_fn},
    response::Response as HttpResponse,
    routing::get,
};
use diptych::{App, EventStore, Memory};
use diptych_server::{
    Caller, Denial, Operation, ServeError, Server, ServerLimits, StopHandle, Visit,
};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    client::{Connection, Events, LONG, Request, Response},
    domain::theatre,
    served::with_views,
    store::{Mood, MoodyStore},
};

/// A program of a user that mounts the routes below `/theatre`.
struct Program {
    app: App,
    address: SocketAddr,
    handle: StopHandle,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

async fn mark(request: HttpRequest, next: Next) -> HttpResponse {
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-layer", HeaderValue::from_static("passed"));
    response
}

impl Program {
    async fn new(set: impl FnOnce(Server) -> Server) -> Program {
        Program::over(Memory::new(), set).await
    }

    async fn over(store: impl EventStore, set: impl FnOnce(Server) -> Server) -> Program {
        let app = with_views(App::over(store)).start().await.unwrap();
        let server = set(theatre(app.clone()).host("localhost"));
        let (routes, handle) = server.into_router().unwrap();
        let service = Router::new()
            .route("/", get(async || "own page"))
            .nest("/theatre", routes)
            .layer(from_fn(mark));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopping = handle.clone();
        let service = service.into_make_service_with_connect_info::<SocketAddr>();
        let serve = axum::serve(listener, service).with_graceful_shutdown(async move {
            drop(stopped.await);
            stopping.stop();
        });
        let serving = tokio::spawn(async move { serve.await });
        Program { app, address, handle, stop, serving }
    }

    async fn within(store: impl EventStore, set: impl FnOnce(&mut ServerLimits)) -> Program {
        let mut limits = ServerLimits::default();
        set(&mut limits);
        Program::over(store, |server| server.limits(limits)).await
    }

    async fn ask(&self, request: &Request) -> Response {
        let response = Connection::open(self.address).await.ask(request).await;
        assert_eq!(response.need("x-layer"), "passed");
        response
    }

    async fn get(&self, target: &str) -> Response {
        self.ask(&Request::get(target)).await
    }

    /// Sends a command without waiting for its answer.
    async fn begin(&self, seat: &str) -> Connection {
        let mut connection = Connection::open(self.address).await;
        connection.write(take(seat).bytes()).await;
        connection
    }
}

fn take(seat: &str) -> Request {
    Request::post("/theatre/commands/take-seat", json!({ "seat": seat, "by": "ada" }))
}

fn remark(text: &str) -> Request {
    Request::post("/theatre/commands/remark", json!({ "text": text }))
}

#[tokio::test]
async fn routes_below_a_prefix_answer_as_a_server_does() {
    let program = Program::new(|server| server).await;
    let live = Request::get("/theatre/queries/how-many/live");
    let mut live = Events::open(program.address, &live).await;
    assert_eq!(live.head.need("x-layer"), "passed");
    assert_eq!(Events::answer(&live.next().await.unwrap()), (0, json!(0)));
    let receipt = program.ask(&take("a1")).await;
    let after = receipt.need("diptych-receipt");
    receipt.ok();
    assert_eq!(Events::answer(&live.next().await.unwrap()), (1, json!(1)));
    let who = program.get(&format!("/theatre/queries/who-sits?seat=a1&_after={after}")).await;
    assert_eq!(who.ok(), "ada");
    let post = Request::post("/theatre/queries/who-sits", json!({ "seat": "a1" }));
    assert_eq!(program.ask(&post).await.ok(), "ada");
    program.get("/theatre/queries/who-sits/explanation?seat=a1").await.ok();
    let rejected = program.ask(&take("a1")).await.problem(422, "rejected");
    assert_eq!(rejected["rejection"]["rule"], "seat-is-taken");
    program.get("/theatre/queries/riddle").await.problem(500, "mistake");
    program.get("/theatre/queries/curse").await.problem(500, "mistake");
    program.get("/theatre/queries/none").await.problem(404, "unknown");
    program.get("/theatre/none").await.problem(404, "unknown");
    let wrong = program.ask(&Request::new("DELETE", "/theatre/status")).await;
    wrong.problem(405, "method");
    assert_eq!(wrong.need("allow"), "GET,HEAD");
    assert_eq!(program.get("/theatre/status").await.ok()["title"], "Theatre");
    program.get("/theatre/ready").await.ok();
    assert_eq!(program.get("/theatre/large.txt").await.status, 200);
    assert_eq!(program.get("/").await.text(), "own page");
}

#[tokio::test]
async fn the_openapi_document_names_the_prefix() {
    let program = Program::new(|server| server).await;
    let document = program.get("/theatre/openapi.json").await.ok();
    assert_eq!(document["servers"], json!([{ "url": "/theatre" }]));
    assert!(document["paths"]["/commands/take-seat"].is_object());
}

#[tokio::test]
async fn a_prefix_may_have_parameters() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let (routes, _handle) = theatre(app).host("localhost").into_router().unwrap();
    let service = TowerToHyperService::new(Router::new().nest("/towns/{town}", routes));
    let get = |path: &str| {
        let request = HttpRequest::get(format!("http://localhost/towns/york{path}"));
        service.call(request.version(Version::HTTP_2).body(axum::body::Body::empty()).unwrap())
    };
    assert_eq!(get("/queries/how-many").await.unwrap().status(), 200);
    let document = get("/openapi.json").await.unwrap().into_body();
    let document = axum::body::to_bytes(document, usize::MAX).await.unwrap();
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(document["servers"], json!([{ "url": "/towns/york" }]));
}

/// `nest` has no route for the prefix with a slash, where the file `/` is.
#[tokio::test]
async fn a_file_at_the_prefix_itself_needs_nest_service() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let (routes, _handle) = theatre(app).host("localhost").into_router().unwrap();
    let service = TowerToHyperService::new(Router::new().nest_service("/theatre", routes));
    for target in ["/theatre/", "/theatre/large.txt", "/theatre/queries/how-many"] {
        let request = HttpRequest::get(format!("http://localhost{target}"))
            .version(Version::HTTP_2)
            .body(axum::body::Body::empty());
        assert_eq!(service.call(request.unwrap()).await.unwrap().status(), 200, "{target}");
    }
}

/// Over HTTP/2 a request has no header `Host`.
#[tokio::test]
async fn over_http_2_the_host_is_checked_by_its_authority() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let (routes, _handle) = theatre(app).host("theatre.example").into_router().unwrap();
    let service = TowerToHyperService::new(routes);
    for (host, status) in [("theatre.example", 200), ("evil.example", 403)] {
        let request = HttpRequest::get(format!("https://{host}/queries/how-many"))
            .version(Version::HTTP_2)
            .body(axum::body::Body::empty());
        assert_eq!(service.call(request.unwrap()).await.unwrap().status(), status, "{host}");
    }
}

#[tokio::test]
async fn hosts_origins_and_the_hook_decide_about_requests() {
    let peers = Arc::new(Mutex::new(Vec::new()));
    let seen = peers.clone();
    let admit = move |visit: Visit| {
        seen.lock().unwrap().push(visit.peer);
        let is_user = visit.headers.contains_key("x-user");
        future::ready(match (&visit.operation, is_user) {
            (Operation::Command(_), false) => Err(Denial::unknown("log in first", "Bearer")),
            _ => Ok(Caller::named("ada")),
        })
    };
    let program = Program::new(|server| server.admit(admit)).await;
    let denied = program.ask(&remark("x")).await;
    denied.problem(401, "denied");
    assert_eq!(denied.need("www-authenticate"), "Bearer");
    program.ask(&remark("x").header("x-user", "ada")).await.ok();
    let evil = Request::get("/theatre/queries/how-many").header("host", "evil.example");
    program.ask(&evil).await.problem(403, "host");
    let page = Request::get("/theatre/status").header("origin", "https://evil.example");
    program.ask(&page).await.problem(403, "host");
    assert_eq!(program.app.head().get(), 1);
    let peers = peers.lock().unwrap();
    let is_local = |peer: &Option<SocketAddr>| peer.is_some_and(|peer| peer.ip().is_loopback());
    assert!(!peers.is_empty() && peers.iter().all(is_local));
}

#[tokio::test]
async fn requests_streams_bodies_and_times_are_limited() {
    let store = MoodyStore::new();
    let program = Program::within(store.store(), |limits| {
        (limits.requests, limits.streams, limits.body_bytes) = (1, 1, 1_000);
    });
    let program = program.await;
    let long = "x".repeat(2_000);
    program.ask(&remark(&long)).await.problem(413, "too-large");
    let live = Request::get("/theatre/queries/how-many/live");
    let _stream = Events::open(program.address, &live).await;
    program.ask(&live).await.problem(503, "busy");
    store.set(Mood::Held);
    let mut first = program.begin("a1").await;
    store.held(1).await;
    program.get("/theatre/queries/how-many").await.problem(503, "busy");
    program.get("/theatre/health").await.ok();
    store.set(Mood::Well);
    first.response(true).await.unwrap().ok();
}

#[tokio::test]
async fn an_answer_has_a_limited_time() {
    let store = MoodyStore::new();
    let soon = Duration::from_millis(20);
    let program = Program::within(store.store(), |limits| limits.answer_time = soon).await;
    store.set(Mood::Held);
    program.ask(&take("a1")).await.problem(503, "outcome-unknown");
    store.set(Mood::Well);
}

#[tokio::test]
async fn a_stop_ends_streams_and_waits_for_commands_without_a_client() {
    let store = MoodyStore::new();
    let soon = Duration::from_millis(50);
    let program = Program::within(store.store(), |limits| limits.stop_time = soon).await;
    let live = Request::get("/theatre/queries/how-many/live");
    let mut live = Events::open(program.address, &live).await;
    let mut status = Events::open(program.address, &Request::get("/theatre/status/live")).await;
    live.next().await.unwrap();
    status.next().await.unwrap();
    store.set(Mood::Held);
    let connection = program.begin("a1").await;
    store.held(1).await;
    drop(connection);
    let Program { app, handle, stop, serving, .. } = program;
    drop(stop);
    while live.next().await.is_some() {}
    while status.next().await.is_some() {}
    tokio::time::timeout(LONG, serving).await.unwrap().unwrap().unwrap();
    assert!(!handle.commands_ended().await, "the command is still held up");
    store.set(Mood::Well);
    while !handle.commands_ended().await {}
    assert_eq!(app.head().get(), 1);
}

/// The handle is for the end only. A program that ends with its process may drop it.
#[tokio::test]
async fn streams_go_on_without_the_handle_and_a_stop_turns_readiness() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let (routes, handle) = theatre(app.clone()).host("localhost").into_router().unwrap();
    let stopping = handle.clone();
    drop(handle);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let mut live = Events::open(address, &Request::get("/queries/how-many/live")).await;
    live.next().await.unwrap();
    let mut connection = Connection::open(address).await;
    connection.ask(&Request::get("/ready")).await.ok();
    let take = Request::send("take-seat", json!({ "seat": "a1", "by": "ada" }));
    connection.ask(&take).await.ok();
    assert_eq!(Events::answer(&live.next().await.unwrap()), (1, json!(1)));
    stopping.stop();
    assert!(live.next().await.is_none());
    connection.ask(&Request::get("/ready")).await.problem(503, "stopping");
    connection.ask(&Request::get("/queries/how-many")).await.ok();
}

#[tokio::test]
async fn a_router_without_a_host_and_a_wrong_configuration_are_errors() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let error = theatre(app.clone()).into_router().unwrap_err();
    assert!(matches!(error, ServeError::NoHost), "{error}");
    assert!(error.to_string().contains("Server::host"), "{error}");
    let server = theatre(app).host("localhost").command::<crate::domain::Take>("Take Seat");
    assert!(matches!(server.into_router(), Err(ServeError::Declaration { .. })));
}
