//! Files that can be made again from the log: reading them, writing them, and removing those that
//! others have made needless.
//!
//! The subtle thing is the difference between a file that is not there and a file that cannot be
//! read now. Only the first may be made again. The second is an error of the open or read that met
//! it: the file may be the only evidence of commits that were acknowledged, and a limit on open
//! files, a lack of memory or a disk that fails says nothing about its content.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use bytes::Bytes;

use crate::{cold, disk::Disk};

/// The bytes of a file, or nothing if there is no such file.
///
/// No file that an open log still needs goes away under its name: parts and groups that a merge
/// replaces are read before their files are removed.
///
/// # Errors
/// Whatever else the operating system says.
pub(crate) fn map_if_there(disk: &dyn Disk, path: &Path) -> io::Result<Option<Bytes>> {
    match disk.map(path) {
        Ok(bytes) => Ok(Some(cold::ask_for_file(bytes))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file under another name first, so that half of one is never found. It is not synced:
/// what a loss of power leaves of it is checked before it is used.
pub(crate) fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    // If one is left from before and stays, creating it fails and says so.
    let _ = disk.remove(&temporary);
    let file = disk.create(&temporary, bytes.len() as u64)?;
    file.write_at(0, bytes)?;
    disk.rename(&temporary, path)
}

/// Removes a file that nothing needs any more. One that stays costs space and is checked before
/// it is used, so a failure is only a warning.
pub(crate) fn remove_needless(disk: &dyn Disk, path: &Path) {
    match disk.remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), %error, "a needless file cannot be removed");
        }
        _ => {}
    }
}
