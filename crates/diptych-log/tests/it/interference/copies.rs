//! Two copies of one log that go different ways, and files that get from one to the other.
//!
//! Once, a segment of another log was read as if it were of this one, as long as its name was
//! right, and an index file of a copy of this log counted as long as the segment had the same
//! header. Copy a log, write to both, copy one file across: reads left events out, and an append
//! passed a condition that it violated.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use diptych_log::{
    Background, BackupOptions, Clustering, Follower, Log, LogOptions, OpenError, ReadOnlyLog,
    VerifyError, backup,
    disk::{
        Disk,
        simulated::{Fault, Operation, SimulatedDisk},
    },
    verify,
};
use diptych_store::{
    Append, AppendCondition, AppendError, Batch, Direction, EventStore, Filter, Position, RawEvent,
    Read, ReadError, Tag, TimeSource, Timestamp,
};

use crate::log_files::{FOLDER, Files, disk_of, is, that_differ, with};

/// Time is given, so that nothing but the events tells the copies apart.
fn options(disk: &SimulatedDisk) -> LogOptions {
    LogOptions {
        segment_bytes: 2048,
        index_bytes: 600,
        background: Background::Inline,
        clustering: Clustering::Off,
        time: TimeSource::Caller,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

/// Every event has the same size and, at one position, the same time; `way` tells the copies apart.
/// Every seventh is the same on every way. Events of the ways `pay1` and `pay2` have equal tags.
fn event(number: u64, way: &str) -> RawEvent {
    let way = if number.is_multiple_of(7) { "same" } else { way };
    let tag = if way.starts_with("pay") { "paid" } else { way };
    RawEvent::new("counted", format!("{number:08} {way}")).tag(Tag::new("way", tag))
}

fn append(log: &Log, numbers: std::ops::Range<u64>, way: &str) {
    for number in numbers {
        let mut append = Append::event(event(number, way));
        append.recorded_at = Some(Timestamp::from_micros(*BEGIN + number as i64));
        log.blocking().commit(append).unwrap();
    }
}

/// A log of this way up to a position, closed in order.
fn gone_on(files: &[(PathBuf, Vec<u8>)], numbers: std::ops::Range<u64>, way: &str) -> Files {
    let disk = disk_of(files);
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    append(&log, numbers, way);
    log.close().unwrap();
    disk.contents()
}

const COPIED_AT: u64 = 25;
const LAST: u64 = 420;

/// When the first event was recorded: a while after the first segment began.
static BEGIN: LazyLock<i64> = LazyLock::new(|| Timestamp::now().as_micros() + 60_000_000);

struct Copies {
    ours: Files,
    theirs: Files,
}

/// The same with all segments clustered that can be.
fn clustered(files: &Files) -> Files {
    let disk = disk_of(files);
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    log.blocking().cluster().unwrap();
    log.close().unwrap();
    disk.contents()
}

fn both_orders() -> [Copies; 2] {
    let Copies { ours, theirs } = copies();
    let (ours_clustered, theirs_clustered) = (clustered(&ours), clustered(&theirs));
    let clustered = Copies { ours: ours_clustered, theirs: theirs_clustered };
    [Copies { ours, theirs }, clustered]
}

/// One log, copied, and gone on in both copies, over several segments.
fn copies() -> Copies {
    let common = gone_on(&[], 1..COPIED_AT, "both");
    let ours = gone_on(&common, COPIED_AT..LAST, "ours");
    let theirs = gone_on(&common, COPIED_AT..LAST, "them");
    Copies { ours, theirs }
}

fn expected(way: &str) -> Vec<RawEvent> {
    (1..LAST).map(|number| event(number, if number < COPIED_AT { "both" } else { way })).collect()
}

/// Reads by one tag and everything, and asks a condition. The error is the damage.
fn answers(log: &Log) -> Result<(), String> {
    let log = log.blocking();
    let corrupt = |error: ReadError| match error {
        ReadError::Corrupt(corruption) => corruption.to_string(),
        other => panic!("{other}"),
    };
    let all = log.read(&Filter::everything(), Read::all()).map_err(corrupt)?;
    let all: Vec<RawEvent> = all.iter().map(|event| event.to_raw()).collect();
    assert_eq!(all, expected("ours"), "a mixture");
    for way in ["both", "ours", "them", "same"] {
        let tag = Tag::new("way", way);
        let found = log.read(&Filter::tag(tag.clone()), Read::all()).map_err(corrupt)?;
        let found: Vec<RawEvent> = found.iter().map(|event| event.to_raw()).collect();
        let with_tag = all.iter().filter(|event| event.tags.contains(&tag)).cloned();
        assert_eq!(found, with_tag.collect::<Vec<_>>(), "{way}");
        let mut append = Append::event(event(LAST, "ours"));
        append.recorded_at = Some(Timestamp::from_micros(*BEGIN + 2_000_000));
        append
            .conditions
            .push(AppendCondition { fail_if: Filter::tag(tag), after: Position::START });
        match log.commit(append) {
            Err(AppendError::Refused(_)) => assert!(!found.is_empty(), "{way}"),
            Err(AppendError::Corrupt(corruption)) => return Err(corruption.to_string()),
            Ok(_) => {
                assert!(found.is_empty(), "a condition passes that is violated: {way}");
                return Ok(());
            }
            Err(other) => panic!("{other}"),
        }
    }
    Ok(())
}

fn open_and_ask(disk: &SimulatedDisk) -> Result<(), String> {
    match Log::open(FOLDER, options(disk)) {
        Ok(log) => {
            assert_eq!(log.head().position().get(), LAST - 1);
            answers(&log)
        }
        Err(OpenError::Corrupt(corruption)) => Err(corruption.to_string()),
        Err(other) => panic!("{other}"),
    }
}

/// Whether this file is the segment that appends go to.
fn is_last(files: &Files, at: usize) -> bool {
    files.iter().rposition(|(path, _)| is(path, ".seg")) == Some(at)
}

fn damage_in(disk: &SimulatedDisk, path: &Path) -> bool {
    match verify(FOLDER, &options(disk), |_, _| ()) {
        Ok(_) => false,
        Err(VerifyError::Damaged(damage)) => {
            // A segment that does not go on from the one before it names itself.
            let close = |file: &Path| file.parent() == path.parent();
            assert!(damage.iter().any(|damage| close(&damage.file)), "{damage:?}");
            true
        }
        Err(VerifyError::Open(OpenError::Corrupt(_))) => true,
        Err(other) => panic!("{other}"),
    }
}

/// The running checksums of its segments in a group file.
fn marks(group: &[u8]) -> impl Iterator<Item = &[u8]> {
    let segments = u32::from_le_bytes(group[16..20].try_into().unwrap()) as usize;
    group[48..].chunks(8).take(segments)
}

#[test]
fn the_copies_are_alike_but_for_their_events() {
    for copies in both_orders() {
        alike(&copies);
    }
}

fn alike(copies: &Copies) {
    let names = |files: &Files| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&copies.ours), names(&copies.theirs));
    assert!(
        that_differ(&copies.ours, &copies.theirs, ".seg").len() > 4,
        "{:?}",
        names(&copies.ours)
    );
    assert!(
        that_differ(&copies.ours, &copies.theirs, ".run").len() > 4,
        "{:?}",
        names(&copies.ours)
    );
    assert!(
        !that_differ(&copies.ours, &copies.theirs, ".group").is_empty(),
        "{:?}",
        names(&copies.ours)
    );
    for (path, ours) in &copies.ours {
        let (_, theirs) = copies.theirs.iter().find(|(name, _)| name == path).unwrap();
        assert_eq!(ours.len(), theirs.len(), "{}", path.display());
        if is(path, ".seg") {
            assert_eq!(ours[..64], theirs[..64], "the headers of {}", path.display());
        }
    }
    for (at, theirs) in that_differ(&copies.ours, &copies.theirs, ".group") {
        let differ: Vec<bool> = marks(&copies.ours[at].1)
            .zip(marks(&theirs))
            .map(|(ours, theirs)| ours != theirs)
            .collect();
        assert!(differ.is_sorted() && differ[7], "{differ:?}");
    }
    assert_eq!(open_and_ask(&disk_of(&copies.ours)), Ok(()));
    verify(FOLDER, &options(&disk_of(&copies.ours)), |_, _| ()).unwrap();
}

