use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{Log, disk::Disk};

/// Named bytes beside the log, for whoever keeps states that can be made again from it.
///
/// They are never synced and carry no checksum of their own: after a crash a snapshot may be
/// torn, old or gone, and whoever wrote it has to notice. All of them can be deleted at any time.
#[derive(Clone)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

const UNFINISHED: &str = ".tmp";

/// Two who save under one name do not write into one file, wherever they have the place from.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Log {
    /// The place for snapshots beside this log.
    ///
    /// # Errors
    /// If its folder cannot be created or read.
    pub fn snapshots(&self) -> io::Result<Snapshots> {
        let (disk, root) = self.place();
        let folder = root.join("snapshots");
        disk.create_dir(&folder)?;
        // A process that was killed may have left some.
        for name in disk.list(&folder)? {
            if name.ends_with(UNFINISHED) {
                disk.remove(&folder.join(name))?;
            }
        }
        Ok(Snapshots { disk, folder })
    }
}

impl Snapshots {
    /// The bytes under this name, if there are any.
    ///
    /// # Errors
    /// What the operating system says, or that the name is none: letters, digits, and `-`.
    pub fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(name)?;
        let file = match self.disk.open(&path, 0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let size = usize::try_from(file.size()?).unwrap_or(usize::MAX);
        file.read_at(0, size).map(Some)
    }

    /// Keeps these bytes under this name, in place of what was there.
    ///
    /// # Errors
    /// What the operating system says; what was there is then still there.
    pub fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.folder.join(format!("{name}.{number}{UNFINISHED}"));
        let file = self.disk.create(&unfinished, bytes.len() as u64)?;
        let written = file.write_at(0, bytes);
        drop(file);
        let saved = written.and_then(|()| self.disk.rename(&unfinished, &path));
        if saved.is_err() {
            // A full disk should not be kept full by what is of no use.
            let _ = self.disk.remove(&unfinished);
        }
        saved
    }

    /// The names that begin with this and under which something is kept, sorted; all for "".
    ///
    /// # Errors
    /// What the operating system says.
    pub fn names(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut names = self.disk.list(&self.folder)?;
        // Files of others, and those that are not finished, have other names.
        names.retain(|name| is_name(name) && name.starts_with(prefix));
        names.sort_unstable();
        Ok(names)
    }

    /// Keeps nothing under this name any more, if something was.
    ///
    /// # Errors
    /// What the operating system says, or that the name is none, as for [`load`](Self::load).
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

/// Whether it leads nowhere else, on any system.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !name.is_empty() && name.bytes().all(allowed)
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").field("folder", &self.folder).finish_non_exhaustive()
    }
}
