//! A server that says what cannot be true. Each lie becomes an error that names the server, and
//! never a panic, a wrong answer or a loop.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{Response, header},
    routing::post,
};
use diptych::store::{Append, EventStore, Filter, Memory, RawEvent, Store};
use diptych_remote::{
    AppendAnswer, RemoteOptions, RemoteStore,
    wire::messages::{
        Accepted, AppendReply, AppendRequest, Call, CallReply, ChecksumReply, ChecksumRequest,
        Committed, CountReply, CountRequest, DescribeRequest, Description, FindKeyReply,
        FindKeyRequest, FindTrackingReply, FindTrackingRequest, HeadReply, HeadRequest, Heartbeat,
        KeyedCommit, LastReply, LastRequest, ReadCommitsReply, ReadCommitsRequest, ReadReply,
        ReadRequest, SubscribeReply, SubscribeRequest, Synced, TypesReply, TypesRequest,
        WatchRequest, call_reply,
        log_client::LogClient,
        log_server::{Log, LogServer as GrpcLog},
        subscribe_reply::Delivery,
    },
    wire::{EncodedReply, WireMessage},
};
use diptych_store::{
    AppendError, Delivery as Step, Digest, Key, Position, Read, ReadCommits, SubscribeOptions, Tag,
    Unavailable,
};
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use tonic::{Request, Response as Reply, Status, Streaming, transport::Channel};

use crate::door_server::{DoorServer, in_time, serve_routes};

