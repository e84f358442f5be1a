//! Group files of a log: querying and building them.
//!
//! A look-up searches the index of a segment only if its group says that the segment may have the
//! name. Eight complete segments form a group, and eight such groups are merged into one of 64. So
//! the cost of a look-up grows with the log by only one query for each 64 segments. A segment that
//! is in no group yet is always searched.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use diptych_store::ReadError;

use crate::{
    catalog::{Catalog, Folders, IndexPart},
    disk::Disk,
    engine::Engine,
    error::{OpenError, io_error, read_failed},
    folder::derived,
    index::{
        Index, Name, NameQuery,
        segment_filter::{self, FilterEntry, SegmentFilter},
    },
};

/// Segments in a group of the first kind, and groups of the first kind in one of the second.
const FEW: u32 = 8;
const MANY: u32 = FEW * FEW;

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
    /// Holds `None` if the file is unusable: then all its segments are searched.
    filter: OnceLock<Option<UsableFilter>>,
}

/// The content of a usable group file.
#[derive(Clone, Debug)]
struct UsableFilter {
    filter: SegmentFilter,
    /// Segments that are always searched: an older version wrote the segment after each, so no
    /// record that is cheap to read binds the group to them.
    always: u64,
}

impl SegmentFilterFile {
    fn new(folders: &Folders, first: u32, last: u32) -> SegmentFilterFile {
        let path = folders.index.join(file_name(first, last));
        SegmentFilterFile { path, first, last, filter: OnceLock::new() }
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
        let good = self.good(disk, parts)?;
        Ok(good.map_or(u64::MAX, |good| good.filter.having(wanted) | good.always))
    }

    fn good(
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
            found.map_err(|error| read_failed(&self.path, &error))?.and_then(SegmentFilter::parse);
        let segments = self.last - self.first + 1;
        let found =
            found.filter(|filter| (filter.first, filter.segments) == (self.first, segments));
        if let Some(filter) = found {
            let Marks { marks, always } = marks(disk, parts, self.first, self.last)?;
            if (0..).zip(marks).all(|(segment, mark)| filter.mark(segment) == Some(mark)) {
                return Ok(Some(UsableFilter { filter, always }));
            }
        }
        let file = self.path.display();
        tracing::warn!(%file, "a group file is missing or no good: it is not used");
        Ok(None)
    }
}

/// The running checksums that bind a group to its segments.
struct Marks {
    /// For each segment the running checksum of all its frames, as the next segment records it; 0
    /// if the segment has no events, or an older version without that record wrote the next one.
    marks: Vec<u64>,
    /// Segments with events and without a mark.
    always: u64,
}

