//! Groups of segments: a look-up searches only segments that may have a match, and finds the same
//! events.

use std::{path::PathBuf, sync::Arc};

use diptych_log::{
    Background, Log, LogOptions, Tuning, VerifyError,
    disk::{
        Disk,
        simulated::{Operation, SimulatedDisk},
    },
    verify,
};
use diptych_store::{Append, Digest, Direction, Filter, Key, Position, RawEvent, Read, Tag};

use crate::log_files::{FOLDER, is};

const COMMITS: u64 = 700;

fn options(disk: &SimulatedDisk) -> LogOptions {
    LogOptions {
        background: Background::Inline,
        segment_bytes: 1024,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

fn event(number: u64) -> RawEvent {
    let event = RawEvent::new(if number == 77 { "rare" } else { "common" }, vec![7; 200]);
    event.tag(Tag::new("seven", number % 7)).tag(Tag::new("hundred", number / 100))
}

/// A log of more than 150 small segments.
fn filled() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    for number in 0..COMMITS {
        let append =
            Append::event(event(number)).key(Key::new(format!("key {number}"), Digest([0; 16])));
        log.blocking().commit(append).unwrap();
    }
    log.close().unwrap();
    disk
}

fn names(disk: &SimulatedDisk, ending: &str) -> Vec<PathBuf> {
    let paths = disk.contents().into_iter().map(|(path, _)| path);
    paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

/// Compares look-ups of existing and missing tags, types and keys with a read of everything, in
/// both directions and from several positions.
fn compare(log: &Log) {
    let log = log.blocking();
    let everything = log.read(&Filter::everything(), Read::all()).unwrap();
    assert_eq!(everything.len() as u64, COMMITS);
    let tag = |key: &str, value: u64| Filter::tag(Tag::new(key, value));
    let filters = [
        tag("seven", 3),
        tag("hundred", 4),
        tag("hundred", 9),
        Filter::types(["rare"]),
        Filter::types(["none"]),
        Filter::from_iter(tag("seven", 1).items().iter().chain(tag("hundred", 2).items()).cloned()),
    ];
    for (filter, after) in filters.iter().flat_map(|filter| [0, 1, 333, 650].map(|at| (filter, at)))
    {
        let all = everything.iter().filter(|event| filter.matches(event));
        let expected: Vec<_> =
            all.map(|event| event.position()).filter(|at| at.get() > after).collect();
        for direction in [Direction::Forwards, Direction::Backwards] {
            let read = Read { direction, ..Read::after(Position::new(after)) };
            let batch = log.read(filter, read).unwrap();
            let mut found: Vec<_> = batch.iter().map(|event| event.position()).collect();
            found.sort();
            assert_eq!(found, expected, "{filter} after {after}, {direction:?}");
        }
        let last = log.last(filter, Position::MAX).unwrap();
        assert_eq!(last.filter(|at| at.get() > after), expected.last().copied());
    }
    for number in [0, 1, 350, COMMITS - 1] {
        let found = log.keyed(&format!("key {number}")).unwrap().unwrap();
        assert_eq!(found.first, Position::new(number + 1));
    }
    assert_eq!(log.keyed("key none").unwrap(), None);
    assert_eq!(log.count(&Tag::new("hundred", 4), Position::MAX).unwrap(), 100);
}

/// Such a file is of a log that lost its end, or of a copy that went on.
#[test]
fn a_group_file_that_reaches_the_segment_in_use_is_removed() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    while names(&disk, ".seg").len() < 8 {
        log.blocking().commit(Append::event(event(1))).unwrap();
    }
    log.close().unwrap();
    let put = |name: &str| {
        let path = PathBuf::from(FOLDER).join("index").join(name);
        disk.create(&path, 0).unwrap().write_at(0, b"noise").unwrap();
    };
    ["00000001-00000008.group", "00000001-00000064.group"].into_iter().for_each(put);
    Log::open(FOLDER, options(&disk)).unwrap().close().unwrap();
    let left = names(&disk, ".group");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn look_ups_find_the_same_events_with_groups_and_without() {
    let disk = filled();
    let groups = names(&disk, ".group");
    assert!(names(&disk, ".seg").len() > 150, "{}", names(&disk, ".seg").len());
    // There are two groups of 64 segments, and some of eight for the remaining segments.
    assert!((3..=10).contains(&groups.len()), "{groups:?}");
    assert!(verify(FOLDER, &options(&disk), |_, _| {}).is_ok());
    compare(&Log::open(FOLDER, options(&disk.process_kill())).unwrap());

    let without = disk.process_kill();
    groups.iter().for_each(|path| without.remove(path).unwrap());
    compare(&Log::open(FOLDER, options(&without)).unwrap());

    let noise = disk.process_kill();
    for path in &groups {
        noise.remove(path).unwrap();
        noise.create(path, 0).unwrap().write_at(0, b"noise").unwrap();
    }
    assert!(verify(FOLDER, &options(&noise), |_, _| {}).is_err(), "noise passes for a group");
    let log = Log::open(FOLDER, options(&noise)).unwrap();
    compare(&log);
    // The log rebuilds the groups, those of eight first, and the verification accepts them.
    log.close().unwrap();
    assert!(verify(FOLDER, &options(&noise), |_, _| {}).is_ok());
}

#[test]
fn a_group_of_other_segments_is_not_used() {
    let disk = filled();
    let other = filled();
    // These group files have the same names, but are of another log. Their content is wrong for
    // these segments.
    for path in names(&disk, ".group") {
        let theirs = other.contents().into_iter().find(|(name, _)| *name == path).unwrap().1;
        disk.remove(&path).unwrap();
        disk.create(&path, 0).unwrap().write_at(0, &theirs).unwrap();
    }
    assert!(verify(FOLDER, &options(&disk), |_, _| {}).is_err(), "groups of another log pass");
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    compare(&log);
    log.close().unwrap();
    assert!(verify(FOLDER, &options(&disk), |_, _| {}).is_ok());
}

/// Once, the first look-up opened every segment, to compare it with its group.
#[test]
fn a_look_up_of_a_missing_name_does_not_open_every_segment() {
    let disk = filled().process_kill();
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    let segments = names(&disk, ".seg").len() as u64;
    let opened = || disk.count(Operation::Map) + disk.count(Operation::Open);
    let before = opened();
    assert_eq!(log.blocking().keyed("key none").unwrap(), None);
    let opened = opened() - before;
    // The look-up reads the groups, the first record behind each, and for each segment without a
    // group its index, its content and the record behind it.
    assert!(opened < 60, "{opened} files were opened for {segments} segments");
    let before = disk.operations();
    assert_eq!(log.blocking().keyed("key other").unwrap(), None);
    let absent = Filter::tag(Tag::new("no", 1));
    assert_eq!(log.blocking().last(&absent, Position::MAX).unwrap(), None);
    assert_eq!(disk.operations(), before, "the second look-up uses the disk again");
}

/// The sets at the end of a file say which segments are searched, so without them events would be
/// missing.
#[test]
fn a_damaged_page_of_a_group_hides_no_event() {
    let disk = filled();
    let groups = names(&disk, ".group");
    assert!(groups.len() > 2, "{groups:?}");
    for path in groups {
        let damaged = disk.process_kill();
        let file = damaged.open(&path, 0).unwrap();
        let size = file.size().unwrap();
        file.write_at(size - 200, &[0; 200]).unwrap();
        let error = verify(FOLDER, &options(&damaged), |_, _| {}).unwrap_err();
        let VerifyError::Damaged(found) = error else { panic!("{error:?}") };
        assert!(found.iter().any(|damage| damage.file == path), "{found:?}");
        let log = Log::open(FOLDER, options(&damaged)).unwrap();
        compare(&log);
        log.close().unwrap();
    }
}

/// Once, merging eight groups of eight segments took memory for the names of 64 segments, however
/// many these were. The estimate is twelve bytes for each name, of which an entry of a small group
/// has five.
#[test]
fn groups_whose_merge_would_take_more_memory_than_it_may_stay_apart() {
    let with_bound = |tidy_bytes: u64| {
        let disk = SimulatedDisk::new(1);
        let tuning = Tuning { tidy_bytes, ..Tuning::default() };
        let log = Log::open(FOLDER, LogOptions { tuning, ..options(&disk) }).unwrap();
        for number in 0..400 {
            // Almost all names are different, so a merged group has as many as its members.
            let event = RawEvent::new("common", vec![7; 100]);
            let event = (0..9)
                .fold(event, |event, tag| event.tag(Tag::new("own", format!("{number}-{tag}"))));
            log.blocking().commit(Append::event(event)).unwrap();
        }
        log.close().unwrap();
        disk
    };
    let spans = |disk: &SimulatedDisk| -> Vec<(u64, u64)> {
        let span = |path: &PathBuf| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let (first, last) = name.split_once('-').unwrap();
            (first.parse::<u64>().unwrap(), last.parse::<u64>().unwrap())
        };
        names(disk, ".group").iter().map(span).collect()
    };
    let is_merged = |disk: &SimulatedDisk| spans(disk).contains(&(1, 64));
    assert!(is_merged(&with_bound(1 << 30)));
    // The bound lets the groups of eight through, and so shows their sizes.
    let built = |bound: u64| {
        let disk = with_bound(bound);
        let first: Vec<_> = (0..8).map(|group| (group * 8 + 1, group * 8 + 8)).collect();
        let found = spans(&disk);
        first.iter().all(|span| found.contains(span)).then_some(disk)
    };
    let bound = (0..30).map(|power| 1 << power).find(|bound| built(*bound).is_some());
    let bound = bound.expect("groups of eight are built, and not merged");
    let disk = built(bound).unwrap();
    let small = disk.contents().into_iter().filter(|(path, _)| is(path, ".group"));
    let sizes: Vec<u64> = small.take(8).map(|(_, bytes)| bytes.len() as u64).collect();
    let estimate: u64 = sizes.iter().map(|bytes| bytes * 12 / 5).sum();
    assert!(estimate > bound, "{estimate} bytes would have been allowed by {bound}");
    assert!(!is_merged(&with_bound(estimate - 1)));
    assert!(is_merged(&with_bound(estimate)));
}
