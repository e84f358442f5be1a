//! Limits: a request beyond a limit is refused with the name of the limit, and writes nothing.

use super::{
    Suite,
    probe::{Probe, condition, event, key, one, parse, plain, small},
};
use crate::{
    append::{Append, Tracking},
    batch::Read,
    error::{AppendError, InvalidRequest, ReadError},
    event::{Metadata, RawEvent},
    position::Position,
};

fn limit_name(invalid: &InvalidRequest) -> &'static str {
    match invalid {
        InvalidRequest::TooLarge { name, .. } | InvalidRequest::TooMany { name, .. } => name,
        other => panic!("no limit is exceeded: {other:?}"),
    }
}

/// Checks that `most` is accepted, and that `more` is refused by this limit and writes nothing.
#[track_caller]
fn bounded(suite: &Suite<'_>, limit: &str, most: Append, more: Append) {
    let probe = suite.probe_with(&small());
    probe.put(plain(1));
    refuses(&probe, limit, &more);
    let events = most.events.len() as u64;
    let committed = probe.commit(most);
    assert_eq!((committed.first.get(), committed.last.get()), (2, 1 + events));
    refuses(&probe, limit, &more);
    assert_eq!(probe.put(plain(1)), (2 + events, 2 + events), "the store goes on");
}

#[track_caller]
fn refuses(probe: &Probe, limit: &str, more: &Append) {
    let before = probe.everything();
    let invalid = probe.invalid(more.clone());
    assert_eq!(limit_name(&invalid), limit, "{invalid}");
    assert_eq!(probe.everything(), before, "it wrote something");
    if let Some(key) = &more.key {
        assert_eq!(probe.keyed(&key.name), None);
    }
    if let Some(tracking) = &more.tracking {
        assert_eq!(probe.tracked(&tracking.source), None);
    }
}

pub(super) fn event_bytes_is_enforced(suite: &Suite<'_>) {
    // An encoded event of this type has 4 bytes besides its payload.
    let sized = |bytes: usize| Append::event(RawEvent::new("e", vec![0; bytes - 4]));
    bounded(suite, "event_bytes", sized(200), sized(201));
}

pub(super) fn type_bytes_is_enforced(suite: &Suite<'_>) {
    let typed = |bytes| Append::event(event(&"t".repeat(bytes), &[]));
    bounded(suite, "type_bytes", typed(16), typed(17));
}

pub(super) fn tag_bytes_is_enforced(suite: &Suite<'_>) {
    let tagged = |bytes: usize| Append::event(event("e", &[&format!("k:{:0<1$}", "", bytes - 2)]));
    bounded(suite, "tag_bytes", tagged(24), tagged(25));
}

pub(super) fn tags_per_event_is_enforced(suite: &Suite<'_>) {
    let tags = ["k:1", "k:2", "k:3", "k:4", "k:5"];
    let tagged = |count| Append::event(event("e", &tags[..count]));
    bounded(suite, "tags_per_event", tagged(4), tagged(5));
}

pub(super) fn metadata_bytes_is_enforced(suite: &Suite<'_>) {
    let by = |actor: usize, extra: usize| {
        let metadata = Metadata {
            actor: Some("a".repeat(actor).into()),
            extra: [("f".repeat(extra / 2).into(), "v".repeat(extra - extra / 2).into())].into(),
            ..Metadata::default()
        };
        Append::event(event("e", &[]).metadata(metadata))
    };
    bounded(suite, "metadata_bytes", by(20, 12), by(20, 13));
    bounded(suite, "metadata_bytes", by(1, 31), by(33, 0));
}

pub(super) fn commit_events_is_enforced(suite: &Suite<'_>) {
    let of = |count| Append::events(plain(count)).key(key("k", "r"));
    let most = Append::events(plain(8));
    bounded(suite, "commit_events", most, of(9));
}

pub(super) fn commit_bytes_is_enforced(suite: &Suite<'_>) {
    let of = |sizes: [usize; 4]| {
        Append::events(sizes.map(|bytes| RawEvent::new("e", vec![0; bytes - 4])))
    };
    let more = of([150, 150, 150, 151]).key(key("k", "r"));
    let more = more.tracking(Tracking::new("s", 1));
    bounded(suite, "commit_bytes", of([150, 150, 150, 150]), more);
}

