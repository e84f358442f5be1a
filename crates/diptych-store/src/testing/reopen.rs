//! Reopening: everything that was synced outlives the handles, unchanged.

use super::{
    Setup, Suite,
    probe::{Probe, caller_time, condition, event, key, one, plain},
};
use crate::{
    append::{Append, Digest, KeyedCommit, Tracking},
    commits::ReadCommits,
    error::Refusal,
    event::{Metadata, RawEvent},
    identity::LogIdentity,
    position::Position,
    time::Timestamp,
};

/// A log with commits of every kind, opened again.
fn reopened(suite: &Suite<'_>) -> Probe {
    let probe = suite.probe();
    probe.put([event("a", &["k:1"]), event("b", &["k:1", "l:1"])]);
    probe.commit(Append::events(plain(3)).key(key("k", "request")));
    probe.commit(one().tracking(Tracking::new("s", 7)));
    probe.reopen()
}

pub(super) fn events_outlive_the_store(suite: &Suite<'_>) {
    let probe = suite.probe();
    let metadata = Metadata { actor: Some("ann".into()), ..Metadata::default() };
    for number in 0..10 {
        let bytes = RawEvent::new("bytes", vec![0, number, 0xff]).metadata(metadata.clone());
        probe.put([bytes, event("tagged", &["k:1", "l:1"])]);
    }
    let before = probe.everything();
    let probe = probe.reopen();
    assert_eq!(probe.everything(), before);
}

pub(super) fn checksums_outlive_the_store(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put([event("a", &["k:1"]), event("b", &["k:1", "l:1"])]);
    probe.put(plain(3));
    let checksums = |probe: &Probe| (1..=5).map(|at| probe.checksum(at.into())).collect::<Vec<_>>();
    let before = checksums(&probe);
    assert!(before.iter().all(Option::is_some), "{before:?}");
    let probe = probe.reopen();
    assert_eq!(checksums(&probe), before);
}

pub(super) fn the_head_outlives_the_store(suite: &Suite<'_>) {
    let probe = reopened(suite);
    assert_eq!(probe.head(), 6);
    assert!(probe.store.head().ended().is_none());
    let reached = probe.wait("head", probe.store.head().after(5.into())).unwrap();
    assert_eq!(reached, Position::new(6));
}

pub(super) fn positions_continue_after_reopening(suite: &Suite<'_>) {
    let probe = reopened(suite);
    assert_eq!(probe.put(plain(2)), (7, 8));
    let probe = probe.reopen();
    assert_eq!(probe.put(plain(1)), (9, 9));
    assert_eq!(probe.everything().len(), 9);
}

pub(super) fn keys_outlive_the_store(suite: &Suite<'_>) {
    let probe = reopened(suite);
    let expected = KeyedCommit { first: 3.into(), last: 5.into(), digest: Digest::of(b"request") };
    assert_eq!(probe.keyed("k"), Some(expected));
    let (first, last) = (expected.first, expected.last);
    let taken = probe.refused(one().key(key("k", "request")));
    assert_eq!(taken, Refusal::KeyTaken { first, last });
    let reused = probe.refused(one().key(key("k", "another")));
    assert_eq!(reused, Refusal::KeyReused { first, last });
}

pub(super) fn tracking_outlives_the_store(suite: &Suite<'_>) {
    let probe = suite.probe();
    let origin = LogIdentity::random();
    let tracked = |position: u64| Tracking::new("s", position).origin(origin);
    probe.commit(Append::events(plain(2)).tracking(tracked(7)));
    probe.put(plain(2));
    let probe = probe.reopen();
    assert_eq!(probe.tracked("s"), Some(tracked(7)));
    let expected =
        Refusal::AlreadyTracked { source_name: "s".to_owned(), tracked: 7.into(), at: 2.into() };
    assert_eq!(probe.refused(one().tracking(tracked(7))), expected);
    let refusal = probe.refused(one().tracking(Tracking::new("s", 8)));
    assert!(matches!(refusal, Refusal::OriginChanged { .. }), "{refusal:?}");
}

