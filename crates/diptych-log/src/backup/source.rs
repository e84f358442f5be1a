//! Where a log ends, found from outside and without changing anything of it.

use diptych_store::{Corruption, Position};

use crate::{
    OpenError,
    backup::mark::{self, Kind},
    catalog::Folders,
    disk::Disk,
    error::{corruption, io_error},
    folders,
    follower::{self, HEAD_FILE, PublishedHead},
    interval,
    recovery::{self, From},
    segment::{self, BadHeader, Header},
    verify::Listed,
};

/// Where the log in a folder ends: after a commit, all of which is there.
///
/// Of a log that somebody holds it is what they published. Of one that nobody holds the last
/// segment is read, because the published head is not synced and may be an old one after a loss
/// of power; for as long as that takes the folder is locked.
pub(crate) fn end_of(disk: &dyn Disk, folders: &Folders) -> Result<PublishedHead, OpenError> {
    let listed = segments(disk, folders)?;
    if listed.is_empty() {
        let what = format!("there is no log in {}", folders.root.display());
        return Err(OpenError::Io { what, cause: std::io::ErrorKind::NotFound.into() });
    }
    if let Kind::Backup(end) = mark::kind(disk, &folders.root)? {
        return Ok(end);
    }
    match folders::lock(disk, &folders.root) {
        Ok(_lock) => scanned(disk, folders),
        Err(OpenError::Held { .. }) => {
            let path = folders.root.join(HEAD_FILE);
            let file = disk.open(&path, 0).map_err(io_error("open", &path))?;
            follower::read_head(&*file).map_err(io_error("read", &path))
        }
        Err(other) => Err(other),
    }
}

/// The segments in a folder, in order.
pub(crate) fn segments(disk: &dyn Disk, folders: &Folders) -> Result<Vec<Listed>, OpenError> {
    let dir = &folders.segments;
    let names = disk.list(dir).map_err(io_error("list", dir))?;
    let listed = names.iter().filter_map(|name| {
        let (sequence, base) = segment::parse_file_name(name)?;
        Some(Listed { sequence, base, path: dir.join(name) })
    });
    let mut listed: Vec<Listed> = listed.collect();
    listed.sort_by_key(|segment| segment.sequence);
    Ok(listed)
}

fn scanned(disk: &dyn Disk, folders: &Folders) -> Result<PublishedHead, OpenError> {
    // Once more: now nobody changes them.
    let mut listed = segments(disk, folders)?;
    while let Some(last) = listed.pop() {
        // One that was begun and holds nothing is not there, as for an open.
        if let Some(end) = end_in(disk, &last)? {
            return not_less_than_published(disk, folders, &last, end);
        }
    }
    let what = format!("there is nothing in the log in {}", folders.root.display());
    Err(OpenError::Io { what, cause: std::io::ErrorKind::NotFound.into() })
}

/// Where the whole commits of a last segment end, if it was ever finished.
fn end_in(disk: &dyn Disk, last: &Listed) -> Result<Option<PublishedHead>, OpenError> {
    let Listed { sequence, base, path } = last;
    let bytes = read(disk, last, u64::MAX)?;
    let header = match Header::parse(&bytes) {
        Ok(header) if header.is_last(*sequence, *base) => header,
        Err(BadHeader::Newer(format)) => {
            return Err(OpenError::Newer { file: path.display().to_string(), format });
        }
        _ if bytes.len() <= segment::HEADER => return Ok(None),
        _ => return Err(corruption(path, 0, "the header of the segment is damaged").into()),
    };
    let offset = segment::HEADER as u64;
    let from = From { offset, next: 0, time: 0, checksum: header.checksum() };
    let frames = bytes.get(segment::HEADER..).unwrap_or(&[]);
    let found = recovery::recover(frames, from, |_| {})
        .map_err(|error| corruption(path, error.offset, error.what))?;
    if found.end == offset && *sequence > 1 {
        return Ok(None);
    }
    let position = base.plus(u64::from(found.next)).before();
    let (end, identity, segment) = (found.end, header.identity, *sequence);
    Ok(Some(PublishedHead { position, end, identity, segment }))
}

/// A backup is no place to hide what an open would refuse.
fn not_less_than_published(
    disk: &dyn Disk,
    folders: &Folders,
    last: &Listed,
    end: PublishedHead,
) -> Result<PublishedHead, OpenError> {
    let published = follower::left_behind(disk, &folders.root)?;
    let published = published.filter(|published| published.identity == end.identity);
    let position = published.map_or(Position::START, |published| published.position);
    if position > end.position && !interval::is_marked(disk, &folders.root)? {
        let what = format!("records up to position {position} were published and are not whole");
        let found: Corruption = corruption(&last.path, end.end, what);
        return Err(found.into());
    }
    Ok(end)
}

/// The bytes of a segment, at most so many.
pub(crate) fn read(disk: &dyn Disk, segment: &Listed, bytes: u64) -> Result<Vec<u8>, OpenError> {
    let path = &segment.path;
    let file = disk.open(path, 0).map_err(io_error("open", path))?;
    let size = file.size().map_err(io_error("look at", path))?.min(bytes);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    file.read_at(0, size).map_err(io_error("read", path))
}
