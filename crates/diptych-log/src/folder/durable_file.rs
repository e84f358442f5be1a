//! Small files that are replaced in one durable step.

use std::{io, path::Path};

use crate::{disk::Disk, error::sync_failed};

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
