//! The head and the identity of a log.

use super::{
    Suite,
    probe::{plain, tag},
};
use crate::{
    append::{Append, Tracking},
    position::Position,
};

pub(super) fn a_fresh_log_is_empty(suite: &Suite<'_>) {
    let probe = suite.probe();
    assert_eq!(probe.head(), 0);
    assert!(probe.everything().is_empty());
    assert!(probe.store.head().ended().is_none());
    assert_eq!(probe.tracked("s"), None::<Tracking>);
    assert_eq!(probe.count(tag("k:1").as_str(), Position::MAX), 0);
}

pub(super) fn the_head_is_the_last_position(suite: &Suite<'_>) {
    let probe = suite.probe();
    for (count, head) in [(1, 1), (4, 5), (2, 7)] {
        probe.put(plain(count));
        assert_eq!(probe.head(), head);
    }
}

pub(super) fn a_held_head_moves(suite: &Suite<'_>) {
    let probe = suite.probe();
    let held = probe.store.head();
    probe.put(plain(3));
    assert_eq!(held.position(), Position::new(3));
}

pub(super) fn a_wait_for_the_head_wakes(suite: &Suite<'_>) {
    let probe = suite.probe();
    let head = probe.store.head();
    let waits = [Position::START, Position::new(1), Position::new(4)];
    probe.parallel(4, |number, probe| match waits.get(number) {
        Some(&after) => {
            let reached = probe.wait("head", head.after(after)).unwrap();
            assert!(reached > after, "woken at {reached} while waiting for more than {after}");
        }
        None => (0..5).for_each(|_| {
            probe.put(plain(1));
        }),
    });
}

pub(super) fn a_fresh_head_has_every_synced_commit(suite: &Suite<'_>) {
    let probe = suite.probe();
    assert_eq!(probe.fresh_head(), 0);
    for count in [1, 4, 2] {
        let (_, last) = probe.put(plain(count));
        assert_eq!(probe.fresh_head(), last);
    }
    probe.commit(Append::default().tracking(Tracking::new("s", 1)));
    assert_eq!(probe.fresh_head(), 7);
}

pub(super) fn a_log_keeps_its_identity(suite: &Suite<'_>) {
    let probe = suite.probe();
    let identity = probe.store.identity();
    probe.put(plain(2));
    assert_eq!(probe.store.identity(), identity);
    assert_eq!(probe.store.clone().identity(), identity);
}

pub(super) fn every_log_has_its_own_identity(suite: &Suite<'_>) {
    let (one, other) = (suite.probe(), suite.probe());
    assert_ne!(one.store.identity().id, other.store.identity().id);
}

pub(super) fn two_logs_share_nothing(suite: &Suite<'_>) {
    let (one, other) = (suite.probe(), suite.probe());
    one.put(plain(3));
    assert_eq!((one.head(), other.head()), (3, 0));
    assert_eq!(other.put(plain(1)), (1, 1));
}
