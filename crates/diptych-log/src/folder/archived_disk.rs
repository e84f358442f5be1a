//! The one place that knows where a segment lies: the disk of a folder, some of whose segments may
//! be in an archive.
//!
//! Everything that reads segments names them by their path in the log's folder, and reads them
//! through this disk. It looks in the folder first. Only if a file is not there, it asks the
//! manifest whether the segment is archived by now, and reads it from the archive. So nothing has
//! to be told when a segment moves, neither in this process nor in another one.
//!
//! The subtle thing is a stub without its segment. A segment is archived once the manifest says so,
//! whatever files there are: a stub of any other segment is a left-over, and is not shown.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use diptych_store::Timestamp;

use crate::{
    disk::{Disk, DiskFile, DiskLock, FolderPlace, LockError},
    error::{OpenError, is_unreachable_archive, of_other_file},
    folder::{
        archive::{self, Archive},
        manifest,
    },
    format::{archive::SegmentStub, manifest::ArchivePlace, segment::parse_file_name},
    sync::Mutex,
};

/// Attempts to list the segments while another process archives some, or brings some back.
const ATTEMPTS: usize = 100;
/// Listings with a gap, after which one is believed: a segment is missing.
const WITH_GAP: usize = 3;

/// The disk of a folder with a log, or with anything else: then it is as the disk below.
#[derive(Debug)]
pub(crate) struct ArchivedDisk {
    below: Arc<dyn Disk>,
    segments: PathBuf,
    locator: Arc<Locator>,
}

/// Knows which segments of a log are archived, and reaches the archive.
#[derive(Debug)]
struct Locator {
    /// Reaches the folder of the log through its open handle.
    below: Arc<dyn Disk>,
    root: PathBuf,
    state: Mutex<LocatorState>,
}

#[derive(Clone, Debug, Default)]
struct LocatorState {
    /// The manifest's answer when it was last asked.
    place: Option<ArchivePlace>,
    archive: Option<Archive>,
}

impl ArchivedDisk {
    /// `below` reaches the folder at `root` pinned.
    pub(crate) fn of(below: Arc<dyn Disk>, root: &Path) -> Arc<dyn Disk> {
        let (root, state) = (root.to_owned(), Mutex::default());
        let segments = root.join("segments");
        let locator = Locator { below: below.clone(), root, state };
        Arc::new(ArchivedDisk { below, segments, locator: Arc::new(locator) })
    }

    /// The name of a file in the folder with the segments.
    fn name_in<'a>(&self, path: &'a Path) -> Option<&'a str> {
        path.strip_prefix(&self.segments).ok()?.to_str()
    }

    /// The sequence of a segment of the log.
    fn sequence(&self, path: &Path) -> Option<u32> {
        parse_file_name(self.name_in(path)?).map(|(sequence, _)| sequence)
    }

    /// Whether this is the stub of a segment that is not known to be archived. The manifest is not
    /// asked, so that a look-up in a log without an archive costs nothing more.
    fn is_hidden(&self, path: &Path) -> bool {
        let sequence = self.name_in(path).and_then(stub_sequence);
        sequence.is_some_and(|sequence| !self.locator.knows(sequence))
    }

    /// An archived segment, which is opened in the archive when something is read that its stub
    /// does not have; `None` if it is not archived.
    fn open_archived(
        &self,
        path: &Path,
        sequence: u32,
        map_bytes: u64,
    ) -> io::Result<Option<Arc<dyn DiskFile>>> {
        if self.locator.place_of(sequence)?.is_none() {
            return Ok(None);
        }
        let stub = archive::read_stub(&*self.below, path)?;
        let (path, opened) = (path.to_owned(), OnceLock::new());
        let locator = self.locator.clone();
        let file = ArchivedFile { locator, sequence, path, map_bytes, stub, opened };
        if file.stub.is_none() {
            file.opened()?;
        }
        Ok(Some(Arc::new(file)))
    }

    /// An archived segment; `None` if it is not archived.
    fn map_archived(&self, path: &Path, sequence: u32) -> io::Result<Option<Bytes>> {
        let name = path.file_name().unwrap_or_default();
        let map = |archive: &Archive| {
            let bytes = archive.disk.map(&archive.segments.join(name))?;
            let stub = archive::read_stub(&*self.below, path)?;
            must_be(stub.as_ref(), bytes.len() as u64, |offset, length| {
                let rest = usize::try_from(offset).ok().and_then(|start| bytes.get(start..));
                Ok(rest.and_then(|rest| rest.get(..length)).unwrap_or_default().to_vec())
            })?;
            Ok(bytes)
        };
        self.locator.ask(sequence, &map)
    }
}

