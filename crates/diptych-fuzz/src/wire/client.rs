//! Replies of a server to a client.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderValue, Request, Response, header},
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use diptych_remote::{
    FeedClient, RemoteOptions, RemoteStore,
    wire::{
        identity_message, limits_message,
        messages::{
            AppendReply, CallReply, ChecksumReply, CountReply, Description, FeedEvent,
            FeedPageReply, FindKeyReply, FindTrackingReply, HeadReply, KeyedCommit, LastReply,
            SessionOpened, TypesReply, call_reply, feed_page_request::After,
        },
        read_commits_reply, read_reply,
    },
};
use diptych_store::{
    Append, EventStore, Filter, Position, Read, ReadCommits, Tag, Timestamp, Tracking, Unavailable,
};
use futures_util::{StreamExt, stream};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use prost::Message;
use tokio::net::TcpListener;

use super::{
    EVENTS, PAGE, PANICS_OF_STORES, count_panics, event, frame, identity, page_request, runtime,
    store,
};
use crate::observe::note;

/// Time of a call of the client.
const ANSWER_TIME: Duration = Duration::from_millis(100);
/// Replies of a server that an input can be.
const REPLIES: [&str; 12] = [
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
    PAGE,
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
        if call == PAGE {
            return note(&page(&format!("diptych://{address}/feeds/numbers"), options).await);
        }
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

/// Asks for a page of a feed, and checks what the client takes.
async fn page(address: &str, options: RemoteOptions) -> String {
    let client = FeedClient::new(address, options).unwrap();
    match client.page(page_request(After::Position(3))).await {
        Ok(page) => {
            assert!(page.upto <= page.head && page.head <= u64::MAX >> 1);
            format!("{} published", page.events.len())
        }
        Err(error) => error.to_string(),
    }
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
    let event = FeedEvent { id: "4".into(), data: b"{}".to_vec(), ..FeedEvent::default() };
    let published = FeedPageReply {
        identity: identity.clone(),
        events: vec![event],
        upto: 4,
        head: EVENTS,
        ..FeedPageReply::default()
    };
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
        of(PAGE, published.encode_to_vec()),
        status,
    ]
}
