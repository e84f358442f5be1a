//! A disk that imitates an engine with a mistake: the engine forgets a step for new segments.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use diptych_log::disk::{
    Disk, DiskFile, DiskLock, FolderPlace, LockError, simulated::SimulatedDisk,
};

/// The step that the engine forgets for the segments in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgotten {
    Nothing,
    /// To sync the folder of the segments.
    Folder,
    /// To sync a segment before it gets its name.
    Content,
    /// To compare the written bytes with the intended ones: the disk changes one bit of them.
    Look,
}

/// The simulated disk with the effects of the mistake.
#[derive(Clone, Debug)]
pub(crate) struct Forgetful {
    disk: SimulatedDisk,
    segments: PathBuf,
    forgotten: Forgotten,
    on_head: Hook,
}

/// Called before each write to the published head.
#[derive(Clone)]
struct Hook(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

impl Forgetful {
    pub(crate) fn new(disk: &SimulatedDisk, root: &str, forgotten: Forgotten) -> Forgetful {
        let segments = Path::new(root).join("segments");
        let on_head = Hook(Arc::new(|| ()));
        Forgetful { disk: disk.clone(), segments, forgotten, on_head }
    }

    pub(crate) fn on_head(self, hook: impl Fn() + Send + Sync + 'static) -> Forgetful {
        Forgetful { on_head: Hook(Arc::new(hook)), ..self }
    }

    fn wrap(&self, path: &Path, file: Arc<dyn DiskFile>, created: bool) -> Arc<dyn DiskFile> {
        if path.ends_with("head") {
            let forgotten = Forgotten::Nothing;
            return Arc::new(Careless { file, forgotten, hook: self.on_head.clone() });
        }
        if !created || !path.starts_with(&self.segments) {
            return file;
        }
        let (forgotten, hook) = (self.forgotten, Hook(Arc::new(|| ())));
        Arc::new(Careless { file, forgotten, hook })
    }
}

#[derive(Debug)]
struct Careless {
    file: Arc<dyn DiskFile>,
    forgotten: Forgotten,
    hook: Hook,
}

impl Disk for Forgetful {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, self.disk.create(path, map_bytes)?, true))
    }

    fn open(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, self.disk.open(path, map_bytes)?, false))
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

    fn mount(&self, root: &Path) -> io::Result<u64> {
        self.disk.mount(root)
    }

    fn place(&self, root: &Path) -> io::Result<Option<FolderPlace>> {
        self.disk.place(root)
    }

    fn allocated(&self, path: &Path) -> io::Result<u64> {
        self.disk.allocated(path)
    }
}

impl DiskFile for Careless {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.file.read_at(offset, length)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (self.hook.0)();
        match bytes.split_last() {
            Some((last, rest)) if self.forgotten == Forgotten::Look => {
                self.file.write_at(offset, &[rest, &[last ^ 1]].concat())
            }
            _ => self.file.write_at(offset, bytes),
        }
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_size(size)
    }

    fn sync(&self) -> io::Result<()> {
        if self.forgotten == Forgotten::Content { Ok(()) } else { self.file.sync() }
    }

    fn share(&self, start: u64, end: u64) -> io::Result<Bytes> {
        self.file.share(start, end)
    }
}
