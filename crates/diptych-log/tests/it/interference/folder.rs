//! The folder of an open log is interfered with: files are removed from it, it is moved away, and
//! another one comes in its place. No acknowledged commit is lost, and no other log is touched.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use diptych_log::{
    Background, BackupError, BackupOptions, Durability, Follower, Log, LogOptions, OpenError,
    ReadOnlyLog, backup, restore, verify,
};
use diptych_store::{
    Append, AppendError, EventStore, Filter, Position, RawEvent, Read, ReadError, SyncError,
    Unavailable,
};
use tempfile::TempDir;

use crate::{
    backup::{append, options, payloads},
    read_only::{self, check, real},
};

/// Commits until the log takes nothing more; answers what was acknowledged, and why it ended.
fn commit_until_refused(log: &Log) -> (Vec<Vec<u8>>, String) {
    // Enough for many segments.
    const MOST: u64 = 500;
    let mut acknowledged = Vec::new();
    for number in 0..MOST {
        let payload = format!("more {number}").into_bytes();
        let event = RawEvent::new("counted", payload.clone());
        match log.blocking().commit(Append::event(event)) {
            Ok(_) => acknowledged.push(payload),
            Err(AppendError::OutcomeUnknown(SyncError { cause, .. })) => {
                return (acknowledged, cause.to_string());
            }
            Err(error) => return (acknowledged, error.to_string()),
        }
    }
    panic!("the log went on to take commits");
}

/// Every file below a folder, by path.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.append(&mut contents(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// A folder with a log in `log`, another in `other`, and a place `moved` for the first.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        let other = Log::open(place.at("other"), options()).unwrap();
        append(&other, 20);
        other.close().unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Moves the log away and puts the other one there.
    fn replace(&self) {
        fs::rename(self.at("log"), self.at("moved")).unwrap();
        fs::rename(self.at("other"), self.at("log")).unwrap();
    }
}

/// Once, the next segments of a log whose folder was replaced went to the folder that came in its
/// place, and were acknowledged there.
#[test]
fn a_log_whose_folder_is_replaced_stops_and_touches_no_other() {
    for durability in
        [Durability::Synced, Durability::Interval { interval: std::time::Duration::ZERO }]
    {
        let place = Place::new();
        let log = Log::open(place.at("log"), LogOptions { durability, ..options() }).unwrap();
        append(&log, 30);
        let mut expected = payloads(&log);
        place.replace();
        let before = contents(&place.at("log"));
        let (acknowledged, why) = commit_until_refused(&log);
        assert!(why.contains("moved, removed or replaced"), "{why}");
        assert!(why.contains(&*place.at("log").to_string_lossy()), "{why}");
        assert_eq!(contents(&place.at("log")), before, "the other log was written to");
        assert_eq!(payloads(&log)[..expected.len()], expected, "reads go on");
        let _ = log.close();

        expected.extend(acknowledged);
        let log = Log::open(place.at("moved"), options()).unwrap();
        assert_eq!(payloads(&log)[..expected.len()], expected, "in the folder that was opened");
        append(&log, 1);
        log.close().unwrap();
        verify(place.at("moved"), &options(), |_, _| ()).unwrap();
        verify(place.at("log"), &options(), |_, _| ()).unwrap();
    }
}

#[test]
fn a_log_acknowledges_nothing_once_its_folder_is_gone() {
    type Interference = fn(&Place);
    let interferences: [(&str, Interference); 4] = [
        ("moved", |place| fs::rename(place.at("log"), place.at("moved")).unwrap()),
        ("removed", |place| fs::remove_dir_all(place.at("log")).unwrap()),
        ("emptied", |place| {
            for entry in fs::read_dir(place.at("log/segments")).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }),
        ("segments replaced", |place| {
            fs::rename(place.at("log/segments"), place.at("moved")).unwrap();
            fs::rename(place.at("other/segments"), place.at("log/segments")).unwrap();
        }),
    ];
    // With an interval, the folder is looked at before each commit as well, not only at each sync.
    let long = Durability::Interval { interval: std::time::Duration::from_secs(3_600) };
    let cases = interferences.into_iter().map(|case| (case, Durability::Synced));
    // A file without a name is noticed by a sync only.
    let moves = interferences.into_iter().filter(|(name, _)| *name != "emptied");
    for ((name, interfere), durability) in cases.chain(moves.map(|case| (case, long))) {
        let place = Place::new();
        let log = Log::open(place.at("log"), LogOptions { durability, ..options() }).unwrap();
        append(&log, 3);
        interfere(&place);
        let (acknowledged, why) = commit_until_refused(&log);
        assert!(acknowledged.is_empty(), "{name}: {} were acknowledged", acknowledged.len());
        assert!(why.contains("removed"), "{name}: {why}");
        let _ = log.close();
    }
}

