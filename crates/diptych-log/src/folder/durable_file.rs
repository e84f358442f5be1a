//! Small files that are replaced in one durable step.

use std::{io, path::Path};

use crate::{disk::Disk, error::sync_failed};

/// Bytes that go to the disk in one write.
const CHUNK_BYTES: usize = 1 << 20;

/// Writes a large file under another name first, and reads it again before it gets its own name.
/// Its bytes are durable when this returns, and its name once the folder is synced.
pub(crate) fn put(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    // An earlier attempt may have left one.
    let _ = disk.remove(&temporary);
    let written = || {
        let file = disk.create(&temporary, 0)?;
        let chunks = content.chunks(CHUNK_BYTES);
        for (offset, chunk) in (0..).step_by(CHUNK_BYTES).zip(chunks) {
            file.write_at(offset, chunk)?;
        }
        file.sync()?;
        if file.read_at(0, content.len())? != content {
            return Err(io::Error::other("it reads differently from what was written"));
        }
        disk.rename(&temporary, path)
    };
    written().inspect_err(|_| {
        // A useless file should not keep a full disk full.
        let _ = disk.remove(&temporary);
    })
}

/// Writes a file in place of an older one: after a crash there is the older or the newer one. The
/// file is durable when this returns.
///
/// If there is no space, nothing has changed, also if the file system noticed that only at the sync
/// of the new file: the next attempt begins with another file.
pub(crate) fn replace(disk: &dyn Disk, root: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = root.join(name);
    let temporary = path.with_extension("tmp");
    // An earlier attempt may have left one.
    let _ = disk.remove(&temporary);
    let replaced = || {
        let file = disk.create(&temporary, 0)?;
        file.write_at(0, bytes)?;
        file.sync()?;
        disk.rename(&temporary, &path)?;
        disk.sync_dir(root).map_err(|error| sync_failed(root, error))
    };
    replaced().inspect_err(|_| {
        // A useless file should not keep a full disk full.
        let _ = disk.remove(&temporary);
    })
}
