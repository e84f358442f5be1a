//! Logs that earlier versions wrote, as files of this repository. Every later version opens them.
//!
//! `DIPTYCH_WRITE_SAMPLE=1 cargo test -p diptych-log --features testing --test it samples` writes
//! the sample of the present format if there is none. A sample is never written again.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use diptych_log::{
    Adoption, ArchiveLimit, Log, LogOptions, OpenError, adopt, bring_back_archive,
    relocate_archive, verify,
};
use diptych_store::{
    Append, Digest, EventStore, Filter, Key, Metadata, Position, RawEvent, Read, Tag, TimeSource,
    Timestamp, Tracking,
};
use uuid::Uuid;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name)
}

/// The content of each sample: commits with every feature, over several segments.
fn commits() -> Vec<Append> {
    let mut commits = Vec::new();
    for number in 0..60_u64 {
        let event = |at: u64| {
            let payload = format!("{{\"number\":{number},\"at\":{at}}}");
            RawEvent::new(["opened", "paid", "closed"][(number % 3) as usize], payload)
                .tag(Tag::new("account", number % 7))
                .tag(Tag::new("tenant", at))
        };
        let full = event(0).version(3).id(Uuid::from_u128(u128::from(number))).metadata(Metadata {
            occurred_at: Some(Timestamp::from_micros(-5)),
            correlation: Some(Uuid::from_u128(2)),
            causation: Some(Uuid::from_u128(3)),
            actor: Some("ann".into()),
            extra: [("ip".into(), "::1".into())].into(),
        });
        let mut append = match number % 5 {
            0 => Append::events((0..4).map(event)),
            1 => Append::event(full),
            2 => Append::event(event(1)).key(Key::new(format!("key {number}"), Digest([9; 16]))),
            3 => Append::event(event(2)).tracking(Tracking::new("billing", number)),
            _ => Append::default().tracking(Tracking::new("stock", number)),
        };
        append.recorded_at = Some(Timestamp::from_micros(1_357_000_000_000_000 + number as i64));
        commits.push(append);
    }
    commits
}

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 2048,
        index_bytes: 700,
        time: TimeSource::Caller,
        ..LogOptions::default()
    }
}

fn write_sample(dir: &Path) {
    let log = Log::open(dir, options()).unwrap();
    for append in commits() {
        log.blocking().commit(append).unwrap();
    }
    log.close().unwrap();
    fs::remove_file(dir.join("lock")).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn the_sample_of_format_1_opens_with_all_its_commits() {
    opens_and_holds(&sample("format-1"));
}

/// No record of this format binds an index file to its segment. It is not read any more, and still
/// says up to where the segment was durable.
#[test]
fn an_index_file_of_format_1_shows_that_the_last_commit_is_missing() {
    let last = "segments/00000005-00000000000000000064.seg";
    // The last commit with an index file of its own.
    const FROM: usize = 1643;
    for (cut, what) in [
        (true, "proves it durable up to byte 1847"),
        (false, "records up to byte 1847 were durable and are gone"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        copy(&sample("format-1"), dir.path());
        fs::remove_file(dir.path().join("head")).unwrap();
        let mut bytes = fs::read(dir.path().join(last)).unwrap();
        assert_eq!(bytes.len(), 1847);
        match cut {
            true => bytes.truncate(FROM),
            false => bytes[FROM..].fill(0),
        }
        fs::write(dir.path().join(last), &bytes).unwrap();
        let error = Log::open(dir.path(), options()).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt(_)), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(fs::read(dir.path().join(last)).unwrap(), bytes, "it was changed");
    }
}

/// This sample has records of the running checksum, and index files of format 3.
#[test]
fn the_sample_with_running_checksums_opens_with_all_its_commits() {
    opens_and_holds(&sample("format-1-checksums"));
}

/// This sample has a manifest.
#[test]
fn the_sample_of_format_2_opens_with_all_its_commits() {
    let sample = sample("format-2");
    if env::var_os("DIPTYCH_WRITE_SAMPLE").is_some() && !sample.exists() {
        write_sample(&sample);
    }
    opens_and_holds(&sample);
}

/// This sample has an archive beside it, which has another path in every copy of it.
#[test]
fn the_sample_with_an_archive_opens_with_all_its_commits() {
    let sample = sample("format-2-archive");
    if env::var_os("DIPTYCH_WRITE_SAMPLE").is_some() && !sample.exists() {
        write_archived_sample(&sample);
    }
    let dir = tempfile::tempdir().unwrap();
    copy(&sample, dir.path());
    let (log, archive) = (dir.path().join("log"), dir.path().join("archive"));
    let error = verify(&log, &options(), |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("the archive of the log"), "{error}");
    let report = relocate_archive(&log, &archive, &options()).unwrap();
    assert!(report.archived > 1, "{report:?}");
    adopt(&log, Adoption::Moved, &options()).unwrap();
    let events: Vec<RawEvent> = commits().into_iter().flat_map(|append| append.events).collect();
    let verified = verify(&log, &options(), |_, _| ()).unwrap();
    assert_eq!(verified.events, events.len() as u64);
    holds(&log, &events);
    // A stub or an index file that is gone is made again from the archive.
    fs::remove_dir_all(log.join("index")).unwrap();
    for entry in fs::read_dir(log.join("segments")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "arc") {
            fs::remove_file(path).unwrap();
        }
    }
    holds(&log, &events);
    bring_back_archive(&log, &options(), |_, _| ()).unwrap();
    fs::remove_dir_all(archive).unwrap();
    holds(&log, &events);
    verify(&log, &options(), |_, _| ()).unwrap();
}

