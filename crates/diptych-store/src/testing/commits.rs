//! Where commits end, and reads of whole commits, which a copy of a log needs.

use super::{
    Setup, Suite,
    probe::{Probe, SeenCommit, caller_time, event, key, one, parse, plain, small},
};
use crate::{
    append::{Append, Tracking},
    batch::Read,
    commits::{CommitFacts, ReadCommits},
    error::{InvalidRequest, ReadError},
    event::RawEvent,
    identity::{Epoch, LogId, LogIdentity},
    position::Position,
    time::Timestamp,
};

/// The last positions of the commits in [`prepared`].
const ENDS: [u64; 5] = [1, 4, 6, 14, 15];

/// A log with commits of 1, 3, 2, 8 and 1 events.
fn prepared(suite: &Suite<'_>) -> Probe {
    let probe = suite.probe();
    probe.put([event("a", &["k:1"])]);
    probe.put(plain(3));
    probe.put([event("a", &["k:1"]), event("b", &[])]);
    probe.put(plain(7).chain([event("b", &["k:2"])]));
    probe.put([event("a", &["k:1"])]);
    probe
}

fn end_of(position: u64) -> u64 {
    *ENDS.iter().find(|end| **end >= position).expect("a commit has the position")
}

fn everything() -> ReadCommits {
    ReadCommits::after(Position::START)
}

pub(super) fn a_batch_tells_where_its_commit_ends(suite: &Suite<'_>) {
    let probe = prepared(suite);
    for after in 0..15 {
        for limit in 1..=15 {
            let batch = probe.read(&parse("*"), Read::after(after.into()).limit(limit));
            let upto = batch.upto().get();
            assert_eq!(batch.commit_end().get(), end_of(upto), "after {after}, limit {limit}");
        }
    }
}

pub(super) fn a_batch_up_to_any_position_tells_where_its_commit_ends(suite: &Suite<'_>) {
    let probe = prepared(suite);
    for filter in ["tag=k:1", "type=b", "type=unknown", "tag=k:2", "*"] {
        for upto in 1..=15 {
            let batch = probe.read(&parse(filter), Read::all().upto(upto.into()));
            assert_eq!(batch.commit_end().get(), end_of(upto), "{filter}, up to {upto}");
        }
        let batch = probe.read(&parse(filter), Read::all());
        assert_eq!(batch.commit_end().get(), 15, "{filter}: the head is the end of a commit");
    }
}

pub(super) fn whole_commits_are_those_that_were_accepted(suite: &Suite<'_>) {
    let probe = prepared(suite);
    let commits = probe.all_commits(everything());
    let ends: Vec<_> = commits.iter().map(|commit| commit.last).collect();
    assert_eq!(ends, ENDS);
    let firsts: Vec<_> = commits.iter().map(|commit| commit.first).collect();
    assert_eq!(firsts, [1, 2, 5, 7, 15]);
    let events: Vec<_> = commits.into_iter().flat_map(|commit| commit.events).collect();
    assert_eq!(events, probe.everything());
    assert!(probe.commits(ReadCommits::after(15.into())).is_empty());
    assert!(suite.probe().commits(everything()).is_empty());
}

fn assert_whole(commits: &[SeenCommit]) {
    for SeenCommit { first, last, events, .. } in commits {
        let positions: Vec<_> = events.iter().map(|event| event.position).collect();
        assert_eq!(positions, (*first..=*last).collect::<Vec<_>>(), "a commit is not whole");
    }
}

pub(super) fn a_commit_is_read_whole(suite: &Suite<'_>) {
    let probe = prepared(suite);
    let all = probe.all_commits(everything());
    assert_whole(&all);
    for limit in 0..=16 {
        let limited = everything().limit_events(limit);
        assert_eq!(probe.all_commits(limited), all, "at most {limit} events");
    }
}

