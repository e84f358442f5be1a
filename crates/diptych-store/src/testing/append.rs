//! Commits: dense positions, atomic writes, and every field as it was given.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    task::{Context, Waker},
};

use uuid::Uuid;

use super::{
    Suite,
    probe::{condition, event, key, numbers, one, parse, plain},
};
use crate::{
    append::Append,
    batch::Read,
    checksum::{ContentChecksum, EventChecksum},
    encoding,
    error::InvalidRequest,
    event::{Metadata, RawEvent},
    position::Position,
    time::Timestamp,
};

pub(super) fn positions_are_dense_from_one(suite: &Suite<'_>) {
    let probe = suite.probe();
    assert_eq!(probe.put(plain(1)), (1, 1));
    assert_eq!(probe.put(plain(3)), (2, 4));
    assert_eq!(probe.put(plain(1)), (5, 5));
    assert_eq!(numbers(&probe.everything()), [1, 2, 3, 4, 5]);
}

pub(super) fn events_of_a_commit_keep_their_order(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(20));
    let payloads: Vec<_> = probe.everything().into_iter().map(|seen| seen.event.payload).collect();
    let expected: Vec<_> = plain(20).map(|event| event.payload).collect();
    assert_eq!(payloads, expected);
}

pub(super) fn a_commit_of_many_events_is_complete(suite: &Suite<'_>) {
    let probe = suite.probe();
    assert_eq!(probe.put(plain(3_000)), (1, 3_000));
    let expected: Vec<u64> = (1..=3_000).collect();
    assert_eq!(numbers(&probe.everything()), expected);
}

pub(super) fn accepted_positions_are_those_of_the_events(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(2));
    let accepted = probe.append(Append::events([event("a", &[]), event("b", &[])])).unwrap();
    let (first, last) = (accepted.first, accepted.last);
    let committed = probe.synced(accepted);
    assert_eq!((committed.first, committed.last), (first, last));
    assert_eq!(probe.positions("type=a"), [first.get()]);
    assert_eq!(probe.positions("type=b"), [last.get()]);
}

pub(super) fn a_synced_commit_is_readable(suite: &Suite<'_>) {
    let probe = suite.probe();
    for number in 1..=20 {
        let (_, last) = probe.put(plain(1));
        assert_eq!(probe.head(), last, "the head is there once a commit is synced");
        assert_eq!(probe.everything().len(), number);
        assert_eq!(probe.last("*", Position::MAX), Some(last));
    }
}

pub(super) fn several_can_wait_for_one_sync(suite: &Suite<'_>) {
    let probe = suite.probe();
    let accepted = probe.append(one()).unwrap();
    let sync = accepted.sync.clone();
    probe.parallel(8, |_, probe| {
        probe.wait("sync", sync.clone().wait()).unwrap();
        assert_eq!(probe.head(), 1);
    });
    // The sync can be awaited again later.
    probe.wait("sync", sync.wait()).unwrap();
    probe.synced(accepted);
}

pub(super) fn a_dropped_append_is_complete_or_absent(suite: &Suite<'_>) {
    let probe = suite.probe();
    let names: Vec<_> = (0..40).map(|number| format!("commit{number}")).collect();
    for name in &names {
        let append = Append::events((0..3).map(|_| event(name, &[]))).key(key(name, "r"));
        let mut context = Context::from_waker(Waker::noop());
        let _ = pin!(probe.store.append(append)).poll(&mut context);
    }
    // Dropped appends are decided once a later commit is synced.
    probe.put(plain(1));
    for name in &names {
        let found = probe.positions(&format!("type={name}"));
        let expected = probe
            .keyed(name)
            .map_or(Vec::new(), |commit| (commit.first.get()..=commit.last.get()).collect());
        assert_eq!(found, expected, "{name}");
        assert!(matches!(found.len(), 0 | 3), "the commit {name} is incomplete: {found:?}");
    }
}

pub(super) fn every_field_is_read_as_written(suite: &Suite<'_>) {
    let probe = suite.probe();
    let extra = [("ip", "::1"), ("empty", "")].map(|(name, text)| (name.into(), text.into()));
    let full = event("full", &["account:ann", "tenant:7"])
        .version(300)
        .id(Uuid::from_u128(u128::MAX))
        .metadata(Metadata {
            occurred_at: Some(Timestamp::from_micros(-5)),
            correlation: Some(Uuid::from_u128(2)),
            causation: Some(Uuid::from_u128(3)),
            actor: Some("ann".into()),
            extra: BTreeMap::from(extra),
        });
    let extreme = RawEvent::new("extreme", b"")
        .version(u32::MAX)
        .id(Uuid::nil())
        .metadata(Metadata { occurred_at: Some(Timestamp::MIN), ..Metadata::default() });
    let bare = RawEvent::new("bare", b"").version(0);
    probe.put([full.clone(), extreme.clone(), bare.clone()]);
    let read: Vec<_> = probe.everything().into_iter().map(|seen| seen.event).collect();
    assert_eq!(read, [full, extreme, bare]);
}

pub(super) fn bytes_are_the_encoding_of_the_event(suite: &Suite<'_>) {
    let probe = suite.probe();
    let events = [
        event("plain", &[]),
        event("tagged", &["z:1", "a:1", "z:1"]).version(7),
        event("known", &["k:1"]).id(Uuid::from_u128(1)),
    ];
    probe.put(events.clone());
    for (position, event) in (1..).zip(events) {
        let mut expected = Vec::new();
        encoding::encode(&event, &probe.store.limits(), &mut expected).unwrap();
        let read = Read::all().upto(position.into()).limit(1);
        let filter = parse(&format!("type={}", event.event_type));
        let batch = probe.read(&filter, read);
        assert_eq!(batch.get(0).unwrap().bytes(), expected, "{}", event.event_type);
    }
}