/// Index files, the published head, the lock file and snapshots may be removed at any time.
#[test]
fn a_log_goes_on_without_what_may_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    // No thread is writing an index file while it is removed.
    let log = LogOptions { background: Background::Inline, ..options() };
    let log = Log::open(dir.path(), log).unwrap();
    log.snapshots().unwrap().save("state", b"bytes").unwrap();
    append(&log, 30);
    fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    for name in ["head", "lock"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    for entry in fs::read_dir(dir.path().join("index")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    append(&log, 10);
    let expected = payloads(&log);
    drop(log);
    let log = Log::open(dir.path(), options()).unwrap();
    assert_eq!(payloads(&log)[..expected.len()], expected);
}

#[test]
fn snapshots_are_kept_beside_the_log_that_was_opened() {
    let place = Place::new();
    let log = Log::open(place.at("log"), options()).unwrap();
    let snapshots = log.snapshots().unwrap();
    place.replace();
    let before = contents(&place.at("log"));
    snapshots.save("state", b"bytes").unwrap();
    assert_eq!(snapshots.load("state").unwrap().unwrap(), b"bytes");
    assert_eq!(contents(&place.at("log")), before);
    assert!(place.at("moved/snapshots/state").exists());
}

/// Once, a follower kept the published head of the folder that it had opened, and read segments
/// of the one that had come in its place.
#[test]
fn a_follower_of_a_folder_that_is_replaced_says_so() {
    let place = Place::new();
    let log = Log::open(place.at("log"), options()).unwrap();
    append(&log, 10);
    let mut follower = Follower::open(place.at("log"), Position::START, options()).unwrap();
    follower.next(&Filter::everything(), 3).unwrap();
    log.close().unwrap();
    place.replace();
    let error = follower.next(&Filter::everything(), 3).unwrap_err();
    assert!(matches!(error, ReadError::Unavailable(Unavailable::Storage { .. })), "{error:?}");
    assert!(error.to_string().contains("replaced"), "{error}");
    // Put back, it goes on.
    fs::rename(place.at("log"), place.at("other")).unwrap();
    fs::rename(place.at("moved"), place.at("log")).unwrap();
    assert_eq!(follower.next(&Filter::everything(), 100).unwrap().len(), 17);
}

/// Once, a follower went on to read a published head that had no name any more, and so never
/// heard of later commits.
#[test]
fn a_follower_finds_a_published_head_that_was_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    append(&log, 2);
    let mut follower = Follower::open(dir.path(), Position::START, options()).unwrap();
    assert_eq!(follower.next(&Filter::everything(), 100).unwrap().len(), 4);
    log.close().unwrap();
    fs::remove_file(dir.path().join("head")).unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    append(&log, 3);
    assert_eq!(follower.next(&Filter::everything(), 100).unwrap().len(), 6);
}

#[test]
fn a_backup_whose_folder_is_replaced_meanwhile_fails() {
    let place = Place::new();
    let log = Log::open(place.at("log"), options()).unwrap();
    append(&log, 50);
    log.close().unwrap();
    let mut replaced = false;
    let copied = backup(place.at("log"), place.at("copy"), &BackupOptions::default(), |_, _| {
        if !std::mem::replace(&mut replaced, true) {
            fs::rename(place.at("copy"), place.at("moved")).unwrap();
            fs::create_dir(place.at("copy")).unwrap();
        }
    });
    let Err(BackupError::Target { problem, .. }) = copied else { panic!("{copied:?}") };
    assert!(problem.contains("was replaced"), "{problem}");
    assert!(contents(&place.at("copy")).is_empty(), "the other folder was written to");
    // The folder that was begun can be gone on with.
    let copied = backup(place.at("log"), place.at("moved"), &BackupOptions::default(), |_, _| ());
    assert_eq!(copied.unwrap().upto.get(), 100);
}

