//! A log knows its identity, its place, and up to where it was durable. An open notices files that
//! are missing together, that are of another log, or that are of another time. A copy of a folder
//! takes no commits until a person says what it is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use diptych_log::{
    Adoption, Background, BackupOptions, Durability, Follower, Log, LogOptions, OpenError,
    PlacePolicy, ReadOnlyLog, Tuning, VerifyError, adopt, backup,
    disk::{
        Disk,
        simulated::{Fault, Operation, SimulatedDisk},
    },
    restore, verify,
};
use diptych_store::{Append, EventStore, Filter, LogIdentity, Position, RawEvent, Read};

use crate::{
    cluster::is_clustered,
    forgetful::{Forgetful, Forgotten},
    log_files::{FOLDER, Files, disk_of, is, with},
};

const HOUR: Durability = Durability::Interval { interval: Duration::from_secs(3_600) };

fn options(disk: &SimulatedDisk) -> LogOptions {
    LogOptions {
        segment_bytes: 1024,
        index_bytes: 400,
        background: Background::Inline,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

fn append(log: &Log, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let event = RawEvent::new("counted", number.to_string());
        log.blocking().commit(Append::event(event)).unwrap();
    }
}

fn numbers(log: &Log) -> Vec<u64> {
    let batch = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
    batch.iter().map(|event| str::from_utf8(event.payload()).unwrap().parse().unwrap()).collect()
}

/// Writes a log with this number of events, and closes or kills it.
fn log_of(options: LogOptions, events: u64, closes: bool) -> LogIdentity {
    let log = Log::open(FOLDER, options).unwrap();
    append(&log, 1..events + 1);
    let identity = log.identity();
    if closes {
        log.close().unwrap();
    } else {
        std::mem::forget(log);
    }
    identity
}

fn segments(files: &Files) -> Vec<usize> {
    (0..files.len()).filter(|at| is(&files[*at].0, ".seg")).collect()
}

/// The problem that an open and a verification both report.
fn damage(disk: &SimulatedDisk) -> String {
    let verified = verify(FOLDER, &options(disk), |_, _| ());
    assert!(
        matches!(verified, Err(VerifyError::Damaged(_) | VerifyError::Open(OpenError::Corrupt(_)))),
        "{verified:?}"
    );
    let to = BackupOptions { disk: Arc::new(disk.clone()), ..BackupOptions::default() };
    let copied = backup(FOLDER, "/data/backup", &to, |_, _| ());
    assert!(copied.is_err(), "{copied:?}");
    match Log::open(FOLDER, options(disk)) {
        Err(OpenError::Corrupt(corruption)) => corruption.to_string(),
        other => panic!("the open does not report damage: {other:?}"),
    }
}

/// Once, an open took this log for a shorter one that is whole.
#[test]
fn a_missing_newest_segment_is_noticed_even_without_published_head_and_index() {
    for (durability, closes) in
        [(Durability::Synced, true), (Durability::Synced, false), (HOUR, true), (HOUR, false)]
    {
        let disk = SimulatedDisk::new(1);
        log_of(LogOptions { durability, ..options(&disk) }, 200, closes);
        let mut files = disk.process_kill().contents();
        let newest = *segments(&files).last().unwrap();
        let name = files[newest].0.file_stem().unwrap().to_str().unwrap().to_owned();
        let base: u64 = name.split_once('-').unwrap().1.parse().unwrap();
        files.remove(newest);
        files.retain(|(path, _)| !is(path, "/head") && !is(path, ".run") && !is(path, ".group"));
        let problem = damage(&disk_of(&files));
        let expected = format!("events from position {base} to at least");
        assert!(problem.contains(&expected) && problem.contains("manifest"), "{problem}");
    }
}

/// An older program finds such a folder after a newer one has appended to it.
#[test]
fn a_file_of_a_newer_format_is_refused_by_its_name_and_stays() {
    let disk = SimulatedDisk::new(1);
    log_of(options(&disk), 50, true);
    let files = disk.contents();
    let newest = *segments(&files).last().unwrap();
    let mut newer = files[newest].1.clone();
    newer[8..10].copy_from_slice(&3_u16.to_le_bytes());
    let checksum = crc32c::crc32c(&newer[..60]);
    newer[60..64].copy_from_slice(&checksum.to_le_bytes());
    let disk = disk_of(&with(&files, newest, &newer));
    let before = disk.contents();
    let name = files[newest].0.display().to_string();
    let expected =
        format!("{name} has format 3, newer than this program reads: use a newer version");
    let opened = Log::open(FOLDER, options(&disk)).unwrap_err();
    assert!(matches!(opened, OpenError::Newer { .. }));
    assert_eq!(opened.to_string(), expected);
    let verified = verify(FOLDER, &options(&disk), |_, _| ()).unwrap_err();
    assert!(verified.to_string().contains(&expected), "{verified}");
    let read = ReadOnlyLog::open(FOLDER, options(&disk)).unwrap_err();
    assert!(read.to_string().contains(&expected), "{read}");
    assert_eq!(disk.contents(), before);
}

/// The segment before the newest of those that are left is clustered, so it does not end with the
/// records that the next one continues. An open must not take it for one of another log.
#[test]
fn a_missing_newest_segment_after_clustered_ones_is_named() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    append(&log, 1..201);
    log.blocking().cluster().unwrap();
    log.close().unwrap();
    let mut files = disk.process_kill().contents();
    files.remove(*segments(&files).last().unwrap());
    files.retain(|(path, _)| !is(path, "/head") && !is(path, ".run") && !is(path, ".group"));
    let left = segments(&files);
    assert!(is_clustered(&files[left[left.len() - 2]].1));
    let problem = damage(&disk_of(&files));
    assert!(problem.contains("events from position"), "{problem}");
}

