//! Archived segments: read as before wherever they are asked for, and never mistaken for others.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use diptych_log::{
    Adoption, ArchiveError, ArchiveLimit, ArchiveReport, Background, BackupOptions, Clustering,
    Follower, Log, LogOptions, OpenError, PlacePolicy, ReadOnlyLog, SealedSegments, VerifyError,
    adopt, backup, bring_back_archive, relocate_archive, restore, scrub, verify,
    verify_without_archive,
};
use diptych_store::{
    Append, EventStore, Filter, Position, RawEvent, Read, ReadCommits, ReadError, Tag, TimeSource,
    Timestamp, Unavailable,
};
use tempfile::TempDir;

use crate::backup::{append, payloads};

pub(crate) fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 2048,
        index_bytes: 700,
        background: Background::Inline,
        ..LogOptions::default()
    }
}

pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Place {
        Place(TempDir::new().unwrap())
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn open(&self) -> Log {
        Log::open(self.at("log"), options()).unwrap()
    }

    pub(crate) fn read_only(&self) -> ReadOnlyLog {
        ReadOnlyLog::open(self.at("log"), options()).unwrap()
    }

    /// A log of some twenty segments, the first eight of them with a filter, which is closed.
    fn write(&self) -> Vec<Vec<u8>> {
        let log = self.open();
        append(&log, 300);
        let all = payloads(&log);
        log.close().unwrap();
        all
    }

    /// As `write`, with everything archived that can be.
    pub(crate) fn write_archived(&self) -> Vec<Vec<u8>> {
        let log = self.open();
        if log.head().position() == Position::START {
            append(&log, 300);
        }
        let all = payloads(&log);
        let report = archive(&log, &self.at("archive"), ArchiveLimit::All).unwrap();
        assert!(report.archived > 10, "{report:?}");
        log.close().unwrap();
        all
    }

    /// The names of the files in the folder with the segments of a log or of an archive.
    pub(crate) fn segments(&self, of: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(of).join("segments")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.ends_with(".seg")).collect();
        names.sort();
        names
    }
}

pub(crate) fn archive(
    log: &Log,
    to: &Path,
    limit: ArchiveLimit,
) -> Result<ArchiveReport, ArchiveError> {
    log.archive(to, limit, |done, all| assert!(done <= all))
}

/// All that a store answers, in a form that can be compared.
pub(crate) fn answers(store: &impl EventStore) -> Vec<String> {
    pollster::block_on(async {
        let mut found = Vec::new();
        let head = store.head().position();
        let (mut after, mut commits) = (Position::START, Position::START);
        while after < head {
            let batch = store.read(&Filter::everything(), Read::after(after)).await.unwrap();
            found.extend(batch.iter().map(|event| format!("{:?}", event.to_raw())));
            after = batch.upto();
        }
        while commits < head {
            let batch = store.commits(ReadCommits::after(commits)).await.unwrap();
            found.extend(batch.iter().map(|commit| {
                let (first, last, at) = (commit.first(), commit.last(), commit.recorded_at());
                let events = commit.events().len();
                format!("{first} {last} {at} {:?} {events}", commit.tracking())
            }));
            commits = batch.upto();
        }
        for odd in 0..3 {
            let tag = Tag::new("odd", odd);
            let filter = Filter::tag(tag.clone());
            let last = store.last(&filter, head).await.unwrap();
            let count = store.count(&tag, head).await.unwrap();
            let back = store.read(&filter, Read::backwards().limit(7)).await.unwrap();
            let back: Vec<_> = back.iter().map(|event| event.position()).collect();
            found.push(format!("{last:?} {count} {back:?}"));
        }
        found.push(format!("{:?}", store.keyed("no key").await.unwrap()));
        found.push(format!("{:?}", store.types().await.unwrap()));
        found
    })
}

pub(crate) fn followed(dir: &Path) -> Vec<Vec<u8>> {
    let mut follower = Follower::open(dir, Position::START, options()).unwrap();
    let mut found = Vec::new();
    while follower.upto() < follower.head() {
        let batch = follower.next(&Filter::everything(), 50).unwrap();
        found.extend(batch.iter().map(|event| event.payload().to_vec()));
    }
    found
}

