//! One read: its bounds, its order, its limit, and the `upto` of its batch.

use super::{
    Suite,
    probe::{Probe, SeenEvent, event, numbers, parse, plain},
};
use crate::{
    batch::{Direction, Read},
    error::{InvalidRequest, ReadError},
    filter::Filter,
    position::Position,
};

/// No positions. The type is spelled out, because numbers are also compared with values of JSON.
const NOTHING: [u64; 0] = [];

/// Ten events at 1 to 10: `odd` at odd positions, `even` at even ones.
fn ten(suite: &Suite<'_>) -> Probe {
    let probe = suite.probe();
    for pair in 0..5 {
        probe.put([event("odd", &["n:1"]), event("even", &[&format!("p:{pair}")])]);
    }
    probe
}

pub(super) fn read(after: u64, upto: u64, direction: Direction, limit: usize) -> Read {
    Read { direction, limit, ..Read::after(after.into()).upto(upto.into()) }
}

fn positions(probe: &Probe, filter: &str, read: Read) -> Vec<u64> {
    let seen: Vec<SeenEvent> = probe.seen(&parse(filter), read);
    numbers(&seen)
}

pub(super) fn a_read_gives_events_in_order(suite: &Suite<'_>) {
    let probe = ten(suite);
    let all: Vec<u64> = (1..=10).collect();
    assert_eq!(positions(&probe, "*", Read::all()), all);
    assert_eq!(positions(&probe, "type=even", Read::all()), [2, 4, 6, 8, 10]);
}

pub(super) fn a_read_backwards_gives_events_in_reverse(suite: &Suite<'_>) {
    let probe = ten(suite);
    let all: Vec<u64> = (1..=10).rev().collect();
    assert_eq!(positions(&probe, "*", Read::backwards()), all);
    assert_eq!(positions(&probe, "type=odd", Read::backwards()), [9, 7, 5, 3, 1]);
}

pub(super) fn a_read_starts_just_after(suite: &Suite<'_>) {
    let probe = ten(suite);
    assert_eq!(positions(&probe, "*", Read::after(7.into())), [8, 9, 10]);
    assert_eq!(positions(&probe, "type=odd", Read::after(7.into())), [9]);
    assert_eq!(positions(&probe, "type=odd", Read::after(6.into())), [7, 9]);
}

pub(super) fn a_read_ends_at_upto(suite: &Suite<'_>) {
    let probe = ten(suite);
    let upto = |position: u64| Read::all().upto(position.into());
    assert_eq!(positions(&probe, "*", upto(3)), [1, 2, 3]);
    assert_eq!(positions(&probe, "type=odd", upto(3)), [1, 3]);
    assert_eq!(positions(&probe, "type=odd", upto(4)), [1, 3]);
    assert_eq!(positions(&probe, "*", upto(0)), NOTHING);
}

pub(super) fn both_bounds_hold_in_both_directions(suite: &Suite<'_>) {
    let probe = ten(suite);
    let forwards = |filter, after, upto| {
        positions(&probe, filter, read(after, upto, Direction::Forwards, usize::MAX))
    };
    let backwards = |filter, after, upto| {
        positions(&probe, filter, read(after, upto, Direction::Backwards, usize::MAX))
    };
    assert_eq!(forwards("*", 3, 6), [4, 5, 6]);
    assert_eq!(backwards("*", 3, 6), [6, 5, 4]);
    assert_eq!(backwards("type=even", 4, 8), [8, 6]);
    assert_eq!(backwards("*", 9, 100), [10]);
    assert_eq!(forwards("*", 6, 6), NOTHING);
    assert_eq!(forwards("*", 6, 3), NOTHING);
    assert_eq!(backwards("*", 6, 6), NOTHING);
    assert_eq!(backwards("*", 6, 3), NOTHING);
}

pub(super) fn a_read_goes_to_the_head_at_most(suite: &Suite<'_>) {
    let probe = ten(suite);
    for upto in [Position::new(10), Position::new(11), Position::MAX] {
        let all = probe.seen(&Filter::everything(), Read::all().upto(upto));
        assert_eq!(all.len(), 10);
        let mut last = probe.read(&parse("*"), Read::after(9.into()).upto(upto));
        assert_eq!(last.upto(), Position::new(10), "not {upto}");
        last = probe.read(&parse("*"), Read::after(10.into()).upto(upto));
        assert_eq!((last.len(), last.upto()), (0, Position::new(10)));
    }
}

pub(super) fn a_read_from_above_the_head_is_invalid(suite: &Suite<'_>) {
    let probe = ten(suite);
    for direction in [Direction::Forwards, Direction::Backwards] {
        for (after, filter) in [(11, "*"), (u64::MAX, "*"), (11, "type=zzz")] {
            let above = read(after, u64::MAX, direction, usize::MAX);
            let expected = InvalidRequest::AboveHead { position: after.into(), head: 10.into() };
            match probe.try_read(&parse(filter), above) {
                Err(ReadError::Invalid(invalid)) => assert_eq!(invalid, expected),
                other => panic!("after {after}: {other:?}"),
            }
        }
    }
}

