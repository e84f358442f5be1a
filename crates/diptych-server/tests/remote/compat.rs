//! Clients and servers of different releases: conversations of earlier releases, as bytes.
//!
//! `compat/VERSION.txt` is a conversation that a store and a server of that release had, and
//! `compat/VERSION-calls.txt` one with the calls that a store does not make. Their requests go to
//! the server of now, which has to answer them as that server did. Their replies go to the client
//! of now, which has to ask what that client asked, and to take the replies. A field that the other
//! side does not know may be added; none may change or go away.
//!
//! `DIPTYCH_COMPAT=record` records the conversations of this version that are not there, and adds
//! their lines to `compat/frozen.txt`. `cargo xtask record-wire` does that before a release.

mod calls;
mod conversation;
mod fields;

use std::{collections::BTreeMap, env, fs, net::SocketAddr, path::PathBuf, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Request, Response},
};
use diptych::{
    App,
    store::{Append, EventStore, Filter, Memory, RawEvent, Read, Store},
};
use diptych_remote::{RemoteOptions, RemoteStore};
use diptych_store::{
    AppendCondition, AppendError, Digest, Epoch, Key, LogId, LogIdentity, Metadata, Position,
    ReadCommits, Refusal, Tag, TimeSource, Timestamp, Tracking, testing::WrappedStore,
};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpStream, sync::mpsc};

use self::{
    conversation::{Conversation, Exchange, frames, is_relevant},
    fields::covers,
};
use crate::door_server::{DoorServer, in_time, serve_routes};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const LOG: LogId = LogId::from_bytes([7; 16]);
const APPEND: &str = "/diptych.v1.Log/Append";
const WATCH: &str = "/diptych.v1.Log/Watch";

/// Parts of messages that differ each time: the path of the message, and the fields that lead
/// there.
const VOLATILE: [(&str, &[u32]); 5] = [
    // The id of the session, which the client makes.
    (APPEND, &[1, 1]),
    // The running server, and its memory of the session.
    (APPEND, &[1, 2]),
    (APPEND, &[1, 3]),
    // The running server, and its version.
    ("/diptych.v1.Log/Describe", &[4]),
    ("/diptych.v1.Log/Describe", &[5]),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/remote/compat")
}

/// The subject of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// Everything that a store asks for.
    Store,
    /// The other calls.
    Calls,
}

impl Subject {
    const ALL: [Subject; 2] = [Subject::Store, Subject::Calls];
    const CALLS: &str = "-calls";

    /// The name of the file with the conversation of this version.
    fn file(self, version: &str) -> String {
        match self {
            Subject::Store => format!("{version}.txt"),
            Subject::Calls => format!("{version}{}.txt", Subject::CALLS),
        }
    }

    fn of_name(name: &str) -> Subject {
        if name.ends_with(Subject::CALLS) { Subject::Calls } else { Subject::Store }
    }

    /// The conversation, from the side of the client.
    async fn converse(self, address: SocketAddr) {
        match self {
            Subject::Store => converse(&connect(address).await).await,
            Subject::Calls => calls::converse(address).await,
        }
    }
}

/// The conversations of all versions, by the names of their files.
fn conversations() -> BTreeMap<String, (Subject, Conversation)> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.filter(|path| path.extension().is_some_and(|of| of == "txt"));
    let texts = texts.filter(|path| path.file_stem().is_none_or(|name| name != "frozen"));
    let all = texts.map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let conversation = Conversation::parse(&fs::read_to_string(path).unwrap());
        let subject = Subject::of_name(&name);
        (name, (subject, conversation))
    });
    all.collect()
}

/// A server of a log that is the same each time, and the app with its feed.
async fn steady_server() -> (DoorServer, App) {
    let store = store();
    let app = calls::offering(store.clone()).await;
    let server = DoorServer::over(store, |server| server.feeds(app.feeds())).await;
    (server, app)
}

/// A log that is the same each time.
fn store() -> Store {
    let identity = LogIdentity { id: LOG, epoch: Epoch::from_u64(9) };
    let memory = Memory::new().time(TimeSource::Caller);
    Store::new(WrappedStore::new(memory).identity(move || identity))
}

