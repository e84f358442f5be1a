//! The orderly end of a server.

use std::time::Duration;

use diptych::App;
use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    client::{LONG, Request},
    served::{TheatreServer, with_views},
    store::{Mood, MoodyStore},
};

fn take(seat: &str) -> Request {
    Request::send("take-seat", json!({ "seat": seat, "by": "ada" }))
}

#[tokio::test]
async fn a_stop_answers_started_requests_and_accepts_no_more() {
    let store = MoodyStore::new();
    let served = TheatreServer::over(store.store()).await;
    let address = served.address;
    let (mut begun, mut idle, mut fresh) =
        (served.connect().await, served.connect().await, served.connect().await);
    idle.ask(&Request::get("/health")).await.ok();
    store.set(Mood::Held);
    begun.write(take("a1").bytes()).await;
    store.held(1).await;
    let (app, serving) = served.end();
    // Those without a request are closed at once, also one that never had one.
    assert!(idle.is_closed().await);
    assert!(fresh.is_closed().await);
    assert!(TcpStream::connect(address).await.is_err(), "it still takes connections");
    assert!(!serving.is_finished());
    store.set(Mood::Well);
    let receipt = begun.response(true).await.unwrap();
    assert_eq!(receipt.need("connection"), "close");
    receipt.ok();
    serving.await.unwrap().unwrap();
    assert_eq!(app.head().get(), 1);
}

/// The client is gone, so no connection is left to wait for.
#[tokio::test]
async fn a_stop_waits_for_commands_without_a_client() {
    let store = MoodyStore::new();
    let served = TheatreServer::over(store.store()).await;
    store.set(Mood::Held);
    let mut connection = served.connect().await;
    connection.write(take("a1").bytes()).await;
    store.held(1).await;
    drop(connection);
    let (app, mut serving) = served.end();
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut serving).await.is_err());
    store.set(Mood::Well);
    tokio::time::timeout(LONG, serving).await.unwrap().unwrap().unwrap();
    assert_eq!(app.head().get(), 1);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_abandons_requests_after_its_time() {
    let store = MoodyStore::new();
    let soon = Duration::from_millis(20);
    let served = TheatreServer::over_within(store.store(), |limits| limits.stop_time = soon).await;
    store.set(Mood::Held);
    let mut connection = served.connect().await;
    connection.write(take("a1").bytes()).await;
    store.held(1).await;
    served.stop().await;
    store.set(Mood::Well);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_commands_survive_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let app = with_views(App::open(folder.path()).unwrap()).start().await.unwrap();
    let served = TheatreServer::of(app, |server| server).await;
    let address = served.address;
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                let Ok(stream) = TcpStream::connect(address).await else { return acknowledged };
                drop(stream);
                let mut connection = crate::client::Connection::open(address).await;
                for number in 0.. {
                    let seat = format!("{sender}-{number}");
                    let bytes = take(&seat).bytes();
                    let sent = tokio::io::AsyncWriteExt::write_all(&mut connection.stream, &bytes);
                    if sent.await.is_err() {
                        break;
                    }
                    match connection.response(true).await {
                        Some(response) if response.status == 200 => acknowledged.push(seat),
                        _ => break,
                    }
                }
                acknowledged
            })
        })
        .collect();
    while served.head() < 50 {
        tokio::task::yield_now().await;
    }
    served.stop().await.stop().await.unwrap();
    let app = with_views(App::open(folder.path()).unwrap()).start().await.unwrap();
    let again = TheatreServer::of(app, |server| server).await;
    let mut all = 0;
    for sender in senders {
        for seat in sender.await.unwrap() {
            let who = again.get(&format!("/queries/who-sits?seat={seat}")).await.ok();
            assert_eq!(who, "ada", "{seat} was acknowledged");
            all += 1;
        }
    }
    assert!(all >= 42, "{all}");
}
