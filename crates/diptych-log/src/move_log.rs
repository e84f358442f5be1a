//! Moves a log from folder to folder, out of a folder or into one, with its identity.
//!
//! The log at the old place, the source, and the log at the new place, the target, have one
//! identity, so at most one of them may take commits at any time. The manifest of a folder says
//! whether it does: the source is *fenced* before the target is opened for commits, and each step
//! is durable before the next one begins. Between the steps neither takes commits, and the move can
//! be repeated. The other end of a move may be no folder, so it is noted as a text.

use std::{ffi::OsStr, path::Path};

use diptych_store::{EventStore, Fence, LogIdentity, SyncError};

use crate::{
    backup::must_be_empty,
    disk::Disk,
    error::{BackupError, MoveError, OpenError, io_error},
    folder::{
        Folders,
        hold::{self, HeldFolder},
        manifest::{self, MANIFEST},
        mark::{self, FolderKind},
    },
    format::manifest::{Manifest, OTHER_PATH, Role},
    log::Log,
    open::{self, CommitSource},
    options::{Access, Background, Clustering, Durability, LogOptions},
    read_only::ReadOnlyLog,
};

/// The target of a move, as the move found it.
#[derive(Debug)]
pub enum MoveTarget {
    /// It takes the commits of the source.
    Incomplete(Arrival),
    /// The log has arrived, and takes commits of its users.
    Complete,
}

/// A log that is being moved to a folder. It has the identity of its source, and takes only the
/// commits that the caller copies. Other opens of the folder for commits are refused.
#[derive(Debug)]
pub struct Arrival(Log);

impl Arrival {
    /// Begins a move to the folder `to`, or continues it, for the log with this identity at the
    /// place `from`, which is a folder or an address. A target that is missing or empty becomes a
    /// log with that identity.
    ///
    /// # Errors
    /// [`MoveError::Target`]: the folder has another log or other files. The other errors are those
    /// of an open.
    pub fn begin(
        to: impl AsRef<Path>,
        identity: LogIdentity,
        from: impl AsRef<OsStr>,
        options: &LogOptions,
    ) -> Result<MoveTarget, MoveError> {
        let (folders, from) = (Folders::new(to.as_ref()), from.as_ref().display().to_string());
        must_be_short(&folders.root, &from)?;
        let HeldFolder { disk, lock } = hold::create_and_hold(&*options.disk, &folders)?;
        let root = &folders.root;
        if let FolderKind::Backup(_) = mark::kind(&*disk, root)? {
            return Err(OpenError::Backup { folder: root.display().to_string() }.into());
        }
        match manifest::read(&*disk, root)? {
            None => {
                must_be_empty(&*disk, root, MANIFEST, "is not empty").map_err(of_target)?;
                open::begin_arrival(&*disk, &folders, identity, &from)?;
            }
            Some(noted) if noted.identity != identity => {
                let problem = format!(
                    "has the log {}, and the log that moves is {identity}: take an empty folder",
                    noted.identity
                );
                return Err(target_error(root, problem));
            }
            Some(Manifest { role: Role::Primary, .. }) => {
                sync(&*disk, root)?;
                return Ok(MoveTarget::Complete);
            }
            // The open below accepts or refuses it.
            Some(_) => {}
        }
        drop(lock);
        let options = LogOptions { access: Access::Append, ..options.clone() };
        Ok(MoveTarget::Incomplete(Arrival(Log::open_for(root, options, CommitSource::Move)?)))
    }

    /// The log in the target.
    pub fn log(&self) -> &Log {
        &self.0
    }

    /// Opens the target to the commits of its users, and closes it. The caller has compared source
    /// and target after the source was fenced.
    ///
    /// # Errors
    /// [`MoveError::Target`] if the target does not end where the source ends, or could not be
    /// closed in order. The move can be repeated.
    pub fn complete(self, fence: &Fence) -> Result<(), MoveError> {
        let Arrival(log) = self;
        let (disk, root) = log.place();
        let (identity, upto) = (log.identity(), log.head().position());
        if identity != fence.identity() || upto != fence.upto() {
            let (was, end) = (fence.identity(), fence.upto());
            let problem = format!(
                "has {identity} up to position {upto}, and its source has {was} up to position \
                 {end}: repeat the move; if that does not help, remove this folder first"
            );
            drop(log.close());
            return Err(target_error(&root, problem));
        }
        let closed = log.close_as(Role::Primary);
        match role(&*disk, &root)? {
            // Also if the close failed after the manifest had its name.
            Role::Primary => Ok(sync(&*disk, &root)?),
            _ => Err(not_closed(&root, closed).into()),
        }
    }

    /// Closes the target, which stays incomplete.
    ///
    /// # Errors
    /// [`SyncError`] if a commit could not be synced.
    pub fn interrupt(self) -> Result<(), SyncError> {
        self.0.close()
    }
}