fn event(number: u64) -> RawEvent {
    let id = uuid::Uuid::from_u128(number.into());
    let metadata = Metadata {
        occurred_at: Some(Timestamp::from_micros(-5)),
        correlation: Some(id),
        causation: Some(id),
        actor: Some("ann".into()),
        extra: [("device".into(), "phone".into())].into(),
    };
    let event = RawEvent::new("paid", format!("{{\"amount\":{number}}}")).version(2).id(id);
    event.tag(Tag::new("account", number % 2)).metadata(metadata)
}

/// The conversation, from the side of the client.
async fn converse(store: &RemoteStore) {
    assert_eq!(store.identity().id, LOG);
    assert_eq!(store.identity().epoch, Epoch::from_u64(9));
    let append = async |append: Append| {
        let accepted = store.append(Append { recorded_at: Some(NOW), ..append }).await?;
        Ok::<_, AppendError>(accepted.synced().await?)
    };
    let key = |digest| Key::new("request-1", Digest([digest; 16]));
    let both = || Append::events([event(1), event(2)]).key(key(4));
    let commit = append(both()).await.unwrap();
    assert_eq!((commit.first.get(), commit.last.get()), (1, 2));
    let tracking = || Tracking::new("orders", 12);
    let commit = append(Append::event(event(3)).tracking(tracking())).await.unwrap();
    assert_eq!((commit.first.get(), commit.last.get()), (3, 3));
    let refusal = async |refused| match append(refused).await.unwrap_err() {
        AppendError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    };
    let taken = refusal(both()).await;
    assert!(matches!(taken, Refusal::KeyTaken { .. }), "{taken}");
    let reused = refusal(Append::event(event(4)).key(key(5))).await;
    assert!(matches!(reused, Refusal::KeyReused { .. }), "{reused}");
    let fail_if = Filter::tag(Tag::new("account", 1));
    let condition = AppendCondition { fail_if: fail_if.clone(), after: Position::new(1) };
    let conflict = refusal(Append::event(event(5)).condition(condition)).await;
    assert!(
        matches!(conflict, Refusal::Conflict { at, after }
            if (at.get(), after.get()) == (3, 1)),
        "{conflict}"
    );
    let batch = store.read(&Filter::everything(), Read::all()).await.unwrap();
    let events: Vec<RawEvent> = batch.iter().map(|event| event.to_raw()).collect();
    assert_eq!(events, [event(1), event(2), event(3)]);
    assert!(batch.iter().all(|event| event.recorded_at() == NOW));
    let read = Read::backwards().limit(1);
    let batch = store.read(&fail_if, read).await.unwrap();
    assert_eq!((batch.len(), batch.get(0).unwrap().position().get()), (1, 3));
    let commits = store.commits(ReadCommits::after(Position::START)).await.unwrap();
    assert_eq!(commits.len(), 2);
    assert_eq!(commits.get(0).unwrap().key(), Some(&key(4)));
    assert_eq!(commits.get(1).unwrap().tracking(), Some(&tracking()));
    assert_eq!(store.last(&fail_if, Position::new(2)).await.unwrap(), Some(Position::new(1)));
    assert_eq!(store.count(&Tag::new("account", 1), Position::MAX).await.unwrap(), 2);
    let keyed = store.keyed("request-1").await.unwrap().unwrap();
    assert_eq!((keyed.first.get(), keyed.last.get(), keyed.digest), (1, 2, Digest([4; 16])));
    assert_eq!(store.tracked("orders").await.unwrap(), Some(tracking()));
    assert!(store.checksum(Position::new(2)).await.unwrap().is_some());
    assert_eq!(store.types().await.unwrap(), ["paid"]);
    assert_eq!(store.fresh_head().await.unwrap().get(), 3);
}

async fn connect(address: SocketAddr) -> RemoteStore {
    let address = format!("diptych://{address}");
    in_time(RemoteStore::connect(&address, RemoteOptions::default())).await.unwrap()
}

/// Copies the data of a body.
fn copied(body: Body, to: &Arc<Mutex<Vec<u8>>>) -> Body {
    let to = to.clone();
    Body::new(body.map_frame(move |frame| {
        if let Some(data) = frame.data_ref() {
            to.lock().extend_from_slice(data);
        }
        frame
    }))
}

/// A call that is being recorded.
struct Recorded {
    path: String,
    headers: Vec<(String, String)>,
    sent: Arc<Mutex<Vec<u8>>>,
    answered: Arc<Mutex<Vec<u8>>>,
}

