//! The door of the log: tokens, limits, and peers that send nonsense.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::Request,
};
use diptych_remote::{
    RemoteStore,
    wire::messages::{
        AppendRequest, DescribeRequest, OpenSession, ReadRequest, SubscribeRequest, WatchRequest,
        call_reply::Outcome,
    },
};
use diptych_server::{LogServer, MissingProtection, ServeError, ServerLimits, TokenScope};
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tonic::Code;

use crate::door_server::{DoorServer, Tokens, call, fill, in_time, options};

const READ: [TokenScope; 1] = [TokenScope::Read];
const APPEND: [TokenScope; 1] = [TokenScope::Append];

#[tokio::test]
async fn every_call_needs_a_token_that_the_server_knows() {
    let server = DoorServer::start(|log| log.token("known", READ)).await;
    for (token, code) in [("known", None), ("other", Some(Code::Unauthenticated))] {
        let mut log = server.client(token).await;
        let described = in_time(log.describe(DescribeRequest::default())).await;
        assert_eq!(described.err().map(|status| status.code()), code, "{token}");
        let watched = in_time(log.watch(WatchRequest::default())).await;
        assert_eq!(watched.err().map(|status| status.code()), code, "{token}");
    }
    for target in ["/v1/logs/log", "/v1/logs/log/events", "/metrics", "/v1/openapi.json"] {
        let answer = server.get(target).await;
        answer.problem(401, "denied");
        assert_eq!(answer.headers["www-authenticate"], "Bearer", "{target}");
    }
    for target in ["/health", "/ready"] {
        server.get(target).await.ok();
    }
    let request = Request::get("/v1/logs/log").header("authorization", "Bearer known");
    server.ask(request.body(String::new()).unwrap()).await.ok();
    server.stop().await;
}

#[tokio::test]
async fn a_token_allows_the_calls_of_its_scopes_only() {
    let server = DoorServer::start(|log| log.token("r", READ).token("a", APPEND)).await;
    let (mut reader, mut writer) = (server.client("r").await, server.client("a").await);
    let status = in_time(reader.commit(call(1))).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("scope append"), "{status}");
    in_time(writer.commit(call(1))).await.unwrap();
    let status = in_time(writer.read(ReadRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    in_time(reader.read(ReadRequest::default())).await.unwrap();
    let ask = async |target: &str, token: &str| {
        let request = Request::get(target).header("authorization", format!("Bearer {token}"));
        server.ask(request.body(String::new()).unwrap()).await
    };
    ask("/v1/logs/log/events", "r").await.ok();
    ask("/v1/logs/log/events", "a").await.problem(403, "denied");
    ask("/metrics", "r").await.problem(403, "denied");
    let request = Request::post("/v1/logs/log/events").header("authorization", "Bearer r");
    server.ask(request.body("{}".to_owned()).unwrap()).await.problem(403, "denied");
}

#[tokio::test]
async fn a_store_says_that_its_token_is_wrong() {
    let server = DoorServer::start(|log| log.token("known", READ)).await;
    let address = format!("diptych://{}", server.address);
    let error = in_time(RemoteStore::connect(&address, options("other"))).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("does not know the token"), "{error}");
    in_time(RemoteStore::connect(&address, options("known"))).await.unwrap();
}