/// An index file says up to where its segment was durable. One batch has one frame that says the
/// same, at its beginning. So damage in the batch looks like a commit that was never finished.
#[test]
fn damage_before_the_end_that_only_an_index_file_proves_is_noticed() {
    let disk = SimulatedDisk::new(1);
    let tuning = Tuning { prepared_bytes: 0, ..Tuning::default() };
    let whole = LogOptions { segment_bytes: 1 << 20, tuning, ..options(&disk) };
    let log = Log::open(FOLDER, whole).unwrap();
    append(&log, 1..2);
    let segment = |files: &Files| files.iter().find(|(path, _)| is(path, ".seg")).unwrap().1.len();
    let batch = segment(&disk.contents());
    for number in 2..40_u64 {
        let event = RawEvent::new("counted", number.to_string());
        let _ = log.blocking().append(Append::event(event)).unwrap();
    }
    log.blocking().flush().unwrap();
    let mut files = disk.process_kill().contents();
    // The first index file would show where the damaged records begin.
    files.retain(|(path, _)| !is(path, "/head"));
    let indexes = (0..files.len()).filter(|at| is(&files[*at].0, ".run"));
    let indexes: Vec<_> = indexes.collect();
    assert!(indexes.len() > 1, "{indexes:?}");
    files.remove(indexes[0]);
    let segment = files.iter_mut().find(|(path, _)| is(path, ".seg")).unwrap();
    segment.1[batch + 100] ^= 1;
    let problem = damage(&disk_of(&files));
    assert!(problem.contains("were durable and are gone"), "{problem}");
}

/// A segment that holds commits has a header that was durable before them.
#[test]
fn a_damaged_header_of_the_only_segment_is_noticed_without_anything_else() {
    let disk = SimulatedDisk::new(1);
    log_of(options(&disk), 3, false);
    let mut files = disk.process_kill().contents();
    files.retain(|(path, _)| !is(path, "/head") && !is(path, ".run"));
    let only = segments(&files)[0];
    files[only].1[20] ^= 1;
    let disk = disk_of(&files);
    let problem = damage(&disk);
    assert!(problem.contains("the header of the segment is damaged"), "{problem}");
    assert!(disk.contents().contains(&files[only]), "the segment is still there");
}

/// Index files alone prove that there was a log: no new one takes their folder.
#[test]
fn a_folder_that_lost_everything_but_its_index_files_gets_no_new_log() {
    let disk = SimulatedDisk::new(1);
    log_of(options(&disk), 60, true);
    let mut files = disk.contents();
    files.retain(|(path, _)| is(path, ".run"));
    assert!(files.len() > 1, "{files:?}");
    let disk = disk_of(&files);
    let error = Log::open(FOLDER, options(&disk)).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("segment 1 is missing"), "{error}");
    let mut left = disk.contents();
    left.retain(|(path, _)| !is(path, "/lock"));
    assert_eq!(left, files, "nothing was changed");
}

