use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::disk::Disk;

/// Named bytes beside the log. Programs store states here that they can rebuild from the log.
///
/// Snapshots are never synced and have no checksum of their own. After a crash a snapshot may be
/// torn, old or missing, and the program that wrote it has to notice. All snapshots can be deleted
/// at any time.
#[derive(Clone)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

const UNFINISHED: &str = ".tmp";

/// The number of the next unfinished file. Two callers that save under the same name never write to
/// the same file.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Snapshots {
    /// The snapshots beside the log at `root`. Creates their folder if it is missing.
    ///
    /// # Errors
    /// If the folder cannot be created or read.
    pub(crate) fn beside(disk: Arc<dyn Disk>, root: &Path) -> io::Result<Snapshots> {
        let folder = root.join("snapshots");
        disk.create_dir(&folder)?;
        // A process that was killed may have left unfinished files.
        for name in disk.list(&folder)? {
            if name.ends_with(UNFINISHED) {
                disk.remove(&folder.join(name))?;
            }
        }
        Ok(Snapshots { disk, folder })
    }

    /// The bytes under this name, if there are any.
    ///
    /// # Errors
    /// If the operating system refuses, or the name is invalid: a name has letters, digits and `-`.
    pub fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(name)?;
        let file = match self.disk.open_read(&path, 0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let size = usize::try_from(file.size()?).unwrap_or(usize::MAX);
        file.read_at(0, size).map(Some)
    }

    /// Stores these bytes under this name. They replace older bytes with that name.
    ///
    /// # Errors
    /// If the operating system refuses. The older bytes then stay.
    pub fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.folder.join(format!("{name}.{number}{UNFINISHED}"));
        let file = self.disk.create(&unfinished, bytes.len() as u64)?;
        let written = file.write_at(0, bytes);
        drop(file);
        let saved = written.and_then(|()| self.disk.rename(&unfinished, &path));
        if saved.is_err() {
            // An unfinished file should not take space on a full disk.
            let _ = self.disk.remove(&unfinished);
        }
        saved
    }

    /// The sorted names of the snapshots whose names begin with `prefix`; all names for an empty
    /// prefix.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn names(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut names = self.disk.list(&self.folder)?;
        // This leaves out unfinished files and files of other programs, whose names are not valid.
        names.retain(|name| is_name(name) && name.starts_with(prefix));
        names.sort_unstable();
        Ok(names)
    }

    /// Removes the snapshot with this name, if there is one.
    ///
    /// # Errors
    /// If the operating system refuses, or the name is invalid, as for [`load`](Self::load).
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match self.disk.remove(&self.path(name)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        if !is_name(name) {
            let problem =
                format!("{name:?} is not a valid name of a snapshot: use letters, digits and -");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        Ok(self.folder.join(name))
    }
}

/// Whether a name is valid. A valid name leads to a file in the folder on every system.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !name.is_empty() && name.bytes().all(allowed)
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").field("folder", &self.folder).finish_non_exhaustive()
    }
}
