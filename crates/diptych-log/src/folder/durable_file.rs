//! Small files that are replaced in one durable step.

use std::{io, path::Path};

use crate::disk::Disk;

/// Writes a file in place of an older one: after a crash there is the older or the newer one. The
/// file is durable when this returns.
pub(crate) fn replace(disk: &dyn Disk, root: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = root.join(name);
    let temporary = path.with_extension("tmp");
    // An earlier attempt may have left one.
    let _ = disk.remove(&temporary);
    let file = disk.create(&temporary, 0)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename(&temporary, &path)?;
    disk.sync_dir(root)
}