pub(super) fn tracking_alone_outlives_the_store(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(2));
    probe.commit(Append::default().tracking(Tracking::new("s", 7)));
    let probe = probe.reopen();
    assert_eq!(probe.tracked("s"), Some(Tracking::new("s", 7)));
    assert_eq!(probe.head(), 2);
    let refusal = probe.refused(Append::default().tracking(Tracking::new("s", 7)));
    assert!(matches!(refusal, Refusal::AlreadyTracked { .. }), "{refusal:?}");
}

pub(super) fn commits_outlive_the_store(suite: &Suite<'_>) {
    let probe = suite.probe();
    let tracked = |position: u64| Append::default().tracking(Tracking::new("s", position));
    probe.commit(tracked(1));
    probe.commit(Append::events(plain(3)).key(key("k", "request")));
    probe.commit(tracked(2));
    probe.commit(Append::events(plain(2)).tracking(Tracking::new("t", 7)));
    probe.commit(tracked(3));
    let everything = || ReadCommits::after(Position::START);
    let before = probe.all_commits(everything());
    assert_eq!(before.len(), 5);
    let probe = probe.reopen();
    assert_eq!(probe.all_commits(everything()), before);
    let limited = everything().limit_events(1);
    assert_eq!(probe.all_commits(limited), before);
}

pub(super) fn conditions_see_events_from_before_reopening(suite: &Suite<'_>) {
    let probe = reopened(suite);
    for (fail_if, at) in [("tag=l:1", 2), ("type=a", 1), ("tag=k:1", 2), ("*", 6)] {
        let expected = Refusal::Conflict { at: at.into(), after: Position::START };
        assert_eq!(probe.refused(one().condition(condition(fail_if, 0))), expected, "{fail_if}");
    }
    probe.commit(one().condition(condition("tag=k:1", 2)));
}

pub(super) fn look_ups_see_events_from_before_reopening(suite: &Suite<'_>) {
    let probe = reopened(suite);
    assert_eq!(probe.positions("tag=k:1"), [1, 2]);
    assert_eq!(probe.positions("type=plain"), [3, 4, 5, 6]);
    assert_eq!(probe.count("k:1", Position::MAX), 2);
    assert_eq!(probe.last("tag=l:1", Position::MAX), Some(2));
    probe.put([event("a", &["k:1"])]);
    assert_eq!(probe.count("k:1", Position::MAX), 3);
    assert_eq!(probe.positions("type=a"), [1, 7]);
}

pub(super) fn the_identity_outlives_the_store(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(1));
    let identity = probe.store.identity();
    let probe = probe.reopen();
    assert_eq!(probe.store.identity(), identity, "a clean close loses nothing");
}

pub(super) fn an_empty_log_can_be_reopened(suite: &Suite<'_>) {
    let probe = suite.probe();
    let identity = probe.store.identity();
    let probe = probe.reopen();
    assert_eq!((probe.head(), probe.store.identity()), (0, identity));
    assert_eq!(probe.put(plain(1)), (1, 1));
}

pub(super) fn a_log_can_be_reopened_often(suite: &Suite<'_>) {
    let mut probe = suite.probe();
    for number in 1..=8 {
        let name = number.to_string();
        probe.commit(Append::event(event("e", &["k:1"])).key(key(&name, "r")));
        probe = probe.reopen();
        assert_eq!(probe.count("k:1", Position::MAX), number);
        assert_eq!(probe.keyed(&name).unwrap().first.get(), number);
    }
    assert_eq!(probe.positions("*"), (1..=8).collect::<Vec<_>>());
}

pub(super) fn recorded_at_does_not_go_back_after_reopening(suite: &Suite<'_>) {
    let Setup { limits, time } = caller_time();
    let probe = suite.probe_with(&Setup { limits, time });
    let at = |micros| Append { recorded_at: Some(Timestamp::from_micros(micros)), ..one() };
    probe.commit(at(1_000));
    let probe = probe.reopen();
    let nothing = probe.append(Append::default()).unwrap();
    assert_eq!(nothing.recorded_at, Timestamp::from_micros(1_000));
    probe.commit(at(10));
    let recorded: Vec<_> = probe.everything().iter().map(|seen| seen.recorded_at).collect();
    assert_eq!(recorded, [Timestamp::from_micros(1_000); 2]);
}
