//! The promises of a store, over the network.

use std::sync::Arc;

use diptych::store::{EventStore, Memory, Store};
use diptych_store::testing::{Setup, TestStore};

use crate::served_log::{ServedLog, connect};

/// A store in memory on a server, with any number of connections.
fn fresh(setup: &Setup) -> Option<TestStore> {
    let memory = Memory::new().limits(setup.limits.clone()).time(setup.time);
    let served = Arc::new(ServedLog::start(Store::new(memory)));
    let store = served.connect();
    let (ended, address) = (store.clone(), served.address);
    let second = move || Store::new(connect(address));
    let reopen = move || {
        let _is_served = &served;
        Store::new(connect(address))
    };
    let end = move || pollster::block_on(ended.close()).unwrap();
    Some(TestStore::new(store).second(second).reopen(reopen).end(end))
}

diptych_store::conformance!(fresh);
