//! Segment filters in their files, which are called group files.
//!
//! A look-up searches the index of a segment only if the filter of its group of segments says that
//! the segment may have the name. Eight complete segments form a group, and eight such groups are
//! merged into one of 64. So the cost of a look-up grows with the log by only one query for each 64
//! segments. A segment that is in no group yet is always searched.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use diptych_store::ReadError;

use crate::{
    catalog::{
        maps::{CacheEntry, FilesOwner, Maps},
        part::IndexPart,
        rebuild::UnusableFiles,
        segment::Segment,
    },
    disk::{Disk, prefetch},
    error::{OpenError, corruption, io_error, read_failed},
    folder::{Folders, derived},
    index::{
        NameQuery, Seed,
        segment_filter::{self, SegmentFilter},
    },
};

/// Segments in a group of the first kind, and groups of the first kind in one of the second.
pub(crate) const FEW: u32 = 8;
pub(crate) const MANY: u32 = FEW * FEW;

/// The files that [`UnusableFiles`] counts.
const GROUP_FILE: &str = "a group file";

/// The consequence, in the warning about an unusable group file.
const NOT_USED: &str = "it is not used";

/// `first-last.group`, by the sequences of its segments.
pub(crate) fn file_name(first: u32, last: u32) -> String {
    format!("{first:08}-{last:08}.group")
}

pub(crate) fn parse_file_name(name: &str) -> Option<(u32, u32)> {
    let (first, last) = name.strip_suffix(".group")?.split_once('-')?;
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    let segments = last.checked_sub(first)?.checked_add(1)?;
    ((segments == FEW || segments == MANY) && first % segments == 1).then_some((first, last))
}

/// A group file, which is read when it is first needed.
#[derive(Debug)]
pub(crate) struct SegmentFilterFile {
    path: PathBuf,
    /// Sequences of its segments.
    pub(crate) first: u32,
    pub(crate) last: u32,
    unusable: Arc<UnusableFiles>,
    /// Set when the file is read for the first time; `None` if it is unusable: then all its
    /// segments are searched.
    facts: OnceLock<Option<FilterFacts>>,
    /// Set when a page is found to be damaged, or another process has replaced a segment: then the
    /// file is not used any more.
    is_damaged: AtomicBool,
    /// The segments that were compared with their marks: bit n stands for segment `first` + n.
    compared: AtomicU64,
    filter: CacheEntry<SegmentFilter>,
}

/// Facts about a usable group file, which are kept while its content is not in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FilterFacts {
    pub(crate) seed: Seed,
    checksum: u32,
    /// Segments that are always searched: an older version wrote the segment after each, so no
    /// record that is cheap to read binds the group to them.
    pub(crate) always: u64,
}

impl FilterFacts {
    fn of(filter: &SegmentFilter, always: u64) -> FilterFacts {
        FilterFacts { seed: filter.seed, checksum: filter.checksum, always }
    }
}

/// Why a filter cannot be asked.
enum NoFilter {
    /// Its file is missing or no good.
    Unusable,
    Failed(ReadError),
}

impl SegmentFilterFile {
    fn new(
        maps: &Arc<Maps>,
        folders: &Folders,
        (first, last): (u32, u32),
        unusable: &Arc<UnusableFiles>,
    ) -> SegmentFilterFile {
        let path = folders.index.join(file_name(first, last));
        SegmentFilterFile {
            path,
            first,
            last,
            unusable: unusable.clone(),
            facts: OnceLock::new(),
            is_damaged: AtomicBool::new(false),
            compared: AtomicU64::new(0),
            filter: CacheEntry::unloaded(maps),
        }
    }

