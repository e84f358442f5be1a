//! Numbers at the limits and around powers of two, where an index or an encoding changes its form:
//! tags of an event, items of a filter, conditions of a commit, distances, limits of a read.

use super::{
    Suite,
    probe::{Probe, condition, event, key, numbers, one, parse, plain},
    read::read,
};
use crate::{
    append::{Append, AppendCondition, Tracking},
    batch::{Direction, Read},
    commits::ReadCommits,
    error::Refusal,
    event::RawEvent,
    filter::{Filter, FilterItem},
    position::Position,
    tag::Tag,
};

/// Numbers around the powers of two from 1 to `most`, in order.
fn around_powers(most: usize) -> Vec<usize> {
    let powers = (0..usize::BITS).map(|bits| 1_usize << bits).take_while(|power| *power <= most);
    let mut around: Vec<_> = powers.flat_map(|power| [power - 1, power, power + 1]).collect();
    around.push(most);
    around.retain(|number| (1..=most).contains(number));
    around.sort_unstable();
    around.dedup();
    around
}

/// An event of this type with `count` tags of its own.
fn tagged(event_type: &str, count: usize) -> RawEvent {
    let tags = (0..count).map(|number| Tag::new(&format!("of-{count}"), number));
    tags.fold(RawEvent::new(event_type.to_owned(), []), RawEvent::tag)
}

fn conflict(probe: &Probe, fail_if: Filter, after: u64) -> Position {
    let stale = AppendCondition { fail_if, after: after.into() };
    match probe.refused(one().condition(stale)) {
        Refusal::Conflict { at, .. } => at,
        other => panic!("the condition should refuse: {other:?}"),
    }
}

/// Checks that every call finds this event alone.
fn finds(probe: &Probe, filter: &Filter, position: u64) {
    for direction in [Direction::Forwards, Direction::Backwards] {
        let seen = probe.seen(filter, Read { direction, ..Read::all() });
        assert_eq!(numbers(&seen), [position], "{filter}, {direction:?}");
    }
    let last = probe.wait("last", probe.store.last(filter, Position::MAX));
    assert_eq!(last.unwrap(), Some(position.into()), "{filter}");
    assert_eq!(conflict(probe, filter.clone(), position - 1).get(), position, "{filter}");
}

pub(super) fn an_event_is_seen_by_each_of_its_tags_in_every_call(suite: &Suite<'_>) {
    let probe = suite.probe();
    let most = probe.store.limits().tags_per_event.min(64);
    for (position, count) in (1..).zip(around_powers(most)) {
        let event = tagged("e", count);
        let tags = event.tags.clone();
        probe.put([event]);
        for tag in &tags {
            finds(&probe, &Filter::tag(tag.clone()), position);
            assert_eq!(probe.count(tag.as_str(), Position::MAX), 1, "{tag} of {count}");
            assert_eq!(probe.count(tag.as_str(), position - 1), 0, "{tag} of {count}");
        }
        finds(&probe, &FilterItem { types: Vec::new(), tags }.into(), position);
    }
}

pub(super) fn each_tag_of_an_item_counts(suite: &Suite<'_>) {
    let probe = suite.probe();
    let most = probe.store.limits().tags_per_event.min(64);
    let full = tagged("e", most);
    let tags = full.tags.clone();
    probe.put([full.clone()]);
    for missing in 0..most {
        let mut event = full.clone();
        event.tags.remove(missing);
        probe.put([event]);
    }
    let all: Filter = FilterItem { types: Vec::new(), tags }.into();
    finds(&probe, &all, 1);
}

pub(super) fn each_condition_of_the_most_is_checked(suite: &Suite<'_>) {
    let probe = suite.probe();
    let most = probe.store.limits().commit_conditions.min(64) as u64;
    let tag = |number: u64| Filter::tag(Tag::new("n", number));
    probe.put((1..=most).map(|number| RawEvent::new("e", []).tag(Tag::new("n", number))));
    let head = Position::new(most);
    for violated in 0..=most {
        let conditions = (1..=most).map(|number| {
            let after = if number == violated { Position::new(number).before() } else { head };
            AppendCondition { fail_if: tag(number), after }
        });
        // Without events, so that an accepted request writes nothing.
        let append = Append { conditions: conditions.collect(), ..Append::default() };
        match violated {
            0 => assert_eq!(probe.commit(append).last, head),
            _ => {
                let at = Position::new(violated);
                let expected = Refusal::Conflict { at, after: at.before() };
                assert_eq!(probe.refused(append), expected, "condition {violated} of {most}");
            }
        }
    }
}

