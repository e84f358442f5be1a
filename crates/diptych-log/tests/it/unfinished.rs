//! Files under temporary names.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use diptych_log::{
    Background, Durability, Log, LogOptions,
    disk::{
        Disk,
        simulated::{Operation, SimulatedDisk},
    },
};
use diptych_store::{Append, RawEvent};

use crate::{
    hooked::Hooked,
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
        let hooked = Hooked::new(&disk, move |operation, path| {
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