    /// A filter whose file was just written.
    pub(crate) fn made(
        maps: &Arc<Maps>,
        folders: &Folders,
        span: (u32, u32),
        (filter, always): (SegmentFilter, u64),
    ) -> SegmentFilterFile {
        let facts = OnceLock::from(Some(FilterFacts::of(&filter, always)));
        let unusable = Arc::new(UnusableFiles::new(GROUP_FILE));
        let file = SegmentFilterFile::new(maps, folders, span, &unusable);
        SegmentFilterFile { facts, filter: CacheEntry::loaded(maps, filter), ..file }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn segments(&self) -> u32 {
        self.last - self.first + 1
    }

    /// Whether its file was found to be unusable.
    pub(crate) fn is_unusable(&self) -> bool {
        matches!(self.facts.get(), Some(None)) || self.is_damaged.load(Ordering::Relaxed)
    }

    /// The segments that may have what is wanted: bit n stands for segment `first` + n. `parts` are
    /// the parts of these segments.
    ///
    /// # Errors
    /// If the file exists and cannot be read now, or a segment behind it cannot.
    pub(crate) fn having(
        &self,
        disk: &dyn Disk,
        parts: &[Arc<IndexPart>],
        wanted: NameQuery<'_>,
    ) -> Result<u64, ReadError> {
        let set = self.ask(disk, parts, |filter| filter.having(wanted))?;
        let always = self.facts.get().copied().flatten().map_or(u64::MAX, |facts| facts.always);
        Ok(set.map_or(u64::MAX, |set| set | always))
    }

    /// Compares a segment that is about to be searched or read with its mark. The group itself is
    /// compared only with its last segment, so that a look-up of an absent name opens no others.
    ///
    /// # Errors
    /// If it is another segment, or the segment behind it cannot be read now. If the group file
    /// cannot be read now, that is an error of a look-up of a name. A read of everything goes on.
    pub(crate) fn compare(
        &self,
        disk: &dyn Disk,
        parts: &[Arc<IndexPart>],
        (segment, wanted): (&Segment, NameQuery<'_>),
    ) -> Result<(), ReadError> {
        let at = segment.sequence.wrapping_sub(self.first);
        let bit = 1_u64.checked_shl(at).unwrap_or(0);
        if self.compared.load(Ordering::Relaxed) & bit != 0 {
            return Ok(());
        }
        let mark = match (self.ask(disk, parts, |filter| filter.mark(at)), wanted) {
            (Err(_), NameQuery::Any) => return Ok(()),
            (mark, _) => mark?.flatten(),
        };
        let mark = mark.filter(|mark| *mark != 0);
        if mark.is_some() && mark_of(disk, segment)? != mark {
            let next = segment.next_path(disk);
            let next = next.map_err(|error| read_failed(&segment.path, error))?;
            return Err(self.other_segment(segment, &next));
        }
        self.compared.fetch_or(bit, Ordering::Relaxed);
        Ok(())
    }

    fn other_segment(&self, segment: &Segment, next: &Path) -> ReadError {
        // Another process may have replaced the files. If it did so twice, then it is not that.
        if self.filter.maps().files() == FilesOwner::Elsewhere && segment.replacements() < 2 {
            // The files are listed again, and this object is not taken over.
            self.is_damaged.store(true, Ordering::Relaxed);
            return read_failed(&segment.path, segment.mark_replaced());
        }
        let name = file_name(self.first, self.last);
        let what = format!(
            "this is not the segment that {name} was made from, or {} does not go on from it",
            next.display()
        );
        corruption(&segment.path, 0, what).into()
    }

    /// The filter, of which every page was checked; `None` if its file is unusable.
    pub(crate) fn load(
        &self,
        disk: &dyn Disk,
        parts: &[Arc<IndexPart>],
    ) -> Result<Option<SegmentFilter>, ReadError> {
        self.ask(disk, parts, |filter| {
            filter.is_whole();
            filter.clone()
        })
    }

    /// Facts about the file, which is read if it was not yet; `None` if it is unusable.
    pub(crate) fn facts(
        &self,
        disk: &dyn Disk,
        parts: &[Arc<IndexPart>],
    ) -> Result<Option<FilterFacts>, ReadError> {
        if self.facts.get().is_none() {
            self.ask(disk, parts, |_| ())?;
        }
        let is_usable = !self.is_unusable();
        Ok(self.facts.get().copied().flatten().filter(|_| is_usable))
    }

    fn ask<R>(
        &self,
        disk: &dyn Disk,
        parts: &[Arc<IndexPart>],
        question: impl FnOnce(&SegmentFilter) -> R,
    ) -> Result<Option<R>, ReadError> {
        // An error is not cached: the next look-up tries again.
        let asked = |filter: &SegmentFilter| (question(filter), filter.is_damaged());
        match self.filter.ask(|| self.read(disk, parts), asked) {
            Ok((answer, false)) => Ok(Some(answer)),
            Ok((_, true)) => {
                if !self.is_damaged.swap(true, Ordering::Relaxed) {
                    self.unusable.note(&self.path, NOT_USED);
                }
                Ok(None)
            }
            Err(NoFilter::Unusable) => Ok(None),
            Err(NoFilter::Failed(error)) => Err(error),
        }
    }

    fn read(&self, disk: &dyn Disk, parts: &[Arc<IndexPart>]) -> Result<SegmentFilter, NoFilter> {
        if self.is_unusable() {
            return Err(NoFilter::Unusable);
        }
        let before = self.facts.get().copied().flatten().map(|facts| facts.checksum);
        let failed = |error| NoFilter::Failed(read_failed(&self.path, error));
        let found = derived::if_there(self.filter.maps().map(disk, &self.path)).map_err(failed)?;
        let found = found.and_then(|bytes| match before {
            Some(checksum) => SegmentFilter::parse_again(bytes, checksum),
            None if segment_filter::is_read_whole(&bytes) => {
                SegmentFilter::parse(prefetch::ask_for_file(bytes))
            }
            None => SegmentFilter::parse(bytes),
        });
        let found =
            found.filter(|filter| (filter.first, filter.segments) == (self.first, self.segments()));
        if let Some(filter) = found {
            if before.is_some() {
                return Ok(filter);
            }
            let always = bound(disk, parts, &filter).map_err(NoFilter::Failed)?;
            if let Some(always) = always {
                self.facts.get_or_init(|| Some(FilterFacts::of(&filter, always)));
                return Ok(filter);
            }
        }
        self.unusable.note(&self.path, NOT_USED);
        self.facts.get_or_init(|| None);
        Err(NoFilter::Unusable)
    }
}

/// The running checksums that bind a group to its segments.
pub(crate) struct Marks {
    /// For each segment the running checksum of all its frames, as the next segment records it; 0
    /// if the segment has no events, or an older version without that record wrote the next one.
    pub(crate) marks: Vec<u64>,
    /// Segments with events and without a mark.
    pub(crate) always: u64,
}

pub(crate) fn marks(
    disk: &dyn Disk,
    parts: &[Arc<IndexPart>],
    first: u32,
    last: u32,
) -> Result<Marks, ReadError> {
    let (mut marks, mut always) = (vec![0; (last - first + 1) as usize], 0);
    for IndexPart { segment, .. } in parts.iter().map(|part| &**part) {
        let at = segment.sequence.wrapping_sub(first);
        if let Some(mark) = marks.get_mut(at as usize).filter(|mark| **mark == 0) {
            match mark_of(disk, segment)? {
                Some(found) => *mark = found,
                None => always |= 1_u64.checked_shl(at).unwrap_or(0),
            }
        }
    }
    Ok(Marks { marks, always })
}

/// The running checksum of a segment, as the next one records it; `None` if that one has no such
/// record.
fn mark_of(disk: &dyn Disk, segment: &Segment) -> Result<Option<u64>, ReadError> {
    let link = segment.link(disk).map_err(|error| read_failed(&segment.path, error))?;
    Ok(link.map(|link| link.chain))
}

/// Whether a group was made from the segments of these parts. If so, answers the segments that are
/// always searched.
///
/// A segment begins with a record that holds the running checksum of the one before it. So the
/// running checksum of the last segment depends on all before it, and only that one is compared. In
/// a group with a segment that has no mark, that holds for the segments on each side of it.
fn bound(
    disk: &dyn Disk,
    parts: &[Arc<IndexPart>],
    filter: &SegmentFilter,
) -> Result<Option<u64>, ReadError> {
    let mark = |at: u32| filter.mark(at).filter(|mark| at < filter.segments && *mark != 0);
    let mut always = 0;
    for at in 0..filter.segments {
        let sequence = filter.first + at;
        let part = parts.partition_point(|part| part.segment.sequence < sequence);
        let part = parts.get(part).filter(|part| part.segment.sequence == sequence);
        let Some(IndexPart { segment, .. }) = part.map(|part| &**part) else {
            // It has no events, so it has no mark.
            if mark(at).is_some() {
                return Ok(None);
            }
            continue;
        };
        if mark(at).is_some() && mark(at + 1).is_some() {
            continue;
        }
        let found = mark_of(disk, segment)?;
        if found != mark(at) {
            return Ok(None);
        }
        if found.is_none() {
            always |= 1_u64.checked_shl(at).unwrap_or(0);
        }
    }
    Ok(Some(always))
}

/// A group among the parts of a catalog.
#[derive(Clone, Debug)]
pub(crate) struct FilterSpan {
    pub(crate) file: Arc<SegmentFilterFile>,
    /// Indices of its parts in the catalog.
    pub(crate) parts: std::ops::Range<usize>,
}

impl FilterSpan {
    pub(crate) fn new(file: Arc<SegmentFilterFile>, parts: &[Arc<IndexPart>]) -> FilterSpan {
        let start = parts.partition_point(|part| part.segment.sequence < file.first);
        let end = parts.partition_point(|part| part.segment.sequence <= file.last);
        FilterSpan { parts: start..end, file }
    }
}

/// The group files of segments before `active`, and the paths of those that are not needed: they
/// lie within another group, or reach beyond these segments.
pub(crate) fn list(
    (disk, maps): (&dyn Disk, &Arc<Maps>),
    folders: &Folders,
    active: u32,
) -> Result<(Vec<Arc<SegmentFilterFile>>, Vec<PathBuf>), OpenError> {
    let names = disk.list(&folders.index).map_err(io_error("list", &folders.index))?;
    let mut spans: Vec<_> = names.iter().filter_map(|name| parse_file_name(name)).collect();
    spans.sort_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
    let (mut filters, mut needless, mut next) = (Vec::new(), Vec::new(), 0);
    let unusable = Arc::new(UnusableFiles::new(GROUP_FILE));
    for (first, last) in spans {
        if first >= next && last < active {
            let file = SegmentFilterFile::new(maps, folders, (first, last), &unusable);
            filters.push(Arc::new(file));
            next = last + 1;
        } else {
            needless.push(folders.index.join(file_name(first, last)));
        }
    }
    Ok((filters, needless))
}