pub(super) fn each_item_and_type_of_the_most_is_considered(suite: &Suite<'_>) {
    let probe = suite.probe();
    let most = probe.store.limits().filter_items.min(256) as u64;
    let name = |number: u64| format!("type-{number}");
    probe.put((1..=most).map(|number| RawEvent::new(name(number), []).tag(Tag::new("n", number))));
    let items: Filter =
        (1..=most).map(|number| FilterItem::everything().and_tag(Tag::new("n", number))).collect();
    let types = Filter::types((1..=most).map(name));
    for filter in [items, types] {
        let positions = numbers(&probe.seen(&filter, Read::all()));
        assert_eq!(positions, (1..=most).collect::<Vec<_>>());
        for upto in 1..=most {
            let last = probe.wait("last", probe.store.last(&filter, upto.into()));
            assert_eq!(last.unwrap(), Some(upto.into()));
        }
        assert_eq!(conflict(&probe, filter, most - 1).get(), most);
    }
    assert_eq!(probe.wait("types", probe.store.types()).unwrap().len() as u64, most);
}

/// The positions of every second event, of 300.
fn every_second() -> Vec<u64> {
    (1..=300).filter(|number| number % 2 == 0).collect()
}

fn three_hundred(suite: &Suite<'_>) -> Probe {
    let probe = suite.probe();
    for number in 1..=300_u64 {
        let tags: &[&str] = if number.is_multiple_of(2) { &["k:1"] } else { &["l:1"] };
        let event_type = if number.is_multiple_of(2) { "even" } else { "odd" };
        probe.put([event(event_type, tags)]);
    }
    probe
}

pub(super) fn a_read_of_any_limit_is_right_in_both_directions(suite: &Suite<'_>) {
    let probe = three_hundred(suite);
    for filter in ["tag=k:1", "type=even", "type=even tag=k:1", "type=none or tag=k:1"] {
        for limit in around_powers(256).into_iter().chain([40, 41, 42, 100, 150, 151]) {
            for direction in [Direction::Forwards, Direction::Backwards] {
                let seen = probe.seen(&parse(filter), read(0, u64::MAX, direction, limit));
                let mut expected = every_second();
                if direction == Direction::Backwards {
                    expected.reverse();
                }
                assert_eq!(numbers(&seen), expected, "{filter} by {limit}, {direction:?}");
            }
        }
    }
}

pub(super) fn a_count_has_no_small_limit(suite: &Suite<'_>) {
    let probe = suite.probe();
    let tagged = || event("e", &["k:1"]);
    for _ in 0..3 {
        probe.put((0..200).map(|_| tagged()));
    }
    for upto in [0, 1, 127, 128, 129, 255, 256, 257, 511, 512, 513, 600_u64] {
        assert_eq!(probe.count("k:1", upto), upto);
    }
}

pub(super) fn a_conflict_far_away_is_named(suite: &Suite<'_>) {
    let probe = suite.probe();
    // The match of a distance is at 1,201 less the distance.
    let distances: Vec<_> = around_powers(1_024).into_iter().chain([100, 1_200]).collect();
    let mut events: Vec<_> = plain(1_200).collect();
    for distance in &distances {
        let tag = Tag::new("distance", distance);
        let at = 1_200 - distance;
        events[at].tags.push(tag);
    }
    for commit in events.chunks(100) {
        probe.put(commit.iter().cloned());
    }
    for distance in distances {
        let (at, filter) = (1_201 - distance as u64, format!("tag=distance:{distance}"));
        for after in [0, at / 2, at - 1] {
            let stale = one().condition(condition(&filter, after));
            let expected = Refusal::Conflict { at: at.into(), after: after.into() };
            assert_eq!(probe.refused(stale), expected, "{distance} positions away");
        }
        assert_eq!(probe.last(&filter, Position::MAX), Some(at));
        probe.commit(Append::default().condition(condition(&filter, at)));
    }
}

