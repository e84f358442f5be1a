//! A server of another version: calls that it does not know, and failures that the client does not
//! know.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    body::Body,
    http::Request,
    middleware::{Next, from_fn},
};
use diptych::store::{
    Append, AppendError, EventStore, Filter, Memory, RawEvent, Read, ReadError, Store, Unavailable,
};
use diptych_remote::{
    AppendAnswer, RemoteOptions, RemoteStore,
    wire::messages::{Failure, call_reply},
};
use diptych_server::LogServer;
use tonic::{Code, Status};

use crate::{
    door_server::{LONG, in_time, serve_routes},
    hostile::{HostileServer, outcome, tell, truth},
};

/// A `Failure` of a kind that this version does not know, as a later version would encode it.
const LATER_FAILURE: &[u8] = &[0x7a, 3, b'n', b'e', b'w'];

/// A server that answers one call in its own way, and the others as ever.
struct OtherServer {
    store: Store,
    address: SocketAddr,
    /// How often it was asked for that call.
    asked: Arc<AtomicU64>,
}

impl OtherServer {
    async fn start(call: &str, answer: fn() -> Status) -> OtherServer {
        let store = Store::new(Memory::new());
        let (routes, _) = LogServer::new(store.clone()).into_router().unwrap();
        let (path, asked) = (format!("/diptych.v1.Log/{call}"), Arc::new(AtomicU64::new(0)));
        let counter = asked.clone();
        let routes = routes.layer(from_fn(move |request: Request<Body>, next: Next| {
            let is_that = request.uri().path() == path;
            if is_that {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            async move {
                match is_that {
                    true => answer().into_http(),
                    false => next.run(request).await,
                }
            }
        }));
        OtherServer { store, address: serve_routes(routes).await, asked }
    }

    /// A client that would ask for a long time.
    async fn connect(&self) -> RemoteStore {
        let mut options = RemoteOptions::default();
        options.answer_time = LONG * 2;
        let address = format!("diptych://{}", self.address);
        in_time(RemoteStore::connect(&address, options)).await.unwrap()
    }

    /// Asserts that the answer is one of the server, after at most one more try over another
    /// connection.
    #[track_caller]
    fn answers(&self, unavailable: &Unavailable, words: &str) {
        let Unavailable::Server { what } = unavailable else { panic!("{unavailable:?}") };
        assert_eq!(&**what, words);
        assert!(self.asked.swap(0, Ordering::Relaxed) <= 2, "the client asked again and again");
    }
}

fn of_read<T>(answer: Result<T, ReadError>) -> Unavailable {
    match answer.map(drop).unwrap_err() {
        ReadError::Unavailable(unavailable) => unavailable,
        other => panic!("{other:?}"),
    }
}

fn of_append<T>(answer: Result<T, AppendError>) -> Unavailable {
    match answer.map(drop).unwrap_err() {
        AppendError::Unavailable(unavailable) => unavailable,
        other => panic!("{other:?}"),
    }
}

fn event() -> Append {
    Append::event(RawEvent::new("a", "1"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_the_server_does_not_know_says_so_at_once() {
    const WORDS: &str = "it does not know this call; compare the versions (no such method)";
    let server = OtherServer::start("Types", || Status::unimplemented("no such method")).await;
    let store = server.connect().await;
    server.answers(&of_read(in_time(store.types()).await), WORDS);
    server.answers(&of_read(in_time(store.types()).await), WORDS);
    // Other calls go on.
    let _ = in_time(store.append(event())).await.unwrap();
    let batch = in_time(store.read(&Filter::everything(), Read::all())).await.unwrap();
    assert_eq!(batch.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_to_a_server_without_sessions_says_so_and_writes_nothing() {
    const WORDS: &str = "it does not know this call; compare the versions (no such method)";
    let server = OtherServer::start("Append", || Status::unimplemented("no such method")).await;
    let store = server.connect().await;
    server.answers(&of_append(in_time(store.append(event())).await), WORDS);
    assert_eq!(server.store.head().position().get(), 0);
}

/// Once the client asked again until its time was over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_an_unknown_kind_is_unavailable_with_the_words_of_its_status() {
    const WORDS: &str = "it answered with a failure that this program does not know; compare the \
                         versions (the tenant sleeps)";
    let answers: [fn() -> Status; 2] = [
        || {
            Status::with_details(
                Code::FailedPrecondition,
                "the tenant sleeps",
                LATER_FAILURE.into(),
            )
        },
        || Status::with_details(Code::Unavailable, "the tenant sleeps", LATER_FAILURE.into()),
    ];
    for answer in answers {
        let server = OtherServer::start("Count", answer).await;
        let store = server.connect().await;
        let tag = diptych::store::Tag::new("a", 1);
        let counted = in_time(store.count(&tag, diptych::store::Position::MAX)).await;
        server.answers(&of_read(counted), WORDS);

        let server = OtherServer::start("Append", answer).await;
        let store = server.connect().await;
        server.answers(&of_append(in_time(store.append(event())).await), WORDS);
    }
}

/// A call of a session has no status, so there are no words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_an_unknown_kind_in_a_session_is_unavailable() {
    let server = HostileServer::start().await;
    let store = server.connect(AppendAnswer::Synced).await;
    tell(&server.lies.append, |reply| {
        outcome(reply, |call| {
            let failure = Failure { kind: None, ..Failure::default() };
            call.outcome = Some(call_reply::Outcome::Failure(failure));
        });
    });
    let answer = in_time(store.append(event())).await;
    let unavailable = of_append(answer);
    let Unavailable::Server { what } = &unavailable else { panic!("{unavailable:?}") };
    assert!(what.contains("compare the versions"), "{what}");
    // The session goes on.
    truth(&server.lies.append);
    let _ = in_time(store.append(event())).await.unwrap();
}
