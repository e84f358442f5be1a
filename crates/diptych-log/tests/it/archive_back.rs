//! Archived segments come back into the folder of their log.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use diptych_log::{
    Adoption, ArchiveError, ArchiveLimit, Clustering, Follower, Log, LogOptions, PlacePolicy,
    ReadOnlyLog, VerifyError, adopt, bring_back_archive, verify,
};
use diptych_store::{Append, EventStore, Filter, Position, RawEvent, Read, TimeSource, Timestamp};

use crate::{
    archive::{Place, SetOnDrop, answers, archive, copy_folder, followed, options},
    backup::{append, payloads},
};

#[test]
fn archived_segments_come_back_and_the_archive_is_free_again() {
    let place = Place::new();
    let all = place.write_archived();
    let archived = place.segments("archive");
    let report = bring_back_archive(place.at("log"), &options(), |_, _| {}).unwrap();
    assert_eq!((report.moved, report.archived), (archived.len() as u64, 0));
    assert_eq!(place.segments("archive"), [""; 0]);
    let log = place.open();
    assert_eq!(payloads(&log), all);
    assert_eq!(log.blocking().stats().unwrap().archive, None);
    append(&log, 3);
    // The same folder can be the archive again.
    assert!(archive(&log, &place.at("archive"), ArchiveLimit::All).unwrap().moved > 10);
    log.close().unwrap();
    verify(place.at("log"), &options(), |_, _| {}).unwrap();
}

/// The readers are of other processes: the log itself must be closed when its archive comes back.
#[test]
fn readers_and_followers_go_on_while_an_archive_comes_back() {
    const ROUNDS: usize = 6;
    let place = Place::new();
    let all = place.write_archived();
    let reader = place.read_only();
    let before = answers(&reader);
    // One that has read a part, one that has read nothing yet, and a look at each step.
    let mut follower = Follower::open(place.at("log"), Position::START, options()).unwrap();
    let mut late = Follower::open(place.at("log"), Position::START, options()).unwrap();
    let mut found: Vec<_> = {
        let batch = follower.next(&Filter::everything(), 50).unwrap();
        batch.iter().map(|event| event.payload().to_vec()).collect()
    };
    let mut steps = 0;
    bring_back_archive(place.at("log"), &options(), |_, _| {
        steps += 1;
        assert_eq!(answers(&reader), before, "a reader that was there before, at step {steps}");
        assert_eq!(answers(&place.read_only()), before, "a new reader, at step {steps}");
        assert_eq!(followed(&place.at("log")), all, "a new follower, at step {steps}");
        if follower.upto() < follower.head() {
            let batch = follower.next(&Filter::everything(), 20).unwrap();
            found.extend(batch.iter().map(|event| event.payload().to_vec()));
        }
    })
    .unwrap();
    assert!(steps > 10, "{steps}");
    let rest = |follower: &mut Follower| {
        let mut found = Vec::new();
        while follower.upto() < follower.head() {
            let batch = follower.next(&Filter::everything(), 50).unwrap();
            found.extend(batch.iter().map(|event| event.payload().to_vec()));
        }
        found
    };
    found.extend(rest(&mut follower));
    assert_eq!((&found, &rest(&mut late)), (&all, &all));
    fs::rename(place.at("archive"), place.at("gone")).unwrap();
    assert_eq!(answers(&reader), before, "nothing is read in the archive");

    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                assert_eq!(answers(&reader), before);
            }
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                assert_eq!(followed(&place.at("log")), all);
            }
        });
        let _done = SetOnDrop(&is_done);
        for round in 0..ROUNDS {
            let log = place.open();
            let to = place.at(&format!("archive {round}"));
            assert!(archive(&log, &to, ArchiveLimit::All).unwrap().moved > 10);
            log.close().unwrap();
            bring_back_archive(place.at("log"), &options(), |_, _| {}).unwrap();
        }
    });
    let log = place.open();
    append(&log, 3);
    reader.refresh_now().unwrap();
    assert_eq!(reader.head().position(), log.head().position());
    log.close().unwrap();
    verify(place.at("log"), &options(), |_, _| {}).unwrap();
}

