//! Reading a log batch by batch: every match once, with any sizes.

use super::{
    Suite,
    probe::{Probe, event, numbers, parse, plain, small},
    read::read,
};
use crate::{
    batch::{Direction, Read},
    event::RawEvent,
};

/// Writes 60 events. Every third one carries `k:1`, every seventh one is of type `rare`.
fn sixty(probe: &Probe) {
    for number in 1..=60 {
        let event_type = if number % 7 == 0 { "rare" } else { "often" };
        let tags: &[&str] = if number % 3 == 0 { &["k:1"] } else { &[] };
        probe.put([event(event_type, tags)]);
    }
}

const FILTERS: [&str; 5] = ["*", "tag=k:1", "type=rare", "type=rare or tag=k:1", "type=zzz"];

fn expected(filter: &str) -> Vec<u64> {
    let matches = |number: &u64| match filter {
        "*" => true,
        "tag=k:1" => number.is_multiple_of(3),
        "type=rare" => number.is_multiple_of(7),
        "type=rare or tag=k:1" => number.is_multiple_of(3) || number.is_multiple_of(7),
        _ => false,
    };
    (1..=60).filter(matches).collect()
}

fn pages(probe: &Probe, direction: Direction) {
    for filter in FILTERS {
        for limit in [1, 2, 3, 7, 19, 100] {
            for (after, upto) in [(0, u64::MAX), (9, 42), (20, 21)] {
                let read = read(after, upto, direction, limit);
                let mut found = numbers(&probe.seen(&parse(filter), read));
                if direction == Direction::Backwards {
                    found.reverse();
                }
                let mut wanted = expected(filter);
                wanted.retain(|number| after < *number && *number <= upto);
                assert_eq!(found, wanted, "{filter} by {limit} in {after}..={upto}");
            }
        }
    }
}

pub(super) fn paging_forwards_gives_every_match_once(suite: &Suite<'_>) {
    let probe = suite.probe();
    sixty(&probe);
    pages(&probe, Direction::Forwards);
}

pub(super) fn paging_backwards_gives_every_match_once(suite: &Suite<'_>) {
    let probe = suite.probe();
    sixty(&probe);
    pages(&probe, Direction::Backwards);
}

pub(super) fn small_batches_neither_lose_nor_repeat_events(suite: &Suite<'_>) {
    let probe = suite.probe_with(&small());
    sixty(&probe);
    pages(&probe, Direction::Forwards);
    pages(&probe, Direction::Backwards);
}

pub(super) fn a_batch_holds_at_most_batch_events(suite: &Suite<'_>) {
    let probe = suite.probe_with(&small());
    let most = small().limits.batch_events;
    for _ in 0..5 {
        probe.put(plain(3));
    }
    for read in [Read::all(), Read::all().limit(most + 1), Read::backwards()] {
        let batch = probe.read(&parse("*"), read);
        assert!((1..=most).contains(&batch.len()), "{} events", batch.len());
    }
    assert_eq!(probe.everything().len(), 15);
}

pub(super) fn a_batch_holds_at_most_batch_bytes(suite: &Suite<'_>) {
    let probe = suite.probe_with(&small());
    let sized = |bytes: usize| RawEvent::new("sized", vec![0; bytes]);
    // 300 bytes are room for two large events, or for one large and some small ones.
    let sizes = [10, 150, 120, 10, 150, 150, 10, 10, 190, 190, 120, 10, 10];
    for bytes in sizes {
        probe.put([sized(bytes)]);
    }
    for direction in [Direction::Forwards, Direction::Backwards] {
        for limit in [1, 2, usize::MAX] {
            let mut read = read(0, u64::MAX, direction, limit);
            let mut seen = 0;
            for _ in 0..sizes.len() {
                let batch = probe.read(&parse("*"), read.clone());
                let bytes: usize = batch.iter().map(|event| event.bytes().len()).sum();
                assert!(bytes <= 300 || batch.len() == 1, "{bytes} bytes");
                seen += batch.len();
                match direction {
                    Direction::Forwards => read.after = batch.upto(),
                    Direction::Backwards => read.upto = batch.upto().before(),
                }
            }
            assert_eq!(seen, sizes.len(), "every event is read once");
        }
    }
}

pub(super) fn an_event_larger_than_a_batch_is_read_alone(suite: &Suite<'_>) {
    let mut setup = small();
    setup.limits.batch_bytes = 20;
    let probe = suite.probe_with(&setup);
    for _ in 0..4 {
        probe.put([RawEvent::new("large", vec![0; 100])]);
    }
    for read in [Read::all(), Read::backwards()] {
        let batch = probe.read(&parse("*"), read);
        assert_eq!(batch.len(), 1);
    }
    assert_eq!(probe.everything().len(), 4);
}
