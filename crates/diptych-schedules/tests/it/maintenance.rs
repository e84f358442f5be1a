//! Readers beside the indexer and clustering.

use diptych_log::{ArchiveLimit, Log, LogOptions, disk::simulated::Operation};
use diptych_store::{Digest, Filter, Key, Position, Read, Tag};
use shuttle::thread;

use crate::{
    appends::Way,
    explore::{explore, explore_and_reach, reached},
    log::{OpenLog, commit_of, texts, tidying},
};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// The answers to questions about the log up to a position.
#[derive(Debug, PartialEq, Eq)]
struct Answers {
    all: Vec<String>,
    by_tag: Vec<(Vec<String>, Option<Position>, u64)>,
    keyed: Option<(Position, Position)>,
}

fn ask(log: &Log, upto: Position) -> Answers {
    let read =
        |filter: &Filter| texts(&log.blocking().read(filter, Read::all().upto(upto)).unwrap());
    let by_tag = |name| {
        let tag = Tag::new("commit", name);
        let filter = Filter::tag(tag.clone());
        let last = log.blocking().last(&filter, upto).unwrap();
        (read(&filter), last, log.blocking().count(&tag, upto).unwrap())
    };
    let keyed = log.blocking().keyed("key").unwrap();
    Answers {
        all: read(&Filter::everything()),
        by_tag: NAMES.map(by_tag).into(),
        keyed: keyed.map(|commit| (commit.first, commit.last)),
    }
}

/// Fills a few segments. The indexer is still at work when this returns.
fn fill(log: &Log, commits: usize) -> Position {
    let mut last = Position::START;
    for number in 0..commits {
        let mut append = commit_of(NAMES[number % 3], 2, 60);
        if number == 2 {
            append = append.key(Key::new("key", Digest::of(b"request")));
        }
        last = Way::Append.commit(log, append).unwrap().last;
    }
    last
}

/// Readers ask the same questions again and again, while more commits come, parts are merged, and
/// segments are clustered by the thread of the log and by a caller.
pub(crate) fn readers_ask_again(options: LogOptions) {
    let log = OpenLog::with(options);
    let upto = fill(&log, 10);
    let expected = ask(&log, upto);
    if !log.is_any_clustered() {
        reached("no segment is clustered before");
    }
    assert_eq!(expected.all.len(), 20);
    assert!(expected.keyed.is_some());
    let mut threads = vec![];
    for _ in 0..2 {
        let (log, disk) = (log.handle(), log.disk.clone());
        threads.push(thread::spawn(move || {
            let before = ask(&log, upto);
            for _ in 0..2 {
                let replaced = disk.count(Operation::Rename);
                assert_eq!(ask(&log, upto), before, "an answer changed");
                if disk.count(Operation::Rename) > replaced + 1 {
                    reached("files are replaced during a question");
                }
            }
        }));
    }
    threads.push(thread::spawn({
        let log = log.handle();
        move || log.blocking().cluster().unwrap()
    }));
    threads.push(thread::spawn({
        let log = log.handle();
        move || {
            fill(&log, 2);
        }
    }));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    log.blocking().cluster().unwrap();
    assert!(log.is_any_clustered());
    assert_eq!(ask(&log, upto), expected, "an answer changed");
}

#[test]
fn an_answer_is_the_same_before_while_and_after_segments_are_sealed_and_clustered() {
    let situations = ["no segment is clustered before", "files are replaced during a question"];
    explore_and_reach(&situations, || readers_ask_again(tidying(8_192)));
}

/// With the fewest mapped files, readers map files again whose names go to others meanwhile.
#[test]
fn an_answer_is_the_same_when_files_are_unmapped_meanwhile() {
    explore(|| readers_ask_again(tidying(16)));
}

/// Segments move to another folder.
#[test]
fn an_answer_is_the_same_while_segments_are_archived() {
    explore_and_reach(&["a segment is archived during a question"], || {
        let log = OpenLog::with(tidying(16));
        let upto = fill(&log, 10);
        let expected = ask(&log, upto);
        let archiver = thread::spawn({
            let log = log.handle();
            move || log.archive("/data/archive", ArchiveLimit::All, |_, _| {}).unwrap().moved
        });
        for _ in 0..3 {
            let removed = log.disk.count(Operation::Remove);
            assert_eq!(ask(&log, upto), expected, "an answer changed");
            if log.disk.count(Operation::Remove) > removed {
                reached("a segment is archived during a question");
            }
        }
        archiver.join().unwrap();
        assert_eq!(ask(&log, upto), expected, "an answer changed");
    });
}
