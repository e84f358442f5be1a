//! Restores a backup as a log that takes commits, in a new epoch.
//!
//! The new epoch makes this correct. The log that was backed up may have taken more commits after
//! the backup. The restored log gives the positions of those commits to other events. Readers that
//! know the lost events know them under the old epoch, so they cannot confuse the two.

use std::{path::Path, sync::Arc};

use diptych_store::{LogIdentity, Position};

use crate::{
    backup::{
        SealedSegments, copy::Copy, must_be_apart, must_be_empty, must_be_in_place, source,
        target_error,
    },
    disk::Disk,
    engine::Engine,
    error::{BackupError, OpenError, io_error},
    folder::{
        Folders,
        head_file::HEAD_FILE,
        hold::{self, HeldFolder},
        listing,
        manifest::{self, MANIFEST},
        mark::{self, RESTORE},
    },
    format::head::PublishedHead,
    open::evidence::Evidence,
    options::{Background, Clustering, Durability, LogOptions},
    verify::Verifying,
};

/// The report of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// Identity of the log that was backed up.
    pub backup: LogIdentity,
    /// Identity of the restored log, which has the old id and a new epoch.
    pub identity: LogIdentity,
    /// Its last position, as in the backup.
    pub upto: Position,
    /// Segments that were copied.
    pub copied: u64,
    /// Segments that an unfinished restore had left in the folder.
    pub kept: u64,
    /// Bytes that were copied.
    pub bytes: u64,
}

/// Restores the backup in `from` as a log in the folder `to`, with its id and positions and a new
/// epoch. The folder must be missing or empty, or hold an unfinished restore of this backup. The
/// backup does not change. `from` can also be a log, even one that is being written to.
///
/// Every checksum is verified. The new log cannot be opened until the restore is complete. A
/// restore that was killed can be repeated. `progress` gets the bytes done so far and the total.
///
/// # Errors
/// [`BackupError`]: the folder is not empty, the backup is damaged, or a file cannot be used.
pub fn restore(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    options: &LogOptions,
    progress: impl FnMut(u64, u64),
) -> Result<RestoreReport, BackupError> {
    let (from, to) = (Folders::new(from.as_ref()), Folders::new(to.as_ref()));
    let disk = hold::pin(&*options.disk, &from.root)?;
    let end = source::end_of(&*disk, &from)?;
    must_be_apart(&*disk, &from.root, &to.root)?;
    found_in(&*disk, &to.root, &end)?;
    let HeldFolder { disk: held, lock } = hold::create_and_hold(&*disk, &to)?;
    let disk = &*held;
    // Checked again: under the lock no other process changes the folder.
    match found_in(disk, &to.root, &end)? {
        EarlierRestore::Nothing => mark::write(disk, &to.root, RESTORE, &end)?,
        EarlierRestore::Unfinished => remove_derived(disk, &to)?,
        EarlierRestore::Finished(identity) => {
            // Repeats the last step of that restore, which may be the only step that failed.
            disk.sync_dir(&to.root).map_err(io_error("sync", &to.root))?;
            let (backup, upto, kept) = (end.identity, end.position, u64::from(end.segment));
            return Ok(RestoreReport { backup, identity, upto, copied: 0, kept, bytes: 0 });
        }
    }
    let copy = Copy { disk, from: &from, to: &to, end, held: None, sealed: SealedSegments::Copy };
    let copied = copy.run(progress).map_err(of_backup)?;
    let identity = begin_epoch(&held, &to, &end)?;
    must_be_in_place(disk, &to)?;
    mark::remove(disk, &to.root, RESTORE)?;
    drop(lock);
    Ok(RestoreReport {
        backup: end.identity,
        identity,
        upto: end.position,
        copied: copied.copied,
        kept: copied.kept,
        bytes: copied.bytes,
    })
}

/// The state in which earlier restores of this backup left the target folder.
enum EarlierRestore {
    Nothing,
    Unfinished,
    /// The restored log, which has this identity and was not opened since.
    Finished(LogIdentity),
}

/// Finds in which state earlier restores of this backup left the folder `to`.
///
/// # Errors
/// If the folder has other files.
fn found_in(
    disk: &dyn Disk,
    to: &Path,
    end: &PublishedHead,
) -> Result<EarlierRestore, BackupError> {
    match mark::read(disk, to, RESTORE)? {
        None => match manifest::read(disk, to)? {
            Some(done) if done.restored_from == Some((end.identity, end.position)) => {
                Ok(EarlierRestore::Finished(done.identity))
            }
            _ => must_be_empty(disk, to, RESTORE, "is not empty").map(|()| EarlierRestore::Nothing),
        },
        Some(begun) if begun.identity == end.identity => Ok(EarlierRestore::Unfinished),
        Some(begun) => {
            let problem = format!(
                "holds an unfinished restore of {}, and the backup is {}: take another folder",
                begun.identity, end.identity
            );
            Err(target_error(to, problem))
        }
    }
}

/// Removes index files, the manifest and the published head, which the last steps of an earlier
/// attempt may have left.
fn remove_derived(disk: &dyn Disk, to: &Folders) -> Result<(), OpenError> {
    let list = |dir: &Path| disk.list(dir).map_err(io_error("list", dir));
    let index = list(&to.index)?.into_iter().map(|name| to.index.join(name));
    let files = list(&to.root)?.into_iter();
    let files = files.filter(|name| [HEAD_FILE, MANIFEST].contains(&name.as_str()));
    for path in index.chain(files.map(|name| to.root.join(name))) {
        disk.remove(&path).map_err(io_error("remove", &path))?;
    }
    Ok(())
}

/// Begins a segment of a new epoch after the copied segments, which makes them part of the log of
/// that epoch.
fn begin_epoch(
    disk: &Arc<dyn Disk>,
    to: &Folders,
    end: &PublishedHead,
) -> Result<LogIdentity, BackupError> {
    let once = LogOptions {
        background: Background::Inline,
        clustering: Clustering::Off,
        durability: Durability::Synced,
        disk: Arc::clone(disk),
        ..LogOptions::default()
    };
    let restored_from = Some((end.identity, end.position));
    let engine = Engine::in_new_epoch(to, once, Evidence::default(), restored_from)?;
    let (published, identity) = (engine.position(), engine.shared().identity());
    drop(engine);
    let disk = &**disk;
    let listed = listing::segments(disk, to)?;
    let mut verifying = Verifying::nothing(disk);
    if let Some(last) = listed.last().filter(|last| last.sequence == end.segment + 1) {
        verifying.begin_at(last);
        let content = listing::read_stored(disk, last, u64::MAX)?;
        verifying.content(last, &content, Some(end.position.plus(1)))?;
        verifying.must_be_whole().map_err(BackupError::Damaged)?;
    }
    match published == end.position && verifying.identity == Some(identity) {
        true => Ok(identity),
        false => Err(target_error(&to.root, "differs from the backup: repeat the restore")),
    }
}

/// Replaces the advice to restore a backup, which does not help if the backup itself is damaged.
fn of_backup(error: BackupError) -> BackupError {
    let BackupError::Damaged(mut damage) = error else { return error };
    for place in &mut damage {
        "use another backup; `diptych verify` lists all damage".clone_into(&mut place.advice);
    }
    BackupError::Damaged(damage)
}
