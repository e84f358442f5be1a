//! Whether an open would refuse a log, found without changing anything.

use super::{Opening, head_file_in};
use crate::{
    catalog::Folders,
    disk::Disk,
    error::OpenError,
    folder::{
        mark::{self, FolderKind},
        unclean,
    },
    index::Seed,
    open::evidence::Evidence,
    options::LogOptions,
};

/// Runs every check that can make an open refuse the log in a folder, which the caller holds.
///
/// # Errors
/// The errors of an open.
pub(crate) fn check(
    disk: &dyn Disk,
    folders: &Folders,
    options: &LogOptions,
) -> Result<(), OpenError> {
    let root = &folders.root;
    let seed = Seed::of_newest(disk, &folders.index)?;
    if let FolderKind::Backup(end) = mark::kind(disk, root)? {
        let evidence = Evidence::default();
        let opening = Opening { disk, folders, evidence, backup: Some(end), seed };
        let mut listed = opening.list_segments()?;
        return opening.end_of_backup(&mut listed, &end, options).map(drop);
    }
    let evidence = Evidence::left_in(disk, root)?;
    unclean::was_cut_off(disk, root)?;
    let opening = Opening { disk, folders, evidence, backup: None, seed };
    opening.look_for_end(&mut opening.list_segments()?, options)?;
    head_file_in(disk, folders).map(drop)
}
