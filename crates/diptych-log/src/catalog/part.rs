//! The index of some consecutive events of one segment: in memory, or in a file that is loaded on
//! first use.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use diptych_store::{Position, ReadError};

use crate::{
    catalog::{
        maps::{CacheEntry, FilesOwner},
        rebuild::{Rebuilt, UnusableFiles, is_bound, sample},
        segment::{Segment, SegmentBytes},
    },
    disk::{Disk, prefetch},
    error::{corruption, read_failed},
    folder::{Folders, derived},
    format::{
        chain::{Chain, Checkpoint},
        frame::{self, Link},
        frame_order,
        recovery::{self, ScanStart},
        segment::{self, Head},
    },
    index::{
        Columns, Coverage, Index, IndexFile, Newest, Seed,
        index_file::{self, IndexFileId},
        newest::Commit,
    },
};

/// The files that [`UnusableFiles`] counts.
pub(crate) const INDEX_FILE: &str = "an index file";

/// The index of some consecutive events of one segment.
#[derive(Debug)]
pub(crate) struct IndexPart {
    pub(crate) segment: Arc<Segment>,
    pub(crate) first: Position,
    source: PartSource,
}

#[derive(Debug)]
// The locks of Shuttle are large.
#[cfg_attr(diptych_model, allow(clippy::large_enum_variant))]
enum PartSource {
    /// The index of the newest events, or of events whose index is about to be written to a file.
    Memory(Newest),
    /// In a file, which is read when it is first needed, and rebuilt if it is unusable.
    File {
        path: PathBuf,
        last: Position,
        /// The key of the hash of names, for a rebuild.
        seed: Seed,
        unusable: Arc<UnusableFiles>,
        run: CacheEntry<IndexFile>,
        /// The file that was checked when it was first read.
        checked: OnceLock<IndexFileId>,
        /// Whether the file was there when the files were listed.
        is_listed: bool,
    },
}

impl IndexPart {
    pub(crate) fn memory(segment: Arc<Segment>, columns: Columns) -> IndexPart {
        IndexPart {
            segment,
            first: columns.first,
            source: PartSource::Memory(Newest::new(columns)),
        }
    }

    /// A part whose file was just checked.
    pub(crate) fn loaded(segment: Arc<Segment>, path: PathBuf, run: IndexFile) -> IndexPart {
        let (first, last) = (run.first(), run.first().plus(u64::from(run.len())).before());
        let (seed, checked) = (run.seed(), OnceLock::from(run.id()));
        let run = CacheEntry::loaded(segment.maps(), run);
        let unusable = Arc::new(UnusableFiles::new(INDEX_FILE));
        let source = PartSource::File { path, last, seed, unusable, run, checked, is_listed: true };
        IndexPart { segment, first, source }
    }

    /// A part whose file is not read yet; `is_listed` says whether there was one.
    pub(crate) fn file(
        segment: Arc<Segment>,
        folders: &Folders,
        (first, last): (Position, Position),
        (seed, is_listed): (Seed, bool),
        unusable: &Arc<UnusableFiles>,
    ) -> IndexPart {
        let unusable = unusable.clone();
        let path = folders.index.join(index_file::file_name(segment.sequence, first, last));
        let (run, checked) = (CacheEntry::unloaded(segment.maps()), OnceLock::new());
        let source = PartSource::File { path, last, seed, unusable, run, checked, is_listed };
        IndexPart { segment, first, source }
    }

    /// The last position, if the part is in a file.
    pub(crate) fn last_in_file(&self) -> Option<Position> {
        match &self.source {
            PartSource::Memory(_) => None,
            PartSource::File { last, .. } => Some(*last),
        }
    }

    /// Whether there was a file of the part when the files were listed.
    pub(crate) fn is_listed(&self) -> bool {
        matches!(&self.source, PartSource::File { is_listed: true, .. })
    }

