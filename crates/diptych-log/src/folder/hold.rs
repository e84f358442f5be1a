//! The folders of a log: creating them durably, and locking them.

use std::{io::ErrorKind, path::Path, sync::Arc, thread, time::Duration};

use crate::{
    disk::{Disk, DiskLock, LockError, has_ended},
    error::{OpenError, io_error},
    folder::{Folders, archived_disk::ArchivedDisk},
};

/// Attempts to lock a folder, and the pause between them.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(5);

/// A folder that this process has locked.
pub(crate) struct HeldFolder {
    /// Reaches the files through the folder that was opened, whatever becomes of its path.
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) lock: Box<dyn DiskLock>,
}

/// Creates the missing folders of a log, and locks the log.
pub(crate) fn create_and_hold(disk: &dyn Disk, folders: &Folders) -> Result<HeldFolder, OpenError> {
    let held = create_and_lock(disk, &folders.root)?;
    create(&*held.disk, &folders.segments)?;
    let index = &folders.index;
    if !is_in(&*held.disk, index, &folders.root)? {
        held.disk.create_dir(index).map_err(io_error("create", index))?;
    }
    Ok(held)
}

/// Creates a missing folder durably, and locks it.
pub(crate) fn create_and_lock(disk: &dyn Disk, root: &Path) -> Result<HeldFolder, OpenError> {
    if let Some(above) = above(root)
        && !is_in(disk, root, above)?
    {
        create(disk, root)?;
    }
    hold(disk, root)
}

fn hold(disk: &dyn Disk, root: &Path) -> Result<HeldFolder, OpenError> {
    let disk = disk.pin(root).map_err(io_error("open", root))?;
    let disk = ArchivedDisk::of(disk, root);
    let lock = lock(&*disk, root)?;
    // Another folder may have taken its place before it was locked.
    disk.check_place(root).map_err(io_error("hold", root))?;
    Ok(HeldFolder { disk, lock })
}

/// The disk that reaches the files of a log through its folder, which must exist.
pub(crate) fn pin(disk: &dyn Disk, root: &Path) -> Result<Arc<dyn Disk>, OpenError> {
    let pinned = disk.pin(root).map_err(|error| match error.kind() {
        ErrorKind::NotFound => no_log(root),
        _ => io_error("open", root)(error),
    })?;
    Ok(ArchivedDisk::of(pinned, root))
}

pub(crate) fn no_log(root: &Path) -> OpenError {
    let what = format!("there is no log in {}", root.display());
    OpenError::Io { what, cause: ErrorKind::NotFound.into() }
}

/// Creates a folder and the missing ones above it, from the top, and makes each name durable before
/// anything is created below it. After an interrupted open only the lowest folder that exists can
/// still be lost, so its name is made durable again.
pub(crate) fn create(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let mut missing = Vec::new();
    let mut there = dir;
    while let Some(above) = above(there) {
        if is_in(disk, there, above)? {
            break;
        }
        missing.push((there, above));
        there = above;
    }
    if let Some(above) = above(there) {
        match disk.sync_dir(above) {
            // The folder belongs to another user, who must have made its names durable.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            synced => synced.map_err(io_error("sync", above))?,
        }
    }
    for (dir, above) in missing.into_iter().rev() {
        disk.create_dir(dir).map_err(io_error("create", dir))?;
        disk.sync_dir(above).map_err(io_error("sync", above))?;
    }
    Ok(())
}

fn is_in(disk: &dyn Disk, dir: &Path, above: &Path) -> Result<bool, OpenError> {
    let Some(name) = dir.file_name() else { return Ok(true) };
    match disk.list(above) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(true),
        names => {
            let names = names.map_err(io_error("list", above))?;
            Ok(names.iter().any(|there| name == there.as_str()))
        }
    }
}

/// The folder above; for a bare name, the current folder.
fn above(dir: &Path) -> Option<&Path> {
    dir.parent().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above })
}

/// Locks a pinned folder.
pub(crate) fn lock(disk: &dyn Disk, root: &Path) -> Result<Box<dyn DiskLock>, OpenError> {
    let program = std::env::args().next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
    let owner = format!("process {} ({program})", std::process::id());
    for _ in 1..ATTEMPTS {
        match disk.lock(root, &owner) {
            // A reader looks for a moment whether there is a writer.
            Err(LockError::Held { .. }) => thread::sleep(PAUSE),
            locked => return locked.map_err(not_locked(root)),
        }
    }
    disk.lock(root, &owner).map_err(not_locked(root))
}

/// Keeps writers out of a pinned folder, while others may read it too. Writes nothing.
///
/// # Errors
/// [`OpenError::Held`] if a writer has it open.
pub(crate) fn lock_shared(disk: &dyn Disk, root: &Path) -> Result<Box<dyn DiskLock>, OpenError> {
    disk.lock_shared(root).map_err(not_locked(root))
}

fn not_locked(root: &Path) -> impl FnOnce(LockError) -> OpenError {
    move |error| match error {
        LockError::Held { owner } => held(root, owner),
        LockError::Io(cause) => io_error("lock", root)(cause),
    }
}

/// The error for a folder that is locked. `noted` is the text in its lock file.
fn held(root: &Path, noted: String) -> OpenError {
    let process = noted.strip_prefix("process ").and_then(|rest| rest.split(' ').next());
    let process = process.and_then(|number| number.parse::<u32>().ok());
    let (owner, advice) = match process {
        Some(number) if number == std::process::id() => (
            format!("this process, {noted}"),
            "it has the log open already: use that handle, or close it first",
        ),
        // A started process has copies of the open files of its parent, the lock among them, until
        // it runs its own program.
        Some(number) if has_ended(number) => (
            format!("a process that {noted} started before it ended"),
            "stop that process (`lsof` or `fuser` on the folder lists it), or use another folder",
        ),
        _ if noted.is_empty() => ("another process".to_owned(), STOP_IT),
        _ => (noted, STOP_IT),
    };
    OpenError::Held { folder: root.display().to_string(), owner, advice }
}

const STOP_IT: &str = "stop it, or use another folder";
