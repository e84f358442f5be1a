//! The file seam: everything the engine asks of an operating system, and nothing else of it does.
//!
//! Two things stand behind it: the real disk, and (feature `testing`) a simulated one that can
//! lose, tear and reorder what was not synced, and fail any operation. What is specific to a
//! platform lives here: flushing, mapping, locking.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

mod map;
mod pin;
mod real;
#[cfg(feature = "testing")]
pub mod simulated;

pub(crate) use map::{is_resident, prefetch, will_need};
pub use real::RealDisk;

/// In a folder that is locked: text about the process that locked it, for people to read.
pub(crate) const LOCK_FILE: &str = "lock";

/// A place for files.
///
/// Names (creating, renaming, removing) are durable only once [`sync_dir`](Disk::sync_dir) of
/// the folder succeeded, and bytes only once [`DiskFile::sync`] did.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Creates a folder and those above it, if missing.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names of the files in a folder, in no order; none if there is no such folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a file that must not exist, to write and read. `map_bytes` is how large it is
    /// expected to become.
    fn create(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that must exist, to write and read.
    fn open(&self, path: &Path, map_bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// The whole of a file that nobody writes to any more, mapped where that is possible.
    ///
    /// It holds no file descriptor. A disk that fails to deliver a mapped page later ends the
    /// process: reads that must report this go through [`DiskFile::read_at`].
    fn map(&self, path: &Path) -> io::Result<Bytes>;

    /// Gives a file another name, replacing what has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, which must be free, in any folder. Both are the same bytes, so
    /// this is for files that nobody writes to any more; removing one leaves the other.
    ///
    /// Many places cannot, such as two file systems: then the file has to be copied.
    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The one way to say where this is, also if not all of it is there: two paths that lead to
    /// the same place become alike.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        std::path::absolute(path)
    }

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// This disk, with everything in the folder at `root` reached through the folder that `root`
    /// leads to now. Callers name files as before, by paths that begin with `root`. If the folder
    /// is moved away, its files go with it; what comes in its place is neither read nor changed.
    fn pin(&self, root: &Path) -> io::Result<Arc<dyn Disk>>;

    /// Checks that the path of a pinned folder, or of one in it, still leads there; of other
    /// folders nothing is known, and nothing said.
    ///
    /// # Errors
    /// The folder was moved, removed or replaced.
    fn check_place(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Locks the folder at `root` for as long as the answer lives, also against this same
    /// process. The lock is on the folder itself, which nothing that is removed from it releases;
    /// `owner` is left in a file there, for others to read.
    fn lock(&self, root: &Path, owner: &str) -> Result<Box<dyn DiskLock>, LockError>;

    /// Which run of the machine this is: alike as long as nothing that was written can have been
    /// lost, different after a loss of power. Nothing if the platform does not tell.
    ///
    /// # Errors
    /// If the platform would tell and cannot now. That is not the same as nothing, which an open
    /// takes for a loss of power.
    fn boot(&self) -> io::Result<Option<String>> {
        Ok(None)
    }

    /// Bytes that a file takes up, prepared space included.
    fn allocated(&self, path: &Path) -> io::Result<u64>;
}

/// An open file.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// The bytes from `offset`, at most `length` of them, fewer only at the end of the file.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Writes all of `bytes` at `offset`, making the file longer if need be. After an error any
    /// part of them may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts or lengthens (by zeros) the file.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Lets the disk begin with what was written there, which a sync will wait for. A hint: it
    /// makes nothing durable, and does not fail.
    fn begin_sync(&self, _offset: u64, _length: usize) {}

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
    /// Somebody holds it; what they left in the file, if it can be read.
    Held {
        /// What the holder wrote about itself.
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
