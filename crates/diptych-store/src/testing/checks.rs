//! The checks of an append: their order, and that a refused append writes nothing.

use super::{
    Suite,
    probe::{Probe, condition, event, key, one, plain},
};
use crate::{
    append::{Append, Tracking},
    error::Refusal,
};

/// A log with an event `taken`, a key `taken` and a source `journal` imported up to 5.
fn prepared(suite: &Suite<'_>) -> Probe {
    let probe = suite.probe();
    let taken = Append::event(event("taken", &["k:taken"]));
    probe.commit(taken.key(key("taken", "first")).tracking(Tracking::new("journal", 5)));
    probe
}

fn conflicting(append: Append) -> Append {
    append.condition(condition("type=taken", 0))
}

pub(super) fn tracking_is_checked_before_the_key(suite: &Suite<'_>) {
    let probe = prepared(suite);
    let both = one().key(key("taken", "first")).tracking(Tracking::new("journal", 5));
    let refusal = probe.refused(both);
    assert!(matches!(refusal, Refusal::AlreadyTracked { .. }), "{refusal:?}");
}

pub(super) fn tracking_is_checked_before_the_condition(suite: &Suite<'_>) {
    let probe = prepared(suite);
    let both = conflicting(one()).tracking(Tracking::new("journal", 5));
    let refusal = probe.refused(both);
    assert!(matches!(refusal, Refusal::AlreadyTracked { .. }), "{refusal:?}");
}

pub(super) fn the_key_is_checked_before_the_condition(suite: &Suite<'_>) {
    let probe = prepared(suite);
    let refusal = probe.refused(conflicting(one()).key(key("taken", "first")));
    assert!(matches!(refusal, Refusal::KeyTaken { .. }), "{refusal:?}");
}

pub(super) fn every_check_has_to_pass(suite: &Suite<'_>) {
    let probe = prepared(suite);
    let fresh = || one().key(key("new", "r")).tracking(Tracking::new("journal", 6));
    let refusal = probe.refused(conflicting(fresh()));
    assert!(matches!(refusal, Refusal::Conflict { .. }), "{refusal:?}");
    let refusal = probe.refused(fresh().key(key("taken", "first")));
    assert!(matches!(refusal, Refusal::KeyTaken { .. }), "{refusal:?}");
    probe.commit(fresh().condition(condition("type=taken", 1)));
}

/// Makes appends that are refused for each of the three reasons. A faulty store could keep parts.
fn refuse_in_every_way(probe: &Probe) {
    let events = || Append::events([event("left", &["k:left"]), event("left", &["k:left"])]);
    let left = Tracking::new("left", 1);
    probe.refused(conflicting(events()).key(key("left", "r")).tracking(left.clone()));
    probe.refused(events().key(key("taken", "first")).tracking(left));
    probe.refused(events().key(key("left", "r")).tracking(Tracking::new("journal", 3)));
    let farther = Tracking::new("journal", 9);
    probe.refused(conflicting(events()).tracking(farther));
}

pub(super) fn a_refused_commit_leaves_no_event(suite: &Suite<'_>) {
    let probe = prepared(suite);
    let before = probe.everything();
    refuse_in_every_way(&probe);
    assert_eq!(probe.head(), 1, "the head did not move");
    assert_eq!(probe.everything(), before);
    assert!(probe.positions("type=left or tag=k:left").is_empty());
    assert_eq!(probe.count("k:left", 100), 0);
    assert_eq!(probe.put(plain(1)), (2, 2), "it used no position");
}

pub(super) fn a_refused_commit_leaves_its_key_free(suite: &Suite<'_>) {
    let probe = prepared(suite);
    refuse_in_every_way(&probe);
    assert_eq!(probe.keyed("left"), None);
    probe.commit(one().key(key("left", "another request")));
}

pub(super) fn a_refused_commit_moves_no_tracking(suite: &Suite<'_>) {
    let probe = prepared(suite);
    refuse_in_every_way(&probe);
    assert_eq!(probe.tracked("left"), None);
    assert_eq!(probe.tracked("journal"), Some(Tracking::new("journal", 5)));
    probe.commit(one().tracking(Tracking::new("left", 1)));
}

pub(super) fn a_refusal_does_not_stop_the_store(suite: &Suite<'_>) {
    let probe = prepared(suite);
    for number in 2..20 {
        refuse_in_every_way(&probe);
        assert_eq!(probe.put(plain(1)), (number, number));
    }
}

pub(super) fn checks_see_accepted_commits(suite: &Suite<'_>) {
    let probe = suite.probe();
    // No sync is awaited in between: the checks rest on accepted commits, synced or not.
    let first = Append::event(event("a", &[])).key(key("k", "r"));
    let first = probe.append(first.tracking(Tracking::new("s", 1))).unwrap();
    let conflict = probe.refused(one().condition(condition("type=a", 0)));
    assert!(matches!(conflict, Refusal::Conflict { .. }), "{conflict:?}");
    let taken = probe.refused(one().key(key("k", "r")));
    assert!(matches!(taken, Refusal::KeyTaken { .. }), "{taken:?}");
    let tracked = probe.refused(one().tracking(Tracking::new("s", 1)));
    assert!(matches!(tracked, Refusal::AlreadyTracked { .. }), "{tracked:?}");
    probe.synced(first);
}

pub(super) fn a_refusal_rests_on_published_commits(suite: &Suite<'_>) {
    let probe = suite.probe();
    for number in 1..=20 {
        let name = number.to_string();
        let append = Append::event(event("a", &[])).key(key(&name, "r"));
        let accepted = probe.append(append.clone()).unwrap();
        probe.refused(append);
        assert!(probe.head() >= number, "refused by a commit that is not published");
        assert!(probe.keyed(&name).is_some(), "refused by a key that is not found");
        probe.synced(accepted);
    }
}
