//! Conditions and keys: decisions of concurrent callers.

use diptych_log::LogOptions;
use diptych_store::{
    Append, AppendCondition, AppendError, Digest, Filter, Key, RawEvent, Read, Refusal, Tag,
};
use shuttle::thread;

use crate::{
    appends::Way,
    explore::{explore, explore_and_reach, reached},
    log::{OpenLog, commit, commit_of, options, small, tidying},
};

/// Commits of at least this size enter the index after they are accepted.
const LARGE: usize = 64 << 10;

fn counter() -> Tag {
    Tag::new("counter", "one")
}

/// Counts on: each commit has the number of those that its decision knew, and one.
fn count_on(log: &diptych_log::Log, way: Way, bytes: usize) {
    loop {
        let filter = Filter::tag(counter());
        let known = log.blocking().read(&filter, Read::all()).unwrap();
        let mut payload = (known.len() + 1).to_string().into_bytes();
        payload.push(b';');
        payload.resize(payload.len() + bytes, b'.');
        let event = RawEvent::new("counted", payload).tag(counter());
        let condition = AppendCondition { fail_if: filter, after: known.upto() };
        match way.commit(log, Append::event(event).condition(condition)) {
            Ok(_) => return,
            Err(AppendError::Refused(Refusal::Conflict { at, after })) => {
                reached("a conflict");
                assert!(at > after && after == known.upto());
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// Three callers count on, two times each, and another one commits what none of them asks for.
/// Events with this many more bytes.
pub(crate) fn callers_count(options: LogOptions, bytes: usize) {
    let log = OpenLog::with(options);
    let mut callers = vec![thread::spawn({
        let log = log.handle();
        move || {
            for name in ["a", "b", "c"] {
                Way::Append.commit(&log, commit_of(name, 1, bytes)).unwrap();
            }
        }
    })];
    callers.extend([Way::Commit, Way::Append, Way::Task].map(|way| {
        let log = log.handle();
        thread::spawn(move || (0..2).for_each(|_| count_on(&log, way, bytes)))
    }));
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    let all = log.blocking().read(&Filter::tag(counter()), Read::all()).unwrap();
    if log.is_any_clustered() {
        reached("a segment is clustered");
    }
    let numbers: Vec<_> = crate::log::texts(&all);
    let expected: Vec<_> = (1..=6).map(|number| number.to_string()).collect();
    assert_eq!(numbers, expected, "a condition missed an event before its commit");
}

#[test]
fn a_condition_misses_no_event_before_its_commit() {
    explore_and_reach(&["a conflict"], || callers_count(options(), 0));
}

/// The writer adds the events to the index while their bytes are written.
#[test]
fn a_condition_misses_no_event_that_is_not_in_the_index_yet() {
    explore_and_reach(&["a conflict"], || callers_count(options(), LARGE));
}

/// Index parts are written to files, segments are sealed and clustered meanwhile.
#[test]
fn a_condition_misses_no_event_while_parts_are_written_merged_and_clustered() {
    explore_and_reach(&["a conflict", "a segment is clustered"], || {
        callers_count(tidying(16), 400);
    });
}

#[test]
fn one_of_two_requests_with_a_key_is_committed() {
    explore(|| {
        let log = OpenLog::with(small());
        let callers = [Way::Commit, Way::Append, Way::Task].map(|way| {
            let log = log.handle();
            thread::spawn(move || {
                let other = way.commit(&log, commit("other", 2)).unwrap();
                let key = Key::new("key", Digest::of(b"request"));
                (other, way.commit(&log, commit("one", 2).key(key)))
            })
        });
        let answers = callers.map(|caller| caller.join().unwrap().1);
        let committed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        let [one] = committed[..] else { panic!("{answers:?}") };
        for answer in &answers {
            match answer {
                Ok(_) => {}
                Err(AppendError::Refused(Refusal::KeyTaken { first, last })) => {
                    assert_eq!((*first, *last), (one.first, one.last));
                }
                Err(other) => panic!("{other}"),
            }
        }
        let keyed = log.blocking().keyed("key").unwrap().unwrap();
        assert_eq!((keyed.first, keyed.last), (one.first, one.last));
    });
}
