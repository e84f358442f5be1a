//! Idempotency keys: one commit for each key, for ever. Keys share no names with types, tags or
//! sources.

use super::{
    Suite,
    probe::{event, key, one, plain},
};
use crate::{
    append::{Append, Digest, Key, KeyedCommit, Tracking},
    error::{InvalidRequest, Refusal},
};

pub(super) fn a_key_finds_its_commit(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(2));
    probe.commit(Append::events(plain(3)).key(key("k", "request")));
    probe.put(plain(2));
    let expected = KeyedCommit { first: 3.into(), last: 5.into(), digest: Digest::of(b"request") };
    assert_eq!(probe.keyed("k"), Some(expected));
}

pub(super) fn an_unused_key_finds_nothing(suite: &Suite<'_>) {
    let probe = suite.probe();
    assert_eq!(probe.keyed("k"), None);
    probe.commit(one().key(key("used", "r")));
    for name in ["use", "used ", "Used", "used2", "k", ""] {
        assert_eq!(probe.keyed(name), None, "{name:?}");
    }
}

pub(super) fn a_repeated_request_gets_the_positions_of_the_first(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(1));
    let append = Append::events(plain(3)).key(key("k", "request"));
    probe.commit(append.clone());
    probe.put(plain(4));
    let expected = Refusal::KeyTaken { first: 2.into(), last: 4.into() };
    assert_eq!(probe.refused(append.clone()), expected);
    // The digest identifies the request, and not its events.
    assert_eq!(probe.refused(one().key(key("k", "request"))), expected);
    assert_eq!(probe.head(), 8);
}

pub(super) fn another_request_under_a_used_key_is_refused_as_reused(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.commit(Append::events(plain(2)).key(key("k", "request")));
    let expected = Refusal::KeyReused { first: 1.into(), last: 2.into() };
    assert_eq!(probe.refused(one().key(key("k", "another"))), expected);
    // The first request's digest stays.
    let again = probe.refused(one().key(key("k", "request")));
    assert!(matches!(again, Refusal::KeyTaken { .. }), "{again:?}");
}

pub(super) fn digests_are_compared_whole(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.commit(one().key(Key::new("k", Digest([7; 16]))));
    for at in 0..16 {
        let mut digest = Digest([7; 16]);
        digest.0[at] ^= 1;
        let refusal = probe.refused(one().key(Key::new("k", digest)));
        assert!(matches!(refusal, Refusal::KeyReused { .. }), "byte {at}: {refusal:?}");
    }
    assert_eq!(probe.keyed("k").unwrap().digest, Digest([7; 16]));
}

pub(super) fn a_key_without_events_is_invalid(suite: &Suite<'_>) {
    let probe = suite.probe();
    let without = Append::default().key(key("k", "r"));
    assert_eq!(probe.invalid(without.clone()), InvalidRequest::KeyWithoutEvents);
    let tracked = without.tracking(Tracking::new("s", 1));
    assert_eq!(probe.invalid(tracked), InvalidRequest::KeyWithoutEvents);
    assert_eq!((probe.keyed("k"), probe.tracked("s")), (None, None));
}

pub(super) fn a_key_has_a_name(suite: &Suite<'_>) {
    let probe = suite.probe();
    let invalid = probe.invalid(one().key(key("", "r")));
    assert!(matches!(invalid, InvalidRequest::NoName { .. }), "{invalid:?}");
    assert_eq!(probe.head(), 0);
}

pub(super) fn keys_are_a_space_of_their_own(suite: &Suite<'_>) {
    let probe = suite.probe();
    let tracked = Append::event(event("k", &["k:1"])).tracking(Tracking::new("s", 1));
    probe.commit(tracked);
    for name in ["k", "k:1", "s"] {
        assert_eq!(probe.keyed(name), None, "{name:?} is no key");
        probe.commit(one().key(key(name, "r")));
    }
    assert_eq!(probe.positions("type=k"), [1]);
    assert_eq!(probe.positions("tag=k:1"), [1]);
    assert_eq!(probe.tracked("k:1"), None);
}

pub(super) fn a_key_is_remembered_for_ever(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.commit(one().key(key("first", "r")));
    for number in 0..300 {
        probe.commit(one().key(key(&format!("k{number}"), "r")));
    }
    let expected = Refusal::KeyTaken { first: 1.into(), last: 1.into() };
    assert_eq!(probe.refused(one().key(key("first", "r"))), expected);
    assert_eq!(probe.keyed("k0").unwrap().first.get(), 2);
    assert_eq!(probe.keyed("k299").unwrap().last.get(), 301);
}
