//! The mark of a log of format 1 that did not sync every commit. Later logs have a manifest
//! instead.
//!
//! While such a log was open, a mark in its folder named the run of the machine. An open that finds
//! a mark knows that the log was not closed. If the mark names another run of the machine, the
//! machine lost power, and commits may be lost with it. Then the epoch changes.

use std::{io, path::Path};

use crate::{
    disk::Disk,
    error::{OpenError, io_error},
};

const INTERVAL_MARK: &str = "interval";

/// Whether a log that did not sync every commit ended with a loss of power.
pub(crate) fn was_cut_off(disk: &dyn Disk, root: &Path) -> Result<bool, OpenError> {
    if !is_marked(disk, root)? {
        return Ok(false);
    }
    let path = root.join(INTERVAL_MARK);
    let mark = disk.map(&path).map_err(io_error("read", &path))?;
    let boot = disk.boot().map_err(io_error("ask for the run of the machine, for", &path))?;
    let same_boot = boot.is_some_and(|boot| boot.as_bytes() == &mark[..]);
    Ok(!same_boot)
}

/// Whether a log that did not sync every commit was not closed in order.
pub(crate) fn is_marked(disk: &dyn Disk, root: &Path) -> Result<bool, OpenError> {
    let names = disk.list(root).map_err(io_error("list", root))?;
    Ok(names.iter().any(|name| name == INTERVAL_MARK))
}

/// Removes the mark, once the manifest says the same.
pub(crate) fn remove(disk: &dyn Disk, root: &Path) -> Result<(), OpenError> {
    if !is_marked(disk, root)? {
        return Ok(());
    }
    let removed = || -> io::Result<()> {
        disk.remove(&root.join(INTERVAL_MARK))?;
        disk.sync_dir(root)
    };
    removed().map_err(io_error("remove a mark from", root))
}
