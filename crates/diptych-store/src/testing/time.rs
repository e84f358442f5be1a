//! `recorded_at`: one instant for a commit, never decreasing, from where the store was told.

use super::{
    Bench,
    probe::{Probe, caller_time, condition, key, one, plain},
};
use crate::{Append, Invalid, Timestamp, Tracking};

fn at(append: Append, micros: i64) -> Append {
    Append { recorded_at: Some(Timestamp::from_micros(micros)), ..append }
}

fn recorded(probe: &Probe) -> Vec<i64> {
    let seen = probe.everything();
    seen.iter().map(|seen| seen.recorded_at.as_micros()).collect()
}

pub(super) fn recorded_at_never_decreases(bench: &Bench<'_>) {
    let probe = bench.probe();
    for _ in 0..30 {
        probe.put(plain(2));
    }
    let recorded = recorded(&probe);
    assert!(recorded.is_sorted(), "{recorded:?}");
}

pub(super) fn a_commit_is_recorded_at_one_instant(bench: &Bench<'_>) {
    let probe = bench.probe();
    for _ in 0..3 {
        probe.put(plain(200));
    }
    for commit in recorded(&probe).chunks(200) {
        assert!(commit.iter().all(|at| *at == commit[0]), "{commit:?}");
    }
}

pub(super) fn what_was_recorded_stays(bench: &Bench<'_>) {
    let probe = bench.probe();
    probe.put(plain(3));
    let before = recorded(&probe);
    probe.put(plain(3));
    assert_eq!(recorded(&probe)[..3], before[..]);
}

pub(super) fn a_store_with_a_clock_takes_no_time(bench: &Bench<'_>) {
    let probe = bench.probe();
    let invalid = probe.invalid(at(one().key(key("k", "r")), 5));
    assert!(matches!(invalid, Invalid::RecordedAt { .. }), "{invalid:?}");
    assert_eq!((probe.head(), probe.keyed("k")), (0, None));
}

pub(super) fn the_callers_time_is_recorded(bench: &Bench<'_>) {
    let probe = bench.probe_with(&caller_time());
    for micros in [-7, 0, 1, 1, 1_000_000_000_000_000] {
        probe.commit(at(one(), micros));
    }
    assert_eq!(recorded(&probe), [-7, 0, 1, 1, 1_000_000_000_000_000]);
}

pub(super) fn the_callers_time_is_raised_to_the_last(bench: &Bench<'_>) {
    let probe = bench.probe_with(&caller_time());
    for micros in [100, 50, i64::MIN, 101] {
        probe.commit(at(Append::events(plain(2)), micros));
    }
    assert_eq!(recorded(&probe), [100, 100, 100, 100, 100, 100, 101, 101]);
}

pub(super) fn the_callers_time_has_to_be_given(bench: &Bench<'_>) {
    let probe = bench.probe_with(&caller_time());
    let append = one().key(key("k", "r")).tracking(Tracking::new("s", 1));
    let invalid = probe.invalid(append);
    assert!(matches!(invalid, Invalid::RecordedAt { .. }), "{invalid:?}");
    assert_eq!((probe.head(), probe.keyed("k"), probe.tracked("s")), (0, None, None));
}

pub(super) fn a_refused_commit_leaves_no_time(bench: &Bench<'_>) {
    let probe = bench.probe_with(&caller_time());
    probe.commit(at(one(), 10));
    probe.refused(at(one().condition(condition("*", 0)), 1_000));
    probe.commit(at(one(), 20));
    assert_eq!(recorded(&probe), [10, 20]);
}