#[test]
fn a_backup_of_a_folder_that_is_replaced_meanwhile_is_of_one_log() {
    let place = Place::new();
    let log = Log::open(place.at("log"), options()).unwrap();
    append(&log, 50);
    let identity = log.identity();
    log.close().unwrap();
    let mut replaced = false;
    let copied = backup(place.at("log"), place.at("copy"), &BackupOptions::default(), |_, _| {
        if !std::mem::replace(&mut replaced, true) {
            place.replace();
        }
    });
    assert_eq!(copied.unwrap().identity, identity);
    assert_eq!(verify(place.at("copy"), &options(), |_, _| ()).unwrap().events, 100);
}

#[test]
fn a_restore_whose_folder_is_replaced_meanwhile_fails() {
    let place = Place::new();
    let mut replaced = false;
    let restored = restore(place.at("other"), place.at("log"), &options(), |_, _| {
        if !std::mem::replace(&mut replaced, true) {
            fs::rename(place.at("log"), place.at("moved")).unwrap();
            fs::create_dir(place.at("log")).unwrap();
        }
    });
    let error = restored.unwrap_err().to_string();
    assert!(error.contains("moved, removed or replaced"), "{error}");
    assert!(contents(&place.at("log")).is_empty(), "the other folder was written to");
    let opened = Log::open(place.at("moved"), options());
    assert!(matches!(opened, Err(OpenError::Unfinished { .. })), "{opened:?}");
}

/// A log reads what it holds, also while its path leads to another one.
#[test]
fn reads_of_a_replaced_folder_are_of_the_log_that_was_opened() {
    let place = Place::new();
    let log = Log::open(place.at("log"), options()).unwrap();
    append(&log, 60);
    log.close().unwrap();
    let log = Log::open(place.at("log"), options()).unwrap();
    place.replace();
    // None of the older segments was read before.
    let batch = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
    assert_eq!(batch.get(0).unwrap().payload(), b"event 1");
    assert_eq!(payloads(&log).len(), 120);
}

#[test]
fn a_restored_folder_ends_the_head_with_the_change_of_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let (root, kept) = (dir.path().join("log"), dir.path().join("backup"));
    let (log, options) = real(&root);
    backup(&root, &kept, &BackupOptions::default(), |_, _| {}).unwrap();
    read_only::append(&log, 101..=110);
    log.close().unwrap();
    let reader = ReadOnlyLog::open(&root, options.clone()).unwrap();
    check(&reader, 110);
    for folder in [root.join("segments"), root.join("index"), root.clone()] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::remove_file(path).unwrap();
            }
        }
    }
    restore(&kept, &root, &options, |_, _| {}).unwrap();
    let restored = Log::open(&root, options).unwrap();
    let error = reader.refresh_now().unwrap_err();
    let changed = |error: &ReadError| match error {
        ReadError::Unavailable(Unavailable::HistoryChanged(changed)) => Some(changed.is),
        _ => None,
    };
    assert_eq!(changed(&error), Some(restored.identity()), "{error}");
    assert!(matches!(reader.head().ended(), Some(Unavailable::HistoryChanged(_))));
    let error = reader.blocking().read(&Filter::everything(), Read::all()).unwrap_err();
    assert_eq!(changed(&error), Some(restored.identity()), "{error}");
}

#[test]
fn a_folder_that_is_moved_away_ends_the_head() {
    let dir = tempfile::tempdir().unwrap();
    let (root, moved) = (dir.path().join("log"), dir.path().join("moved"));
    let (log, options) = real(&root);
    let reader = ReadOnlyLog::open(&root, options.clone()).unwrap();
    log.close().unwrap();
    fs::rename(&root, moved).unwrap();
    let other = Log::open(&root, options).unwrap();
    read_only::append(&other, 1..=200);
    let error = reader.refresh_now().unwrap_err().to_string();
    assert!(error.contains("moved, removed or replaced") && error.contains("open it again"));
    assert!(reader.head().is_ended());
    check(&reader, 100);
}
