//! Files that are read again when they change.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use crate::door::stop::Stop;

/// Time between two looks at the files.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// The state of some files. Another state means that they have to be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileStamps(Vec<Option<FileStamp>>);

/// Time of change, size, and where the file lies: a file that is renamed into place may have the
/// time of the old one.
type FileStamp = (Option<SystemTime>, u64, u64);

impl FileStamps {
    /// The state of these files now. Take it before the files are read.
    pub(crate) fn of<P: AsRef<Path>>(paths: &[P]) -> FileStamps {
        FileStamps(paths.iter().map(|path| stamp(path.as_ref())).collect())
    }
}

fn stamp(path: &Path) -> Option<FileStamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok(), metadata.len(), inode(&metadata)))
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

/// Looks at the files on a thread, and calls `reload` after each change. The thread ends when the
/// server stops, or `reload` returns `false`.
pub(crate) fn watch(
    paths: Vec<PathBuf>,
    mut seen: FileStamps,
    stop: Stop,
    mut reload: impl FnMut() -> bool + Send + 'static,
) -> io::Result<()> {
    let look = move || {
        while !stop.has_begun() {
            thread::sleep(LOOK_PAUSE);
            let now = FileStamps::of(&paths);
            if now != seen {
                seen = now;
                if !reload() {
                    return;
                }
            }
        }
    };
    thread::Builder::new().name("diptych-files".to_owned()).spawn(look)?;
    Ok(())
}
