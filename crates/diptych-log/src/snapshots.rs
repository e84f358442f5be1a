use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::disk::Disk;

/// Named bytes beside the log, for programs that store states which they can rebuild from it.
///
/// Snapshots are never synced and carry no checksum of their own: after a crash a snapshot may be
/// torn, old or gone, and the program that wrote it has to notice. All of them can be deleted at
/// any time.
#[derive(Clone)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

const UNFINISHED: &str = ".tmp";

/// Numbers the unfinished files, so that two callers that save under one name never write into one
/// file.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Snapshots {
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
    /// If the operating system refuses, or the name is invalid: it has letters, digits, and `-`.
    pub fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(name)?;
        let file = match self.disk.open_read(&path, 0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let size = usize::try_from(file.size()?).unwrap_or(usize::MAX);
        file.read_at(0, size).map(Some)
    }

    /// Stores these bytes under this name, in place of older ones.
    ///
    /// # Errors
    /// If the operating system refuses; the older bytes are then still there.
    pub fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.folder.join(format!("{name}.{number}{UNFINISHED}"));
        let file = self.disk.create(&unfinished, bytes.len() as u64)?;
        let written = file.write_at(0, bytes);
        drop(file);
        let saved = written.and_then(|()| self.disk.rename(&unfinished, &path));
        if saved.is_err() {
            // A useless file should not keep a full disk full.
            let _ = self.disk.remove(&unfinished);
        }
        saved
    }

    /// The names of snapshots that begin with `prefix`, sorted; all for "".
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn names(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut names = self.disk.list(&self.folder)?;
        // Other programs' files, and unfinished ones, have other names.
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
            let problem = format!("{name:?} is no name of a snapshot: use letters, digits and -");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        Ok(self.folder.join(name))
    }
}

/// Whether a name stays in the folder, on any system.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !name.is_empty() && name.bytes().all(allowed)
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").field("folder", &self.folder).finish_non_exhaustive()
    }
}