/// A copy has its own segments then, and its original keeps the archive.
#[test]
fn a_copy_brings_segments_back_and_leaves_the_archive_of_its_original() {
    let place = Place::new();
    let all = place.write_archived();
    let archived = place.segments("archive");
    copy_folder(&place.at("log"), &place.at("copy"));
    adopt(place.at("copy"), Adoption::Copy, &options()).unwrap();
    let report = bring_back_archive(place.at("copy"), &options(), |_, _| {}).unwrap();
    assert_eq!(report.moved, archived.len() as u64);
    assert_eq!(place.segments("archive"), archived);
    assert_eq!(payloads(&place.open()), all);
    let copy = Log::open(place.at("copy"), options()).unwrap();
    fs::rename(place.at("archive"), place.at("gone")).unwrap();
    assert_eq!(payloads(&copy), all);
    assert!(archive(&copy, &place.at("another"), ArchiveLimit::All).unwrap().moved > 10);
    copy.close().unwrap();
}

/// A replica is a copy, too: the archive is that of the log that it was copied from.
#[test]
fn a_replica_brings_segments_back_and_leaves_the_archive_of_its_original() {
    let place = Place::new();
    place.write_archived();
    let archived = place.segments("archive");
    let expected = answers(&place.read_only());
    copy_folder(&place.at("log"), &place.at("copy"));
    adopt(place.at("copy"), Adoption::Replica, &options()).unwrap();
    let report = bring_back_archive(place.at("copy"), &options(), |_, _| {}).unwrap();
    assert_eq!(report.moved, archived.len() as u64);
    assert_eq!(place.segments("archive"), archived);
    assert_eq!(answers(&place.read_only()), expected);
    fs::rename(place.at("archive"), place.at("gone")).unwrap();
    assert_eq!(answers(&ReadOnlyLog::open(place.at("copy"), options()).unwrap()), expected);
}

/// Nothing changes, neither in the folder nor in the archive.
#[test]
fn a_segment_that_is_damaged_in_the_archive_does_not_come_back() {
    let place = Place::new();
    place.write_archived();
    let names = place.segments("archive");
    let newest = place.at("archive").join("segments").join(names.last().unwrap());
    let original = fs::read(&newest).unwrap();
    let mut damaged = original.clone();
    let at = damaged.len() - 30;
    damaged[at] ^= 1;
    fs::write(&newest, &damaged).unwrap();
    let back = || bring_back_archive(place.at("log"), &options(), |_, _| {});
    assert!(matches!(back(), Err(ArchiveError::Damaged(_))), "{:?}", back());
    assert_eq!(place.segments("archive"), names);
    fs::write(&newest, &original).unwrap();
    fs::rename(place.at("archive"), place.at("gone")).unwrap();
    let missing = back().unwrap_err().to_string();
    assert!(missing.contains("is not there"), "{missing}");
    fs::rename(place.at("gone"), place.at("archive")).unwrap();
    back().unwrap();
}

