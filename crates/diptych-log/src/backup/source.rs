//! Finds where a log ends, without opening or changing the log.

use std::io::ErrorKind;

use crate::{
    disk::Disk,
    error::OpenError,
    folder::{
        Folders, found_end, hold, listing,
        mark::{self, FolderKind},
    },
    format::head::PublishedHead,
    open,
    options::LogOptions,
};

/// Where the log in a folder ends, which is always behind a whole commit.
///
/// While a process has the log open, this is the published head, or what is found in the last
/// segment if the file with that head was removed. Otherwise the last segment is
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
            let end = found_end::visible_end(disk, folders)?;
            end.map(|end| end.head).ok_or_else(|| hold::no_log(&folders.root))
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
        if let Some(end) = found_end::end_in(disk, &last, None)? {
            return Ok(end.whole);
        }
    }
    let what = format!("there is nothing in the log in {}", folders.root.display());
    Err(OpenError::Io { what, cause: ErrorKind::NotFound.into() })
}
