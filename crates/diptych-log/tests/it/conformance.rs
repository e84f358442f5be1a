//! The promises of the store contract, on real files.

use diptych_log::{Log, LogOptions};
use diptych_store::{
    Store,
    testing::{Setup, TestStore},
};

fn fresh(setup: &Setup) -> Option<TestStore> {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        limits: setup.limits.clone(),
        time: setup.time,
        // Small, so that cases run over several segments and index files.
        segment_bytes: 64 << 10,
        index_bytes: 8 << 10,
        ..LogOptions::default()
    };
    let log = Log::open(dir.path(), options.clone()).unwrap();
    let closing = log.clone();
    let test_store = TestStore::new(log)
        .end(move || closing.close().unwrap())
        .reopen(move || Store::new(Log::open(dir.path(), options.clone()).unwrap()));
    Some(test_store)
}

diptych_store::conformance!(fresh, lacks: [SecondHandle]);
