//! The operating system's files.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::RwLock;

use super::{
    Disk, DiskFile, DiskLock, LockError,
    map::{Map, begin_write_back},
};

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        // A name that is not UTF-8 is none of ours.
        let name = |entry: io::Result<fs::DirEntry>| match entry {
            Ok(entry) => entry.file_name().into_string().ok().map(Ok),
            Err(error) => Some(Err(error)),
        };
        entries.filter_map(name).collect()
    }

    fn create(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(RealFile { file, map_bytes, map: RwLock::default() }))
    }

    fn open(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile { file, map_bytes, map: RwLock::default() }))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        let file = File::open(path)?;
        let size = address(file.metadata()?.len())?;
        if size == 0 {
            return Ok(Bytes::new());
        }
        let map = Arc::new(Map::new(&file, size)?);
        map.share(0, size).ok_or_else(outside)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let path = std::path::absolute(path)?;
        let mut missing = Vec::new();
        for there in path.ancestors() {
            match fs::canonicalize(there) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                found => {
                    let mut found = found?;
                    found.extend(missing.into_iter().rev());
                    return Ok(found);
                }
            }
            // What ends in `..` has no name, and what is not there has nothing above it either.
            missing.push(there.file_name().ok_or(ErrorKind::NotFound)?);
        }
        Err(ErrorKind::NotFound.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn DiskLock>, LockError> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // The holder may be writing it just now; an empty answer is an answer.
                let _ = file.take(4096).read_to_string(&mut owner);
                return Err(LockError::Held { owner });
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.write_all(owner.as_bytes())?;
        Ok(Box::new(RealLock { file }))
    }

    fn boot(&self) -> io::Result<Option<String>> {
        // Linux only. Elsewhere, and where the file is hidden from the process, the log takes an
        // unclean end for a loss of power, which is safe.
        match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
            Ok(id) => Ok(Some(id.trim().to_owned())),
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::PermissionDenied => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn allocated(&self, path: &Path) -> io::Result<u64> {
        // The unit of this field is 512 bytes, whatever the file system's blocks are.
        Ok(fs::metadata(path)?.blocks() * 512)
    }
}

/// The kernel releases the lock when the file is closed, also for a process that was killed.
#[derive(Debug)]
struct RealLock {
    file: File,
}

impl DiskLock for RealLock {}

/// Closing the file would do, but for a process that is just being started by another thread: it
/// has a copy of the file until it runs its own program, and with it the lock.
impl Drop for RealLock {
    fn drop(&mut self) {
        // If this fails, closing the file releases it, a moment later at worst.
        let _ = self.file.unlock();
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    map_bytes: u64,
    map: RwLock<Option<Arc<Map>>>,
}

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let available = self.size()?.saturating_sub(offset);
        let length = length.min(address(available).unwrap_or(usize::MAX));
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn begin_sync(&self, offset: u64, length: usize) {
        begin_write_back(&self.file, offset, length);
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync on Linux, which also makes a new length durable; F_FULLFSYNC on macOS.
        self.file.sync_data()
    }

    fn share(&self, start: u64, end: u64) -> io::Result<Bytes> {
        let (start, end) = (address(start)?, address(end)?);
        if start == end {
            return Ok(Bytes::new());
        }
        self.mapped(end)?.share(start, end).ok_or_else(outside)
    }
}

impl RealFile {
    /// A mapping of at least this many bytes. It may reach beyond the end of the file, which
    /// grows into it.
    fn mapped(&self, bytes: usize) -> io::Result<Arc<Map>> {
        if let Some(map) = self.map.read().as_ref().filter(|map| map.size() >= bytes) {
            return Ok(map.clone());
        }
        let mut current = self.map.write();
        if let Some(map) = current.as_ref().filter(|map| map.size() >= bytes) {
            return Ok(map.clone());
        }
        let wanted = address(self.map_bytes)?.max(bytes.next_power_of_two());
        let map = Arc::new(Map::new(&self.file, wanted)?);
        *current = Some(map.clone());
        Ok(map)
    }
}

fn address(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes)
        .map_err(|_| io::Error::other("a file is larger than this machine's memory space"))
}

fn outside() -> io::Error {
    io::Error::other("a range is outside of the mapped file: this is a mistake in the engine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_file_is_shared_as_far_as_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("f"), 16).unwrap();
        file.write_at(0, b"one").unwrap();
        let one = file.share(0, 3).unwrap();
        file.write_at(3, &[7; 100]).unwrap();
        assert_eq!((&one[..], file.share(50, 103).unwrap().len()), (&b"one"[..], 53));
        assert_eq!(file.read_at(101, 10).unwrap(), [7, 7]);
        assert_eq!(RealDisk.map(&dir.path().join("f")).unwrap().len(), 103);
    }

    #[test]
    fn two_ways_to_one_place_become_alike_also_below_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let canonical = |path: &Path| RealDisk.canonical(path).unwrap();
        assert_eq!(canonical(&link), canonical(&real));
        assert_eq!(canonical(&link.join("not/there")), canonical(&real).join("not/there"));
        assert_eq!(canonical(&real.join("../link/x")), canonical(&real).join("x"));
    }

    #[test]
    fn a_lock_is_exclusive_and_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = RealDisk.lock(&path, "process 1").unwrap();
        let Err(LockError::Held { owner }) = RealDisk.lock(&path, "process 2") else {
            panic!("locked twice")
        };
        assert_eq!(owner, "process 1");
        drop(held);
        RealDisk.lock(&path, "process 2").unwrap();
    }
}
