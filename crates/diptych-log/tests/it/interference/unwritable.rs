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
    mounts::run_mounted,
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

/// The environment variable with the folder of the process that cannot write to the log.
const FOREIGN: &str = "DIPTYCH_FOREIGN_FOLDER";

const CHILD: &str = "interference::unwritable::child_that_cannot_write";

/// Reads, verifies, backs up and restores from folders that this process cannot write to. As a test
/// of its own it does nothing.
#[test]
fn child_that_cannot_write() {
    let Some(root) = env::var_os(FOREIGN).map(PathBuf::from) else { return };
    let (log, kept) = (root.join("place/log"), root.join("place/backup"));
    let options = small(LogOptions::default().disk);
    for folder in [&log, &kept, &log.join("segments")] {
        let refused = fs::write(folder.join("file"), "").unwrap_err().kind();
        let expected = [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem];
        assert!(expected.contains(&refused), "{refused}");
    }
    assert!(Log::open(&log, options.clone()).is_err());
    for folder in [&log, &kept] {
        let reader = ReadOnlyLog::open(folder, options.clone()).unwrap();
        check(&reader, 100);
        assert!(reader.blocking().stats().unwrap().segments > 1);
        let mut follower = Follower::open(folder, Position::START, options.clone()).unwrap();
        assert_eq!(follower.next(&Filter::everything(), 1_000).unwrap().len(), 100);
        assert_eq!(verify(folder, &options, |_, _| {}).unwrap().events, 100);
    }
    let copied = root.join("writable/backup");
    backup(&log, &copied, &BackupOptions::default(), |_, _| {}).unwrap();
    check(&ReadOnlyLog::open(&copied, options.clone()).unwrap(), 100);
    for (from, name) in [(&log, "of the log"), (&kept, "of the backup")] {
        let restored = root.join("writable").join(name);
        restore(from, &restored, &options, |_, _| {}).unwrap();
        let restored = Log::open(&restored, options.clone()).unwrap();
        assert_eq!(restored.head().position(), Position::new(100));
    }
}

/// Writes a log, and a backup of it, beside a folder for copies.
fn write_places(root: &Path) {
    let place = root.join("place");
    fs::create_dir(&place).unwrap();
    drop(real(&place.join("log")).0);
    let options = BackupOptions { sealed: SealedSegments::Copy, ..BackupOptions::default() };
    backup(place.join("log"), place.join("backup"), &options, |_, _| {}).unwrap();
    fs::create_dir(root.join("writable")).unwrap();
}

/// Once, each of these operations took the lock for writing and opened files for writing.
#[test]
fn a_folder_of_another_user_is_read_verified_and_copied() {
    let dir = tempfile::tempdir().unwrap();
    write_places(dir.path());
    let (place, writable) = (dir.path().join("place"), dir.path().join("writable"));
    let may = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let mut folders = folders_in(&place);
    for folder in &folders {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            may(&entry, if entry.is_dir() { 0o555 } else { 0o444 });
        }
        may(folder, 0o555);
    }
    may(&writable, 0o777);
    may(dir.path(), 0o755);
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", CHILD, "--nocapture"]);
    if fs::metadata(&writable).unwrap().uid() == 0 {
        // The superuser may write everywhere. This user may not, on any system.
        child.uid(65_534).gid(65_534);
    }
    let ended = child.env(FOREIGN, dir.path()).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.status.success(), "{}{}", said(&ended.stdout), said(&ended.stderr));
    assert!(said(&ended.stdout).contains("1 passed"));
    // The folders are made writable again, so that any user who runs the test can remove them.
    folders.sort();
    for folder in folders {
        may(&folder, 0o755);
    }
}

/// A folder and all folders in it.
fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let within = entries.filter(|path| path.is_dir()).flat_map(|path| folders_in(&path));
    within.chain([folder.to_owned()]).collect()
}

/// A real one, which refuses the superuser as well.
#[test]
fn a_read_only_file_system_is_read_verified_and_copied() {
    let dir = tempfile::tempdir().unwrap();
    write_places(dir.path());
    let mount = "mv \"$1/place\" \"$1/written\" && mkdir \"$1/place\" \
                 && mount -t tmpfs place \"$1/place\" && cp -a \"$1/written/.\" \"$1/place\" \
                 && mount -o remount,ro \"$1/place\"";
    run_mounted(mount, dir.path(), FOREIGN, CHILD);
}
