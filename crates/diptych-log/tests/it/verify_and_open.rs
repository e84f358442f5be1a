//! A verification finds every problem that an open finds: a log that an open refuses is not in
//! order.

use std::{path::Path, sync::Arc, time::Duration};

use diptych_log::{
    Background, BackupOptions, Clustering, Durability, Log, LogOptions, VerifyError, backup,
    disk::simulated::SimulatedDisk, verify,
};
use diptych_store::{Append, Filter, RawEvent, Read, Tag, Tracking};

use crate::log_files::{FOLDER, Files, disk_of};

const HOUR: Duration = Duration::from_secs(3_600);

fn options(disk: &SimulatedDisk) -> LogOptions {
    LogOptions {
        segment_bytes: 1024,
        index_bytes: 400,
        background: Background::Inline,
        clustering: Clustering::Background,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

fn commit(log: &Log, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let event = RawEvent::new("counted", number.to_string()).tag(Tag::new("odd", number % 2));
        log.blocking().commit(Append::event(event)).unwrap();
        if number % 3 == 0 {
            // This commit has no event.
            let tracking = Tracking::new("source", number + 1);
            log.blocking().commit(Append::default().tracking(tracking)).unwrap();
        }
    }
}

/// A log of a few segments that was closed.
fn closed() -> Files {
    closed_and_manifest().0
}

/// The files of such a log, and its manifest from before it was closed.
fn closed_and_manifest() -> (Files, Vec<u8>) {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    commit(&log, 0..40);
    let before = disk.contents().into_iter().find(|(path, _)| is_in(path, "manifest"));
    log.close().unwrap();
    (disk.contents(), before.unwrap().1)
}

/// A log of one segment whose process was killed.
fn killed(durability: Durability) -> Files {
    let disk = SimulatedDisk::new(2);
    let segment_bytes = 1 << 20;
    let log = Log::open(FOLDER, LogOptions { segment_bytes, durability, ..options(&disk) });
    let log = log.unwrap();
    commit(&log, 0..9);
    log.blocking().flush().unwrap();
    disk.process_kill().contents()
}

/// A backup in the folder of the log.
fn backed_up() -> Files {
    let disk = SimulatedDisk::new(3);
    let log = Log::open("/data/source", options(&disk)).unwrap();
    commit(&log, 0..20);
    let to = BackupOptions { disk: Arc::new(disk.clone()), ..BackupOptions::default() };
    backup("/data/source", FOLDER, &to, |_, _| ()).unwrap();
    // This open makes an index.
    drop(Log::open(FOLDER, options(&disk)).unwrap());
    let mut files = disk.contents();
    files.retain(|(path, _)| path.starts_with(FOLDER));
    files
}

fn is_in(path: &Path, name: &str) -> bool {
    path.strip_prefix(FOLDER).is_ok_and(|path| path.starts_with(name))
}

fn last_segment(files: &Files) -> usize {
    files.iter().rposition(|(path, _)| is_in(path, "segments")).unwrap()
}

/// Damaged copies of these files: the last segment is cut to every length, and other files to some
/// lengths; each file is removed; the last few segments are removed together.
fn damages(files: &Files) -> impl Iterator<Item = (String, Files)> {
    const SOME: usize = 37;
    let last = last_segment(files);
    let cut = files.iter().enumerate().flat_map(move |(at, (path, bytes))| {
        // Behind the commits are zeros, which are space for later commits.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 2);
        let step = if at == last { 1 } else { SOME };
        (0..used.min(bytes.len())).step_by(step).map(move |length| {
            let mut files = files.clone();
            files[at].1.truncate(length);
            (format!("{} cut to {length}", path.display()), files)
        })
    });
    let removed = (0..files.len()).map(|at| {
        let mut files = files.clone();
        let (path, _) = files.remove(at);
        (format!("{} removed", path.display()), files)
    });
    let segments: Vec<_> = files.iter().filter(|(path, _)| is_in(path, "segments")).collect();
    let fewer = (0..segments.len()).map(move |left| {
        let mut files = files.clone();
        files.retain(|(path, _)| !segments[left..].iter().any(|(gone, _)| gone == path));
        (format!("only {left} segments left"), files)
    });
    cut.chain(removed).chain(fewer)
}

/// Once, `verify` found a log in order that every open refused: its end was cut off where a commit
/// ends, and its index was removed.
#[test]
fn a_log_that_an_open_refuses_is_not_in_order() {
    let logs = [
        ("closed", closed()),
        ("killed", killed(Durability::Synced)),
        ("killed between syncs", killed(Durability::Interval { interval: HOUR })),
        ("backup", backed_up()),
    ];
    for (name, files) in &logs {
        let (mut refused, mut cases) = (0, 0);
        for (damage, damaged) in damages(files) {
            for without in [&[][..], &["index"], &["head"], &["index", "head"]] {
                let mut files = damaged.clone();
                files.retain(|(path, _)| !without.iter().any(|name| is_in(path, name)));
                let disk = disk_of(&files);
                let verified = verify(FOLDER, &options(&disk), |_, _| ());
                let opened = Log::open(FOLDER, options(&disk));
                cases += 1;
                if let (Err(error), Ok(verified)) = (&opened, &verified) {
                    panic!("{name}: {damage}, without {without:?}: {error}, but {verified:?}");
                }
                refused += u64::from(opened.is_err());
            }
        }
        assert!(refused > 0 && refused < cases, "{name}: {refused} of {cases} were refused");
    }
}

/// The lengths at which the last segment ends with a whole commit, so that an open cuts off
/// nothing. The manifest is from before the log was closed.
fn commit_ends(files: &Files, manifest: &[u8]) -> Vec<(usize, u64)> {
    let last = last_segment(files);
    let mut ends = Vec::new();
    for length in 1..files[last].1.len() {
        let mut cut = files.clone();
        cut[last].1.truncate(length);
        cut.retain(|(path, _)| is_in(path, "segments"));
        cut.push((Path::new(FOLDER).join("manifest"), manifest.to_vec()));
        let disk = disk_of(&cut);
        let Ok(verified) = verify(FOLDER, &options(&disk), |_, _| ()) else { continue };
        let log = Log::open(FOLDER, options(&disk)).unwrap();
        // A torn end begins a new segment.
        if log.blocking().stats().unwrap().segments == verified.segments {
            ends.push((length, verified.events));
        }
    }
    ends
}

#[test]
fn verify_says_from_which_position_on_events_are_missing() {
    let (files, manifest) = closed_and_manifest();
    let last = last_segment(&files);
    let whole = files[last].1.len();
    let ends = commit_ends(&files, &manifest);
    assert!(ends.len() > 3, "{ends:?}");
    for (length, events) in ends {
        let mut cut = files.clone();
        cut[last].1.truncate(length);
        cut.retain(|(path, _)| !is_in(path, "index"));
        let verified = verify(FOLDER, &options(&disk_of(&cut)), |_, _| ());
        let Err(VerifyError::Damaged(damage)) = verified else {
            panic!("cut to {length} of {whole} bytes: {verified:?}")
        };
        let [damage] = &damage[..] else { panic!("{damage:?}") };
        assert_eq!(damage.file, files[last].0);
        // Zeros at the end may be prepared space, so the damage may begin before the cut.
        assert!(damage.offset <= length as u64, "{damage:?} of {length}");
        let position = format!("position {}", if events < 40 { events + 1 } else { events });
        assert!(damage.what.contains(&position), "{}", damage.what);
        assert!(damage.advice.contains("backup"), "{}", damage.advice);
    }
}

/// Once, an open compared only positions with the published head. A commit without events could be
/// cut off, and with it the position of a source.
#[test]
fn a_lost_commit_without_events_is_noticed() {
    let disk = SimulatedDisk::new(5);
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    commit(&log, 1..3);
    let before = disk.contents();
    let tracking = Tracking::new("another source", 7);
    log.blocking().commit(Append::default().tracking(tracking)).unwrap();
    let mut files = disk.process_kill().contents();
    let segment = last_segment(&files);
    files[segment] = before[segment].clone();
    let disk = disk_of(&files);
    verify(FOLDER, &options(&disk), |_, _| ()).unwrap_err();
    let error = Log::open(FOLDER, options(&disk)).unwrap_err().to_string();
    assert!(error.contains("after position 2"), "{error}");
}

/// A loss of power can leave the content of one file under the name of another, because index files
/// are not synced. Once, the open used such a file, and left it there under the wrong name.
#[test]
fn an_index_file_with_the_content_of_another_one_is_removed_by_an_open() {
    let disk = SimulatedDisk::new(4);
    // All index files belong to the last segment.
    let options = LogOptions { segment_bytes: 1 << 20, ..options(&disk) };
    let log = Log::open(FOLDER, options.clone()).unwrap();
    commit(&log, 0..20);
    log.close().unwrap();
    let mut files = disk.contents();
    let is_index = |path: &Path| path.extension().is_some_and(|ending| ending == "run");
    let mut index = (0..files.len()).rev().filter(|at| is_index(&files[*at].0));
    let (last, before) = (index.next().unwrap(), index.next().unwrap());
    files[last].1 = files[before].1.clone();
    files.remove(before);

    let disk = Arc::new(disk_of(&files));
    let options = LogOptions { disk: disk.clone(), ..options };
    let log = Log::open(FOLDER, options.clone()).unwrap();
    commit(&log, 20..22);
    let all = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
    assert_eq!(all.len(), 22);
    let odd = Filter::tag(Tag::new("odd", 1));
    assert_eq!(log.blocking().read(&odd, Read::all()).unwrap().len(), 11);
    log.close().unwrap();
    verify(FOLDER, &options, |_, _| {}).unwrap();
}
