//! Hosts, origins, the hook, and headers for browsers.

use diptych::{App, Memory};
use diptych_server::{Caller, Denial, Operation, ServeError, Visit};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    client::{Connection, Request},
    domain::{LARGE, theatre},
    served::{TheatreServer, with_views},
};

const TAKE: &str = r#"{"seat":"a1","by":"ada"}"#;

async fn admitting<F>(admit: fn(Visit) -> F) -> TheatreServer
where
    F: Future<Output = Result<Caller, Denial>> + Send + 'static,
{
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    TheatreServer::of(app, |server| server.admit(admit)).await
}

/// The owner of a page can let its name point to this machine.
#[tokio::test]
async fn requests_for_another_host_are_refused() {
    let served = TheatreServer::new().await;
    for host in ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example"] {
        for request in [Request::get("/queries/seats"), Request::send("take-seat", TAKE)] {
            served.ask(&request.header("host", host)).await.problem(403, "host");
        }
    }
    for host in ["localhost", "localhost:99", "127.0.0.1", "[::1]:80", "LOCALHOST"] {
        served.ask(&Request::get("/health").header("host", host)).await.ok();
    }
    let twice = Request::get("/health").header("host", "localhost").header("host", "localhost");
    served.ask(&twice).await.problem(400, "host");
    served.ask(&Request::get("/health").header("host", "local host")).await.problem(400, "host");
    let target = Request::get("http://evil.example/health");
    served.ask(&target).await.problem(403, "host");
    let mut connection = served.connect().await;
    connection.write("GET /health HTTP/1.1\r\n\r\n").await;
    connection.response(true).await.unwrap().problem(400, "host");
    assert_eq!(served.head(), 0);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let served = TheatreServer::of(app, |server| server.origin("https://friend.example")).await;
    let from = |origin: &str| {
        let request = Request::send("remark", r#"{"text":"x"}"#).header("host", "localhost:80");
        request.header("origin", origin)
    };
    for origin in ["https://evil.example", "null", "http://localhost:81", "https://localhost"] {
        served.ask(&from(origin)).await.problem(403, "host");
    }
    let preflight = Request::new("OPTIONS", "/commands/remark");
    served.ask(&preflight.header("origin", "https://evil.example")).await.problem(403, "host");
    assert_eq!(served.head(), 0);
    for origin in ["http://localhost:80", "https://friend.example"] {
        served.ask(&from(origin)).await.ok();
    }
}

async fn guarded(visit: Visit) -> Result<Caller, Denial> {
    assert!(visit.peer.is_some_and(|peer| peer.ip().is_loopback()));
    let name = visit.headers.get("x-user").and_then(|name| name.to_str().ok());
    match (visit.operation, name) {
        (Operation::File, _) => Ok(Caller::anonymous()),
        (_, None) => Err(Denial::unknown("say who you are", "Bearer")),
        (Operation::Command(command), Some("guest")) if command != "remark" => {
            Err(Denial::forbidden(format!("guests may not {command}")))
        }
        (Operation::Query(query), Some("guest")) if query == "who-sits" => {
            Err(Denial::forbidden("that is private"))
        }
        (Operation::Explain(_), Some("guest")) => Err(Denial::forbidden("guests see no events")),
        (Operation::Status, Some("guest")) => Err(Denial::forbidden("guests see no status")),
        (_, Some("broken")) => panic!("the hook is broken"),
        (_, Some(name)) => Ok(Caller::named(name)),
    }
}