#[test]
fn every_reader_reads_archived_segments_as_before() {
    let place = Place::new();
    place.write();
    let log = place.open();
    let before = answers(&log);
    let reader = place.read_only();
    let mut follower = Follower::open(place.at("log"), Position::START, options()).unwrap();
    follower.next(&Filter::everything(), 1).unwrap();
    let files = place.segments("log");

    let report = archive(&log, &place.at("archive"), ArchiveLimit::KeepSegments(3)).unwrap();
    // Complete ones are all but the last.
    let kept = files.len() - report.moved as usize;
    assert_eq!(kept, 4, "{report:?} of {files:?}");
    assert_eq!(place.segments("archive"), files[..files.len() - 4]);
    assert_eq!(place.segments("log"), files[files.len() - 4..]);
    assert_eq!((report.moved, report.upto > Position::START), (report.archived, true));

    assert_eq!(answers(&log), before, "the log itself");
    assert_eq!(answers(&reader), before, "a reader that was there before");
    while follower.upto() < follower.head() {
        follower.next(&Filter::everything(), 50).unwrap();
    }
    assert_eq!(answers(&place.read_only()), before, "a new reader");
    assert_eq!(followed(&place.at("log")), payloads(&log));
    append(&log, 1);
    log.close().unwrap();
    let log = place.open();
    assert_eq!(answers(&log)[..20], before[..20], "opened again");
    let stats = log.blocking().stats().unwrap();
    assert_eq!(stats.archived_segments, report.archived);
    assert_eq!(stats.archived_bytes, report.bytes);
    assert_eq!(stats.archive, Some(place.at("archive")));
    log.close().unwrap();
    let verified = verify(place.at("log"), &options(), |_, _| {}).unwrap();
    let part = verify_without_archive(place.at("log"), &options(), |_, _| {}).unwrap();
    assert_eq!((verified.skipped_segments, part.skipped_segments), (0, report.archived));
    assert_eq!(verified.segments, part.segments + report.archived);
    assert!(part.events < verified.events && part.index_files < verified.index_files);
}

#[test]
fn a_limit_says_which_segments_stay() {
    let place = Place::new();
    let all = place.write();
    let (log, to) = (place.open(), place.at("archive"));
    let moved = |limit| archive(&log, &to, limit).unwrap().moved;
    let upto = archive(&log, &to, ArchiveLimit::Upto(Position::new(100))).unwrap();
    assert!(upto.moved > 0 && upto.upto <= Position::new(100), "{upto:?}");
    assert_eq!(moved(ArchiveLimit::Upto(upto.upto)), 0);
    let next = archive(&log, &to, ArchiveLimit::Upto(Position::new(200))).unwrap();
    assert!(next.moved > 0 && next.upto > Position::new(100), "{next:?}");
    assert_eq!(moved(ArchiveLimit::KeepSegments(u32::MAX)), 0);
    assert!(moved(ArchiveLimit::All) > 0);
    assert_eq!(moved(ArchiveLimit::KeepSegments(0)), 0, "the last complete one stays");
    assert_eq!(place.segments("log").len(), 2);
    assert_eq!(payloads(&log), all);
}

#[test]
fn a_segment_that_ends_at_the_limit_is_archived_and_one_that_ends_behind_it_stays() {
    let place = Place::new();
    place.write();
    let (log, to) = (place.open(), place.at("archive"));
    let base_of_third = {
        let third = &place.segments("log")[2];
        let base = third.strip_suffix(".seg").unwrap().split_once('-').unwrap().1;
        Position::new(base.parse().unwrap())
    };
    let end_of_second = base_of_third.before();
    let moved = |limit| archive(&log, &to, limit).unwrap().moved;
    assert_eq!(moved(ArchiveLimit::Upto(end_of_second.before())), 1);
    assert_eq!(moved(ArchiveLimit::Upto(end_of_second)), 1);
    assert_eq!(moved(ArchiveLimit::Upto(base_of_third)), 0);
    log.close().unwrap();
}

