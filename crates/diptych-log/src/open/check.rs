//! Whether an open would refuse a log, found without changing anything.

use super::{Opening, evidence::Evidence, here::Here, newest_seed};
use crate::{
    catalog::maps::{FilesOwner, Maps},
    disk::Disk,
    error::OpenError,
    folder::{
        Folders, head_file,
        mark::{self, FolderKind},
    },
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
    let seed = newest_seed(disk, &folders.index)?;
    let maps = Maps::new(options.tuning.mapped_files, FilesOwner::Elsewhere);
    if let FolderKind::Backup(end) = mark::kind(disk, root)? {
        let evidence = Evidence::default();
        let opening =
            Opening { disk, folders, evidence, backup: Some(end), seed, maps, is_live: false };
        let mut listed = opening.list_segments()?;
        return opening.end_of_backup(&mut listed, &end, options).map(drop);
    }
    let evidence = Evidence::left_in(disk, root)?;
    let here = Here::now(disk, folders, &evidence, options.durability)?;
    evidence.may_hide_loss(disk, root, (&here.run, here.place))?;
    let opening = Opening { disk, folders, evidence, backup: None, seed, maps, is_live: false };
    opening.look_for_end(&mut opening.list_segments()?, options)?;
    head_file::open_for_reading(disk, folders).map(drop)
}