#[tokio::test]
async fn the_hook_is_asked_for_each_command_and_query() {
    let served = admitting(guarded).await;
    let targets = [
        "/queries/seats",
        "/queries/nothing",
        "/queries/seats/explanation",
        "/queries/how-many/live",
        "/status",
        "/status/live",
        "/metrics",
        "/catalogue",
        "/openapi.json",
    ];
    for target in targets {
        let response = served.get(target).await;
        response.problem(401, "denied");
        assert_eq!(response.need("www-authenticate"), "Bearer");
    }
    for target in ["/health", "/ready", "/"] {
        assert_eq!(served.get(target).await.status, 200, "{target}");
    }
    let guest = |request: Request| request.header("x-user", "guest");
    let take = Request::send("take-seat", TAKE);
    let denied = served.ask(&guest(take.clone())).await.problem(403, "denied");
    assert_eq!(denied["detail"], "guests may not take-seat");
    served.ask(&guest(Request::send("remark", r#"{"text":"x"}"#))).await.ok();
    served.ask(&guest(Request::get("/queries/seats"))).await.ok();
    let explanation = || Request::get("/queries/seats/explanation");
    let denied = served.ask(&guest(explanation())).await.problem(403, "denied");
    assert_eq!(denied["detail"], "guests see no events");
    served.ask(&explanation().header("x-user", "ada")).await.ok();
    // The explanation of a query that may not be asked is denied by that.
    let private = Request::get("/queries/who-sits/explanation?seat=a1");
    let denied = served.ask(&guest(private)).await.problem(403, "denied");
    assert_eq!(denied["detail"], "that is private");
    served.ask(&guest(Request::get("/queries/who-sits?seat=a1"))).await.problem(403, "denied");
    served.ask(&guest(Request::get("/status"))).await.problem(403, "denied");
    served.ask(&take.clone()).await.problem(401, "denied");
    assert_eq!(served.head(), 1);
    served.ask(&take.header("x-user", "ada")).await.ok();
    // A hook that panics admits no caller.
    let broken = Request::send("remark", r#"{"text":"x"}"#).header("x-user", "broken");
    served.ask(&broken).await.problem(500, "mistake");
    assert_eq!(served.head(), 2);
}

#[tokio::test]
async fn a_server_that_other_machines_reach_needs_a_host() {
    let serve = async |address: &str, host: Option<&str>| {
        let app = with_views(App::over(Memory::new())).start().await.unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = host.into_iter().fold(theatre(app), |server, host| server.host(host));
        (address, server.serve(listener, std::future::ready(())).await)
    };
    let (address, refused) = serve("0.0.0.0:0", None).await;
    let Err(ServeError::NotLoopback { address: at }) = &refused else { panic!("{refused:?}") };
    assert_eq!(*at, address);
    assert!(serve("0.0.0.0:0", Some("theatre.example")).await.1.is_ok());
    assert!(serve("127.0.0.1:0", None).await.1.is_ok());
    // Named, it is asked by that name alone.
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = theatre(app).host("theatre.example");
    let serving = tokio::spawn(server.serve(listener, std::future::pending()));
    for (host, status) in [("theatre.example", 200), ("localhost", 403), ("127.0.0.1", 403)] {
        let mut connection = Connection::open(([127, 0, 0, 1], port).into()).await;
        let asked = connection.ask(&Request::get("/health").header("host", host)).await;
        assert_eq!(asked.status, status, "{host}");
    }
    serving.abort();
}

#[tokio::test]
async fn a_wrong_configuration_is_an_error_at_the_start() {
    type Declare = fn(diptych_server::Server) -> diptych_server::Server;
    let wrong: [(Declare, &str); 7] = [
        (|server| server.command::<crate::domain::Take>("take-seat"), "two commands"),
        (|server| server.query::<crate::domain::Seats>("seats"), "two queries"),
        (|server| server.query::<crate::domain::Seats>("Seats"), "is no name"),
        (|server| server.query::<Hidden>("hidden"), "_secret"),
        (|server| server.file("page.js", "text/javascript", b""), "slash"),
        (|server| server.file("/queries/x", "text/plain", b""), "no route may have it"),
        (|server| server.file("/x", "text/\n", b""), "content type"),
    ];
    for (declare, says) in wrong {
        let app = with_views(App::over(Memory::new())).start().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let served = declare(theatre(app)).serve(listener, std::future::ready(())).await;
        let Err(ServeError::Declaration { problem }) = served else { panic!("{says}") };
        assert!(problem.contains(says), "{problem}");
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Hidden {
    #[serde(rename = "_secret")]
    secret: Option<u8>,
}

impl diptych::Query for Hidden {
    type View = crate::domain::Plan;
    type Answer = Option<u8>;

    fn answer(&self, _: &crate::domain::Plan) -> Option<u8> {
        self.secret
    }
}

#[tokio::test]
async fn files_have_a_policy_and_a_cached_file_is_not_sent_again() {
    let served = TheatreServer::new().await;
    let page = served.get("/").await;
    assert_eq!(
        (page.status, page.need("content-type").as_str()),
        (200, "text/html; charset=utf-8")
    );
    let policy = page.need("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(page.need(name), value);
        assert_eq!(served.get("/status").await.need(name), value);
    }
    let tag = page.need("etag");
    let strong = tag.trim_start_matches("W/").to_owned();
    for known in [tag.clone(), strong, format!("\"x\", {tag}"), "*".to_owned()] {
        let same = served.ask(&Request::get("/").header("if-none-match", &known)).await;
        assert_eq!((same.status, same.need("etag")), (304, tag.clone()), "{known}");
    }
    for other in ["\"x\"", "kö", ""] {
        let other = served.ask(&Request::get("/").header("if-none-match", other)).await;
        assert_eq!((other.status, other.body.is_empty()), (200, false));
    }
    let head = served.ask(&Request::new("HEAD", "/large.txt")).await;
    assert_eq!((head.status, head.need("content-length")), (200, LARGE.len().to_string()));
}

#[tokio::test]
async fn a_path_cannot_lead_outside_the_named_files() {
    let served = TheatreServer::new().await;
    for path in [
        "/../Cargo.toml",
        "/..%2fCargo.toml",
        "/%2e%2e/Cargo.toml",
        "//large.txt",
        "/large.txt/",
        "/./large.txt",
        "/large.txt%00",
        "/%FF",
        "/etc/passwd",
        "/commands/../large.txt",
    ] {
        let response = served.get(path).await;
        response.problem(404, "unknown");
        assert!(!response.text().contains("[package]"));
    }
    served.get("/large.txt?x=../").await.need("etag");
    let detail = served.get("/%3Cscript%3E").await.problem(404, "unknown");
    assert_eq!(detail["detail"], json!("there is nothing at \"/%3Cscript%3E\": see the catalogue"));
}
