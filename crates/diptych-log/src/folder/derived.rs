//! Files that can be rebuilt from the log: reading and writing them, and removing those that others
//! have replaced.
//!
//! The subtle thing is the difference between a file that does not exist and a file that cannot be
//! read now. Only the first may be rebuilt. The second is an error of the open or read that met it:
//! the file may be the only evidence of commits that were acknowledged, and a limit on open files,
//! a lack of memory or a failing disk says nothing about its content.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use bytes::Bytes;

use crate::disk::{Disk, prefetch};

/// The bytes of a file that will be read to its end; `None` if there is no such file.
///
/// An open log removes no file that it still has to read: parts that a merge replaces are pinned
/// in memory before their files are removed, and a group is not needed.
///
/// # Errors
/// Any other error of the operating system.
pub(crate) fn map_if_there(disk: &dyn Disk, path: &Path) -> io::Result<Option<Bytes>> {
    Ok(if_there(disk.map(path))?.map(prefetch::ask_for_file))
}

/// `None` for a file that does not exist.
pub(crate) fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file under another name first, so that half of one is never found. The file is not
/// synced: a loss of power may tear it, so it is checked before it is used.
pub(crate) fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    // If an old one cannot be removed, creating the file fails and says so.
    let _ = disk.remove(&temporary);
    let written = || {
        let file = disk.create(&temporary, bytes.len() as u64)?;
        file.write_at(0, bytes)?;
        disk.rename(&temporary, path)
    };
    written().inspect_err(|_| {
        // A useless file should not keep a full disk full.
        let _ = disk.remove(&temporary);
    })
}

/// Removes a file that nothing needs any more. If it stays, it costs space and is checked before it
/// is used, so a failure is only a warning.
pub(crate) fn remove_needless(disk: &dyn Disk, path: &Path) {
    match disk.remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), %error, "a needless file cannot be removed");
        }
        _ => {}
    }
}
