//! An append that a server has abandoned at its end is not made later.

use std::{sync::Arc, time::Duration};

use diptych::store::{Append, EventStore, Memory, RawEvent, Store};
use diptych_remote::{RemoteOptions, RemoteStore, wire::messages::log_client::LogClient};
use diptych_server::ServerLimits;
use diptych_store::testing::{Call as StoreCall, WrappedStore};
use tokio::sync::{Notify, Semaphore};
use tonic::transport::Channel;

use crate::door_server::{DoorServer, call, in_time};

/// A store whose appends wait until they are let through.
pub(crate) struct Gated {
    pub(crate) memory: Store,
    pub(crate) store: Store,
    /// Tells each append that waits.
    pub(crate) waits: Arc<Notify>,
    pub(crate) gate: Arc<Semaphore>,
}

pub(crate) fn gated() -> Gated {
    let memory = Store::new(Memory::new());
    let (waits, gate) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (told, passed) = (waits.clone(), gate.clone());
    let store = WrappedStore::over(memory.clone()).before(move |call| {
        let is_append = matches!(call, StoreCall::Append(_));
        let (told, passed) = (told.clone(), passed.clone());
        async move {
            if is_append {
                told.notify_one();
                let _passed = passed.acquire().await;
            }
            Ok(())
        }
    });
    Gated { memory, store: Store::new(store), waits, gate }
}

fn short(limits: &mut ServerLimits) {
    limits.stop_time = Duration::from_millis(50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_was_abandoned_at_the_end_of_its_server_is_not_made_later() {
    let gated = gated();
    let mut limits = ServerLimits::of_log();
    short(&mut limits);
    let server = DoorServer::over(gated.store.clone(), |server| server.limits(limits)).await;
    // Over the stream of a session, over one call, and over HTTP.
    let address = format!("diptych://{}", server.address);
    let remote = in_time(RemoteStore::connect(&address, RemoteOptions::default())).await.unwrap();
    let session = tokio::spawn(async move {
        remote.append(Append::event(RawEvent::new("abandoned", "1"))).await.map(drop)
    });
    in_time(gated.waits.notified()).await;
    let channel = Channel::from_shared(format!("http://{}", server.address)).unwrap();
    let mut client = LogClient::new(in_time(channel.connect()).await.unwrap());
    let unary = tokio::spawn(async move { client.commit(call(1)).await.map(drop) });
    in_time(gated.waits.notified()).await;
    let http = axum::http::Request::post("/v1/logs/log/events")
        .header("content-type", "application/json")
        .body(r#"{"events":[{"type":"abandoned","data":1}]}"#.to_owned())
        .unwrap();
    let address = server.address;
    let over_http = tokio::spawn(async move {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let stream = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = crate::door_server::with_host(http).map(axum::body::Body::from);
        sender.send_request(request).await.map(drop)
    });
    in_time(gated.waits.notified()).await;
    server.stop().await;
    session.abort();
    // Another server of the same store in this process. Its appends go through.
    gated.gate.add_permits(100);
    let server = DoorServer::over(gated.store.clone(), |server| server).await;
    let channel = Channel::from_shared(format!("http://{}", server.address)).unwrap();
    let mut client = LogClient::new(in_time(channel.connect()).await.unwrap());
    for number in 1..=20 {
        in_time(client.commit(call(number))).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(gated.memory.head().position().get(), 20, "an abandoned append was made");
    server.stop().await;
    drop((unary, over_http));
}