#[tokio::test]
async fn a_revoked_token_ends_its_streams() {
    let tokens = Tokens::new();
    let token = tokens.issue("shop", READ);
    let server = DoorServer::start(|log| log.token_file(tokens.path()).unwrap()).await;
    let mut log = server.client(&token).await;
    let subscribed = in_time(log.subscribe(SubscribeRequest::default())).await;
    let mut deliveries = subscribed.unwrap().into_inner();
    in_time(deliveries.message()).await.unwrap().expect("it caught up");
    let events = Request::get("/v1/logs/log/events")
        .header("authorization", format!("Bearer {token}"))
        .header("accept", "text/event-stream");
    let events = server.ask(events.body(String::new()).unwrap());
    let revoke = async {
        let status = async {
            loop {
                match deliveries.message().await {
                    Ok(message) => assert!(message.is_some(), "a stream ends with its reason"),
                    Err(status) => return status,
                }
            }
        };
        tokens.revoke("shop");
        in_time(status).await
    };
    let (events, status) = tokio::join!(events, revoke);
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    let events = String::from_utf8_lossy(&events.body).into_owned();
    assert!(events.contains("event: caught-up") && events.contains("event: problem"), "{events}");
    let status = in_time(log.describe(DescribeRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

/// A revoked token cuts a stream of appends off. The calls that were read are executed, and their
/// outcomes wait for the client's next token.
#[tokio::test]
async fn the_outcomes_of_a_cut_off_append_stream_wait_for_the_next_token() {
    let tokens = Tokens::new();
    let (old, new) = (tokens.issue("old", APPEND), tokens.issue("new", APPEND));
    let server = DoorServer::start(|log| log.token_file(tokens.path()).unwrap()).await;
    let open = OpenSession { session: vec![7; 16], identity: None };
    let messages = [
        AppendRequest { open: Some(open), ..AppendRequest::default() },
        AppendRequest { calls: vec![call(1)], ..AppendRequest::default() },
    ];
    let (requests, mut waiting) = mpsc::channel(4);
    for message in &messages {
        requests.send(message.clone()).await.unwrap();
    }
    let sending = stream::poll_fn(move |context| waiting.poll_recv(context));
    let mut log = server.client(&old).await;
    let mut replies = in_time(log.append(sending)).await.unwrap().into_inner();
    assert!(in_time(replies.message()).await.unwrap().unwrap().opened.is_some());
    let first = in_time(replies.message()).await.unwrap().unwrap();
    assert_eq!(first.replies[0].number, 1);
    tokens.revoke("old");
    let status = async {
        loop {
            if let Err(status) = replies.message().await {
                return status;
            }
        }
    };
    assert_eq!(in_time(status).await.code(), Code::Unauthenticated);
    let mut log = server.client(&new).await;
    let mut replies = in_time(log.append(stream::iter(messages))).await.unwrap().into_inner();
    let opened = in_time(replies.message()).await.unwrap().unwrap().opened.unwrap();
    assert!(opened.resumed, "the session was kept");
    let again = in_time(replies.message()).await.unwrap().unwrap();
    let Some(Outcome::Accepted(accepted)) = again.replies[0].outcome else { panic!("{again:?}") };
    assert_eq!((accepted.first, server.store.head().position().get()), (1, 1), "executed once");
    drop(requests);
}

#[tokio::test]
async fn a_token_file_that_cannot_be_used_revokes_nothing() {
    let tokens = Tokens::new();
    let token = tokens.issue("shop", READ);
    let server = DoorServer::start(|log| log.token_file(tokens.path()).unwrap()).await;
    let mut log = server.client(&token).await;
    let whole = std::fs::read(tokens.path()).unwrap();
    for broken in [&b""[..], b"version = 2", &whole[..whole.len() / 2]] {
        std::fs::write(tokens.path(), broken).unwrap();
        // Long enough for the server to see it; too short on a slow machine proves less.
        tokio::time::sleep(Duration::from_millis(500)).await;
        in_time(log.describe(DescribeRequest::default())).await.unwrap();
    }
    std::fs::write(tokens.path(), "version = 1").unwrap();
    let refused = async {
        while log.describe(DescribeRequest::default()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time(refused).await;
}

#[tokio::test]
async fn other_machines_reach_a_log_only_with_encryption_and_tokens() {
    let serve = async |configure: fn(LogServer) -> LogServer| {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let store = diptych::store::Store::new(diptych::store::Memory::new());
        configure(LogServer::new(store)).serve(listener, async {}).await
    };
    let Err(ServeError::Unprotected { missing, .. }) = serve(|log| log).await else {
        panic!("it is served")
    };
    assert_eq!(missing, MissingProtection::EncryptionAndTokens);
    let error = serve(|log| log.token("t", READ)).await.unwrap_err();
    let missing = "it has no encryption: set that with `LogServer::tls`";
    assert!(error.to_string().contains(missing), "{error}");
    serve(|log| log.open_to_all()).await.unwrap();
}

fn limits(change: impl FnOnce(&mut ServerLimits)) -> ServerLimits {
    let mut limits = ServerLimits::default();
    change(&mut limits);
    limits
}

#[tokio::test]
async fn streams_are_limited_and_give_their_place_back() {
    let one = limits(|limits| limits.streams = 1);
    let server = DoorServer::start(|log| log.limits(one)).await;
    let mut log = server.client("any").await;
    let first = in_time(log.watch(WatchRequest::default())).await.unwrap();
    let status = in_time(log.subscribe(SubscribeRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("limit of open live streams"), "{status}");
    in_time(log.describe(DescribeRequest::default())).await.unwrap();
    drop(first);
    let opened = async {
        while log.watch(WatchRequest::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time(opened).await;
}

#[tokio::test]
async fn requests_of_one_peer_are_limited() {
    let none = limits(|limits| limits.peer_requests = 0);
    let server = DoorServer::start(|log| log.limits(none)).await;
    let status = in_time(server.client("any").await.describe(DescribeRequest::default())).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("of one address"), "{status}");
    server.get("/v1/logs/log").await.problem(503, "busy");
    server.get("/health").await.ok();
}

#[tokio::test]
async fn a_read_that_takes_long_counts_as_a_stream() {
    let no_streams = limits(|limits| {
        (limits.streams, limits.answer_time) = (0, Duration::from_millis(500));
    });
    let server = DoorServer::start(|log| log.limits(no_streams)).await;
    fill(&server.store, 8, 100 << 10).await;
    in_time(server.client("any").await.read(ReadRequest::default())).await.unwrap();
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.initial_stream_window_size(1_024);
    let (mut sender, connection) = in_time(http.handshake(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = grpc("Read", framed(0, 0, b""));
    let body = in_time(sender.send_request(request)).await.unwrap().into_body();
    // The window is smaller than the answer, so the server waits for this client.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let body = in_time(body.collect()).await.unwrap();
    let trailers = body.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], (Code::Unavailable as i32).to_string());
}

#[tokio::test]
async fn a_stream_ends_after_its_longest_time() {
    let short = limits(|limits| limits.stream_time = Duration::from_millis(50));
    let server = DoorServer::start(|log| log.limits(short)).await;
    let mut heads = server.client("any").await.watch(WatchRequest::default()).await.unwrap();
    let status = async {
        loop {
            if let Err(status) = heads.get_mut().message().await {
                return status;
            }
        }
    };
    let status = in_time(status).await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("open it again"), "{status}");
}

/// A call of gRPC with this message, which a server with another idea of gRPC could send.
fn grpc(call: &str, message: impl Into<Bytes>) -> Request<Body> {
    Request::post(format!("http://localhost/diptych.v1.Log/{call}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::from(message.into()))
        .unwrap()
}

fn grpc_status(answer: &crate::door_server::Answer, trailers: &axum::http::HeaderMap) -> String {
    let status = answer.headers.get("grpc-status").or_else(|| trailers.get("grpc-status"));
    status.unwrap_or_else(|| panic!("no status: {answer:?}")).to_str().unwrap().to_owned()
}

/// A message of gRPC: whether it is compressed, its length, and its bytes.
fn framed(is_compressed: u8, length: u32, bytes: &[u8]) -> Vec<u8> {
    [&[is_compressed][..], &length.to_be_bytes(), bytes].concat()
}

#[tokio::test]
async fn messages_that_are_wrong_get_a_status_and_the_server_goes_on() {
    let server = DoorServer::start(|log| log).await;
    let unimplemented = "12";
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut bomb, &vec![0; 32 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 64 << 10);
    let bomb = framed(1, u32::try_from(bomb.len()).unwrap(), &bomb);
    let mut compressed = grpc("Commit", bomb);
    compressed.headers_mut().insert("grpc-encoding", "gzip".parse().unwrap());
    for (what, request, code) in [
        ("a compressed message", compressed, Some(unimplemented)),
        ("an unknown call", grpc("Delete", framed(0, 0, b"")), Some(unimplemented)),
        ("a message above the limit", grpc("Commit", framed(0, 65 << 20, b"")), Some("11")),
        ("no message", grpc("Commit", Vec::new()), None),
        ("half a message", grpc("Commit", framed(0, 100, b"half")), None),
        ("half a length", grpc("Commit", vec![0, 0, 0]), None),
        ("another encoding", grpc("Commit", framed(0, 4, b"\xff\xff\xff\xff")), None),
        ("a wrong flag", grpc("Commit", framed(9, 0, b"")), None),
    ] {
        let (answer, trailers) = server.ask_http2(request).await;
        let status = grpc_status(&answer, &trailers);
        assert!(status != "0" && code.is_none_or(|code| code == status), "{what}: {status}");
    }
    assert_eq!(server.store.head().position().get(), 0);
    in_time(server.client("any").await.commit(call(1))).await.unwrap();
}

#[tokio::test]
async fn a_call_in_another_form_than_grpc_is_a_problem() {
    let server = DoorServer::start(|log| log).await;
    for content_type in ["application/json", "application/grpcx", "text/plain"] {
        let mut request = grpc("Commit", framed(0, 0, b""));
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        let (answer, _) = server.ask_http2(request).await;
        answer.problem(415, "content-type");
    }
    let old = Request::post("/diptych.v1.Log/Commit").header("content-type", "application/grpc");
    server.ask(old.body(String::new()).unwrap()).await.problem(415, "content-type");
}

#[tokio::test]
async fn garbage_on_the_port_closes_its_connection_only() {
    let server = DoorServer::start(|log| log).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let frame = |bytes: &[u8]| [&preface[..], &settings, bytes].concat();
    for (what, bytes) in [
        ("noise", vec![0xff; 100]),
        ("half a preface", preface[..10].to_vec()),
        ("a wrong preface", b"PRI * HTTP/9.9\r\n\r\nSM\r\n\r\n".to_vec()),
        ("a frame above the limit", frame(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])),
        ("data before a head", frame(&[0, 0, 1, 0, 0, 0, 0, 0, 1, 7])),
        ("half a frame", frame(&[0, 0, 9, 1, 4, 0, 0, 0, 1, 1])),
        ("headers that do not decode", frame(&[0, 0, 2, 1, 4, 0, 0, 0, 1, 0xff, 0xff])),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = in_time(stream.read_to_end(&mut answer)).await;
        in_time(server.client(what).await.describe(DescribeRequest::default())).await.unwrap();
    }
}

/// A client can answer pings and still take nothing of an answer.
#[tokio::test]
async fn a_client_that_takes_nothing_of_an_answer_is_disconnected() {
    let short = limits(|limits| limits.write_time = Duration::from_millis(100));
    let server = DoorServer::start(|log| log.limits(short)).await;
    fill(&server.store, 8, 100 << 10).await;
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.initial_stream_window_size(1_024).initial_connection_window_size(1 << 20);
    let (mut sender, connection) = in_time(http.handshake(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = grpc("Subscribe", framed(0, 0, b""));
    let response = in_time(sender.send_request(request)).await.unwrap();
    let body = response.into_body();
    // The sender stays open, so only the server ends the connection.
    in_time(connection).await.unwrap().ok();
    assert!(in_time(body.collect()).await.is_err(), "the answer was cut off");
    in_time(server.client("any").await.describe(DescribeRequest::default())).await.unwrap();
}
