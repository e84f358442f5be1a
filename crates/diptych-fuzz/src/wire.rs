//! Targets over the log on the wire: messages to a server, requests over HTTP to it, and the
//! replies of a server to a client.

use std::{
    cell::Cell,
    future::pending,
    net::SocketAddr,
    panic,
    sync::{
        Arc, Once,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header},
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use diptych_remote::{
    RemoteOptions, RemoteStore,
    wire::{
        identity_message, limits_message, message_of_event, message_of_filter,
        messages::{
            AppendReply, AppendRequest, Call, CallReply, ChecksumReply, ChecksumRequest, Condition,
            CountReply, CountRequest, DescribeRequest, Description, FindKeyReply, FindKeyRequest,
            FindTrackingReply, FindTrackingRequest, HeadReply, HeadRequest, KeyedCommit, LastReply,
            LastRequest, OpenSession, ReadCommitsRequest, ReadRequest, SessionOpened,
            SubscribeRequest, TypesReply, TypesRequest, WatchRequest, call_reply,
        },
        read_commits_reply, read_reply,
    },
};
use diptych_server::LogServer;
use diptych_store::{
    Append, Digest, Epoch, EventStore, Filter, Key, LogId, LogIdentity, Memory, Position, RawEvent,
    Read, ReadCommits, Store, Tag, Timestamp, Tracking, Unavailable,
};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::{server::conn::http2, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use prost::Message;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{http::request, observe::note};

/// The events of the log.
const EVENTS: u64 = 10;
/// Time in which a stream without end has sent what an input can change.
const STREAM_TIME: Duration = Duration::from_millis(5);

/// The calls of the service.
const CALLS: [&str; 15] = [
    "Describe",
    "Head",
    "Watch",
    "Append",
    "Commit",
    "Read",
    "ReadCommits",
    "Subscribe",
    "Last",
    "Count",
    "FindKey",
    "FindTracking",
    "Checksum",
    "Types",
    "Nothing",
];
const APPEND: usize = 3;
const COMMIT: usize = 4;

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}
static PANICS_OF_STORES: AtomicU64 = AtomicU64::new(0);

/// Counts the panics of tasks, which end only their task.
fn count_panics() {
    static COUNTED: Once = Once::new();
    COUNTED.call_once(|| {
        let show = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            if thread::current().name() == Some("diptych-remote") {
                PANICS_OF_STORES.fetch_add(1, Ordering::SeqCst);
            }
            show(info);
        }));
    });
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn identity() -> LogIdentity {
    LogIdentity { id: LogId::from_bytes([7; 16]), epoch: Epoch::from_u64(1) }
}

fn event(number: u64) -> RawEvent {
    RawEvent::new("counted", number.to_string()).tag(Tag::new("n", number % 3))
}

async fn store() -> Store {
    let store = Store::new(Memory::new());
    for number in 1..=EVENTS {
        let append =
            Append::event(event(number)).key(Key::new(number.to_string(), Digest([1; 16])));
        let append = append.tracking(Tracking::new("source", number));
        store.append(append).await.unwrap().synced().await.unwrap();
    }
    store
}

/// A message with the head that gRPC puts before it.
fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// The body of a call: one message, or for a stream several, each after its length in two bytes.
fn frames(mut bytes: &[u8], is_stream: bool) -> Vec<u8> {
    if !is_stream {
        return frame(bytes);
    }
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (message, after) = rest.split_at(length);
        frames.extend(frame(message));
        bytes = after;
    }
    frames
}

