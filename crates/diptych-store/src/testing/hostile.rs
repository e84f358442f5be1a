//! Hostile names: types, tags, keys and sources of any text are stored byte for byte, and are not
//! confused with others.

use std::collections::BTreeMap;

use super::{
    Suite,
    probe::{condition, event, key, numbers, one, tag},
};
use crate::{
    append::{Append, AppendCondition, Tracking},
    batch::Read,
    error::{InvalidRequest, Refusal},
    event::{Metadata, RawEvent},
    filter::{Filter, FilterItem},
    position::Position,
    tag::Tag,
};

/// Names that a faulty store could confuse with others.
const NAMES: &[&str] = &[
    "a",
    "A",
    "ab",
    "a b",
    " a",
    "a ",
    "a\t",
    "a\n",
    "\n",
    "a\0",
    "\0",
    "a\0b",
    "a\\0",
    "a'",
    "a\"",
    "a`",
    "';drop table events;--",
    "a,b",
    "a%",
    "a%20b",
    "a%2",
    "a_",
    "a*",
    "*",
    "a/b",
    "../a",
    "a\\b",
    "a:b",
    "a::b",
    ":",
    "a=b",
    "type=a",
    "tag=k:v",
    " or ",
    "{}",
    "null",
    "0",
    "-1",
    "\u{feff}a",
    "ä",
    "a\u{308}",
    "ß",
    "ẞ",
    "İ",
    "i",
    "ı",
    "日本",
    "🦀",
    "👩‍👩‍👧",
    "\u{202e}a",
    "a\u{200b}",
    "\u{10ffff}",
    "\u{7f}",
    "\r\n",
    "$a",
    "#a",
    "@a",
    "~",
    "..",
    ".",
    "-a",
    "--",
    "a;b",
    "a|b",
    "a&b",
];

/// `NAMES`, and two long names that differ only at the end.
fn names() -> Vec<String> {
    let long = "long".repeat(50);
    let names = NAMES.iter().map(|name| (*name).to_owned());
    names.chain([format!("{long}x"), long]).collect()
}

pub(super) fn hostile_types_are_told_apart(suite: &Suite<'_>) {
    let probe = suite.probe();
    let names = names();
    probe.put(names.iter().map(|name| event(name, &[])));
    for (seen, name) in probe.everything().iter().zip(&names) {
        assert_eq!(seen.event.event_type.as_ref(), name);
    }
    for (position, name) in (1..).zip(&names) {
        let filter = Filter::event_type(name.clone());
        let found = numbers(&probe.seen(&filter, Read::all()));
        assert_eq!(found, [position], "{name:?}");
        let last = probe.wait("last", probe.store.last(&filter, Position::MAX)).unwrap();
        assert_eq!(last, Some(position.into()), "{name:?}");
    }
}

pub(super) fn hostile_tags_are_told_apart(suite: &Suite<'_>) {
    let probe = suite.probe();
    let tags: Vec<Tag> = names().iter().map(|name| Tag::new("k", name)).collect();
    probe.put(tags.iter().map(|tag| RawEvent::new("e", []).tag(tag.clone())));
    for (seen, tag) in probe.everything().iter().zip(&tags) {
        assert_eq!(seen.event.tags, std::slice::from_ref(tag));
    }
    for (position, tag) in (1..).zip(&tags) {
        let found = numbers(&probe.seen(&Filter::tag(tag.clone()), Read::all()));
        assert_eq!(found, [position], "{tag:?}");
        assert_eq!(probe.count(tag.as_str(), Position::MAX), 1, "{tag:?}");
    }
    let last = tags.len() as u64;
    let filter = Filter::tag(tags[0].clone()).or(Filter::tag(tags[1].clone()));
    let clear = AppendCondition { fail_if: filter, after: 2.into() };
    assert_eq!(probe.commit(one().condition(clear)).last.get(), last + 1);
}

pub(super) fn hostile_keys_are_told_apart(suite: &Suite<'_>) {
    let probe = suite.probe();
    let names = names();
    for (position, name) in (1..).zip(&names) {
        assert_eq!(probe.commit(one().key(key(name, "r"))).first.get(), position);
    }
    for (position, name) in (1..).zip(&names) {
        let position = Position::new(position);
        assert_eq!(probe.keyed(name).unwrap().first, position, "{name:?}");
        let expected = Refusal::KeyTaken { first: position, last: position };
        assert_eq!(probe.refused(one().key(key(name, "r"))), expected, "{name:?}");
    }
}

pub(super) fn hostile_sources_are_told_apart(suite: &Suite<'_>) {
    let probe = suite.probe();
    let tracked = |number: u64, name: &String| Tracking::new(name, number);
    for (number, name) in (1..).zip(&names()) {
        probe.commit(Append::default().tracking(tracked(number, name)));
    }
    for (number, name) in (1..).zip(&names()) {
        assert_eq!(probe.tracked(name), Some(tracked(number, name)));
    }
}

