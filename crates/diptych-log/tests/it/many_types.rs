//! Look-ups of many types.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diptych_log::{Background, Log, LogOptions, disk::simulated::SimulatedDisk};
use diptych_store::{Append, Filter, Limits, Position, RawEvent};

const TYPES: usize = 65_536;

/// The shortest of a few times of a look-up of the first `count` types. Each event has another
/// type, so the look-up passes all later events.
fn time(log: &Log, count: usize) -> Duration {
    let filter = Filter::types((0..count).map(|number| format!("type-{number}")));
    let look_up = |_| {
        let start = Instant::now();
        let found = log.blocking().last(&filter, Position::MAX).unwrap();
        assert_eq!(found, Some(Position::new(count as u64)));
        start.elapsed()
    };
    (0..5).map(look_up).min().unwrap()
}

/// Once, each type of a filter was compared with each name in the index file, and the type of each
/// event was compared with each type of the filter. A filter of 4,096 types on 65,536 types took
/// half a billion comparisons.
#[test]
fn a_look_up_of_many_types_costs_about_as_much_as_one_of_few() {
    let options = LogOptions {
        background: Background::Inline,
        disk: Arc::new(SimulatedDisk::new(1)),
        ..LogOptions::default()
    };
    let log = Log::open("/data/log", options.clone()).unwrap();
    let events = (0..TYPES).map(|number| RawEvent::new(format!("type-{number}"), vec![]));
    log.blocking().commit(Append::events(events.collect::<Vec<_>>())).unwrap();
    log.close().unwrap();
    // The index is now in a file.
    let log = Log::open("/data/log", options).unwrap();
    let (few, many) = (time(&log, 16), time(&log, Limits::default().filter_terms));
    assert!(many < few * 20, "{few:?} for 16 types, {many:?} for 4,096");
}
