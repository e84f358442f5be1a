//! Folders that are reached through themselves, not by their path.
//!
//! A path is looked up anew with each operation, and can lead to another folder each time. A pinned
//! folder stays open instead, and so does every folder in it once it was used. Names are looked up
//! in these, so that a folder which is moved away takes all its files along, and one that comes in
//! its place is never written to.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::{self, ErrorKind},
    os::fd::{AsFd, BorrowedFd},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::{
    fs::{self, AtFlags, CWD, Mode, OFlags, Stat},
    io::Errno,
};

/// A folder that is open.
#[derive(Debug)]
pub(super) struct Folder(File);

impl Folder {
    pub(super) fn open(above: BorrowedFd<'_>, name: &Path) -> io::Result<Arc<Folder>> {
        Ok(Arc::new(Folder(open_folder(above, name)?)))
    }

    /// A second handle, which has locks of its own.
    pub(super) fn open_again(&self) -> io::Result<File> {
        open_folder(self.0.as_fd(), Path::new("."))
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    /// The names in it; those that are not UTF-8 are left out, since no file of a log has one.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.0)? {
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
        self.0.as_fd()
    }
}

fn open_folder(above: BorrowedFd<'_>, name: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = || fs::openat(above, name, flags, Mode::empty());
    Ok(File::from(rustix::io::retry_on_intr(open)?))
}

/// A name and where it is looked up: in a folder that is open, or from the current one.
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
        Ok(fs::statat(self.folder(), self.name, AtFlags::empty())?)
    }
}

/// A folder that stays the one it was when it was pinned, with the folders in it.
#[derive(Debug)]
pub(super) struct Pin {
    /// The path that callers name it by.
    pub(super) root: PathBuf,
    /// The path that it was found at, which does not depend on the current folder.
    absolute: PathBuf,
    folder: Arc<Folder>,
    /// Folders in it that were used, by their path from it.
    within: Mutex<BTreeMap<PathBuf, Arc<Folder>>>,
}

impl Pin {
    pub(super) fn new(root: &Path, folder: Arc<Folder>) -> io::Result<Pin> {
        let absolute = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        let absolute = std::path::absolute(absolute)?;
        Ok(Pin { root: root.to_owned(), absolute, folder, within: Mutex::default() })
    }

    /// The path from the pinned folder to what `path` names, if it names something in it.
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

    /// A folder in this one, or itself. The one that is opened first stays open.
    pub(super) fn folder(&self, inside: &Path) -> io::Result<Arc<Folder>> {
        if inside.as_os_str().is_empty() {
            return Ok(self.folder.clone());
        }
        if let Some(folder) = self.within.lock().get(inside) {
            return Ok(folder.clone());
        }
        let place = self.place(inside)?;
        let opened = Folder::open(place.folder(), place.name)?;
        Ok(self.within.lock().entry(inside.to_owned()).or_insert(opened).clone())
    }

    /// Creates a folder in this one, and those between.
    pub(super) fn create_dir(&self, inside: &Path) -> io::Result<()> {
        let mut between: Vec<_> = inside.ancestors().collect();
        // From above; the last one is this folder.
        between.pop();
        for inside in between.into_iter().rev() {
            let place = self.place(inside)?;
            match fs::mkdirat(place.folder(), place.name, Mode::from_raw_mode(0o777)) {
                // The one that was open under this name is gone.
                Ok(()) => self.within.lock().retain(|open, _| !open.starts_with(inside)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            self.folder(inside)?;
        }
        Ok(())
    }

    /// Whether the path of this folder, and of one in it, still leads there.
    ///
    /// Where that cannot be told, nothing speaks against it: what is written goes to the folder
    /// that is open, wherever it is.
    pub(super) fn check_place(&self, inside: &Path) -> io::Result<()> {
        check_same(&self.absolute, &self.folder, Place::by_path(&self.absolute).stat())?;
        let mut within: Vec<_> = inside.ancestors().collect();
        within.pop();
        for inside in within.into_iter().rev() {
            let found = self.place(inside)?.stat();
            check_same(&self.absolute.join(inside), &*self.folder(inside)?, found)?;
        }
        Ok(())
    }
}

fn check_same(path: &Path, folder: &Folder, found: io::Result<Stat>) -> io::Result<()> {
    let same = match found {
        Ok(found) => fs::fstat(folder)
            .map_or(true, |open| (open.st_dev, open.st_ino) == (found.st_dev, found.st_ino)),
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    };
    if same {
        return Ok(());
    }
    let what = format!(
        "{} is not the folder that was opened: that was moved, removed or replaced",
        path.display()
    );
    Err(io::Error::other(what))
}
