//! The promises of a store, over the network.

use std::sync::Arc;

use diptych::store::{EventStore, Memory, Store};
use diptych_log::{Log, LogOptions};
use diptych_remote::AppendAnswer;
use diptych_store::testing::{Setup, TestStore};
use tempfile::TempDir;

use crate::served_log::{ServedLog, connect};

/// A store on a server, with any number of connections.
fn served(store: Store, answer: AppendAnswer, folder: Option<TempDir>) -> TestStore {
    let served = Arc::new(ServedLog::start(store));
    let address = served.address;
    let store = connect(address, answer);
    let ended = store.clone();
    let second = move || Store::new(connect(address, answer));
    let reopen = move || {
        let _are_kept = (&served, &folder);
        Store::new(connect(address, answer))
    };
    let end = move || pollster::block_on(ended.close()).unwrap();
    TestStore::new(store).second(second).reopen(reopen).end(end)
}

fn memory(setup: &Setup) -> Store {
    Store::new(Memory::new().limits(setup.limits.clone()).time(setup.time))
}

/// Appends answer when they are synced.
mod answers_when_synced {
    use super::*;

    fn fresh(setup: &Setup) -> Option<TestStore> {
        Some(served(memory(setup), AppendAnswer::Synced, None))
    }

    diptych_store::conformance!(fresh);
}

/// Appends answer when they are accepted, over a log in a folder, which syncs them later.
mod answers_when_accepted {
    use super::*;

    fn fresh(setup: &Setup) -> Option<TestStore> {
        let folder = tempfile::tempdir().unwrap();
        let (limits, time) = (setup.limits.clone(), setup.time);
        let options = LogOptions { limits, time, ..LogOptions::default() };
        let log = Log::open(folder.path(), options).unwrap();
        Some(served(Store::new(log), AppendAnswer::Accepted, Some(folder)))
    }

    diptych_store::conformance!(fresh);
}
