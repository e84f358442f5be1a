//! Logs that targets put files into: kept as files of the repository, so that an input means the
//! same on every machine.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use diptych_log::{
    ArchiveLimit, Background, Clustering, Log, LogOptions, PlacePolicy,
    disk::{Disk, simulated::SimulatedDisk},
};
use diptych_store::{
    Append, Digest, Key, Limits, Metadata, RawEvent, Tag, TimeSource, Timestamp, Tracking,
};
use uuid::Uuid;

/// The folder of the log on the simulated disk.
pub(crate) const FOLDER: &str = "/log";
/// The folder of its archive there.
pub(crate) const ARCHIVE: &str = "/archive";
/// How the names of the files in the archive begin among those of a fixture.
pub(crate) const IN_ARCHIVE: &str = "archive/";
/// No file of a log grows beyond this on the simulated disk.
const CAPACITY: u64 = 16 << 20;

/// The files of a log and of its archive, by their names in its folder, in order.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

/// A log that was closed: segments of both kinds, index files, a group file.
pub(crate) static CLOSED: LazyLock<Fixture> = LazyLock::new(|| Fixture::load("closed"));
/// The log before its last commits and its end in order: its process was killed.
pub(crate) static KILLED: LazyLock<Fixture> = LazyLock::new(|| Fixture::load("killed"));
/// The closed log with its first segments in an archive.
pub(crate) static ARCHIVED: LazyLock<Fixture> = LazyLock::new(|| Fixture::load("archived"));
/// The events of all these logs, in order, and the keys and the tracking of their commits.
pub(crate) static CONTENT: LazyLock<Vec<Append>> = LazyLock::new(content);

/// Commits with every feature.
fn content() -> Vec<Append> {
    (0..110).map(commit).collect()
}

fn commit(number: u64) -> Append {
    let event = |at: u64| {
        let payload = format!("{{\"number\":{number},\"at\":{at}}}");
        RawEvent::new(["opened", "paid", "closed"][(number % 3) as usize], payload)
            .tag(Tag::new("account", number % 7))
            .tag(Tag::new("tenant", at))
    };
    let metadata = Metadata {
        occurred_at: Some(Timestamp::from_micros(-5)),
        correlation: Some(Uuid::from_u128(2)),
        causation: Some(Uuid::from_u128(3)),
        actor: Some("ann".into()),
        extra: [("ip".into(), "::1".into())].into(),
    };
    let full = event(0).version(3).id(Uuid::from_u128(u128::from(number))).metadata(metadata);
    let mut append = match number % 6 {
        0 => Append::events((0..3).map(event)),
        1 => Append::event(full),
        2 => Append::event(event(1)).key(Key::new(format!("key {number}"), Digest([9; 16]))),
        3 => Append::event(event(2)).tracking(Tracking::new("billing", number)),
        4 => Append::default().tracking(Tracking::new("stock", number)),
        _ => Append::event(RawEvent::new("noted", number.to_string())),
    };
    append.recorded_at = Some(Timestamp::from_micros(1_357_000_000_000_000 + number as i64));
    append
}

/// The events of the commits.
pub(crate) fn events(of: &[Append]) -> Vec<RawEvent> {
    of.iter().flat_map(|append| append.events.clone()).collect()
}

pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.batch_events = 40;
    limits
}

