//! Snapshots beside the log: a load gives the bytes that were saved last, or nothing.

use std::{io::ErrorKind, path::Path, sync::Arc, thread};

use diptych_log::{
    Background, Log, LogOptions, Snapshots,
    disk::{
        Disk,
        simulated::{Fault, Operation, SimulatedDisk},
    },
};
use diptych_store::{Append, RawEvent};

fn on(disk: &SimulatedDisk) -> Log {
    let options = LogOptions {
        background: Background::Inline,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    };
    Log::open("/data/log", options).unwrap()
}

fn files(disk: &SimulatedDisk) -> Vec<String> {
    let mut files = disk.list(Path::new("/data/log/snapshots")).unwrap();
    files.sort();
    files
}

fn load(place: &Snapshots, name: &str) -> Option<Vec<u8>> {
    place.load(name).unwrap()
}

#[test]
fn a_load_gives_the_bytes_that_were_saved_last() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let place = log.snapshots().unwrap();
    assert_eq!(load(&place, "one"), None);
    let large = vec![7; 3 << 20];
    for bytes in [&b"first"[..], b"", b"a longer one", &large, b"short"] {
        place.save("one", bytes).unwrap();
        place.save("other-1", b"x").unwrap();
        assert_eq!(load(&place, "one").as_deref(), Some(bytes));
    }
    log.close().unwrap();
    // Snapshots outlive the log handle, and the log ignores them.
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let place = log.snapshots().unwrap();
    assert_eq!(load(&place, "one").as_deref(), Some(&b"short"[..]));
    assert_eq!(load(&place, "other-1").as_deref(), Some(&b"x"[..]));
    assert_eq!(std::fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 2);
    log.close().unwrap();
    diptych_log::verify(dir.path(), &LogOptions::default(), |_, _| {}).unwrap();
}

#[test]
fn a_hostile_name_is_refused_and_touches_no_file() {
    let disk = SimulatedDisk::new(1);
    let log = on(&disk);
    let place = log.snapshots().unwrap();
    let before = disk.contents();
    let hostile = [
        "",
        ".",
        "..",
        "../x",
        "../../etc/passwd",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a.tmp",
        ".hidden",
        "a b",
        "a\0b",
        "a\n",
        "\u{e4}",
        "a:b",
        "a_b",
        "~",
        "*",
        "COM1:",
        "%2e%2e",
    ];
    for name in hostile {
        let refused =
            [place.load(name).err(), place.save(name, b"x").err(), place.remove(name).err()];
        for error in refused.map(Option::unwrap) {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
            assert!(error.to_string().contains("not a valid name of a snapshot"), "{error}");
        }
    }
    assert_eq!(disk.contents(), before, "no file was touched");
    // A name that is too long for the file system is an error and not a panic.
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let place = log.snapshots().unwrap();
    let long = "a".repeat(5_000);
    place.save(&long, b"x").unwrap_err();
    place.remove(&long).unwrap_err();
    let _any_answer = place.load(&long);
    assert_eq!(std::fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 0);
}

#[test]
fn snapshots_are_listed_by_name_and_removed() {
    let disk = SimulatedDisk::new(9);
    let log = on(&disk);
    let place = log.snapshots().unwrap();
    assert_eq!(place.names("").unwrap(), [""; 0]);
    for name in ["view-b-2", "view-a-10", "a", "view-a-9", "View-a", "view-a", "view-b-10"] {
        place.save(name, b"x").unwrap();
    }
    // Unfinished files and files of other programs are not listed.
    for name in ["view-a-9.4.tmp", "view-a.txt", ".view-a", "view a"] {
        disk.create(&Path::new("/data/log/snapshots").join(name), 0).unwrap();
    }
    let all = ["View-a", "a", "view-a", "view-a-10", "view-a-9", "view-b-10", "view-b-2"];
    assert_eq!(place.names("").unwrap(), all);
    assert_eq!(place.names("view-a-").unwrap(), ["view-a-10", "view-a-9"]);
    assert_eq!(place.names("view-a-9").unwrap(), ["view-a-9"]);
    for prefix in ["view-a-91", "..", "../", "/", "view-a-9.4", ".", "*", "\0", "\u{e4}"] {
        assert_eq!(place.names(prefix).unwrap(), [""; 0], "{prefix:?}");
    }
    place.remove("view-a-9").unwrap();
    place.remove("view-a-9").unwrap();
    place.remove("never").unwrap();
    assert_eq!(load(&place, "view-a-9"), None);
    assert_eq!(place.names("view-a").unwrap(), ["view-a", "view-a-10"]);
    assert_eq!(files(&disk).len(), all.len() - 1 + 4);
    place.save("view-a-9", b"y").unwrap();
    assert_eq!(load(&place, "view-a-9").as_deref(), Some(&b"y"[..]));
}

#[test]
fn an_error_of_the_disk_is_returned_and_removes_no_snapshot() {
    let disk = SimulatedDisk::new(2);
    let log = on(&disk);
    let place = log.snapshots().unwrap();
    place.save("one", b"x").unwrap();
    disk.fail_after(0, Fault::Io(Operation::List));
    place.names("").unwrap_err();
    disk.fail_after(0, Fault::Io(Operation::Remove));
    place.remove("one").unwrap_err();
    assert_eq!(disk.failures().len(), 2);
    assert_eq!(place.names("").unwrap(), ["one"]);
    place.remove("one").unwrap();
    assert_eq!(place.names("").unwrap(), [""; 0]);
    log.close().unwrap();
    // On a real disk a missing folder has no snapshots, and removing a snapshot from it succeeds.
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let place = log.snapshots().unwrap();
    place.save("one", b"x").unwrap();
    assert_eq!(place.names("o").unwrap(), ["one"]);
    std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    assert_eq!(place.names("").unwrap(), [""; 0]);
    place.remove("one").unwrap();
    log.close().unwrap();
}