#[test]
fn an_index_or_group_file_of_a_copy_is_not_believed() {
    let both = both_orders();
    let files = |copies: &Copies| {
        [".run", ".group"].map(|ending| that_differ(&copies.ours, &copies.theirs, ending)).concat()
    };
    for (copies, (at, theirs)) in
        both.iter().flat_map(|copies| files(copies).into_iter().map(move |file| (copies, file)))
    {
        let disk = disk_of(&with(&copies.ours, at, &theirs));
        let path = &copies.ours[at].0;
        assert!(damage_in(&disk, path), "verify misses {}", path.display());
        // The index of the last segment is evidence as well: the open names both.
        if let Err(problem) = open_and_ask(&disk) {
            let name = path.file_name().unwrap().to_string_lossy();
            assert!(problem.contains(&*name) && problem.contains("copy"), "{problem}");
            disk.remove(path).unwrap();
            assert_eq!(open_and_ask(&disk), Ok(()), "what it advises helps");
        }
    }
}

/// After a loss of power a name can have the content of another file: here of an index file of a
/// copy, about other events of the same segment. Once, the log was refused as damaged, and a move
/// could not be finished.
#[test]
fn an_index_file_about_other_events_than_its_name_says_is_made_anew() {
    let Copies { ours, theirs } = copies();
    let last = (0..ours.len()).find(|at| is_last(&ours, *at)).unwrap();
    let sequence = |at: usize| {
        let name = ours[at].0.file_name().unwrap().to_string_lossy();
        name.split_once('-').unwrap().0.to_owned()
    };
    let differ = that_differ(&ours, &theirs, ".run");
    let of_last: Vec<_> = differ.iter().filter(|(at, _)| sequence(*at) == sequence(last)).collect();
    assert!(of_last.len() > 1, "{of_last:?}");
    for ((at, _), (_, other)) in of_last.iter().zip(of_last.iter().skip(1)) {
        let disk = disk_of(&with(&ours, *at, other));
        assert_eq!(open_and_ask(&disk), Ok(()), "{}", ours[*at].0.display());
        verify(FOLDER, &options(&disk), |_, _| ()).unwrap();
    }
}

