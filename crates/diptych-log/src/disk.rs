//! The file seam: the engine uses the operating system's files through this module only.
//!
//! It has two implementations: the real disk, and (feature `testing`) a simulated one that can
//! lose, tear and reorder unsynced writes, and fail any operation. Platform-specific code lives
//! here: flushing, mapping, locking, clocks.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

mod clock;
mod map;
mod pin;
mod place;
pub(crate) mod prefetch;
mod process;
mod real;
#[cfg(feature = "testing")]
pub mod simulated;

pub use clock::ClockReading;
pub(crate) use map::{is_resident, prefetch, will_need};
pub use place::{FileSystemId, FolderPlace};
pub(crate) use process::has_ended;
pub use real::RealDisk;

/// The file in a locked folder with text about the process that locked it, for people to read.
pub(crate) const LOCK_FILE: &str = "lock";

/// A place for files.
///
/// Names (creating, renaming, removing) are durable only once [`sync_dir`](Disk::sync_dir) of
/// the folder succeeded, and bytes only once [`DiskFile::sync`] did.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Creates a folder and those above it, if missing.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names of the files in a folder, in no order; empty if there is no such folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a file for reading and writing; it must not exist. `map_bytes` is the size that it
    /// is expected to reach.
    fn create(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing; it must exist.
    fn open(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading only, which needs no right to write; it must exist.
    fn open_read(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// All bytes of a file that is no longer written to, mapped where that is possible.
    ///
    /// The mapping holds no file descriptor. If the disk later fails to deliver a mapped page, the
    /// process ends: reads that must report this go through [`DiskFile::read_at`].
    fn map(&self, path: &Path) -> io::Result<Bytes>;

    /// Renames a file, replacing any file that has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, which must be free, in any folder. Both names share the bytes,
    /// so this is for files that are no longer written to; removing one name leaves the other.
    ///
    /// Often this is not possible, for example between two file systems: then the file has to be
    /// copied.
    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The canonical form of a path, even if its end does not exist: two paths that lead to one
    /// place have the same form.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        std::path::absolute(path)
    }

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// This disk, with everything in the folder at `root` reached through the folder that `root`
    /// leads to now. Callers name files as before, by paths that begin with `root`. If the folder
    /// is moved away, its files go with it; a folder that takes its place is neither read nor
    /// changed.
    fn pin(&self, root: &Path) -> io::Result<Arc<dyn Disk>>;

    /// Checks that the path of a pinned folder, or of one in it, still leads there. Any other
    /// folder passes, because nothing is known about it.
    ///
    /// # Errors
    /// If the folder was moved, removed or replaced.
    fn check_place(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Locks the folder at `root` for as long as the answer lives, also against this same process.
    /// The lock is on the folder itself, so removing a file in it does not release it. `owner` is
    /// written to a file there, for other processes to read.
    fn lock(&self, root: &Path, owner: &str) -> Result<Box<dyn DiskLock>, LockError>;

    /// Keeps out everyone who would [`lock`](Disk::lock) the folder at `root`, for as long as the
    /// answer lives. Any number may do so at a time. Writes nothing, and needs no right to write.
    ///
    /// Where the system has no such locks the answer keeps no process out.
    fn lock_shared(&self, root: &Path) -> Result<Box<dyn DiskLock>, LockError>;

    /// Identifies the run of the machine: equal as long as no written byte can have been lost,
    /// different after a loss of power. `None` if the platform does not tell.
    ///
    /// # Errors
    /// If the platform could tell, but cannot now. An open takes only `None` for a loss of power.
    fn boot(&self) -> io::Result<Option<String>> {
        Ok(None)
    }

    /// How many files and folders are open through this disk and those that were pinned from it; 0
    /// if it does not count them.
    fn open_files(&self) -> u64 {
        0
    }

    /// A number that changes when the file system of a folder is mounted again: then bytes that
    /// were written before may be lost, even if the machine runs on.
    ///
    /// # Errors
    /// If the platform could tell, but cannot now.
    fn mount(&self, _root: &Path) -> io::Result<u64> {
        Ok(0)
    }

    /// Where the folder at `root` is: the same after it was renamed, another for a copy of it.
    /// `None` if that cannot be known.
    ///
    /// # Errors
    /// If the platform could tell, but cannot now.
    fn place(&self, _root: &Path) -> io::Result<Option<FolderPlace>> {
        Ok(None)
    }

    /// The clocks of the machine, for the times of commits.
    fn clock(&self) -> ClockReading {
        ClockReading::now()
    }

    /// Bytes that a file occupies, space that is prepared for it included.
    fn allocated(&self, path: &Path) -> io::Result<u64>;
}

/// An open file.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// At most `length` bytes from `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Writes all of `bytes` at `offset`, extending the file if need be. After an error any part of
    /// them may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Truncates the file, or extends it with zeros.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Begins to write back bytes that a later sync will wait for. A hint: it makes nothing
    /// durable, and does not fail.
    fn begin_sync(&self, _offset: u64, _length: usize) {}

    /// Whether the file still has a name: it was not removed or replaced.
    fn has_name(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Makes everything written before durable: it survives a loss of power.
    fn sync(&self) -> io::Result<()>;

    /// Shares `start..end` without a copy where that is possible.
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
