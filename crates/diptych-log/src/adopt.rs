//! Adopts a folder: accepts it as a log in the place where it is now.
//!
//! A log belongs to a place: its folder in its file system. A copy of the folder has another place.
//! Only the user knows whether the original stays in use, so the user says what the folder is from
//! now on.

use std::path::Path;

use diptych_store::{LogIdentity, Position};

use crate::{
    disk::Disk,
    engine::Engine,
    error::{OpenError, io_error},
    folder::{
        Folders,
        hold::{self, HeldFolder},
        listing, manifest,
        mark::{self, FolderKind},
    },
    format::manifest::{ArchivePlace, Manifest, Role, Run, State},
    open::{self, CommitSource, evidence::Evidence},
    options::{Access, Background, Clustering, Durability, LogOptions, PlacePolicy},
};

/// The relation between a folder in a new place and the log that it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// The folder is the log itself, which was moved: it keeps its identity. The folder in the old
    /// place must not take commits any more.
    Moved,
    /// The folder is a log of its own, which shares its events up to now with another log: it gets
    /// a new epoch.
    Copy,
    /// The folder is a replica of another log: it takes no commits.
    Replica,
}

/// The report of an adoption.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdoptReport {
    /// The identity of the log from now on.
    pub identity: LogIdentity,
    /// The last position of the log.
    pub upto: Position,
}

/// Accepts the folder `dir` as a log in its present place. The events stay as they are.
///
/// The call checks everything that an open checks, except the place. A log whose manifest is
/// missing or damaged can only be adopted as a copy, because nothing shows whether the log is
/// whole.
///
/// A log that was moved keeps its archive ([`Log::archive`](crate::Log::archive)). A copy and a
/// replica read in the archive of the log that they were copied from, and never write to it.
///
/// # Errors
/// The errors of an open. After an error the log is whole, and the call can be repeated. If an
/// adoption as a copy fails late, the copy already has its own epoch, and the next attempt gives it
/// one more.
pub fn adopt(
    dir: impl AsRef<Path>,
    adoption: Adoption,
    options: &LogOptions,
) -> Result<AdoptReport, OpenError> {
    let folders = Folders::new(dir.as_ref());
    must_have_log(&*options.disk, &folders)?;
    match adoption {
        Adoption::Copy => as_copy(&folders, options),
        Adoption::Moved => in_place(&folders, options, None),
        Adoption::Replica => in_place(&folders, options, Some(Role::Replica)),
    }
}

fn must_have_log(disk: &dyn Disk, folders: &Folders) -> Result<(), OpenError> {
    let disk = hold::pin(disk, &folders.root)?;
    if let FolderKind::Backup(_) = mark::kind(&*disk, &folders.root)? {
        return Err(OpenError::Backup { folder: folders.root.display().to_string() });
    }
    match listing::segments(&*disk, folders)?.is_empty() {
        true => Err(hold::no_log(&folders.root)),
        false => Ok(()),
    }
}

/// The options of an open for one adoption.
fn once(options: &LogOptions) -> LogOptions {
    LogOptions {
        access: Access::Append,
        place: PlacePolicy::Follow,
        background: Background::Inline,
        clustering: Clustering::Off,
        durability: Durability::Synced,
        ..options.clone()
    }
}

/// Adopts the folder with its identity. Only the manifest changes.
fn in_place(
    folders: &Folders,
    options: &LogOptions,
    role: Option<Role>,
) -> Result<AdoptReport, OpenError> {
    let root = &folders.root;
    let HeldFolder { disk, lock } = hold::create_and_hold(&*options.disk, folders)?;
    let noted = manifest::read(&*disk, root)?;
    let Some(noted) = noted.filter(|noted| noted.state != State::Migrating) else {
        // A log of format 1 has no place. An open migrates it and gives it the present place.
        drop(lock);
        let engine = Engine::open(root, once(options), CommitSource::Users)?;
        drop(engine.close(|| {}, || {}));
        return match role {
            None => report(&*hold::pin(&*options.disk, root)?, root),
            role => in_place(folders, options, role),
        };
    };
    open::check(&*disk, folders, options)?;
    // A copy of an open log may lack commits that the original had not synced. With another run in
    // the manifest, the next open begins a new epoch.
    let unknown = Run { boot: String::new(), ..noted.run.clone() };
    let run = if noted.was_open_at_interval() { unknown } else { noted.run };
    let place = disk.place(root).map_err(io_error("ask for the place of", root))?;
    // A replica is a copy, and only reads in the archive of its log.
    let only_reads = |of: &ArchivePlace| of.only_reads || role == Some(Role::Replica);
    let archive = noted.archive.map(|of| ArchivePlace { only_reads: only_reads(&of), ..of });
    let role = role.unwrap_or_else(|| noted.role.clone());
    let adopted = Manifest { run, place, role, restored_from: None, archive, ..noted };
    manifest::replace(&*disk, root, &adopted)?;
    drop(lock);
    report(&*disk, root)
}

fn report(disk: &dyn Disk, root: &Path) -> Result<AdoptReport, OpenError> {
    let noted = manifest::read(disk, root)?.ok_or_else(|| manifest::missing(root))?;
    Ok(AdoptReport { identity: noted.identity, upto: noted.active.position })
}

/// Adopts the folder as a log of its own, in a new epoch. Until the first segment of that epoch is
/// durable, the manifest stays as it was. So if the adoption is interrupted, the folder still has
/// to be adopted.
fn as_copy(folders: &Folders, options: &LogOptions) -> Result<AdoptReport, OpenError> {
    let root = &folders.root;
    let HeldFolder { disk, lock } = hold::create_and_hold(&*options.disk, folders)?;
    let evidence = match manifest::read(&*disk, root) {
        Ok(Some(_)) => Evidence::left_in(&*disk, root)?,
        Ok(None) | Err(OpenError::Corrupt(_)) => Evidence::without_manifest(&*disk, root)?,
        Err(other) => return Err(other),
    };
    let options = LogOptions { disk, ..once(options) };
    let engine = Engine::in_new_epoch(folders, options, evidence, None)?;
    let (identity, upto) = (engine.shared().identity(), engine.position());
    let closed = engine.close(|| {}, || {});
    drop(lock);
    closed.map_err(|error| OpenError::Io {
        what: format!("cannot close the log in {}", root.display()),
        cause: std::io::Error::other(error),
    })?;
    Ok(AdoptReport { identity, upto })
}
