//! A disk that does what would be left by an engine that forgets something about segments.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use diptych_log::disk::{Disk, DiskFile, DiskLock, LockError, simulated::SimulatedDisk};

/// What could be forgotten about the segments in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgotten {
    Nothing,
    /// To sync their folder.
    Folder,
    /// To sync one before it gets its name.
    Content,
    /// To look whether what was written is what was meant: a bit of it is another one.
    Look,
}

/// The simulated disk, as an engine that forgets it would leave it.
#[derive(Clone, Debug)]
pub(crate) struct Forgetful {
    disk: SimulatedDisk,
    segments: PathBuf,
    forgotten: Forgotten,
}

impl Forgetful {
    pub(crate) fn new(disk: &SimulatedDisk, root: &str, forgotten: Forgotten) -> Forgetful {
        let segments = Path::new(root).join("segments");
        Forgetful { disk: disk.clone(), segments, forgotten }
    }
}

#[derive(Debug)]
struct Careless(Arc<dyn DiskFile>, Forgotten);

impl Disk for Forgetful {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.create(path, map_bytes)?;
        let forgets = path.starts_with(&self.segments);
        Ok(if forgets { Arc::new(Careless(file, self.forgotten)) } else { file })
    }

    fn open(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path, map_bytes)
    }

    fn open_read(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open_read(path, map_bytes)
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        self.disk.map(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.forgotten {
            Forgotten::Folder if dir.starts_with(&self.segments) => Ok(()),
            _ => self.disk.sync_dir(dir),
        }
    }

    fn pin(&self, root: &Path) -> io::Result<Arc<dyn Disk>> {
        self.disk.pin(root)?;
        Ok(Arc::new(self.clone()))
    }

    fn lock(&self, root: &Path, owner: &str) -> Result<Box<dyn DiskLock>, LockError> {
        self.disk.lock(root, owner)
    }

    fn lock_shared(&self, root: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        self.disk.lock_shared(root)
    }

    fn allocated(&self, path: &Path) -> io::Result<u64> {
        self.disk.allocated(path)
    }
}

impl DiskFile for Careless {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.0.read_at(offset, length)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match bytes.split_last() {
            Some((last, rest)) if self.1 == Forgotten::Look => {
                self.0.write_at(offset, &[rest, &[last ^ 1]].concat())
            }
            _ => self.0.write_at(offset, bytes),
        }
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_size(size)
    }

    fn sync(&self) -> io::Result<()> {
        if self.1 == Forgotten::Content { Ok(()) } else { self.0.sync() }
    }

    fn share(&self, start: u64, end: u64) -> io::Result<Bytes> {
        self.0.share(start, end)
    }
}