/// The server answers each call, and the events that were there stay as they are. The first byte
/// of an input chooses the call. With its highest bit the rest is the body as it is.
pub(crate) fn wire_server(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    count_panics();
    let before = PANICS.get();
    let call = usize::from(kind & 0x7f) % CALLS.len();
    let body = match kind & 0x80 {
        0 => frames(rest, call == APPEND),
        _ => rest.to_vec(),
    };
    runtime().block_on(async {
        let store = store().await;
        let (routes, _stop) = LogServer::new(store.clone()).into_router().unwrap();
        let request = Request::post(format!("/diptych.v1.Log/{}", CALLS[call]))
            .version(Version::HTTP_2)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header("te", "trailers")
            .body(Body::from(body));
        let answer = TowerToHyperService::new(routes).call(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let mut status = status_of(answer.headers());
        let mut body = answer.into_body();
        // A stream without end is left.
        while let Ok(Some(frame)) = timeout(STREAM_TIME, body.frame()).await {
            if let Ok(trailers) = frame.unwrap().into_trailers() {
                status = status_of(&trailers);
            }
        }
        drop(body);
        note(CALLS[call]);
        note(&status);
        let head = store.head().position();
        assert!(head.get() == EVENTS || [APPEND, COMMIT].contains(&call), "{}", CALLS[call]);
        let batch = store.read(&Filter::everything(), Read::all()).await.unwrap();
        for (number, event) in (1..=EVENTS).zip(batch.iter()) {
            assert_eq!(event.payload(), number.to_string().as_bytes());
        }
    });
    assert_eq!(PANICS.get(), before, "a task of the server panicked");
}

fn status_of(headers: &HeaderMap) -> String {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let (code, message) = (text("grpc-status"), text("grpc-message"));
    format!("{} {}", code.unwrap_or_default(), message.unwrap_or_default())
}

/// A message as an input for this call.
fn input(call: usize, message: &impl Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let length = u16::try_from(bytes.len()).unwrap().to_le_bytes();
    let head = if call == APPEND { &length[..] } else { &[] };
    [&[u8::try_from(call).unwrap()], head, &bytes[..]].concat()
}

pub(crate) fn wire_server_seeds() -> Vec<Vec<u8>> {
    let filter = || Some(message_of_filter(&"type=counted tag=n:1".parse().unwrap()));
    let batch = pollster::block_on(async {
        store().await.read(&Filter::everything(), Read::all().limit(2)).await.unwrap()
    });
    let call = Call {
        number: 1,
        events: batch.iter().map(|event| message_of_event(&event)).collect(),
        conditions: vec![Condition { fail_if: filter(), after: EVENTS }],
        key: Some(diptych_remote::wire::messages::Key { name: "k".into(), digest: vec![1; 16] }),
        ..Call::default()
    };
    let encoded = read_reply(&batch, Position::new(EVENTS), false).encoded;
    let other = Call { number: 2, encoded, ..Call::default() };
    let open = OpenSession { session: vec![1; 16], identity: None };
    let first = AppendRequest { open: Some(open), ..AppendRequest::default() };
    let calls = vec![call.clone(), other];
    let second = AppendRequest { calls, settled: 0, ..AppendRequest::default() };
    let both = [input(APPEND, &first), input(APPEND, &second)[1..].to_vec()].concat();
    let read = ReadRequest { filter: filter(), after: 2, limit: Some(3), ..ReadRequest::default() };
    vec![
        input(0, &DescribeRequest::default()),
        input(1, &HeadRequest::default()),
        input(2, &WatchRequest { heartbeat_ms: 60, ..WatchRequest::default() }),
        both,
        input(COMMIT, &call),
        input(5, &read),
        input(5, &ReadRequest { backwards: true, as_messages: true, ..read.clone() }),
        input(6, &ReadCommitsRequest { after: 4, batches: 1, ..ReadCommitsRequest::default() }),
        input(7, &SubscribeRequest { filter: filter(), after: 9, ..SubscribeRequest::default() }),
        input(8, &LastRequest { filter: filter(), upto: Some(7), ..LastRequest::default() }),
        input(9, &CountRequest { tag: "n:1".into(), upto: Some(7), ..CountRequest::default() }),
        input(10, &FindKeyRequest { key: "3".into(), ..FindKeyRequest::default() }),
        input(11, &FindTrackingRequest { source: "source".into(), ..Default::default() }),
        input(12, &ChecksumRequest { position: 4, ..ChecksumRequest::default() }),
        input(13, &TypesRequest::default()),
        vec![0x85, 1, 0, 0, 0, 3, 8, 2, 1],
        vec![0x89, 0, 0xff, 0xff, 0xff, 0xff, 1],
    ]
}

/// Each request over HTTP gets an answer in the form that the server promises.
pub(crate) fn log_http(data: &[u8]) {
    let Some(request) = request(data) else { return };
    count_panics();
    let before = PANICS.get();
    let (status, body) = runtime().block_on(async {
        let (routes, _stop) =
            LogServer::new(store().await).host("localhost").into_router().unwrap();
        let response = TowerToHyperService::new(routes).call(request).await.unwrap();
        let status = response.status();
        let is_stream = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|of| of == "text/event-stream");
        let mut body = response.into_body();
        if is_stream {
            while let Ok(Some(frame)) = timeout(STREAM_TIME, body.frame()).await {
                frame.unwrap();
            }
            return (status, Bytes::new());
        }
        (status, to_bytes(body, 16 << 20).await.unwrap())
    });
    note(status.as_str());
    let answer: Option<Value> = serde_json::from_slice(&body).ok();
    if status.is_client_error() || status.is_server_error() {
        let word = answer.as_ref().and_then(|problem| problem.get("type")).and_then(Value::as_str);
        note(word.unwrap_or("a problem without a body"));
        let is_expected = !status.is_server_error() || status == StatusCode::SERVICE_UNAVAILABLE;
        assert!(is_expected, "{status} {word:?}");
    }
    assert_eq!(PANICS.get(), before, "a task of the server panicked");
}

