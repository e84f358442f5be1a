//! Routes of another crate inside the door of a server.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Extension,
    extract::State,
    http::{Method, request::Parts},
    routing::{any, get, post},
};
use diptych::{App, Memory};
use diptych_server::{
    Caller, Denial, DeniedExtras, Mount, Operation, Problem, Server, ServerLimits, Visit,
    extract::{CommandBody, CommandHeaders, ReceiptResponse},
};
use serde_json::{Map, json};

use crate::{
    client::{LONG, Request},
    domain::Take,
    served::{TheatreServer, with_views},
    store::{Mood, MoodyStore},
};

async fn take(
    State(app): State<App>,
    headers: CommandHeaders,
    CommandBody(take): CommandBody<Take>,
) -> Result<ReceiptResponse, Problem> {
    headers.execute(&app, take).await
}

async fn fail() -> &'static str {
    panic!("a handler of the program")
}

fn mount() -> Mount {
    let operations = |parts: &Parts| match parts.uri.path() {
        "/seats" => vec![Operation::Command("take".into()), Operation::Query("seats".into())],
        _ => Vec::new(),
    };
    let paths = Map::from_iter([("/seats".to_owned(), json!({ "post": {} }))]);
    Mount::new(operations)
        .route("/seats", post(take))
        .route("/seats/{seat}/fail", get(fail))
        .documented(paths, Map::from_iter([("Seating".to_owned(), json!({}))]))
}

fn ask(seat: &str) -> Request {
    Request::post("/seats", json!({ "seat": seat, "by": "ada" }))
}

#[tokio::test]
async fn the_hook_is_asked_about_each_operation_and_names_the_caller() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let admit = move |visit: Visit| {
        noted.lock().unwrap().push(format!("{:?} {}", visit.operation, visit.path));
        let is_refused = visit.headers.contains_key("x-refused")
            && visit.operation == Operation::Query("seats".into());
        async move {
            match is_refused {
                true => Err(Denial::forbidden("no seats")),
                false => Ok(Caller::named("ann")),
            }
        }
    };
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let served = TheatreServer::of(app, |server| server.admit(admit).mount(mount())).await;
    served.ask(&ask("a1").header("x-refused", "1")).await.problem(403, "denied");
    assert_eq!(served.head(), 0);
    served.ask(&ask("a1")).await.ok();
    let told = ["Command(\"take\") /seats", "Query(\"seats\") /seats"];
    assert_eq!(*asked.lock().unwrap(), [told, told].concat());
    let filter = diptych::Filter::everything();
    let app = served.stop().await;
    let read = diptych_store::Read::after(diptych::Position::START);
    let events = app.store().read(&filter, read).await.unwrap();
    assert_eq!(events.iter().next().unwrap().metadata().actor.as_deref(), Some("ann"));
}

/// The closure forgets `HEAD`, and the methods of `any`.
fn forgetful() -> Mount {
    let operations = |parts: &Parts| match parts.method {
        Method::GET => vec![Operation::Query("secret".into())],
        Method::POST => vec![Operation::Command("whisper".into())],
        _ => Vec::new(),
    };
    let extras = |parts: &Parts| match parts.method {
        Method::GET => vec![Operation::Past("secret".into())],
        _ => Vec::new(),
    };
    let secret = async |Extension(denied): Extension<DeniedExtras>| {
        ([("x-denied", denied.0.len().to_string())], "the secret")
    };
    Mount::new(operations)
        .extras(extras)
        .route("/secret", get(secret).post(async || "whispered"))
        .route("/any", any(async || "the secret"))
}

#[tokio::test]
async fn a_request_with_head_is_admitted_as_one_with_get() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let admit = |visit: Visit| {
        let is_known = visit.headers.contains_key("x-user");
        async move {
            match (is_known, visit.operation) {
                (true, Operation::Query(_)) => Ok(Caller::named("ann")),
                _ => Err(Denial::forbidden("log in first")),
            }
        }
    };
    let served = TheatreServer::of(app, |server| server.admit(admit).mount(forgetful())).await;
    for method in ["GET", "HEAD"] {
        let request = Request::new(method, "/secret");
        let refused = served.ask(&request).await;
        assert_eq!((refused.status, refused.header("x-denied")), (403, None), "{method}");
        let admitted = served.ask(&request.header("x-user", "ann")).await;
        assert_eq!(admitted.status, 200, "{method}");
        assert_eq!(admitted.need("x-denied"), "1", "{method}");
    }
}

