//! The folder that is to be the archive of a log: which folders are refused, and making one.

use std::{
    io,
    path::{Path, PathBuf},
};

use diptych_store::LogId;

use crate::{
    disk::{Disk, LOCK_FILE},
    error::{ArchiveError, OpenError, io_error},
    folder::{
        Folders,
        archive::{self, Archive, FoundMark, MARK},
        durable_file,
        hold::{self, HeldFolder},
    },
    format::{
        archive::ArchiveMark,
        manifest::{ARCHIVE_PATH, ArchivePlace},
    },
};

/// A folder that is to be the archive of a log.
pub(super) struct Target {
    path: String,
    log: LogId,
    /// The archive that the log has, wherever it says that it lies.
    known: Option<ArchivePlace>,
}

impl Target {
    pub(super) fn of(
        disk: &dyn Disk,
        folders: &Folders,
        to: &Path,
        (log, known): (LogId, Option<ArchivePlace>),
    ) -> Result<Target, ArchiveError> {
        // An absolute path does not depend on the current folder.
        let absolute = std::path::absolute(to).map_err(io_error("find", to))?;
        must_be_apart(disk, &folders.root, &absolute)?;
        let path = absolute.to_str().filter(|path| path.len() <= ARCHIVE_PATH);
        let Some(path) = path else {
            let what = format!("has a path that is no UTF-8, or longer than {ARCHIVE_PATH} bytes");
            return Err(refused(to, what));
        };
        Ok(Target { path: path.to_owned(), log, known })
    }

    /// The place of the log's archive in this folder, which changes nothing. If the log has none
    /// yet, the folder must be free for one.
    ///
    /// # Errors
    /// If the folder is not, and cannot become, the archive of this log.
    pub(super) fn check(&self, disk: &dyn Disk) -> Result<ArchivePlace, ArchiveError> {
        match self.known(disk)? {
            Some(place) if place.only_reads => Err(self.refused(
                "is the archive of the log that this one is a copy of, and takes segments of that \
                 one only: bring the segments back first (`diptych archive --back`), and take \
                 another folder then",
            )),
            Some(place) => Ok(place),
            None => self.free_place(disk),
        }
    }

    /// The archive that the log has, in this folder; `None` if it has none.
    ///
    /// # Errors
    /// If it has one, and that is not here.
    pub(super) fn known(&self, disk: &dyn Disk) -> Result<Option<ArchivePlace>, ArchiveError> {
        let Some(known) = &self.known else { return Ok(None) };
        let place = ArchivePlace { path: self.path.clone(), ..known.clone() };
        match Archive::open(disk, &place) {
            Ok(_) => Ok(Some(place)),
            Err(cause) => {
                let what = match known.path == self.path {
                    true => "cannot archive".to_owned(),
                    false => format!(
                        "cannot take {} for the archive of this log, which is in {}",
                        self.path, known.path
                    ),
                };
                Err(OpenError::Io { what, cause }.into())
            }
        }
    }

    /// The place of a new archive.
    fn free_place(&self, disk: &dyn Disk) -> Result<ArchivePlace, ArchiveError> {
        let root = self.root();
        let id = match archive::mark_in(disk, &root).map_err(io_error("read", &root))? {
            FoundMark::None => {
                self.must_be_empty(disk, &root, &[])?;
                uuid::Uuid::new_v4().into_bytes()
            }
            FoundMark::Damaged => {
                return Err(self.refused("has a damaged mark of an archive: take another folder"));
            }
            FoundMark::Whole(mark) if mark.log != self.log => {
                let what = format!("is the archive of log {}: take another folder", mark.log);
                return Err(self.refused(what));
            }
            // An interrupted run may have left its mark.
            FoundMark::Whole(mark) => {
                self.must_be_empty(disk, &root, &[MARK])?;
                mark.id
            }
        };
        Ok(ArchivePlace { path: self.path.clone(), id, upto: 0, only_reads: false })
    }

    fn must_be_empty(
        &self,
        disk: &dyn Disk,
        root: &Path,
        but: &[&str],
    ) -> Result<(), ArchiveError> {
        let list = |dir: &Path| disk.list(dir).map_err(io_error("list", dir));
        let mark = format!("{MARK}.tmp");
        let ours = [LOCK_FILE, "segments", &mark];
        let mut strange = list(root)?;
        strange.retain(|name| !ours.contains(&name.as_str()) && !but.contains(&name.as_str()));
        strange.extend(list(&root.join("segments"))?);
        let Some(found) = strange.into_iter().min() else { return Ok(()) };
        let what = match but.is_empty() {
            true => format!("is not empty, and no archive (there is {found}): take another folder"),
            false => format!(
                "is the archive of another copy or of a later state of this log (there is \
                 {found}): take another folder"
            ),
        };
        Err(self.refused(what))
    }

    /// Creates and locks the folder.
    pub(super) fn hold(&self, disk: &dyn Disk) -> Result<HeldFolder, ArchiveError> {
        hold::create_and_lock(disk, &self.root()).map_err(|error| match error {
            OpenError::Held { owner, .. } => {
                self.refused(format!("is in use by {owner}: try again when its archiving is done"))
            }
            error => error.into(),
        })
    }

    /// Makes the folder the archive, as far as it is not yet: its mark, and the folder for the
    /// segments. Removes what an interrupted run has left there. The caller holds the folder.
    pub(super) fn make(
        &self,
        archive: &dyn Disk,
        place: &ArchivePlace,
    ) -> Result<(), ArchiveError> {
        let (root, dir) = (self.root(), self.segments());
        if self.known.is_none() {
            let mark = ArchiveMark { log: self.log, id: place.id };
            let made = durable_file::replace(archive, &root, MARK, &mark.encode());
            made.map_err(io_error("write", &root.join(MARK)))?;
        }
        hold::create(archive, &dir)?;
        for name in archive.list(&dir).map_err(io_error("list", &dir))? {
            if name.ends_with(".tmp") {
                let path = dir.join(name);
                archive.remove(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    fn root(&self) -> PathBuf {
        PathBuf::from(&self.path)
    }

    fn segments(&self) -> PathBuf {
        self.root().join("segments")
    }

    fn refused(&self, problem: impl Into<String>) -> ArchiveError {
        refused(Path::new(&self.path), problem)
    }
}

pub(super) fn refused(folder: &Path, problem: impl Into<String>) -> ArchiveError {
    ArchiveError::Target { folder: folder.display().to_string(), problem: problem.into() }
}

/// Refuses an archive within the folder of the log, and a log within its archive.
fn must_be_apart(disk: &dyn Disk, log: &Path, archive: &Path) -> Result<(), ArchiveError> {
    let canonical = |path: &Path| -> Result<PathBuf, OpenError> {
        let found: io::Result<PathBuf> = disk.canonical(path);
        found.map_err(io_error("find", path))
    };
    let (of_log, of_archive) = (canonical(log)?, canonical(archive)?);
    if of_archive.starts_with(&of_log) || of_log.starts_with(&of_archive) {
        let what = "and the folder of the log lie within each other: take another folder";
        return Err(refused(archive, what));
    }
    Ok(())
}