/// Such a file has the name, the size and the header of the archived one, and its checksums are
/// right.
#[test]
fn a_segment_of_another_copy_in_the_archive_does_not_come_back() {
    let place = Place::new();
    let options = LogOptions {
        clustering: Clustering::Off,
        place: PlacePolicy::Follow,
        time: TimeSource::Caller,
        ..options()
    };
    let open = |of: &str| Log::open(place.at(of), options.clone()).unwrap();
    open("log").close().unwrap();
    copy_folder(&place.at("log"), &place.at("copy"));
    for of in ["log", "copy"] {
        let log = open(of);
        for number in 0..200 {
            let event = RawEvent::new("counted", format!("{number:0>3} in {of:0>4}"));
            let mut append = Append::event(event);
            append.recorded_at = Some(Timestamp::from_micros(number));
            let _ = log.blocking().commit(append).unwrap();
        }
        if of == "log" {
            archive(&log, &place.at("archive"), ArchiveLimit::All).unwrap();
        }
        log.close().unwrap();
    }
    let all = followed(&place.at("log"));
    let names = place.segments("archive");
    let newest = names.last().unwrap();
    let file = |of: &str| place.at(of).join("segments").join(newest);
    let (right, wrong) = (fs::read(file("archive")).unwrap(), fs::read(file("copy")).unwrap());
    assert_eq!((right.len(), &right[..64]), (wrong.len(), &wrong[..64]));
    assert_ne!(right, wrong);
    fs::write(file("archive"), &wrong).unwrap();
    // Once, reads gave the events of the other copy.
    let log = open("log");
    let read = log.blocking().read(&Filter::everything(), Read::all()).map(|page| page.len());
    let error = read.unwrap_err().to_string();
    assert!(error.contains("is not the archived one") && error.contains(newest), "{error}");
    log.close().unwrap();
    let Err(VerifyError::Damaged(damage)) = verify(place.at("log"), &options, |_, _| {}) else {
        panic!("the segment of the other copy is taken for the archived one")
    };
    let found: Vec<_> = damage.iter().map(|damage| &damage.what).collect();
    assert!(found.iter().any(|found| found.contains("is not the archived one")), "{found:?}");
    let refused = |why: &str| {
        let error = bring_back_archive(place.at("log"), &options, |_, _| {}).unwrap_err();
        assert!(error.to_string().contains(why), "{why:?} is not in: {error}");
        assert_eq!((place.segments("archive"), file("log").exists()), (names.clone(), false));
    };
    refused("is not the archived one");
    let stub = file("log").with_extension("arc");
    let kept = fs::read(&stub).unwrap();
    fs::remove_file(&stub).unwrap();
    refused("continues other records");
    // The stub tells also if the next segment does not.
    fs::write(&stub, kept).unwrap();
    let next = place.at("log").join("segments").join(&place.segments("log")[0]);
    let whole = fs::read(&next).unwrap();
    let mut damaged = whole.clone();
    damaged[20] ^= 1;
    fs::write(&next, damaged).unwrap();
    refused("is not the archived one");
    fs::write(&next, whole).unwrap();

    fs::write(file("archive"), &right).unwrap();
    bring_back_archive(place.at("log"), &options, |_, _| {}).unwrap();
    assert_eq!(followed(&place.at("log")), all);
    verify(place.at("log"), &options, |_, _| {}).unwrap();
}

/// Once the segments that both have were removed from there, and those of the other copy that have
/// the names of own ones.
#[test]
fn segments_come_back_and_stay_for_another_copy_that_archives_there_too() {
    let place = Place::new();
    place.write_archived();
    copy_folder(&place.at("log"), &place.at("moved"));
    adopt(place.at("moved"), Adoption::Moved, &options()).unwrap();
    let moved = Log::open(place.at("moved"), options()).unwrap();
    append(&moved, 60);
    archive(&moved, &place.at("archive"), ArchiveLimit::All).unwrap();
    moved.close().unwrap();
    let log = place.open();
    append(&log, 60);
    let all = payloads(&log);
    log.close().unwrap();
    let names = place.segments("archive");
    let report = bring_back_archive(place.at("log"), &options(), |_, _| {}).unwrap();
    assert!(report.moved > 10 && report.moved < names.len() as u64, "{report:?} {names:?}");
    assert_eq!(place.segments("archive"), names);
    verify(place.at("moved"), &options(), |_, _| {}).unwrap();
    verify(place.at("log"), &options(), |_, _| {}).unwrap();
    fs::rename(place.at("archive"), place.at("gone")).unwrap();
    let log = place.open();
    assert_eq!((payloads(&log), log.blocking().stats().unwrap().archive), (all, None));
}
