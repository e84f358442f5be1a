//! The history of the log changes under a process.

use std::sync::atomic::Ordering;

use diptych::{App, Store, process::ProcessState, testing::Clock};

use super::{
    distant::DistantStore,
    orders::{Pay, Place, counts, idle, running, shop, until},
};

fn state(app: &App) -> ProcessState {
    app.processes()[0].state.clone()
}

#[tokio::test]
async fn a_process_stops_when_the_history_changes_and_writes_nothing_into_the_new_one() {
    let (clock, distant) = (Clock::new(), DistantStore::new());
    let app = running(&Store::new(distant.connect()), &clock).await;
    app.execute(Place { order: 1 }).await.unwrap();
    app.execute(Pay { order: 1 }).await.unwrap();
    let shipped = || async { counts(&distant.store, "order-shipped").await.contains_key("1") };
    until("the order is shipped", shipped).await;
    idle(&app).await;

    let changed = distant.restore();
    until("the process stops", || async { matches!(state(&app), ProcessState::Stopped { .. }) })
        .await;
    let ProcessState::Stopped { reason } = state(&app) else { panic!("it goes on") };
    assert_eq!(reason, changed.to_string());

    // Another program pays an order of the new history. The process of the old one does not react.
    let head = distant.store.head().position();
    let client = shop(&distant.store, &clock).start().await.unwrap();
    client.execute(Place { order: 2 }).await.unwrap();
    client.execute(Pay { order: 2 }).await.unwrap();
    let after = distant.store.head().position();
    assert_eq!(after, head.plus(2), "the stopped process wrote events");
    app.stop().await.unwrap();
    assert_eq!(distant.store.head().position(), after);
}

#[tokio::test]
async fn after_an_outage_of_the_same_history_a_process_goes_on() {
    let (clock, distant) = (Clock::new(), DistantStore::new());
    let app = running(&Store::new(distant.connect()), &clock).await;
    let client = shop(&distant.store, &clock).start().await.unwrap();
    distant.is_out.store(true, Ordering::SeqCst);
    client.execute(Place { order: 1 }).await.unwrap();
    client.execute(Pay { order: 1 }).await.unwrap();
    until("the process stalls", || async { matches!(state(&app), ProcessState::Stalled { .. }) })
        .await;
    distant.is_out.store(false, Ordering::SeqCst);
    let shipped = || async { counts(&distant.store, "order-shipped").await.contains_key("1") };
    until("the order is shipped", shipped).await;
    app.stop().await.unwrap();
}