pub(super) fn payloads_of_any_size_are_read_as_written(suite: &Suite<'_>) {
    let probe = suite.probe();
    let most = probe.store.limits().event_bytes.min(1 << 20) - 100;
    let sizes = around_powers(most);
    for size in &sizes {
        let bytes: Vec<_> = (0..*size).map(|at| (at % 251) as u8).collect();
        probe.put([RawEvent::new("sized", bytes)]);
    }
    let seen = probe.everything();
    assert_eq!(seen.len(), sizes.len());
    for (seen, size) in seen.iter().zip(sizes) {
        let payload = &seen.event.payload;
        assert_eq!(payload.len(), size);
        assert!(payload.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
    }
}

pub(super) fn numbers_are_stored_whole(suite: &Suite<'_>) {
    let probe = suite.probe();
    let versions: Vec<_> =
        (0..32).map(|bits| 1_u32 << bits).chain([u32::MAX, 0xff, 0xffff]).collect();
    probe.put(versions.iter().map(|version| RawEvent::new("e", []).version(*version)));
    let seen: Vec<_> = probe.everything().iter().map(|seen| seen.event.version).collect();
    assert_eq!(seen, versions);
    let positions = (0..64).map(|bits| 1_u64 << bits).chain([u64::MAX]);
    for position in positions {
        let tracking = Tracking::new("s", position);
        probe.commit(Append::default().tracking(tracking.clone()));
        assert_eq!(probe.tracked("s"), Some(tracking));
    }
}

/// A log with several hundred keys and sources, in commits of several sizes.
fn with_many_names(suite: &Suite<'_>) -> Probe {
    let probe = suite.probe();
    for number in 1..=300_u64 {
        let append = Append::events(plain(number % 3 + 1)).key(key(&format!("k{number}"), "r"));
        let source = format!("s{number}");
        probe.commit(append.tracking(Tracking::new(source, number)));
    }
    probe
}

pub(super) fn many_keys_outlive_the_store(suite: &Suite<'_>) {
    let mut probe = with_many_names(suite);
    let found = |probe: &Probe| {
        (1..=300).map(|number| probe.keyed(&format!("k{number}"))).collect::<Vec<_>>()
    };
    let before = found(&probe);
    assert!(before.iter().all(Option::is_some));
    for turn in 0..2 {
        probe = probe.reopen();
        assert_eq!(found(&probe), before, "turn {turn}");
        for (number, keyed) in (1..).zip(before.iter().flatten()) {
            let refused = probe.refused(one().key(key(&format!("k{number}"), "r")));
            let (first, last) = (keyed.first, keyed.last);
            assert_eq!(refused, Refusal::KeyTaken { first, last });
        }
    }
}

pub(super) fn many_commits_have_their_facts(suite: &Suite<'_>) {
    let probe = with_many_names(suite);
    let expected = |number: u64| {
        (Some(key(&format!("k{number}"), "r")), Some(Tracking::new(format!("s{number}"), number)))
    };
    let expected: Vec<_> = (1..=300).map(expected).collect();
    let facts = |read: ReadCommits| {
        let commits = probe.all_commits(read);
        let facts = commits.into_iter().map(|commit| (commit.facts.key, commit.facts.tracking));
        facts.collect::<Vec<_>>()
    };
    for limit in [1, 7, 64, 1_000] {
        let read = ReadCommits::after(Position::START).limit_events(limit);
        assert_eq!(facts(read), expected, "at most {limit} events");
    }
    for before in [1, 31, 32, 33, 127, 128, 255, 299] {
        let after = probe.keyed(&format!("k{before}")).expect("the key was used").last;
        assert_eq!(facts(ReadCommits::after(after)), expected[before..], "after commit {before}");
    }
}

pub(super) fn many_sources_outlive_the_store(suite: &Suite<'_>) {
    let probe = with_many_names(suite).reopen();
    for number in 1..=300_u64 {
        let tracking = Tracking::new(format!("s{number}"), number);
        assert_eq!(probe.tracked(&tracking.source), Some(tracking.clone()));
        let refused = probe.refused(one().tracking(tracking));
        assert!(matches!(refused, Refusal::AlreadyTracked { .. }), "{refused:?}");
    }
}
