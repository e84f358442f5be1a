//! Moving one segment into the archive.

use std::{io::ErrorKind, path::Path};

use crate::{
    archive::{is_same, target::refused, verified},
    disk::Disk,
    engine::Engine,
    error::{ArchiveError, io_error},
    folder::{
        archive, durable_file,
        listing::{self, SegmentFile},
    },
    format::{archive::SegmentStub, manifest::ArchivePlace},
};

/// Moves segments of an open log into its archive, one after another.
pub(super) struct SegmentMove<'a> {
    pub(super) engine: &'a Engine,
    /// Reaches the folder of the archive, which the caller holds.
    pub(super) archive: &'a dyn Disk,
    /// The place of the archive, as the manifest has it.
    pub(super) place: ArchivePlace,
}

impl SegmentMove<'_> {
    /// Moves a segment; `next` is the one after it. No thread may cluster it meanwhile.
    pub(super) fn archive(
        &mut self,
        segment: &SegmentFile,
        next: &SegmentFile,
    ) -> Result<(), ArchiveError> {
        let shared = self.engine.shared();
        let (disk, dir) = (shared.disk(), &shared.folders().segments);
        let content = listing::read_stored(disk, segment, u64::MAX)?;
        // A segment without a link in the next one is of an older version.
        let _is_linked = verified(disk, shared.identity(), (segment, &content), next)?;
        self.copy(segment, &content)?;
        self.leave_stub(segment, &content)?;
        let place =
            ArchivePlace { upto: self.place.upto.max(segment.sequence), ..self.place.clone() };
        self.engine.note_archive(&place)?;
        self.place = place;
        // The manifest says that the segment is archived. Only now may the original go.
        let removed = disk.remove(&segment.path).and_then(|()| disk.sync_dir(dir));
        removed.map_err(io_error("remove", &segment.path))?;
        tracing::debug!(file = %segment.path.display(), "a segment is archived");
        Ok(())
    }

    /// Leaves the stub of a segment in the log's folder, durably.
    pub(super) fn leave_stub(
        &self,
        segment: &SegmentFile,
        content: &[u8],
    ) -> Result<(), ArchiveError> {
        let shared = self.engine.shared();
        let path = archive::stub_of(&segment.path);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stub = SegmentStub::of(content).map(|stub| stub.encode()).unwrap_or_default();
        let dir = &shared.folders().segments;
        let written = durable_file::replace(shared.disk(), dir, name, &stub);
        Ok(written.map_err(io_error("write", &path))?)
    }

    /// Puts a segment into the archive, durably and verified.
    fn copy(&self, segment: &SegmentFile, content: &[u8]) -> Result<(), ArchiveError> {
        let dir = Path::new(&self.place.path).join("segments");
        let path = dir.join(segment.path.file_name().unwrap_or_default());
        let there = SegmentFile { path: path.clone(), ..segment.clone() };
        let found = match self.archive.open_read(&path, 0) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(io_error("open", &path)(error).into()),
            Ok(_) => Some(listing::read_stored(self.archive, &there, u64::MAX)?),
        };
        match found {
            Some(found) if found == content => {
                let synced = self.archive.open(&path, 0).and_then(|file| file.sync());
                synced.map_err(io_error("sync", &path))?;
            }
            // An interrupted run may have left a copy from before the segment was clustered. Only a
            // file that is no such copy is refused.
            Some(found) if !is_same(&found, content) => {
                let what = "is not the segment of this log: another copy of the log archives \
                            there, too, or the file is damaged; if no other copy needs it, remove \
                            it and repeat this";
                return Err(refused(&path, what));
            }
            _ => {
                durable_file::put(self.archive, &path, content).map_err(io_error("write", &path))?
            }
        }
        self.archive.sync_dir(&dir).map_err(io_error("sync", &dir))?;
        self.archive.check_place(&dir).map_err(|error| {
            refused(Path::new(&self.place.path), format!("was replaced meanwhile: {error}"))
        })
    }
}
