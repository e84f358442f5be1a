//! Targets over the log on the wire: messages to a server, requests over HTTP to it, and the
//! replies of a server to a client.

mod client;

use std::{
    cell::Cell,
    panic,
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header},
};
use diptych::{
    App, Event, Recorded,
    collaboration::{Feed, PublicEvent},
};
use diptych_remote::wire::{
    message_of_event, message_of_filter,
    messages::{
        AppendRequest, Call, ChecksumRequest, Condition, CountRequest, DescribeRequest,
        FeedPageRequest, FeedPlace, FindKeyRequest, FindTrackingRequest, HeadRequest, LastRequest,
        OpenSession, ReadCommitsRequest, ReadRequest, SubscribeRequest, TypesRequest, WatchRequest,
        feed_page_request::After,
    },
    read_reply,
};
use diptych_server::LogServer;
use diptych_store::{
    Append, Digest, Epoch, Filter, Key, LogId, LogIdentity, Memory, Position, RawEvent, Read,
    Store, Tag, Tracking,
};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

pub(crate) use self::client::{wire_client, wire_client_seeds};
use crate::{http::request, observe::note};

/// The events of the log.
const EVENTS: u64 = 10;
/// Time in which a stream without end has sent what an input can change.
const STREAM_TIME: Duration = Duration::from_millis(5);

/// The calls of the services.
const CALLS: [&str; 16] = [
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
    PAGE,
];
const APPEND: usize = 3;
const COMMIT: usize = 4;
/// The call for a page of a feed.
const PAGE: &str = "Page";

/// The path of a call.
fn path(call: &str) -> String {
    format!("/diptych.v1.{}/{call}", if call == PAGE { "Feeds" } else { "Log" })
}

/// An event of the log.
#[derive(Event, Serialize, Deserialize)]
#[event("counted")]
struct Counted(u64);

/// It as it is published.
#[derive(PublicEvent, Serialize, Deserialize)]
#[event("number-counted")]
struct Number {
    number: u64,
}

struct Numbers;

impl Feed for Numbers {
    const NAME: &'static str = "numbers";
    type Private = Counted;
    type Public = Number;

    fn publish(event: &Recorded<Counted>) -> impl IntoIterator<Item = Number> {
        [Number { number: event.event.0 }]
    }
}

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
        let mut server = LogServer::new(store.clone());
        let app = match CALLS[call] {
            PAGE => Some(App::over_store(store.clone()).feed::<Numbers>().start().await.unwrap()),
            _ => None,
        };
        if let Some(app) = &app {
            server = server.feed(app.feed(Numbers::NAME).unwrap());
        }
        let (routes, _stop) = server.into_router().unwrap();
        let request = Request::post(path(CALLS[call]))
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

fn page_request(after: After) -> FeedPageRequest {
    let (feed, after) = (Numbers::NAME.to_owned(), Some(after));
    FeedPageRequest { feed, after, limit: 4, ..FeedPageRequest::default() }
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
        input(15, &page_request(After::Position(3))),
        input(15, &page_request(After::Event(FeedPlace { position: 4, part: 0 }))),
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
