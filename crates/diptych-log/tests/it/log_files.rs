//! The files of a log as values. Tests damage them, exchange them, and put them onto a simulated
//! disk.

use std::path::{Path, PathBuf};

use diptych_log::disk::{Disk, simulated::SimulatedDisk};

/// The folder of a log on a simulated disk.
pub(crate) const FOLDER: &str = "/data/log";

pub(crate) type Files = Vec<(PathBuf, Vec<u8>)>;

/// A disk with these files, all of them durable.
pub(crate) fn disk_of(files: &[(PathBuf, Vec<u8>)]) -> SimulatedDisk {
    let disk = SimulatedDisk::new(2);
    for folder in ["segments", "index"] {
        disk.create_dir(&Path::new(FOLDER).join(folder)).unwrap();
    }
    for (path, bytes) in files {
        disk.create(path, 0).unwrap().write_at(0, bytes).unwrap();
    }
    disk
}

pub(crate) fn is(path: &Path, ending: &str) -> bool {
    path.to_string_lossy().ends_with(ending)
}

/// These files, with `bytes` as the content of the file `at`.
pub(crate) fn with(files: &Files, at: usize, bytes: &[u8]) -> Files {
    let mut files = files.clone();
    files[at].1 = bytes.to_vec();
    files
}

/// The files of `ours` with this ending that `theirs` has under the same name, but with other
/// bytes.
pub(crate) fn that_differ(ours: &Files, theirs: &Files, ending: &str) -> Vec<(usize, Vec<u8>)> {
    let ours = ours.iter().enumerate().filter(|(_, (path, _))| is(path, ending));
    let differ = ours.filter_map(|(at, (path, bytes))| {
        let (_, theirs) = theirs.iter().find(|(name, _)| name == path)?;
        (theirs != bytes).then(|| (at, theirs.clone()))
    });
    differ.collect()
}
