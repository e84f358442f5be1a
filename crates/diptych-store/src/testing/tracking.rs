//! Tracking: another log is imported exactly once.

use super::{
    Suite,
    probe::{condition, one, plain},
};
use crate::{
    append::{Append, Tracking},
    error::{InvalidRequest, Refusal},
    identity::{Epoch, LogIdentity},
    position::Position,
};

pub(super) fn tracking_is_stored_with_the_commit(suite: &Suite<'_>) {
    let probe = suite.probe();
    assert_eq!(probe.tracked("s"), None);
    let origin = LogIdentity::random();
    let tracking = Tracking::new("s", 7).origin(origin);
    probe.commit(one().tracking(tracking.clone()));
    assert_eq!(probe.tracked("s"), Some(tracking));
    let farther = Tracking::new("s", 9).origin(origin);
    probe.commit(one().tracking(farther.clone()));
    assert_eq!(probe.tracked("s"), Some(farther));
    // A commit without tracking leaves it as it is.
    probe.put(plain(1));
    assert_eq!(probe.tracked("s").unwrap().position, 9.into());
}

pub(super) fn tracking_accepts_only_higher_positions(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.commit(one().tracking(Tracking::new("s", 5)));
    for position in [0, 1, 4, 5] {
        let refusal = probe.refused(one().tracking(Tracking::new("s", position)));
        let expected = Refusal::AlreadyTracked {
            source_name: "s".to_owned(),
            tracked: 5.into(),
            at: 1.into(),
        };
        assert_eq!(refusal, expected, "{position}");
    }
    probe.commit(one().tracking(Tracking::new("s", 6)));
}

pub(super) fn tracking_may_skip_positions(suite: &Suite<'_>) {
    let probe = suite.probe();
    for position in [3, 4, 1_000, u64::MAX] {
        probe.commit(one().tracking(Tracking::new("s", position)));
        assert_eq!(probe.tracked("s").unwrap().position.get(), position);
    }
}

pub(super) fn a_tracking_refusal_names_the_head_of_the_import(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(2));
    probe.commit(Append::events(plain(3)).tracking(Tracking::new("s", 1)));
    probe.put(plain(2));
    let at = |refusal| match refusal {
        Refusal::AlreadyTracked { at, .. } | Refusal::OriginChanged { at, .. } => at.get(),
        other => panic!("{other:?}"),
    };
    assert_eq!(at(probe.refused(one().tracking(Tracking::new("s", 1)))), 5);
    probe.commit(Append::default().tracking(Tracking::new("s", 2)));
    assert_eq!(at(probe.refused(one().tracking(Tracking::new("s", 2)))), 7);
    let other = Tracking::new("s", 3).origin(LogIdentity::random());
    assert_eq!(at(probe.refused(one().tracking(other))), 7);
}

pub(super) fn another_origin_is_refused(suite: &Suite<'_>) {
    let probe = suite.probe();
    let origin = LogIdentity::random();
    let restored = LogIdentity { epoch: Epoch::from_u64(origin.epoch.to_u64() + 1), ..origin };
    let stored = Tracking::new("s", 5).origin(origin);
    probe.commit(one().tracking(stored.clone()));
    for given in [Some(restored), Some(LogIdentity::random()), None] {
        for position in [4, 6] {
            let mut tracking = Tracking::new("s", position);
            tracking.origin = given;
            let expected = Refusal::OriginChanged {
                source_name: "s".to_owned(),
                stored: Some(origin),
                given,
                tracked: 5.into(),
                at: 1.into(),
            };
            assert_eq!(probe.refused(one().tracking(tracking)), expected);
        }
    }
    assert_eq!(probe.tracked("s"), Some(stored));
    probe.commit(one().tracking(Tracking::new("plain", 1)));
    let refusal = probe.refused(one().tracking(Tracking::new("plain", 2).origin(origin)));
    assert!(matches!(refusal, Refusal::OriginChanged { stored: None, .. }), "{refusal:?}");
}

pub(super) fn sources_are_tracked_apart(suite: &Suite<'_>) {
    let probe = suite.probe();
    for (source, position) in [("a", 5), ("b", 3), ("ab", 1), ("A", 2)] {
        probe.commit(one().tracking(Tracking::new(source, position)));
    }
    for (source, position) in [("a", 5), ("b", 3), ("ab", 1), ("A", 2)] {
        assert_eq!(probe.tracked(source), Some(Tracking::new(source, position)));
    }
    probe.commit(one().tracking(Tracking::new("b", 4)));
    assert_eq!(probe.tracked("a").unwrap().position, 5.into());
    assert_eq!(probe.tracked("c"), None);
}

pub(super) fn tracking_alone_is_a_commit(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(2));
    let before = probe.everything();
    let alone = Append::default().tracking(Tracking::new("s", 4));
    let committed = probe.commit(alone.clone());
    assert_eq!((committed.first.get(), committed.last.get()), (3, 2), "it has no events");
    assert_eq!(probe.tracked("s"), Some(Tracking::new("s", 4)));
    assert_eq!((probe.everything(), probe.head()), (before, 2));
    let refusal = probe.refused(alone);
    assert!(matches!(refusal, Refusal::AlreadyTracked { .. }), "{refusal:?}");
    assert_eq!(probe.put(plain(1)), (3, 3), "it used no position");
}

pub(super) fn tracking_alone_is_checked(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(2));
    let alone = Append::default().tracking(Tracking::new("s", 1));
    let refusal = probe.refused(alone.clone().condition(condition("*", 1)));
    assert!(matches!(refusal, Refusal::Conflict { .. }), "{refusal:?}");
    assert_eq!(probe.tracked("s"), None);
    probe.commit(alone.condition(condition("*", 2)));
}

pub(super) fn tracking_alone_in_an_empty_log(suite: &Suite<'_>) {
    let probe = suite.probe();
    let committed = probe.commit(Append::default().tracking(Tracking::new("s", 1)));
    assert_eq!((committed.first, committed.last), (1.into(), Position::START));
    assert_eq!(probe.tracked("s"), Some(Tracking::new("s", 1)));
    assert_eq!(probe.head(), 0);
}

pub(super) fn a_source_has_a_name(suite: &Suite<'_>) {
    let probe = suite.probe();
    let invalid = probe.invalid(one().tracking(Tracking::new("", 1)));
    assert!(matches!(invalid, InvalidRequest::NoName { .. }), "{invalid:?}");
    assert_eq!(probe.head(), 0);
}
