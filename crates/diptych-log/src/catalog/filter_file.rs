//! Segment filters in their files, which are called group files.
//!
//! A look-up searches the index of a segment only if the filter of its group of segments says that
//! the segment may have the name. Eight complete segments form a group, and eight such groups are
//! merged into one of 64. So the cost of a look-up grows with the log by only one query for each 64
//! segments. A segment that is in no group yet is always searched.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use diptych_store::ReadError;

use crate::{
    catalog::{part::IndexPart, rebuild::UnusableFiles},
    disk::Disk,
    error::{OpenError, io_error, read_failed},
    folder::{Folders, derived},
    index::{NameQuery, segment_filter::SegmentFilter},
};

/// Segments in a group of the first kind, and groups of the first kind in one of the second.
pub(crate) const FEW: u32 = 8;
pub(crate) const MANY: u32 = FEW * FEW;

/// The files that [`UnusableFiles`] counts.
const GROUP_FILE: &str = "a group file";

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
    /// Holds `None` if the file is unusable: then all its segments are searched.
    filter: OnceLock<Option<UsableFilter>>,
}

/// The content of a usable group file.
#[derive(Clone, Debug)]
pub(crate) struct UsableFilter {
    pub(crate) filter: SegmentFilter,
    /// Segments that are always searched: an older version wrote the segment after each, so no
    /// record that is cheap to read binds the group to them.
    pub(crate) always: u64,
}

impl SegmentFilterFile {
    fn new(
        folders: &Folders,
        (first, last): (u32, u32),
        unusable: &Arc<UnusableFiles>,
    ) -> SegmentFilterFile {
        let path = folders.index.join(file_name(first, last));
        let unusable = unusable.clone();
        SegmentFilterFile { path, first, last, unusable, filter: OnceLock::new() }
    }

    /// A filter whose file was just written.
    pub(crate) fn made(
        folders: &Folders,
        span: (u32, u32),
        usable: UsableFilter,
    ) -> SegmentFilterFile {
        let unusable = Arc::new(UnusableFiles::new(GROUP_FILE));
        let file = SegmentFilterFile::new(folders, span, &unusable);
        SegmentFilterFile { filter: OnceLock::from(Some(usable)), ..file }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The filter, if it was loaded and is usable.
    pub(crate) fn loaded(&self) -> Option<&UsableFilter> {
        self.filter.get()?.as_ref()
    }

    /// The segments that may have what is wanted: bit n stands for segment `first` + n. `parts` are
    /// the parts of these segments.
    ///
    /// # Errors
    /// If the file exists and cannot be read now, or one of its segments cannot.
    pub(crate) fn having(
        &self,
        disk: &dyn Disk,
        parts: &[Arc<IndexPart>],
        wanted: NameQuery<'_>,
    ) -> Result<u64, ReadError> {
        let good = self.usable(disk, parts)?;
        Ok(good.map_or(u64::MAX, |good| good.filter.having(wanted) | good.always))
    }

    /// The filter, loaded if need be; `None` if its file is unusable.
    pub(crate) fn usable(
        &self,
        disk: &dyn Disk,
        parts: &[Arc<IndexPart>],
    ) -> Result<Option<&UsableFilter>, ReadError> {
        if let Some(filter) = self.filter.get() {
            return Ok(filter.as_ref());
        }
        // An error is not cached: the next look-up tries again.
        let loaded = self.load(disk, parts)?;
        Ok(self.filter.get_or_init(|| loaded).as_ref())
    }

    fn load(
        &self,
        disk: &dyn Disk,
        parts: &[Arc<IndexPart>],
    ) -> Result<Option<UsableFilter>, ReadError> {
        let found = derived::map_if_there(disk, &self.path);
        let found =
            found.map_err(|error| read_failed(&self.path, error))?.and_then(SegmentFilter::parse);
        let segments = self.last - self.first + 1;
        let found =
            found.filter(|filter| (filter.first, filter.segments) == (self.first, segments));
        if let Some(filter) = found {
            let Marks { marks, always } = marks(disk, parts, self.first, self.last)?;
            if (0..).zip(marks).all(|(segment, mark)| filter.mark(segment) == Some(mark)) {
                return Ok(Some(UsableFilter { filter, always }));
            }
        }
        self.unusable.note(&self.path, "it is not used");
        Ok(None)
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
            let link = segment.link(disk).map_err(|error| read_failed(&segment.path, error))?;
            match link {
                Some(link) => *mark = link.chain,
                None => always |= 1_u64.checked_shl(at).unwrap_or(0),
            }
        }
    }
    Ok(Marks { marks, always })
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

/// The usable group files of segments before `active`. Removes the others: they lie within another
/// group, or reach beyond these segments.
pub(crate) fn list(
    disk: &dyn Disk,
    folders: &Folders,
    active: u32,
) -> Result<Vec<Arc<SegmentFilterFile>>, OpenError> {
    let names = disk.list(&folders.index).map_err(io_error("list", &folders.index))?;
    let mut spans: Vec<_> = names.iter().filter_map(|name| parse_file_name(name)).collect();
    spans.sort_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
    let (mut filters, mut next) = (Vec::new(), 0);
    let unusable = Arc::new(UnusableFiles::new(GROUP_FILE));
    for (first, last) in spans {
        if first >= next && last < active {
            filters.push(Arc::new(SegmentFilterFile::new(folders, (first, last), &unusable)));
            next = last + 1;
        } else {
            derived::remove_needless(disk, &folders.index.join(file_name(first, last)));
        }
    }
    Ok(filters)
}
