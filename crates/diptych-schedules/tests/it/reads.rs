//! Readers beside the writer.

use diptych_log::{Log, LogOptions};
use diptych_store::sync::block_on;
use diptych_store::{EventStore, Filter, Position, Read, ReadCommits, Tag};
use shuttle::thread;

use crate::{
    appends::{Way, caller, join},
    explore::{explore, explore_and_reach},
    log::{OpenLog, assert_whole, options, read_all, small, texts},
};

/// Reads some times, and asserts that each answer is whole, not beyond the head, and continues the
/// one before.
fn read_on(log: &Log, upto: u64) {
    let (mut seen, mut position) = (Vec::new(), Position::START);
    while position < Position::new(upto) {
        position = block_on(log.head().after(position)).unwrap();
        let batch = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
        let head = log.head().position();
        let all = texts(&batch);
        assert_whole(&all);
        assert!(batch.upto() >= position, "the read ends before the published head");
        assert!(batch.upto() <= head, "the read is beyond the published head");
        assert_eq!(batch.len() as u64, batch.upto().get());
        assert_eq!(batch.commit_end(), batch.upto());
        assert!(all.starts_with(&seen), "{all:?} does not continue {seen:?}");
        seen = all;
        // Other ways to the same events.
        let name = seen.last().unwrap().split(' ').next().unwrap();
        let (tag, upto) = (Tag::new("commit", name), batch.upto());
        let by_tag = log.blocking().read(&Filter::tag(tag.clone()), Read::all().upto(upto));
        assert_whole(&texts(&by_tag.unwrap()));
        let last = log.blocking().last(&Filter::tag(tag.clone()), upto).unwrap();
        assert_eq!(last, Some(upto), "the last event of {name}");
        let count = log.blocking().count(&tag, upto).unwrap();
        assert_eq!(count, seen.iter().filter(|text| text.starts_with(name)).count() as u64);
        let commits = log.blocking().commits(&ReadCommits::after(Position::START)).unwrap();
        assert!(commits.upto() >= upto && commits.upto() <= log.head().position());
        position = position.max(upto);
    }
}

pub(crate) fn readers_read(options: LogOptions) {
    let log = OpenLog::with(options);
    let readers = [log.handle(), log.handle()].map(|log| thread::spawn(move || read_on(&log, 12)));
    let callers = [
        caller(&log, Way::Commit, &[("a", 2), ("b", 1)]),
        caller(&log, Way::Append, &[("c", 3), ("d", 1)]),
        caller(&log, Way::Task, &[("e", 1), ("f", 4)]),
    ];
    let answers = join(callers);
    assert!(answers.iter().all(|(_, _, answer)| answer.is_ok()), "{answers:?}");
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    log.note_segments();
    assert_eq!(read_all(&log).len(), 12);
}

#[test]
fn a_reader_sees_whole_commits_up_to_the_head_and_sees_them_again() {
    explore(|| readers_read(options()));
}

/// New index parts and segments begin with almost every commit.
#[test]
fn a_reader_sees_the_same_while_parts_and_segments_are_sealed() {
    explore_and_reach(&["a segment is sealed"], || readers_read(small()));
}
