#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;

use std::{net::SocketAddr, time::Duration};

use axum::{
    body::Body,
    http::{Request, StatusCode, Version, header},
};
use diptych::{App, Filter, Memory};
use diptych_server::StopHandle;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tower::ServiceExt;

use self::client::{Ask, Certificate, Client, LiveAnswers};
use crate::{
    routes::{Users, routes, start},
    serve::{ConnectionLimits, HttpsServer, acceptor},
};

/// Nothing here takes as long as this.
const LONG: Duration = Duration::from_secs(60);
const PROTOCOLS: [(&str, Version); 2] = [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)];

struct Program {
    app: App,
    address: SocketAddr,
    certificate: Certificate,
    handle: StopHandle,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

fn users() -> Users {
    Users::new([("secret".to_owned(), "ada".to_owned())].into())
}

impl Program {
    async fn new(limits: ConnectionLimits) -> Program {
        let certificate = Certificate::new("localhost");
        let tls = acceptor(vec![certificate.der()], certificate.key()).unwrap();
        let app = start(App::over(Memory::new())).await.unwrap();
        let (routes, handle) = routes(app.clone(), "localhost", users()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = HttpsServer { tls, routes, handle: handle.clone(), limits };
        let serving = tokio::spawn(server.serve(listener, async move { drop(stopped.await) }));
        Program { app, address, certificate, handle, stop, serving }
    }

    async fn connect(&self, protocol: &str) -> Client {
        Client::connect(self.address, &self.certificate, protocol).await
    }

    /// A client can send a command, whatever others do.
    async fn answers(&self, parcel: &str) {
        for (protocol, _) in PROTOCOLS {
            let parcel = format!("{parcel} over {protocol}");
            let (status, body) = self.connect(protocol).await.json(&bring(&parcel)).await;
            assert_eq!(status, StatusCode::OK, "{body}");
        }
    }
}

fn bring(parcel: &str) -> Ask {
    let body = json!({ "parcel": parcel }).to_string();
    let ask = Ask::new("POST", "/api/commands/bring").body(body);
    ask.header("authorization", "Bearer secret").header("content-type", "application/json")
}

#[tokio::test]
async fn both_protocols_execute_commands_ask_queries_and_watch() {
    for (protocol, version) in PROTOCOLS {
        let program = Program::new(ConnectionLimits::default()).await;
        let mut client = program.connect(protocol).await;
        assert_eq!(client.negotiated, protocol);
        let live = Ask::new("GET", "/api/queries/how-many/live");
        // HTTP/2 sends it on the same connection.
        let mut watcher = match client.beside() {
            Some(beside) => beside,
            None => program.connect(protocol).await,
        };
        let mut answers = LiveAnswers::of(watcher.send(&live).await);
        assert_eq!(answers.next().await, json!(0));

        let response = client.send(&bring("p1")).await;
        assert_eq!((response.status(), response.version()), (StatusCode::OK, version));
        assert!(response.headers().contains_key("x-request-id"), "the layer of the program");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let receipt: Value = serde_json::from_slice(&body).unwrap();
        let after = receipt["receipt"].as_str().unwrap();
        let count = Ask::new("GET", &format!("/api/queries/how-many?_after={after}"));
        assert_eq!(client.json(&count).await, (StatusCode::OK, json!(1)));
        assert_eq!(answers.next().await, json!(1));

        let (status, problem) = client.json(&bring("p1")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(problem["type"], "urn:diptych:rejected");
    }
}

#[tokio::test]
async fn the_layer_names_the_actor_and_the_server_the_address() {
    let program = Program::new(ConnectionLimits::default()).await;
    for (protocol, _) in PROTOCOLS {
        let mut client = program.connect(protocol).await;
        let unnamed = Ask::new("POST", "/api/commands/bring").body(r#"{"parcel":"p"}"#);
        // The client cannot name itself.
        let unnamed = unnamed.header("content-type", "application/json").header("x-user", "eve");
        for token in ["", "Bearer wrong"] {
            let (status, problem) =
                client.json(&unnamed.clone().header("authorization", token)).await;
            assert_eq!(
                (status, &problem["detail"]),
                (StatusCode::UNAUTHORIZED, &json!("log in first"))
            );
        }
        client.json(&bring(protocol).header("x-user", "eve")).await;
    }
    let read = diptych::store::Read::all();
    let events = program.app.store().read(&Filter::everything(), read).await.unwrap();
    assert_eq!(events.len(), PROTOCOLS.len());
    for at in 0..events.len() {
        let metadata = events.get(at).unwrap().metadata();
        assert_eq!(metadata.actor.as_deref(), Some("ada"));
        assert_eq!(metadata.extra.get("address").map(|text| text.as_str()), Some("127.0.0.1"));
    }
}

/// HTTP/2 has no header `Host`: the host is the authority of the address.
#[tokio::test]
async fn the_host_is_checked_in_both_protocols() {
    let program = Program::new(ConnectionLimits::default()).await;
    for (protocol, _) in PROTOCOLS {
        let mut client = program.connect(protocol).await;
        let count = Ask::new("GET", "/api/queries/how-many");
        for host in ["localhost", "localhost:8443"] {
            assert_eq!(client.json(&count.clone().host(host)).await, (StatusCode::OK, json!(0)));
        }
        let (status, problem) = client.json(&count.host("evil.example")).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{protocol}");
        assert_eq!(problem["type"], "urn:diptych:host");
    }
}

#[tokio::test]
async fn a_client_without_tls_is_refused() {
    let program = Program::new(ConnectionLimits::default()).await;
    let mut plain = TcpStream::connect(program.address).await.unwrap();
    let request = b"GET /api/health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    plain.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // The server sends an alert of TLS and closes.
    let read = timeout(LONG, plain.read_to_end(&mut answer)).await;
    drop(read.expect("the server keeps the connection"));
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    program.answers("after").await;
}

#[tokio::test]
async fn unfinished_handshakes_do_not_stop_others() {
    let program = Program::new(ConnectionLimits::default()).await;
    let mut unfinished = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(program.address).await.unwrap();
        // The first bytes of a handshake.
        stream.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
        unfinished.push(stream);
    }
    program.answers("beside").await;
}

#[tokio::test]
async fn a_connection_without_a_handshake_or_a_request_is_closed() {
    let soon = Duration::from_millis(100);
    let limits = ConnectionLimits { handshake_time: soon, ..ConnectionLimits::default() };
    let program = Program::new(limits).await;
    let mut stream = TcpStream::connect(program.address).await.unwrap();
    let closed = timeout(LONG, stream.read(&mut [0; 64])).await;
    assert!(matches!(closed.expect("the handshake has no limit"), Ok(0) | Err(_)));

    let limits = ConnectionLimits { head_time: soon, ..ConnectionLimits::default() };
    let program = Program::new(limits).await;
    for (protocol, _) in PROTOCOLS {
        let mut silent = program.certificate.handshake(program.address, protocol).await;
        let closed = timeout(LONG, silent.read_to_end(&mut Vec::new())).await;
        drop(closed.expect("a connection without a request has no limit"));
    }
}

#[tokio::test]
async fn a_stop_ends_streams_and_connections() {
    for (protocol, _) in PROTOCOLS {
        let program = Program::new(ConnectionLimits::default()).await;
        let mut client = program.connect(protocol).await;
        let live = Ask::new("GET", "/api/queries/how-many/live");
        let mut answers = LiveAnswers::of(client.send(&live).await);
        assert_eq!(answers.next().await, json!(0));
        let _idle = program.connect(protocol).await;
        drop(program.stop);
        answers.ends().await;
        timeout(LONG, program.serving).await.expect("the server does not stop").unwrap();
        assert!(program.handle.commands_ended().await);
        program.app.stop().await.unwrap();
    }
}

#[tokio::test]
async fn the_routes_are_tested_without_a_socket() {
    let app = start(App::over(Memory::new())).await.unwrap();
    let (routes, _handle) = routes(app, "localhost", users()).unwrap();
    let ask = async |request: axum::http::request::Builder, body: &'static str| {
        let request = request.header(header::HOST, "localhost").body(Body::from(body)).unwrap();
        let response = routes.clone().oneshot(request).await.unwrap();
        assert!(response.headers().contains_key("x-request-id"));
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    };
    let bring = Request::post("/api/commands/bring")
        .header("authorization", "Bearer secret")
        .header("content-type", "application/json");
    let (status, _) = ask(bring, r#"{"parcel":"p1"}"#).await;
    assert_eq!(status, StatusCode::OK);
    let count = Request::get("/api/queries/how-many?_consistency=strong");
    assert_eq!(ask(count, "").await, (StatusCode::OK, "1".into()));
    assert_eq!(ask(Request::get("/"), "").await, (StatusCode::OK, "the depot".into()));
}
