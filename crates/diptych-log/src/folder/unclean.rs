//! Detecting that a log which does not sync every commit may have lost acknowledged ones.
//!
//! While such a log is open, a mark in its folder names the run of the machine. An open that finds
//! a mark knows that the log was not closed. If the mark names another run of the machine, the
//! machine lost power, and commits may be lost with it. Then the epoch changes.

use std::{io, path::Path};

use crate::{
    disk::Disk,
    error::{OpenError, io_error},
    options::Durability,
};

pub(crate) const INTERVAL_MARK: &str = "interval";

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

/// Writes the mark if commits are acknowledged before they are synced; otherwise removes it.
pub(crate) fn mark(disk: &dyn Disk, root: &Path, durability: Durability) -> Result<(), OpenError> {
    let failed = |what| io_error(what, root);
    match durability {
        Durability::Synced => remove_mark(disk, root).map_err(failed("remove a mark from")),
        Durability::Interval { .. } => write_mark(disk, root).map_err(failed("write a mark to")),
    }
}

/// Removes the mark: everything is durable, and the next open has no reason to doubt it.
pub(crate) fn forget(disk: &dyn Disk, root: &Path) {
    if let Err(error) = remove_mark(disk, root) {
        tracing::warn!(%error, "the next open may change the epoch without need");
    }
}

/// Writes the mark under another name first: half a mark would count as another run of the machine,
/// and change the epoch of the log.
fn write_mark(disk: &dyn Disk, root: &Path) -> io::Result<()> {
    let mark = root.join(INTERVAL_MARK);
    let temporary = mark.with_extension("tmp");
    // An earlier process may have left one.
    let _ = disk.remove(&temporary);
    let boot = disk.boot()?.unwrap_or_default();
    let written = || {
        let file = disk.create(&temporary, 64)?;
        file.write_at(0, boot.as_bytes())?;
        file.sync()?;
        disk.rename(&temporary, &mark)?;
        disk.sync_dir(root)
    };
    written().inspect_err(|_| {
        // A useless file should not keep a full disk full.
        let _ = disk.remove(&temporary);
    })
}

fn remove_mark(disk: &dyn Disk, root: &Path) -> io::Result<()> {
    if disk.list(root)?.iter().any(|name| name == INTERVAL_MARK) {
        disk.remove(&root.join(INTERVAL_MARK))?;
        disk.sync_dir(root)?;
    }
    Ok(())
}
