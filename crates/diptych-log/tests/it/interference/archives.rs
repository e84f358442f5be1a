//! The archive of a log: another folder in its place, and files in it that are missing, exchanged
//! or damaged.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use diptych_log::{
    ArchiveLimit, Follower, Log, LogOptions, OpenError, VerifyError, bring_back_archive,
    disk::{
        Disk,
        simulated::{Operation, SimulatedDisk},
    },
    verify,
};
use diptych_store::{Filter, Position, Read, ReadError};

use crate::{
    archive::{Place, archive, followed, options},
    backup::{append, payloads},
    hooked::HookedDisk,
    log_files::FOLDER,
};

/// An empty mount point, the archive of another log, and another segment are three errors.
#[test]
fn another_folder_in_the_place_of_the_archive_is_no_damage_and_not_read() {
    let (place, other) = (Place::new(), Place::new());
    place.write_archived();
    other.write_archived();
    let (log, archived) = (place.open(), place.at("archive"));
    let read = || log.blocking().read(&Filter::everything(), Read::all()).map(|_| ());
    let said = |why: &str| {
        let error = place.open_error();
        assert!(error.contains(why), "{why:?} is not in: {error}");
    };
    read().unwrap();
    log.close().unwrap();
    fs::rename(&archived, place.at("kept")).unwrap();
    fs::create_dir(&archived).unwrap();
    said("is its file system mounted?");
    fs::remove_dir(&archived).unwrap();
    fs::rename(other.at("archive"), &archived).unwrap();
    said("is another archive");
    fs::remove_dir_all(&archived).unwrap();
    fs::rename(place.at("kept"), &archived).unwrap();
    fs::write(archived.join("archive"), "x").unwrap();
    said("has a damaged mark");
}

impl Place {
    /// The error of reading an archived event, which is not damage.
    fn open_error(&self) -> String {
        let log = self.open();
        let error = log.blocking().read(&Filter::everything(), Read::all()).unwrap_err();
        assert!(matches!(error, ReadError::Unavailable(_)), "{error}");
        let failed = verify(self.at("log"), &options(), |_, _| {});
        assert!(matches!(failed, Err(VerifyError::Open(OpenError::Held { .. }))));
        log.close().unwrap();
        let failed = verify(self.at("log"), &options(), |_, _| {}).unwrap_err();
        assert!(matches!(failed, VerifyError::Open(OpenError::Io { .. })), "{failed:?}");
        error.to_string()
    }

    fn damage(&self) -> String {
        let VerifyError::Damaged(damage) =
            verify(self.at("log"), &options(), |_, _| {}).unwrap_err()
        else {
            panic!("no damage")
        };
        damage
            .iter()
            .map(|damage| format!("{}: {}\n", damage.file.display(), damage.what))
            .collect()
    }
}