#[tokio::test]
async fn a_hook_lets_no_request_pass_that_has_no_operation() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let admit = async |_: Visit| Ok(Caller::named("ann"));
    let served = TheatreServer::of(app, |server| server.admit(admit).mount(forgetful())).await;
    assert_eq!(served.get("/any").await.text(), "the secret");
    served.ask(&Request::new("DELETE", "/any")).await.problem(403, "denied");
    let wrong = served.ask(&Request::new("DELETE", "/secret")).await;
    wrong.problem(405, "method");
    assert_eq!(wrong.need("allow"), "GET,HEAD,POST");
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let open = TheatreServer::of(app, |server| server.mount(forgetful())).await;
    assert_eq!(open.ask(&Request::new("DELETE", "/any")).await.text(), "the secret");
}

#[tokio::test]
async fn limits_panics_and_methods_are_those_of_the_server() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let mut limits = ServerLimits::default();
    limits.body_bytes = 60;
    let served = TheatreServer::of(app, |server| server.limits(limits).mount(mount())).await;
    served.ask(&ask(&"a".repeat(100))).await.problem(413, "too-large");
    served.get("/seats/a1/fail").await.problem(500, "mistake");
    served.get("/seats").await.problem(405, "method");
    served.ask(&ask("a1").header("host", "evil.example")).await.problem(403, "host");
    served.ask(&ask("a1")).await.ok();
    let document = served.get("/openapi.json").await.ok();
    assert!(document["paths"]["/seats"]["post"].is_object());
    assert!(document["components"]["schemas"]["Seating"].is_object());
}

/// The client is gone, so no connection is left to wait for.
#[tokio::test]
async fn a_stop_waits_for_commands_without_a_client() {
    let store = MoodyStore::new();
    let app = with_views(App::over(store.store())).start().await.unwrap();
    let served = TheatreServer::of(app, |server| server.mount(mount())).await;
    store.set(Mood::Held);
    let mut connection = served.connect().await;
    connection.write(ask("a1").bytes()).await;
    store.held(1).await;
    drop(connection);
    let (app, mut serving) = served.end();
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut serving).await.is_err());
    store.set(Mood::Well);
    tokio::time::timeout(LONG, serving).await.unwrap().unwrap().unwrap();
    assert_eq!(app.head().get(), 1);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn routes_that_contradict_each_other_are_a_mistake_of_the_program() {
    let app = App::over(Memory::new()).start().await.unwrap();
    let refused = |mounts: [Mount; 2]| {
        let server = Server::new(app.clone()).host("localhost");
        let server = mounts.into_iter().fold(server, Server::mount);
        server.into_router().map(drop).unwrap_err().to_string()
    };
    let with = |path: &str| Mount::new(|_| Vec::new()).route(path, get(fail));
    assert!(refused([with("/a/{b}"), with("/a/{c}")]).contains("/a/{c}"));
    assert!(refused([with("/queries/a"), with("/a")]).contains("/queries/a"));
    assert!(refused([with("a"), with("/a")]).contains("begin with a slash"));
    assert!(refused([with("/a/{b}/c"), with("/a/{x}/d")]).contains("give both one name"));
    assert!(refused([with("/a/{b}"), with("/a/{*rest}")]).contains("give both one name"));
    for old in ["/a/:b", "/a/*b", "/:a/b", "/a/{b", "/a/{}", "/a/{b}c", "/a/{*b}/c", "/a/{{b}}"] {
        let problem = refused([with("/c"), with(old)]);
        assert!(problem.contains(old) && problem.contains("write each parameter"), "{problem}");
    }
    let schema = |kind: &str| {
        let schemas = Map::from_iter([("A".to_owned(), json!({ "type": kind }))]);
        with(&format!("/{kind}")).documented(Map::new(), schemas)
    };
    assert!(refused([schema("string"), schema("number")]).contains("schema name A"));
    app.stop().await.unwrap();
}