/// Looks for a segment in the folder, then in the archive, and in the folder again: it may have
/// come back after the first look. Then the manifest does not name it any more, or its archive has
/// no mark.
fn in_folder_or_archive<T>(
    folder: impl Fn() -> io::Result<T>,
    archive: impl FnOnce() -> io::Result<Option<T>>,
) -> io::Result<T> {
    let is_missing = |found: &io::Result<T>| {
        found.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    let missing = match folder() {
        found if !is_missing(&found) => return found,
        missing => missing,
    };
    let archived = archive();
    if let Ok(Some(found)) = archived {
        return Ok(found);
    }
    match folder() {
        again if is_missing(&again) => archived.and(missing),
        again => again,
    }
}

fn stub_sequence(name: &str) -> Option<u32> {
    let segment = name.strip_suffix(archive::STUB)?;
    parse_file_name(&format!("{segment}seg")).map(|(sequence, _)| sequence)
}

impl Locator {
    /// Whether the segment was archived when the manifest was last asked.
    fn knows(&self, sequence: u32) -> bool {
        self.state.lock().place.as_ref().is_some_and(|place| sequence <= place.upto)
    }

    /// Where the segment with this sequence lies, if it is archived.
    fn place_of(&self, sequence: u32) -> io::Result<Option<ArchivePlace>> {
        let known = self.state.lock().place.clone();
        match known.filter(|place| sequence <= place.upto) {
            Some(place) => Ok(Some(place)),
            None => Ok(self.place_now()?.filter(|place| sequence <= place.upto)),
        }
    }

    /// Asks the manifest.
    fn place_now(&self) -> io::Result<Option<ArchivePlace>> {
        let manifest = manifest::read(&*self.below, &self.root).map_err(|error| match error {
            OpenError::Io { what, cause } => of_other_file(what, cause),
            other => io::Error::new(ErrorKind::InvalidData, other.to_string()),
        })?;
        let place = manifest.and_then(|manifest| manifest.archive);
        self.state.lock().place.clone_from(&place);
        Ok(place)
    }

    /// Reads from the archive; `None` if the segment is not archived.
    ///
    /// A failed read is repeated once, with the archive found anew: it may have been mounted again,
    /// or have another place by now.
    fn ask<T>(
        &self,
        sequence: u32,
        read: &dyn Fn(&Archive) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let Some(place) = self.place_of(sequence)? else { return Ok(None) };
        let open = self.state.lock().archive.clone().filter(|open| open.id == place.id);
        if let Some(Ok(answer)) = open.as_ref().map(read) {
            return Ok(Some(answer));
        }
        self.state.lock().archive = None;
        let Some(place) = self.place_now()?.filter(|place| sequence <= place.upto) else {
            return Ok(None);
        };
        let archive = Archive::open(&*self.below, &place)?;
        self.state.lock().archive = Some(archive.clone());
        read(&archive).map(Some).map_err(|error| of_archive(&place, sequence, error))
    }

    /// The names of all segments, if one is missing in the log's folder before the first one, or
    /// between two.
    fn list(&self, segments: &Path) -> io::Result<Vec<String>> {
        let archived = || Ok::<_, io::Error>(self.place_now()?.map_or(0, |place| place.upto));
        let mut upto = archived()?;
        let mut with_gap = 0;
        for _ in 1..ATTEMPTS {
            let before = upto;
            let names = self.below.list(segments)?;
            upto = archived()?;
            // Otherwise segments may have left the folder or come back while it was listed.
            if upto != before {
                continue;
            }
            let names = self.complete(names, upto)?;
            with_gap += 1;
            // Between two equal answers, all segments may have come back and left again.
            if with_gap == WITH_GAP || is_whole_up_to(&names, last_sequence(&names)) {
                return Ok(names);
            }
        }
        let names = self.below.list(segments)?;
        self.complete(names, upto)
    }

    /// Adds the archived segments up to `upto` to the names in the folder.
    fn complete(&self, mut names: Vec<String>, upto: u32) -> io::Result<Vec<String>> {
        let stubs = names.iter().filter(|name| stub_sequence(name).is_some_and(|at| at <= upto));
        let stubs: Vec<_> = stubs.map(|name| segment_name(name)).collect();
        add_missing(&mut names, stubs);
        if !is_whole_up_to(&names, upto) {
            // Stubs are missing: the archive has the names, too.
            let list = |archive: &Archive| archive.disk.list(&archive.segments);
            let mut archived = self.ask(upto, &list)?.unwrap_or_default();
            archived.retain(|name| parse_file_name(name).is_some_and(|(at, _)| at <= upto));
            add_missing(&mut names, archived);
        }
        Ok(names)
    }
}

fn segment_name(stub: &str) -> String {
    format!("{}seg", stub.strip_suffix(archive::STUB).unwrap_or(stub))
}

fn add_missing(names: &mut Vec<String>, more: Vec<String>) {
    let there = names.iter().filter_map(|name| parse_file_name(name));
    let there: std::collections::BTreeSet<u32> = there.map(|(sequence, _)| sequence).collect();
    let is_new = |name: &String| {
        parse_file_name(name).is_some_and(|(sequence, _)| !there.contains(&sequence))
    };
    names.extend(more.into_iter().filter(is_new));
}

/// Whether these are the names of segments, among others, that have no gap from the first up to
/// `upto`.
fn is_whole_up_to(names: &[String], upto: u32) -> bool {
    let mut sequences: Vec<u32> =
        names.iter().filter_map(|name| parse_file_name(name)).map(|(at, _)| at).collect();
    sequences.sort_unstable();
    sequences.dedup();
    (1..=upto)
        .zip(sequences.iter().map(Some).chain(std::iter::repeat(None)))
        .all(|(expected, found)| found == Some(&expected))
}

fn last_sequence(names: &[String]) -> u32 {
    names.iter().filter_map(|name| parse_file_name(name)).map(|(at, _)| at).max().unwrap_or(0)
}

/// The error of a read in an archive that is the right one.
fn of_archive(place: &ArchivePlace, sequence: u32, error: io::Error) -> io::Error {
    if is_unreachable_archive(&error) {
        return error;
    }
    let what = format!("segment {sequence} is archived in {}", place.path);
    match error.kind() {
        // It is not in its place, so it is lost. "Not found" would mean that it moved.
        ErrorKind::NotFound => {
            io::Error::new(ErrorKind::InvalidData, format!("{what}, and is missing there"))
        }
        ErrorKind::InvalidData => {
            io::Error::new(ErrorKind::InvalidData, format!("{what}: {error}"))
        }
        _ => of_other_file(what, error),
    }
}

/// Checks that a file of the archive is the segment that was put there: its length, its header and
/// its last checkpoint. The checkpoint has the running checksum of the records before it, so a
/// segment of a copy of the log that went another way is refused, too.
fn must_be(
    stub: Option<&SegmentStub>,
    bytes: u64,
    read: impl Fn(u64, usize) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    let Some(stub) = stub else { return Ok(()) };
    let mut fits = stub.bytes() == bytes;
    for (offset, expected) in stub.ends() {
        fits = fits && read(offset, expected.len())? == expected;
    }
    match fits {
        true => Ok(()),
        false => {
            let what = "the file there is not the archived one";
            Err(io::Error::new(ErrorKind::InvalidData, what))
        }
    }
}

impl Disk for ArchivedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.below.create_dir(dir)
    }

    /// Archived segments are listed with the others, and their stubs are not.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = self.below.list(dir)?;
        if dir == self.segments {
            if !is_whole_up_to(&names, last_sequence(&names)) {
                names = self.locator.list(dir)?;
            }
            names.retain(|name| stub_sequence(name).is_none());
        }
        Ok(names)
    }

    fn create(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.below.create(path, map_bytes)
    }

    fn open(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.below.open(path, map_bytes)
    }

    fn open_read(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        if self.is_hidden(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let folder = || self.below.open_read(path, map_bytes);
        match self.sequence(path) {
            Some(sequence) => {
                let archived = || self.open_archived(path, sequence, map_bytes);
                in_folder_or_archive(folder, archived)
            }
            None => folder(),
        }
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        let folder = || self.below.map(path);
        match self.sequence(path) {
            Some(sequence) => in_folder_or_archive(folder, || self.map_archived(path, sequence)),
            None => folder(),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.below.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.below.link(from, to)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.below.canonical(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.below.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.below.sync_dir(dir)
    }

    fn pin(&self, root: &Path) -> io::Result<Arc<dyn Disk>> {
        let (below, segments) = (self.below.pin(root)?, self.segments.clone());
        Ok(Arc::new(ArchivedDisk { below, segments, locator: self.locator.clone() }))
    }

    fn check_place(&self, dir: &Path) -> io::Result<()> {
        self.below.check_place(dir)
    }

    fn lock(&self, root: &Path, owner: &str) -> Result<Box<dyn DiskLock>, LockError> {
        self.below.lock(root, owner)
    }

    fn lock_shared(&self, root: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        self.below.lock_shared(root)
    }

    fn boot(&self) -> io::Result<Option<String>> {
        self.below.boot()
    }

    fn open_files(&self) -> u64 {
        self.below.open_files()
    }

    fn mount(&self, root: &Path) -> io::Result<u64> {
        self.below.mount(root)
    }

    fn place(&self, root: &Path) -> io::Result<Option<FolderPlace>> {
        self.below.place(root)
    }

    fn time_of_day(&self) -> Timestamp {
        self.below.time_of_day()
    }

    fn steady_time(&self) -> Duration {
        self.below.steady_time()
    }

    /// An archived segment occupies the space of its stub.
    fn allocated(&self, path: &Path) -> io::Result<u64> {
        let folder = || self.below.allocated(path);
        let Some(sequence) = self.sequence(path) else { return folder() };
        let stub = || {
            let place = self.locator.place_of(sequence)?;
            Ok(place.map(|_| self.below.allocated(&archive::stub_of(path)).unwrap_or(0)))
        };
        in_folder_or_archive(folder, stub)
    }
}

/// A file in the archive.
#[derive(Debug)]
struct ArchivedFile {
    locator: Arc<Locator>,
    sequence: u32,
    /// The path in the folder of the log.
    path: PathBuf,
    map_bytes: u64,
    stub: Option<SegmentStub>,
    /// The file itself, once it was needed.
    opened: OnceLock<Arc<dyn DiskFile>>,
}

impl ArchivedFile {
    fn opened(&self) -> io::Result<&dyn DiskFile> {
        if let Some(file) = self.opened.get() {
            return Ok(&**file);
        }
        let name = self.path.file_name().unwrap_or_default();
        let checked = |file: Arc<dyn DiskFile>| {
            let read = |offset, length| file.read_at(offset, length);
            must_be(self.stub.as_ref(), file.size()?, read)?;
            Ok(file)
        };
        let open = |archive: &Archive| {
            checked(archive.disk.open_read(&archive.segments.join(name), self.map_bytes)?)
        };
        let folder = || self.locator.below.open_read(&self.path, self.map_bytes).and_then(checked);
        let file = in_folder_or_archive(folder, || self.locator.ask(self.sequence, &open))?;
        Ok(&**self.opened.get_or_init(|| file))
    }
}

fn only_read() -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, "archived segments are only read")
}

impl DiskFile for ArchivedFile {
    fn size(&self) -> io::Result<u64> {
        match &self.stub {
            Some(stub) => Ok(stub.bytes()),
            None => self.opened()?.size(),
        }
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        match self.stub.as_ref().and_then(|stub| stub.part(offset, length)) {
            Some(part) => Ok(part.to_vec()),
            None => self.opened()?.read_at(offset, length),
        }
    }

    fn read_stored(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.opened()?.read_stored(offset, length)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(only_read())
    }

    fn set_size(&self, _size: u64) -> io::Result<()> {
        Err(only_read())
    }

    fn sync(&self) -> io::Result<()> {
        Err(only_read())
    }

    fn share(&self, start: u64, end: u64) -> io::Result<Bytes> {
        self.opened()?.share(start, end)
    }
}