pub(crate) fn log_http_seeds() -> Vec<Vec<u8>> {
    let get = |target: &str| format!("GET {target}\nhost: localhost\n\n");
    let json = "host: localhost\ncontent-type: application/json\n\n";
    let append = r#"{"events":[{"type":"counted","tags":["n:1"],"data":{"a":1},
        "id":"00000000-0000-4000-8000-000000000001"}],"condition":{"failIfEventsMatch":{"items":[
        {"types":["counted"],"tags":["n:1"]}]},"after":10},"key":"k"}"#;
    let read = r#"{"query":{"items":[{"types":["counted"],"tags":["n:1"]}]},"after":3,
        "limit":2}"#;
    let texts = [
        get("/v1/logs/log"),
        get("/v1/logs/log/events?types=counted&tags=n%3A1&after=3&limit=2"),
        get("/v1/logs/log/events?backwards=true&upto=7"),
        get("/v1/logs/log/events?after=2").replace("host:", "accept: text/event-stream\nhost:"),
        get("/v1/logs/log/last?types=counted&upto=7"),
        get("/v1/logs/log/count?tag=n%3A1&upto=7"),
        get("/v1/logs/log/types"),
        get("/v1/logs/log/keys/3"),
        get("/v1/logs/log/tracking/source"),
        get("/v1/openapi.json"),
        get("/ready"),
        format!("POST /v1/logs/log/events\n{json}{append}"),
        format!("POST /v1/logs/log/events/read\n{json}{read}"),
    ];
    texts.map(String::into_bytes).into()
}

/// Time of a call of the client.
const ANSWER_TIME: Duration = Duration::from_millis(100);
/// Replies of a server that an input can be.
const REPLIES: [&str; 11] = [
    "Read",
    "ReadCommits",
    "Last",
    "Count",
    "FindKey",
    "FindTracking",
    "Checksum",
    "Types",
    "Head",
    "Describe",
    "Append",
];

/// A server that sends one reply from an input.
struct FuzzedServer {
    /// The call that gets it.
    call: &'static str,
    /// The body of the reply, after what has to stand before it.
    body: Vec<u8>,
    /// The status that it gets instead.
    status: Option<(u8, String)>,
}

impl FuzzedServer {
    fn answer(&self, path: &str) -> Response<Body> {
        let call = path.rsplit('/').next().unwrap_or_default();
        let mut response = Response::new(Body::empty());
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(header::CONTENT_TYPE, grpc);
        if call == self.call {
            if let Some((code, details)) = &self.status {
                let headers = response.headers_mut();
                headers.insert("grpc-status", u16::from(*code).into());
                headers.extend(
                    HeaderValue::from_str(details)
                        .map(|details| (header::HeaderName::from_static(DETAILS), details))
                        .ok(),
                );
                return response;
            }
            let before = match call {
                "Append" => frame(&opened().encode_to_vec()),
                _ => Vec::new(),
            };
            *response.body_mut() = open_body([before, self.body.clone()].concat());
            return response;
        }
        *response.body_mut() = match call {
            "Describe" => open_body(frame(&description().encode_to_vec())),
            _ => open_body(Vec::new()),
        };
        response
    }
}

