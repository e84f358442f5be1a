//! The folders of a log: making them so that they last, and taking them for oneself.

use std::{io::ErrorKind, path::Path};

use crate::{
    OpenError,
    catalog::Folders,
    disk::{Disk, DiskLock, LockError},
    error::io_error,
};

/// Creates what is missing, from above, and makes each folder durable before anything is in it.
/// So of those that are there only the lowest can still be lost, after an open that was cut off:
/// it is made durable again.
pub(crate) fn create(disk: &dyn Disk, folders: &Folders) -> Result<(), OpenError> {
    let mut missing = Vec::new();
    let mut dir = folders.segments.as_path();
    while let Some(above) = above(dir) {
        if is_in(disk, dir, above)? {
            break;
        }
        missing.push((dir, above));
        dir = above;
    }
    if let Some(above) = above(dir) {
        match disk.sync_dir(above) {
            // A folder of somebody else, who has to have made it durable.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            synced => synced.map_err(io_error("sync", above))?,
        }
    }
    for (dir, above) in missing.into_iter().rev() {
        disk.create_dir(dir).map_err(io_error("create", dir))?;
        disk.sync_dir(above).map_err(io_error("sync", above))?;
    }
    disk.create_dir(&folders.index).map_err(io_error("create", &folders.index))
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

/// The folder above, the current one for a bare name.
fn above(dir: &Path) -> Option<&Path> {
    dir.parent().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above })
}

pub(crate) fn lock(disk: &dyn Disk, root: &Path) -> Result<Box<dyn DiskLock>, OpenError> {
    let program = std::env::args().next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
    let owner = format!("process {} ({program})", std::process::id());
    let path = root.join("lock");
    disk.lock(&path, &owner).map_err(|error| match error {
        LockError::Held { owner } => OpenError::Held {
            folder: root.display().to_string(),
            owner: if owner.is_empty() { "another process".to_owned() } else { owner },
        },
        LockError::Io(cause) => io_error("lock", &path)(cause),
    })
}
