//! Places that cannot be written to: a file system that is read-only, and the folder of another
//! user. Readers need no lock there and write nothing.

use std::{
    env, fs,
    io::ErrorKind,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use diptych_log::{
    BackupOptions, Follower, Log, LogOptions, ReadOnlyLog, SealedSegments, backup, disk::Disk,
    restore, verify,
};
use diptych_store::{EventStore, Filter, Position};

use crate::{
    log_files::FOLDER,
    read_only::{append, check, on_simulated_disk, real, small},
    read_only_disk::ReadOnlyDisk,
};

#[test]
fn without_index_files_and_published_head_a_log_is_read_and_nothing_is_written() {
    let (disk, writing, reading) = on_simulated_disk();
    let writer = Log::open(FOLDER, writing).unwrap();
    append(&writer, 1..=300);
    writer.close().unwrap();
    for (path, _) in disk.contents() {
        let name = path.to_string_lossy();
        if name.contains("/index/") || name.ends_with("/head") || name.ends_with("/lock") {
            disk.remove(&path).unwrap();
        }
    }
    let before = disk.contents();
    let reader = ReadOnlyLog::open(FOLDER, reading).unwrap();
    check(&reader, 300);
    reader.refresh_now().unwrap();
    assert_eq!(disk.contents(), before);
}

#[test]
fn a_verification_a_backup_and_a_restore_write_nothing_to_their_source() {
    let (disk, writing, reading) = on_simulated_disk();
    let writer = Log::open(FOLDER, writing.clone()).unwrap();
    append(&writer, 1..=300);
    writer.close().unwrap();
    let before = disk.contents();
    verify(FOLDER, &reading, |_, _| {}).unwrap();
    ReadOnlyLog::open(FOLDER, reading.clone()).unwrap().blocking().stats().unwrap();
    assert_eq!(disk.contents(), before);
    let source = ReadOnlyDisk::new(Arc::new(disk.clone()), FOLDER);
    let options = BackupOptions { sealed: SealedSegments::Copy, disk: source };
    backup(FOLDER, "/data/backup", &options, |_, _| {}).unwrap();
    check(&ReadOnlyLog::open("/data/backup", reading).unwrap(), 300);
    let backup = ReadOnlyDisk::new(Arc::new(disk.clone()), "/data/backup");
    let options = LogOptions { disk: backup, ..writing.clone() };
    restore("/data/backup", "/data/restored", &options, |_, _| {}).unwrap();
    let in_source = |(path, _): &(PathBuf, Vec<u8>)| path.starts_with(FOLDER);
    assert_eq!(disk.contents().into_iter().filter(in_source).collect::<Vec<_>>(), before);
    let restored = Log::open("/data/restored", writing).unwrap();
    assert_eq!(restored.head().position(), Position::new(300));
}

/// The environment variable with the folder of the process that has no right to write.
const FOREIGN: &str = "DIPTYCH_FOREIGN_FOLDER";

/// Reads, verifies, backs up and restores from a folder that this process cannot write to. As a
/// test of its own it does nothing.
#[test]
fn child_without_the_right_to_write() {
    let Some(root) = env::var_os(FOREIGN).map(PathBuf::from) else { return };
    let (log, options) = (root.join("log"), small(LogOptions::default().disk));
    let refused = fs::write(log.join("file"), "").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert!(Log::open(&log, options.clone()).is_err());
    let reader = ReadOnlyLog::open(&log, options.clone()).unwrap();
    check(&reader, 100);
    assert!(reader.blocking().stats().unwrap().segments > 1);
    let mut follower = Follower::open(&log, Position::START, options.clone()).unwrap();
    assert_eq!(follower.next(&Filter::everything(), 1_000).unwrap().len(), 100);
    assert_eq!(verify(&log, &options, |_, _| {}).unwrap().events, 100);
    let (kept, restored) = (root.join("writable/backup"), root.join("writable/restored"));
    backup(&log, &kept, &BackupOptions::default(), |_, _| {}).unwrap();
    check(&ReadOnlyLog::open(&kept, options.clone()).unwrap(), 100);
    restore(&log, &restored, &options, |_, _| {}).unwrap();
    let restored = Log::open(&restored, options).unwrap();
    assert_eq!(restored.head().position(), Position::new(100));
}

/// Once, each of these operations took the lock for writing and opened files for writing.
#[test]
fn a_folder_of_another_user_is_read_verified_and_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (root, writable) = (dir.path().join("log"), dir.path().join("writable"));
    drop(real(&root).0);
    fs::create_dir(&writable).unwrap();
    let may = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for folder in [root.join("segments"), root.join("index"), root] {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            may(&entry, if entry.is_dir() { 0o555 } else { 0o444 });
        }
        may(&folder, 0o555);
    }
    may(&writable, 0o777);
    may(dir.path(), 0o755);
    let mut child = Command::new(env::current_exe().unwrap());
    child.args([
        "--exact",
        "interference::unwritable::child_without_the_right_to_write",
        "--nocapture",
    ]);
    if fs::metadata(&writable).unwrap().uid() == 0 {
        // The superuser may write everywhere. This user may not, on any system.
        child.uid(65_534).gid(65_534);
    }
    let ended = child.env(FOREIGN, dir.path()).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.status.success(), "{}{}", said(&ended.stdout), said(&ended.stderr));
    assert!(said(&ended.stdout).contains("1 passed"));
    // The folder is made writable again, so that any user who runs the test can remove it.
    for folder in ["log", "log/segments", "log/index"] {
        may(&dir.path().join(folder), 0o755);
    }
}
