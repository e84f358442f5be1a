//! Bringing archived segments back into the folder of the log, the newest first.
//!
//! The order of the steps is that of archiving, backwards. A segment is verified and copied into
//! the folder, the copy is synced and read again, and the manifest says that the segment is not
//! archived any more. Only then its file in the archive is removed, and its stub. So wherever this
//! stops, one of the two files is in use, and the next run goes on.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::{
    archive::{ArchiveReport, damaged, is_same, report, target::Target, verified},
    disk::Disk,
    error::{ArchiveError, io_error},
    folder::{
        Folders,
        archive::{self, MARK},
        derived, durable_file,
        hold::{self, HeldFolder},
        listing::{self, SegmentFile},
        manifest,
    },
    format::{
        archive::SegmentStub,
        manifest::{ArchivePlace, Manifest},
        segment,
    },
    options::LogOptions,
};

/// Brings all archived segments of the log in the folder `dir` back into that folder, the newest
/// first. Afterwards the log has no archive, and the folder of the archive is free for another one.
/// No process may have the log open. `progress` gets the bytes done so far and the total.
///
/// A copy of a log, which only reads in the archive of its original, copies the segments and
/// changes nothing in the archive. The same holds if another copy has archived there, too.
///
/// Each segment is verified, copied, synced and read again before its file in the archive is
/// removed. If this fails or is killed, the call can be repeated.
///
/// # Errors
/// [`ArchiveError`]: the log has no archive, the archive is not there, a segment is damaged, a file
/// cannot be used, there is no space. Segments that came back before stay in the folder.
pub fn bring_back_archive(
    dir: impl AsRef<Path>,
    options: &LogOptions,
    mut progress: impl FnMut(u64, u64),
) -> Result<ArchiveReport, ArchiveError> {
    let folders = Folders::new(dir.as_ref());
    let root = &folders.root;
    let disk = hold::pin(&*options.disk, root)?;
    if manifest::read(&*disk, root)?.is_none() {
        return Err(hold::no_log(root).into());
    }
    let HeldFolder { disk, lock: _lock } = hold::create_and_lock(&*options.disk, root)?;
    let disk = &*disk;
    let noted = manifest::read(disk, root)?.ok_or_else(|| manifest::missing(root))?;
    let identity = noted.identity;
    let Some(mut place) = noted.archive.clone() else {
        return Err(ArchiveError::Target {
            folder: root.display().to_string(),
            problem: "has no archive: nothing is to be brought back".to_owned(),
        });
    };
    let to = PathBuf::from(&place.path);
    let to = &*to;
    let target = Target::of(disk, &folders, to, (identity.id, noted.archive.clone()))?;
    target.known(disk)?;
    let segments = listing::segments(disk, &folders)?;
    let held = hold_own(disk, &target, &place, &segments)?;
    let archived = segments.iter().zip(segments.iter().skip(1));
    let archived: Vec<_> = archived.filter(|(of, _)| of.sequence <= place.upto).collect();
    let sizes = archived.iter().map(|(segment, _)| size(disk, segment));
    let sizes = sizes.collect::<Result<Vec<u64>, _>>()?;
    let (all, mut done) = (sizes.iter().sum(), 0);
    let note = |archive| {
        let noted = Manifest { archive, ..noted.clone() };
        manifest::replace(disk, root, &noted)
    };
    for ((segment, next), bytes) in archived.iter().zip(&sizes).rev() {
        let content = listing::read_stored(disk, segment, u64::MAX)?;
        if !verified(disk, identity, (segment, &content), next)? {
            must_be_as_archived(disk, segment, &content)?;
        }
        copy(disk, &folders, segment, &content)?;
        place.upto = segment.sequence - 1;
        note(Some(place.clone()))?;
        if let Some(held) = &held {
            remove_copy(&*held.disk, to, segment)?;
        }
        derived::remove_needless(disk, &archive::stub_of(&segment.path));
        done += bytes;
        progress(done, all);
    }
    if let Some(held) = &held {
        remove_leftovers(disk, &*held.disk, to, &segments)?;
    }
    // With the archive, the manifest forgets these, too.
    for segment in &segments {
        derived::remove_needless(disk, &archive::stub_of(&segment.path));
    }
    let dir = &folders.segments;
    disk.sync_dir(dir).map_err(io_error("sync", dir))?;
    note(None)?;
    if let Some(held) = &held {
        derived::remove_needless(&*held.disk, &to.join(MARK));
    }
    let moved = archived.len() as u64;
    Ok(ArchiveReport { moved, bytes: done, ..report(identity, &place, &segments) })
}