pub(super) fn a_commit_is_read_whole_in_small_batches(suite: &Suite<'_>) {
    let probe = suite.probe_with(&small());
    for count in [1, 8, 3, 8, 2] {
        probe.put(plain(count));
    }
    let commits = probe.all_commits(everything());
    assert_whole(&commits);
    let sizes: Vec<_> = commits.iter().map(|commit| commit.events.len()).collect();
    assert_eq!(sizes, [1, 8, 3, 8, 2]);
}

pub(super) fn batches_of_commits_keep_to_their_limits(suite: &Suite<'_>) {
    let probe = suite.probe_with(&small());
    for count in [2, 2, 2, 2, 8, 1, 1] {
        probe.put(plain(count));
    }
    let ends = |read: ReadCommits| {
        let commits = probe.commits(read);
        commits.iter().map(|commit| commit.last).collect::<Vec<_>>()
    };
    // A batch of this store has at most 5 events.
    assert_eq!(ends(everything()), [2, 4]);
    assert_eq!(ends(everything().limit_events(3)), [2]);
    assert_eq!(ends(everything().limit_events(1)), [2]);
    assert_eq!(ends(ReadCommits::after(8.into())), [16]);
    assert_eq!(ends(ReadCommits::after(16.into())), [17, 18]);
    // A batch has at most 300 bytes.
    for _ in 0..4 {
        probe.put([RawEvent::new("large", vec![0; 120])]);
    }
    assert_eq!(ends(ReadCommits::after(18.into())), [19, 20]);
}

pub(super) fn commits_have_their_keys(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.commit(one().key(key("first", "a request")));
    probe.put(plain(2));
    probe.commit(Append::events(plain(3)).key(key("last", "another request")));
    let keys: Vec<_> = probe.all_commits(everything());
    let keys: Vec<_> = keys.into_iter().map(|commit| commit.facts.key).collect();
    let expected = [Some(key("first", "a request")), None, Some(key("last", "another request"))];
    assert_eq!(keys, expected);
}

fn origin() -> LogIdentity {
    LogIdentity { id: LogId::from_bytes([7; 16]), epoch: Epoch::from_u64(3) }
}

pub(super) fn commits_have_their_tracking(suite: &Suite<'_>) {
    let probe = suite.probe();
    let tracked = Tracking::new("journal", 5).origin(origin());
    probe.commit(one().tracking(tracked.clone()));
    probe.put(plain(1));
    let both = Append::events(plain(2)).key(key("k", "r")).tracking(Tracking::new("other", 9));
    probe.commit(both);
    let commits = probe.all_commits(everything());
    let found: Vec<_> = commits.into_iter().map(|commit| commit.facts.tracking).collect();
    assert_eq!(found, [Some(tracked), None, Some(Tracking::new("other", 9))]);
}

pub(super) fn commits_have_their_times(suite: &Suite<'_>) {
    let probe = suite.probe();
    let mut said = Vec::new();
    for number in 1..=5_u64 {
        let append = match number % 2 {
            0 => Append::default().tracking(Tracking::new("s", number)),
            _ => Append::events(plain(2)),
        };
        let accepted = probe.append(append).unwrap();
        said.push(accepted.recorded_at);
        probe.synced(accepted);
        let later = Timestamp::now().as_micros() + 1;
        probe.eventually(|| Timestamp::now().as_micros() > later);
    }
    let commits = probe.all_commits(everything());
    let times: Vec<_> = commits.iter().map(|commit| commit.facts.recorded_at).collect();
    assert_eq!(times, said);
}

/// Last position, number of events, and tracking of a commit.
type TrackingFacts<'a> = (u64, usize, Option<(&'a str, u64)>);

/// The last position and the tracking of each commit.
fn tracks(commits: &[SeenCommit]) -> Vec<TrackingFacts<'_>> {
    let track =
        |commit: &SeenCommit| (commit.last, commit.events.len(), commit.facts.tracking.clone());
    let of = |(last, events, tracking): (u64, usize, Option<Tracking>)| {
        let tracking = tracking.map(|tracking| match &*tracking.source {
            "s" => ("s", tracking.position.get()),
            _ => ("t", tracking.position.get()),
        });
        (last, events, tracking)
    };
    commits.iter().map(track).map(of).collect()
}

