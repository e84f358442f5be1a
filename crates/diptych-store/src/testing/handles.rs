//! Two handles on one log: the head of each may be behind, and no check is.

use super::{
    Suite,
    probe::{Probe, condition, event, key, one, plain},
};
use crate::{
    append::{Append, Tracking},
    error::Refusal,
    position::Position,
};

/// A handle, and another one that was opened when the log had one event.
fn two(suite: &Suite<'_>) -> (Probe, Probe) {
    let first = suite.probe();
    first.put(plain(1));
    let second = first.second();
    assert_eq!(second.fresh_head(), 1);
    (first, second)
}

pub(super) fn handles_are_on_one_log(suite: &Suite<'_>) {
    let (first, second) = two(suite);
    assert_eq!(first.store.identity(), second.store.identity());
    first.put([event("a", &["k:1"])]);
    assert_eq!(second.put([event("b", &["k:1"])]), (3, 3));
    assert_eq!(first.put([event("c", &["k:1"])]), (4, 4));
    assert_eq!((first.fresh_head(), second.fresh_head()), (4, 4));
    assert_eq!(first.everything(), second.everything());
}

pub(super) fn a_store_with_other_writers_says_so(suite: &Suite<'_>) {
    let (first, second) = two(suite);
    assert!(first.store.has_other_writers());
    assert!(second.store.has_other_writers());
}

pub(super) fn a_fresh_head_sees_other_handles(suite: &Suite<'_>) {
    let (first, second) = two(suite);
    for turn in 1..=50 {
        let (_, last) = first.put(plain(2));
        assert_eq!(second.fresh_head(), last, "turn {turn}");
        let (_, last) = second.put(plain(1));
        assert_eq!(first.fresh_head(), last, "turn {turn}");
    }
}

pub(super) fn a_fresh_head_moves_the_head(suite: &Suite<'_>) {
    let (first, second) = two(suite);
    for (writer, reader) in [(&first, &second), (&second, &first)] {
        let held = reader.store.head();
        for _ in 0..50 {
            writer.put(plain(2));
            let fresh = reader.fresh_head();
            assert_eq!((reader.head(), held.position().get()), (fresh, fresh));
        }
    }
}

pub(super) fn reads_after_a_fresh_head_see_other_handles(suite: &Suite<'_>) {
    let (first, second) = two(suite);
    for turn in 1..=20 {
        let (_, last) = first.put([event("a", &["k:1"]), event("b", &[])]);
        assert_eq!(second.fresh_head(), last);
        assert_eq!(second.everything(), first.everything());
        assert_eq!(second.last("type=b", Position::MAX), Some(last));
        assert_eq!(second.count("k:1", Position::MAX), turn);
        assert_eq!(second.checksum(last.into()), first.checksum(last.into()));
    }
    // A checksum is asked of a position from elsewhere, so it looks beyond the head of its handle.
    let (_, last) = first.put(plain(1));
    assert!(second.checksum(last.into()).is_some());
    assert_eq!(second.checksum((last + 1).into()), None);
}

pub(super) fn a_key_of_another_handle_is_found_after_a_fresh_head(suite: &Suite<'_>) {
    let (first, second) = two(suite);
    for number in 2..=20_u64 {
        let name = number.to_string();
        let append = one().key(key(&name, "r")).tracking(Tracking::new("s", number));
        let committed = first.commit(append);
        assert_eq!(second.fresh_head(), number);
        let keyed = second.keyed(&name);
        assert_eq!(keyed.map(|keyed| keyed.last), Some(committed.last), "key {name}");
        assert_eq!(second.tracked("s"), Some(Tracking::new("s", number)));
    }
}

pub(super) fn conditions_see_other_handles(suite: &Suite<'_>) {
    let (first, second) = two(suite);
    for (turn, (one, other)) in [(&first, &second), (&second, &first)].repeat(10).iter().enumerate()
    {
        let (_, last) = one.put([event("a", &["k:1"])]);
        let stale = condition("tag=k:1", last - 1);
        let refusal = other.refused(Append::event(event("a", &["k:1"])).condition(stale));
        let expected = Refusal::Conflict { at: last.into(), after: (last - 1).into() };
        assert_eq!(refusal, expected, "turn {turn}");
    }
}

pub(super) fn keys_and_tracking_are_checked_across_handles(suite: &Suite<'_>) {
    let (first, second) = two(suite);
    for number in 2..=20_u64 {
        let name = number.to_string();
        let append = one().key(key(&name, "r")).tracking(Tracking::new("s", number));
        let committed = first.commit(append);
        let (first, last) = (committed.first, committed.last);
        let refusal = second.refused(one().key(key(&name, "r")));
        assert_eq!(refusal, Refusal::KeyTaken { first, last });
        let refusal = second.refused(one().tracking(Tracking::new("s", number)));
        assert!(matches!(refusal, Refusal::AlreadyTracked { .. }), "{refusal:?}");
    }
}

pub(super) fn a_refusal_publishes_what_it_rests_on(suite: &Suite<'_>) {
    let (first, second) = two(suite);
    for (direction, writer, reader) in [(1, &first, &second), (2, &second, &first)] {
        for turn in 1..=20 {
            let (_, last) = writer.put([event("a", &[])]);
            reader.refused(one().condition(condition("type=a", 0)));
            assert!(reader.head() >= last, "turn {turn}: the head is {}", reader.head());
            assert_eq!(reader.last("type=a", Position::MAX), Some(last));
            let name = format!("{direction}-{turn}");
            let committed = writer.commit(one().key(key(&name, "r")));
            reader.refused(one().key(key(&name, "r")));
            assert!(reader.head() >= committed.last.get(), "turn {turn}: {}", reader.head());
            assert_eq!(reader.keyed(&name).map(|keyed| keyed.last), Some(committed.last));
        }
    }
}

pub(super) fn a_head_follows_other_handles(suite: &Suite<'_>) {
    let (first, second) = two(suite);
    let head = second.store.head();
    first.parallel(2, |number, _| match number {
        0 => {
            let reached = second.wait("head", head.after(5.into())).unwrap();
            assert!(reached > Position::new(5));
        }
        _ => (0..10).for_each(|_| {
            first.put(plain(1));
        }),
    });
}

pub(super) fn a_condition_at_a_position_of_another_handle_is_valid(suite: &Suite<'_>) {
    let (first, second) = two(suite);
    for _ in 0..20 {
        let (_, last) = first.put([event("a", &[])]);
        second.commit(one().condition(condition("type=a", last)));
    }
}
