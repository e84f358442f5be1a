//! Backing up a log while it is written to. A backup is a folder like that of a log, which can be
//! read, verified and followed, but not written to: see `docs/guides/back-up.md`.
//!
//! The subtle point is the mark, the file that says where a backup ends. The mark alone makes a
//! folder a backup, not the segments in it. It is replaced in one step, after all that it promises
//! is durable. Before that step the folder is the older backup; after it, the newer one.

use std::{path::Path, sync::Arc};

use diptych_store::{LogIdentity, Position};

use crate::{
    backup::copy::Copy,
    disk::{Disk, LOCK_FILE, RealDisk},
    error::{BackupError, io_error},
    folder::{
        Folders,
        hold::{self, HeldFolder},
        mark::{self, BACKUP, RESTORE},
    },
    format::head::PublishedHead,
};

pub(crate) mod copy;
pub(crate) mod restore;
pub(crate) mod source;

/// How a backup takes in sealed segments, which are no longer written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SealedSegments {
    /// Sealed segments get a second name where that is possible, which takes no time and no space;
    /// otherwise they are copied. The log and the backup then share the bytes of these segments.
    /// Such a backup does not protect from a disk that fails. It protects from the removal of a
    /// folder and from a faulty program.
    #[default]
    Link,
    /// Sealed segments are copied.
    Copy,
}

/// How a backup is made.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// How a backup takes in sealed segments, which are no longer written to.
    pub sealed: SealedSegments,
    /// The disk that has the files of the log and of the backup.
    pub disk: Arc<dyn Disk>,
}

impl Default for BackupOptions {
    fn default() -> BackupOptions {
        BackupOptions { sealed: SealedSegments::default(), disk: Arc::new(RealDisk::default()) }
    }
}

/// The report of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// The id and the epoch of the log, which the backup shares.
    pub identity: LogIdentity,
    /// The last position in the backup before this call.
    pub from: Position,
    /// The last position in the backup after this call.
    pub upto: Position,
    /// Segments that got a second name.
    pub linked: u64,
    /// Segments that were copied.
    pub copied: u64,
    /// Segments that the folder already had, from an earlier or an unfinished backup.
    pub kept: u64,
    /// Number of bytes that were written.
    pub bytes: u64,
}

/// Brings the backup in the folder `to` up to date with the log in `from`, which another process
/// may be writing to. Creates the backup if the folder is missing or empty. Nothing in `from`
/// changes.
///
/// The call verifies every checksum in the bytes that it copies or links. The backup ends where a
/// commit ends, and has at least every commit that was published when the call began. If the call
/// fails or is killed, the backup stays as it was, and the call can be repeated. `progress` gets
/// the bytes done so far and the total.
///
/// # Errors
/// [`BackupError`]: the folder is no backup of this log, the log is damaged, or a file cannot be
/// used. An existing backup stays valid.
pub fn backup(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    options: &BackupOptions,
    progress: impl FnMut(u64, u64),
) -> Result<BackupReport, BackupError> {
    let folders = Folders::new(from.as_ref());
    let disk = hold::pin(&*options.disk, &folders.root)?;
    let end = source::end_of(&*disk, &folders)?;
    let from = BackupSource { disk: &*disk, folders: &folders, end };
    from.back_up(to.as_ref(), options.sealed, progress)
}

/// A log and the end up to which it is backed up.
pub(crate) struct BackupSource<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) folders: &'a Folders,
    pub(crate) end: PublishedHead,
}

