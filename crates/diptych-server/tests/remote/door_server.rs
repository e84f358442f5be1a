//! A server with a configuration of its own, and clients that send what a test wants.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Request, StatusCode},
};
use diptych::store::{Append, Memory, RawEvent, Store, Tag};
use diptych_remote::{
    RemoteOptions,
    wire::messages::{Call, Event, log_client::LogClient},
};
use diptych_server::{LogServer, TokenFile, TokenScope};
use http_body_util::BodyExt;
use hyper::{
    client::conn::{http1, http2},
    server,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tonic::{
    Status,
    metadata::{Ascii, MetadataValue},
    service::interceptor::InterceptedService,
    transport::Channel,
};

/// Nothing here takes as long as this.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A server in the runtime of the test.
pub(crate) struct DoorServer {
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl DoorServer {
    /// Serves an empty log in memory.
    pub(crate) async fn start(configure: impl FnOnce(LogServer) -> LogServer) -> DoorServer {
        DoorServer::over(Store::new(Memory::new()), configure).await
    }

    pub(crate) async fn over(
        store: Store,
        configure: impl FnOnce(LogServer) -> LogServer,
    ) -> DoorServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = configure(LogServer::new(store.clone()));
        let (stop, stopped) = oneshot::channel();
        let serving = async move {
            server.serve(listener, async { drop(stopped.await) }).await.unwrap();
        };
        DoorServer { address, store, stop: Some(stop), task: tokio::spawn(serving) }
    }

    /// Stops the server, and waits for its end.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        in_time(self.task).await.unwrap();
    }

    /// A client of gRPC with this token.
    pub(crate) async fn client(&self, token: &str) -> DoorClient {
        let channel = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        let channel = in_time(channel.connect()).await.unwrap();
        let token: MetadataValue<Ascii> = format!("Bearer {token}").parse().unwrap();
        LogClient::with_interceptor(
            channel,
            Box::new(move |mut request: tonic::Request<()>| {
                request.metadata_mut().insert("authorization", token.clone());
                Ok(request)
            }),
        )
    }

    /// The answer over HTTP/1.1.
    pub(crate) async fn ask(&self, request: Request<String>) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        ask_over(TokioIo::new(stream), request).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask(Request::get(target).body(String::new()).unwrap()).await
    }

    /// The answer over HTTP/2 to a body that is sent as it is.
    pub(crate) async fn ask_http2(&self, request: Request<Body>) -> (Answer, HeaderMap) {
        let stream = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (mut sender, connection) =
            in_time(http2::handshake(TokioExecutor::new(), stream)).await.unwrap();
        tokio::spawn(connection);
        let response = in_time(sender.send_request(request)).await.unwrap();
        let (head, body) = response.into_parts();
        let body = in_time(body.collect()).await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let answer = Answer { status: head.status, headers: head.headers, body: body.to_bytes() };
        (answer, trailers)
    }
}

/// The answer over HTTP/1.1 on this connection.
pub(crate) async fn ask_over<I>(stream: I, request: Request<String>) -> Answer
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = in_time(http1::handshake(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = with_host(request).map(Body::from);
    let response = in_time(sender.send_request(request)).await.unwrap();
    let (head, body) = response.into_parts();
    let body = in_time(body.collect()).await.unwrap().to_bytes();
    Answer { status: head.status, headers: head.headers, body }
}

pub(crate) fn with_host(mut request: Request<String>) -> Request<String> {
    request.headers_mut().entry("host").or_insert("localhost".parse().unwrap());
    request
}

type Headers = Box<dyn FnMut(tonic::Request<()>) -> Result<tonic::Request<()>, Status> + Send>;

/// A generated client that sends a token.
pub(crate) type DoorClient = LogClient<InterceptedService<Channel, Headers>>;

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{:?}", self.body);
        self.json()
    }

    #[track_caller]
    pub(crate) fn problem(&self, status: u16, word: &str) -> Value {
        assert_eq!(self.status, status, "{:?}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:diptych:{word}"), "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["detail"].is_string() && problem["title"].is_string(), "{problem}");
        problem
    }
}

/// Serves these routes over HTTP/2 until the runtime ends.
pub(crate) async fn serve_routes(routes: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(routes.clone());
            let connection = server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// The result, which does not take as long as `LONG`.
pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(LONG, work).await.expect("the server takes too long")
}

/// A file of tokens in a folder that is removed afterwards.
pub(crate) struct Tokens {
    dir: TempDir,
}

impl Tokens {
    pub(crate) fn new() -> Tokens {
        Tokens { dir: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("tokens.toml")
    }

    pub(crate) fn issue(&self, name: &str, scopes: impl IntoIterator<Item = TokenScope>) -> String {
        let mut file = TokenFile::read_or_new(self.path()).unwrap();
        let token = file.issue(name, scopes).unwrap();
        file.save().unwrap();
        token
    }

    pub(crate) fn revoke(&self, name: &str) {
        let mut file = TokenFile::read(self.path()).unwrap();
        file.revoke(name).unwrap();
        file.save().unwrap();
    }
}

/// An event of `kind` about `account:1`.
pub(crate) fn raw_event(kind: &'static str, payload: impl Into<Vec<u8>>) -> RawEvent {
    let mut event = RawEvent::new(kind, payload.into());
    event.tags = vec![Tag::new("account", 1)];
    event
}

/// Appends events with a text of this size.
pub(crate) async fn fill(store: &Store, events: usize, bytes: usize) {
    for _ in 0..events {
        let event = raw_event("large", format!("\"{}\"", "x".repeat(bytes)));
        store.append(Append::event(event)).await.unwrap().synced().await.unwrap();
    }
}

/// A commit of one event.
pub(crate) fn call(number: u64) -> Call {
    let event = Event { r#type: "paid".to_owned(), ..Event::default() };
    Call { number, events: vec![event], ..Call::default() }
}

pub(crate) fn options(token: &str) -> RemoteOptions {
    let mut options = RemoteOptions::default();
    options.token = Some(token.to_owned());
    options
}