pub(super) fn commit_conditions_is_enforced(suite: &Suite<'_>) {
    let on = |count| (0..count).fold(one(), |append, _| append.condition(condition("nothing", 0)));
    bounded(suite, "commit_conditions", on(3), on(4));
}

pub(super) fn key_bytes_is_enforced(suite: &Suite<'_>) {
    let keyed = |bytes| one().key(key(&"k".repeat(bytes), "r"));
    bounded(suite, "key_bytes", keyed(16), keyed(17));
}

pub(super) fn source_bytes_is_enforced(suite: &Suite<'_>) {
    let tracked = |bytes| one().tracking(Tracking::new("s".repeat(bytes), 1));
    bounded(suite, "source_bytes", tracked(16), tracked(17));
}

pub(super) fn tracking_sources_is_enforced(suite: &Suite<'_>) {
    let probe = suite.probe_with(&small());
    let tracked = |source: &str, position: u64| one().tracking(Tracking::new(source, position));
    for source in ["a", "b", "c"] {
        probe.commit(tracked(source, 1));
    }
    refuses(&probe, "tracking_sources", &tracked("d", 1));
    // Known sources continue.
    probe.commit(tracked("a", 2));
    assert_eq!(probe.head(), 4);
}

pub(super) fn filter_items_is_enforced(suite: &Suite<'_>) {
    let most = "type=a or type=b or type=c";
    filter_bounded(suite, "filter_items", most, "type=a or type=b or type=c or type=d");
}

pub(super) fn filter_terms_is_enforced(suite: &Suite<'_>) {
    let most = "type=a,b tag=k:1 or type=c tag=k:1 tag=k:2";
    filter_bounded(suite, "filter_terms", most, "type=a,b,c tag=k:1 or type=c tag=k:1 tag=k:2");
}

pub(super) fn filters_of_a_commit_are_bounded_together(suite: &Suite<'_>) {
    let on = |first: &str, second: &str| {
        one().condition(condition(first, 1)).condition(condition(second, 1))
    };
    let most = on("type=a", "type=b or type=c");
    bounded(suite, "filter_items", most, on("type=a or type=b", "type=c or type=d"));
    let most = on("type=a,b tag=k:1", "type=c tag=k:1 tag=k:2");
    bounded(suite, "filter_terms", most, on("type=a,b,c tag=k:1", "type=c tag=k:1 tag=k:2"));
}

fn filter_bounded(suite: &Suite<'_>, limit: &str, most: &str, more: &str) {
    let on = |filter| one().condition(condition(filter, 1));
    bounded(suite, limit, on(most), on(more));
    let probe = suite.probe_with(&small());
    probe.read(&parse(most), Read::all());
    probe.last(most, Position::MAX);
    let filter = parse(more);
    let read = probe.try_read(&filter, Read::all()).map(|_| ());
    let last = probe.wait("last", probe.store.last(&filter, Position::MAX)).map(|_| ());
    for answer in [read, last] {
        match answer {
            Err(ReadError::Invalid(invalid)) => assert_eq!(limit_name(&invalid), limit),
            other => panic!("a filter beyond {limit} should be invalid: {other:?}"),
        }
    }
}

pub(super) fn an_invalid_last_event_leaves_nothing_of_its_commit(suite: &Suite<'_>) {
    let probe = suite.probe_with(&small());
    let good = event("good", &["k:1"]);
    for bad in [RawEvent::new("bad", vec![0; 500]), event("", &[])] {
        let append = Append::events([good.clone(), good.clone(), bad]);
        let append = append.key(key("k", "r")).tracking(Tracking::new("s", 1));
        probe.invalid(append);
        assert_eq!((probe.head(), probe.everything()), (0, vec![]));
        assert_eq!((probe.keyed("k"), probe.tracked("s")), (None, None));
        assert_eq!(probe.count("k:1", Position::MAX), 0);
    }
    assert_eq!(probe.put([good]), (1, 1));
}

pub(super) fn a_store_enforces_the_limits_it_reports(suite: &Suite<'_>) {
    let probe = suite.probe_with(&small());
    assert_eq!(probe.store.limits(), small().limits);
    let said = suite.probe().store.limits();
    let probe = suite.probe();
    probe.commit(one().key(key(&"k".repeat(said.key_bytes), "r")));
    let beyond = one().key(key(&"k".repeat(said.key_bytes + 1), "r"));
    assert!(matches!(probe.append(beyond), Err(AppendError::Invalid(_))));
}