fn marks(
    disk: &dyn Disk,
    parts: &[Arc<IndexPart>],
    first: u32,
    last: u32,
) -> Result<Marks, ReadError> {
    let (mut marks, mut always) = (vec![0; (last - first + 1) as usize], 0);
    for IndexPart { segment, .. } in parts.iter().map(|part| &**part) {
        let at = segment.sequence.wrapping_sub(first);
        if let Some(mark) = marks.get_mut(at as usize).filter(|mark| **mark == 0) {
            let link = segment.link(disk).map_err(|error| read_failed(&segment.path, &error))?;
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
    for (first, last) in spans {
        if first >= next && last < active {
            filters.push(Arc::new(SegmentFilterFile::new(folders, first, last)));
            next = last + 1;
        } else {
            derived::remove_needless(disk, &folders.index.join(file_name(first, last)));
        }
    }
    Ok(filters)
}

impl Engine {
    /// Builds all groups that can be built. A failure is only logged: without a group look-ups are
    /// slower, but right.
    pub(crate) fn build_filters(&self) {
        while self.build_next_filter() {}
    }

    /// Builds the next group, if there is one to build; answers whether it was built.
    pub(crate) fn build_next_filter(&self) -> bool {
        let catalog = self.catalog();
        let active = catalog.parts.last().map_or(0, |part| part.segment.sequence);
        let made = match self.merge_filters(&catalog, active) {
            None => self.build_filter(&catalog, active),
            many => Ok(many),
        };
        made.unwrap_or_else(|error| {
            tracing::warn!(%error, "no group is made now");
            None
        })
        .unwrap_or(false)
    }

    /// Merges eight groups of eight into one, if there are eight to merge.
    fn merge_filters(&self, catalog: &Catalog, active: u32) -> Option<bool> {
        let starts = (1..active).step_by(MANY as usize).filter(|first| first + MANY <= active);
        for first in starts {
            let last = first + MANY - 1;
            let within =
                |filter: &&FilterSpan| filter.file.first >= first && filter.file.last <= last;
            let members: Vec<_> = catalog.filters.iter().filter(within).collect();
            if members.len() != FEW as usize {
                continue;
            }
            let goods = members.iter().map(|member| member.file.filter.get()?.as_ref());
            let Some(goods) = goods.collect::<Option<Vec<&UsableFilter>>>() else { continue };
            if goods.iter().any(|good| good.filter.seed != self.seed) {
                // Their hashes have another seed: they are rebuilt first.
                continue;
            }
            let filters: Vec<SegmentFilter> =
                goods.iter().map(|good| good.filter.clone()).collect();
            let marks = filters.iter().flat_map(|filter| {
                (0..filter.segments).map(|segment| filter.mark(segment).unwrap_or(0))
            });
            let marks: Vec<u64> = marks.collect();
            let always = goods.iter().zip((0..).step_by(FEW as usize));
            let always = always.fold(0, |set, (good, shift)| set | good.always << shift);
            let bytes =
                segment_filter::encode(first, &marks, &segment_filter::merge(&filters), self.seed);
            return Some(self.place_filter(first, last, &bytes, always));
        }
        None
    }

    /// Builds a group of the first eight complete segments without a usable one.
    fn build_filter(&self, catalog: &Catalog, active: u32) -> Result<Option<bool>, ReadError> {
        let starts = (1..active).step_by(FEW as usize).filter(|first| first + FEW <= active);
        for first in starts {
            let last = first + FEW - 1;
            let of = |filter: &FilterSpan| filter.file.first <= first && filter.file.last >= last;
            if let Some(there) = catalog.filters.iter().find(|filter| of(filter)) {
                let parts = catalog.parts.get(there.parts.clone()).unwrap_or(&[]);
                // A group that is to be merged must have the seed of this log.
                let is_good = |UsableFilter { filter, .. }: &UsableFilter| {
                    filter.segments == MANY || filter.seed == self.seed
                };
                if there.file.good(self.disk(), parts)?.is_some_and(is_good) {
                    continue;
                }
            }
            let parts = catalog.parts.iter();
            let parts: Vec<_> = parts
                .filter(|part| (first..=last).contains(&part.segment.sequence))
                .cloned()
                .collect();
            if parts.iter().any(|part| part.path().is_none()) {
                // One part is still to be written to a file.
                return Ok(None);
            }
            let entries = self.names(&parts, first)?;
            let Marks { marks, always } = marks(self.disk(), &parts, first, last)?;
            let bytes = segment_filter::encode(first, &marks, &entries, self.seed);
            return Ok(Some(self.place_filter(first, last, &bytes, always)));
        }
        Ok(None)
    }

    fn names(&self, parts: &[Arc<IndexPart>], first: u32) -> Result<Vec<FilterEntry>, ReadError> {
        let mut entries = Vec::new();
        for part in parts {
            let set = 1 << (part.segment.sequence - first);
            part.ask(self.disk(), |index| {
                let Index::File(run) = index else { return };
                let types = run.type_names().iter().map(|name| Name::Type(name).hash(self.seed));
                entries.extend(types.map(|hash| (hash, set)));
                entries.extend(run.tag_names().map(|name| (Name::Tag(name).hash(self.seed), set)));
                entries.extend(run.key_names().map(|name| (Name::Key(name).hash(self.seed), set)));
            })?;
        }
        Ok(segment_filter::collect(entries))
    }

    /// Writes a group and adds it to the catalog; answers whether that succeeded.
    fn place_filter(&self, first: u32, last: u32, bytes: &[u8], always: u64) -> bool {
        let file = SegmentFilterFile::new(&self.folders, first, last);
        let written = derived::write(self.disk(), &file.path, bytes);
        let mapped = written.and_then(|()| self.disk().map(&file.path));
        let filter = match mapped.map(SegmentFilter::parse) {
            Ok(Some(filter)) => filter,
            Ok(None) => {
                return self.no_filter(&file.path, "it is not what was written a moment ago");
            }
            Err(error) => return self.no_filter(&file.path, &error.to_string()),
        };
        // The file is new, so the cell is empty.
        let _ = file.filter.set(Some(UsableFilter { filter, always }));
        let mut needless = Vec::new();
        {
            let mut catalog = self.catalog.write();
            let mut filters: Vec<_> =
                catalog.filters.iter().map(|filter| filter.file.clone()).collect();
            filters.retain(|filter| {
                let stays = filter.last < first || filter.first > last;
                if !stays && filter.path != file.path {
                    needless.push(filter.path.clone());
                }
                stays
            });
            filters.push(Arc::new(file));
            filters.sort_by_key(|filter| filter.first);
            *catalog = Arc::new(Catalog::new(catalog.parts.clone(), filters));
        }
        needless.iter().for_each(|path| derived::remove_needless(self.disk(), path));
        true
    }

    fn no_filter(&self, path: &Path, error: &str) -> bool {
        tracing::warn!(file = %path.display(), error, "a group file cannot be written");
        false
    }
}
