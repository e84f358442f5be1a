//! The folder of an archive, in which the first segments of a log lie, and the stubs that stay in
//! the log's folder in their place.
//!
//! An archive names itself: a mark in its folder has the id of the log and an id of its own. So
//! another folder, the archive of another log, and the empty place where a file system should be
//! mounted are all told from the archive, and none of them from damage.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::Disk,
    error::unreachable_archive,
    format::{
        archive::{ArchiveId, ArchiveMark, SegmentStub},
        manifest::ArchivePlace,
    },
};

/// The mark in the folder of an archive.
pub(crate) const MARK: &str = "archive";
/// How the names of stubs end. Otherwise they are those of their segments.
pub(crate) const STUB: &str = "arc";

/// An archive that was found where the log says, reached through its open folder.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) id: ArchiveId,
    /// The folder with the segments.
    pub(crate) segments: PathBuf,
}

impl Archive {
    /// Opens the archive of a log.
    ///
    /// # Errors
    /// If it is not there, or if another one is.
    pub(crate) fn open(disk: &dyn Disk, place: &ArchivePlace) -> io::Result<Archive> {
        let root = Path::new(&place.path);
        let unreachable = |problem: &str, cause| {
            unreachable_archive(&place.path, problem.to_owned(), Some(cause))
        };
        let disk = disk.pin(root).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => unreachable("is not there", error),
            _ => unreachable(&format!("cannot be opened: {error}"), error),
        })?;
        let mark = mark_in(&*disk, root)
            .map_err(|error| unreachable(&format!("cannot be read: {error}"), error))?;
        match mark {
            FoundMark::Whole(mark) if mark.id == place.id => {}
            found => {
                let problem = match found {
                    FoundMark::None => {
                        "has no mark of an archive: is its file system mounted?".to_owned()
                    }
                    FoundMark::Damaged => format!("has a damaged mark, the file `{MARK}`"),
                    FoundMark::Whole(mark) => format!(
                        "is another archive: it is {} of log {}, and that of this log is {}",
                        name(&mark.id),
                        mark.log,
                        name(&place.id)
                    ),
                };
                return Err(unreachable_archive(&place.path, problem, None));
            }
        }
        Ok(Archive { disk, id: place.id, segments: root.join("segments") })
    }
}

/// The mark that a folder has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FoundMark {
    None,
    Damaged,
    Whole(ArchiveMark),
}

/// Reads the mark of a folder.
pub(crate) fn mark_in(disk: &dyn Disk, root: &Path) -> io::Result<FoundMark> {
    let file = match disk.open_read(&root.join(MARK), 0) {
        Err(error) if [ErrorKind::NotFound, ErrorKind::IsADirectory].contains(&error.kind()) => {
            return Ok(FoundMark::None);
        }
        file => file?,
    };
    let mark = ArchiveMark::parse(&file.read_at(0, ArchiveMark::BYTES + 1)?);
    Ok(mark.map_or(FoundMark::Damaged, FoundMark::Whole))
}

/// An archive as people read it.
pub(crate) fn name(id: &ArchiveId) -> String {
    uuid::Uuid::from_bytes(*id).to_string()
}

/// The name of the stub of a segment.
pub(crate) fn stub_of(segment: &Path) -> PathBuf {
    segment.with_extension(STUB)
}

/// The stub of a segment, if the segment is archived and the stub is whole. The archive has
/// everything that is in a stub, so one that is missing or damaged costs only time.
///
/// # Errors
/// If the file exists and cannot be read now.
pub(crate) fn read_stub(disk: &dyn Disk, segment: &Path) -> io::Result<Option<SegmentStub>> {
    let file = match disk.open_read(&stub_of(segment), 0) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let size = usize::try_from(file.size()?).unwrap_or(usize::MAX);
    Ok(SegmentStub::parse(&file.read_at(0, size)?))
}
