//! Damage to a log that was closed: the log never gives a wrong answer and never hides the damage.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use diptych_log::{
    Background, Log, LogOptions, OpenError, VerifyError,
    disk::{Disk, simulated::SimulatedDisk},
    verify,
};
use diptych_store::{Append, EventStore, Filter, RawEvent, Read, ReadError, Tag};

const FOLDER: &str = "/data/log";

fn options(disk: &SimulatedDisk) -> LogOptions {
    LogOptions {
        segment_bytes: 1024,
        index_bytes: 400,
        background: Background::Inline,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

/// A closed log of a few segments, as files.
fn files(commits: u64) -> Vec<(PathBuf, Vec<u8>)> {
    files_and_manifest(commits).0
}

/// The files of such a log, and its manifest from before it was closed.
fn files_and_manifest(commits: u64) -> (Vec<(PathBuf, Vec<u8>)>, Vec<u8>) {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    for number in 0..commits {
        let event = |at: u64| {
            RawEvent::new("counted", format!("{number}.{at}")).tag(Tag::new("odd", number % 2))
        };
        log.blocking().commit(Append::events((0..1 + number % 3).map(event))).unwrap();
    }
    let manifest = disk.contents().into_iter().find(|(path, _)| is_manifest(path)).unwrap().1;
    log.close().unwrap();
    (disk.contents(), manifest)
}

fn disk_of(
    files: &[(PathBuf, Vec<u8>)],
    changed: usize,
    change: impl Fn(&mut Vec<u8>),
) -> SimulatedDisk {
    let disk = SimulatedDisk::new(2);
    for folder in ["segments", "index"] {
        disk.create_dir(&Path::new(FOLDER).join(folder)).unwrap();
    }
    for (at, (path, bytes)) in files.iter().enumerate() {
        let mut bytes = bytes.clone();
        if at == changed {
            change(&mut bytes);
        }
        disk.create(path, 0).unwrap().write_at(0, &bytes).unwrap();
    }
    disk
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}

fn is_manifest(path: &Path) -> bool {
    path.ends_with("manifest")
}

fn payloads(log: &Log) -> Result<Vec<Vec<u8>>, ReadError> {
    let batch = log.blocking().read(&Filter::everything(), Read::all())?;
    Ok(batch.iter().map(|event| event.payload().to_vec()).collect())
}

/// Opens and reads the log. Either the open or the read reports the damage, or the read gives all
/// the events. At most the record of the close may be missing.
fn open_and_read(disk: &SimulatedDisk, expected: &[Vec<u8>]) -> Result<(), String> {
    let log = match Log::open(FOLDER, options(disk)) {
        Ok(log) => log,
        Err(error @ (OpenError::Corrupt(_) | OpenError::Newer { .. })) => {
            return Err(error.to_string());
        }
        Err(other) => panic!("refused for another reason: {other}"),
    };
    match payloads(&log) {
        Ok(found) => {
            assert_eq!(found, expected);
            Ok(())
        }
        Err(ReadError::Corrupt(corruption)) => Err(corruption.to_string()),
        Err(other) => panic!("refused for another reason: {other}"),
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    let files = files(25);
    let expected = {
        let log = Log::open(FOLDER, options(&disk_of(&files, usize::MAX, |_| {}))).unwrap();
        payloads(&log).unwrap()
    };
    let mut noticed = BTreeSet::new();
    for (at, (path, bytes)) in files.iter().enumerate() {
        for byte in 0..bytes.len() {
            // Each byte gets another of its eight bits flipped. The tests of frames and headers
            // flip all bits.
            let flip = |bytes: &mut Vec<u8>| bytes[byte] ^= 1 << (byte % 8);
            let disk = disk_of(&files, at, flip);
            let verified = verify(FOLDER, &options(&disk), |_, _| ());
            let read = open_and_read(&disk, &expected);
            if let Err(problem) = &read {
                assert!(is_segment(path) || is_manifest(path), "{}: {problem}", path.display());
                assert!(problem.contains("byte"), "{problem}");
            }
            if verified.is_err() {
                noticed.insert(at);
            } else {
                assert!(read.is_ok(), "{} byte {byte}: verify missed it", path.display());
            }
        }
    }
    let checked = |path: &Path| path.extension().is_some() || is_manifest(path);
    let all = files.iter().enumerate().filter(|(_, (path, _))| checked(path)).map(|(at, _)| at);
    assert_eq!(noticed, all.collect(), "every segment, index file and manifest is verified");
}

#[test]
fn verify_reports_the_place_of_the_damage() {
    let files = files(25);
    let first = files.iter().position(|(path, _)| is_segment(path)).unwrap();
    let disk = disk_of(&files, first, |bytes| bytes[90] ^= 1);
    let Err(VerifyError::Damaged(damage)) = verify(FOLDER, &options(&disk), |_, _| ()) else {
        panic!("the damage was not found")
    };
    assert_eq!(damage[0].file, files[first].0);
    assert_eq!(damage[0].offset, 64);
    assert!(damage[0].advice.contains("backup"), "{:?}", damage[0]);
}

/// The record at the end of a complete segment has the checksum of the records before it, and no
/// event.
#[test]
fn a_damaged_checkpoint_record_loses_no_event() {
    let files = files(25);
    let log = Log::open(FOLDER, options(&disk_of(&files, usize::MAX, |_| {}))).unwrap();
    let expected = payloads(&log).unwrap();
    let segments: Vec<_> = (0..files.len()).filter(|at| is_segment(&files[*at].0)).collect();
    for at in &segments[..segments.len() - 1] {
        let disk = disk_of(&files, *at, |bytes| *bytes.last_mut().unwrap() ^= 1);
        assert!(verify(FOLDER, &options(&disk), |_, _| ()).is_err(), "verify says so");
        assert_eq!(open_and_read(&disk, &expected), Ok(()));
    }
}

#[test]
fn a_log_that_is_cut_anywhere_has_whole_commits_or_is_refused() {
    let (mut files, older) = files_and_manifest(16);
    // The first commit of the last segment was durable when the manifest was written.
    files.iter_mut().find(|(path, _)| is_manifest(path)).unwrap().1 = older;
    let last = files.iter().rposition(|(path, _)| is_segment(path)).unwrap();
    let (whole, mut refused) = (files[last].1.len(), 0);
    for length in 0..whole {
        let disk = disk_of(&files, last, |bytes| bytes.truncate(length));
        // The other files that would prove the loss are removed.
        for (path, _) in files.iter().filter(|(path, _)| !is_segment(path) && !is_manifest(path)) {
            disk.remove(path).unwrap();
        }
        let log = match Log::open(FOLDER, options(&disk)) {
            Ok(log) => log,
            Err(error) => {
                assert!(matches!(error, OpenError::Corrupt(_)), "cut at {length}: {error}");
                assert_eq!(refused, length, "a longer log is refused, and a shorter one was not");
                refused += 1;
                continue;
            }
        };
        let found = payloads(&log).unwrap();
        let all: Vec<_> = (0..16_u64)
            .map(|number| {
                (0..1 + number % 3).map(|at| format!("{number}.{at}").into_bytes()).collect()
            })
            .collect::<Vec<Vec<_>>>();
        let fits = (0..=16).any(|commits| all[..commits].concat() == found);
        assert!(fits, "cut at {length}: not whole commits: {found:?}");
        // The next commit follows the remaining events.
        let committed = log.blocking().commit(Append::event(RawEvent::new("more", []))).unwrap();
        assert_eq!(committed.first.get(), found.len() as u64 + 1);
    }
    assert!(refused > 0 && refused < whole / 2, "{refused} of {whole}");
}

#[test]
fn a_missing_segment_is_noticed() {
    let files = files(25);
    let segments = files.iter().filter(|(path, _)| is_segment(path));
    for (path, _) in segments.skip(1) {
        let disk = disk_of(&files, usize::MAX, |_| {});
        disk.remove(path).unwrap();
        let error = Log::open(FOLDER, options(&disk)).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt(_)), "{}: {error}", path.display());
    }
}

#[test]
fn opening_does_not_read_old_segments() {
    let cost = |commits| {
        let disk = disk_of(&files(commits), usize::MAX, |_| {});
        let before = disk.operations();
        let log = Log::open(FOLDER, options(&disk)).unwrap();
        let cost = disk.operations() - before;
        (cost, log.head().position().get())
    };
    let (few, head_of_few) = cost(60);
    let (many, head_of_many) = cost(600);
    assert!(head_of_many > head_of_few * 9);
    // The costs differ only by the number of index files of the last segment.
    assert!(many <= few + 8, "{few} operations for few segments, {many} for many");
}

/// The files of a log of one segment that was killed after a batch of three commits was synced.
fn killed() -> Vec<(PathBuf, Vec<u8>)> {
    let disk = SimulatedDisk::new(3);
    let mut options = options(&disk);
    (options.segment_bytes, options.index_bytes) = (1 << 20, 1 << 20);
    let log = Log::open(FOLDER, options).unwrap();
    let event = |number: u64| Append::event(RawEvent::new("counted", number.to_string()));
    log.blocking().commit(event(1)).unwrap();
    for number in 2..=4 {
        let _ = log.blocking().append(event(number)).unwrap();
    }
    log.blocking().flush().unwrap();
    disk.process_kill().contents()
}

/// Once, if a bit flipped in the last batch, an open cut off the batch as if it had never been
/// synced, although the published head proved the sync.
#[test]
fn a_synced_batch_is_not_cut_off_in_silence() {
    let files = killed();
    let segment = files.iter().position(|(path, _)| is_segment(path)).unwrap();
    let disk = disk_of(&files, segment, |bytes| {
        // Behind the commits are zeros, which are space for later commits.
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        bytes[end - 40] ^= 1;
    });
    for attempt in ["the first", "the second"] {
        let error = Log::open(FOLDER, options(&disk)).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt(_)), "{attempt} open: {error}");
    }
}