/// Once, a log of one segment took the identity of any segment that replaced it.
#[test]
fn an_only_segment_of_another_log_is_reported_as_damage_with_its_name() {
    let disks = [1, 2].map(SimulatedDisk::new);
    let of = disks.each_ref().map(|disk| log_of(options(disk), 3, true));
    let [ours, theirs] = disks.map(|disk| disk.contents());
    let with_theirs: Files = ours
        .into_iter()
        .filter(|(path, _)| !is(path, "/head") && !is(path, ".run"))
        .map(|(path, bytes)| match is(&path, ".seg") {
            true => {
                (path.clone(), theirs.iter().find(|(name, _)| *name == path).unwrap().1.clone())
            }
            false => (path, bytes),
        })
        .collect();
    let problem = damage(&disk_of(&with_theirs));
    assert!(problem.contains("00000001-00000000000000000001.seg"), "{problem}");
    assert!(problem.contains(&of[0].id.to_string()), "{problem}");
    assert!(problem.contains(&of[1].id.to_string()), "{problem}");
}

/// The last two segments are from a copy that continued with other events. They fit each other, but
/// not the manifest.
#[test]
fn the_last_two_segments_of_a_copy_are_noticed() {
    let disk = SimulatedDisk::new(1);
    log_of(options(&disk), 20, true);
    let common = disk.contents();
    let gone_on = |from: u64| {
        let disk = disk_of(&common);
        let log = Log::open(FOLDER, options(&disk)).unwrap();
        append(&log, from..from + 80);
        log.close().unwrap();
        disk.contents()
    };
    let (ours, theirs) = (gone_on(100), gone_on(200));
    let seg = segments(&ours);
    assert_eq!(seg.len(), segments(&theirs).len());
    let common_to_both = segments(&common).len();
    assert!(seg.len() > common_to_both + 1, "they differ in more than one segment");
    let mut mixed = ours.clone();
    for at in &seg[common_to_both - 1..] {
        let (path, _) = &ours[*at];
        let theirs = theirs.iter().find(|(name, _)| name == path).unwrap();
        mixed[*at] = theirs.clone();
    }
    mixed.retain(|(path, _)| !is(path, ".run") && !is(path, ".group") && !is(path, "/head"));
    let problem = damage(&disk_of(&mixed));
    assert!(problem.contains("that the manifest knows"), "{problem}");
}

#[test]
fn a_log_without_its_manifest_is_damaged_until_it_is_adopted_as_a_copy() {
    let disk = SimulatedDisk::new(1);
    let was = log_of(options(&disk), 60, true);
    for damaged in [false, true] {
        let mut files = disk.contents();
        let at = files.iter().position(|(path, _)| is(path, "/manifest")).unwrap();
        if damaged {
            files[at].1[30] ^= 1;
        } else {
            files.remove(at);
        }
        let disk = disk_of(&files);
        let problem = damage(&disk);
        assert!(problem.contains("adopt --copy"), "{problem}");
        for adoption in [Adoption::Moved, Adoption::Replica] {
            assert!(matches!(adopt(FOLDER, adoption, &options(&disk)), Err(OpenError::Corrupt(_))));
        }
        let report = adopt(FOLDER, Adoption::Copy, &options(&disk)).unwrap();
        assert_eq!((report.identity.id, report.upto.get()), (was.id, 60));
        assert_eq!(report.identity.epoch.number(), was.epoch.number() + 1);
        verify(FOLDER, &options(&disk), |_, _| ()).unwrap();
        let log = Log::open(FOLDER, options(&disk)).unwrap();
        assert_eq!((log.identity(), numbers(&log)), (report.identity, (1..61).collect()));
    }
}

/// A temporary folder on the real disk.
struct Folder(tempfile::TempDir);

impl Folder {
    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A log of 40 events in the folder `log`.
    fn new() -> (Folder, LogIdentity) {
        let folder = Folder(tempfile::tempdir().unwrap());
        let log = Log::open(folder.at("log"), real()).unwrap();
        append(&log, 1..41);
        let identity = log.identity();
        log.close().unwrap();
        (folder, identity)
    }

    fn copy(&self, from: &str, to: &str) {
        let copied = Command::new("cp").arg("-a").args([self.at(from), self.at(to)]).status();
        assert!(copied.unwrap().success());
    }
}

fn real() -> LogOptions {
    LogOptions { segment_bytes: 2048, index_bytes: 800, ..LogOptions::default() }
}