/// The checksums of such a segment are right, and it is of the same epoch. Only the segments beside
/// it show that it does not belong there.
#[test]
fn a_log_with_a_segment_of_another_copy_archives_nothing_from_there_on() {
    let place = Place::new();
    let options =
        LogOptions { clustering: Clustering::Off, place: PlacePolicy::Follow, ..options() };
    let open = |of: &str| Log::open(place.at(of), options.clone()).unwrap();
    let log = open("log");
    append(&log, 20);
    log.close().unwrap();
    copy_folder(&place.at("log"), &place.at("copy"));
    for of in ["log", "copy"] {
        let log = open(of);
        append(&log, 200);
        log.close().unwrap();
    }
    let name = place.segments("log")[5].clone();
    assert_eq!(place.segments("copy")[5], name);
    let file = |of: &str| place.at(of).join("segments").join(&name);
    fs::copy(file("copy"), file("log")).unwrap();
    let log = open("log");
    let error = archive(&log, &place.at("archive"), ArchiveLimit::All).unwrap_err();
    assert!(matches!(error, ArchiveError::Open(OpenError::Corrupt(_))), "{error}");
    assert!(error.to_string().contains("continues other records"), "{error}");
    assert_eq!(place.segments("archive"), place.segments("copy")[..4], "those before it");
    assert!(file("log").exists());
}

/// With the index files and filters that stay, names are found to be absent, and the log goes on.
#[test]
fn a_log_works_without_its_archive_as_far_as_it_does_not_need_it() {
    let place = Place::new();
    let all = place.write_archived();
    let gone = place.at("gone");
    fs::rename(place.at("archive"), &gone).unwrap();
    let log = place.open();
    let reader = place.read_only();
    append(&log, 3);
    reader.refresh_now().unwrap();
    let absent = Filter::tag(Tag::new("odd", 7));
    let head = log.head().position();
    assert_eq!(log.blocking().last(&absent, head).unwrap(), None);
    assert_eq!(reader.blocking().last(&absent, head).unwrap(), None);
    assert!(log.blocking().read(&absent, Read::all()).unwrap().is_empty());
    assert_eq!(log.blocking().keyed("no key").unwrap(), None);
    assert_eq!(log.blocking().count(&Tag::new("odd", 0), head).unwrap(), head.get());
    assert_eq!(log.blocking().types().unwrap(), ["counted"]);
    assert_eq!(log.blocking().stats().unwrap().archive, Some(place.at("archive")));
    log.blocking().cluster().unwrap();
    log.blocking().read(&Filter::everything(), Read::backwards().limit(5)).unwrap();

    let names_it = |error: ReadError| {
        let ReadError::Unavailable(Unavailable::Storage { .. }) = &error else {
            panic!("another error: {error:?}")
        };
        let said = error.to_string();
        assert!(said.contains(place.at("archive").to_str().unwrap()), "{said}");
        assert!(said.contains("is not there") && said.contains("--relocated"), "{said}");
    };
    names_it(log.blocking().read(&Filter::everything(), Read::all()).unwrap_err());
    names_it(reader.blocking().read(&Filter::everything(), Read::all()).unwrap_err());
    let mut follower = Follower::open(place.at("log"), Position::START, options()).unwrap();
    names_it(follower.next(&Filter::everything(), 5).unwrap_err());
    let backup = backup(place.at("log"), place.at("backup"), &BackupOptions::default(), |_, _| {});
    assert!(backup.unwrap_err().to_string().contains("is not there"));
    let again = archive(&log, &place.at("archive"), ArchiveLimit::All).unwrap_err();
    assert!(again.to_string().contains("is not there"), "{again}");
    assert!(!place.at("archive").exists(), "nothing is put where the archive is missing");
    log.close().unwrap();
    let failed = verify(place.at("log"), &options(), |_, _| {}).unwrap_err();
    assert!(matches!(&failed, VerifyError::Open(OpenError::Io { .. })), "{failed:?}");

    fs::rename(&gone, place.at("archive")).unwrap();
    let log = place.open();
    assert_eq!(payloads(&log)[..all.len()], all);
    // It need not be opened again.
    fs::rename(place.at("archive"), &gone).unwrap();
    let moved = relocate(&place, &gone).unwrap_err();
    assert!(matches!(moved, ArchiveError::Open(OpenError::Held { .. })), "{moved}");
    log.archive(&gone, ArchiveLimit::KeepSegments(9), |_, _| {}).unwrap();
    assert_eq!(payloads(&log)[..all.len()], all);
}

