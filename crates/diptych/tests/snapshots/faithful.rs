//! The app saves a state only if its snapshot reads back as the same state.

use std::{collections::BTreeMap, sync::Arc};

use diptych::{
    App, Filter, Fold, Memory, Recorded, Tag,
    snapshot::{MemorySnapshots, SnapshotOptions, Snapshots},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::support::{
    bank::{Banking, Deposited},
    counted_store::{CountedStore, Warnings, write_event},
    probe::look,
};
use diptych::Event;

/// The last limit of each account: not stated yet, no limit, or a limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Limits {
    by_account: BTreeMap<String, Option<Option<u64>>>,
}

impl Fold for Limits {
    type Event = Banking;

    fn apply(&mut self, event: &Recorded<Banking>) {
        if let Banking::Deposited(Deposited { account, amount }) = &event.event {
            let limit = Some(*amount).filter(|amount| *amount > 0);
            self.by_account.insert(account.clone(), Some(limit));
        }
    }
}

fn write(store: &CountedStore, amount: u64) {
    let deposited = Deposited { account: "a".to_owned(), amount };
    write_event(store.inner(), Banking::Deposited(deposited).encode().unwrap());
}

/// Starts an app. Returns its state and the number of events read for that state.
async fn once<F>(store: &CountedStore, place: &Arc<MemorySnapshots>) -> (F, u64)
where
    F: Fold + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let before = store.events_read();
    let every = SnapshotOptions::every(1);
    let app = App::over(store.store()).snapshots_in(place.clone()).snapshots::<F>(every);
    let app = app.start().await.unwrap();
    let state = look::<F>(&app, &Filter::tag(Tag::new("account", "a"))).await.unwrap();
    app.stop().await.unwrap();
    (state, store.events_read() - before)
}

/// Regression: `Some(None)` was read back as `None`, so a restart changed the state.
#[tokio::test]
async fn a_state_that_would_be_read_back_differently_is_not_saved() {
    let (warnings, _listening) = Warnings::listen();
    let (store, place) = (CountedStore::new(Memory::new()), Arc::new(MemorySnapshots::default()));
    write(&store, 5);
    let limits = |limit| Limits { by_account: [("a".to_owned(), Some(limit))].into() };
    assert_eq!(once(&store, &place).await, (limits(Some(5)), 1));
    assert_eq!(once(&store, &place).await, (limits(Some(5)), 0));
    assert_eq!(warnings.take(), [""; 0]);
    write(&store, 0);
    // The older snapshot is valid, and each start reads the events after it.
    for _ in 0..3 {
        assert_eq!(once(&store, &place).await, (limits(None), 1));
        let warning = warnings.one();
        assert!(warning.contains("a state cannot be kept as a snapshot"), "{warning}");
        assert!(warning.contains("Some(None), which would be read back as None"), "{warning}");
    }
    write(&store, 7);
    assert_eq!(once(&store, &place).await, (limits(Some(7)), 2));
    assert_eq!(once(&store, &place).await, (limits(Some(7)), 0));
    assert_eq!(place.names("").unwrap().len(), 1);
    assert_eq!(warnings.take(), [""; 0]);
}