fn is_moved(opened: Result<Log, OpenError>) -> bool {
    match opened {
        Err(error @ OpenError::Moved { .. }) => {
            assert!(error.to_string().contains("diptych adopt --moved"), "{error}");
            true
        }
        Ok(_) => false,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_renamed_folder_keeps_its_place_and_a_copy_has_another() {
    let (folder, identity) = Folder::new();
    folder.copy("log", "copy");
    fs::rename(folder.at("log"), folder.at("renamed")).unwrap();
    let log = Log::open(folder.at("renamed"), real()).unwrap();
    assert_eq!((log.identity(), numbers(&log).len()), (identity, 40));
    log.close().unwrap();
    let before = fs::read(folder.at("copy/manifest")).unwrap();
    assert!(is_moved(Log::open(folder.at("copy"), real())));
    assert_eq!(fs::read(folder.at("copy/manifest")).unwrap(), before, "nothing was changed");
    // A copy can be read, verified, followed, backed up and restored.
    assert_eq!(verify(folder.at("copy"), &real(), |_, _| ()).unwrap().events, 40);
    let mut follower = Follower::open(folder.at("copy"), Position::START, real()).unwrap();
    assert_eq!(follower.next(&Filter::everything(), 100).unwrap().len(), 40);
    let copied =
        backup(folder.at("copy"), folder.at("backup"), &BackupOptions::default(), |_, _| ());
    assert_eq!(copied.unwrap().upto.get(), 40);
    restore(folder.at("copy"), folder.at("restored"), &real(), |_, _| ()).unwrap();
    // A copy that takes the path of the log is still a copy.
    fs::rename(folder.at("copy"), folder.at("log")).unwrap();
    assert!(is_moved(Log::open(folder.at("log"), real())));
}

#[test]
fn a_copy_is_adopted_as_the_log_as_a_copy_or_as_a_replica() {
    let (folder, identity) = Folder::new();
    for name in ["moved", "one", "other", "replica", "volume"] {
        folder.copy("log", name);
    }
    let adopted = adopt(folder.at("moved"), Adoption::Moved, &real()).unwrap();
    assert_eq!((adopted.identity, adopted.upto.get()), (identity, 40));
    let copies = ["one", "other"].map(|name| {
        let adopted = adopt(folder.at(name), Adoption::Copy, &real()).unwrap();
        assert_eq!(adopted.identity.id, identity.id);
        assert_eq!(adopted.identity.epoch.number(), identity.epoch.number() + 1);
        adopted.identity
    });
    assert_ne!(copies[0], copies[1], "two adopted copies have different epochs");
    for (name, identity) in [("moved", identity), ("one", copies[0]), ("other", copies[1])] {
        let log = Log::open(folder.at(name), real()).unwrap();
        assert_eq!((log.identity(), numbers(&log).len()), (identity, 40), "{name}");
        append(&log, 41..60);
        log.close().unwrap();
        assert_eq!(verify(folder.at(name), &real(), |_, _| ()).unwrap().events, 59);
    }
    let follow = LogOptions { place: PlacePolicy::Follow, ..real() };
    let log = Log::open(folder.at("volume"), follow).unwrap();
    assert_eq!(log.identity(), identity);
    log.close().unwrap();
    Log::open(folder.at("volume"), real()).unwrap();

    adopt(folder.at("replica"), Adoption::Replica, &real()).unwrap();
    let refused = Log::open(folder.at("replica"), real()).unwrap_err();
    assert!(matches!(refused, OpenError::Replica { .. }), "{refused}");
    assert!(refused.to_string().contains("is a replica"), "{refused}");
    assert_eq!(verify(folder.at("replica"), &real(), |_, _| ()).unwrap().events, 40);
    // A replica that is adopted as moved stays a replica.
    adopt(folder.at("replica"), Adoption::Moved, &real()).unwrap();
    assert!(matches!(Log::open(folder.at("replica"), real()), Err(OpenError::Replica { .. })));
    adopt(folder.at("replica"), Adoption::Copy, &real()).unwrap();
    append(&Log::open(folder.at("replica"), real()).unwrap(), 41..42);
    // A backup cannot be adopted, and neither can a missing folder.
    backup(folder.at("log"), folder.at("backup"), &BackupOptions::default(), |_, _| ()).unwrap();
    let refused = adopt(folder.at("backup"), Adoption::Moved, &real()).unwrap_err();
    assert!(matches!(refused, OpenError::Backup { .. }), "{refused}");
    adopt(folder.at("nothing"), Adoption::Moved, &real()).unwrap_err();
    assert!(!folder.at("nothing").exists());
}

/// Once, only a loss of power began a new epoch. The image of a disk that was mounted again had
/// lost acknowledged commits, and the log continued in the same epoch.
#[test]
fn commits_that_may_be_lost_change_the_epoch_even_if_only_the_storage_failed() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new(seed);
        let log = Log::open(FOLDER, LogOptions { durability: HOUR, ..options(&disk) }).unwrap();
        append(&log, 1..30);
        let was = log.identity();
        std::mem::forget(log);
        let follow = |disk: &SimulatedDisk| LogOptions {
            durability: HOUR,
            place: PlacePolicy::Follow,
            ..options(disk)
        };
        let identity = |disk: SimulatedDisk| Log::open(FOLDER, follow(&disk)).unwrap().identity();
        assert_eq!(identity(disk.process_kill()), was, "nothing can be lost");
        for lossy in [disk.power_loss(seed), disk.storage_loss(seed), disk.copy_to_another()] {
            assert_eq!(identity(lossy).epoch.number(), was.epoch.number() + 1);
        }
        // The epoch also changes if a user adopts the copy as the log itself.
        let copy = disk.copy_to_another();
        assert!(is_moved(Log::open(FOLDER, options(&copy))));
        adopt(FOLDER, Adoption::Moved, &options(&copy)).unwrap();
        assert_eq!(identity(copy).epoch.number(), was.epoch.number() + 1);
    }
    for durability in [Durability::Synced, HOUR] {
        let disk = SimulatedDisk::new(1);
        let was = log_of(LogOptions { durability, ..options(&disk) }, 30, durability == HOUR);
        for whole in [disk.power_loss(7), disk.storage_loss(7)] {
            let log = Log::open(FOLDER, options(&whole)).unwrap();
            assert_eq!(log.identity(), was, "closed, or synced: nothing can be lost");
        }
    }
}

