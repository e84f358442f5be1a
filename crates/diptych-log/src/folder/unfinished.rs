//! Files that an interrupted program left under a temporary name.

use std::path::Path;

use super::{
    Folders, derived,
    head_file::HEAD_FILE,
    manifest::MANIFEST,
    mark::{BACKUP, RESTORE},
    unclean::INTERVAL_MARK,
};
use crate::disk::Disk;

/// Removes the temporary files in the folders of a log that this process may write to. The caller
/// holds the log, so no other process is about to finish one of them.
pub(crate) fn remove(disk: &dyn Disk, folders: &Folders) {
    let is_ours = |name: &str| name.ends_with(".tmp");
    // A user may keep other files beside the marks.
    let is_mark = |name: &str| {
        let mark = name.strip_suffix(".tmp");
        let ours = [BACKUP, RESTORE, INTERVAL_MARK, HEAD_FILE, MANIFEST];
        mark.is_some_and(|mark| ours.contains(&mark))
    };
    remove_from(disk, &folders.root, is_mark);
    remove_from(disk, &folders.segments, is_ours);
    remove_from(disk, &folders.index, is_ours);
}

fn remove_from(disk: &dyn Disk, dir: &Path, unfinished: impl Fn(&str) -> bool) {
    let names = disk.list(dir).unwrap_or_else(|error| {
        tracing::warn!(folder = %dir.display(), %error, "unfinished files are not removed");
        Vec::new()
    });
    for name in names.iter().filter(|name| unfinished(name)) {
        derived::remove_needless(disk, &dir.join(name));
    }
}
