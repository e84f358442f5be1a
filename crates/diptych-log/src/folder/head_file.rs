//! The file with the published head, which a log leaves for processes that follow it.

use std::{
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use crate::{
    disk::{Disk, DiskFile},
    error::{OpenError, io_error},
    folder::Folders,
    format::head::PublishedHead,
};

/// The file with the published head.
pub(crate) const HEAD_FILE: &str = "head";

/// The file with the published head, if there is one.
pub(crate) fn open_if_there(
    disk: &dyn Disk,
    folders: &Folders,
) -> Result<Option<Arc<dyn DiskFile>>, OpenError> {
    let root = &folders.root;
    let names = disk.list(root).map_err(io_error("list", root))?;
    if !names.iter().any(|name| name == HEAD_FILE) {
        return Ok(None);
    }
    let path = root.join(HEAD_FILE);
    disk.open(&path, 64).map(Some).map_err(io_error("open", &path))
}

/// The file with the published head, which is created if there is none.
pub(crate) fn open_or_create(
    disk: &dyn Disk,
    folders: &Folders,
) -> Result<Arc<dyn DiskFile>, OpenError> {
    if let Some(file) = open_if_there(disk, folders)? {
        return Ok(file);
    }
    let path = folders.root.join(HEAD_FILE);
    disk.create(&path, 64).map_err(io_error("create", &path))
}

/// The file with the published head, to be read only; `None` if there is none.
pub(crate) fn open_for_reading(
    disk: &dyn Disk,
    folders: &Folders,
) -> Result<Option<Arc<dyn DiskFile>>, OpenError> {
    let path = folders.root.join(HEAD_FILE);
    match disk.open_read(&path, 0) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        file => file.map(Some).map_err(io_error("open", &path)),
    }
}

/// The content that an earlier process left in the file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeftHead {
    /// A late or torn write makes it lower than the true one, or `None`; it is never higher.
    pub(crate) published: Option<PublishedHead>,
    /// The nonce of the open that wrote it; `None` if an older version wrote it.
    pub(crate) nonce: Option<[u8; 16]>,
}

/// Makes the file again after it was removed, with these bytes. Followers see the whole file or
/// none.
pub(crate) fn recreate(disk: &dyn Disk, root: &Path, head: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
    let path = root.join(HEAD_FILE);
    let temporary = path.with_extension("tmp");
    // An earlier attempt may have left one.
    let _ = disk.remove(&temporary);
    let file = disk.create(&temporary, 64)?;
    file.write_at(0, head)?;
    disk.rename(&temporary, &path)?;
    Ok(file)
}

/// The published head that an earlier process left.
///
/// # Errors
/// If the file exists and cannot be read now: it may be evidence.
pub(crate) fn left_behind(disk: &dyn Disk, root: &Path) -> Result<LeftHead, OpenError> {
    let path = root.join(HEAD_FILE);
    // Read, not mapped: the file will be written again.
    let folders = Folders::new(root);
    let Some(file) = open_for_reading(disk, &folders)? else { return Ok(LeftHead::default()) };
    let bytes = file.read_at(0, PublishedHead::ALL_BYTES).map_err(io_error("read", &path))?;
    let (published, nonce) = (PublishedHead::parse(&bytes), PublishedHead::nonce_in(&bytes));
    Ok(LeftHead { published, nonce: published.and(nonce) })
}

/// Reads the file, and retries while the writer is writing it.
pub(crate) fn read_head(file: &dyn DiskFile) -> io::Result<PublishedHead> {
    const ATTEMPTS: usize = 100;
    for attempt in 0..ATTEMPTS {
        if let Some(head) = PublishedHead::parse(&file.read_at(0, PublishedHead::BYTES)?) {
            return Ok(head);
        }
        // On a busy machine, giving way to other threads a thousand times takes seconds. A write
        // that was interrupted ends while this thread sleeps.
        match attempt < ATTEMPTS / 2 {
            true => thread::yield_now(),
            false => thread::sleep(Duration::from_micros(200)),
        }
    }
    let what = "the published head is damaged; open the log once to have it written anew";
    Err(io::Error::new(ErrorKind::InvalidData, what))
}