/// The manifest has the path of the archive, so the log is written to a path without meaning.
fn write_archived_sample(sample: &Path) {
    let dir = env::temp_dir().join("diptych-sample");
    let log = dir.join("log");
    write_sample(&log);
    let opened = Log::open(&log, options()).unwrap();
    opened.archive(dir.join("archive"), ArchiveLimit::KeepSegments(2), |_, _| {}).unwrap();
    opened.close().unwrap();
    for folder in [&log, &dir.join("archive")] {
        fs::remove_file(folder.join("lock")).unwrap();
    }
    copy(&dir, sample);
    fs::remove_dir_all(dir).unwrap();
}

fn opens_and_holds(sample: &Path) {
    let dir = tempfile::tempdir().unwrap();
    copy(sample, dir.path());
    let has_manifest = sample.join("manifest").exists();
    if has_manifest {
        let moved = Log::open(dir.path(), options());
        assert!(matches!(moved, Err(OpenError::Moved { .. })), "{moved:?}");
    }
    let verified = verify(dir.path(), &options(), |_, _| ()).unwrap();
    let events: Vec<RawEvent> = commits().into_iter().flat_map(|append| append.events).collect();
    assert_eq!(verified.events, events.len() as u64);
    assert!(verified.segments > 3 && verified.index_files > 2, "{verified:?}");
    if has_manifest {
        adopt(dir.path(), Adoption::Moved, &options()).unwrap();
    }
    holds(dir.path(), &events);
    // The log opens without its index, too.
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    holds(dir.path(), &events);
    // The log opens again with the rebuilt index.
    holds(dir.path(), &events);
    verify(dir.path(), &options(), |_, _| ()).unwrap();
}

fn holds(dir: &Path, events: &[RawEvent]) {
    let log = Log::open(dir, options()).unwrap();
    let batch = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
    let found: Vec<RawEvent> = batch.iter().map(|event| event.to_raw()).collect();
    assert_eq!(found, events);
    let paid: Filter = "type=paid tag=account:3".parse().unwrap();
    let matching = batch.iter().filter(|event| paid.matches(event)).map(|event| event.position());
    let matching: Vec<Position> = matching.collect();
    let read = log.blocking().read(&paid, Read::all()).unwrap();
    assert_eq!(read.iter().map(|event| event.position()).collect::<Vec<_>>(), matching);
    let keyed = log.blocking().keyed("key 7").unwrap().unwrap();
    assert_eq!((keyed.digest, keyed.first), (Digest([9; 16]), keyed.last));
    let tracked = |source| log.blocking().tracked(source).unwrap().unwrap().position.get();
    assert_eq!((tracked("billing"), tracked("stock")), (58, 59));
    assert_eq!(log.head().position().get(), events.len() as u64);
}

#[test]
fn a_log_of_this_version_has_the_same_content_as_the_samples() {
    let dir = tempfile::tempdir().unwrap();
    write_sample(dir.path());
    let events: Vec<RawEvent> = commits().into_iter().flat_map(|append| append.events).collect();
    holds(dir.path(), &events);
}