const DETAILS: &str = "grpc-status-details-bin";

/// A body that stays open after these bytes.
fn open_body(bytes: Vec<u8>) -> Body {
    let bytes = stream::once(async { Ok::<_, std::io::Error>(Bytes::from(bytes)) });
    Body::from_stream(bytes.chain(stream::once(pending())))
}

fn description() -> Description {
    Description {
        identity: Some(identity_message(identity())),
        limits: Some(limits_message(&diptych_store::Limits::default())),
        head: EVENTS,
        instance: vec![1; 16],
        ..Description::default()
    }
}

fn opened() -> AppendReply {
    let opened = SessionOpened { resumed: false, instance: vec![1; 16], entry: vec![2; 16] };
    AppendReply { opened: Some(opened), head: EVENTS, ..AppendReply::default() }
}

/// A client neither panics nor waits for ever, and what it takes keeps the contract of a store. The
/// first byte of an input chooses the call. With its highest bit the rest is the details of a
/// status.
pub(crate) fn wire_client(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    count_panics();
    let before = PANICS_OF_STORES.load(Ordering::SeqCst);
    let call = REPLIES[usize::from(kind & 0x7f) % REPLIES.len()];
    let server = match (kind & 0x80, rest.split_first()) {
        (0x80, Some((code, details))) => {
            let status = Some((code % 17, STANDARD_NO_PAD.encode(details)));
            FuzzedServer { call, body: Vec::new(), status }
        }
        _ => FuzzedServer { call, body: frame(rest), status: None },
    };
    runtime().block_on(async {
        let address = serve(server).await;
        let mut options = RemoteOptions::default();
        (options.answer_time, options.connect_time) = (ANSWER_TIME, ANSWER_TIME);
        match RemoteStore::connect(&format!("diptych://{address}"), options).await {
            Ok(store) => note(&ask(&store, call).await),
            Err(error) => note(&error.to_string()),
        }
    });
    let panics = PANICS_OF_STORES.load(Ordering::SeqCst);
    assert_eq!(panics, before, "the store panicked at a reply of {call}");
}

