//! Files under temporary names, and commits that were written in part.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use diptych_log::{
    Background, BackupOptions, Durability, Log, LogOptions, backup,
    disk::{
        Disk,
        simulated::{Operation, SimulatedDisk},
    },
};
use diptych_store::{Append, EventStore, RawEvent};

use crate::{
    hooked::HookedDisk,
    log_files::{FOLDER, is},
};

fn options(disk: Arc<dyn Disk>) -> LogOptions {
    LogOptions {
        segment_bytes: 1024,
        background: Background::Inline,
        disk,
        ..LogOptions::default()
    }
}

fn append(log: &Log) {
    let event = RawEvent::new("noted", vec![7; 200]);
    log.blocking().commit(Append::event(event)).unwrap();
}

fn unfinished(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let paths = disk.contents().into_iter().map(|(path, _)| path);
    paths.filter(|path| is(path, ".tmp")).collect()
}

/// Once, only unfinished segments were removed: unfinished index files stayed for ever.
#[test]
fn unfinished_files_of_an_earlier_process_are_removed() {
    let disk = SimulatedDisk::new(1);
    Log::open(FOLDER, options(Arc::new(disk.clone()))).unwrap().close().unwrap();
    let root = Path::new(FOLDER);
    for name in ["segments/00000009-1.tmp", "index/00000001-00000008.tmp", "interval.tmp"] {
        disk.create(&root.join(name), 0).unwrap();
    }
    // This file does not belong to the log.
    let others = root.join("notes.tmp");
    disk.create(&others, 0).unwrap();
    Log::open(FOLDER, options(Arc::new(disk.clone()))).unwrap().close().unwrap();
    assert_eq!(unfinished(&disk), [others]);
}

#[test]
fn a_file_that_cannot_be_finished_is_removed() {
    for ending in ["run", "interval"] {
        let disk = SimulatedDisk::new(1);
        let hooked = HookedDisk::new(&disk, move |operation, path| {
            let fails = path.starts_with("/data/log/index") == (ending == "run");
            let is_it = path.extension().is_some_and(|ending| ending == "tmp");
            match operation {
                Operation::Write if fails && is_it => Err(io::ErrorKind::StorageFull.into()),
                _ => Ok(()),
            }
        });
        let interval = std::time::Duration::ZERO;
        let durability = match ending {
            "run" => Durability::Synced,
            _ => Durability::Interval { interval },
        };
        let options = LogOptions { durability, ..options(Arc::new(hooked)) };
        if let Ok(log) = Log::open(FOLDER, options) {
            append(&log);
            let _ = log.close();
        }
        assert!(unfinished(&disk).is_empty(), "{:?}", unfinished(&disk));
    }
}

#[test]
fn a_backup_leaves_no_file_that_it_cannot_finish() {
    const TO: &str = "/data/backup";
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, options(Arc::new(disk.clone()))).unwrap();
    append(&log);
    log.close().unwrap();
    let hooked = HookedDisk::new(&disk, |operation, path| {
        let is_it = path.starts_with("/data/backup/segments") && is(path, ".tmp");
        match operation {
            Operation::Sync if is_it => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    });
    let full = BackupOptions { disk: Arc::new(hooked), ..BackupOptions::default() };
    let error = backup(FOLDER, TO, &full, |_, _| ()).unwrap_err();
    assert!(error.to_string().contains(TO), "{error}");
    assert!(unfinished(&disk).is_empty(), "{:?}", unfinished(&disk));
    let options = BackupOptions { disk: Arc::new(disk.clone()), ..BackupOptions::default() };
    backup(FOLDER, TO, &options, |_, _| ()).unwrap();
}

/// A new segment has a new checksum. Bytes that were cut off never pass for its records, wherever a
/// disk may still have them.
#[test]
fn a_log_goes_on_in_a_new_segment_if_its_end_was_cut_off() {
    let segments = |disk: &SimulatedDisk| {
        disk.contents().into_iter().filter(|(path, _)| is(path, ".seg")).collect::<Vec<_>>()
    };
    for torn in [false, true] {
        let disk = SimulatedDisk::new(1);
        let log = Log::open(FOLDER, options(Arc::new(disk.clone()))).unwrap();
        append(&log);
        std::mem::forget(log);
        let disk = disk.process_kill();
        let (path, before) = segments(&disk).pop().unwrap();
        if torn {
            let file = disk.open(&path, 0).unwrap();
            file.write_at(before.len() as u64, b"the beginning of a commit").unwrap();
        }
        let log = Log::open(FOLDER, options(Arc::new(disk.clone()))).unwrap();
        append(&log);
        assert_eq!(log.head().position().get(), 2);
        log.close().unwrap();
        let after = segments(&disk);
        assert_eq!(after.len(), if torn { 2 } else { 1 });
        assert!(after[0].1.starts_with(&before), "the first commit is still there");
    }
}