fn relocate(place: &Place, to: &Path) -> Result<ArchiveReport, ArchiveError> {
    relocate_archive(place.at("log"), to, &options())
}

#[test]
fn an_archive_that_was_moved_is_found_after_the_log_is_told() {
    let place = Place::new();
    let all = place.write_archived();
    let reader = place.read_only();
    let now = place.at("now");
    fs::rename(place.at("archive"), &now).unwrap();
    let report = relocate(&place, &now).unwrap();
    assert_eq!((report.moved, report.folder), (0, now.clone()));
    assert_eq!(payloads(&place.open()), all);
    let read = reader.blocking().read(&Filter::everything(), Read::all()).unwrap();
    assert_eq!(read.get(0).unwrap().position(), Position::new(1));
    let other = Place::new();
    other.write();
    let none = relocate(&other, &now).unwrap_err();
    assert!(none.to_string().contains("has no archive"), "{none}");
}

#[test]
fn a_folder_that_is_not_the_archive_of_this_log_is_refused_with_words() {
    let (place, other) = (Place::new(), Place::new());
    place.write();
    other.write_archived();
    let log = place.open();
    let refused = |to: &Path, why: &str| {
        let error = archive(&log, to, ArchiveLimit::All).unwrap_err();
        assert!(error.to_string().contains(why), "{why:?} is not in: {error}");
        assert!(error.to_string().contains(to.to_str().unwrap()), "{error}");
    };
    let full = place.at("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("letter"), "x").unwrap();
    refused(&full, "is not empty");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1, "it was changed");
    refused(&other.at("archive"), "is the archive of log");
    refused(&place.at("log").join("archive"), "within each other");
    refused(place.0.path(), "within each other");
    let moved = archive(&log, &place.at("archive"), ArchiveLimit::Upto(Position::new(100)));
    assert!(moved.unwrap().moved > 0);
    refused(&place.at("second"), place.at("archive").to_str().unwrap());
    refused(&other.at("archive"), "is another archive");
    log.close().unwrap();
}

