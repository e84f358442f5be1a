//! Folders that are used through an open handle instead of their path.
//!
//! A system looks up a path again in each operation, so the path can lead to another folder each
//! time. A pinned folder stays open instead, and so does every folder in it that was used once.
//! Names are looked up in these open folders. If a folder is moved away, its files go with it, and
//! a folder that takes its place is never written to.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat, fstat, mkdirat, openat, stat, statat},
    io::Errno,
};

use super::place::{self, FolderPlace};

/// A folder that is open.
#[derive(Debug)]
pub(super) struct Folder {
    file: File,
    /// The path that led to it when it was opened.
    path: PathBuf,
    /// The folder in which its name is looked up; `None` if its whole path is.
    above: Option<Arc<Folder>>,
    /// Device and inode. No two existing folders have the same.
    id: (u64, u64),
}

impl Folder {
    pub(super) fn by_path(path: &Path) -> io::Result<Folder> {
        Folder::new(open_folder(CWD, path)?, path.to_owned(), None)
    }

    fn new(file: File, path: PathBuf, above: Option<Arc<Folder>>) -> io::Result<Folder> {
        let id = id(&fstat(&file)?);
        Ok(Folder { file, path, above, id })
    }

    /// A second handle of the folder. Its locks are independent of those of the first.
    pub(super) fn open_again(&self) -> io::Result<File> {
        open_folder(self.as_fd(), Path::new("."))
    }

    /// Checks that the path of the folder still leads to this folder. Every batch of commits asks
    /// this, so it looks up as few names as it can.
    ///
    /// If the path cannot be looked up, the check succeeds: writes go to the open folder, wherever
    /// it is.
    fn check_place(&self) -> io::Result<()> {
        let found = match &self.above {
            None => stat(&self.path),
            Some(above) => {
                above.check_place()?;
                let name = self.path.file_name().unwrap_or(OsStr::new("."));
                statat(&**above, name, AtFlags::empty())
            }
        };
        let moved = match found {
            Ok(found) => id(&found) != self.id,
            Err(error) => matches!(error, Errno::NOENT | Errno::NOTDIR),
        };
        if moved {
            let what =
                "is not the folder that was opened: that folder was moved, removed or replaced";
            return Err(io::Error::other(format!("{} {what}", self.path.display())));
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    pub(super) fn mount(&self) -> io::Result<u64> {
        place::mount(&self.file)
    }

    pub(super) fn place(&self) -> io::Result<Option<FolderPlace>> {
        place::of(&self.file)
    }

    /// The names in the folder that are UTF-8. No file of a log has another name.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.file)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

// The device has another type on other systems.
#[allow(clippy::unnecessary_cast)]
fn id(of: &Stat) -> (u64, u64) {
    (of.st_dev as u64, of.st_ino)
}

fn open_folder(above: BorrowedFd<'_>, name: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = || openat(above, name, flags, Mode::empty());
    Ok(File::from(rustix::io::retry_on_intr(open)?))
}

/// A name, and the folder in which it is looked up: an open folder, or the current one.
#[derive(Debug)]
pub(super) struct Place<'a> {
    folder: Option<Arc<Folder>>,
    pub(super) name: &'a Path,
}

impl<'a> Place<'a> {
    pub(super) fn by_path(path: &'a Path) -> Place<'a> {
        Place { folder: None, name: path }
    }

    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_ref().map_or(CWD, |folder| folder.as_fd())
    }

    pub(super) fn stat(&self) -> io::Result<Stat> {
        Ok(statat(self.folder(), self.name, AtFlags::empty())?)
    }
}

/// A pinned folder. Operations use the folder that was pinned and the folders in it, even if their
/// paths change.
#[derive(Debug)]
pub(super) struct Pin {
    /// The path by which callers name this folder.
    pub(super) root: PathBuf,
    folder: Arc<Folder>,
    /// The folders in it that were used, by the path from this folder.
    within: Mutex<BTreeMap<PathBuf, Arc<Folder>>>,
}

impl Pin {
    pub(super) fn new(root: &Path, folder: &Folder) -> io::Result<Pin> {
        // An absolute path does not depend on the current folder.
        let path = std::path::absolute(&folder.path)?;
        let folder = Arc::new(Folder::new(folder.open_again()?, path, None)?);
        Ok(Pin { root: root.to_owned(), folder, within: Mutex::default() })
    }

    /// The number of folders that stay open: this one, and those in it that were used.
    pub(super) fn open_folders(&self) -> usize {
        1 + self.within.lock().len()
    }

    /// The part of `path` behind the pinned folder; `None` if `path` does not lead into that
    /// folder.
    pub(super) fn inside<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let inside = path.strip_prefix(&self.root).ok()?;
        let mut components = inside.components();
        components.all(|component| matches!(component, Component::Normal(_))).then_some(inside)
    }

    pub(super) fn place<'a>(&self, inside: &'a Path) -> io::Result<Place<'a>> {
        let name = inside.file_name().unwrap_or(OsStr::new("."));
        let above = inside.parent().unwrap_or(Path::new(""));
        Ok(Place { folder: Some(self.folder(above)?), name: Path::new(name) })
    }

    /// A folder in this one, or this one itself. The handle that was opened first is used again.
    pub(super) fn folder(&self, inside: &Path) -> io::Result<Arc<Folder>> {
        if inside.as_os_str().is_empty() {
            return Ok(self.folder.clone());
        }
        if let Some(folder) = self.within.lock().get(inside) {
            return Ok(folder.clone());
        }
        let place = self.place(inside)?;
        let file = open_folder(place.folder(), place.name)?;
        let path = self.folder.path.join(inside);
        let opened = Arc::new(Folder::new(file, path, place.folder)?);
        Ok(self.within.lock().entry(inside.to_owned()).or_insert(opened).clone())
    }

    /// Creates a folder in this one, and the missing folders above it.
    pub(super) fn create_dir(&self, inside: &Path) -> io::Result<()> {
        let mut between: Vec<_> = inside.ancestors().collect();
        // Folders are created from the top down. The last ancestor is this folder, which exists.
        between.pop();
        for inside in between.into_iter().rev() {
            let place = self.place(inside)?;
            match mkdirat(place.folder(), place.name, Mode::from_raw_mode(0o777)) {
                // The folder that was open under this name no longer exists.
                Ok(()) => self.within.lock().retain(|open, _| !open.starts_with(inside)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            self.folder(inside)?;
        }
        Ok(())
    }

    /// Checks that the path of this folder, and of each folder up to `inside`, still leads to it.
    pub(super) fn check_place(&self, inside: &Path) -> io::Result<()> {
        self.folder(inside)?.check_place()
    }
}
