//! Moving one segment into the archive.

use std::{io::ErrorKind, path::Path};

use diptych_store::Position;

use crate::{
    archive::{damaged, of_log, target::refused, verified},
    catalog::segment::Segment,
    disk::Disk,
    engine::Engine,
    error::{ArchiveError, io_error, read_failed},
    folder::{
        archive, durable_file,
        listing::{self, SegmentFile},
    },
    format::{archive::SegmentStub, chain, manifest::ArchivePlace, segment::Head},
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
    /// Moves a segment; `next` is the first position of the segment after it. No thread may
    /// cluster it meanwhile.
    pub(super) fn archive(
        &mut self,
        segment: &SegmentFile,
        next: Position,
    ) -> Result<(), ArchiveError> {
        let shared = self.engine.shared();
        let (disk, dir) = (shared.disk(), &shared.folders().segments);
        let content = listing::read(disk, segment, u64::MAX)?;
        self.must_be_whole(segment, &content, next)?;
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

    /// Checks every checksum in a segment, and that the next one goes on from it.
    fn must_be_whole(
        &self,
        segment: &SegmentFile,
        content: &[u8],
        next: Position,
    ) -> Result<(), ArchiveError> {
        let shared = self.engine.shared();
        let (disk, log) = (shared.disk(), shared.identity());
        let header = verified(disk, log, (segment, content), next)?;
        let SegmentFile { sequence, base, path } = segment.clone();
        let opened = Segment::sealed(shared.maps(), path, sequence, (base, next), log);
        let link = opened.link(disk).map_err(|error| of_read(&segment.path, error))?;
        let Some(link) = link else { return Ok(()) };
        let events = next.get().saturating_sub(base.get());
        let ends = chain::ends_as(content, &Head::of(&header), &link, events);
        ends.map_err(|defect| damaged(segment, defect.what))
    }

    /// Puts a segment into the archive, durably and verified.
    fn copy(&self, segment: &SegmentFile, content: &[u8]) -> Result<(), ArchiveError> {
        let dir = Path::new(&self.place.path).join("segments");
        let path = dir.join(segment.path.file_name().unwrap_or_default());
        let there = SegmentFile { path: path.clone(), ..segment.clone() };
        let found = match self.archive.open_read(&path, 0) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(io_error("open", &path)(error).into()),
            Ok(_) => Some(listing::read(self.archive, &there, u64::MAX)?),
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

/// Whether these are one segment, clustered or not.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let facts = |stub: SegmentStub| (stub.bytes(), stub.chain());
    let (one, other) = (SegmentStub::of(one).map(facts), SegmentStub::of(other).map(facts));
    one.is_some() && one == other
}

fn of_read(path: &Path, error: std::io::Error) -> ArchiveError {
    of_log(read_failed(path, error))
}