/// Locks the archive, if its files may be removed; `None` if another copy of the log needs them.
fn hold_own(
    disk: &dyn Disk,
    target: &Target,
    place: &ArchivePlace,
    segments: &[SegmentFile],
) -> Result<Option<HeldFolder>, ArchiveError> {
    if place.only_reads {
        return Ok(None);
    }
    let held = target.hold(disk)?;
    let archive = (&*held.disk, Path::new(&place.path));
    if !is_shared(disk, archive, segments, place.upto)? {
        return Ok(Some(held));
    }
    tracing::warn!(
        folder = place.path,
        "another copy of the log archives in this folder, too: nothing is removed there"
    );
    Ok(None)
}

fn size(disk: &dyn Disk, segment: &SegmentFile) -> Result<u64, ArchiveError> {
    let size = disk.open_read(&segment.path, 0).and_then(|file| file.size());
    Ok(size.map_err(io_error("look at", &segment.path))?)
}

/// Checks that a segment is the archived one, as its stub knows it: for a segment without a link in
/// the next one. Without a stub, nothing in the folder of the log knows its records.
fn must_be_as_archived(
    disk: &dyn Disk,
    segment: &SegmentFile,
    content: &[u8],
) -> Result<(), ArchiveError> {
    let stub = archive::read_stub(disk, &segment.path);
    let stub = stub.map_err(io_error("read the stub of", &segment.path))?;
    let facts = |stub: &SegmentStub| (stub.bytes(), stub.chain());
    let found = SegmentStub::of(content);
    match stub.is_none() || stub.as_ref().map(facts) == found.as_ref().map(facts) {
        true => Ok(()),
        false => Err(damaged(segment, "the file in the archive is not the archived one")),
    }
}

/// Whether the archive has segments behind `upto` that are not those in the folder of the log.
/// Another copy of the log, or a later state of it, put them there, and needs the others, too.
fn is_shared(
    disk: &dyn Disk,
    (archive, root): (&dyn Disk, &Path),
    segments: &[SegmentFile],
    upto: u32,
) -> Result<bool, ArchiveError> {
    let dir = root.join("segments");
    for name in archive.list(&dir).map_err(io_error("list", &dir))? {
        let listed = segment::parse_file_name(&name);
        let Some((sequence, base)) = listed.filter(|(sequence, _)| *sequence > upto) else {
            continue;
        };
        let ours = segments.iter().find(|ours| (ours.sequence, ours.base) == (sequence, base));
        let there = SegmentFile { sequence, base, path: dir.join(&name) };
        let there = listing::read_stored(archive, &there, u64::MAX)?;
        // An interrupted run has left it.
        let is_left = match ours {
            Some(ours) => is_same(&listing::read_stored(disk, ours, u64::MAX)?, &there),
            None => false,
        };
        if !is_left {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Puts a segment into the folder of the log, durably. An interrupted run may have left it there.
fn copy(
    disk: &dyn Disk,
    folders: &Folders,
    segment: &SegmentFile,
    content: &[u8],
) -> Result<(), ArchiveError> {
    let (path, dir) = (&segment.path, &folders.segments);
    let put = match disk.open(path, 0) {
        Err(error) if error.kind() == ErrorKind::NotFound => durable_file::put(disk, path, content),
        there => there.and_then(|file| file.sync()),
    };
    put.map_err(io_error("write", path))?;
    disk.sync_dir(dir).map_err(io_error("sync", dir))?;
    Ok(disk.check_place(dir).map_err(io_error("write to", dir))?)
}

/// Removes the file of a segment from the archive.
fn remove_copy(archive: &dyn Disk, root: &Path, segment: &SegmentFile) -> Result<(), ArchiveError> {
    let path = root.join("segments").join(segment.path.file_name().unwrap_or_default());
    match archive.remove(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => Ok(removed.map_err(io_error("remove", &path))?),
    }
}

/// Removes what interrupted runs have left in the archive: segments that are in the folder of the
/// log.
fn remove_leftovers(
    disk: &dyn Disk,
    archive: &dyn Disk,
    root: &Path,
    segments: &[SegmentFile],
) -> Result<(), ArchiveError> {
    let dir = root.join("segments");
    for name in archive.list(&dir).map_err(io_error("list", &dir))? {
        let listed = segment::parse_file_name(&name);
        let of = segments.iter().find(|of| listed == Some((of.sequence, of.base)));
        if let Some(of) = of.filter(|of| disk.open(&of.path, 0).is_ok()) {
            remove_copy(archive, root, of)?;
        }
    }
    Ok(archive.sync_dir(&dir).map_err(io_error("sync", &dir))?)
}