#[test]
fn a_backup_is_whole_and_goes_on_and_a_restored_log_has_no_archive() {
    let place = Place::new();
    let all = place.write_archived();
    let (log, to) = (place.at("log"), place.at("backup"));
    let options_of = BackupOptions { sealed: SealedSegments::Copy, ..BackupOptions::default() };
    let back_up = || backup(&log, &to, &options_of, |_, _| {}).unwrap();
    let first = back_up();
    assert_eq!((first.kept, first.upto.get()), (0, all.len() as u64));
    let opened = place.open();
    append(&opened, 60);
    opened.close().unwrap();
    // The backup does not read again the segments that it has, so it does not need the archive.
    fs::rename(place.at("archive"), place.at("gone")).unwrap();
    let second = back_up();
    assert!(second.kept >= first.copied - 1, "{second:?}");
    fs::rename(place.at("gone"), place.at("archive")).unwrap();
    // A backup from before goes on when its segments are archived.
    let opened = place.open();
    archive(&opened, &place.at("archive"), ArchiveLimit::All).unwrap();
    let all = payloads(&opened);
    opened.close().unwrap();
    assert_eq!(back_up().copied, 0);

    for (from, name) in [(&to, "restored"), (&log, "directly")] {
        restore(from, place.at(name), &options(), |_, _| {}).unwrap();
        let restored = Log::open(place.at(name), options()).unwrap();
        assert_eq!(payloads(&restored), all);
        assert_eq!(restored.blocking().stats().unwrap().archive, None);
        restored.close().unwrap();
        verify(place.at(name), &options(), |_, _| {}).unwrap();
    }
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// Both have the id of the archive's log, but only one of them may write there.
#[test]
fn a_copy_reads_in_the_archive_and_never_writes_there() {
    let place = Place::new();
    place.write();
    copy_folder(&place.at("log"), &place.at("older"));
    let all = place.write_archived();
    adopt(place.at("older"), Adoption::Copy, &options()).unwrap();
    let older = Log::open(place.at("older"), options()).unwrap();
    let error = archive(&older, &place.at("archive"), ArchiveLimit::All).unwrap_err();
    assert!(error.to_string().contains("another copy"), "{error}");
    drop(older);
    for (name, adoption) in
        [("copy", Adoption::Copy), ("replica", Adoption::Replica), ("moved", Adoption::Moved)]
    {
        let dir = place.at(name);
        copy_folder(&place.at("log"), &dir);
        adopt(&dir, adoption, &options()).unwrap();
        let reader = ReadOnlyLog::open(&dir, options()).unwrap();
        let read = reader.blocking().read(&Filter::everything(), Read::all()).unwrap();
        assert_eq!(read.get(0).unwrap().payload(), all[0]);
        if adoption == Adoption::Replica {
            continue;
        }
        let log = Log::open(&dir, options()).unwrap();
        append(&log, 60);
        assert_eq!(payloads(&log)[..all.len()], all);
        let archived = archive(&log, &place.at("archive"), ArchiveLimit::Upto(Position::new(9)));
        match adoption {
            Adoption::Moved => drop(archived.unwrap()),
            _ => {
                let error = archived.unwrap_err();
                assert!(error.to_string().contains("is a copy of"), "{error}");
            }
        }
        log.close().unwrap();
        verify(&dir, &options(), |_, _| {}).unwrap();
    }
    // If both go on as the log, the second one does not touch what the first one archived.
    let moved = Log::open(place.at("moved"), options()).unwrap();
    archive(&moved, &place.at("archive"), ArchiveLimit::All).unwrap();
    let (files, log) = (place.segments("archive"), place.open());
    append(&log, 60);
    let error = archive(&log, &place.at("archive"), ArchiveLimit::All).unwrap_err();
    assert!(error.to_string().contains("another copy"), "{error}");
    assert_eq!(place.segments("archive"), files);
    log.close().unwrap();
    verify(place.at("log"), &options(), |_, _| {}).unwrap();
}

#[test]
fn an_archive_is_not_taken_for_a_log() {
    let place = Place::new();
    place.write_archived();
    let dir = place.at("archive");
    let refused = [
        Log::open(&dir, options()).map(drop).unwrap_err(),
        ReadOnlyLog::open(&dir, options()).map(drop).unwrap_err(),
        Follower::open(&dir, Position::START, options()).map(drop).unwrap_err(),
        adopt(&dir, Adoption::Copy, &options()).map(drop).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, OpenError::Archive { .. }), "{error:?}");
    }
    let log = place.open();
    archive(&log, &dir, ArchiveLimit::All).unwrap();
}

#[test]
fn an_archived_segment_is_never_clustered() {
    let place = Place::new();
    let unclustered = LogOptions { clustering: Clustering::Off, ..options() };
    let log = Log::open(place.at("log"), unclustered).unwrap();
    append(&log, 300);
    let all = payloads(&log);
    archive(&log, &place.at("archive"), ArchiveLimit::KeepSegments(4)).unwrap();
    let contents = |of: &str| -> Vec<Vec<u8>> {
        let dir = place.at(of).join("segments");
        place.segments(of).iter().map(|name| fs::read(dir.join(name)).unwrap()).collect()
    };
    let (archived, kept) = (contents("archive"), contents("log"));
    log.blocking().cluster().unwrap();
    assert_eq!(contents("archive"), archived);
    assert_ne!(contents("log"), kept, "those that stay are clustered");
    assert_eq!(payloads(&log), all);
    log.close().unwrap();
    let log = place.open();
    append(&log, 30);
    assert_eq!(contents("archive"), archived);
    log.close().unwrap();
    verify(place.at("log"), &options(), |_, _| {}).unwrap();
}

