//! The file seam: the engine uses the operating system's files through this module only.
//!
//! It has two implementations: the real disk, and (feature `testing`) a simulated one that can
//! lose, tear and reorder unsynced writes, and fail any operation. Platform-specific code lives
//! here: flushing, mapping, locking, clocks.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use diptych_store::Timestamp;

mod clock;
mod map;
mod pin;
mod place;
pub(crate) mod prefetch;
mod process;
mod real;
#[cfg(feature = "testing")]
pub mod simulated;

pub(crate) use map::{is_resident, prefetch, will_need};
pub use place::{FileSystemId, FolderPlace};
pub(crate) use process::has_ended;
pub use real::RealDisk;

/// The file in a locked folder with text about the process that locked it, for people to read.
pub(crate) const LOCK_FILE: &str = "lock";

/// Access to folders and files.
///
/// Names (creating, renaming, removing) are durable only once [`sync_dir`](Disk::sync_dir) of
/// the folder succeeded, and bytes only once [`DiskFile::sync`] did.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Creates a folder and those above it, if missing.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names of the files in a folder, in no order; empty if there is no such folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a file for reading and writing; it must not exist. `map_bytes` is the expected size
    /// of the file.
    fn create(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing; it must exist.
    fn open(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading only, which needs no right to write; it must exist.
    fn open_read(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// All bytes of a file that is no longer written to, mapped where that is possible.
    ///
    /// The mapping needs no file descriptor. If the disk later fails to deliver a mapped page, the
    /// process ends: reads that must report this go through [`DiskFile::read_at`].
    fn map(&self, path: &Path) -> io::Result<Bytes>;

    /// Renames a file, replacing any file that has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, which must be free, in any folder. Both names share the bytes,
    /// so callers use this only for files that are no longer written to. If one name is removed,
    /// the other stays.
    ///
    /// This is often not possible, for example between two file systems. The caller then copies the
    /// file.
    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The canonical form of a path: two paths that lead to one place have the same form. The end
    /// of the path may be missing.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        std::path::absolute(path)
    }

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// This disk, pinned to a folder: it reaches everything in the folder at `root` through the
    /// folder that `root` leads to now. Callers name files as before, by paths that begin with
    /// `root`. If the folder is moved, its files stay reachable. A folder that takes its place is
    /// neither read nor changed.
    fn pin(&self, root: &Path) -> io::Result<Arc<dyn Disk>>;

    /// Checks that the path of a pinned folder, or of a folder in it, still leads to that folder.
    /// For any other folder the check succeeds, because the disk knows nothing about it.
    ///
    /// # Errors
    /// If the folder was moved, removed or replaced.
    fn check_place(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Locks the folder at `root` until the returned lock is dropped, also against this process.
    /// The lock is on the folder itself, so it stays if a file in the folder is removed. `owner` is
    /// written to a file in the folder, for other processes to read.
    fn lock(&self, root: &Path, owner: &str) -> Result<Box<dyn DiskLock>, LockError>;

    /// Takes a shared lock of the folder at `root`. Until it is dropped, no [`lock`](Disk::lock) of
    /// the folder succeeds. Several shared locks can exist at a time. Writes nothing, and needs no
    /// right to write.
    ///
    /// On a system without such locks the returned lock prevents nothing.
    fn lock_shared(&self, root: &Path) -> Result<Box<dyn DiskLock>, LockError>;

    /// Identifies the run of the machine. The value stays the same as long as no written byte can
    /// have been lost, and differs after a loss of power. `None` if the platform does not report
    /// it.
    ///
    /// # Errors
    /// If the platform reports it in general, but not now. An open treats `None`, but not an error,
    /// as a loss of power.
    fn boot(&self) -> io::Result<Option<String>> {
        Ok(None)
    }

    /// The number of files and folders that are open through this disk and the disks pinned from
    /// it; 0 if the disk does not count them.
    fn open_files(&self) -> u64 {
        0
    }

    /// A number that changes when the file system of a folder is mounted again. Bytes that were
    /// written before may then be lost, even if the machine was not restarted.
    ///
    /// # Errors
    /// If the platform reports it in general, but not now.
    fn mount(&self, _root: &Path) -> io::Result<u64> {
        Ok(0)
    }

    /// Where the folder at `root` is. A renamed folder has the same place as before; a copy of it
    /// has another place. `None` if the place cannot be known.
    ///
    /// # Errors
    /// If the platform reports it in general, but not now.
    fn place(&self, _root: &Path) -> io::Result<Option<FolderPlace>> {
        Ok(None)
    }

    /// The time of day, for the times of commits. A person or a program can set this clock.
    fn time_of_day(&self) -> Timestamp {
        Timestamp::now()
    }

    /// The time since an unknown moment. This clock runs evenly, even while the machine sleeps, and
    /// cannot be set.
    fn steady_time(&self) -> Duration {
        clock::steady_time()
    }

    /// Number of bytes that a file occupies, including the space that is prepared for it.
    fn allocated(&self, path: &Path) -> io::Result<u64>;
}

/// An open file.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// At most `length` bytes from `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Like `read_at`, but from where the bytes are stored, also if a copy of them is nearer.
    /// Verifications, backups and moves of segments read so.
    fn read_stored(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.read_at(offset, length)
    }

    /// Writes all of `bytes` at `offset`, and extends the file if needed. After an error any part
    /// of the bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Truncates the file, or extends it with zeros.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Begins to write back these bytes, so that a later sync waits less. This is a hint: it makes
    /// nothing durable, and does not fail.
    fn begin_sync(&self, _offset: u64, _length: usize) {}

    /// Whether the file still has a name. It has none after it was removed or replaced.
    fn has_name(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Makes everything that was written before durable, so that it survives a loss of power.
    fn sync(&self) -> io::Result<()>;

    /// Shares the bytes `start..end` of the file, without a copy where that is possible.
    ///
    /// The caller promises that these bytes were written and will never change.
    fn share(&self, start: u64, end: u64) -> io::Result<Bytes>;
}

/// Holds a lock until it is dropped.
pub trait DiskLock: Send + Sync + fmt::Debug {}

/// Why a lock was not taken.
#[derive(Debug)]
pub enum LockError {
    /// Another process or another open log holds the lock.
    Held {
        /// Text that the holder left in the lock file; empty if it cannot be read.
        owner: String,
    },
    /// The file system refused.
    Io(io::Error),
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> LockError {
        LockError::Io(error)
    }
}
