//! Feeds over the native wire: pages, waits, tokens, and an intake across restarts of the server.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{body::Bytes, http::HeaderMap};
use diptych::{
    App, Event, Filter, Memory, Metadata, Recorded, Store, Timestamp, Uuid,
    collaboration::{
        CloudEvent, EventPlace, Feed, FeedCursor, FeedError, FeedName, FeedPage, FeedRead,
        FeedSource, ForeignEvent, Intake, IntakeOptions, IntakeStart, PublicEvent,
    },
    remote::{ConnectError, RemoteFeed, RemoteOptions, RemoteStore},
    store::{Append, Epoch, InvalidRequest, LogId, LogIdentity, Read},
};
use diptych_remote::wire::{
    self,
    messages::{
        FeedEvent, FeedPageReply, FeedPageRequest, LastRequest,
        feed_page_request::After,
        feeds_server::{Feeds, FeedsServer},
    },
};
use diptych_server::{LogServer, Server, ServerLimits, TokenScope};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{Code, Request, Response, Status};

use crate::{
    child::free_address,
    door_server::{DoorServer, Tokens, in_time, options, serve_routes},
    encryption::Authority,
    proxy::{Mode, Proxy},
};

/// Far longer than a test. A wait that ends before it was ended by something else.
const LONG_WAIT: Duration = Duration::from_secs(50);

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
enum Ordering {
    #[event("order-placed")]
    Placed {
        #[tag]
        order: u64,
        cents: u64,
    },
    #[event("order-checked")]
    Checked {
        #[tag]
        order: u64,
    },
}

/// Each order has two public events: its sum, and its tax.
#[derive(Clone, Debug, PublicEvent, Serialize, Deserialize)]
#[event("order-accepted", version = 3)]
struct Accepted {
    #[tag]
    order: u64,
    cents: u64,
    words: String,
}

struct Orders;

impl Feed for Orders {
    const NAME: &'static str = "orders";
    type Private = Ordering;
    type Public = Accepted;

    fn publish(event: &Recorded<Ordering>) -> impl IntoIterator<Item = Accepted> {
        match event.event {
            Ordering::Placed { order, cents } => [cents, cents / 10]
                .map(|cents| Accepted { order, cents, words: "\"Zwölf\"\n".to_owned() })
                .to_vec(),
            Ordering::Checked { .. } => vec![],
        }
    }
}

/// The same events under another name.
struct Audits;

impl Feed for Audits {
    const NAME: &'static str = "audits";
    type Private = Ordering;
    type Public = Accepted;

    fn publish(event: &Recorded<Ordering>) -> impl IntoIterator<Item = Accepted> {
        Orders::publish(event)
    }
}

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("shipment-due")]
struct Due {
    #[tag]
    order: u64,
    cents: u64,
}

struct ToShipments;

impl Intake for ToShipments {
    const NAME: &'static str = "shipments";
    type Public = Accepted;
    type Event = Due;

    fn translate(
        event: &ForeignEvent<Accepted>,
    ) -> Result<Vec<Due>, Box<dyn std::error::Error + Send + Sync>> {
        let Accepted { order, cents, .. } = event.event;
        Ok(vec![Due { order, cents }])
    }
}

async fn ordering() -> App {
    App::over(Memory::new()).feed::<Orders>().feed::<Audits>().start().await.unwrap()
}

async fn write(app: &App, event: Ordering, metadata: Metadata) {
    let event = event.encode().unwrap().metadata(metadata).id(Uuid::new_v4());
    app.store().append(Append::event(event)).await.unwrap().synced().await.unwrap();
}

async fn place(app: &App, order: u64) {
    write(app, Ordering::Placed { order, cents: 100 + order }, Metadata::default()).await;
}

/// The log and the feeds of an app.
async fn served(app: &App, configure: impl FnOnce(LogServer) -> LogServer) -> DoorServer {
    let feeds = app.feeds().to_vec();
    DoorServer::over(app.store().clone(), move |server| configure(server.feeds(&feeds))).await
}

fn feed_at(address: SocketAddr, name: &str, options: RemoteOptions) -> RemoteFeed {
    RemoteFeed::new(&format!("diptych://{address}/feeds/{name}"), options).unwrap()
}

fn orders_of(server: &DoorServer) -> RemoteFeed {
    feed_at(server.address, "orders", RemoteOptions::default())
}

