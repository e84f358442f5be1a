//! The notifications of a store to other programs: few under load, and at once when it is idle.

use std::{
    future::poll_fn,
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use diptych_store::{Append, Store};
use tokio_postgres::{AsyncMessage, NoTls};

use super::{
    append, event,
    server::{PostgresServer, runtime},
};

/// The shortest time between two notifications of a store.
const BETWEEN: Duration = Duration::from_millis(10);

/// Listens to the first log of the server. Each notification comes with its time.
fn listen(server: &PostgresServer) -> Receiver<(Instant, u64)> {
    let (sender, received) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    let address = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port());
    thread::spawn(move || {
        runtime().block_on(async {
            let (client, mut connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
            let following = tokio::spawn(async move {
                while let Some(Ok(message)) =
                    poll_fn(|context| connection.poll_message(context)).await
                {
                    if let AsyncMessage::Notification(hint) = message
                        && sender.send((Instant::now(), hint.payload().parse().unwrap())).is_err()
                    {
                        return;
                    }
                }
            });
            client.batch_execute("listen diptych_1").await.unwrap();
            ready.send(()).unwrap();
            let _ = following.await;
        });
    });
    is_ready.recv().unwrap();
    received
}

#[test]
fn an_idle_store_sends_one_notification_for_a_commit_and_sends_it_at_once() {
    let Some(server) = PostgresServer::in_memory() else { return };
    let store = Store::new(server.open("main"));
    append(&store, Append::event(event(0, "k:1"))).unwrap();
    // Its watch is connected once it has sent this one.
    let hints = listen(&server);
    while hints.recv_timeout(Duration::from_millis(100)).is_err() {
        append(&store, Append::event(event(0, "k:1"))).unwrap();
    }
    while hints.recv_timeout(Duration::from_millis(100)).is_ok() {}
    let mut times = Vec::new();
    for number in 1..=20 {
        thread::sleep(3 * BETWEEN);
        let committed = append(&store, Append::event(event(number, "k:1"))).unwrap();
        let answered = Instant::now();
        let (sent, head) = hints.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(head, committed.last.get());
        times.push(sent.saturating_duration_since(answered));
    }
    let more = hints.recv_timeout(Duration::from_millis(100));
    assert!(more.is_err(), "a commit had a second notification: {more:?}");
    // The machine can be busy, so the fastest counts.
    let fastest = times.iter().min().unwrap();
    assert!(*fastest < BETWEEN / 2, "the fastest notification took {fastest:?}");
}

#[test]
fn a_store_under_load_sends_a_notification_at_most_every_ten_milliseconds() {
    let Some(server) = PostgresServer::in_memory() else { return };
    let store = Store::new(server.open("main"));
    append(&store, Append::event(event(0, "k:1"))).unwrap();
    let hints = listen(&server);
    let bound = |time: Duration| time.as_millis() / BETWEEN.as_millis() + 2;
    let (start, commits, mut last) = (Instant::now(), 1_000, 0);
    // Each commit is a call of its own.
    for number in 0..commits {
        last = append(&store, Append::event(event(number, "k:1"))).unwrap().last.get();
    }
    let mut found = Vec::new();
    while found.last().is_none_or(|(_, head)| *head < last) {
        found.push(hints.recv_timeout(Duration::from_secs(30)).unwrap());
    }
    let time = found.last().unwrap().0.saturating_duration_since(start);
    let (count, bound) = (found.len() as u128, bound(time));
    assert!(count <= bound, "{count} notifications in {time:?}, for {commits} commits");
    assert!(count >= 2, "{count} notifications for {commits} commits");
    assert!(found.windows(2).all(|pair| pair[0].1 < pair[1].1), "{found:?}");
}