    /// Changes the columns of a part in memory.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Columns) -> R) -> Option<R> {
        match &self.source {
            PartSource::Memory(newest) => Some(newest.change(change)),
            PartSource::File { .. } => None,
        }
    }

    /// Number of events.
    pub(crate) fn events(&self) -> u32 {
        match &self.source {
            PartSource::Memory(newest) => newest.columns().len(),
            PartSource::File { last, .. } => {
                let events = last.plus(1).get().saturating_sub(self.first.get());
                u32::try_from(events).unwrap_or(u32::MAX)
            }
        }
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.source {
            PartSource::Memory(_) => None,
            PartSource::File { path, .. } => Some(path),
        }
    }

    /// Columns for the events that follow this part's.
    pub(crate) fn begin_after(&self, first: Position) -> Columns {
        match &self.source {
            PartSource::Memory(newest) => Columns::after(first, &newest.so_far()),
            PartSource::File { .. } => Columns::new(first),
        }
    }

    /// Adds a commit to a part in memory. It is deferred if `later` is set, or if earlier ones are
    /// still deferred. Returns a commit that is not deferred, because freeing its memory takes
    /// time: the caller may hold a lock.
    pub(crate) fn add(&self, commit: Commit, later: bool) -> Option<Commit> {
        let PartSource::Memory(newest) = &self.source else { return Some(commit) };
        if later || newest.is_behind() {
            newest.add_later(commit);
            return None;
        }
        newest.add(&commit);
        Some(commit)
    }

    /// Whether there are deferred commits.
    pub(crate) fn is_behind(&self) -> bool {
        matches!(&self.source, PartSource::Memory(newest) if newest.is_behind())
    }

    /// Adds the deferred commits.
    pub(crate) fn settle(&self) {
        if let PartSource::Memory(newest) = &self.source {
            newest.settle();
        }
    }

    /// Answers a question from the index, in memory or in its file.
    pub(crate) fn ask<R>(
        &self,
        disk: &dyn Disk,
        question: impl FnOnce(Index<'_>) -> R,
    ) -> Result<R, ReadError> {
        match &self.source {
            PartSource::Memory(newest) => Ok(question(Index::Memory(&newest.columns()))),
            PartSource::File { run, .. } => {
                run.ask(|| self.load(disk), |run| question(Index::File(run)))
            }
        }
    }

    /// Keeps the index in memory from now on: its file is about to be removed or replaced, and
    /// readers may still hold this part.
    pub(crate) fn pin(&self, disk: &dyn Disk) -> Result<(), ReadError> {
        match &self.source {
            PartSource::Memory(_) => Ok(()),
            PartSource::File { run, .. } => run.pin(|| self.load(disk)),
        }
    }

    fn load(&self, disk: &dyn Disk) -> Result<IndexFile, ReadError> {
        let PartSource::File { path, last, seed, checked, is_listed, .. } = &self.source else {
            return Err(self.without_file());
        };
        if let Some(checked) = checked.get()
            && let Some(bytes) = self.map_file(disk, path)?
            && let Some(run) = IndexFile::parse_again(bytes, *checked)
        {
            return Ok(run);
        }
        // Another process may have replaced the file, and the segment as well. If it did so twice,
        // then it is not that, and the index is rebuilt.
        let may_be_replaced = *is_listed && self.segment.replacements() < 2;
        let run = self.check_or_rebuild(disk, may_be_replaced, (path, *last, *seed))?;
        checked.get_or_init(|| run.id());
        Ok(run)
    }

    fn map_file(&self, disk: &dyn Disk, path: &Path) -> Result<Option<Bytes>, ReadError> {
        let found = derived::if_there(self.segment.maps().map(disk, path));
        found.map_err(|error| read_failed(path, error))
    }

    /// The index in its file, or else a rebuilt one.
    fn check_or_rebuild(
        &self,
        disk: &dyn Disk,
        may_be_replaced: bool,
        (path, last, seed): (&Path, Position, Seed),
    ) -> Result<IndexFile, ReadError> {
        if let Some(run) = self.bound_to_stub(disk, path, last)? {
            return Ok(run);
        }
        let published = match self.segment.published(disk) {
            Ok(published) => published,
            // It may be archived by now, and the archive not be there.
            Err(error) => {
                let bound = self.bound_to_stub(disk, path, last)?;
                return bound.ok_or_else(|| read_failed(&self.segment.path, error));
            }
        };
        let checksum = published.head.checksum;
        let found = self.map_file(disk, path)?.map(prefetch::ask_for_file);
        let link = self.segment.link(disk);
        let link = link.map_err(|error| read_failed(&self.segment.path, error))?;
        let fits = found.and_then(IndexFile::parse).filter(|(run, coverage)| {
            self.is_about(run, coverage, last)
                && coverage.checksum == checksum
                && is_bound(run, coverage, &published, link)
        });
        if let Some((run, _)) = fits {
            return Ok(run);
        }
        if self.segment.maps().files() == FilesOwner::Elsewhere {
            if may_be_replaced {
                return Err(read_failed(path, self.segment.mark_replaced()));
            }
            tracing::debug!(file = %path.display(), "no good index file: built in memory");
            let file = self.rebuild(last, seed, &published, link)?;
            return self.built(IndexFile::parse(file));
        }
        if let PartSource::File { unusable, .. } = &self.source {
            unusable.note(path, "it is built again");
        }
        let file = self.rebuild(last, seed, &published, link)?;
        let map = || self.segment.maps().map(disk, path);
        let written = derived::write(disk, path, &file).and_then(|()| map());
        // The bytes in memory are enough: a look-up need not wait until the disk works again.
        if let Err(error) = &written {
            tracing::warn!(file = %path.display(), %error, "index file cannot be written");
        }
        // After a failed write the damaged file may still have that name.
        self.built(written.ok().and_then(IndexFile::parse).or_else(|| IndexFile::parse(file)))
    }

    /// Whether an index file is about the events of this part.
    fn is_about(&self, run: &IndexFile, coverage: &Coverage, last: Position) -> bool {
        run.first() == self.first
            && run.first().plus(u64::from(run.len())) == last.plus(1)
            && coverage.segment == self.segment.sequence
    }

    /// The index file of an archived segment, if the stub of the segment shows that it was made
    /// from these records. So a look-up need not read the archive.
    fn bound_to_stub(
        &self,
        disk: &dyn Disk,
        path: &Path,
        last: Position,
    ) -> Result<Option<IndexFile>, ReadError> {
        let stub = self.segment.stub(disk);
        let stub = stub.map_err(|error| read_failed(&self.segment.path, error))?;
        let Some(stub) = stub else { return Ok(None) };
        let Some(header) = stub.header() else { return Ok(None) };
        let found = self.map_file(disk, path)?.map(prefetch::ask_for_file);
        let fits = found.and_then(IndexFile::parse).filter(|(run, coverage)| {
            let chain = match coverage.proof {
                0 => Some(Chain::from_u64(stub.chain())),
                proof => stub
                    .part(proof, frame::CHECKPOINT)
                    .and_then(|bytes| Checkpoint::at(bytes, &Head::of(&header)))
                    .map(|checkpoint| checkpoint.chain),
            };
            self.is_about(run, coverage, last)
                && coverage.checksum == header.checksum()
                && chain == Some(coverage.chain)
        });
        Ok(fits.map(|(run, _)| run))
    }

    fn built(&self, parsed: Option<(IndexFile, Coverage)>) -> Result<IndexFile, ReadError> {
        let damaged = || corruption(&self.segment.path, 0, "the index just built is not whole");
        parsed.map(|(run, _)| run).ok_or_else(|| damaged().into())
    }

    /// The bytes of the part's file, rebuilt from the segment.
    fn rebuild(
        &self,
        last: Position,
        seed: Seed,
        SegmentBytes { head, bytes }: &SegmentBytes,
        link: Option<Link>,
    ) -> Result<Bytes, ReadError> {
        let chain = Chain::begin(head.seal);
        let mut built = Rebuilt::new(self.segment.base, (self.first, last), chain);
        let damaged = |offset, what: &str| corruption(&self.segment.path, offset, what);
        prefetch::ask_for_all(bytes, 0, bytes.len());
        let arrived = frame_order::in_arrival_order(bytes)
            .map_err(|error| damaged(error.offset, error.what))?;
        let offset = segment::HEADER as u64;
        let from = ScanStart { offset, next: 0, time: 0, checksum: arrived.header.checksum() };
        let frames = arrived.bytes.get(segment::HEADER..).unwrap_or(&[]);
        let recovered = recovery::recover(frames, from, |commit| built.add(commit))
            .map_err(|error| damaged(error.offset, error.what))?;
        if built.columns.first.plus(u64::from(built.columns.len())) != last.plus(1) {
            let what = "records are missing that were synced before the next segment began";
            return Err(damaged(recovered.end, what).into());
        }
        let proof = built.proof.map(|proof| match &arrived.offsets {
            None => (proof.offset, proof.chain),
            Some(_) => (proof.offset_clustered, proof.chain),
        });
        if let Some(offsets) = arrived.offsets {
            built.columns.move_to(self.segment.base, &offsets);
        }
        let (proof, chain) = match (proof, link) {
            (Some(proof), _) => proof,
            (None, Some(_)) => (0, built.chain),
            (None, None) => (0, sample(&built.columns, bytes, head)),
        };
        let coverage = Coverage {
            segment: self.segment.sequence,
            checksum: head.checksum,
            end: built.end,
            time: built.time,
            proof,
            chain,
            tracking: built.tracking,
        };
        Ok(Bytes::from(index_file::encode(&built.columns, &coverage, seed)))
    }

    /// The index file of a part that has one.
    pub(crate) fn run(&self, disk: &dyn Disk) -> Result<IndexFile, ReadError> {
        match &self.source {
            PartSource::Memory(_) => Err(self.without_file()),
            PartSource::File { run, .. } => run.ask(|| self.load(disk), IndexFile::clone),
        }
    }

    fn without_file(&self) -> ReadError {
        corruption(&self.segment.path, 0, "the part has no index file").into()
    }
}