#[test]
fn unfinished_files_of_a_killed_process_are_removed() {
    let disk = SimulatedDisk::new(1);
    let log = on(&disk);
    let place = log.snapshots().unwrap();
    place.save("one", b"whole").unwrap();
    // The process stops while it renames.
    let renames = disk.count(Operation::Rename);
    disk.fail_after(2, Fault::Stop);
    place.save("one", b"new").unwrap_err();
    assert!(disk.is_stopped() && disk.count(Operation::Rename) == renames + 1);
    let disk = disk.process_kill();
    assert_eq!(files(&disk).len(), 2, "{:?}", files(&disk));
    let log = on(&disk);
    let place = log.snapshots().unwrap();
    assert_eq!(files(&disk), ["one"]);
    assert_eq!(load(&place, "one").as_deref(), Some(&b"whole"[..]));
    // Files of other programs stay.
    disk.create(Path::new("/data/log/snapshots/note.txt"), 0).unwrap();
    log.snapshots().unwrap();
    assert_eq!(files(&disk), ["note.txt", "one"]);
}

#[test]
fn a_failed_save_leaves_the_older_bytes() {
    // A save creates, writes and renames a file.
    for (operations, kind) in
        [(0, Operation::Create), (1, Operation::Write), (2, Operation::Rename)]
    {
        let disk = SimulatedDisk::new(7);
        let log = on(&disk);
        let place = log.snapshots().unwrap();
        place.save("one", b"old").unwrap();
        let used = disk.used_bytes();
        disk.fail_after(0, Fault::Io(kind));
        place.save("one", &[8; 10_000]).unwrap_err();
        assert_eq!(disk.failures().len(), 1, "{operations}");
        assert_eq!(load(&place, "one").as_deref(), Some(&b"old"[..]));
        assert_eq!((files(&disk), disk.used_bytes()), (vec!["one".to_owned()], used));
        place.save("one", b"new").unwrap();
        assert_eq!(load(&place, "one").as_deref(), Some(&b"new"[..]));
        log.close().unwrap();
    }
}

#[test]
fn a_full_disk_keeps_the_older_snapshots_and_the_log_continues() {
    let disk = SimulatedDisk::new(3);
    let log = on(&disk);
    let place = log.snapshots().unwrap();
    place.save("one", b"old").unwrap();
    let used = disk.used_bytes();
    disk.set_capacity(used + 5_000);
    for _ in 0..10 {
        place.save("one", &[8; 10_000]).unwrap_err();
        place.save("two", &[8; 10_000]).unwrap_err();
    }
    assert_eq!(load(&place, "one").as_deref(), Some(&b"old"[..]));
    assert_eq!(load(&place, "two"), None);
    assert_eq!((files(&disk), disk.used_bytes()), (vec!["one".to_owned()], used));
    // The failed attempts take no space and do not disturb the log.
    log.blocking().commit(Append::event(RawEvent::new("a", b"{}"))).unwrap();
    disk.set_capacity(u64::MAX);
    place.save("one", &[8; 10_000]).unwrap();
    log.close().unwrap();
}

/// Once, each `Snapshots` counted its unfinished files from 0. Two threads that saved under one
/// name at the same time used one file, and the thread that failed to create it removed the file of
/// the other.
#[test]
fn concurrent_saves_under_one_name_leave_one_of_them_whole() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let places: Vec<_> = (0..4_u8).map(|at| (at, log.snapshots().unwrap())).collect();
    thread::scope(|scope| {
        for (at, place) in &places {
            scope.spawn(move || {
                for _ in 0..100 {
                    let bytes = vec![*at; 10_000 + usize::from(*at) * 1_000];
                    place.save("one", &bytes).unwrap();
                    let found = load(place, "one").unwrap();
                    let whole = found.iter().all(|byte| *byte == found[0]);
                    assert!(whole && found.len() == 10_000 + usize::from(found[0]) * 1_000);
                }
            });
        }
    });
    assert_eq!(std::fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 1);
}

/// Snapshots are never synced: after a loss of power a snapshot may be missing or old, and the log
/// opens.
#[test]
fn a_loss_of_power_may_lose_snapshots_and_never_commits() {
    let disk = SimulatedDisk::new(5);
    let log = on(&disk);
    let place = log.snapshots().unwrap();
    place.save("one", &[1; 5_000]).unwrap();
    log.blocking().commit(Append::event(RawEvent::new("a", b"{}"))).unwrap();
    place.save("one", &[2; 5_000]).unwrap();
    let mut lost = 0;
    for seed in 0..100 {
        let after = disk.power_loss(seed);
        let log = on(&after);
        let place = log.snapshots().unwrap();
        let kept = load(&place, "one").filter(|bytes| *bytes == [2; 5_000]);
        lost += u32::from(kept.is_none());
        place.save("one", b"again").unwrap();
        assert_eq!(load(&place, "one").as_deref(), Some(&b"again"[..]));
        assert_eq!(log.blocking().stats().unwrap().head.get(), 1, "seed {seed}");
    }
    assert!(lost > 10 && lost < 100, "{lost}");
}