/// A lie, and what the error says of it.
type Case<T> = (fn(&mut T), &'static str);
/// A lie about this read.
type ReadCase = (fn(&mut ReadReply), Read, &'static str);
/// The change of a reply, if there is one.
pub(crate) type Lie<T> = Arc<Mutex<Option<fn(&mut T)>>>;

/// The changes to requests and replies. Without them the server tells the truth.
#[derive(Clone, Default)]
pub(crate) struct Lies {
    description: Lie<Description>,
    head: Lie<HeadReply>,
    watch: Lie<HeadReply>,
    pub(crate) append: Lie<AppendReply>,
    asked: Lie<ReadRequest>,
    read: Lie<ReadReply>,
    live: Lie<SubscribeReply>,
    commits: Lie<ReadCommitsReply>,
    last: Lie<LastReply>,
    count: Lie<CountReply>,
    key: Lie<FindKeyReply>,
    types: Lie<TypesReply>,
}

fn told<T>(lie: &Lie<T>, mut reply: T) -> T {
    if let Some(lie) = *lie.lock() {
        lie(&mut reply);
    }
    reply
}

/// Passes calls on to a server that tells the truth, and changes the replies.
struct Liar {
    honest: LogClient<Channel>,
    lies: Lies,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn changed<T: Send + 'static>(replies: Streaming<T>, lie: &Lie<T>) -> Reply<Messages<T>> {
    let lie = lie.clone();
    Reply::new(Box::pin(replies.map(move |reply| Ok(told(&lie, reply?)))))
}

fn encoded<T: WireMessage + 'static>(replies: Reply<Messages<T>>) -> Reply<Messages<EncodedReply>> {
    replies.map(|replies| {
        let encoded = replies.map(|reply| Ok(EncodedReply::of(&reply?)));
        Box::pin(encoded) as Messages<EncodedReply>
    })
}

#[tonic::async_trait]
impl Log for Liar {
    type WatchStream = Messages<HeadReply>;
    type AppendStream = Messages<AppendReply>;
    type ReadStream = Messages<EncodedReply>;
    type ReadCommitsStream = Messages<ReadCommitsReply>;
    type SubscribeStream = Messages<EncodedReply>;

    async fn describe(
        &self,
        request: Request<DescribeRequest>,
    ) -> Result<Reply<Description>, Status> {
        let reply = self.honest.clone().describe(request.into_inner()).await?.into_inner();
        Ok(Reply::new(told(&self.lies.description, reply)))
    }

    async fn head(&self, request: Request<HeadRequest>) -> Result<Reply<HeadReply>, Status> {
        let reply = self.honest.clone().head(request.into_inner()).await?.into_inner();
        Ok(Reply::new(told(&self.lies.head, reply)))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Reply<Messages<HeadReply>>, Status> {
        let replies = self.honest.clone().watch(request.into_inner()).await?.into_inner();
        Ok(changed(replies, &self.lies.watch))
    }

    async fn append(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Reply<Messages<AppendReply>>, Status> {
        let requests = request.into_inner().filter_map(|request| std::future::ready(request.ok()));
        let replies = self.honest.clone().append(requests).await?.into_inner();
        Ok(changed(replies, &self.lies.append))
    }

    async fn commit(&self, request: Request<Call>) -> Result<Reply<Committed>, Status> {
        self.honest.clone().commit(request.into_inner()).await
    }

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Reply<Messages<EncodedReply>>, Status> {
        let request = told(&self.lies.asked, request.into_inner());
        let replies = self.honest.clone().read(request).await?.into_inner();
        Ok(encoded(changed(replies, &self.lies.read)))
    }

    async fn read_commits(
        &self,
        request: Request<ReadCommitsRequest>,
    ) -> Result<Reply<Messages<ReadCommitsReply>>, Status> {
        let replies = self.honest.clone().read_commits(request.into_inner()).await?.into_inner();
        Ok(changed(replies, &self.lies.commits))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Reply<Messages<EncodedReply>>, Status> {
        let replies = self.honest.clone().subscribe(request.into_inner()).await?.into_inner();
        Ok(encoded(changed(replies, &self.lies.live)))
    }

    async fn last(&self, request: Request<LastRequest>) -> Result<Reply<LastReply>, Status> {
        let reply = self.honest.clone().last(request.into_inner()).await?.into_inner();
        Ok(Reply::new(told(&self.lies.last, reply)))
    }

    async fn count(&self, request: Request<CountRequest>) -> Result<Reply<CountReply>, Status> {
        let reply = self.honest.clone().count(request.into_inner()).await?.into_inner();
        Ok(Reply::new(told(&self.lies.count, reply)))
    }

    async fn find_key(
        &self,
        request: Request<FindKeyRequest>,
    ) -> Result<Reply<FindKeyReply>, Status> {
        let reply = self.honest.clone().find_key(request.into_inner()).await?.into_inner();
        Ok(Reply::new(told(&self.lies.key, reply)))
    }

    async fn find_tracking(
        &self,
        request: Request<FindTrackingRequest>,
    ) -> Result<Reply<FindTrackingReply>, Status> {
        self.honest.clone().find_tracking(request.into_inner()).await
    }

    async fn checksum(
        &self,
        request: Request<ChecksumRequest>,
    ) -> Result<Reply<ChecksumReply>, Status> {
        self.honest.clone().checksum(request.into_inner()).await
    }

    async fn types(&self, request: Request<TypesRequest>) -> Result<Reply<TypesReply>, Status> {
        let reply = self.honest.clone().types(request.into_inner()).await?.into_inner();
        Ok(Reply::new(told(&self.lies.types, reply)))
    }
}

/// A lying server over an honest one, whose log has ten events of two types in turn.
pub(crate) struct HostileServer {
    pub(crate) lies: Lies,
    address: SocketAddr,
    honest: DoorServer,
}

impl HostileServer {
    pub(crate) async fn start() -> HostileServer {
        HostileServer::with(|router| router).await
    }

    async fn with(change: impl FnOnce(Router) -> Router) -> HostileServer {
        let store = Store::new(Memory::new());
        for number in 1..=10 {
            let name = ["even", "odd"][number % 2];
            let event = RawEvent::new(name, "1").tag(Tag::new("n", number));
            let append = Append::event(event).key(Key::new(number.to_string(), Digest([1; 16])));
            store.append(append).await.unwrap().synced().await.unwrap();
        }
        let honest = DoorServer::over(store, |server| server).await;
        let channel = Channel::from_shared(format!("http://{}", honest.address)).unwrap();
        let client = LogClient::new(in_time(channel.connect()).await.unwrap());
        let lies = Lies::default();
        let grpc = GrpcLog::new(Liar { honest: client, lies: lies.clone() });
        let router = change(Router::new()).fallback_service(grpc);
        let address = serve_routes(router).await;
        HostileServer { lies, address, honest }
    }

    pub(crate) async fn connect(&self, append_answer: AppendAnswer) -> RemoteStore {
        let mut options = RemoteOptions::default();
        // The shortest time in which a silent server is noticed.
        options.heartbeat = Duration::from_secs(1);
        options.append_answer = append_answer;
        let address = format!("diptych://{}", self.address);
        in_time(RemoteStore::connect(&address, options)).await.unwrap()
    }

    /// Asserts that the error names this server and the statement.
    #[track_caller]
    fn refused<T>(&self, answer: Result<T, impl ToString>, statement: &str) {
        let Err(error) = answer else { panic!("the lie was believed: {statement}") };
        let error = error.to_string();
        let who = format!("the server at http://{} says that", self.address);
        assert!(error.contains(&who) && error.contains(statement), "{statement:?}: {error}");
    }
}

pub(crate) fn tell<T>(lie: &Lie<T>, change: fn(&mut T)) {
    *lie.lock() = Some(change);
}

pub(crate) fn truth<T>(lie: &Lie<T>) {
    *lie.lock() = None;
}

fn event() -> Append {
    Append::event(RawEvent::new("even", "1").tag(Tag::new("n", 1)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_lie_every_answer_is_taken() {
    let server = HostileServer::start().await;
    let store = server.connect(AppendAnswer::Synced).await;
    let read = store.read(&Filter::everything(), Read::all()).await.unwrap();
    assert_eq!((read.len(), read.upto().get()), (10, 10));
    let odd: Filter = "type=odd".parse().unwrap();
    for read in
        [Read::all().limit(2), Read::backwards().limit(2), Read::after(10.into()).upto(4.into())]
    {
        store.read(&odd, read).await.unwrap();
    }
    assert_eq!(store.commits(ReadCommits::after(Position::START)).await.unwrap().len(), 10);
    assert_eq!(store.fresh_head().await.unwrap().get(), 10);
    assert_eq!(store.count(&Tag::new("n", 1), Position::MAX).await.unwrap(), 1);
    assert_eq!(store.last(&odd, Position::MAX).await.unwrap(), Some(Position::new(9)));
    assert_eq!(store.keyed("3").await.unwrap().unwrap().first.get(), 3);
    assert_eq!(store.types().await.unwrap(), ["even", "odd"]);
    let commit = store.append(event()).await.unwrap().synced().await.unwrap();
    assert_eq!((commit.first.get(), commit.last.get()), (11, 11));
    server.honest.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_cannot_be_is_an_error() {
    let server = HostileServer::start().await;
    let store = server.connect(AppendAnswer::Synced).await;
    let everything = Filter::everything();
    let lies = &server.lies;
    let cases: [ReadCase; 9] = [
        (
            |reply| reply.encoded.as_mut().unwrap().position_steps[2] = -1,
            Read::all(),
            "the event 1 comes after the event 2",
        ),
        (
            |reply| reply.encoded.as_mut().unwrap().position_steps[2] = 1,
            Read::backwards(),
            "the event 10 comes after the event 9",
        ),
        (|reply| reply.encoded.as_mut().unwrap().base = 400, Read::all(), "has the event 400"),
        (|reply| reply.upto = 3, Read::after(5.into()), "considered all up to 3"),
        (|reply| reply.upto = 10, Read::after(5.into()).upto(9.into()), "considered all up to 10"),
        (|reply| reply.upto = 70, Read::all(), "considered all up to 70"),
        (
            |reply| *reply = ReadReply { upto: 5, commit_end: 5, head: 10, ..ReadReply::default() },
            Read::after(5.into()),
            "there is nothing after position 5, and its log has 10 events",
        ),
        (
            |reply| reply.commit_end = 1,
            Read::all(),
            "the commit of the event 10 ends at position 1",
        ),
        (|reply| reply.head = u64::MAX, Read::all(), "its log has 18446744073709551615 events"),
    ];
    for (lie, read, statement) in cases {
        tell(&lies.read, lie);
        server.refused(in_time(store.read(&everything, read)).await, statement);
        truth(&lies.read);
        assert_eq!(store.read(&everything, Read::all()).await.unwrap().len(), 10);
        assert_eq!(store.head().position().get(), 10, "a lie about the head is not shown");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_outside_of_the_question_are_an_error() {
    let server = HostileServer::start().await;
    let store = server.connect(AppendAnswer::Synced).await;
    let odd: Filter = "type=odd".parse().unwrap();
    let asked = &server.lies.asked;
    tell(asked, |request| request.filter.as_mut().unwrap().items[0].types.clear());
    let statement = "the event 2 of the type \"even\" matches the filter type=odd";
    server.refused(in_time(store.read(&odd, Read::all())).await, statement);
    tell(asked, |request| request.limit = None);
    let statement = "a read of at most 2 events has 5";
    server.refused(in_time(store.read(&odd, Read::all().limit(2))).await, statement);
    tell(asked, |request| request.after = 0);
    let statement = "after 5 up to 10 has the event 1";
    server.refused(in_time(store.read(&odd, Read::after(5.into()))).await, statement);
    truth(asked);
    assert_eq!(store.read(&odd, Read::all()).await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_with_a_gap_or_without_progress_are_an_error() {
    let server = HostileServer::start().await;
    let store = server.connect(AppendAnswer::Synced).await;
    let cases: [Case<ReadCommitsReply>; 4] = [
        (
            |reply| reply.encoded.as_mut().unwrap().position_steps[4] = 2,
            "the event after position 4 is at 6",
        ),
        (|reply| reply.commits[9].last = 12, "a commit that ends at position 12"),
        (
            |reply| *reply = ReadCommitsReply { head: 10, ..ReadCommitsReply::default() },
            "no commit is after position 0, and its log has 10",
        ),
        (|reply| reply.upto = 1 << 40, "were considered up to 1099511627776"),
    ];
    for (lie, statement) in cases {
        tell(&server.lies.commits, lie);
        let commits = in_time(store.commits(ReadCommits::after(Position::START))).await;
        server.refused(commits, statement);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_that_cannot_be_are_errors() {
    let server = HostileServer::start().await;
    let store = server.connect(AppendAnswer::Synced).await;
    let (lies, tag) = (&server.lies, Tag::new("n", 1));
    tell(&lies.count, |reply| reply.count = u64::MAX);
    let statement = "18446744073709551615 events are at the positions up to 10";
    server.refused(in_time(store.count(&tag, Position::MAX)).await, statement);
    tell(&lies.count, |reply| reply.count = 5);
    server.refused(in_time(store.count(&tag, Position::new(4))).await, "up to 4");
    for (lie, statement) in [
        ((|reply| reply.position = Some(11)) as fn(&mut LastReply), "up to position 10 is at 11"),
        (|reply| reply.position = Some(0), "up to position 10 is at 0"),
    ] {
        tell(&lies.last, lie);
        let last = in_time(store.last(&Filter::everything(), Position::MAX)).await;
        server.refused(last, statement);
    }
    tell(&lies.key, |reply| {
        reply.commit = Some(KeyedCommit { first: 9, last: 3, digest: vec![0; 16] });
    });
    server.refused(in_time(store.keyed("3")).await, "a commit is at 9 to 3 of a log of 10 events");
    tell(&lies.types, |reply| reply.types = vec!["odd".to_owned(), "even".to_owned()]);
    server.refused(in_time(store.types()).await, "the type \"even\" follows \"odd\"");
    tell(&lies.head, |reply| reply.head = 4);
    let statement = "its log ends at position 4, after it had 10 events";
    server.refused(in_time(store.fresh_head()).await, statement);
    tell(&lies.head, |reply| reply.head = u64::MAX);
    server.refused(in_time(store.fresh_head()).await, "its log has 18446744073709551615 events");
    assert_eq!(store.head().position().get(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_no_log_can_have_is_neither_followed_nor_connected_to() {
    let server = HostileServer::start().await;
    tell(&server.lies.watch, |reply| reply.head = u64::MAX);
    let store = server.connect(AppendAnswer::Synced).await;
    // The head is published by the watch and by the append, and only the latter tells the truth.
    store.append(event()).await.unwrap().synced().await.unwrap();
    assert_eq!(store.head().position().get(), 11);
    tell(&server.lies.description, |reply| reply.head = u64::MAX);
    let address = format!("diptych://{}", server.address);
    let refused = in_time(RemoteStore::connect(&address, RemoteOptions::default())).await;
    server.refused(refused, "its log has 18446744073709551615 events");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_gets_its_events_whatever_the_live_events_are() {
    let cases: [fn(&mut SubscribeReply); 4] = [
        // Nothing but signs of life.
        |reply| reply.delivery = Some(Delivery::Heartbeat(Heartbeat { upto: 0 })),
        // Beyond every position.
        |reply| reply.delivery = Some(Delivery::Heartbeat(Heartbeat { upto: u64::MAX })),
        // Another event than the one that was appended.
        |reply| {
            if let Some(Delivery::Batch(batch)) = &mut reply.delivery {
                batch.encoded.as_mut().unwrap().base = 400;
            }
        },
        // No event, and no progress.
        |reply| reply.delivery = Some(Delivery::Batch(ReadReply::default())),
    ];
    for lie in cases {
        let server = HostileServer::start().await;
        tell(&server.lies.live, lie);
        let store = Store::new(server.connect(AppendAnswer::Synced).await);
        let (options, after) = (SubscribeOptions::default(), Position::new(10));
        let mut events = store.subscribe("type=odd".parse().unwrap(), after, options);
        let next = async {
            loop {
                if let Step::Batch(batch) = events.next().await.unwrap()
                    && !batch.is_empty()
                {
                    return batch;
                }
            }
        };
        let append = async {
            let append = Append::event(RawEvent::new("odd", "11"));
            store.append(append).await.unwrap().synced().await.unwrap();
        };
        let (batch, ()) = in_time(async { tokio::join!(next, append) }).await;
        assert_eq!((batch.len(), batch.get(0).unwrap().position().get()), (1, 11));
        assert!(store.head().position().get() <= 400);
    }
}

/// Changes the first outcome of a reply.
pub(crate) fn outcome(reply: &mut AppendReply, change: impl FnOnce(&mut CallReply)) {
    if let Some(call) = reply.replies.first_mut() {
        change(call);
    }
}

fn accepted(reply: &mut AppendReply, change: impl FnOnce(&mut Accepted)) {
    outcome(reply, |call| {
        if let Some(call_reply::Outcome::Accepted(accepted)) = &mut call.outcome {
            change(accepted);
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_that_cannot_be_is_an_unknown_outcome() {
    let cases: [Case<AppendReply>; 6] = [
        (
            |reply| accepted(reply, |accepted| accepted.last += 5),
            "a new commit of 1 events after position 10 is at 11 to 16",
        ),
        (
            |reply| accepted(reply, |accepted| (accepted.first, accepted.last) = (3, 3)),
            "a new commit of 1 events after position 10 is at 3 to 3",
        ),
        (
            |reply| accepted(reply, |accepted| accepted.first = u64::MAX),
            "is at 18446744073709551615 to 11",
        ),
        (
            |reply| outcome(reply, |call| call.number += 1_000),
            "it has an outcome of call 1001, which was never sent",
        ),
        (
            |reply| {
                outcome(reply, |call| call.outcome = Some(call_reply::Outcome::Synced(Synced {})));
            },
            "a commit is synced that it has not accepted",
        ),
        (|reply| reply.head = u64::MAX, "its log has 18446744073709551615 events"),
    ];
    for (lie, statement) in cases {
        let server = HostileServer::start().await;
        let store = server.connect(AppendAnswer::Synced).await;
        tell(&server.lies.append, lie);
        let error = in_time(store.append(event())).await.map(drop).unwrap_err();
        assert!(matches!(error, AppendError::OutcomeUnknown(_)), "{statement}: {error}");
        server.refused(Err::<(), _>(error), statement);
        // A server that tells the truth again is used again.
        truth(&server.lies.append);
        in_time(store.append(event())).await.unwrap().synced().await.unwrap();
    }
}

/// A decision may rest on a commit whose place is known, so nothing can go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_about_an_accepted_commit_ends_the_store() {
    let server = HostileServer::start().await;
    let store = server.connect(AppendAnswer::Accepted).await;
    // No reply says that the commit is synced.
    tell(&server.lies.append, |reply| {
        reply.replies.retain(|call| !matches!(call.outcome, Some(call_reply::Outcome::Synced(_))));
        accepted(reply, |accepted| accepted.synced = false);
    });
    let known = in_time(store.append(event())).await.unwrap();
    tell(&server.lies.append, |reply| outcome(reply, |call| call.number = 77));
    let unknown = in_time(store.append(event())).await.map(drop);
    server.refused(unknown, "an outcome of call 77");
    let error = in_time(known.synced()).await.unwrap_err();
    assert!(matches!(error.cause, Unavailable::Failed { .. }), "{error}");
    server.refused(Err::<(), _>(error), "an outcome of call 77");
    let ended = in_time(store.append(event())).await.map(drop).unwrap_err();
    assert!(matches!(ended, AppendError::Unavailable(Unavailable::Failed { .. })), "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_giant_message_is_refused_before_it_is_read() {
    // The head of a message of 4 GiB.
    async fn giant() -> Response<Body> {
        let body = Body::from(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]));
        let mut response = Response::new(body);
        let grpc = header::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(header::CONTENT_TYPE, grpc);
        response
    }
    let path = "/diptych.v1.Log/Read";
    let server = HostileServer::with(|router| router.route(path, post(giant))).await;
    let store = server.connect(AppendAnswer::Synced).await;
    let error = in_time(store.read(&Filter::everything(), Read::all())).await.unwrap_err();
    assert!(error.to_string().contains("larger message than this program takes"), "{error}");
}
