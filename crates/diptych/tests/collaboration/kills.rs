//! Either side is killed at any step, and nothing is lost or taken in twice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use diptych::{
    App, Memory, Store,
    collaboration::{FeedCursor, FeedError, FeedPage, FeedRead, FeedSource},
};
use parking_lot::Mutex;

use super::services::{Orders, place, shipments, shipping};

/// The feed of a service that is killed and started again: an address, behind which there is a new
/// app each time, or none.
#[derive(Clone)]
struct Address {
    app: Arc<Mutex<Option<App>>>,
    calls: Arc<AtomicU64>,
}

impl FeedSource for Address {
    fn name(&self) -> String {
        "orders".to_owned()
    }

    async fn read(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        self.calls.fetch_add(1, SeqCst);
        let feed = self.app.lock().as_ref().and_then(|app| app.feed("orders"));
        let away = FeedError::Unreachable { reason: "connection refused".to_owned() };
        feed.ok_or(away)?.page(read).await
    }
}

#[tokio::test]
async fn killed_services_take_in_each_of_a_thousand_messages_once() {
    let set = std::env::var("DIPTYCH_KILLS");
    for seed in 0..set.map_or(20, |text| text.parse().expect("DIPTYCH_KILLS")) {
        one_run(seed, 50).await;
    }
}

/// A thousand messages with one seed: the runs together are EC-A1.
async fn one_run(seed: u64, messages: u64) {
    let mut numbers = fastrand::Rng::with_seed(seed);
    let (source_log, own_log) = (Store::new(Memory::new()), Store::new(Memory::new()));
    let address = Address { app: Arc::default(), calls: Arc::default() };
    let mut sent = 0;
    let mut consumer = None;
    for _ in 0..10_000 {
        match numbers.u64(0..6) {
            0 => {
                let app =
                    App::over_store(source_log.clone()).feed::<Orders>().start().await.unwrap();
                *address.app.lock() = Some(app);
            }
            1 => drop(address.app.lock().take()),
            2 => {
                let options = || shipping(&own_log, address.clone());
                consumer = Some(options().start().await.unwrap());
            }
            // The drop ends the task of the intake at whatever it waits for.
            3 => drop(consumer.take()),
            _ => {
                let app = address.app.lock().clone();
                if let Some(app) = app.filter(|_| sent < messages) {
                    place(&app, sent % 7).await;
                    sent += 1;
                }
            }
        }
        for _ in 0..numbers.u64(0..12) {
            tokio::task::yield_now().await;
        }
        if numbers.u64(0..8) == 0 {
            tokio::time::sleep(Duration::from_micros(numbers.u64(0..500))).await;
        }
        if sent == messages && consumer.is_some() && address.app.lock().is_some() {
            break;
        }
    }
    assert_eq!(sent, messages, "seed {seed}: the run is too short");
    drop(consumer);
    let app = shipping(&own_log, address.clone()).start().await.unwrap();
    let head = source_log.head().position();
    super::services::until(&app, "shipments", |status| status.position == head).await;
    let taken = shipments(&app).await;

    // A fold of the source gives the same.
    let mut sums = BTreeMap::new();
    for message in 0..messages {
        *sums.entry(message % 7).or_insert(0) += 100 + message % 7;
    }
    assert_eq!((taken.events, taken.sums), (messages, sums), "seed {seed}");
    let end = FeedRead::after(FeedCursor::End);
    assert_eq!(address.read(end).await.unwrap().upto, head);
}