/// Consecutive segments of a copy go on one from the other, and their index files are theirs. Only
/// what the group of segments says about each, and the segment behind the last of them, show it.
/// Once, a read that ended before that segment answered with events of the copy.
#[test]
fn consecutive_segments_of_a_copy_with_their_index_files_give_no_wrong_answer() {
    let (mut refused, mut right) = (0, 0);
    let [in_order, clustered] = both_orders();
    let names_differ = ["both", "ours", "them", "same"].as_slice();
    let cases = [
        (in_order, "ours", names_differ),
        (clustered, "ours", names_differ),
        (paid_copies(), "pay1", &["both", "paid", "same"]),
    ];
    for (copies, our_way, tags) in cases {
        let group = that_differ(&copies.ours, &copies.theirs, ".group").remove(0).0;
        let group = copies.ours[group].0.file_name().unwrap().to_string_lossy().into_owned();
        let (first, last) = group.trim_end_matches(".group").split_once('-').unwrap();
        let (first, last): (u32, u32) = (first.parse().unwrap(), last.parse().unwrap());
        for (from, to) in (first..=last).flat_map(|from| (from..=last).map(move |to| (from, to))) {
            let is_exchanged = |path: &Path| {
                let name = path.file_name().unwrap().to_string_lossy();
                let sequence = name.split_once('-').and_then(|(number, _)| number.parse().ok());
                (is(path, ".seg") || is(path, ".run"))
                    && sequence.is_some_and(|number: u32| (from..=to).contains(&number))
            };
            let mut files = copies.ours.clone();
            files.retain(|(path, _)| !is_exchanged(path));
            files.extend(copies.theirs.iter().filter(|(path, _)| is_exchanged(path)).cloned());
            let all = expected(our_way);
            let filters = tags.iter().map(|way| Filter::tag(Tag::new("way", *way)));
            for filter in filters.chain([Filter::everything()]) {
                let is_wanted = |event: &&RawEvent| {
                    filter.is_everything()
                        || event.tags.iter().any(|tag| filter == Filter::tag(tag.clone()))
                };
                let wanted: Vec<_> = all.iter().filter(is_wanted).collect();
                for after in [0, COPIED_AT - 1] {
                    match first_and_last(&disk_of(&files), &filter, Position::new(after)) {
                        Ok(found) => {
                            let first = all.iter().skip(after as usize).find(is_wanted);
                            let ends = [first, wanted.last().copied()].map(Option::<&_>::cloned);
                            assert_eq!(found, ends, "{filter}, segments {from} to {to}");
                            right += 1;
                        }
                        Err(ReadError::Corrupt(_)) => refused += 1,
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        }
    }
    assert!(refused > 20 && right > 20, "{refused} errors, {right} right answers");
}

/// Two copies whose events have the same tags, and other payloads.
fn paid_copies() -> Copies {
    let common = gone_on(&[], 1..COPIED_AT, "both");
    let [ours, theirs] = ["pay1", "pay2"].map(|way| gone_on(&common, COPIED_AT..LAST, way));
    Copies { ours, theirs }
}

/// The first match behind a position and the last of all, each from a log that was just opened. A
/// log that is opened for reading answers the same.
fn first_and_last(
    disk: &SimulatedDisk,
    filter: &Filter,
    after: Position,
) -> Result<[Option<RawEvent>; 2], ReadError> {
    let mut found = [None, None];
    let reads = [
        Read { limit: 1, ..Read::after(after) },
        Read { limit: 1, direction: Direction::Backwards, ..Read::all() },
    ];
    for (found, read) in found.iter_mut().zip(reads) {
        let first = |batch: Batch| batch.iter().next().map(|event| event.to_raw());
        let reader = ReadOnlyLog::open(FOLDER, options(&disk_of(&disk.contents()))).unwrap();
        let there = reader.blocking().read(filter, read.clone()).map(first);
        let log = Log::open(FOLDER, options(&disk_of(&disk.contents()))).unwrap();
        let here = log.blocking().read(filter, read).map(first);
        assert_eq!(there.is_ok(), here.is_ok(), "{there:?} beside {here:?}");
        *found = here?;
        assert_eq!(there.ok().as_ref(), Some(&*found));
    }
    Ok(found)
}

/// Its columns are right, so look-ups cannot show that it is bound to other records.
#[test]
fn verify_names_an_index_file_of_a_copy_that_has_the_same_names() {
    let copies = paid_copies();
    let differ = that_differ(&copies.ours, &copies.theirs, ".run");
    assert!(differ.len() > 4);
    for (at, theirs) in differ {
        let path = &copies.ours[at].0;
        let disk = disk_of(&with(&copies.ours, at, &theirs));
        assert!(damage_in(&disk, path), "verify misses {}", path.display());
    }
}

#[test]
fn a_segment_of_a_copy_is_damage_with_its_name() {
    let both = both_orders();
    for (copies, (at, theirs)) in both.iter().flat_map(|copies| {
        that_differ(&copies.ours, &copies.theirs, ".seg")
            .into_iter()
            .map(move |file| (copies, file))
    }) {
        let disk = disk_of(&with(&copies.ours, at, &theirs));
        let path = &copies.ours[at].0;
        assert!(damage_in(&disk, path), "verify misses {}", path.display());
        let problem = open_and_ask(&disk).expect_err("a segment of a copy is used");
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(problem.contains(&*name), "{problem}");
        // And if its index comes with it, or there is none.
        let number = name[..8].to_owned();
        let both = disk_of(&with(&copies.ours, at, &theirs));
        let none = disk_of(&with(&copies.ours, at, &theirs));
        for (path, bytes) in &copies.theirs {
            let name = path.file_name().unwrap().to_string_lossy();
            if is(path, ".run") && name.starts_with(&number) {
                both.remove(path).unwrap();
                none.remove(path).unwrap();
                both.create(path, 0).unwrap().write_at(0, bytes).unwrap();
            }
        }
        assert!(open_and_ask(&both).is_err(), "{name} with its index");
        assert!(open_and_ask(&none).is_err(), "{name} without an index");
        if is_last(&copies.ours, at) {
            for disk in [&disk, &both, &none] {
                let opened = Log::open(FOLDER, options(disk));
                assert!(opened.is_err(), "{name}: appends would go on behind it");
            }
        }
        assert!(damage_in(&both, path) && damage_in(&none, path), "verify misses {name}");
    }
}

/// The open that wrote it is not the one that the manifest names.
#[test]
fn the_published_head_of_a_copy_is_noticed() {
    let common = gone_on(&[], 1..COPIED_AT, "both");
    let ours = gone_on(&common, COPIED_AT..LAST, "ours");
    for upto in [60, LAST + 40] {
        let theirs = gone_on(&common, COPIED_AT..upto, "them");
        let head = |files: &Files| files.iter().position(|(path, _)| is(path, "log/head")).unwrap();
        let disk = disk_of(&with(&ours, head(&ours), &theirs[head(&theirs)].1));
        let problem = open_and_ask(&disk).unwrap_err();
        assert!(problem.contains("log/head") && problem.contains("at another time"), "{problem}");
        assert!(damage_in(&disk, &ours[head(&ours)].0));
        // As it says, the file can be removed.
        disk.remove(&ours[head(&ours)].0).unwrap();
        assert_eq!(open_and_ask(&disk), Ok(()));
    }
}

/// The files of another log that has segments of the same names.
fn another() -> Files {
    gone_on(&[], 1..LAST, "ours")
}

/// A segment is clustered only once two more have begun, so its index file proves that the log was
/// longer than the older state of it that lies there. Once, the log opened without a word, and gave
/// positions of acknowledged events out again.
#[test]
fn an_index_file_of_a_clustered_segment_proves_that_the_log_was_longer() {
    let older = gone_on(&[], 1..COPIED_AT, "ours");
    let newer = clustered(&gone_on(&older, COPIED_AT..LAST, "ours"));
    let segments = older.iter().filter(|(path, _)| is(path, ".seg"));
    let last = segments.map(|(path, _)| path.file_name().unwrap().to_string_lossy()).max();
    let sequence = last.as_deref().unwrap().split_once('-').unwrap().0;
    let is_about_last = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy();
        is(path, ".run") && name.starts_with(sequence)
    };
    let mut mixed = older.clone();
    mixed.retain(|(path, _)| !is_about_last(path));
    let count = mixed.len();
    mixed.extend(newer.into_iter().filter(|(path, _)| is_about_last(path)));
    assert_eq!(mixed.len(), count + 1, "a clustered segment has one index file");
    let (disk, name) = (disk_of(&mixed), mixed[count].0.file_name().unwrap().to_string_lossy());
    let error = Log::open(FOLDER, options(&disk)).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains(&*name), "{error}");
    assert!(verify(FOLDER, &options(&disk), |_, _| ()).is_err());
    mixed.sort();
    assert_eq!(disk.contents(), mixed, "it was changed");
}

#[test]
fn a_segment_of_another_log_is_damage_with_its_name() {
    let ours = gone_on(&[], 1..LAST, "ours");
    let theirs = another();
    let segments: Vec<_> = (0..ours.len()).filter(|at| is(&ours[*at].0, ".seg")).collect();
    let last = *segments.last().unwrap();
    for at in segments {
        let path = &ours[at].0;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (_, bytes) = theirs.iter().find(|(name, _)| name == path).unwrap();
        for keeps in ["everything else", "no index", "no index and no head"] {
            let mut files = with(&ours, at, bytes);
            files.retain(|(path, _)| keeps == "everything else" || !is(path, ".run"));
            files.retain(|(path, _)| keeps != "no index and no head" || !is(path, "log/head"));
            let disk = disk_of(&files);
            let before = disk.contents();
            let problem = match Log::open(FOLDER, options(&disk)) {
                Ok(log) => {
                    assert_ne!(at, last, "{name}, {keeps}: appends would go on behind it");
                    let problem = log.blocking().read(&Filter::everything(), Read::all());
                    problem.map(|_| ()).expect_err("it is read").to_string()
                }
                Err(error) => {
                    let after = disk.contents();
                    let kept =
                        before.iter().all(|file| is(&file.0, "lock") || after.contains(file));
                    assert!(kept, "{name}, {keeps}: something was changed");
                    error.to_string()
                }
            };
            assert!(problem.contains(&name), "{name}, {keeps}: {problem}");
            assert!(damage_in(&disk, path), "verify misses {name}");
            let to = Path::new("/data/backup");
            let backup_options =
                BackupOptions { disk: Arc::new(disk.clone()), ..BackupOptions::default() };
            assert!(backup(FOLDER, to, &backup_options, |_, _| ()).is_err(), "{name}: a backup");
        }
    }
}

/// Once, a file that was no longer than a header counted as a segment that was never finished, and
/// was removed. A header of this log is removed: a loss of power can leave it there.
#[test]
fn a_whole_header_of_another_log_is_not_removed() {
    let ours = gone_on(&[], 1..LAST, "ours");
    let segments = ours.iter().filter(|(path, _)| is(path, ".seg")).count() as u32;
    let name = format!("{:08}-{:020}.seg", segments + 1, LAST);
    let path = Path::new(FOLDER).join("segments").join(&name);
    for (whose, removed) in [(&another(), false), (&ours, true)] {
        for keeps_head in [true, false] {
            let (_, other) = whose.iter().find(|(path, _)| is(path, ".seg")).unwrap();
            let mut files = ours.clone();
            files.push((path.clone(), other[..64].to_vec()));
            files.retain(|(path, _)| keeps_head || !is(path, "log/head"));
            let disk = disk_of(&files);
            let opened = Log::open(FOLDER, options(&disk));
            assert_eq!(opened.is_ok(), removed);
            if let Err(error) = opened {
                assert!(error.to_string().contains(&name), "{error}");
                assert!(disk.contents().contains(&(path.clone(), other[..64].to_vec())));
                assert!(damage_in(&disk, &path), "verify misses {name}");
            }
        }
    }
}

#[test]
fn a_follower_does_not_go_past_a_segment_of_another_log_or_copy() {
    let copies = copies();
    let (_, foreign) = another().into_iter().rfind(|(path, _)| is(path, ".seg")).unwrap();
    let last = copies.ours.iter().rposition(|(path, _)| is(path, ".seg")).unwrap();
    let middle = that_differ(&copies.ours, &copies.theirs, ".seg").remove(1);
    let last = (last, foreign);
    for (at, bytes) in [middle, last] {
        let disk = disk_of(&with(&copies.ours, at, &bytes));
        let mut follower = Follower::open(FOLDER, Position::START, options(&disk)).unwrap();
        let mut seen = 0;
        let error = loop {
            match follower.next(&Filter::everything(), 10) {
                Ok(batch) => {
                    assert!(!batch.is_empty(), "it reads to the end");
                    seen += batch.len();
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ReadError::Corrupt(_)), "{error} after {seen}");
    }
}

/// This follower has read no segment before, whose end could show that.
#[test]
fn a_follower_begins_with_no_segment_of_another_log_or_place() {
    let files = gone_on(&[], 1..LAST, "ours");
    let segments: Vec<_> = (0..files.len()).filter(|at| is(&files[*at].0, ".seg")).collect();
    let (third, fourth) = (segments[2], segments[3]);
    let foreign = another().into_iter().find(|(path, _)| *path == files[third].0).unwrap();
    for (what, bytes) in [("place", &files[fourth].1), ("log", &foreign.1)] {
        let disk = disk_of(&with(&files, third, bytes));
        let name = files[third].0.file_stem().unwrap().to_str().unwrap();
        let base = Position::new(name.split_once('-').unwrap().1.parse().unwrap());
        let mut follower = Follower::open(FOLDER, base.before(), options(&disk)).unwrap();
        let error = follower.next(&Filter::everything(), 10).unwrap_err();
        assert!(matches!(error, ReadError::Corrupt(_)), "{what}: {error}");
        assert!(error.to_string().contains(name), "{what}: {error}");
    }
}

/// The two copies have equal positions, times and sizes, so only the content tells that the newer
/// one does not continue the backup.
#[test]
fn a_backup_is_not_continued_from_another_copy() {
    let common = gone_on(&[], 1..COPIED_AT, "both");
    for copied_at in [40, 150] {
        let older = gone_on(&common, COPIED_AT..copied_at, "ours");
        let theirs = gone_on(&common, COPIED_AT..LAST, "them");
        let ours = gone_on(&older, copied_at..LAST, "ours");
        let to = Path::new("/data/backup");
        let made = disk_of(&older);
        let options = |disk: &SimulatedDisk| BackupOptions {
            disk: Arc::new(disk.clone()),
            ..BackupOptions::default()
        };
        backup(FOLDER, to, &options(&made), |_, _| ()).unwrap();
        let files = made.contents().into_iter().filter(|(path, _)| path.starts_with(to));
        let backed_up: Files = files.collect();
        let beside = |log: &Files| {
            let disk = disk_of(log);
            disk.create_dir(&to.join("segments")).unwrap();
            for (path, bytes) in &backed_up {
                disk.create(path, 0).unwrap().write_at(0, bytes).unwrap();
            }
            disk
        };
        let disk = beside(&theirs);
        let refused = backup(FOLDER, to, &options(&disk), |_, _| ()).unwrap_err().to_string();
        assert!(refused.contains("another folder"), "{refused}");
        let kept = disk.contents();
        assert!(backed_up.iter().all(|file| kept.contains(file)), "the older backup is changed");
        backup(FOLDER, to, &options(&beside(&ours)), |_, _| ()).unwrap();
    }
}

/// Once, the identity of the next segment was not known if it could not be read.
#[test]
fn a_segment_of_a_copy_is_not_used_if_an_operation_fails() {
    let copies = copies();
    let (at, theirs) = that_differ(&copies.ours, &copies.theirs, ".seg").remove(1);
    let whole = disk_of(&with(&copies.ours, at, &theirs));
    let read = |disk: &SimulatedDisk| {
        let log = Log::open(FOLDER, options(disk)).ok()?;
        log.blocking().read(&Filter::everything(), Read::all()).ok()
    };
    let before = whole.operations();
    assert!(read(&whole).is_none());
    let operations = whole.operations() - before;
    for (after, operation) in
        (0..operations).flat_map(|after| Operation::ALL.map(|operation| (after, operation)))
    {
        let disk = disk_of(&with(&copies.ours, at, &theirs));
        disk.fail_after(after, Fault::Io(operation));
        assert!(read(&disk).is_none(), "{operation:?} fails after {after} operations");
    }
}
