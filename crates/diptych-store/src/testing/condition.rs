//! Append conditions: which events refuse a commit, and the content of the refusal.

use super::{
    Suite,
    probe::{Probe, condition, event, one, plain},
};
use crate::{
    append::Append,
    error::{AppendError, InvalidRequest, Refusal},
    position::Position,
};

/// Events `a b a b a` at 1 to 5, one commit each.
fn five(suite: &Suite<'_>) -> Probe {
    let probe = suite.probe();
    for event_type in ["a", "b", "a", "b", "a"] {
        probe.put([event(event_type, &[])]);
    }
    probe
}

fn on(fail_if: &str, after: u64) -> Append {
    one().condition(condition(fail_if, after))
}

/// An append on all of these conditions, each a filter and a position.
fn on_all(conditions: &[(&str, u64)]) -> Append {
    let conditions = conditions.iter().map(|&(fail_if, after)| condition(fail_if, after));
    conditions.fold(one(), Append::condition)
}

/// Both orders of two conditions.
fn either_way<'a>(first: (&'a str, u64), second: (&'a str, u64)) -> [Append; 2] {
    [on_all(&[first, second]), on_all(&[second, first])]
}

/// The position of the conflict with this condition, if there is one.
fn conflict(probe: &Probe, fail_if: &str, after: u64) -> Option<u64> {
    let check = Append::default().condition(condition(fail_if, after));
    match probe.append(check) {
        Ok(accepted) => {
            probe.synced(accepted);
            None
        }
        Err(AppendError::Refused(Refusal::Conflict { at, .. })) => Some(at.get()),
        Err(other) => panic!("{fail_if} after {after}: {other}"),
    }
}

pub(super) fn a_match_after_the_position_is_a_conflict(suite: &Suite<'_>) {
    let probe = five(suite);
    let refusal = probe.refused(on("type=a", 2));
    let expected = Refusal::Conflict { at: 5.into(), after: 2.into() };
    assert_eq!(refusal, expected);
}

pub(super) fn no_match_after_the_position_is_no_conflict(suite: &Suite<'_>) {
    let probe = five(suite);
    probe.commit(on("type=b", 4));
    probe.commit(on("type=c", 0));
}

pub(super) fn a_match_at_the_position_is_no_conflict(suite: &Suite<'_>) {
    let probe = five(suite);
    assert_eq!(conflict(&probe, "type=a", 5), None);
    assert_eq!(conflict(&probe, "type=b", 4), None);
}

pub(super) fn a_match_just_after_the_position_is_a_conflict(suite: &Suite<'_>) {
    let probe = five(suite);
    assert_eq!(conflict(&probe, "type=a", 4), Some(5));
    assert_eq!(conflict(&probe, "type=b", 3), Some(4));
    assert_eq!(conflict(&probe, "*", 4), Some(5));
}

pub(super) fn a_condition_from_the_start_sees_the_whole_log(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put([event("first", &["only:1"])]);
    for _ in 0..40 {
        probe.put(plain(10));
    }
    assert_eq!(conflict(&probe, "type=first", 0), Some(1));
    assert_eq!(conflict(&probe, "tag=only:1", 0), Some(1));
}

pub(super) fn a_conflict_names_the_last_match(suite: &Suite<'_>) {
    let probe = five(suite);
    assert_eq!(conflict(&probe, "type=a", 0), Some(5));
    assert_eq!(conflict(&probe, "type=b", 0), Some(4));
    assert_eq!(conflict(&probe, "type=b", 1), Some(4));
    assert_eq!(conflict(&probe, "type=b or type=c", 0), Some(4));
    probe.put([event("x", &[]), event("x", &[]), event("y", &[])]);
    assert_eq!(conflict(&probe, "type=x", 5), Some(7));
}

pub(super) fn the_position_may_be_above_the_last_match(suite: &Suite<'_>) {
    let probe = five(suite);
    probe.put(plain(5));
    assert_eq!(conflict(&probe, "type=a", 8), None);
    probe.put([event("a", &[])]);
    assert_eq!(conflict(&probe, "type=a", 8), Some(11));
}

pub(super) fn a_commit_does_not_conflict_with_itself(suite: &Suite<'_>) {
    let probe = suite.probe();
    let own = [event("a", &["k:1"]), event("a", &["k:1"])];
    probe.commit(Append::events(own).condition(condition("type=a or tag=k:1 or *", 0)));
}

pub(super) fn a_condition_takes_any_of_the_types(suite: &Suite<'_>) {
    let probe = five(suite);
    assert_eq!(conflict(&probe, "type=b,c", 3), Some(4));
    assert_eq!(conflict(&probe, "type=a,b", 4), Some(5));
    assert_eq!(conflict(&probe, "type=c,d", 0), None);
}

pub(super) fn a_condition_takes_all_of_the_tags(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put([event("a", &["k:1"]), event("a", &["k:2"]), event("a", &["k:1", "l:1"])]);
    assert_eq!(conflict(&probe, "tag=k:1 tag=l:1", 0), Some(3));
    assert_eq!(conflict(&probe, "tag=k:2 tag=l:1", 0), None);
    assert_eq!(conflict(&probe, "tag=k:1", 0), Some(3));
}

