//! The operating system's files.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::RwLock;
use rustix::{
    fs::{AtFlags, Mode, OFlags, linkat, openat, renameat, unlinkat},
    io::{Errno, retry_on_intr},
};

use super::{
    Disk, DiskFile, DiskLock, FolderPlace, LOCK_FILE, LockError,
    map::{Map, begin_write_back},
    pin::{Folder, Pin, Place},
};

/// The operating system's files.
#[derive(Clone, Debug, Default)]
pub struct RealDisk {
    /// Folders whose files are reached through an open handle, not by path.
    pins: Vec<Arc<Pin>>,
    /// Number of open files, those of pinned disks included.
    open: Arc<AtomicU64>,
}

impl RealDisk {
    /// The innermost pinned folder that a path leads into, and the rest of the path.
    fn pinned<'a>(&self, path: &'a Path) -> Option<(&Pin, &'a Path)> {
        let inside = self.pins.iter().filter_map(|pin| Some((&**pin, pin.inside(path)?)));
        inside.max_by_key(|(pin, _)| pin.root.as_os_str().len())
    }

    fn place<'a>(&self, path: &'a Path) -> io::Result<Place<'a>> {
        match self.pinned(path) {
            Some((pin, inside)) => pin.place(inside),
            None => Ok(Place::by_path(path)),
        }
    }

    fn folder(&self, path: &Path) -> io::Result<Arc<Folder>> {
        match self.pinned(path) {
            Some((pin, inside)) => pin.folder(inside),
            // The empty path means the current folder, but operating systems refuse it.
            None if path.as_os_str().is_empty() => self.folder(Path::new(".")),
            None => Folder::by_path(path).map(Arc::new),
        }
    }

    fn open_file(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        const READ_AND_WRITE_BY_ALL: Mode = Mode::from_raw_mode(0o666);
        let place = self.place(path)?;
        let flags = flags | OFlags::CLOEXEC;
        let open = || openat(place.folder(), place.name, flags, READ_AND_WRITE_BY_ALL);
        Ok(File::from(retry_on_intr(open)?))
    }

    fn file(&self, file: File, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let metadata = file.metadata()?;
        // A system refuses to open a folder for writing, but not for reading.
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let counts_names = metadata.nlink() > 0;
        let (map, _count) = (RwLock::default(), OpenCount::new(&self.open));
        Ok(Arc::new(RealFile { file, map_bytes, map, counts_names, _count }))
    }

    /// Locks the folder itself. This lock stays when files in the folder are replaced.
    fn lock_folder(&self, root: &Path) -> Result<Option<File>, LockError> {
        let folder = self.folder(root)?.open_again()?;
        match folder.try_lock() {
            Ok(()) => Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => {
                Err(LockError::Held { owner: self.owner(root).unwrap_or_default() })
            }
            Err(TryLockError::Error(error)) if locks_no_folders(&error) => {
                let folder = root.display();
                tracing::warn!(%folder, %error, "this file system cannot lock a folder: only the \
                    file `lock` keeps others out, and must not be removed while the log is open");
                Ok(None)
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// The text that the holder of the lock left. It may be empty, because the holder may not have
    /// written it yet.
    fn owner(&self, root: &Path) -> io::Result<String> {
        const MOST_BYTES: u64 = 4096;
        let mut owner = String::new();
        let file = self.open_file(&root.join(LOCK_FILE), OFlags::RDONLY)?;
        file.take(MOST_BYTES).read_to_string(&mut owner)?;
        Ok(owner)
    }
}

/// Counts an open file until it is dropped.
#[derive(Debug)]
struct OpenCount(Arc<AtomicU64>);

impl OpenCount {
    fn new(open: &Arc<AtomicU64>) -> OpenCount {
        open.fetch_add(1, Ordering::Relaxed);
        OpenCount(open.clone())
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The number of names of an open file.
///
/// This asks only for that number. After a process has asked for the times of a file, the next
/// write to the file costs more on Linux, because the write then has to store new times.
#[cfg(target_os = "linux")]
fn names_of(file: &File) -> io::Result<u64> {
    use rustix::fs::{StatxFlags, statx};
    match statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::NLINK) {
        Ok(told) => Ok(told.stx_nlink.into()),
        // Old kernels and some sandboxes do not have the call.
        Err(_) => Ok(file.metadata()?.nlink()),
    }
}

#[cfg(not(target_os = "linux"))]
fn names_of(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.nlink())
}

/// Some network file systems lock only files that are open to be written to.
fn locks_no_folders(error: &io::Error) -> bool {
    let unsupported =
        [Errno::BADF, Errno::INVAL, Errno::NOLCK, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP];
    Errno::from_io_error(error).is_some_and(|error| unsupported.contains(&error))
}

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match self.pinned(dir) {
            Some((pin, inside)) => pin.create_dir(inside),
            None => fs::create_dir_all(dir),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        match self.folder(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            folder => folder?.names(),
        }
    }

    fn create(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.file(self.open_file(path, flags)?, map_bytes)
    }

    fn open(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.file(self.open_file(path, OFlags::RDWR)?, map_bytes)
    }

    fn open_read(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.file(self.open_file(path, OFlags::RDONLY)?, map_bytes)
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        let file = self.open_file(path, OFlags::RDONLY)?;
        let size = address(file.metadata()?.len())?;
        if size == 0 {
            return Ok(Bytes::new());
        }
        let map = Arc::new(Map::new(&file, size)?);
        map.share(0, size).ok_or_else(outside)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        Ok(renameat(from.folder(), from.name, to.folder(), to.name)?)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        Ok(linkat(from.folder(), from.name, to.folder(), to.name, AtFlags::empty())?)
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
            // A path that ends in `..` has no file name. If the folder before `..` is missing, so
            // is the folder above it.
            missing.push(there.file_name().ok_or(ErrorKind::NotFound)?);
        }
        Err(ErrorKind::NotFound.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let place = self.place(path)?;
        Ok(unlinkat(place.folder(), place.name, AtFlags::empty())?)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.folder(dir)?.sync()
    }

    fn pin(&self, root: &Path) -> io::Result<Arc<dyn Disk>> {
        let pin = Pin::new(root, &*self.folder(root)?)?;
        let mut pins = self.pins.clone();
        pins.push(Arc::new(pin));
        Ok(Arc::new(RealDisk { pins, open: self.open.clone() }))
    }

    fn check_place(&self, dir: &Path) -> io::Result<()> {
        self.pinned(dir).map_or(Ok(()), |(pin, inside)| pin.check_place(inside))
    }

    fn lock(&self, root: &Path, owner: &str) -> Result<Box<dyn DiskLock>, LockError> {
        let folder = self.lock_folder(root)?;
        let path = root.join(LOCK_FILE);
        let mut file = self.open_file(&path, OFlags::RDWR | OFlags::CREATE)?;
        // Older versions of this program lock only this file, not the folder.
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { owner: self.owner(root).unwrap_or_default() });
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        match file.write_all(owner.as_bytes()) {
            // The text is only for people, and a log on a full disk can be read.
            Err(error)
                if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {}
            written => written?,
        }
        let counts = [folder.as_ref(), Some(&file)].into_iter().flatten();
        let counts = counts.map(|_| OpenCount::new(&self.open)).collect();
        Ok(Box::new(RealLock { folder, file, _counts: counts }))
    }

    fn lock_shared(&self, root: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        let mut locked = SharedLock(Vec::new());
        let folder = self.folder(root)?.open_again()?;
        // Older versions of this program lock only this file, not the folder.
        let file = match self.open_file(&root.join(LOCK_FILE), OFlags::RDONLY) {
            Err(error)
                if [ErrorKind::NotFound, ErrorKind::PermissionDenied].contains(&error.kind()) =>
            {
                None
            }
            file => Some(file?),
        };
        for file in [Some(folder), file].into_iter().flatten() {
            match file.try_lock_shared() {
                Ok(()) => locked.0.push((file, OpenCount::new(&self.open))),
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held { owner: self.owner(root).unwrap_or_default() });
                }
                Err(TryLockError::Error(error)) if locks_no_folders(&error) => {}
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        Ok(Box::new(locked))
    }

    fn boot(&self) -> io::Result<Option<String>> {
        // Only Linux has this file. On other systems, and where the file is hidden from the
        // process, the log takes an unclean end for a loss of power, which is safe.
        match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
            Ok(id) => Ok(Some(id.trim().to_owned())),
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::PermissionDenied => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn open_files(&self) -> u64 {
        let folders: usize = self.pins.iter().map(|pin| pin.open_folders()).sum();
        self.open.load(Ordering::Relaxed) + folders as u64
    }

    fn mount(&self, root: &Path) -> io::Result<u64> {
        self.folder(root)?.mount()
    }

    fn place(&self, root: &Path) -> io::Result<Option<FolderPlace>> {
        self.folder(root)?.place()
    }

    fn allocated(&self, path: &Path) -> io::Result<u64> {
        let blocks = u64::try_from(self.place(path)?.stat()?.st_blocks).unwrap_or(0);
        // The unit of this field is 512 bytes, whatever the file system's blocks are.
        Ok(blocks * 512)
    }
}

/// The kernel releases the locks when the handles are closed, also for a process that was killed.
#[derive(Debug)]
struct RealLock {
    /// `None` where folders cannot be locked.
    folder: Option<File>,
    file: File,
    _counts: Vec<OpenCount>,
}

impl DiskLock for RealLock {}

/// Unlocks before the files are closed. While another thread starts a process, that process has
/// copies of the files until it runs its own program. During this time closing the files does not
/// release the lock.
impl Drop for RealLock {
    fn drop(&mut self) {
        // The text is removed, because a reader may lock next, and leaves no text of its own.
        let _ = self.file.set_len(0);
        // If unlocking fails, closing the files releases the locks, a moment later at worst.
        let _ = self.file.unlock();
        let _ = self.folder.as_ref().map(File::unlock);
    }
}

/// Shared locks of a folder and of the file in it.
#[derive(Debug)]
struct SharedLock(Vec<(File, OpenCount)>);

impl DiskLock for SharedLock {}

impl Drop for SharedLock {
    fn drop(&mut self) {
        // Unlocks before the files are closed, as `RealLock` does.
        self.0.iter().for_each(|(file, _)| drop(file.unlock()));
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    map_bytes: u64,
    map: RwLock<Option<Arc<Map>>>,
    /// Whether the file system counts the names (links) of a file.
    counts_names: bool,
    _count: OpenCount,
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

    fn has_name(&self) -> io::Result<bool> {
        Ok(!self.counts_names || names_of(&self.file)? > 0)
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync on Linux, which also makes a new length durable; F_FULLFSYNC on macOS.
        self.file.sync_data()?;
        if !self.has_name()? {
            return Err(io::Error::other("the file was removed or replaced while it was open"));
        }
        Ok(())
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
    /// A mapping of at least this many bytes. It may reach beyond the end of the file: the file
    /// grows into the mapping.
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
        let file = RealDisk::default().create(&dir.path().join("f"), 16).unwrap();
        file.write_at(0, b"one").unwrap();
        let one = file.share(0, 3).unwrap();
        file.write_at(3, &[7; 100]).unwrap();
        assert_eq!((&one[..], file.share(50, 103).unwrap().len()), (&b"one"[..], 53));
        assert_eq!(file.read_at(101, 10).unwrap(), [7, 7]);
        assert_eq!(RealDisk::default().map(&dir.path().join("f")).unwrap().len(), 103);
    }

    #[test]
    fn two_paths_to_one_place_have_one_canonical_form_even_if_their_end_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let canonical = |path: &Path| RealDisk::default().canonical(path).unwrap();
        assert_eq!(canonical(&link), canonical(&real));
        assert_eq!(canonical(&link.join("not/there")), canonical(&real).join("not/there"));
        assert_eq!(canonical(&real.join("../link/x")), canonical(&real).join("x"));
    }

    #[test]
    fn a_lock_is_exclusive_and_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let lock = |owner| RealDisk::default().lock(dir.path(), owner);
        let held = lock("process 1").unwrap();
        let Err(LockError::Held { owner }) = lock("process 2") else { panic!("locked twice") };
        assert_eq!(owner, "process 1");
        drop(held);
        lock("process 2").unwrap();
    }

    /// Once, the lock was on the file alone. After the file was removed, a second holder made and
    /// locked a new one.
    #[test]
    fn a_lock_stays_if_its_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let lock = |owner| RealDisk::default().lock(dir.path(), owner);
        let held = lock("process 1").unwrap();
        fs::remove_file(dir.path().join(LOCK_FILE)).unwrap();
        assert!(matches!(lock("process 2"), Err(LockError::Held { .. })));
        assert!(!dir.path().join(LOCK_FILE).exists(), "a refused lock changes nothing");
        drop(held);
        lock("process 2").unwrap();
    }

    /// Older versions of this program lock this file, and not the folder.
    #[test]
    fn a_lock_of_the_file_alone_is_honoured() {
        let dir = tempfile::tempdir().unwrap();
        let older = File::create(dir.path().join(LOCK_FILE)).unwrap();
        older.lock().unwrap();
        let lock = || RealDisk::default().lock(dir.path(), "process 2");
        assert!(matches!(lock(), Err(LockError::Held { .. })));
        drop(older);
        lock().unwrap();
    }

    #[test]
    fn a_pinned_folder_is_used_wherever_it_is_moved() {
        let dir = tempfile::tempdir().unwrap();
        let (root, moved) = (dir.path().join("log"), dir.path().join("moved"));
        let (file, folder) = (root.join("within/file"), root.join("within"));
        fs::create_dir_all(&folder).unwrap();
        let disk = RealDisk::default().pin(&root).unwrap();
        disk.check_place(&folder).unwrap();
        fs::rename(&root, &moved).unwrap();
        fs::create_dir_all(&folder).unwrap();
        assert!(disk.check_place(&folder).is_err() && disk.check_place(&root).is_err());
        disk.create(&file, 0).unwrap().write_at(0, b"bytes").unwrap();
        disk.rename(&file, &root.join("within/renamed")).unwrap();
        disk.create_dir(&root.join("more/below")).unwrap();
        disk.sync_dir(&folder).unwrap();
        assert_eq!(disk.list(&folder).unwrap(), ["renamed"]);
        assert_eq!(&disk.map(&root.join("within/renamed")).unwrap()[..], b"bytes");
        assert_eq!(fs::read(moved.join("within/renamed")).unwrap(), b"bytes");
        assert!(moved.join("more/below").is_dir() && !root.join("more").exists());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing went to the other folder");
        fs::remove_dir_all(&root).unwrap();
        fs::rename(&moved, &root).unwrap();
        disk.check_place(&folder).unwrap();
    }

    #[test]
    fn a_replaced_folder_within_a_pinned_one_is_noticed_and_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, moved) = (dir.path().join("within"), dir.path().join("moved"));
        fs::create_dir(&folder).unwrap();
        let disk = RealDisk::default().pin(dir.path()).unwrap();
        assert!(disk.list(&folder).unwrap().is_empty());
        fs::rename(&folder, &moved).unwrap();
        fs::create_dir(&folder).unwrap();
        disk.check_place(dir.path()).unwrap();
        let error = disk.check_place(&folder).unwrap_err().to_string();
        assert!(error.contains("within") && error.contains("replaced"), "{error}");
        disk.create(&folder.join("file"), 0).unwrap();
        assert!(moved.join("file").exists() && !folder.join("file").exists());
    }

    #[test]
    fn a_folder_that_is_created_again_is_the_one_that_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("within");
        let disk = RealDisk::default().pin(dir.path()).unwrap();
        disk.create_dir(&folder).unwrap();
        fs::remove_dir(&folder).unwrap();
        assert!(disk.create(&folder.join("file"), 0).is_err());
        disk.create_dir(&folder).unwrap();
        disk.create(&folder.join("file"), 0).unwrap();
        assert!(folder.join("file").exists());
        disk.check_place(&folder).unwrap();
    }

    #[test]
    fn a_file_without_a_name_cannot_be_synced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = RealDisk::default().create(&path, 0).unwrap();
        file.write_at(0, b"bytes").unwrap();
        file.sync().unwrap();
        fs::remove_file(&path).unwrap();
        let error = file.sync().unwrap_err().to_string();
        assert!(error.contains("removed"), "{error}");
    }
}