pub(crate) fn options(disk: &SimulatedDisk) -> LogOptions {
    LogOptions {
        place: PlacePolicy::Follow,
        limits: limits(),
        time: TimeSource::Caller,
        segment_bytes: 1024,
        index_bytes: 500,
        background: Background::Inline,
        clustering: Clustering::Background,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

impl Fixture {
    fn load(name: &str) -> Fixture {
        let mut files = Vec::new();
        let root = folder(name);
        let archive = ["archive", "archive/segments"];
        let archive = archive.into_iter().filter(|part| root.join(part).exists());
        for part in ["", "segments", "index"].into_iter().chain(archive) {
            let listed = fs::read_dir(root.join(part));
            let listed = listed.unwrap_or_else(|error| panic!("{}: {error}", root.display()));
            let paths = listed.filter_map(|entry| entry.ok().map(|entry| entry.path()));
            for path in paths.filter(|path| path.is_file()) {
                let bytes = fs::read(&path);
                let bytes = bytes.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
                files.push((name, bytes));
            }
        }
        files.sort();
        Fixture { files }
    }

    /// The names of the files that end so.
    pub(crate) fn names(&self, ending: &str) -> Vec<&str> {
        let names = self.files.iter().map(|(name, _)| name.as_str());
        names.filter(|name| name.ends_with(ending)).collect()
    }

    pub(crate) fn bytes(&self, name: &str) -> &[u8] {
        let found = self.files.iter().find(|(known, _)| known == name);
        found.map_or(&[], |(_, bytes)| bytes)
    }

    /// A disk with these files but for those in `without`, and with `bytes` as file `name`.
    pub(crate) fn disk(&self, name: &str, bytes: &[u8], without: &[&str]) -> SimulatedDisk {
        let disk = SimulatedDisk::new(1);
        disk.set_capacity(CAPACITY);
        let kept = self.files.iter().filter(|(known, _)| known != name);
        let kept = kept.filter(|(known, _)| !without.contains(&known.as_str()));
        let kept = kept.map(|(known, bytes)| (known.as_str(), bytes.as_slice()));
        for (name, bytes) in kept.chain([(name, bytes)]) {
            let put = put(&disk, name, bytes);
            put.unwrap_or_else(|error| panic!("{name} cannot be put on the disk: {error}"));
        }
        disk
    }
}

fn put(disk: &SimulatedDisk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = match name.strip_prefix(IN_ARCHIVE) {
        Some(name) => Path::new(ARCHIVE).join(name),
        None => Path::new(FOLDER).join(name),
    };
    disk.create_dir(path.parent().unwrap_or(Path::new(FOLDER)))?;
    let file = disk.create(&path, 0)?;
    file.write_at(0, bytes)?;
    file.sync()
}

/// Writes the logs that are missing into the repository. They are never written again.
pub fn write_fixtures() {
    let disk = SimulatedDisk::new(1);
    let log = Log::open(FOLDER, options(&disk)).unwrap_or_else(|error| panic!("{error}"));
    for append in CONTENT.iter() {
        let committed = log.blocking().commit(append.clone());
        committed.unwrap_or_else(|error| panic!("{error}"));
    }
    save("killed", &disk.process_kill());
    log.close().unwrap_or_else(|error| panic!("{error}"));
    save("closed", &disk);
    let log = Log::open(FOLDER, options(&disk)).unwrap_or_else(|error| panic!("{error}"));
    let archived = log.archive(ARCHIVE, ArchiveLimit::KeepSegments(3), |_, _| {});
    archived.unwrap_or_else(|error| panic!("{error}"));
    log.close().unwrap_or_else(|error| panic!("{error}"));
    save("archived", &disk);
}

fn save(name: &str, disk: &SimulatedDisk) {
    if folder(name).exists() {
        return;
    }
    // A lock has the name of a process that is gone.
    let is_kept = |path: &Path| path.file_name().is_none_or(|name| name != "lock");
    for (path, bytes) in disk.contents().into_iter().filter(|(path, _)| is_kept(path)) {
        let of_archive = path.strip_prefix(ARCHIVE).map(|name| Path::new(IN_ARCHIVE).join(name));
        let name_in_log = path.strip_prefix(FOLDER).map(Path::to_owned);
        let to = folder(name).join(of_archive.or(name_in_log).unwrap_or_else(|_| path.clone()));
        let parent = to.parent().unwrap_or(&to);
        let saved = fs::create_dir_all(parent).and_then(|()| fs::write(&to, bytes));
        saved.unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    }
}