pub(super) fn a_read_gives_at_most_its_limit(suite: &Suite<'_>) {
    let probe = ten(suite);
    for limit in 1..12 {
        let batch = probe.read(&parse("*"), Read::all().limit(limit));
        assert!((1..=limit).contains(&batch.len()), "limit {limit} gave {}", batch.len());
        let first = batch.get(0).unwrap().position();
        assert_eq!(first, Position::new(1), "the limit counts from the low end");
    }
}

pub(super) fn a_limit_backwards_counts_from_the_high_end(suite: &Suite<'_>) {
    let probe = ten(suite);
    for (upto, high) in [(u64::MAX, 10), (6, 6)] {
        let batch = probe.read(&parse("*"), read(0, upto, Direction::Backwards, 3));
        assert!((1..=3).contains(&batch.len()));
        assert_eq!(batch.get(0).unwrap().position(), Position::new(high));
    }
    let batch = probe.read(&parse("type=odd"), Read::backwards().limit(1));
    assert_eq!(batch.get(0).unwrap().position(), Position::new(9));
}

pub(super) fn a_limit_of_zero_considers_nothing(suite: &Suite<'_>) {
    let probe = ten(suite);
    let batch = probe.read(&parse("*"), Read::after(4.into()).limit(0));
    assert_eq!((batch.len(), batch.upto()), (0, Position::new(4)));
    let batch = probe.read(&parse("*"), read(0, 6, Direction::Backwards, 0));
    assert_eq!((batch.len(), batch.upto().before()), (0, Position::new(6)));
    let batch = probe.read(&parse("*"), Read::backwards().limit(0));
    assert!(batch.is_empty() && batch.upto() > Position::new(10), "{}", batch.upto());
}

pub(super) fn upto_covers_events_that_do_not_match(suite: &Suite<'_>) {
    let probe = ten(suite);
    probe.put(plain(7));
    // After enough batches the last one is at the head, with or without a match.
    for filter in ["type=zzz", "tag=p:0", "type=odd", "nothing"] {
        let filter = parse(filter);
        let mut after = Position::new(2);
        for _ in 0..15 {
            after = probe.read(&filter, Read::after(after)).upto();
        }
        assert_eq!(after, Position::new(17), "{filter}");
    }
}

pub(super) fn upto_stops_before_a_match_left_out(suite: &Suite<'_>) {
    let probe = ten(suite);
    for limit in 1..5 {
        let batch = probe.read(&parse("type=odd"), Read::all().limit(limit));
        let next = Position::new(2 * batch.len() as u64 + 1);
        assert!(batch.upto() < next, "{next} is not in the batch, upto {}", batch.upto());
        let last = batch.iter().last().unwrap().position();
        assert!(batch.upto() >= last, "{last} is in the batch, upto {}", batch.upto());
    }
}

pub(super) fn upto_backwards_stops_above_a_match_left_out(suite: &Suite<'_>) {
    let probe = ten(suite);
    for limit in 1..5 {
        let batch = probe.read(&parse("type=even"), Read::backwards().limit(limit));
        let next = Position::new(10 - 2 * batch.len() as u64);
        assert!(batch.upto() > next, "{next} is not in the batch, upto {}", batch.upto());
        let last = batch.iter().last().unwrap().position();
        assert!(batch.upto() <= last, "{last} is in the batch, upto {}", batch.upto());
    }
}

pub(super) fn upto_is_within_the_bounds(suite: &Suite<'_>) {
    let probe = ten(suite);
    for filter in ["*", "type=odd", "type=zzz"] {
        let filter = parse(filter);
        for direction in [Direction::Forwards, Direction::Backwards] {
            // The probe checks the bounds of each batch.
            let mut bounded = read(3, 8, direction, usize::MAX);
            for _ in 0..10 {
                let batch = probe.read(&filter, bounded.clone());
                match direction {
                    Direction::Forwards => bounded.after = batch.upto(),
                    Direction::Backwards => bounded.upto = batch.upto().before(),
                }
            }
            assert_eq!(bounded.after, bounded.upto, "{filter}: the read is done");
        }
    }
}

pub(super) fn an_empty_log_reads_empty(suite: &Suite<'_>) {
    let probe = suite.probe();
    for read in [Read::all(), Read::backwards(), Read::all().limit(1)] {
        let batch = probe.read(&parse("*"), read);
        assert!(batch.is_empty());
    }
    assert_eq!(probe.read(&parse("type=a"), Read::all()).upto(), Position::START);
}
