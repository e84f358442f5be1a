//! Copies of a log whose segments an older version wrote, without running checksums.
//!
//! No record binds a group file to such a segment, and only a sample of frames binds an index file
//! to it. The samples are one log that was copied after event 14, and whose copies both continued
//! with events of equal sizes and times; and one segment of another log.

use std::{fs, ops::Range, path::Path, sync::Arc};

use diptych_log::{
    Background, Clustering, Log, LogOptions, OpenError, VerifyError,
    disk::simulated::SimulatedDisk, verify,
};
use diptych_store::{
    Append, AppendCondition, AppendError, Digest, EventStore, Filter, Key, Position, RawEvent,
    Read, Tag, TimeSource, Timestamp,
};

use crate::log_files::{FOLDER, Files, disk_of, is, that_differ, with};

/// The first event that differs between the copies.
const COPIED_AT: u64 = 15;
/// The first event that this version writes.
const UPGRADED_AT: u64 = 130;
/// Enough for two groups of segments.
const LAST: u64 = 260;

/// The index file of a segment that has only events from before the copy.
const SHARED_INDEX: &str = "00000002-00000000000000000001-00000000000000000013.run";

fn options(disk: &SimulatedDisk) -> LogOptions {
    LogOptions {
        segment_bytes: 1024,
        index_bytes: 400,
        background: Background::Inline,
        clustering: Clustering::Off,
        time: TimeSource::Caller,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

/// The segments of a sample, under the names that they have in the log.
fn sample(way: &str) -> Files {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/format-1-copies");
    let entries = fs::read_dir(from.join(way).join("segments")).unwrap();
    let file = |entry: fs::DirEntry| {
        let to = Path::new(FOLDER).join("segments").join(entry.file_name());
        (to, fs::read(entry.path()).unwrap())
    };
    let mut files: Files = entries.map(|entry| file(entry.unwrap())).collect();
    files.sort();
    files
}

fn way_of(number: u64, way: &str) -> &str {
    match number {
        _ if number.is_multiple_of(7) => "same",
        ..COPIED_AT => "both",
        _ => way,
    }
}

fn event(number: u64, way: &str) -> RawEvent {
    RawEvent::new("counted", format!("{number:08}")).tag(Tag::new("way", way_of(number, way)))
}

fn key(number: u64, way: &str) -> String {
    let way = if number < COPIED_AT { "both" } else { way };
    format!("{way} {number}")
}

fn append(log: &Log, numbers: Range<u64>, way: &str) {
    for number in numbers {
        let mut append = Append::event(event(number, way));
        append.key = Some(Key::new(key(number, way), Digest([number as u8; 16])));
        append.recorded_at = Some(at(number));
        log.blocking().commit(append).unwrap();
    }
}

fn at(number: u64) -> Timestamp {
    Timestamp::from_micros(4_000_000_000_000_000 + number as i64)
}

/// The end of the older version's last segment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// This version continues in that segment.
    Whole,
    /// A kill left an incomplete commit: this version continues in the next segment.
    Torn,
}

/// A copy that this version continued and closed.
fn upgraded(way: &str, end: End) -> Files {
    let short = &way[..4];
    let mut files = sample(way);
    if end == End::Torn {
        files.last_mut().unwrap().1.extend([7; 9]);
    }
    let disk = disk_of(&files);
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    assert_eq!(log.head().position(), Position::new(UPGRADED_AT - 1));
    append(&log, UPGRADED_AT..LAST, short);
    log.close().unwrap();
    disk.contents()
}

/// Compares every look-up with the events.
///
/// # Errors
/// The damage that was found.
fn ask(disk: &SimulatedDisk) -> Result<(), String> {
    let log = match Log::open(FOLDER, options(disk)) {
        Ok(log) => log,
        Err(OpenError::Corrupt(corruption)) => return Err(corruption.to_string()),
        Err(other) => panic!("{other}"),
    };
    let log = log.blocking();
    let text = |error: diptych_store::ReadError| error.to_string();
    for way in ["both", "ours", "them", "same", "none"] {
        let tag = Tag::new("way", way);
        let expected: Vec<u64> =
            (1..LAST).filter(|number| way_of(*number, "ours") == way).collect();
        let found = log.read(&Filter::tag(tag.clone()), Read::all()).map_err(text)?;
        let found: Vec<u64> = found.iter().map(|event| event.position().get()).collect();
        assert_eq!(found, expected, "{way}");
        let counted = log.count(&tag, Position::MAX).map_err(text)?;
        assert_eq!(counted, expected.len() as u64, "{way}");
        // Every such event violates the condition, even the oldest one.
        let mut refused = Append::event(event(LAST, "ours"));
        refused.recorded_at = Some(at(LAST));
        let (fail_if, after) = (Filter::tag(tag), Position::START);
        refused.conditions.push(AppendCondition { fail_if, after });
        if !expected.is_empty() {
            let outcome = log.commit(refused);
            assert!(matches!(outcome, Err(AppendError::Refused(_))), "{way}: {outcome:?}");
        }
    }
    for number in 1..LAST {
        let found = log.keyed(&key(number, "ours")).map_err(text)?;
        assert_eq!(found.map(|commit| commit.first), Some(Position::new(number)));
        if number >= COPIED_AT {
            assert_eq!(log.keyed(&key(number, "them")).map_err(text)?, None);
        }
    }
    let all = log.read(&Filter::everything(), Read::all()).map_err(text)?;
    let all: Vec<RawEvent> = all.iter().map(|event| event.to_raw()).collect();
    assert_eq!(all, (1..LAST).map(|number| event(number, "ours")).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn look_ups_in_older_segments_are_right_with_group_files_and_without() {
    for end in [End::Whole, End::Torn] {
        let files = upgraded("ours", end);
        let is_group = |path: &Path| is(path, ".group");
        assert_eq!(files.iter().filter(|(path, _)| is_group(path)).count(), 2, "{end:?}");
        let disk = disk_of(&files);
        verify(FOLDER, &options(&disk), |_, _| ()).unwrap();
        assert_eq!(ask(&disk), Ok(()));
        let mut without = files;
        without.retain(|(path, _)| !is_group(path));
        assert_eq!(ask(&disk_of(&without)), Ok(()));
    }
}

#[test]
fn a_group_or_index_file_of_another_copy_is_not_used() {
    for end in [End::Whole, End::Torn] {
        let (ours, theirs) = (upgraded("ours", end), upgraded("theirs", end));
        for ending in [".group", ".run"] {
            let mut differ = that_differ(&ours, &theirs, ending);
            // The copies share the first segment with events. Its index files differ only in the
            // key of the hash, so both are valid.
            differ.retain(|(at, _)| !ours[*at].0.ends_with(SHARED_INDEX));
            assert!(differ.len() >= 2, "{end:?}: {ending}");
            for (at, bytes) in differ {
                let disk = disk_of(&with(&ours, at, &bytes));
                let name = ours[at].0.display();
                let verified = verify(FOLDER, &options(&disk), |_, _| ());
                assert!(
                    matches!(
                        verified,
                        Err(VerifyError::Damaged(_) | VerifyError::Open(OpenError::Corrupt(_)))
                    ),
                    "{name}: {verified:?}"
                );
                // The index of the last segment is evidence too: if the open refuses, it names that
                // file.
                if let Err(problem) = ask(&disk) {
                    let file = ours[at].0.file_name().unwrap().to_string_lossy();
                    assert!(problem.contains(&*file), "{name}: {problem}");
                }
            }
        }
    }
}

#[test]
fn an_older_segment_of_another_log_is_reported_as_damage_with_its_name() {
    let ours = upgraded("ours", End::Whole);
    let (path, bytes) = sample("another").remove(0);
    let at = ours.iter().position(|(name, _)| *name == path).unwrap();
    for keeps_index in [true, false] {
        let mut files = with(&ours, at, &bytes);
        files.retain(|(path, _)| keeps_index || !is(path, ".run"));
        let disk = disk_of(&files);
        let name = path.file_name().unwrap().to_string_lossy();
        let problem = ask(&disk).expect_err("a segment of another log is used");
        assert!(problem.contains(&*name), "{problem}");
        assert!(verify(FOLDER, &options(&disk), |_, _| ()).is_err());
    }
}