/// Records the conversation of this version.
async fn record(subject: Subject) -> Conversation {
    let (server, _app) = steady_server().await;
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let recorded: Arc<Mutex<Vec<Recorded>>> = Arc::default();
    let all = recorded.clone();
    let routes = Router::new().fallback(move |request: Request<Body>| {
        let (mut sender, all) = (sender.clone(), all.clone());
        async move {
            let (sent, answered) = (Arc::default(), Arc::default());
            let headers = request.headers().iter().filter(|(name, _)| is_relevant(name.as_str()));
            let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
            let headers = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
            let path = request.uri().path().to_owned();
            let request = request.map(|body| copied(body, &sent));
            let answer = sender.send_request(request).await.unwrap();
            let answer = answer.map(|body| copied(Body::new(body), &answered));
            all.lock().push(Recorded { path, headers, sent, answered });
            answer
        }
    });
    in_time(subject.converse(serve_routes(routes).await)).await;
    server.stop().await;
    let recorded = std::mem::take(&mut *recorded.lock());
    let exchanges = recorded.into_iter().map(|recorded| Exchange {
        path: recorded.path,
        headers: recorded.headers,
        requests: frames(&recorded.sent.lock()),
        replies: frames(&recorded.answered.lock()),
    });
    Conversation::new(exchanges.collect())
}

type Frames = mpsc::Sender<Frame<Bytes>>;

/// A body whose frames are sent later.
fn open_body() -> (Frames, Body) {
    let (send, sent) = mpsc::channel(4);
    let frames = stream::unfold(sent, async |mut sent: mpsc::Receiver<_>| {
        let frame = sent.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), sent))
    });
    (send, Body::new(StreamBody::new(frames)))
}

/// The replies of the server of now to recorded requests, at most as many as were recorded.
async fn replies(server: &DoorServer, exchange: &Exchange) -> Vec<Bytes> {
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{}{}", server.address, exchange.path));
    for (name, value) in &exchange.headers {
        request = request.header(name, value);
    }
    // Each further request of a stream follows the reply to the one before.
    let mut requests = exchange.requests.iter();
    let (send, body) = open_body();
    let mut send = Some(send);
    let mut next = async || {
        if let (Some(open), Some(request)) = (&send, requests.next()) {
            open.send(Frame::data(conversation::framed(request))).await.unwrap();
        }
        if requests.len() == 0 {
            send = None;
        }
    };
    next().await;
    let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let (mut body, mut bytes) = (answer.into_body(), Vec::new());
    while frames(&bytes).len() < exchange.replies.len()
        && let Some(frame) = body.frame().await
    {
        match frame.unwrap().into_data() {
            Ok(data) => {
                bytes.extend_from_slice(&data);
                next().await;
            }
            Err(frame) => assert_eq!(frame.trailers_ref().unwrap()["grpc-status"], "0"),
        }
    }
    frames(&bytes)
}

