//! A server that stops in order: its streams say where to go on, and the appends that it has are
//! answered.

use std::fmt::Debug;

use diptych::store::{Append, EventStore, Memory, RawEvent, Store};
use diptych_remote::{
    RemoteOptions, RemoteStore,
    wire::messages::{
        AppendReply, AppendRequest, SubscribeRequest, WatchRequest, call_reply,
        log_client::LogClient, subscribe_reply::Delivery,
    },
};
use diptych_server::ServerLimits;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    append_stream::open_session,
    door_server::{DoorServer, LONG, call, in_time, raw_event},
    fence::gated,
};

async fn client(server: &DoorServer) -> LogClient<Channel> {
    let channel = Channel::from_shared(format!("http://{}", server.address)).unwrap();
    LogClient::new(in_time(channel.connect()).await.unwrap())
}

/// The messages up to the status that ends the stream.
async fn rest<T: Debug>(stream: &mut Streaming<T>) -> (Vec<T>, Option<Status>) {
    let mut messages = Vec::new();
    loop {
        match in_time(stream.message()).await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, None),
            Err(status) => return (messages, Some(status)),
        }
    }
}

#[track_caller]
fn says(status: Option<Status>, words: &str) {
    let status = status.expect("the stream ended as if there were no more");
    assert_eq!((status.code(), status.message()), (Code::Unavailable, words));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_heads_and_events_end_with_the_place_to_go_on_from() {
    const WORDS: &str = "the server stops: connect again, and go on after the last position";
    let server = DoorServer::start(|server| server).await;
    let store = server.store.clone();
    let put = async || {
        let append = Append::event(raw_event("paid", "1"));
        store.append(append).await.unwrap().synced().await.unwrap();
    };
    put().await;
    let mut log = client(&server).await;
    let mut heads = log.watch(WatchRequest::default()).await.unwrap().into_inner();
    assert_eq!(in_time(heads.message()).await.unwrap().unwrap().head, 1);
    let request = |after| SubscribeRequest { after, as_messages: true, ..Default::default() };
    let mut events = log.subscribe(request(0)).await.unwrap().into_inner();
    let mut upto = 0;
    let mut is_live = false;
    while !is_live {
        match in_time(events.message()).await.unwrap().unwrap().delivery.unwrap() {
            Delivery::Batch(batch) => upto = batch.upto,
            Delivery::CaughtUp(_) => is_live = true,
            other => panic!("{other:?}"),
        }
    }
    in_time(server.stop()).await;
    says(rest(&mut heads).await.1, WORDS);
    says(rest(&mut events).await.1, WORDS);

    put().await;
    let server = DoorServer::over(store.clone(), |server| server).await;
    let mut events = client(&server).await.subscribe(request(upto)).await.unwrap().into_inner();
    let next = in_time(events.message()).await.unwrap().unwrap().delivery.unwrap();
    let Delivery::Batch(batch) = next else { panic!("{next:?}") };
    assert_eq!(batch.events.iter().map(|event| event.position).collect::<Vec<_>>(), [2]);
    server.stop().await;
}

/// The numbers of the calls that are answered with a synced commit, and its position.
fn synced(replies: &[AppendReply]) -> Vec<(u64, u64)> {
    let outcomes = replies.iter().flat_map(|reply| &reply.replies);
    let places = outcomes.filter_map(|reply| match &reply.outcome {
        Some(call_reply::Outcome::Accepted(place)) if place.synced => {
            Some((reply.number, place.first))
        }
        _ => None,
    });
    places.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_in_flight_are_answered_and_those_that_come_later_are_refused() {
    const WORDS: &str = "the server stops and reads no further calls: connect again, open the \
                         session again, and send the calls without an outcome again";
    let gated = gated();
    let mut limits = ServerLimits::of_log();
    limits.stop_time = LONG;
    let server = DoorServer::over(gated.store.clone(), |server| server.limits(limits)).await;
    let address = server.address;
    let mut log = client(&server).await;
    let mut heads = log.watch(WatchRequest::default()).await.unwrap().into_inner();

    // A commit that is a call of its own, and two of a session.
    let mut unary = client(&server).await;
    let committing = tokio::spawn(async move { unary.commit(call(1)).await });
    in_time(gated.waits.notified()).await;
    let first = AppendRequest { calls: vec![call(1), call(2)], ..AppendRequest::default() };
    let (requests, mut replies) = open_session(&mut log, 1, first).await;
    assert!(in_time(replies.message()).await.unwrap().unwrap().opened.is_some());
    in_time(gated.waits.notified()).await;

    let stopping = tokio::spawn(server.stop());
    // The stream of heads tells that the server stops.
    assert!(rest(&mut heads).await.1.is_some());
    requests.send(AppendRequest { calls: vec![call(3)], ..Default::default() }).await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let refused = in_time(endpoint.connect()).await;
    assert!(refused.is_err(), "a server that stops takes a new connection");
    assert!(!stopping.is_finished(), "the server did not wait for its appends");

    gated.gate.add_permits(100);
    let (answered, status) = rest(&mut replies).await;
    let answered = synced(&answered);
    assert_eq!(answered.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
    says(status, WORDS);
    drop(requests);
    let committed = in_time(committing).await.unwrap().unwrap().into_inner();
    let mut positions: Vec<u64> = answered.iter().map(|(_, first)| *first).collect();
    positions.push(committed.first);
    positions.sort_unstable();
    assert_eq!(positions, [1, 2, 3]);
    in_time(stopping).await.unwrap();
    assert_eq!(gated.memory.head().position().get(), 3, "a call that was refused was executed");

    let late = in_time(log.commit(call(4))).await.unwrap_err();
    // The old connection is closed, and a new one is refused.
    assert!(matches!(late.code(), Code::Unavailable | Code::Cancelled), "{late:?}");
}

/// The status at the end of its stream is no error for a store, which connects again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_goes_on_at_the_next_server_of_its_address() {
    let store = Store::new(Memory::new());
    let server = DoorServer::over(store.clone(), |server| server).await;
    let address = server.address;
    let remote = format!("diptych://{address}");
    let remote = in_time(RemoteStore::connect(&remote, RemoteOptions::default())).await.unwrap();
    let append = async || {
        let append = Append::event(RawEvent::new("paid", "1").id(uuid::Uuid::new_v4()));
        remote.append(append).await.unwrap().synced().await.unwrap().first.get()
    };
    assert_eq!(in_time(append()).await, 1);
    server.stop().await;
    let served =
        tokio::task::spawn_blocking(move || crate::served_log::ServedLog::start_at(store, address));
    assert_eq!(in_time(append()).await, 2);
    let served = served.await.unwrap();
    tokio::task::spawn_blocking(move || drop(served)).await.unwrap();
}
