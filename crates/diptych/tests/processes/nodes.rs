//! Two programs run one process on one log.

use std::collections::BTreeMap;

use diptych::{Memory, Store, process::ProcessStart, testing::Clock};

use super::orders::{Fulfilment, PAY_WITHIN, Pay, Place, counts, events, idle, quick, shop, until};

const ORDERS: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_do_everything_once_though_one_is_killed_again_and_again() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let client = shop(&store, &clock).start().await.unwrap();
    let node = || {
        let app = shop(&store, &clock);
        app.process_with::<Fulfilment>(ProcessStart::Beginning, quick()).start()
    };
    let steady = node().await.unwrap();
    let mut other = node().await.unwrap();
    for order in 1..=ORDERS {
        client.execute(Place { order }).await.unwrap();
        if order % 3 != 0 {
            client.execute(Pay { order }).await.unwrap();
        }
        if order % 5 == 0 {
            // Dropping an app ends its tasks wherever they are.
            drop(other);
            other = node().await.unwrap();
        }
        if order == ORDERS / 2 {
            clock.advance(PAY_WITHIN);
        }
    }
    until("all orders have ended", || async {
        // A late reaction sets its timer by the clock of that time.
        clock.advance(PAY_WITHIN);
        let shipped = counts(&store, "order-shipped").await;
        let cancelled = counts(&store, "order-cancelled").await;
        (shipped.len() + cancelled.len()) as u64 == ORDERS
    })
    .await;
    drop(other);
    idle(&steady).await;
    let shipped = counts(&store, "order-shipped").await;
    let cancelled = counts(&store, "order-cancelled").await;
    assert_eq!(shipped.len() as u64, ORDERS - ORDERS / 3);
    assert_eq!(cancelled.len() as u64, ORDERS / 3);
    assert!(shipped.values().chain(cancelled.values()).all(|count| *count == 1));
    let mut fired = BTreeMap::<String, u32>::new();
    for (_, event) in events(&store, &["diptych:process-timer-fired"]).await {
        let firing: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
        *fired.entry(firing["instance"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(fired.values().all(|count| *count == 1), "no timer fired twice: {fired:?}");
    // That of an order whose payment was not seen when the time came fired, too.
    let of = |order: &String| fired.contains_key(&format!("order:{order}"));
    assert!(cancelled.keys().all(of), "{fired:?}");
    steady.stop().await.unwrap();
}