impl BackupSource<'_> {
    pub(crate) fn back_up(
        &self,
        to: &Path,
        sealed: SealedSegments,
        progress: impl FnMut(u64, u64),
    ) -> Result<BackupReport, BackupError> {
        let BackupSource { disk, folders: from, end } = *self;
        must_be_apart(disk, &from.root, to)?;
        held_by(disk, &end, to)?;
        let to = Folders::new(to);
        let HeldFolder { disk, lock: _lock } = hold::create_and_hold(disk, &to)?;
        let disk = &*disk;
        // Checked again: under the lock no other process changes the folder.
        let held = held_by(disk, &end, &to.root)?;
        if held.is_none() {
            mark::write(disk, &to.root, BACKUP, &mark::nothing_of(end.identity))?;
        }
        let held = held.filter(|held| held.segment > 0);
        let copied = Copy { disk, from, to: &to, end, held, sealed }.run(progress)?;
        must_be_in_place(disk, &to)?;
        if held != Some(end) {
            mark::write(disk, &to.root, BACKUP, &end)?;
        }
        Ok(BackupReport {
            identity: end.identity,
            from: held.map_or(Position::START, |held| held.position),
            upto: end.position,
            linked: copied.linked,
            copied: copied.copied,
            kept: copied.kept,
            bytes: copied.bytes,
        })
    }
}

/// The mark of the folder `to`, which is a backup of the log that ends at `end`; `None` if the
/// folder is empty. An error if the folder is neither.
fn held_by(
    disk: &dyn Disk,
    end: &PublishedHead,
    to: &Path,
) -> Result<Option<PublishedHead>, BackupError> {
    let held = mark::read(disk, to, BACKUP)?;
    let Some(held) = held else {
        must_be_empty(disk, to, BACKUP, "is not empty, and no backup")?;
        return Ok(None);
    };
    let of = held.identity;
    let is = end.identity;
    if of != is {
        let problem = format!("is a backup of {of}, and the log is {is}: take another folder");
        return Err(target_error(to, problem));
    }
    let place = |head: &PublishedHead| (head.segment, head.end, head.position);
    if place(&held) > place(end) {
        let problem = format!(
            "has positions up to {}, and the log only up to {}: keep this backup; the log has \
             lost commits, or the backup is of another copy of the log",
            held.position, end.position
        );
        return Err(target_error(to, problem));
    }
    Ok(Some(held))
}

/// Fails if the folder that was written to is no longer at its path.
pub(crate) fn must_be_in_place(disk: &dyn Disk, to: &Folders) -> Result<(), BackupError> {
    disk.check_place(&to.segments).map_err(|error| {
        let problem = format!("was replaced while it was written to: {error}; repeat the call");
        target_error(&to.root, problem)
    })
}

/// Refuses a target folder that is the source folder or lies within it.
pub(crate) fn must_be_apart(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), BackupError> {
    let canonical = |path| disk.canonical(path).map_err(io_error("find", path));
    if canonical(to)?.starts_with(canonical(from)?) {
        let problem = format!("is in {}, from which it would be copied", from.display());
        return Err(target_error(to, problem));
    }
    Ok(())
}

/// Refuses a folder that is not empty. It may have the files that an interrupted creation of a
/// log's folder leaves, and an unfinished mark of this name.
pub(crate) fn must_be_empty(
    disk: &dyn Disk,
    root: &Path,
    mark: &str,
    what: &str,
) -> Result<(), BackupError> {
    let folders = Folders::new(root);
    let list = |dir: &Path| disk.list(dir).map_err(io_error("list", dir));
    let unfinished = format!("{mark}.tmp");
    let mut strange = list(root)?;
    strange.retain(|name| ![LOCK_FILE, "segments", "index", &unfinished].contains(&name.as_str()));
    for dir in [&folders.segments, &folders.index] {
        // If the folder itself has an unexpected file, the error names that one.
        if strange.is_empty() {
            strange.extend(list(dir)?);
        }
    }
    let Some(found) = strange.into_iter().min() else { return Ok(()) };
    let advice = match found.as_str() {
        RESTORE => "; a restore into it was not finished",
        BACKUP => "; it is a backup",
        _ => "",
    };
    let problem = format!("{what} (there is {found}{advice}): take another folder");
    Err(target_error(root, problem))
}

pub(crate) fn target_error(folder: &Path, problem: impl Into<String>) -> BackupError {
    BackupError::Target { folder: folder.display().to_string(), problem: problem.into() }
}
