//! The calls that a store does not make, or not in these forms: a session that is opened again, one
//! commit, whole commits and subscriptions for clients in other languages, and pages of a feed.

use std::net::SocketAddr;

use diptych::{
    App, Event, Recorded,
    collaboration::{Feed, FeedCursor, FeedRead, FeedSource, PublicEvent},
    remote::{RemoteFeed, RemoteOptions},
    store::Store,
};
use diptych_remote::wire::messages::{
    AppendReply, AppendRequest, Call, CallReply, Event as EventMessage, Filter, FilterItem, Key,
    ReadCommitsRequest, SubscribeReply, SubscribeRequest, call_reply, log_client::LogClient,
    subscribe_reply::Delivery,
};
use serde::{Deserialize, Serialize};
use tonic::transport::Channel;

use super::NOW;
use crate::append_stream::open_session;

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("parcel-sent")]
struct ParcelSent {
    #[tag]
    parcel: u64,
}

#[derive(Clone, Debug, PublicEvent, Serialize, Deserialize)]
#[event("parcel-left", version = 2)]
struct ParcelLeft {
    #[tag]
    parcel: u64,
}

struct Parcels;

impl Feed for Parcels {
    const NAME: &'static str = "parcels";
    type Private = ParcelSent;
    type Public = ParcelLeft;

    fn publish(sent: &Recorded<ParcelSent>) -> impl IntoIterator<Item = ParcelLeft> {
        [ParcelLeft { parcel: sent.parcel }]
    }
}

/// An app that offers the feed of this store.
pub(super) async fn offering(store: Store) -> App {
    App::over_store(store).feed::<Parcels>().start().await.unwrap()
}

/// A commit of two events.
fn sent(number: u64) -> Call {
    let event = |parcel: u64| EventMessage {
        r#type: "parcel-sent".to_owned(),
        version: 1,
        tags: vec![format!("parcel:{parcel}")],
        payload: format!("{{\"parcel\":{parcel}}}").into_bytes(),
        id: uuid::Uuid::from_u128(parcel.into()).as_bytes().to_vec(),
        occurred_at: Some(-5),
        correlation: vec![2; 16],
        causation: vec![3; 16],
        actor: Some("ann".to_owned()),
        extra: [("device".to_owned(), "phone".to_owned())].into(),
    };
    let events = vec![event(2 * number - 1), event(2 * number)];
    Call { number, events, recorded_at: Some(NOW.as_micros()), ..Call::default() }
}

/// Whether the session was resumed, and the places of these calls in it.
async fn append(
    log: &mut LogClient<Channel>,
    settled: u64,
    numbers: impl IntoIterator<Item = u64>,
) -> (bool, Vec<(u64, u64, u64)>) {
    let calls: Vec<Call> = numbers.into_iter().map(sent).collect();
    let wanted = calls.len();
    let first = AppendRequest { calls, settled, ..AppendRequest::default() };
    let (_requests, mut stream) = open_session(log, 9, first).await;
    let (mut is_resumed, mut places) = (false, Vec::new());
    while places.len() < wanted {
        let AppendReply { opened, replies, .. } = stream.message().await.unwrap().unwrap();
        is_resumed |= opened.is_some_and(|opened| opened.resumed);
        for CallReply { number, outcome } in replies {
            let Some(call_reply::Outcome::Accepted(place)) = outcome else { panic!("{outcome:?}") };
            assert!(place.synced && place.recorded_at == NOW.as_micros());
            places.push((number, place.first, place.last));
        }
    }
    (is_resumed, places)
}

/// The deliveries up to the end of the log.
async fn deliveries(log: &mut LogClient<Channel>, as_messages: bool) -> Vec<Delivery> {
    let item =
        FilterItem { types: vec!["parcel-sent".to_owned()], tags: vec!["parcel:2".to_owned()] };
    let filter = Some(Filter { items: vec![item] });
    let request = SubscribeRequest {
        filter,
        after: 1,
        as_messages,
        heartbeat_ms: 5_000,
        ..Default::default()
    };
    let mut stream = log.subscribe(request).await.unwrap().into_inner();
    let mut deliveries = Vec::new();
    while !matches!(deliveries.last(), Some(Delivery::CaughtUp(_))) {
        let SubscribeReply { delivery, .. } = stream.message().await.unwrap().unwrap();
        deliveries.push(delivery.unwrap());
    }
    deliveries
}

/// The conversation, from the side of the client.
pub(super) async fn converse(address: SocketAddr) {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut log = LogClient::new(channel.connect().await.unwrap());
    assert_eq!(append(&mut log, 0, [1, 2]).await, (false, vec![(1, 1, 2), (2, 3, 4)]));
    // The second call is not executed again.
    assert_eq!(append(&mut log, 1, [2, 3]).await, (true, vec![(2, 3, 4), (3, 5, 6)]));

    let key = Key { name: "request-1".to_owned(), digest: vec![4; 16] };
    let committed = log.commit(Call { key: Some(key.clone()), ..sent(4) }).await.unwrap();
    let committed = committed.into_inner();
    assert_eq!((committed.first, committed.last, committed.head), (7, 8, 8));
    assert_eq!(committed.recorded_at, NOW.as_micros());

    let request = ReadCommitsRequest {
        after: 4,
        batches: 1,
        as_messages: true,
        ..ReadCommitsRequest::default()
    };
    let mut stream = log.read_commits(request).await.unwrap().into_inner();
    let reply = stream.message().await.unwrap().unwrap();
    let commits: Vec<_> =
        reply.commits.into_iter().map(|commit| (commit.last, commit.key)).collect();
    assert_eq!(commits, [(6, None), (8, Some(key))]);
    assert_eq!(reply.events.len(), 4);

    let readable = deliveries(&mut log, true).await;
    let [Delivery::Batch(batch), Delivery::CaughtUp(caught_up)] = &readable[..] else {
        panic!("{readable:?}")
    };
    let event = batch.events[0].event.clone();
    assert_eq!((batch.events[0].position, event), (2, sent(1).events.pop()));
    assert_eq!(caught_up.upto, 8);
    let encoded = deliveries(&mut log, false).await;
    let [Delivery::Batch(batch), Delivery::CaughtUp(_)] = &encoded[..] else {
        panic!("{encoded:?}")
    };
    assert_eq!(batch.encoded.as_ref().unwrap().base, 2);

    let feed = format!("diptych://{address}/feeds/parcels");
    let feed = RemoteFeed::new(&feed, RemoteOptions::default()).unwrap();
    for (cursor, positions) in
        [(FeedCursor::Position(6.into()), &[7, 8][..]), (FeedCursor::End, &[])]
    {
        let page = feed.read(FeedRead::after(cursor)).await.unwrap();
        assert_eq!((page.log.id, page.upto.get(), page.head.get()), (super::LOG, 8, 8));
        let found = page.events.iter().map(|event| event.data.get().to_owned());
        let wanted = positions.iter().map(|parcel| format!("{{\"parcel\":{parcel}}}"));
        assert!(found.eq(wanted), "{:?}", page.events);
    }
}
