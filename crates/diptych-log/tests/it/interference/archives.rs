//! The archive of a log: another folder in its place, and files in it that are missing, exchanged
//! or damaged.

use std::fs;

use diptych_log::{ArchiveLimit, OpenError, VerifyError, verify};
use diptych_store::{Filter, Position, Read, ReadError};

use crate::{
    archive::{Place, archive, followed, options},
    backup::payloads,
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
