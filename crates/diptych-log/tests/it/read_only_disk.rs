//! A disk that refuses every change in a folder, in front of any other disk.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use diptych_log::disk::{Disk, DiskFile, DiskLock, LockError};

#[derive(Clone, Debug)]
pub(crate) struct ReadOnlyDisk {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

impl ReadOnlyDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>, folder: &str) -> Arc<ReadOnlyDisk> {
        Arc::new(ReadOnlyDisk { disk, folder: folder.into() })
    }

    fn may_change(&self, path: &Path) -> io::Result<()> {
        if path.starts_with(&self.folder) { refused(path) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct ReadOnlyFile(Arc<dyn DiskFile>);

fn refused<T>(path: &Path) -> io::Result<T> {
    let what = format!("{} is read-only", path.display());
    Err(io::Error::new(ErrorKind::ReadOnlyFilesystem, what))
}

impl Disk for ReadOnlyDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.may_change(dir)?;
        self.disk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.may_change(path)?;
        self.disk.create(path, map_bytes)
    }

    fn open(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.may_change(path)?;
        self.disk.open(path, map_bytes)
    }

    fn open_read(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(ReadOnlyFile(self.disk.open_read(path, map_bytes)?)))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        self.disk.map(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.may_change(from)?;
        self.disk.rename(from, to)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.disk.canonical(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.may_change(path)?;
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.may_change(dir)?;
        self.disk.sync_dir(dir)
    }

    fn pin(&self, root: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(ReadOnlyDisk { disk: self.disk.pin(root)?, folder: self.folder.clone() }))
    }

    fn check_place(&self, dir: &Path) -> io::Result<()> {
        self.disk.check_place(dir)
    }

    fn lock(&self, root: &Path, owner: &str) -> Result<Box<dyn DiskLock>, LockError> {
        self.may_change(root)?;
        self.disk.lock(root, owner)
    }

    fn lock_shared(&self, root: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        self.disk.lock_shared(root)
    }

    fn boot(&self) -> io::Result<Option<String>> {
        self.disk.boot()
    }

    fn allocated(&self, path: &Path) -> io::Result<u64> {
        self.disk.allocated(path)
    }
}

impl DiskFile for ReadOnlyFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.0.read_at(offset, length)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        refused(Path::new("write_at"))
    }

    fn set_size(&self, _size: u64) -> io::Result<()> {
        refused(Path::new("set_size"))
    }

    fn sync(&self) -> io::Result<()> {
        refused(Path::new("sync"))
    }

    fn share(&self, start: u64, end: u64) -> io::Result<Bytes> {
        self.0.share(start, end)
    }
}