pub(super) fn hostile_metadata_is_read_as_written(suite: &Suite<'_>) {
    let probe = suite.probe();
    let extra: BTreeMap<_, _> =
        names().iter().map(|name| (name.as_str().into(), name.as_str().into())).collect();
    let by = |actor: &String| Metadata {
        actor: Some(actor.as_str().into()),
        extra: extra.clone(),
        ..Metadata::default()
    };
    let events: Vec<_> = names().iter().map(|name| event("e", &[]).metadata(by(name))).collect();
    probe.put(events.clone());
    for (seen, event) in probe.everything().iter().zip(&events) {
        assert_eq!(seen.event, *event);
    }
}

pub(super) fn a_tag_is_not_found_by_its_prefix(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put([
        event("e", &["account:1"]),
        event("e", &["account:12"]),
        event("e", &["account:123", "account:1"]),
        event("e", &["accounts:1"]),
    ]);
    assert_eq!(probe.positions("tag=account:1"), [1, 3]);
    assert_eq!(probe.positions("tag=account:12"), [2]);
    assert!(probe.positions("tag=account:1 tag=account:12").is_empty());
    assert_eq!(probe.count("account:1", Position::MAX), 2);
    assert_eq!(probe.last("tag=account:12", Position::MAX), Some(2));
    probe.commit(one().condition(condition("tag=account:12", 2)));
}

pub(super) fn a_type_is_not_a_tag(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put([event("k:1", &[]), event("e", &["k:1"]), event("k:1", &["k:1"])]);
    assert_eq!(probe.positions("type=k:1"), [1, 3]);
    assert_eq!(probe.positions("tag=k:1"), [2, 3]);
    assert_eq!(probe.positions("type=k:1 tag=k:1"), [3]);
    assert_eq!(probe.count("k:1", Position::MAX), 2);
}

pub(super) fn a_tag_may_have_an_empty_value(suite: &Suite<'_>) {
    let probe = suite.probe();
    let empty = event("e", &["k:1"]).tag(Tag::new("k", ""));
    probe.put([empty.clone()]);
    assert_eq!(probe.everything()[0].event, empty, "no tag is lost");
    let found = probe.seen(&Filter::tag(Tag::new("k", "")), Read::all());
    assert_eq!(found.len(), 1);
}

pub(super) fn an_event_is_found_by_each_of_its_tags(suite: &Suite<'_>) {
    let probe = suite.probe();
    let most = probe.store.limits().tags_per_event.min(64);
    let tags: Vec<Tag> = (0..most).map(|number| Tag::new("n", number)).collect();
    let full = tags.iter().fold(RawEvent::new("full", []), |event, tag| event.tag(tag.clone()));
    probe.put([event("e", &["n:0"]), full]);
    for tag in &tags {
        let found = numbers(&probe.seen(&Filter::tag(tag.clone()), Read::all()));
        assert_eq!(found.last(), Some(&2), "{tag}");
    }
    let all = FilterItem { types: Vec::new(), tags };
    assert_eq!(numbers(&probe.seen(&all.into(), Read::all())), [2]);
}

pub(super) fn names_may_be_as_long_as_the_limits(suite: &Suite<'_>) {
    let probe = suite.probe();
    let limits = probe.store.limits();
    let two = |bytes: usize| ["x", "y"].map(|end| format!("{}{end}", "n".repeat(bytes - 1)));
    let types = two(limits.type_bytes);
    probe.put(types.iter().map(|name| event(name, &[])));
    let tags = two(limits.tag_bytes - 2).map(|value| Tag::new("k", value));
    probe.put(tags.iter().map(|tag| RawEvent::new("e", []).tag(tag.clone())));
    for (position, name) in (1..).zip(types) {
        let found = numbers(&probe.seen(&Filter::event_type(name), Read::all()));
        assert_eq!(found, [position]);
    }
    for (position, tag) in (3..).zip(tags) {
        assert_eq!(numbers(&probe.seen(&Filter::tag(tag), Read::all())), [position]);
    }
    for (position, name) in (5..).zip(two(limits.key_bytes)) {
        probe.commit(one().key(key(&name, "r")));
        assert_eq!(probe.keyed(&name).unwrap().first.get(), position);
    }
    for (number, name) in (1..).zip(two(limits.source_bytes)) {
        probe.commit(one().tracking(Tracking::new(&name, number)));
        assert_eq!(probe.tracked(&name), Some(Tracking::new(&name, number)));
    }
}

pub(super) fn a_long_name_in_a_filter_finds_nothing(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put([event("e", &["k:1"])]);
    let long = Filter::event_type("e".repeat(100_000)).or(tag(&format!("k:{}", "1".repeat(9_000))));
    assert!(probe.seen(&long, Read::all()).is_empty());
    assert_eq!(probe.keyed(&"k".repeat(100_000)), None);
    assert_eq!(probe.tracked(&"s".repeat(100_000)), None);
    assert_eq!(probe.count(&format!("k:{}", "1".repeat(9_000)), Position::MAX), 0);
    let invalid = probe.invalid(one().key(key(&"k".repeat(100_000), "r")));
    assert!(matches!(invalid, InvalidRequest::TooLarge { .. }), "{invalid:?}");
}