/// Once, a log whose only segment was empty or missing became a new, empty log, and the proof of
/// the loss was removed.
#[test]
fn a_log_without_its_only_segment_is_not_a_new_one() {
    let files = killed();
    let segment = files.iter().position(|(path, _)| is_segment(path)).unwrap();
    let cut = disk_of(&files, segment, Vec::clear);
    let gone = disk_of(&files, usize::MAX, |_| {});
    gone.remove(&files[segment].0).unwrap();
    for disk in [cut, gone] {
        for attempt in ["the first", "the second"] {
            let error = Log::open(FOLDER, options(&disk)).unwrap_err();
            assert!(matches!(error, OpenError::Corrupt(_)), "{attempt} open: {error}");
        }
    }
}

/// Once, the first refused open removed the index file that was the proof, and the second open cut
/// off commits.
#[test]
fn a_second_open_is_refused_like_the_first() {
    let files = files(25);
    let is = |path: &Path, name: &str| path.to_string_lossy().contains(name);
    let last = files.iter().rposition(|(path, _)| is_segment(path)).unwrap();
    // Here only index files prove the loss, and the first index file of the segment is missing.
    let disk = disk_of(&files, last, |bytes| {
        let middle = bytes.len() / 2;
        bytes.truncate(middle);
    });
    let name = files[last].0.file_stem().unwrap().to_string_lossy()[..8].to_owned();
    let mut runs = files.iter().filter(|(path, _)| is(path, "index") && is(path, &name));
    disk.remove(&runs.next().unwrap().0).unwrap();
    assert!(runs.next().is_some(), "another index file must prove the loss");
    disk.remove(&Path::new(FOLDER).join("head")).unwrap();
    for attempt in ["the first", "the second"] {
        let error = Log::open(FOLDER, options(&disk)).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt(_)), "{attempt} open: {error}");
    }
}
