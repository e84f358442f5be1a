//! The history of the log changes under an intake.

use diptych::Store;

use super::{
    distant::DistantStore,
    services::{orders, place, shipments, shipping, stopped, until},
};

#[tokio::test]
async fn an_intake_stops_when_the_history_of_its_log_changes_and_writes_nothing_into_the_new_one() {
    let (ordering, feed) = orders(2).await;
    let distant = DistantStore::new();
    let app = shipping(&Store::new(distant.connect()), feed).start().await.unwrap();
    until(&app, "shipments", |status| status.position.get() == 2).await;
    assert_eq!(shipments(&app).await.events, 2);

    let changed = distant.restore();
    let head = distant.store.head().position();
    place(&ordering, 2).await;
    assert_eq!(stopped(&app, "shipments").await, changed.to_string());
    app.stop().await.unwrap();
    assert_eq!(distant.store.head().position(), head, "the stopped intake wrote events");
}