/// A copy of an open log may lack commits, although the machine and its disk are those that it was
/// written with.
#[test]
fn a_copy_of_an_open_log_on_the_disk_of_the_log_has_a_new_epoch() {
    let (folder, _) = Folder::new();
    let follow = LogOptions { durability: HOUR, place: PlacePolicy::Follow, ..real() };
    let log = Log::open(folder.at("log"), follow.clone()).unwrap();
    append(&log, 41..50);
    ["followed", "adopted"].into_iter().for_each(|name| folder.copy("log", name));
    adopt(folder.at("adopted"), Adoption::Moved, &follow).unwrap();
    for (name, options) in [("followed", follow), ("adopted", real())] {
        let copy = Log::open(folder.at(name), options).unwrap();
        assert_eq!(copy.identity().id, log.identity().id, "{name}");
        assert_eq!(copy.identity().epoch.number(), log.identity().epoch.number() + 1, "{name}");
        copy.close().unwrap();
    }
    log.close().unwrap();
}

/// Other processes read the published head. Once, the log wrote it after it had acknowledged
/// commits, so a reader could miss them.
#[test]
fn a_commit_is_published_to_other_processes_before_it_is_acknowledged() {
    let disk = SimulatedDisk::new(1);
    let (open, seen) = (Arc::new(OnceLock::<Log>::new()), Arc::new(Mutex::new(Vec::new())));
    let hook = {
        let (open, seen) = (open.clone(), seen.clone());
        move || {
            let published = open.get().map(|log| log.head().position().get());
            seen.lock().unwrap().extend(published);
        }
    };
    let hooked = Forgetful::new(&disk, FOLDER, Forgotten::Nothing).on_head(hook);
    let log = Log::open(FOLDER, LogOptions { disk: Arc::new(hooked), ..options(&disk) }).unwrap();
    open.set(log.clone()).unwrap();
    append(&log, 1..20);
    assert_eq!(*seen.lock().unwrap(), (0..19).collect::<Vec<_>>());
}