async fn serve(server: FuzzedServer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Arc::new(server);
    let answer = move |request: Request<Body>| {
        let server = server.clone();
        async move { server.answer(request.uri().path()) }
    };
    let router = Router::new().fallback(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(router.clone());
            let connection = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// Makes the call, and checks what the client takes. Returns the answer as a text.
async fn ask(store: &RemoteStore, call: &str) -> String {
    let filter: Filter = "tag=n:1".parse().unwrap();
    let text = match call {
        "Read" => {
            let read = Read::after(Position::new(3)).limit(4);
            let batch = store.read(&filter, read).await;
            batch.map(|batch| {
                let positions: Vec<u64> =
                    batch.iter().map(|event| event.position().get()).collect();
                assert!(positions.is_sorted_by(|one, next| one < next), "{positions:?}");
                assert!(positions.len() <= 4 && positions.iter().all(|at| *at > 3));
                assert!(batch.iter().all(|event| filter.matches(&event)));
                assert!(positions.last().is_none_or(|last| *last <= batch.upto().get()));
                assert!(batch.upto().get() > 3, "the next read would be the same");
                format!("{} events", batch.len())
            })
        }
        "ReadCommits" => store.commits(ReadCommits::after(Position::new(3))).await.map(|batch| {
            let mut last = 3;
            for event in batch.iter().flat_map(|commit| commit.events()) {
                last += 1;
                assert_eq!(event.position().get(), last);
            }
            assert!(batch.upto().get() > 3, "the next read would be the same");
            format!("{} commits", batch.len())
        }),
        "Last" => store.last(&filter, Position::new(5)).await.map(|last| {
            assert!(last.is_none_or(|last| (1..=5).contains(&last.get())), "{last:?}");
            "last".to_owned()
        }),
        "Count" => store.count(&Tag::new("n", 1), Position::new(5)).await.map(|count| {
            assert!(count <= 5);
            "count".to_owned()
        }),
        "FindKey" => store.keyed("3").await.map(|found| {
            assert!(found.is_none_or(|found| found.first <= found.last.plus(1)));
            "keyed".to_owned()
        }),
        "FindTracking" => store.tracked("source").await.map(|found| format!("{}", found.is_some())),
        "Checksum" => store.checksum(Position::new(3)).await.map(|_| "checksum".to_owned()),
        "Types" => store.types().await.map(|types| {
            assert!(types.is_sorted_by(|one, next| one < next), "{types:?}");
            "types".to_owned()
        }),
        "Append" => return append(store).await,
        _ => store.fresh_head().await.map(|head| {
            assert!(head.get() >= EVENTS);
            "head".to_owned()
        }),
    };
    assert!(store.head().position().get() <= u64::MAX >> 1);
    text.unwrap_or_else(|error| {
        use diptych_store::ReadError;
        let is_closed = matches!(error, ReadError::Unavailable(Unavailable::Closed));
        assert!(!is_closed, "a task of the store ended");
        error.to_string()
    })
}

async fn append(store: &RemoteStore) -> String {
    let committed = async {
        let accepted = store.append(Append::event(event(11))).await?;
        Ok::<_, diptych_store::AppendError>(accepted.synced().await?)
    };
    match committed.await {
        Ok(commit) => {
            assert!(commit.first.get() > EVENTS && commit.first == commit.last, "{commit:?}");
            "synced".to_owned()
        }
        Err(error) => error.to_string(),
    }
}

pub(crate) fn wire_client_seeds() -> Vec<Vec<u8>> {
    use diptych_remote::wire::messages;
    let (batch, commits) = pollster::block_on(async {
        let store = store().await;
        let read = Read::after(Position::new(3)).limit(4);
        let filter: Filter = "tag=n:1".parse().unwrap();
        let batch = store.read(&filter, read).await.unwrap();
        (batch, store.commits(ReadCommits::after(Position::new(3))).await.unwrap())
    });
    let head = Position::new(EVENTS);
    let of = |call: &str, message: Vec<u8>| {
        let kind = REPLIES.iter().position(|known| *known == call).unwrap();
        [&[u8::try_from(kind).unwrap()], &message[..]].concat()
    };
    let now = Timestamp::from_micros(1_700_000_000_000_000).as_micros();
    let accepted = messages::Accepted { first: 11, last: 11, recorded_at: now, synced: true };
    let outcome = |number, outcome| CallReply { number, outcome: Some(outcome) };
    let reply = |replies| AppendReply { replies, head: 11, ..AppendReply::default() };
    let accepted = call_reply::Outcome::Accepted(accepted);
    let synced = call_reply::Outcome::Synced(messages::Synced {});
    let key = KeyedCommit { first: 3, last: 3, digest: vec![1; 16] };
    let tracking = diptych_remote::wire::tracking_message(&Tracking::new("source", 10));
    let identity = Some(identity_message(identity()));
    let failure = diptych_remote::wire::failure_of(&Unavailable::Closed, head);
    let status = [&[0x80, 14], &failure.encode_to_vec()[..]].concat();
    vec![
        of("Read", read_reply(&batch, head, false).encode_to_vec()),
        of("ReadCommits", read_commits_reply(&commits, head, false).encode_to_vec()),
        of("Last", LastReply { position: Some(4), head: 10, ..Default::default() }.encode_to_vec()),
        of("Count", CountReply { count: 2, head: 10, ..Default::default() }.encode_to_vec()),
        of(
            "FindKey",
            FindKeyReply { commit: Some(key), head: 10, ..Default::default() }.encode_to_vec(),
        ),
        of(
            "FindTracking",
            FindTrackingReply { tracking: Some(tracking), head: 10, ..Default::default() }
                .encode_to_vec(),
        ),
        of(
            "Checksum",
            ChecksumReply { checksum: Some(5), head: 10, ..Default::default() }.encode_to_vec(),
        ),
        of(
            "Types",
            TypesReply { types: vec!["counted".into()], head: 10, ..Default::default() }
                .encode_to_vec(),
        ),
        of("Head", HeadReply { identity, head: 12, ..HeadReply::default() }.encode_to_vec()),
        of("Describe", description().encode_to_vec()),
        of("Append", reply(vec![outcome(1, accepted)]).encode_to_vec()),
        of("Append", reply(vec![outcome(1, synced)]).encode_to_vec()),
        status,
    ]
}
