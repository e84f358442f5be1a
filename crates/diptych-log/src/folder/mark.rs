//! Marks: files that show that a folder with segments is not simply a log.
//!
//! Both marks have the form of the published head. A backup has the mark `backup`: where it ends,
//! whatever else may be in the folder. It is replaced in one step, once all that it promises is
//! durable, and this step makes the backup. A restore that is under way has the mark `restore`,
//! which is removed when it is done.

use std::{io::ErrorKind, path::Path};

use diptych_store::{Corruption, LogIdentity, Position};

use crate::{
    disk::Disk,
    error::{OpenError, io_error},
    folder::{
        archive::{self, FoundMark},
        durable_file,
    },
    format::head::PublishedHead,
};

/// The mark in a folder that is a backup.
pub(crate) const BACKUP: &str = "backup";
/// The mark in a folder into which a backup is being restored.
pub(crate) const RESTORE: &str = "restore";

/// The kind of a folder, according to its marks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FolderKind {
    /// A log, or nothing yet.
    Log,
    /// A backup that ends here.
    Backup(PublishedHead),
}

/// # Errors
/// [`OpenError::Archive`] if it is the archive of a log.
/// [`OpenError::Unfinished`] if a restore or a first backup into the folder was not finished.
pub(crate) fn kind(disk: &dyn Disk, root: &Path) -> Result<FolderKind, OpenError> {
    if let FoundMark::Whole(_) = archive::mark_in(disk, root).map_err(io_error("read", root))? {
        return Err(OpenError::Archive { folder: root.display().to_string() });
    }
    let unfinished =
        |what, advice| OpenError::Unfinished { folder: root.display().to_string(), what, advice };
    if read(disk, root, RESTORE)?.is_some() {
        return Err(unfinished("a restore", "repeat `diptych restore` into it"));
    }
    match read(disk, root, BACKUP)? {
        None => Ok(FolderKind::Log),
        Some(end) if end.segment > 0 => Ok(FolderKind::Backup(end)),
        Some(_) => Err(unfinished("a backup", "repeat `diptych backup` into it")),
    }
}

/// The content of a mark of a folder, if it is there.
pub(crate) fn read(
    disk: &dyn Disk,
    root: &Path,
    name: &str,
) -> Result<Option<PublishedHead>, OpenError> {
    let names = disk.list(root).map_err(io_error("list", root))?;
    if !names.iter().any(|there| there == name) {
        return Ok(None);
    }
    let path = root.join(name);
    let file = match disk.open_read(&path, 0) {
        // A folder of that name is no mark.
        Err(error) if error.kind() == ErrorKind::IsADirectory => return Ok(None),
        file => file.map_err(io_error("open", &path))?,
    };
    let bytes = file.read_at(0, PublishedHead::BYTES).map_err(io_error("read", &path))?;
    let mark = PublishedHead::parse(&bytes).ok_or_else(|| Corruption {
        place: path.display().to_string(),
        what: "the mark of a backup or of a restore is damaged".to_owned(),
        advice: "use another backup, or begin anew in another folder".to_owned(),
    })?;
    Ok(Some(mark))
}

/// The mark of a backup of this log that holds nothing yet.
pub(crate) fn nothing_of(identity: LogIdentity) -> PublishedHead {
    PublishedHead { position: Position::START, end: 0, identity, segment: 0 }
}

/// Writes a mark in place of an older one, in one durable step.
pub(crate) fn write(
    disk: &dyn Disk,
    root: &Path,
    name: &str,
    mark: &PublishedHead,
) -> Result<(), OpenError> {
    let replaced = durable_file::replace(disk, root, name, &mark.encode());
    replaced.map_err(io_error("write", &root.join(name)))
}

/// Removes a mark durably.
pub(crate) fn remove(disk: &dyn Disk, root: &Path, name: &str) -> Result<(), OpenError> {
    let path = root.join(name);
    disk.remove(&path).and_then(|()| disk.sync_dir(root)).map_err(io_error("remove", &path))
}