#[test]
fn reads_commits_and_followers_go_on_while_segments_are_archived() {
    const ROUNDS: usize = 12;
    let place = Place::new();
    place.write();
    let threads = LogOptions { background: Background::Threads, ..options() };
    let log = Log::open(place.at("log"), threads.clone()).unwrap();
    let is_done = AtomicBool::new(false);
    let check = |store: &dyn Fn(Position) -> (Vec<u64>, Position)| {
        while !is_done.load(Ordering::Relaxed) {
            let mut after = Position::START;
            for _ in 0..40 {
                let (found, upto) = store(after);
                let expected: Vec<_> = (after.get() + 1..=upto.get()).collect();
                assert_eq!(found, expected);
                after = upto;
            }
        }
    };
    let positions = |batch: diptych_store::Batch| {
        let found = batch.iter().map(|event| event.position().get()).collect();
        (found, batch.upto())
    };
    let everything = Filter::everything();
    thread::scope(|scope| {
        scope.spawn(|| {
            check(&|after| positions(log.blocking().read(&everything, Read::after(after)).unwrap()))
        });
        scope.spawn(|| {
            let reader = ReadOnlyLog::open(place.at("log"), threads.clone()).unwrap();
            check(&|after| {
                positions(reader.blocking().read(&everything, Read::after(after)).unwrap())
            })
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                followed(&place.at("log"));
            }
        });
        // Also if a check fails: the scope waits for the threads.
        let _done = SetOnDrop(&is_done);
        for round in 0..ROUNDS {
            append(&log, 20);
            let keep = (ROUNDS - round) as u32;
            archive(&log, &place.at("archive"), ArchiveLimit::KeepSegments(keep)).unwrap();
        }
    });
    log.close().unwrap();
    let verified = verify(place.at("log"), &options(), |_, _| {}).unwrap();
    assert_eq!(verified.events, 600 + 40 * ROUNDS as u64);
}

pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The stub of such a segment has all of it. Once, a verification took these bytes for those of the
/// archived file.
#[test]
fn another_file_in_the_place_of_an_archived_segment_without_events_is_damage() {
    let place = Place::new();
    let log = LogOptions { time: TimeSource::Caller, ..options() };
    let log = Log::open(place.at("log"), log).unwrap();
    // The first segment has only times from its begin on.
    let mut early = Append::event(RawEvent::new("counted", "early"));
    early.recorded_at = Some(Timestamp::from_micros(0));
    log.blocking().commit(early).unwrap();
    log.close().unwrap();
    let log = place.open();
    append(&log, 30);
    archive(&log, &place.at("archive"), ArchiveLimit::All).unwrap();
    let name = place.segments("archive").remove(0);
    let path = place.at("archive").join("segments").join(name);
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.len() < 100, "{} bytes", bytes.len());
    log.close().unwrap();
    let verified = || verify(place.at("log"), &options(), |_, _| {}).map(|report| report.events);
    let scrubbed = || {
        let rate = 1 << 30;
        scrub(place.at("log"), &options(), rate, |_, _| {}).map(|report| report.events)
    };
    assert_eq!((verified().unwrap(), scrubbed().unwrap()), (61, 61));

    let other = fs::read(place.at("archive").join("segments").join(&place.segments("archive")[1]));
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    for wrong in [changed, other.unwrap(), Vec::new()] {
        fs::write(&path, &wrong).unwrap();
        for found in [verified(), scrubbed()] {
            let Err(VerifyError::Damaged(damage)) = found else {
                panic!("{} bytes are taken for the segment: {found:?}", wrong.len())
            };
            let name = path.file_name().unwrap();
            assert!(damage.iter().any(|found| found.file.ends_with(name)), "{damage:?}");
        }
        let refused = bring_back_archive(place.at("log"), &options(), |_, _| {}).unwrap_err();
        assert!(refused.to_string().contains("00000001-"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), wrong, "it may be of another copy of the log");
        let target = place.at("backup");
        let backup = backup(place.at("log"), &target, &BackupOptions::default(), |_, _| {});
        assert!(backup.unwrap_err().to_string().contains("00000001-"));
        fs::remove_dir_all(target).unwrap();
    }
    fs::write(&path, &bytes).unwrap();
    assert_eq!((verified().unwrap(), scrubbed().unwrap()), (61, 61));
}

#[test]
fn a_log_with_nothing_to_archive_gets_no_archive() {
    let place = Place::new();
    let log = place.open();
    log.blocking().commit(Append::event(RawEvent::new("opened", "1"))).unwrap();
    let report = archive(&log, &place.at("archive"), ArchiveLimit::All).unwrap();
    assert_eq!((report.moved, report.archived, report.upto), (0, 0, Position::START));
    assert!(!place.at("archive").exists());
}
