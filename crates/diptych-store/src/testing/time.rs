//! `recorded_at`: one instant for each commit, never decreasing, from the clock or the caller.

use super::{
    Suite,
    probe::{Probe, caller_time, condition, key, one, plain},
};
use crate::{
    append::{Append, Tracking},
    error::InvalidRequest,
    time::Timestamp,
};

fn at(append: Append, micros: i64) -> Append {
    Append { recorded_at: Some(Timestamp::from_micros(micros)), ..append }
}

fn recorded(probe: &Probe) -> Vec<i64> {
    let seen = probe.everything();
    seen.iter().map(|seen| seen.recorded_at.as_micros()).collect()
}

pub(super) fn recorded_at_never_decreases(suite: &Suite<'_>) {
    let probe = suite.probe();
    for _ in 0..30 {
        probe.put(plain(2));
    }
    let recorded = recorded(&probe);
    assert!(recorded.is_sorted(), "{recorded:?}");
}

pub(super) fn a_commit_is_recorded_at_one_instant(suite: &Suite<'_>) {
    let probe = suite.probe();
    for _ in 0..3 {
        probe.put(plain(200));
    }
    for commit in recorded(&probe).chunks(200) {
        assert!(commit.iter().all(|at| *at == commit[0]), "{commit:?}");
    }
}

pub(super) fn recorded_at_of_an_event_never_changes(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(3));
    let before = recorded(&probe);
    probe.put(plain(3));
    assert_eq!(recorded(&probe)[..3], before[..]);
}

pub(super) fn a_store_with_a_clock_refuses_a_given_time(suite: &Suite<'_>) {
    let probe = suite.probe();
    let invalid = probe.invalid(at(one().key(key("k", "r")), 5));
    assert!(matches!(invalid, InvalidRequest::RecordedAt { .. }), "{invalid:?}");
    assert_eq!((probe.head(), probe.keyed("k")), (0, None));
}

pub(super) fn the_callers_time_is_recorded(suite: &Suite<'_>) {
    let probe = suite.probe_with(&caller_time());
    for micros in [-7, 0, 1, 1, 1_000_000_000_000_000] {
        probe.commit(at(one(), micros));
    }
    assert_eq!(recorded(&probe), [-7, 0, 1, 1, 1_000_000_000_000_000]);
}

pub(super) fn the_callers_time_is_raised_to_the_last(suite: &Suite<'_>) {
    let probe = suite.probe_with(&caller_time());
    for micros in [100, 50, i64::MIN, 101] {
        probe.commit(at(Append::events(plain(2)), micros));
    }
    assert_eq!(recorded(&probe), [100, 100, 100, 100, 100, 100, 101, 101]);
}

pub(super) fn a_missing_caller_time_is_invalid(suite: &Suite<'_>) {
    let probe = suite.probe_with(&caller_time());
    let append = one().key(key("k", "r")).tracking(Tracking::new("s", 1));
    let invalid = probe.invalid(append);
    assert!(matches!(invalid, InvalidRequest::RecordedAt { .. }), "{invalid:?}");
    assert_eq!((probe.head(), probe.keyed("k"), probe.tracked("s")), (0, None, None));
}

pub(super) fn the_time_of_a_refused_commit_does_not_count(suite: &Suite<'_>) {
    let probe = suite.probe_with(&caller_time());
    probe.commit(at(one(), 10));
    probe.refused(at(one().condition(condition("*", 0)), 1_000));
    probe.commit(at(one(), 20));
    assert_eq!(recorded(&probe), [10, 20]);
}

/// The `recorded_at` of the accepted commit, and that of the last event in a later read.
fn said_and_read(probe: &Probe, append: Append) -> (i64, i64) {
    let accepted = probe.append(append).unwrap();
    let said = accepted.recorded_at.as_micros();
    probe.synced(accepted);
    (said, *recorded(probe).last().unwrap())
}

pub(super) fn accepted_reports_its_recorded_at(suite: &Suite<'_>) {
    let probe = suite.probe();
    for events in [1, 3, 1] {
        let (said, read) = said_and_read(&probe, Append::events(plain(events)));
        assert_eq!(said, read);
    }
}

pub(super) fn accepted_reports_the_callers_time_as_recorded(suite: &Suite<'_>) {
    let probe = suite.probe_with(&caller_time());
    for (given, expected) in [(100, 100), (50, 100), (i64::MIN, 100), (101, 101)] {
        assert_eq!(said_and_read(&probe, at(one(), given)), (expected, expected));
    }
    // Tracking without events is a commit, so later times are raised to its time.
    let tracking = at(Append::default().tracking(Tracking::new("s", 1)), 200);
    assert_eq!(said_and_read(&probe, tracking), (200, 101));
    assert_eq!(said_and_read(&probe, at(one(), 150)), (200, 200));
}

pub(super) fn an_append_of_nothing_reports_the_last_time(suite: &Suite<'_>) {
    let probe = suite.probe();
    let nothing = || probe.append(Append::default()).unwrap().recorded_at;
    assert_eq!(nothing(), Timestamp::NEVER);
    for _ in 0..3 {
        probe.put(plain(2));
        let seen = probe.everything();
        assert_eq!(Some(nothing()), seen.last().map(|seen| seen.recorded_at));
    }
}