/// The manifest names the run of the machine. This is the only proof that commits may be lost.
#[test]
fn an_interrupted_open_does_not_forget_that_commits_may_be_lost() {
    let disk = SimulatedDisk::new(1);
    let was = log_of(LogOptions { durability: HOUR, ..options(&disk) }, 30, false);
    let open =
        |disk: &SimulatedDisk| Log::open(FOLDER, LogOptions { durability: HOUR, ..options(disk) });
    let run = |disk: &SimulatedDisk| open(disk).map(std::mem::forget);
    for seed in 0..3 {
        at_every_operation(&disk.storage_loss(seed), run, |disk, _, when| {
            let log = open(disk).unwrap_or_else(|error| panic!("{when}: {error}"));
            assert!(log.identity().epoch.number() > was.epoch.number(), "{when}");
        });
    }
}

/// Runs `run` on copies of a disk and stops it at each of its operations. After each stop the
/// process is killed or the power is lost, and `check` looks at the disk.
fn at_every_operation(
    from: &SimulatedDisk,
    run: impl Fn(&SimulatedDisk) -> Result<(), OpenError>,
    check: impl Fn(&SimulatedDisk, bool, &str),
) {
    let whole = from.process_kill();
    run(&whole).unwrap();
    for at in 0..=whole.operations() {
        let disk = from.process_kill();
        disk.fail_after(at, Fault::Stop);
        let outcome = run(&disk);
        let done = outcome.is_ok() && !disk.is_stopped();
        let when = format!("operation {at}: {:?}, {outcome:?}", disk.failures());
        check(&disk.process_kill(), done, &format!("{when}, process killed"));
        for seed in 0..3 {
            check(&disk.power_loss(at * 31 + seed), done, &format!("{when}, power lost"));
        }
    }
    // Operations that fail without a crash.
    for operation in Operation::ALL {
        for at in 0..whole.operations() {
            let disk = from.process_kill();
            disk.fail_after(at, Fault::Io(operation));
            let done = run(&disk).is_ok();
            disk.disarm();
            let when = format!("{operation:?} fails after {at}");
            check(&disk.process_kill(), done, &when);
        }
    }
}

#[test]
fn an_adoption_that_stops_anywhere_is_done_or_can_be_repeated() {
    let disk = SimulatedDisk::new(1);
    let was = log_of(options(&disk), 30, false);
    let copy = disk.copy_to_another();
    for adoption in [Adoption::Moved, Adoption::Copy, Adoption::Replica] {
        let run = |disk: &SimulatedDisk| adopt(FOLDER, adoption, &options(disk)).map(drop);
        at_every_operation(&copy, run, |disk, done, when| {
            let what = format!("{adoption:?}, {when}");
            let opened = Log::open(FOLDER, options(disk));
            match &opened {
                Ok(_) => assert!(adoption != Adoption::Replica, "{what}"),
                Err(OpenError::Replica { .. }) => assert_eq!(adoption, Adoption::Replica, "{what}"),
                Err(OpenError::Moved { .. }) => assert!(!done, "{what}: the adoption is lost"),
                Err(other) => panic!("{what}: {other}"),
            }
            drop(opened);
            adopt(FOLDER, adoption, &options(disk)).unwrap_or_else(|e| panic!("{what}: {e}"));
            if adoption == Adoption::Replica {
                return;
            }
            let log = Log::open(FOLDER, options(disk)).unwrap();
            assert_eq!(numbers(&log), (1..31).collect::<Vec<_>>(), "{what}");
            let newer = log.identity().epoch.number() > was.epoch.number();
            assert_eq!(newer, adoption == Adoption::Copy, "{what}");
            log.close().unwrap();
            verify(FOLDER, &options(disk), |_, _| ())
                .unwrap_or_else(|error| panic!("{what}: {error:?}"));
        });
    }
}