#[test]
fn archived_segments_that_are_missing_exchanged_or_damaged_are_noticed() {
    let place = Place::new();
    let all = place.write_archived();
    let names = place.segments("archive");
    let (third, fourth) = (&names[2], &names[3]);
    let path = |name: &str| place.at("archive").join("segments").join(name);
    let original = fs::read(path(third)).unwrap();
    let check = |why: &str| {
        let log = place.open();
        let mut after = Position::START;
        let error = loop {
            match log.blocking().read(&Filter::everything(), Read::after(after)) {
                Ok(batch) => after = batch.upto(),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ReadError::Corrupt(_)), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        log.close().unwrap();
        assert!(place.damage().contains(third.as_str()), "{}", place.damage());
    };
    fs::remove_file(path(third)).unwrap();
    check("is missing there");
    fs::copy(path(fourth), path(third)).unwrap();
    check("not the archived one");
    let mut damaged = original.clone();
    let at = damaged.len() - 30;
    damaged[at] ^= 1;
    fs::write(path(third), &damaged).unwrap();
    assert!(place.damage().contains(third.as_str()), "{}", place.damage());
    fs::write(path(third), &original[..original.len() - 1]).unwrap();
    check("not the archived one");
    fs::write(path(third), &original).unwrap();
    assert_eq!(payloads(&place.open()), all);
}

/// The archive has everything that is in a stub.
#[test]
fn stubs_that_are_lost_or_damaged_come_back() {
    let place = Place::new();
    let all = place.write_archived();
    let stub = |name: &str| place.at("log").join("segments").join(name.replace(".seg", ".arc"));
    let names = place.segments("archive");
    let whole = fs::read(stub(&names[1])).unwrap();
    fs::write(stub(&names[1]), "x").unwrap();
    assert!(place.damage().contains("stub"), "{}", place.damage());
    fs::remove_file(stub(&names[0])).unwrap();
    assert_eq!(followed(&place.at("log")), all);
    let log = place.open();
    assert_eq!(payloads(&log), all);
    archive(&log, &place.at("archive"), ArchiveLimit::All).unwrap();
    assert_eq!(fs::read(stub(&names[1])).unwrap(), whole);
    assert!(stub(&names[0]).exists());
    log.close().unwrap();
    verify(place.at("log"), &options(), |_, _| {}).unwrap();
}

/// The folder is listed first, and the manifest is asked then where the missing segments are. Once,
/// they were taken for lost if they had come back in between.
#[test]
fn segments_that_come_back_while_they_are_listed_are_not_missing() {
    let is_listed = AtomicBool::new(false);
    let came_back = followed_while_they_come_back(move |operation, path| {
        let listed = operation == Operation::List && path.ends_with("segments");
        let asked = operation == Operation::Open && path.ends_with("manifest");
        let is_listed = is_listed.fetch_or(listed, Ordering::SeqCst);
        asked && is_listed
    });
    assert!(came_back);
}

/// A segment can come back between the look into the folder and the look into the archive.
#[test]
fn segments_that_come_back_at_any_moment_of_a_read_are_found() {
    for moment in 0.. {
        let operations = AtomicU64::new(0);
        let is_moment = move |_, _: &Path| operations.fetch_add(1, Ordering::SeqCst) == moment;
        if !followed_while_they_come_back(is_moment) {
            assert!(moment > 20, "the read had {moment} operations");
            break;
        }
    }
}

/// Follows a log whose segments come back from the archive at the first operation of which
/// `is_moment` says so. Each event has to be found. Returns whether there was such an operation.
#[track_caller]
fn followed_while_they_come_back(
    is_moment: impl Fn(Operation, &Path) -> bool + Send + Sync + 'static,
) -> bool {
    let disk = SimulatedDisk::new(1);
    let on = |disk: Arc<dyn Disk>| LogOptions { disk, ..options() };
    let plain = || on(Arc::new(disk.clone()));
    let log = Log::open(FOLDER, plain()).unwrap();
    append(&log, 100);
    let all = payloads(&log);
    assert!(archive(&log, "/data/archive".as_ref(), ArchiveLimit::All).unwrap().moved > 2);
    log.close().unwrap();
    let came_back = Arc::new(AtomicBool::new(false));
    let hooked = HookedDisk::new(&disk, {
        let (plain, came_back) = (plain(), came_back.clone());
        move |operation, path| {
            if !came_back.load(Ordering::SeqCst) && is_moment(operation, path) {
                came_back.store(true, Ordering::SeqCst);
                bring_back_archive(FOLDER, &plain, |_, _| {}).unwrap();
            }
            Ok(())
        }
    });
    let mut follower = Follower::open(FOLDER, Position::START, on(Arc::new(hooked))).unwrap();
    let mut found = Vec::new();
    while follower.upto() < follower.head() {
        let batch = follower.next(&Filter::everything(), 50).unwrap();
        found.extend(batch.iter().map(|event| event.payload().to_vec()));
    }
    assert_eq!(found, all);
    came_back.load(Ordering::SeqCst)
}