pub(super) fn a_condition_takes_any_of_the_items(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put([event("a", &["k:1"]), event("b", &["k:2"])]);
    assert_eq!(conflict(&probe, "type=c or type=b", 0), Some(2));
    assert_eq!(conflict(&probe, "tag=k:2 or tag=k:1", 1), Some(2));
    assert_eq!(conflict(&probe, "type=a tag=k:2 or type=b tag=k:1", 0), None);
}

pub(super) fn a_condition_on_everything_is_on_the_head(suite: &Suite<'_>) {
    let probe = five(suite);
    assert_eq!(conflict(&probe, "*", 5), None);
    assert_eq!(conflict(&probe, "*", 2), Some(5));
    assert_eq!(conflict(&probe, "type=zzz or *", 4), Some(5));
}

pub(super) fn a_condition_on_nothing_never_refuses(suite: &Suite<'_>) {
    let probe = five(suite);
    assert_eq!(conflict(&probe, "nothing", 0), None);
}

pub(super) fn a_condition_above_the_head_is_invalid(suite: &Suite<'_>) {
    let probe = five(suite);
    for after in [Position::new(6), Position::MAX] {
        let expected = InvalidRequest::AboveHead { position: after, head: 5.into() };
        assert_eq!(probe.invalid(one().condition(condition("type=a", after))), expected);
        let nothing = Append::default().condition(condition("nothing", after));
        assert_eq!(probe.invalid(nothing), expected);
    }
    assert_eq!(probe.head(), 5);
}

pub(super) fn any_of_several_conditions_refuses(suite: &Suite<'_>) {
    let probe = five(suite);
    for violated in 0..3 {
        let mut conditions = [("type=c", 0), ("type=b", 4), ("tag=k:1", 0)];
        conditions[violated] = ("type=a", 4);
        let expected = Refusal::Conflict { at: 5.into(), after: 4.into() };
        assert_eq!(probe.refused(on_all(&conditions)), expected, "number {violated}");
        let nothing = Append { events: Vec::new(), ..on_all(&conditions) };
        assert_eq!(probe.refused(nothing), expected, "number {violated}, without events");
    }
    assert_eq!(probe.head(), 5);
}

pub(super) fn a_commit_needs_all_of_its_conditions(suite: &Suite<'_>) {
    let probe = five(suite);
    probe.refused(on_all(&[("type=a", 5), ("type=b", 3)]));
    probe.refused(on_all(&[("type=a", 4), ("type=b", 4)]));
    probe.refused(on_all(&[("type=a", 4), ("type=b", 3)]));
    probe.commit(on_all(&[("type=a", 5), ("type=b", 4)]));
}

pub(super) fn each_condition_counts_from_its_own_position(suite: &Suite<'_>) {
    let probe = five(suite);
    for known in either_way(("type=a", 5), ("type=b", 4)) {
        // The last `a` is above the position of the other condition.
        probe.commit(Append { events: Vec::new(), ..known });
    }
    for missed in either_way(("type=a", 3), ("type=b", 5)) {
        // The last `a` is at the position of the other condition.
        let expected = Refusal::Conflict { at: 5.into(), after: 3.into() };
        assert_eq!(probe.refused(missed), expected);
    }
}

pub(super) fn a_conflict_over_several_conditions_names_the_last_match(suite: &Suite<'_>) {
    let probe = five(suite);
    for append in either_way(("type=b", 0), ("type=a", 2)) {
        let expected = Refusal::Conflict { at: 5.into(), after: 2.into() };
        assert_eq!(probe.refused(append), expected, "the position of the condition that matched");
    }
    for append in either_way(("type=a", 3), ("type=a or type=b", 1)) {
        let expected = Refusal::Conflict { at: 5.into(), after: 1.into() };
        assert_eq!(
            probe.refused(append),
            expected,
            "the lowest position of the violated conditions"
        );
    }
}

pub(super) fn every_condition_sees_accepted_commits(suite: &Suite<'_>) {
    let probe = five(suite);
    // No sync is awaited in between: the checks rest on accepted commits, synced or not.
    let accepted = [event("b", &[]), event("c", &[])].map(|event| {
        let appended = probe.append(Append::event(event));
        appended.unwrap()
    });
    let [before, newest] = accepted;
    for append in either_way(("type=a", 3), ("type=c", 6)) {
        let expected = Refusal::Conflict { at: 7.into(), after: 6.into() };
        assert_eq!(probe.refused(append), expected);
    }
    for append in either_way(("type=x", 7), ("type=b", 5)) {
        let expected = Refusal::Conflict { at: 6.into(), after: 5.into() };
        assert_eq!(probe.refused(append), expected);
    }
    probe.synced(before);
    probe.synced(newest);
}

pub(super) fn any_condition_above_the_head_is_invalid(suite: &Suite<'_>) {
    let probe = five(suite);
    let invalid =
        |position: u64| InvalidRequest::AboveHead { position: position.into(), head: 5.into() };
    for append in either_way(("type=c", 0), ("type=c", 6)) {
        assert_eq!(probe.invalid(append), invalid(6));
    }
    for append in either_way(("nothing", 8), ("type=c", 6)) {
        assert_eq!(probe.invalid(append), invalid(8), "the highest position");
    }
    for append in either_way(("type=a", 0), ("type=c", 6)) {
        assert_eq!(probe.invalid(append), invalid(6), "a violated condition does not hide it");
    }
    assert_eq!(probe.head(), 5);
}
