//! A simulated disk that calls a hook of the test before each operation. The hook can let the
//! operation pass, delay it, or make it fail with any error.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use diptych_log::disk::{
    Disk, DiskFile, DiskLock, FolderPlace, LockError,
    simulated::{Operation, SimulatedDisk},
};
use diptych_store::Timestamp;

type Hook = Arc<dyn Fn(Operation, &Path) -> io::Result<()> + Send + Sync>;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockReading {
    pub(crate) wall: Timestamp,
    pub(crate) steady: Duration,
}

/// The disk and the hook.
#[derive(Clone)]
pub(crate) struct HookedDisk {
    disk: SimulatedDisk,
    hook: Hook,
    /// The clocks that the log reads; `None` for the clocks of the machine.
    clock: Arc<Mutex<Option<ClockReading>>>,
}

impl HookedDisk {
    pub(crate) fn new(
        disk: &SimulatedDisk,
        hook: impl Fn(Operation, &Path) -> io::Result<()> + Send + Sync + 'static,
    ) -> HookedDisk {
        HookedDisk { disk: disk.clone(), hook: Arc::new(hook), clock: Arc::default() }
    }

    pub(crate) fn set_clock(&self, clock: ClockReading) {
        *self.clock.lock().unwrap() = Some(clock);
    }

    fn file(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(HookedFile { file, path: path.to_owned(), hook: self.hook.clone() })
    }
}

impl fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.disk.fmt(f)
    }
}

impl Disk for HookedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        (self.hook)(Operation::CreateDir, dir)?;
        self.disk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        (self.hook)(Operation::List, dir)?;
        self.disk.list(dir)
    }

    fn create(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        (self.hook)(Operation::Create, path)?;
        Ok(self.file(path, self.disk.create(path, map_bytes)?))
    }

    fn open(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        (self.hook)(Operation::Open, path)?;
        Ok(self.file(path, self.disk.open(path, map_bytes)?))
    }

    fn open_read(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        (self.hook)(Operation::Open, path)?;
        Ok(self.file(path, self.disk.open_read(path, map_bytes)?))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        (self.hook)(Operation::Map, path)?;
        self.disk.map(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.hook)(Operation::Rename, from)?;
        self.disk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.hook)(Operation::Link, to)?;
        self.disk.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        (self.hook)(Operation::Remove, path)?;
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        (self.hook)(Operation::SyncDir, dir)?;
        self.disk.sync_dir(dir)
    }

    fn pin(&self, root: &Path) -> io::Result<Arc<dyn Disk>> {
        (self.hook)(Operation::Pin, root)?;
        self.disk.pin(root)?;
        Ok(Arc::new(self.clone()))
    }

    fn lock(&self, root: &Path, owner: &str) -> Result<Box<dyn DiskLock>, LockError> {
        (self.hook)(Operation::Lock, root)?;
        self.disk.lock(root, owner)
    }

    fn lock_shared(&self, root: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        (self.hook)(Operation::Lock, root)?;
        self.disk.lock_shared(root)
    }

    fn mount(&self, root: &Path) -> io::Result<u64> {
        self.disk.mount(root)
    }

    fn place(&self, root: &Path) -> io::Result<Option<FolderPlace>> {
        self.disk.place(root)
    }

    fn boot(&self) -> io::Result<Option<String>> {
        self.disk.boot()
    }

    fn time_of_day(&self) -> Timestamp {
        self.clock.lock().unwrap().map_or_else(|| self.disk.time_of_day(), |clock| clock.wall)
    }

    fn steady_time(&self) -> Duration {
        self.clock.lock().unwrap().map_or_else(|| self.disk.steady_time(), |clock| clock.steady)
    }

    fn allocated(&self, path: &Path) -> io::Result<u64> {
        self.disk.allocated(path)
    }
}

struct HookedFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    hook: Hook,
}

impl fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl DiskFile for HookedFile {
    fn size(&self) -> io::Result<u64> {
        (self.hook)(Operation::Size, &self.path)?;
        self.file.size()
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        (self.hook)(Operation::Read, &self.path)?;
        self.file.read_at(offset, length)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (self.hook)(Operation::Write, &self.path)?;
        self.file.write_at(offset, bytes)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        (self.hook)(Operation::SetSize, &self.path)?;
        self.file.set_size(size)
    }

    fn sync(&self) -> io::Result<()> {
        (self.hook)(Operation::Sync, &self.path)?;
        self.file.sync()
    }

    fn share(&self, start: u64, end: u64) -> io::Result<Bytes> {
        (self.hook)(Operation::Share, &self.path)?;
        self.file.share(start, end)
    }
}
