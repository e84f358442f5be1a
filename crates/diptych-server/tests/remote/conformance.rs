//! The promises of a store, over the network.

use std::{net::SocketAddr, sync::Arc};

use diptych::store::{EventStore, Memory, Store};
use diptych_remote::AppendAnswer;
use diptych_store::testing::{Setup, TestStore};

use crate::{
    log_process::OtherLog,
    served_log::{ServedLog, connect},
};

/// A store on a server, with any number of connections. The server runs as long as this value.
fn remote(
    server: impl Send + Sync + 'static,
    address: SocketAddr,
    answer: AppendAnswer,
) -> TestStore {
    let store = connect(address, answer);
    let ended = store.clone();
    let server = Arc::new(server);
    let second = move || Store::new(connect(address, answer));
    let reopen = move || {
        let _runs = &server;
        Store::new(connect(address, answer))
    };
    let end = move || pollster::block_on(ended.close()).unwrap();
    TestStore::new(store).second(second).reopen(reopen).end(end)
}

/// Appends answer when they are synced.
mod answers_when_synced {
    use super::*;

    fn fresh(setup: &Setup) -> Option<TestStore> {
        let memory = Memory::new().limits(setup.limits.clone()).time(setup.time);
        let served = ServedLog::start(Store::new(memory));
        let address = served.address;
        Some(remote(served, address, AppendAnswer::Synced))
    }

    diptych_store::conformance!(fresh);
}

/// Appends answer when they are accepted, over a log in a folder, which syncs them later. A process
/// of its own serves the log.
mod answers_when_accepted {
    use super::*;

    fn fresh(setup: &Setup) -> Option<TestStore> {
        let log = OtherLog::fresh(setup);
        let address = log.address;
        Some(remote(log, address, AppendAnswer::Accepted))
    }

    diptych_store::conformance!(fresh);

    #[test]
    fn the_server_of_these_cases_is_another_process() {
        let log = OtherLog::fresh(&Setup::default());
        assert_ne!(OtherLog::process_id(), std::process::id());
        assert_eq!(connect(log.address, AppendAnswer::Accepted).head().position().get(), 0);
    }
}
