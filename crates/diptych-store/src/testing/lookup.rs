//! `last` and `count`: the last position of a boundary, the revision of a tag, and ranks.

use super::{
    Suite,
    probe::{Probe, event, plain},
};
use crate::position::Position;

fn prepared(suite: &Suite<'_>) -> Probe {
    let probe = suite.probe();
    probe.put([event("a", &["k:1"]), event("b", &["k:1", "l:1"])]);
    probe.put([event("a", &["k:2"])]);
    probe.put([event("a", &["l:1", "k:1"]), event("c", &[])]);
    probe
}

pub(super) fn last_is_the_last_match(suite: &Suite<'_>) {
    let probe = prepared(suite);
    let last = |filter| probe.last(filter, Position::MAX);
    assert_eq!(last("*"), Some(5));
    assert_eq!(last("type=a"), Some(4));
    assert_eq!(last("type=b"), Some(2));
    assert_eq!(last("type=b,c"), Some(5));
    assert_eq!(last("type=b or tag=k:2"), Some(3));
    assert_eq!(last("tag=k:1 tag=l:1"), Some(4));
}

pub(super) fn last_looks_at_and_below_upto(suite: &Suite<'_>) {
    let probe = prepared(suite);
    assert_eq!(probe.last("tag=k:1", 4), Some(4));
    assert_eq!(probe.last("tag=k:1", 3), Some(2));
    assert_eq!(probe.last("tag=k:1", 1), Some(1));
    assert_eq!(probe.last("tag=k:1", 0), None);
    assert_eq!(probe.last("*", 3), Some(3));
}

pub(super) fn last_of_no_match_is_none(suite: &Suite<'_>) {
    let probe = prepared(suite);
    assert_eq!(probe.last("type=zzz", Position::MAX), None);
    assert_eq!(probe.last("type=c tag=k:1", Position::MAX), None);
    assert_eq!(probe.last("type=c", 4), None);
    assert_eq!(suite.probe().last("*", Position::MAX), None);
}

pub(super) fn look_ups_may_ask_above_the_head(suite: &Suite<'_>) {
    let probe = prepared(suite);
    for upto in [6, 1_000, u64::MAX] {
        assert_eq!(probe.last("type=a", upto), Some(4));
        assert_eq!(probe.count("k:1", upto), 3);
    }
}

pub(super) fn count_is_the_revision_of_a_tag(suite: &Suite<'_>) {
    let probe = prepared(suite);
    assert_eq!(probe.count("k:1", 5), 3);
    assert_eq!(probe.count("l:1", 5), 2);
    assert_eq!(probe.count("k:2", 5), 1);
    probe.put([event("a", &["k:1"]), event("a", &["k:1"])]);
    assert_eq!(probe.count("k:1", Position::MAX), 5);
    assert_eq!(probe.count("k:1", 5), 3, "an older revision does not change");
}

pub(super) fn count_upto_an_event_is_its_rank(suite: &Suite<'_>) {
    let probe = prepared(suite);
    let ranks: Vec<_> = (0..=5).map(|upto: u64| probe.count("k:1", upto)).collect();
    assert_eq!(ranks, [0, 1, 2, 2, 3, 3]);
}

pub(super) fn an_unknown_tag_counts_zero(suite: &Suite<'_>) {
    let probe = prepared(suite);
    assert_eq!(probe.count("zzz:1", Position::MAX), 0);
    assert_eq!(suite.probe().count("k:1", Position::MAX), 0);
}

pub(super) fn every_type_is_listed_once(suite: &Suite<'_>) {
    let probe = prepared(suite);
    let types = |probe: &Probe| probe.wait("types", probe.store.types()).expect("it answers");
    assert_eq!(types(&probe), ["a", "b", "c"]);
    probe.put([event("aa", &[]), event("a", &["k:1"])]);
    assert_eq!(types(&probe), ["a", "aa", "b", "c"]);
    assert_eq!(types(&suite.probe()), [""; 0]);
}

pub(super) fn a_tag_given_twice_counts_once(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put([event("a", &["k:1", "l:1", "k:1"]), event("a", &["k:1", "k:1"])]);
    assert_eq!(probe.count("k:1", 1), 1);
    assert_eq!(probe.count("k:1", 2), 2);
    assert_eq!(probe.positions("tag=k:1"), [1, 2]);
}

pub(super) fn look_ups_are_right_in_a_large_log(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put([event("first", &["k:1"])]);
    for _ in 0..20 {
        probe.put(plain(100).chain([event("mark", &["k:1"])]));
    }
    assert_eq!(probe.count("k:1", Position::MAX), 21);
    assert_eq!(probe.last("type=first", Position::MAX), Some(1));
    assert_eq!(probe.last("tag=k:1", 2_020), Some(1_920));
    assert_eq!(probe.last("type=mark", 2_021), Some(2_021));
}
