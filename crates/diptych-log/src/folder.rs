//! The folder of a log: holding it, listing it, and the small files beside the segments.

use std::path::{Path, PathBuf};

pub(crate) mod archive;
pub(crate) mod archived_disk;
pub(crate) mod derived;
pub(crate) mod durable_file;
pub(crate) mod found_end;
pub(crate) mod head_file;
pub(crate) mod hold;
pub(crate) mod listing;
pub(crate) mod manifest;
pub(crate) mod mark;
pub(crate) mod unclean;
pub(crate) mod unfinished;

/// The folders of a log.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    pub(crate) root: PathBuf,
    pub(crate) segments: PathBuf,
    pub(crate) index: PathBuf,
}

impl Folders {
    pub(crate) fn new(root: &Path) -> Folders {
        Folders {
            root: root.to_owned(),
            segments: root.join("segments"),
            index: root.join("index"),
        }
    }
}