/// Fences the log in the folder `from`, which moves to the place `to`, a folder or an address: from
/// now on it takes no commits. Reads go on. No other process may have it open for commits.
///
/// The fence is durable when this returns. Only `diptych adopt --copy` makes the folder a log that
/// takes commits again, in a new epoch. A call that was interrupted can be repeated.
///
/// # Errors
/// [`MoveError::Source`] if the log has another identity, for example a newer epoch because commits
/// may be lost. The other errors are those of an open, as [`OpenError::Left`] if the log moved to
/// another place. If the log could not be closed in order, it is not fenced.
pub fn fence(
    from: impl AsRef<Path>,
    identity: LogIdentity,
    to: impl AsRef<OsStr>,
    options: &LogOptions,
) -> Result<Fence, MoveError> {
    let (from, to) = (from.as_ref(), to.as_ref());
    if let Some(fence) = fenced(from, identity, to, options)? {
        return Ok(fence);
    }
    let to = to.display().to_string();
    must_be_short(from, &to)?;
    let once = LogOptions {
        access: Access::Append,
        background: Background::Inline,
        clustering: Clustering::Off,
        durability: Durability::Synced,
        ..options.clone()
    };
    let log = Log::open(from, once)?;
    let (disk, found, upto) = (log.place().0, log.identity(), log.head().position());
    if found != identity {
        drop(log.close());
        let problem = format!(
            "is the log {found} now, and the move began with {identity}: commits may be lost, or \
             a backup was restored; remove the target, then begin the move anew"
        );
        return Err(MoveError::Source { folder: from.display().to_string(), problem });
    }
    let closed = log.close_as(Role::Left { to });
    match role(&*disk, from)? {
        Role::Left { .. } => {
            // Also if the close failed after the manifest had its name.
            sync(&*disk, from)?;
            Ok(Fence::new(identity, upto))
        }
        _ => Err(not_closed(from, closed).into()),
    }
}

/// The fence of the log in the folder `from`, if that log moved to the place `to`; `None` if it did
/// not move yet.
///
/// # Errors
/// [`OpenError::Left`] if it moved elsewhere, [`MoveError::Source`] if it is another log, and the
/// error of an open if the folder cannot move, because it is a backup, a replica or the target of a
/// move.
pub fn fenced(
    from: impl AsRef<Path>,
    identity: LogIdentity,
    to: impl AsRef<OsStr>,
    options: &LogOptions,
) -> Result<Option<Fence>, MoveError> {
    let (from, to) = (from.as_ref(), to.as_ref().display().to_string());
    let disk = hold::pin(&*options.disk, from)?;
    let noted = manifest::read(&*disk, from)?;
    let folder = from.display().to_string();
    if let FolderKind::Backup(_) = mark::kind(&*disk, from)? {
        return Err(OpenError::Backup { folder }.into());
    }
    let Some(Manifest { role, identity: found, .. }) = noted else { return Ok(None) };
    let noted_to = match role {
        Role::Primary => return Ok(None),
        Role::Left { to } => to,
        Role::Replica => return Err(OpenError::Replica { folder }.into()),
        Role::Arriving { from } => return Err(OpenError::Arriving { folder, from }.into()),
    };
    if noted_to != to {
        return Err(OpenError::Left { folder, to: noted_to }.into());
    }
    if found != identity {
        let problem = format!("moved as the log {found}, and not as {identity}");
        return Err(MoveError::Source { folder, problem });
    }
    // The attempt that fenced it may have ended before this, and a loss of power would undo it.
    sync(&*disk, from)?;
    let once = LogOptions { background: Background::Inline, ..options.clone() };
    let upto = ReadOnlyLog::open(from, once)?.head().position();
    Ok(Some(Fence::new(identity, upto)))
}

fn role(disk: &dyn Disk, root: &Path) -> Result<Role, OpenError> {
    let noted = manifest::read(disk, root)?.ok_or_else(|| manifest::missing(root))?;
    Ok(noted.role)
}

fn sync(disk: &dyn Disk, root: &Path) -> Result<(), OpenError> {
    disk.sync_dir(root).map_err(io_error("sync", root))
}

/// The manifest bounds the other end of a move.
fn must_be_short(folder: &Path, other: &str) -> Result<(), MoveError> {
    match other.len() <= OTHER_PATH {
        true => Ok(()),
        false => {
            let problem = format!("cannot note a path or an address of over {OTHER_PATH} bytes");
            Err(target_error(folder, problem))
        }
    }
}

fn not_closed(root: &Path, closed: Result<(), SyncError>) -> OpenError {
    let cause = match closed {
        Ok(()) => "its end could not be noted; repeat the move".to_owned(),
        Err(error) => error.to_string(),
    };
    let what = format!("cannot close the log in {}", root.display());
    OpenError::Io { what, cause: std::io::Error::other(cause) }
}

fn target_error(folder: &Path, problem: impl Into<String>) -> MoveError {
    MoveError::Target { folder: folder.display().to_string(), problem: problem.into() }
}

fn of_target(error: BackupError) -> MoveError {
    match error {
        BackupError::Open(error) => error.into(),
        BackupError::Target { folder, problem } => MoveError::Target { folder, problem },
        other => MoveError::Target { folder: String::new(), problem: other.to_string() },
    }
}