fn after(position: u64) -> FeedRead {
    FeedRead::after(FeedCursor::Position(position.into()))
}

#[track_caller]
fn refusal(answer: Result<FeedPage, FeedError>) -> String {
    match answer.unwrap_err() {
        FeedError::Refused { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unreachable(answer: Result<FeedPage, FeedError>) -> String {
    match answer.unwrap_err() {
        FeedError::Unreachable { reason } => reason,
        other => panic!("{other:?}"),
    }
}

/// The page of a server of the application, over HTTP.
async fn over_http(address: SocketAddr, query: &str) -> (HeaderMap, Bytes) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = axum::http::Request::get(format!("/feeds/orders?{query}"));
    let request = request.body(String::new()).unwrap();
    let stream = hyper_util::rt::TokioIo::new(stream);
    let answer = crate::door_server::ask_over(stream, request).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    (answer.headers, answer.body)
}

fn json(events: &[CloudEvent]) -> Value {
    serde_json::to_value(events).unwrap()
}

#[tokio::test]
async fn a_page_has_each_attribute_that_it_has_over_http() {
    let app = ordering().await;
    place(&app, 1).await;
    write(&app, Ordering::Checked { order: 1 }, Metadata::default()).await;
    let extra = [("diptych:hops", "2"), ("diptych:via", "carts@1 stock@2")];
    let metadata = Metadata {
        occurred_at: Some(Timestamp::from_micros(-1_234_567)),
        correlation: Some(Uuid::new_v4()),
        causation: Some(Uuid::new_v4()),
        extra: extra.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        ..Metadata::default()
    };
    write(&app, Ordering::Placed { order: 2, cents: 200 }, metadata).await;
    let server = served(&app, |server| server).await;
    let feed = orders_of(&server);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = listener.local_addr().unwrap();
    tokio::spawn(Server::new(app.clone()).serve(listener, std::future::pending()));
    let place = |position: u64, part| EventPlace { position: position.into(), part };
    for (query, read) in [
        ("after=0", after(0)),
        ("after=0&limit=1", after(0).limit(1)),
        ("after=2&timeout=5000", after(2).wait(Duration::from_secs(5))),
        ("after=3&timeout=20", after(3).wait(Duration::from_millis(20))),
        ("lastEventId=00000000000000000001", FeedRead::after(FeedCursor::Event(place(1, 0)))),
        ("lastEventId=00000000000000000003-1", FeedRead::after(FeedCursor::Event(place(3, 1)))),
        ("after=end", FeedRead::after(FeedCursor::End)),
    ] {
        let (headers, body) = over_http(http, query).await;
        let page = in_time(feed.read(read)).await.unwrap();
        let expected: Vec<CloudEvent> = serde_json::from_slice(&body).unwrap();
        assert_eq!(json(&page.events), json(&expected), "{query}");
        let texts: Vec<&str> = expected.iter().map(|event| event.data.get()).collect();
        let found: Vec<&str> = page.events.iter().map(|event| event.data.get()).collect();
        assert_eq!(found, texts, "{query}");
        let name = FeedName { log: page.log, feed: "orders".to_owned() };
        assert_eq!(headers["diptych-feed"], name.to_string(), "{query}");
        assert_eq!(headers["diptych-upto"], page.upto.to_string(), "{query}");
        assert_eq!(headers["diptych-head"], page.head.to_string(), "{query}");
    }
    let page = feed.read(after(2)).await.unwrap();
    let names: BTreeSet<String> =
        json(&page.events)[0].as_object().unwrap().keys().cloned().collect();
    let all = "causationid correlationid data datacontenttype eventid hops id partitionkey \
               previous sequence source specversion subject time type via";
    assert_eq!(names.into_iter().collect::<Vec<_>>().join(" "), all);
    server.stop().await;
}

/// A server with feeds at an address that stays the same.
struct FeedServer {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl FeedServer {
    async fn start(app: &App, address: SocketAddr) -> FeedServer {
        let listener = TcpListener::bind(address).await.unwrap();
        let server = LogServer::new(app.store().clone()).feeds(app.feeds());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            server.serve(listener, async { drop(stopped.await) }).await.unwrap();
        });
        FeedServer { stop, task }
    }

    async fn stop(self) {
        drop(self.stop);
        in_time(self.task).await.unwrap();
    }
}

/// Options with short waits and small pages.
fn quick() -> IntakeOptions {
    let mut options = IntakeOptions::default();
    (options.wait, options.first_wait) = (Duration::from_millis(200), Duration::from_millis(1));
    options.longest_wait = Duration::from_millis(20);
    options.page = 64;
    options
}

/// Waits until the service has taken in everything up to this position.
async fn until(app: &App, position: u64) {
    let intake = app.intake("shipments").unwrap();
    let is_there = async {
        while intake.status().position.get() < position {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time(is_there).await;
}

async fn sums(store: &Store) -> Vec<u64> {
    let batch = store.read(&Filter::types(["shipment-due"]), Read::all()).await.unwrap();
    let dues = batch.iter().map(|event| serde_json::from_slice::<Due>(event.payload()).unwrap());
    dues.map(|due| due.cents).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intake_takes_in_each_event_once_while_the_server_goes_away_and_comes_back() {
    let (app, address) = (ordering().await, free_address());
    let mut expected = Vec::new();
    for order in 0..500 {
        place(&app, order).await;
        expected.extend([100 + order, (100 + order) / 10]);
    }
    let mut server = FeedServer::start(&app, address).await;
    let store = Store::new(Memory::new());
    let feed = feed_at(address, "orders", RemoteOptions::default());
    let shipping = App::over_store(store.clone())
        .intake_with::<ToShipments>(feed, IntakeStart::Beginning, quick())
        .start()
        .await
        .unwrap();
    for round in 1..4 {
        server.stop().await;
        for order in 500 * round..500 * round + 40 {
            place(&app, order).await;
            expected.extend([100 + order, (100 + order) / 10]);
        }
        server = FeedServer::start(&app, address).await;
        until(&shipping, 500 + 40 * round).await;
    }
    assert_eq!(sums(&store).await, expected);
    shipping.stop().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_reads_the_feeds_of_its_scopes_and_nothing_of_the_log() {
    let app = ordering().await;
    place(&app, 7).await;
    let scope = |name: &str| TokenScope::Feed(name.to_owned());
    let server = served(&app, |server| {
        server
            .token("one", [scope("orders")])
            .token("all", [TokenScope::Feeds])
            .token("log", [TokenScope::Read, TokenScope::Append, TokenScope::Admin])
    })
    .await;
    let read = async |name: &str, token: &str| {
        in_time(feed_at(server.address, name, options(token)).read(after(0))).await
    };
    for (name, token) in [("orders", "one"), ("orders", "all"), ("audits", "all")] {
        assert_eq!(read(name, token).await.unwrap().events.len(), 2, "{name} {token}");
    }
    for (name, token, words) in [
        ("audits", "one", "needs the scope feed or feed:audits, and the token has feed:orders"),
        ("nothing", "one", "needs the scope feed or feed:nothing"),
        ("orders", "log", "needs the scope feed or feed:NAME, and the token has read, append"),
        ("orders", "another", "does not know this token"),
    ] {
        let reason = refusal(read(name, token).await);
        assert!(reason.contains(words), "{name} {token}: {reason}");
    }
    let bare = feed_at(server.address, "orders", RemoteOptions::default());
    assert!(refusal(in_time(bare.read(after(0))).await).contains("needs a token"));

    // The log is closed to tokens of feeds, in both of its forms.
    for token in ["one", "all"] {
        let address = format!("diptych://{}", server.address);
        let connected = in_time(RemoteStore::connect(&address, options(token))).await;
        let error = connected.unwrap_err().to_string();
        assert!(error.contains("needs the scope read or append or admin"), "{error}");
        let mut client = server.client(token).await;
        let asked = client.last(LastRequest::default()).await.unwrap_err();
        assert_eq!(asked.code(), Code::PermissionDenied, "{asked}");
        let request = axum::http::Request::get("/v1/logs/log")
            .header("authorization", format!("Bearer {token}"))
            .body(String::new());
        server.ask(request.unwrap()).await.problem(403, "denied");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_feed_is_read_with_its_authority_and_not_without() {
    let (app, authority) = (ordering().await, Authority::with_localhost());
    place(&app, 1).await;
    let server = served(&app, |server| {
        authority.configure(server).token("one", [TokenScope::Feed("orders".to_owned())])
    })
    .await;
    let address = format!("diptychs://localhost:{}/feeds/orders", server.address.port());
    let read = async |options: RemoteOptions| {
        in_time(RemoteFeed::new(&address, options).unwrap().read(after(0))).await
    };
    let mut right = authority.options();
    right.token = Some("one".to_owned());
    assert_eq!(read(right.clone()).await.unwrap().events.len(), 2);
    let mut other = right.clone();
    other.authorities = Some(Authority::named("Another").path("authority.pem"));
    let unusable = RemoteFeed::new(&address, other).unwrap_err().to_string();
    assert!(unusable.contains("certificates of authorities"), "{unusable}");
    let another = Authority::named("Another");
    right.authorities = Some(another.path("authority.pem"));
    let reason = unreachable(read(right).await);
    assert!(reason.contains("is not trusted"), "{reason}");
    let plain = feed_at(server.address, "orders", options("one"));
    unreachable(in_time(plain.read(after(0))).await);
    server.stop().await;
}

#[test]
fn a_connection_that_changes_bytes_gives_an_intake_the_right_events() {
    let address = free_address();
    let proxy = Proxy::start(address);
    proxy.set(Mode::Flips);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let app = ordering().await;
        let mut expected = Vec::new();
        for order in 0..400 {
            place(&app, order).await;
            expected.extend([100 + order, (100 + order) / 10]);
        }
        let server = FeedServer::start(&app, address).await;
        let store = Store::new(Memory::new());
        let (mut small, mut options) = (quick(), RemoteOptions::default());
        small.page = 8;
        (options.answer_time, options.heartbeat) =
            (Duration::from_secs(1), Duration::from_millis(200));
        let feed = feed_at(proxy.address(), "orders", options);
        let shipping = App::over_store(store.clone())
            .intake_with::<ToShipments>(feed, IntakeStart::Beginning, small)
            .start()
            .await
            .unwrap();
        until(&shipping, 400).await;
        assert_eq!(sums(&store).await, expected);
        shipping.stop().await.unwrap();
        server.stop().await;
    });
}

/// Room for one question that waits.
fn one_stream() -> ServerLimits {
    let mut limits = ServerLimits::of_log();
    limits.streams = 1;
    limits
}

/// Asks for events that are not there yet, and returns once the question waits at the server, which
/// has room for one.
async fn waiting(
    address: SocketAddr,
    options: RemoteOptions,
    position: u64,
) -> JoinHandle<Result<FeedPage, FeedError>> {
    let is_busy = |answer: &Result<FeedPage, FeedError>| {
        answer.as_ref().is_err_and(|error| error.to_string().contains("open live streams"))
    };
    let (feed, probe) =
        (feed_at(address, "orders", options.clone()), feed_at(address, "orders", options));
    let waiting = tokio::spawn(async move {
        loop {
            let answer = feed.read(after(position).wait(LONG_WAIT)).await;
            if !is_busy(&answer) {
                return answer;
            }
        }
    });
    let waits = async {
        while !is_busy(&probe.read(after(position).wait(Duration::from_millis(1))).await) {}
    };
    in_time(waits).await;
    waiting
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_waits_for_an_event_as_long_as_it_says() {
    let app = ordering().await;
    place(&app, 1).await;
    let server = served(&app, |server| server.limits(one_stream())).await;
    let feed = orders_of(&server);
    let asked = Instant::now();
    let none = feed.read(after(1).wait(Duration::from_millis(30))).await.unwrap();
    assert!(none.events.is_empty() && asked.elapsed() >= Duration::from_millis(30));

    let asked = Instant::now();
    let waits = waiting(server.address, RemoteOptions::default(), 1).await;
    // A question that does not wait needs no room.
    assert_eq!(feed.read(after(0)).await.unwrap().events.len(), 2);
    place(&app, 2).await;
    let page = in_time(waits).await.unwrap().unwrap();
    assert_eq!((page.events.len(), page.upto.get()), (2, 2));
    assert!(asked.elapsed() < LONG_WAIT);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stop_of_the_server_ends_a_wait_with_an_empty_page() {
    let app = ordering().await;
    place(&app, 1).await;
    let server = served(&app, |server| server.limits(one_stream())).await;
    let asked = Instant::now();
    let waits = waiting(server.address, RemoteOptions::default(), 1).await;
    server.stop().await;
    let page = in_time(waits).await.unwrap().unwrap();
    assert!(page.events.is_empty() && page.upto.get() == 1, "{page:?}");
    assert!(asked.elapsed() < LONG_WAIT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_loses_its_feed_ends_its_wait() {
    let (app, tokens) = (ordering().await, Tokens::new());
    let token = tokens.issue("shipping", [TokenScope::Feed("orders".to_owned())]);
    let server =
        served(&app, |server| server.limits(one_stream()).token_file(tokens.path()).unwrap()).await;
    let asked = Instant::now();
    let waits = waiting(server.address, options(&token), 0).await;
    tokens.revoke("shipping");
    let reason = refusal(in_time(waits).await.unwrap());
    assert!(reason.contains("was revoked, or lost the scope of this feed"), "{reason}");
    assert!(asked.elapsed() < LONG_WAIT);
    server.stop().await;
}

#[tokio::test]
async fn wrong_questions_have_words() {
    let app = ordering().await;
    place(&app, 1).await;
    let server = served(&app, |server| server).await;
    let above = in_time(orders_of(&server).read(after(2))).await.unwrap_err();
    let FeedError::AboveHead { after: asked, head } = above else { panic!("{above:?}") };
    assert_eq!((asked.get(), head.get()), (2, 1));
    let unknown = feed_at(server.address, "carts", RemoteOptions::default());
    let reason = unreachable(in_time(unknown.read(after(0))).await);
    assert_eq!(reason, "there is no feed \"carts\"");
    let bare = DoorServer::start(|server| server).await;
    let reason = unreachable(in_time(orders_of(&bare).read(after(0))).await);
    assert_eq!(reason, "there is no feed \"orders\": the server offers none");

    for address in ["diptych://localhost/orders", "diptych://localhost/feeds/Or ders"] {
        let error = RemoteFeed::new(address, RemoteOptions::default()).unwrap_err();
        assert!(matches!(error, ConnectError::FeedAddress { .. }), "{error}");
    }
    let nobody = feed_at(free_address(), "orders", RemoteOptions::default());
    assert!(!unreachable(in_time(nobody.read(after(0))).await).is_empty());
    assert_eq!(orders_of(&bare).name(), format!("http://{}/feeds/orders", bare.address));
    server.stop().await;
    bare.stop().await;
}

#[test]
fn a_feed_can_be_read_without_a_runtime_of_its_caller() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (app, server) = runtime.block_on(async {
        let app = ordering().await;
        place(&app, 1).await;
        let server = served(&app, |server| server).await;
        (app, server)
    });
    let page = pollster::block_on(orders_of(&server).read(after(0))).unwrap();
    assert_eq!((page.events.len(), page.log), (2, app.identity()));
    runtime.block_on(server.stop());
}

/// The change of a reply.
type Lie = fn(&mut FeedPageReply);

/// A server whose replies are not those of a feed.
struct Liar(Lie);

#[tonic::async_trait]
impl Feeds for Liar {
    async fn page(
        &self,
        request: Request<FeedPageRequest>,
    ) -> Result<Response<FeedPageReply>, Status> {
        match request.into_inner().limit {
            1 => return std::future::pending().await,
            2 => {
                let lie = InvalidRequest::AboveHead { position: 3.into(), head: 3.into() };
                return Err(wire::status(&wire::failure_of(&lie, 3.into())));
            }
            _ => {}
        }
        let identity = Some(wire::identity_message(LogIdentity::random()));
        let id = format!("{:020}", 1);
        let event = FeedEvent {
            specversion: "1.0".to_owned(),
            sequence: id.clone(),
            previous: format!("{:020}", 0),
            id,
            data: b"{}".to_vec(),
            ..FeedEvent::default()
        };
        let mut reply =
            FeedPageReply { identity, events: vec![event], upto: 1, head: 1, ..Default::default() };
        (self.0)(&mut reply);
        Ok(Response::new(reply))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_cannot_be_is_an_error_with_words() {
    let cases: [(Lie, &str); 9] = [
        (|reply| reply.identity = None, "does not name the log"),
        (|reply| reply.identity.as_mut().unwrap().log = vec![1; 3], "does not name the log"),
        (|reply| reply.upto = 2, "goes up to 2, and its log ends at 1"),
        (|reply| reply.head = u64::MAX, "which cannot be"),
        (|reply| reply.events[0].data = b"{".to_vec(), "its data is no JSON"),
        (|reply| reply.events[0].data = vec![0xff], "its data is no JSON"),
        (|reply| reply.events[0].eventid = vec![1; 15], "eventid"),
        (|reply| reply.events[0].causationid = vec![1; 17], "causationid"),
        (|reply| reply.events[0].time = Some(i64::MAX), "its time has no form"),
    ];
    for (lie, words) in cases {
        let routes = axum::Router::new()
            .route_service("/diptych.v1.Feeds/{*call}", FeedsServer::new(Liar(lie)));
        let feed = feed_at(serve_routes(routes).await, "orders", RemoteOptions::default());
        let error = in_time(feed.read(after(0))).await.unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert!(matches!(error, FeedError::Unreachable { .. } | FeedError::Malformed(_)));
    }
    let routes = axum::Router::new()
        .route_service("/diptych.v1.Feeds/{*call}", FeedsServer::new(Liar(|_| {})));
    let address = serve_routes(routes).await;
    let feed = feed_at(address, "orders", RemoteOptions::default());
    assert_eq!(in_time(feed.read(after(0))).await.unwrap().events.len(), 1);
    // An intake stops at a place above the end, so a contradiction must not count as one.
    unreachable(in_time(feed.read(after(0).limit(2))).await);

    let mut quick = RemoteOptions::default();
    quick.answer_time = Duration::from_millis(30);
    let feed = feed_at(address, "orders", quick);
    let silent = feed.read(after(0).limit(1).wait(Duration::from_millis(20)));
    assert_eq!(unreachable(in_time(silent).await), "no answer within 50 ms");
}

/// A feed with an event at each position, and one event on each page. Its log ends at position 6.
#[derive(Clone, Default)]
struct OnePerPage {
    /// The positions after which it was asked.
    asked: Arc<Mutex<Vec<u64>>>,
}

#[tonic::async_trait]
impl Feeds for OnePerPage {
    async fn page(
        &self,
        request: Request<FeedPageRequest>,
    ) -> Result<Response<FeedPageReply>, Status> {
        let Some(After::Position(after)) = request.into_inner().after else {
            panic!("no position")
        };
        let is_second = self.asked.lock().contains(&after);
        self.asked.lock().push(after);
        if after == 2 && !is_second {
            return Err(Status::unavailable("not now"));
        }
        let sequence = |position: u64| format!("{position:020}");
        let event = FeedEvent {
            specversion: "1.0".to_owned(),
            id: sequence(after + 1),
            sequence: sequence(after + 1),
            previous: sequence(after),
            data: b"{}".to_vec(),
            ..FeedEvent::default()
        };
        let identity = LogIdentity { id: LogId::from_bytes([7; 16]), epoch: Epoch::from_u64(1) };
        Ok(Response::new(FeedPageReply {
            identity: Some(wire::identity_message(identity)),
            events: vec![event],
            upto: after + 1,
            head: 6,
            ..FeedPageReply::default()
        }))
    }
}

/// The second question after position 2 is answered, and the first one is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_asked_ahead_is_the_one_that_the_reader_asks_for() {
    let server = OnePerPage::default();
    let asked = server.asked.clone();
    let routes =
        axum::Router::new().route_service("/diptych.v1.Feeds/{*call}", FeedsServer::new(server));
    let feed = feed_at(serve_routes(routes).await, "orders", RemoteOptions::default());
    let read = async |position: u64| {
        let page = in_time(feed.read(after(position))).await.unwrap();
        assert_eq!(page.events[0].sequence, format!("{:020}", position + 1));
        assert_eq!((page.events.len(), page.upto.get()), (1, position + 1));
    };
    let until_asked = async |positions: &[u64]| {
        let is_asked = async {
            while *asked.lock() != positions {
                tokio::task::yield_now().await;
            }
        };
        in_time(is_asked).await;
    };
    read(0).await;
    until_asked(&[0, 1]).await;
    read(1).await;
    until_asked(&[0, 1, 2]).await;
    // The page that was asked ahead failed, so the question is asked again.
    read(2).await;
    until_asked(&[0, 1, 2, 2, 3]).await;
    // Another question gets its own page.
    read(4).await;
    until_asked(&[0, 1, 2, 2, 3, 4, 5]).await;
    read(5).await;
    // Nothing is asked ahead at the end.
    read(0).await;
    until_asked(&[0, 1, 2, 2, 3, 4, 5, 0, 1]).await;
}
