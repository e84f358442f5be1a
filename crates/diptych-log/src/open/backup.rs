//! Opening a backup for reading, up to the end in its mark and without changing a segment.

use diptych_store::Unavailable;

use super::{
    End, Last, ListedSegment, OpenLog, Opening, assemble, evidence::Evidence, newest_seed,
    of_segment, tail::Tail,
};
use crate::{
    catalog::{
        maps::{FilesOwner, Maps},
        segment::Segment,
    },
    disk::DiskLock,
    error::{OpenError, corruption, io_error, takes_nothing},
    folder::Folders,
    format::{
        head::PublishedHead,
        segment::{self, Header},
    },
    options::{Access, LogOptions},
};

pub(super) fn open(
    folders: Folders,
    options: LogOptions,
    lock: Box<dyn DiskLock>,
    end: PublishedHead,
) -> Result<OpenLog, OpenError> {
    let folder = folders.root.display().to_string();
    if options.access == Access::Append {
        return Err(OpenError::Backup { folder });
    }
    let disk = options.disk.clone();
    let seed = newest_seed(&*disk, &folders.index)?;
    let evidence = Evidence::default();
    let maps = Maps::new(options.tuning.mapped_files, FilesOwner::Here);
    let (folders_of, backup) = (&folders, Some(end));
    let opening =
        Opening { disk: &*disk, folders: folders_of, evidence, backup, seed, maps, is_live: false };
    let mut listed = opening.list_segments()?;
    let found = opening.end_of_backup(&mut listed, &end, &options)?;
    let mut parts = opening.sealed_parts(&listed, &found.last.header)?;
    parts.extend(found.tail.parts.iter().cloned());
    let maps = opening.maps;
    let mut log = assemble(options, folders, (end.identity, seed), (maps, parts), found)?;
    let reason = takes_nothing(&folder).into();
    // This ends only the taking of commits; reads are not affected.
    log.end.refuses = Some(Unavailable::Failed { reason });
    Ok(OpenLog { lock: Some(lock), ..log })
}

impl Opening<'_> {
    /// Finds the end that the mark promises. Any difference is damage: a backup has no torn tail.
    pub(super) fn end_of_backup(
        &self,
        listed: &mut Vec<ListedSegment>,
        end: &PublishedHead,
        options: &LogOptions,
    ) -> Result<End, OpenError> {
        let dir = &self.folders.segments;
        let last = listed.pop().filter(|last| last.sequence == end.segment);
        let Some(ListedSegment { sequence, base }) = last else {
            let what = format!("segment {}, with the published end, is missing", end.segment);
            return Err(corruption(dir, 0, what).into());
        };
        let path = dir.join(segment::file_name(sequence, base));
        let file = self.disk.open_read(&path, options.segment_bytes);
        let file = file.map_err(io_error("open", &path))?;
        let bytes = file.read_at(0, segment::HEADER).map_err(io_error("read", &path))?;
        let header = Header::parse(&bytes)
            .ok()
            .filter(|header| header.is_last(sequence, base) && header.identity == end.identity);
        let Some(header) = header else {
            return Err(corruption(&path, 0, "the header of the segment is damaged").into());
        };
        let segment = std::sync::Arc::new(Segment::planned(&self.maps, dir, &header));
        segment.activate(file.clone());
        let last = Last { header, file, segment };
        self.must_go_on(listed, &last)?;
        // A log that is being written to has index files of later segments.
        let index = self.list_index(if self.is_live { u32::MAX } else { sequence })?;
        let tail: Tail = self.read_tail(&last, of_segment(&index, sequence))?.tail;
        let position = base.plus(u64::from(tail.recovered.next)).before();
        if (tail.recovered.end, position) != (end.end, end.position) {
            let what = "records before the published end are not whole any more";
            return Err(corruption(&path, tail.recovered.end, what).into());
        }
        last.segment.publish(end.end);
        Ok(End { last, tail, begins_anew: false })
    }
}
