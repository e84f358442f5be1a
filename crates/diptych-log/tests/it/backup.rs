//! Backups and restores on real files: their content, and the calls that are refused.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use diptych_log::{
    Access, BackupError, BackupOptions, BackupReport, Follower, Log, LogOptions, OpenError,
    PlacePolicy, SealedSegments, VerifyError, backup, restore, verify,
};
use diptych_store::{
    Append, AppendError, EventStore, Filter, LogIdentity, Position, RawEvent, Read, Tag, Tracking,
    Unavailable,
};
use tempfile::TempDir;

pub(crate) fn options() -> LogOptions {
    LogOptions { segment_bytes: 2048, index_bytes: 700, ..LogOptions::default() }
}

/// Appends this number of commits, each with two events.
pub(crate) fn append(log: &Log, commits: u64) {
    for _ in 0..commits {
        let number = log.head().position().get();
        let event = |at: u64| {
            let payload = format!("event {}", number + at);
            RawEvent::new("counted", payload).tag(Tag::new("odd", number % 2))
        };
        let tracking = Tracking::new("source", number + 1);
        let events = Append::events([event(1), event(2)]);
        log.blocking().commit(events.tracking(tracking)).unwrap();
    }
}

pub(crate) fn payloads(log: &Log) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut after = Position::START;
    while after < log.head().position() {
        let batch = log.blocking().read(&Filter::everything(), Read::after(after)).unwrap();
        found.extend(batch.iter().map(|event| event.payload().to_vec()));
        after = batch.upto();
    }
    found
}

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: TempDir::new().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> Log {
        Log::open(self.at("log"), options()).unwrap()
    }

    /// Appends this number of commits to the log, and closes it.
    fn write(&self, commits: u64) -> LogIdentity {
        let log = self.log();
        append(&log, commits);
        let identity = EventStore::identity(&log);
        log.close().unwrap();
        identity
    }

    fn back_up(&self, to: &str) -> Result<BackupReport, BackupError> {
        backup(self.at("log"), self.at(to), &BackupOptions::default(), |_, _| {})
    }

    fn events(&self, dir: &str) -> u64 {
        verify(self.at(dir), &options(), |_, _| {}).unwrap().events
    }
}

