//! A log that is not synced with every commit can lose acknowledged ones, and has to notice.
//!
//! While it is open a mark in its folder says in which run of the machine that is. A mark that is
//! found by an open says that the log was not closed; of another run of the machine, that the
//! power was gone, and with it perhaps commits. Then the epoch changes.

use std::{io, path::Path};

use crate::{Durability, OpenError, disk::Disk, engine::Engine, error::io_error};

const INTERVAL_MARK: &str = "interval";

/// Whether a log that was not synced with every commit ended with a loss of power.
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

/// Whether a log that was not synced with every commit was not closed in order.
pub(crate) fn is_marked(disk: &dyn Disk, root: &Path) -> Result<bool, OpenError> {
    let names = disk.list(root).map_err(io_error("list", root))?;
    Ok(names.iter().any(|name| name == INTERVAL_MARK))
}

impl Engine {
    /// From now on commits may be acknowledged before they are synced, or not any more.
    pub(crate) fn remember_interval(&self) -> Result<(), OpenError> {
        let failed = |what| io_error(what, &self.folders.root);
        match self.options.durability {
            Durability::Synced => self.remove_mark().map_err(failed("remove a mark from")),
            Durability::Interval { .. } => self.write_mark().map_err(failed("write a mark to")),
        }
    }

    /// Under another name first: half a mark would be one of another run of the machine, and
    /// cost the log its epoch.
    fn write_mark(&self) -> io::Result<()> {
        let mark = self.folders.root.join(INTERVAL_MARK);
        let temporary = mark.with_extension("tmp");
        // One may be left from before.
        let _ = self.disk().remove(&temporary);
        let boot = self.disk().boot()?.unwrap_or_default();
        let file = self.disk().create(&temporary, 64)?;
        file.write_at(0, boot.as_bytes())?;
        file.sync()?;
        self.disk().rename(&temporary, &mark)?;
        self.disk().sync_dir(&self.folders.root)
    }

    fn remove_mark(&self) -> io::Result<()> {
        let root = &self.folders.root;
        if self.disk().list(root)?.iter().any(|name| name == INTERVAL_MARK) {
            self.disk().remove(&root.join(INTERVAL_MARK))?;
            self.disk().sync_dir(root)?;
        }
        Ok(())
    }

    /// Everything is durable: the next open has no reason to doubt it.
    pub(crate) fn forget_interval(&self) {
        if self.options.durability != Durability::Synced
            && let Err(error) = self.remove_mark()
        {
            tracing::warn!(%error, "the next open may change the epoch without need");
        }
    }
}