/// A log of format 1, as an earlier version wrote it.
fn sample() -> SimulatedDisk {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/format-1-checksums");
    let mut files = Files::new();
    for folder in ["", "segments", "index"] {
        for entry in fs::read_dir(from.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let to = Path::new(FOLDER).join(path.strip_prefix(&from).unwrap());
                files.push((to, fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    disk_of(&files).copy_to_another()
}

fn formats(disk: &SimulatedDisk) -> Vec<u8> {
    let files = disk.contents();
    let seg = files.iter().filter(|(path, _)| is(path, ".seg"));
    seg.filter_map(|(_, bytes)| bytes.get(8).copied()).collect()
}

/// An open that can append continues a log of format 1 in a segment of format 2, which older
/// programs refuse. Verifications, backups and followers leave the log as it is.
#[test]
fn a_log_of_format_1_is_migrated_by_the_first_open() {
    let disk = sample();
    let before = disk.contents();
    let events = verify(FOLDER, &options(&disk), |_, _| ()).unwrap().events;
    Follower::open(FOLDER, Position::START, options(&disk)).unwrap();
    let without_lock = |files: Files| -> Files {
        files.into_iter().filter(|(path, _)| !is(path, "/lock")).collect()
    };
    assert_eq!(without_lock(disk.contents()), before, "nothing was changed");
    let to = BackupOptions { disk: Arc::new(disk.clone()), ..BackupOptions::default() };
    backup(FOLDER, "/data/backup", &to, |_, _| ()).unwrap();
    assert!(formats(&disk).iter().all(|format| *format == 1));

    // The log may also have synced at intervals and not been closed: then it has the file
    // `interval`.
    for boot in [None, Some("boot 1"), Some("boot 0")] {
        let disk = disk_of(&before);
        if let Some(boot) = boot {
            let mark = disk.create(&Path::new(FOLDER).join("interval"), 0).unwrap();
            mark.write_at(0, boot.as_bytes()).unwrap();
        }
        let log = Log::open(FOLDER, options(&disk)).unwrap();
        assert_eq!(log.head().position().get(), events);
        let lossy = boot == Some("boot 0");
        assert_eq!(log.identity().epoch.number(), 1 + u32::from(lossy), "{boot:?}");
        log.close().unwrap();
        assert_eq!(formats(&disk).last(), Some(&2));
        let has = |name| disk.contents().iter().any(|(path, _)| is(path, name));
        assert!(has("/manifest") && !has("/interval"));
        let was = formats(&disk).len();
        Log::open(FOLDER, options(&disk)).unwrap().close().unwrap();
        assert_eq!(formats(&disk).len(), was, "once");
        assert_eq!(verify(FOLDER, &options(&disk), |_, _| ()).unwrap().events, events);
    }
}

#[test]
fn a_migration_that_stops_anywhere_is_completed_by_the_next_open() {
    let disk = sample();
    let events = verify(FOLDER, &options(&disk), |_, _| ()).unwrap().events;
    let run = |disk: &SimulatedDisk| Log::open(FOLDER, options(disk)).map(std::mem::forget);
    at_every_operation(&disk, run, |disk, done, when| {
        let migrated = formats(disk).last() == Some(&2);
        assert!(migrated || !done, "{when}");
        let log = Log::open(FOLDER, options(disk)).unwrap_or_else(|e| panic!("{when}: {e}"));
        assert_eq!(log.head().position().get(), events, "{when}");
        assert_eq!(log.identity().epoch.number(), 1, "{when}");
        assert_eq!(formats(disk).last(), Some(&2), "{when}");
        // This rebuilds index files that were torn.
        let paid = "type=paid".parse().unwrap();
        assert!(!log.blocking().read(&paid, Read::all()).unwrap().is_empty(), "{when}");
        log.close().unwrap();
        let verified = verify(FOLDER, &options(disk), |_, _| ());
        assert_eq!(verified.unwrap_or_else(|e| panic!("{when}: {e:?}")).events, events, "{when}");
    });
}

/// Once, the first attempt wrote the whole log but failed in its last step. The second attempt then
/// refused the folder, because a log was in it.
#[test]
fn a_restore_whose_last_step_failed_can_be_repeated() {
    let disk = SimulatedDisk::new(1);
    log_of(options(&disk), 30, true);
    let run = |disk: &SimulatedDisk| restore(FOLDER, "/data/restored", &options(disk), |_, _| ());
    let whole = disk.process_kill();
    let done = run(&whole).unwrap();
    assert!(done.copied > 0);
    let again = run(&whole).unwrap();
    assert_eq!((again.identity, again.upto, again.copied), (done.identity, done.upto, 0));
    let mut failures = 0;
    for at in 0..whole.operations() {
        let disk = disk.process_kill();
        disk.fail_after(at, Fault::Io(Operation::SyncDir));
        failures += u64::from(run(&disk).is_err());
        disk.disarm();
        let restored = run(&disk).unwrap_or_else(|error| panic!("after {at}: {error}"));
        let log = Log::open("/data/restored", options(&disk)).unwrap();
        assert_eq!((log.identity(), numbers(&log).len()), (restored.identity, 30));
        // A log that was opened since is not replaced by another restore.
        drop(log);
        assert!(run(&disk).unwrap_err().to_string().contains("is not empty"));
    }
    assert!(failures > 5, "{failures}");
}
