//! The file `manifest` in the folder of a log: reading it and replacing it.
//!
//! It is what a log knows about itself beside its records: its identity, the place and the run of
//! the machine in which it was written, and a promise up to where it was durable at least. It is
//! replaced when a log is opened for appends, before the first commit of a new segment is
//! acknowledged, and when the log is closed.

use std::{io::ErrorKind, path::Path};

use diptych_store::Corruption;

use crate::{
    disk::Disk,
    error::{OpenError, io_error},
    folder::durable_file,
    format::manifest::{BOOT, BadManifest, MOST_BYTES, Manifest, Run},
    options::Durability,
};

/// The manifest of a log.
pub(crate) const MANIFEST: &str = "manifest";

const ADVICE: &str = "put back the file `manifest` that belongs to these segments, or restore the \
                      log from a backup; `diptych adopt --copy` makes a new manifest and goes on \
                      with the segments as they are, in a new epoch";

/// The manifest in a folder, if there is one.
///
/// # Errors
/// Also if it is damaged: it is never half written.
pub(crate) fn read(disk: &dyn Disk, root: &Path) -> Result<Option<Manifest>, OpenError> {
    let path = root.join(MANIFEST);
    let file = match disk.open_read(&path, 0) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(io_error("open", &path))?,
    };
    let bytes = file.read_at(0, MOST_BYTES).map_err(io_error("read", &path))?;
    match Manifest::parse(&bytes) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(BadManifest::Newer(format)) => {
            Err(OpenError::Newer { file: path.display().to_string(), format })
        }
        Err(BadManifest::Damaged) => {
            let place = format!("{} at byte 0", path.display());
            let what = "the manifest is damaged".to_owned();
            Err(Corruption { place, what, advice: ADVICE.to_owned() }.into())
        }
    }
}

/// Replaces the manifest; it is durable when this returns.
pub(crate) fn replace(disk: &dyn Disk, root: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    let replaced = durable_file::replace(disk, root, MANIFEST, &manifest.encode());
    replaced.map_err(io_error("write", &root.join(MANIFEST)))
}

/// The error about a log that must have a manifest and has none.
pub(crate) fn missing(root: &Path) -> OpenError {
    let place = root.join(MANIFEST).display().to_string();
    let what = "the manifest of the log is missing".to_owned();
    Corruption { place, what, advice: ADVICE.to_owned() }.into()
}

/// The run of an open that begins now. `before` is the nonce of the open before.
pub(crate) fn begin_run(
    disk: &dyn Disk,
    root: &Path,
    before: [u8; 16],
    durability: Durability,
) -> Result<Run, OpenError> {
    let failed = |what| io_error(what, root);
    let boot = disk.boot().map_err(failed("ask for the run of the machine, for"))?;
    let boot = boot.unwrap_or_default();
    Ok(Run {
        nonce: uuid::Uuid::new_v4().into_bytes(),
        before,
        mount: disk.mount(root).map_err(failed("ask for the mount of"))?,
        boot: boot.chars().filter(char::is_ascii).take(BOOT).collect(),
        at_interval: durability != Durability::Synced,
    })
}