pub(super) fn an_event_has_a_type(suite: &Suite<'_>) {
    let probe = suite.probe();
    let append = Append::events([event("good", &[]), event("", &["k:1"])]);
    assert_eq!(probe.invalid(append), InvalidRequest::NoType);
    assert_eq!((probe.head(), probe.everything()), (0, vec![]));
}

pub(super) fn an_event_occurred_at_an_instant_that_has_a_text(suite: &Suite<'_>) {
    let probe = suite.probe();
    let at = |micros| {
        let occurred_at = Some(Timestamp::from_micros(micros));
        event("at", &[]).metadata(Metadata { occurred_at, ..Metadata::default() })
    };
    let (first, last) = (Timestamp::MIN.as_micros(), Timestamp::MAX.as_micros());
    for micros in [first - 1, last + 1, i64::MIN, i64::MAX] {
        let append = Append::events([event("good", &[]), at(micros)]);
        assert_eq!(probe.invalid(append), InvalidRequest::OccurredAt { micros });
    }
    assert_eq!((probe.head(), probe.everything()), (0, vec![]));
    probe.put([at(first), at(last)]);
    let read: Vec<_> = probe.everything().into_iter().map(|seen| seen.event).collect();
    assert_eq!(read, [at(first), at(last)]);
}

pub(super) fn a_payload_is_any_bytes(suite: &Suite<'_>) {
    let probe = suite.probe();
    let every_byte: Vec<u8> = (0..=255).collect();
    let payloads = [
        vec![],
        vec![0],
        b"a\0b\0".to_vec(),
        b"line\r\nline\n".to_vec(),
        vec![0xff; 3],
        every_byte,
        vec![7; 100_000],
    ];
    probe.put(payloads.iter().map(|payload| RawEvent::new("bytes", payload.clone())));
    let read: Vec<_> = probe.everything().into_iter().map(|seen| seen.event.payload).collect();
    assert!(read == payloads, "the payloads differ");
}

pub(super) fn tags_are_a_set_in_the_order_given(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put([event("e", &["z:1", "a:1", "z:1", "m:1", "a:1"])]);
    let seen = probe.everything();
    let tags: Vec<_> = seen[0].event.tags.iter().map(|tag| tag.as_str()).collect();
    assert_eq!(tags, ["z:1", "a:1", "m:1"]);
}

pub(super) fn an_append_of_nothing_writes_nothing(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(3));
    let before = probe.everything();
    let committed = probe.commit(Append::default());
    assert_eq!(committed.last, Position::new(3), "the checks considered this");
    assert_eq!(committed.first, Position::new(4), "one after it");
    assert_eq!(probe.everything(), before);
    assert_eq!(probe.head(), 3);
    assert_eq!(probe.put(plain(1)), (4, 4));
}

pub(super) fn an_append_of_nothing_is_checked(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put([event("a", &[])]);
    let check = |after: u64| Append::default().condition(condition("type=a", after));
    probe.refused(check(0));
    probe.commit(check(1));
}

pub(super) fn an_append_of_nothing_is_synced_after_the_commits_it_saw(suite: &Suite<'_>) {
    let probe = suite.probe();
    for number in 1..=20 {
        let accepted = probe.append(one()).unwrap();
        let checked = probe.commit(Append::default());
        assert_eq!(checked.last.get(), number);
        assert!(probe.head() >= number, "it saw a commit that is not published");
        probe.synced(accepted);
    }
}

pub(super) fn a_fresh_log_accepts_an_append_of_nothing(suite: &Suite<'_>) {
    let probe = suite.probe();
    let committed = probe.commit(Append::default().condition(condition("*", 0)));
    assert_eq!((committed.first.get(), committed.last.get()), (1, 0));
}

pub(super) fn reading_takes_nothing_away(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(10));
    let first = probe.everything();
    assert_eq!(probe.everything(), first);
    probe.put(plain(10));
    assert_eq!(probe.everything()[..10], first[..]);
}

pub(super) fn the_checksum_of_an_event_is_known_from_its_append(suite: &Suite<'_>) {
    let probe = suite.probe();
    let metadata = Metadata { actor: Some("ann".into()), ..Metadata::default() };
    let commits = [
        vec![event("plain", &[])],
        vec![event("tagged", &["b:1", "a:1", "b:1"]), event("full", &[]).metadata(metadata)],
        plain(3).collect(),
    ];
    let mut expected = vec![(Position::START, EventChecksum::START)];
    for events in commits {
        let contents: Vec<_> = events.iter().map(ContentChecksum::of).collect();
        let accepted = probe.append(Append::events(events)).unwrap();
        let places = (accepted.first.get()..).map(Position::new).zip(contents);
        expected.extend(places.map(|(at, content)| (at, content.at(at, accepted.recorded_at))));
        probe.synced(accepted);
    }
    for (position, checksum) in expected {
        assert_eq!(probe.checksum(position), Some(checksum), "position {position}");
    }
    assert_eq!(probe.checksum(7.into()), None, "above the head there is no event");
}

pub(super) fn a_checksum_is_that_of_the_event_that_is_read(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put([event("a", &["k:1"]), event("b", &["k:1", "l:1"])]);
    probe.put(plain(3));
    for position in 1..=5_u64 {
        let read = Read::after(Position::new(position).before()).limit(1);
        let batch = probe.read(&parse("*"), read);
        let expected = EventChecksum::of(&batch.get(0).unwrap());
        assert_eq!(probe.checksum(position.into()), Some(expected), "position {position}");
    }
    assert_eq!(probe.checksum(Position::START), Some(EventChecksum::START));
    for above in [6, 7, u64::MAX] {
        assert_eq!(probe.checksum(above.into()), None, "position {above}");
    }
}