pub(super) fn commits_without_events_are_read(suite: &Suite<'_>) {
    let probe = suite.probe();
    let alone = |source, position| {
        probe.commit(Append::default().tracking(Tracking::new(source, position)));
    };
    alone("s", 1_u64);
    alone("t", 1);
    alone("s", 2);
    let seen = probe.commits(everything());
    assert_eq!(tracks(&seen), [(0, 0, Some(("t", 1))), (0, 0, Some(("s", 2)))]);
    probe.commit(Append::events(plain(2)).tracking(Tracking::new("s", 3)));
    alone("s", 4);
    alone("s", 5);
    probe.put(plain(1));
    alone("t", 6);
    let first = [(0, 0, Some(("t", 1))), (0, 0, Some(("s", 2))), (2, 2, Some(("s", 3)))];
    let rest = [(2, 0, Some(("s", 5))), (3, 1, None), (3, 0, Some(("t", 6)))];
    let expected = [&first[..], &rest].concat();
    assert_eq!(tracks(&probe.commits(everything())), expected);
    for limit in 1..4 {
        let seen = probe.all_commits(everything().limit_events(limit));
        assert_eq!(tracks(&seen), expected, "at most {limit} events");
    }
    assert_eq!(tracks(&probe.commits(ReadCommits::after(2.into()))), rest);
    assert_eq!(tracks(&probe.commits(ReadCommits::after(3.into()))), rest[2..]);
}

pub(super) fn commits_are_read_after_the_end_of_one(suite: &Suite<'_>) {
    let probe = prepared(suite);
    for after in 0..=15_u64 {
        let read = probe.try_commits(ReadCommits::after(after.into()));
        let position = Position::new(after);
        match (after == 0 || ENDS.contains(&after), read) {
            (true, Ok(commits)) => assert!(commits.iter().all(|commit| commit.first > after)),
            (false, Err(ReadError::Invalid(InvalidRequest::WithinCommit { last, first, .. }))) => {
                assert_eq!(last.get(), end_of(after));
                assert!(first <= position && position < last);
            }
            (_, other) => panic!("after {after}: {other:?}"),
        }
    }
    let above = probe.try_commits(ReadCommits::after(16.into()));
    let expected = InvalidRequest::AboveHead { position: 16.into(), head: 15.into() };
    assert!(
        matches!(&above, Err(ReadError::Invalid(invalid)) if *invalid == expected),
        "{above:?}"
    );
}

pub(super) fn a_copy_by_whole_commits_is_equal(suite: &Suite<'_>) {
    let from = suite.probe();
    let alone = |position: u64| Append::default().tracking(Tracking::new("s", position));
    from.commit(alone(1));
    from.commit(Append::events([event("a", &["k:1"]), event("b", &[])]).key(key("one", "r")));
    from.commit(alone(2));
    from.commit(alone(3));
    let both = Append::events(plain(3)).key(key("two", "q"));
    from.commit(both.tracking(Tracking::new("t", 8).origin(origin())));
    from.commit(alone(4));
    let into = suite.probe_with(&Setup { time: caller_time().time, ..Setup::default() });
    for SeenCommit { events, facts, .. } in from.all_commits(everything().limit_events(2)) {
        let CommitFacts { recorded_at, key, tracking } = facts;
        let events = events.into_iter().map(|event| event.event).collect();
        let recorded_at = Some(recorded_at);
        into.commit(Append { events, key, tracking, recorded_at, conditions: Vec::new() });
    }
    assert_eq!(into.everything(), from.everything());
    assert_eq!(into.all_commits(everything()), from.all_commits(everything()));
    for name in ["one", "two"] {
        assert_eq!(into.keyed(name), from.keyed(name), "{name}");
    }
    for source in ["s", "t"] {
        assert_eq!(into.tracked(source), from.tracked(source), "{source}");
    }
    let checksums = |probe: &Probe| (1..=5).map(|at| probe.checksum(at.into())).collect::<Vec<_>>();
    assert_eq!(checksums(&into), checksums(&from));
}