/// Whether a message has everything that the recorded one has.
fn compare(version: &str, path: &str, side: &str, recorded: &[u8], now: &[u8]) {
    let volatile = VOLATILE.iter().filter(|(of, _)| *of == path).map(|(_, fields)| *fields);
    let volatile: Vec<&[u32]> = volatile.collect();
    if let Err(difference) = covers(recorded, now, &volatile) {
        panic!("{side} of {path} differs from version {version}: {difference}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_each_earlier_version_gets_the_same_answers() {
    for (version, (_, conversation)) in conversations() {
        let (server, _app) = steady_server().await;
        for exchange in conversation.exchanges() {
            // The head moved later.
            let most = if exchange.path == WATCH { 1 } else { exchange.replies.len() };
            let recorded =
                Exchange { replies: exchange.replies[..most].to_vec(), ..exchange.clone() };
            let now = in_time(replies(&server, &recorded)).await;
            assert_eq!(now.len(), most, "{version}: {}", exchange.path);
            for (recorded, now) in recorded.replies.iter().zip(&now) {
                compare(&version, &exchange.path, "a reply", recorded, now);
            }
        }
        server.stop().await;
    }
}

/// A server that sends the recorded replies: each after the recorded number of requests.
fn old_server(version: String, conversation: Conversation) -> Router {
    let left = Arc::new(Mutex::new(conversation));
    Router::new().fallback(move |request: Request<Body>| {
        let path = request.uri().path().to_owned();
        let exchange = left.lock().take(&path);
        let version = version.clone();
        async move {
            let exchange = exchange
                .unwrap_or_else(|| panic!("a client of version {version} did not call {path}"));
            let (send, body) = open_body();
            tokio::spawn(answer_as_recorded(version, exchange, request.into_body(), send));
            let response = Response::builder().header("content-type", "application/grpc");
            response.body(body).unwrap()
        }
    })
}

async fn answer_as_recorded(version: String, exchange: Exchange, mut body: Body, send: Frames) {
    let (mut bytes, mut answered) = (Vec::new(), 0);
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
        for request in frames(&bytes).iter().skip(answered) {
            let recorded = &exchange.requests[answered];
            compare(&version, &exchange.path, "a request", recorded, request);
            // The head moves later, and a stream of requests gets one reply for each.
            let is_stream = exchange.requests.len() > 1 || exchange.path == WATCH;
            let rest = if is_stream { 1 } else { exchange.replies.len() };
            for reply in exchange.replies.iter().skip(answered).take(rest) {
                let _ = send.send(Frame::data(conversation::framed(reply))).await;
            }
            answered += 1;
        }
    }
    if exchange.path == WATCH {
        return send.closed().await;
    }
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let _ = send.send(Frame::trailers(trailers)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_each_earlier_version_is_understood() {
    for (version, (subject, conversation)) in conversations() {
        let address = serve_routes(old_server(version, conversation)).await;
        in_time(subject.converse(address)).await;
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Recorded bytes are never recorded anew: a client or a server that has them does not change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_conversations_and_samples_are_never_changed() {
    let list = folder().join("frozen.txt");
    let mut frozen = fs::read_to_string(&list).unwrap_or_default();
    if env::var_os("DIPTYCH_COMPAT").is_some_and(|mode| mode == "record") {
        let files = Subject::ALL.map(|subject| (subject, subject.file(VERSION)));
        let is_new = |name: &str| !frozen.contains(&format!("{name} "));
        let new: Vec<_> = files.into_iter().filter(|(_, name)| is_new(name)).collect();
        assert!(
            !new.is_empty(),
            "version {VERSION} is recorded: if it was not released, remove its lines"
        );
        let mut lines: Vec<String> = frozen.lines().map(str::to_owned).collect();
        for (subject, name) in new {
            let text = record(subject).await.to_string();
            fs::write(folder().join(&name), &text).unwrap();
            lines.push(format!("{name} {}", hash(text.as_bytes())));
        }
        lines.sort_unstable();
        frozen = lines.join("\n") + "\n";
        fs::write(&list, &frozen).unwrap();
    }
    let samples = folder().join("../../../../diptych-remote/samples");
    let folders = [folder(), samples];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let files: BTreeMap<String, PathBuf> = files
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .filter(|(name, _)| name.ends_with(".txt") && name != "frozen.txt")
        .collect();
    let listed: Vec<&str> = frozen.lines().filter_map(|line| line.split(' ').next()).collect();
    let there: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(there, listed, "frozen.txt lists other files");
    for (line, (name, path)) in frozen.lines().zip(&files) {
        let now = format!("{name} {}", hash(&fs::read(path).unwrap()));
        assert_eq!(line, now, "the bytes of an earlier version were changed: take them back");
    }
}

/// The conversation of now would be recorded in the same form, so the next release can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_is_recorded_and_read_again() {
    for subject in Subject::ALL {
        let recorded = record(subject).await;
        let again = Conversation::parse(&recorded.to_string());
        assert_eq!(recorded, again);
        let appends: Vec<_> =
            recorded.exchanges().filter(|exchange| exchange.path == APPEND).collect();
        let messages: Vec<_> = appends
            .iter()
            .map(|exchange| (exchange.requests.len(), exchange.replies.len()))
            .collect();
        let (wanted, exchanges) = match subject {
            // One message opens, and each append has one.
            Subject::Store => (vec![(6, 6)], 13),
            // A session that is opened twice, each time with calls.
            Subject::Calls => (vec![(1, 2), (1, 2)], 8),
        };
        assert_eq!((messages, recorded.exchanges().count()), (wanted, exchanges), "{subject:?}");
    }
}