/// Every file below a folder, except the lock and the index: path, inode and bytes.
pub(crate) fn files(dir: &Path) -> Vec<(PathBuf, u64, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("index") {
            found.extend(files(&path));
        } else if path.is_file() && !path.ends_with("lock") {
            let inode = fs::metadata(&path).unwrap().ino();
            found.push((path.clone(), inode, fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

fn is_target(error: &BackupError, said: &str) {
    assert!(matches!(error, BackupError::Target { .. }), "{error}");
    assert!(error.to_string().contains(said), "{said:?} is not in: {error}");
}

#[test]
fn a_backup_is_read_verified_and_followed_like_a_log_and_takes_no_commits() {
    let place = Place::new();
    let log = place.log();
    append(&log, 100);
    // The log clusters now, so that it does not change files by itself later.
    log.blocking().cluster().unwrap();
    let before = files(&place.at("log"));
    let done = place.back_up("backup").unwrap();
    assert_eq!((done.from.get(), done.upto.get()), (0, 200));
    assert_eq!(done.identity, EventStore::identity(&log));
    assert!(done.linked > 3 && done.copied == 1 && done.kept == 0, "{done:?}");
    assert_eq!(files(&place.at("log")), before, "the log is as it was");

    append(&log, 1);
    assert_eq!(place.events("backup"), 200);
    let in_backup = files(&place.at("backup"));
    for _ in 0..2 {
        let copy = Log::open(place.at("backup"), options()).unwrap();
        assert_eq!(payloads(&copy), payloads(&log)[..200]);
        assert_eq!(EventStore::identity(&copy), done.identity);
        let odd = Filter::tag(Tag::new("odd", 0));
        assert_eq!(copy.blocking().last(&odd, Position::MAX).unwrap(), Some(done.upto));
        let tracked = copy.blocking().tracked("source").unwrap().unwrap();
        assert_eq!(tracked.position.get(), 199);
        assert_eq!(copy.blocking().stats().unwrap().head, done.upto);
        let refused = copy.blocking().commit(Append::event(RawEvent::new("more", [])));
        let Err(AppendError::Unavailable(why @ Unavailable::Failed { .. })) = refused else {
            panic!("a backup was written to: {refused:?}")
        };
        assert!(why.to_string().contains("diptych restore"), "{why}");
        copy.close().unwrap();
    }
    let strict = LogOptions { access: Access::Append, ..options() };
    let refused = Log::open(place.at("backup"), strict).unwrap_err();
    assert!(matches!(refused, OpenError::Backup { .. }), "{refused}");
    assert!(refused.to_string().contains("diptych restore"), "{refused}");
    assert_eq!(files(&place.at("backup")), in_backup, "reading changes nothing");
    log.close().unwrap();
}

#[test]
fn a_repeated_backup_adds_the_new_commits() {
    let place = Place::new();
    let log = place.log();
    let mut follower = None;
    let mut followed = Vec::new();
    let mut head = 0;
    for commits in [0, 1, 0, 100, 3, 0, 200] {
        append(&log, commits);
        let done = log.backup_to(place.at("backup"), SealedSegments::Copy, |_, _| {}).unwrap();
        assert_eq!((done.from.get(), done.upto.get()), (head, head + commits * 2));
        head += commits * 2;
        assert_eq!(place.events("backup"), head);
        if commits == 0 && head > 0 {
            assert_eq!((done.copied, done.linked, done.bytes), (0, 0, 0), "{done:?}");
        }
        let open = || Follower::open(place.at("backup"), Position::START, options()).unwrap();
        let follower = follower.get_or_insert_with(open);
        while followed.len() < head as usize {
            let batch = follower.next(&Filter::everything(), 7).unwrap();
            followed.extend(batch.iter().map(|event| event.payload().to_vec()));
        }
        assert!(follower.next(&Filter::everything(), 7).unwrap().is_empty());
    }
    assert_eq!(followed, payloads(&log));
    let again = place.back_up("linked").unwrap();
    assert!(again.linked > 5, "{again:?}");
    log.close().unwrap();
    // The log may have clustered segments between the two backups, so their bytes may differ.
    for backup in ["linked", "backup"] {
        let backup = Log::open(place.at(backup), options()).unwrap();
        assert_eq!(payloads(&backup), followed);
    }
}

#[test]
fn later_writes_of_the_log_do_not_change_linked_segments() {
    let place = Place::new();
    for commits in [3, 60, 1, 100] {
        place.write(commits);
        place.back_up("backup").unwrap();
        let before = files(&place.at("backup"));
        // The log is opened again, writes to its last segment and begins more segments.
        place.write(40);
        assert_eq!(files(&place.at("backup")), before);
    }
}

#[test]
fn a_backup_of_a_log_that_is_written_to_ends_with_a_whole_commit() {
    let place = Place::new();
    let log = place.log();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                append(&log, 1);
            }
        });
        let mut upto = Position::START;
        for round in 0..30 {
            let before = log.head().position();
            let dir = place.at("backup");
            let done = match round % 2 {
                0 => log.backup_to(dir, SealedSegments::Link, |_, _| {}).unwrap(),
                _ => backup(place.at("log"), dir, &BackupOptions::default(), |_, _| {}).unwrap(),
            };
            assert!(
                done.upto >= before,
                "the backup misses commits that were published before it began"
            );
            assert!(done.upto >= upto && done.upto.get() % 2 == 0, "{done:?}");
            upto = done.upto;
            assert_eq!(place.events("backup"), upto.get());
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    log.close().unwrap();
}

#[test]
fn a_restored_log_continues_in_a_new_epoch() {
    let place = Place::new();
    let identity = place.write(50);
    place.back_up("backup").unwrap();
    place.write(10);
    let in_backup = files(&place.at("backup"));
    let restored = |to: &str| restore(place.at("backup"), place.at(to), &options(), |_, _| {});
    let (one, other) = (restored("one").unwrap(), restored("a/b/other").unwrap());
    assert_eq!(files(&place.at("backup")), in_backup);
    assert_eq!((one.backup, one.upto.get()), (identity, 100));
    assert_eq!(one.identity.id, identity.id);
    assert_eq!(one.identity.epoch.number(), identity.epoch.number() + 1);
    assert_ne!(one.identity.epoch, other.identity.epoch, "two restores are two histories");

    assert_eq!(place.events("one"), 100);
    let log = Log::open(place.at("one"), options()).unwrap();
    assert_eq!(EventStore::identity(&log), one.identity);
    append(&log, 3);
    let tracked = log.blocking().tracked("source").unwrap().unwrap();
    assert_eq!((log.head().position().get(), tracked.position.get()), (106, 105));
    log.close().unwrap();
    assert_eq!(place.events("one"), 106);
    assert_eq!(files(&place.at("backup")), in_backup);
    // The restored log now has another history than its backup.
    let mixed = backup(place.at("one"), place.at("backup"), &BackupOptions::default(), |_, _| {});
    is_target(&mixed.unwrap_err(), "is a backup of");
    // The log that was backed up keeps its identity.
    assert_eq!(EventStore::identity(&place.log()), identity);
}

/// A restore also works from an empty log, from an open log, and from a log with several epochs.
#[test]
fn every_log_can_be_restored() {
    let place = Place::new();
    let log = place.log();
    let again = |from: &str, to: &str| restore(place.at(from), place.at(to), &options(), |_, _| {});
    again("log", "empty").unwrap();
    assert_eq!(place.events("empty"), 0);
    append(&log, 40);
    assert_eq!(again("log", "0").unwrap().upto.get(), 80);
    for n in 0..3 {
        let (from, to) = (n.to_string(), (n + 1).to_string());
        let log = Log::open(place.at(&from), options()).unwrap();
        append(&log, 20);
        log.close().unwrap();
        let copy = format!("backup of {from}");
        let into = place.at(&copy);
        backup(place.at(&from), into, &BackupOptions::default(), |_, _| {}).unwrap();
        let restored = again(&copy, &to).unwrap();
        assert_eq!(restored.identity.epoch.number(), n + 3);
        assert_eq!(place.events(&to), 80 + 40 * (u64::from(n) + 1));
    }
    log.close().unwrap();
}

#[test]
fn a_folder_that_is_not_a_backup_of_this_log_is_refused_and_not_changed() {
    let place = Place::new();
    place.write(20);
    place.back_up("backup").unwrap();
    let before = || files(place.dir.path());
    let refuse = |to: &str, said: &str| {
        let was = before();
        is_target(&place.back_up(to).unwrap_err(), said);
        assert_eq!(before(), was, "{to}");
        let restored = restore(place.at("log"), place.at(to), &options(), |_, _| {});
        assert!(matches!(restored, Err(BackupError::Target { .. })), "{to}: {restored:?}");
        assert_eq!(before(), was, "{to}");
    };
    for inside in ["log", "log/backup", "log/segments/x", "log/../log", "backup/../log/x/y"] {
        refuse(inside, "from which it would be copied");
    }
    fs::create_dir(place.at("photos")).unwrap();
    fs::write(place.at("photos/cat.jpeg"), "cat").unwrap();
    refuse("photos", "there is cat.jpeg");
    let other = Log::open(place.at("other"), options()).unwrap();
    append(&other, 1);
    other.close().unwrap();
    refuse("other", "is not empty");
    fs::create_dir(place.at("elsewhere")).unwrap();
    backup(place.at("other"), place.at("elsewhere/b"), &BackupOptions::default(), |_, _| {})
        .unwrap();
    refuse("elsewhere/b", "is a backup of");
    // The parent folder is not empty: the log is in it.
    refuse(".", "is not empty");
}

#[test]
fn a_backup_of_another_copy_of_the_log_is_noticed() {
    let place = Place::new();
    place.write(20);
    let copy = |from: &str, to: &str| {
        fs::create_dir_all(place.at(to).join("segments")).unwrap();
        for (path, _, bytes) in files(&place.at(from)) {
            fs::write(place.at(to).join(path.strip_prefix(place.at(from)).unwrap()), bytes)
                .unwrap();
        }
    };
    copy("log", "copy");
    for commits in [1, 60] {
        let copied = LogOptions { place: PlacePolicy::Follow, ..options() };
        let log = Log::open(place.at("copy"), copied).unwrap();
        let odd = Append::event(RawEvent::new("went another way", []));
        log.blocking().commit(odd).unwrap();
        append(&log, commits);
        log.close().unwrap();
        let _ = fs::remove_dir_all(place.at("backup"));
        backup(place.at("copy"), place.at("backup"), &BackupOptions::default(), |_, _| {}).unwrap();
        let was = files(&place.at("backup"));
        // First the log has fewer commits than the backup, then more.
        let short = place.back_up("backup").unwrap_err();
        is_target(&short, "");
        place.write(commits + 40);
        is_target(&place.back_up("backup").unwrap_err(), "something else than the log");
        assert_eq!(files(&place.at("backup")), was);
    }
}

#[test]
fn a_missing_or_damaged_log_is_not_backed_up() {
    let place = Place::new();
    let none = place.back_up("backup").unwrap_err();
    assert!(none.to_string().contains("there is no log in"), "{none}");
    assert!(!place.at("backup").exists() && !place.at("log").exists());

    place.write(60);
    place.back_up("backup").unwrap();
    place.write(60);
    let was = files(&place.at("backup"));
    let segments = files(&place.at("log/segments"));
    // These are segments that the backup does not have yet.
    for (path, _, bytes) in &segments[segments.len() - 3..] {
        let mut spoilt = bytes.clone();
        spoilt[100] ^= 1;
        fs::write(path, &spoilt).unwrap();
        let error = place.back_up("backup").unwrap_err();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(name), "{name} is not in: {error}");
        assert!(error.to_string().contains("at byte 64"), "{error}");
        fs::write(path, bytes).unwrap();
        assert_eq!(place.events("backup"), 120, "the backup did not change");
    }
    for (path, inode, bytes) in &was {
        let found = fs::read(path).unwrap();
        assert!(found.starts_with(bytes), "{} {inode}", path.display());
    }
    place.back_up("backup").unwrap();
    assert_eq!(place.events("backup"), 240);
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let place = Place::new();
    place.write(60);
    let sealed = BackupOptions { sealed: SealedSegments::Copy, ..BackupOptions::default() };
    backup(place.at("log"), place.at("backup"), &sealed, |_, _| {}).unwrap();
    for (path, _, bytes) in files(&place.at("backup")) {
        for at in [10, bytes.len() - 1] {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 1;
            fs::write(&path, &spoilt).unwrap();
            let to = place.at("restored");
            let error = restore(place.at("backup"), &to, &options(), |_, _| {}).unwrap_err();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(error.to_string().contains(name), "{name} is not in: {error}");
            assert!(error.to_string().contains("use another backup"), "{error}");
            let verified = verify(place.at("backup"), &options(), |_, _| {});
            assert!(verified.is_err(), "{name}");
            if to.exists() {
                let opened = Log::open(&to, options()).unwrap_err();
                assert!(matches!(opened, OpenError::Unfinished { .. }), "{opened}");
                let verified = verify(&to, &options(), |_, _| {}).unwrap_err();
                let unfinished = VerifyError::Open(OpenError::Unfinished {
                    folder: String::new(),
                    what: "",
                    advice: "",
                });
                let same = std::mem::discriminant(&verified) == std::mem::discriminant(&unfinished);
                assert!(same, "{verified}");
            }
            fs::write(&path, &bytes).unwrap();
        }
    }
    restore(place.at("backup"), place.at("restored"), &options(), |_, _| {}).unwrap();
    assert_eq!(place.events("restored"), 120);
}

#[test]
fn a_backup_without_one_of_its_segments_is_damaged_until_the_next_backup() {
    let place = Place::new();
    place.write(60);
    place.back_up("backup").unwrap();
    for (path, _, _) in files(&place.at("backup/segments")) {
        fs::remove_file(&path).unwrap();
        assert!(verify(place.at("backup"), &options(), |_, _| {}).is_err());
        assert!(Log::open(place.at("backup"), options()).is_err());
        assert!(restore(place.at("backup"), place.at("restored"), &options(), |_, _| {}).is_err());
        place.back_up("backup").unwrap();
        assert_eq!(place.events("backup"), 120);
    }
}

#[test]
fn a_folder_that_is_open_is_not_written_to() {
    let place = Place::new();
    place.write(20);
    place.back_up("backup").unwrap();
    let reader = Log::open(place.at("backup"), options()).unwrap();
    let error = place.back_up("backup").unwrap_err();
    assert!(matches!(error, BackupError::Open(OpenError::Held { .. })), "{error}");
    // A backup can be restored and backed up while it is read.
    restore(place.at("backup"), place.at("restored"), &options(), |_, _| {}).unwrap();
    backup(place.at("backup"), place.at("second"), &BackupOptions::default(), |_, _| {}).unwrap();
    assert_eq!(place.events("second"), 40);
    reader.close().unwrap();
    let closed = place.log();
    closed.clone().close().unwrap();
    let error = closed.backup_to(place.at("backup"), SealedSegments::Link, |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
}
