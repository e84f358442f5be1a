//! Finds where a log ends, without opening or changing the log.

use std::io::ErrorKind;

use crate::{
    disk::Disk,
    error::{OpenError, corruption, io_error},
    folder::{
        Folders,
        head_file::{self, HEAD_FILE},
        hold,
        listing::{self, SegmentFile},
        mark::{self, FolderKind},
    },
    format::{
        head::PublishedHead,
        recovery::{self, ScanStart},
        segment::{self, BadHeader, Header},
    },
    open,
    options::LogOptions,
};

/// Where the log in a folder ends, which is always behind a whole commit.
///
/// While a process has the log open, this is the published head. Otherwise the last segment is
/// read, because the published head is not synced and may be an old one after a loss of power.
/// During that read no process can open the log to append to it. Nothing is written. `disk` is
/// pinned to the folder.
pub(crate) fn end_of(disk: &dyn Disk, folders: &Folders) -> Result<PublishedHead, OpenError> {
    let listed = listing::segments(disk, folders)?;
    if listed.is_empty() {
        return Err(hold::no_log(&folders.root));
    }
    if let FolderKind::Backup(end) = mark::kind(disk, &folders.root)? {
        return Ok(end);
    }
    match hold::lock_shared(disk, &folders.root) {
        Ok(_lock) => scanned(disk, folders),
        Err(OpenError::Held { .. }) => {
            let path = folders.root.join(HEAD_FILE);
            let file = disk.open_read(&path, 0).map_err(|error| match error.kind() {
                // The process that has the log open writes the file again with one of its next
                // commits.
                ErrorKind::NotFound => {
                    let what = format!(
                        "{} was removed; the process that has the log open writes it again with \
                         its next commits: back up again then",
                        path.display()
                    );
                    OpenError::Io { what, cause: error }
                }
                _ => io_error("open", &path)(error),
            })?;
            head_file::read_head(&*file).map_err(io_error("read", &path))
        }
        Err(other) => Err(other),
    }
}

fn scanned(disk: &dyn Disk, folders: &Folders) -> Result<PublishedHead, OpenError> {
    // A backup must not hide damage that an open would refuse.
    open::check(disk, folders, &LogOptions::default())?;
    // Listed again: under the lock no other process changes the segments.
    let mut listed = listing::segments(disk, folders)?;
    while let Some(last) = listed.pop() {
        // A segment without a commit does not count, and neither does it for an open.
        if let Some(end) = end_in(disk, &last)? {
            return Ok(end);
        }
    }
    let what = format!("there is nothing in the log in {}", folders.root.display());
    Err(OpenError::Io { what, cause: ErrorKind::NotFound.into() })
}

/// Where the whole commits of the last segment end. `None` if that segment does not count: it has
/// no whole header, or it has no commit and is not the first segment.
fn end_in(disk: &dyn Disk, last: &SegmentFile) -> Result<Option<PublishedHead>, OpenError> {
    let SegmentFile { sequence, base, path } = last;
    let bytes = listing::read(disk, last, u64::MAX)?;
    let header = match Header::parse(&bytes) {
        Ok(header) if header.is_last(*sequence, *base) => header,
        Err(BadHeader::Newer(format)) => {
            return Err(OpenError::Newer { file: path.display().to_string(), format });
        }
        _ if bytes.len() <= segment::HEADER => return Ok(None),
        _ => return Err(corruption(path, 0, "the header of the segment is damaged").into()),
    };
    let offset = segment::HEADER as u64;
    let from = ScanStart { offset, next: 0, time: 0, checksum: header.checksum() };
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
