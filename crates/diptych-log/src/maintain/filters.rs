//! Builds segment filters, for groups of eight and of 64 complete segments.

use std::{path::Path, sync::Arc};

use diptych_store::ReadError;

use crate::{
    catalog::{
        Catalog,
        filter_file::{self, FEW, FilterFacts, FilterSpan, MANY, Marks, SegmentFilterFile, marks},
        part::IndexPart,
    },
    folder::derived,
    index::{
        IndexFile, Name,
        segment_filter::{self, SegmentFilter, SegmentHashes},
    },
    shared::SharedState,
};

/// Builds all groups that can be built. A failure is only logged: without a group, look-ups are
/// slower, but find the same events.
pub(crate) fn build_all(shared: &SharedState) {
    while build_next(shared) {}
}

/// Builds the next group, if there is one to build. Returns whether it was built.
pub(crate) fn build_next(shared: &SharedState) -> bool {
    let catalog = shared.catalog();
    let active = catalog.parts.last().map_or(0, |part| part.segment.sequence);
    let made = match merge_filters(shared, &catalog, active) {
        Ok(None) => build_filter(shared, &catalog, active),
        many => many,
    };
    made.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot build a group file now");
        None
    })
    .unwrap_or(false)
}

/// Merges eight groups of eight segments into one group of 64, if there are eight to merge.
fn merge_filters(
    shared: &SharedState,
    catalog: &Catalog,
    active: u32,
) -> Result<Option<bool>, ReadError> {
    let starts = (1..active).step_by(MANY as usize).filter(|first| first + MANY <= active);
    for first in starts {
        let last = first + MANY - 1;
        let members = filters_from(catalog, first);
        let members: Vec<_> =
            members.iter().take_while(|filter| filter.file.last <= last).collect();
        if members.len() != FEW as usize {
            continue;
        }
        let facts = members.iter().map(|span| span.file.facts(shared.disk(), catalog.of(span)));
        let facts = facts.collect::<Result<Option<Vec<FilterFacts>>, _>>()?;
        let filters = members.iter().map(|span| span.file.load(shared.disk(), catalog.of(span)));
        let Some(facts) = facts else { continue };
        if facts.iter().any(|facts| facts.seed != shared.seed()) {
            // A group has hashes with another seed: `build_filter` rebuilds it first.
            continue;
        }
        let filters = filters.collect::<Result<Option<Vec<SegmentFilter>>, _>>()?;
        let Some(filters) = filters else { continue };
        // A name takes twelve bytes in a group of 64 segments, and five in a group of eight.
        let bytes = filters.iter().map(|filter| filter.size().saturating_mul(12) / 5);
        if bytes.sum::<u64>() > shared.options().tuning.tidy_bytes {
            continue;
        }
        let marks = filters.iter().flat_map(|filter| {
            (0..filter.segments).map(|segment| filter.mark(segment).unwrap_or(0))
        });
        let marks: Vec<u64> = marks.collect();
        let always = facts.iter().zip((0..).step_by(FEW as usize));
        let always = always.fold(0, |set, (facts, shift)| set | facts.always << shift);
        let bytes =
            segment_filter::encode(first, &marks, segment_filter::merge(&filters), shared.seed());
        return Ok(Some(place_filter(shared, first, last, &bytes, always)));
    }
    Ok(None)
}

/// The groups whose segments begin at `first` or behind it. Both loops look for their groups by
/// bisection, because they go through all segments whenever one is complete. With a linear search,
/// that work would grow with the square of the log.
fn filters_from(catalog: &Catalog, first: u32) -> &[FilterSpan] {
    let start = catalog.filters.partition_point(|filter| filter.file.first < first);
    catalog.filters.get(start..).unwrap_or(&[])
}

/// Builds a group of the first eight complete segments that have no usable group.
fn build_filter(
    shared: &SharedState,
    catalog: &Catalog,
    active: u32,
) -> Result<Option<bool>, ReadError> {
    let starts = (1..active).step_by(FEW as usize).filter(|first| first + FEW <= active);
    for first in starts {
        let last = first + FEW - 1;
        let there = catalog.filters.partition_point(|filter| filter.file.last < last);
        let there = catalog.filters.get(there);
        if let Some(there) = there.filter(|filter| filter.file.first <= first) {
            let facts = there.file.facts(shared.disk(), catalog.of(there))?;
            // A group of eight is merged later, so it must have the seed of this log.
            let is_merged = there.file.segments() == MANY;
            if facts.is_some_and(|facts| is_merged || facts.seed == shared.seed()) {
                continue;
            }
        }
        let parts = &catalog.parts;
        let start = parts.partition_point(|part| part.segment.sequence < first);
        let end = parts.partition_point(|part| part.segment.sequence <= last);
        let parts = parts.get(start..end).unwrap_or(&[]).to_vec();
        if parts.iter().any(|part| part.path().is_none()) {
            // The indexer has still to write one of the parts to a file.
            return Ok(None);
        }
        let runs = parts.iter().map(|part| part.run(shared.disk()));
        let runs = runs.collect::<Result<Vec<_>, _>>()?;
        // A tag or a key takes at least ten bytes in an index file, and nine here: four in
        // `hashes`, and five in the encoded group. Type names may be shorter in the file, but they
        // are few.
        if runs.iter().map(IndexFile::size).sum::<u64>() > shared.options().tuning.tidy_bytes {
            continue;
        }
        let hashes = hashes(shared, &parts, first, &runs);
        let entries = segment_filter::of_segments(&hashes);
        let Marks { marks, always } = marks(shared.disk(), &parts, first, last)?;
        let bytes = segment_filter::encode(first, &marks, entries, shared.seed());
        return Ok(Some(place_filter(shared, first, last, &bytes, always)));
    }
    Ok(None)
}

/// The hashes of all names, by segment.
fn hashes(
    shared: &SharedState,
    parts: &[Arc<IndexPart>],
    first: u32,
    runs: &[IndexFile],
) -> Vec<SegmentHashes> {
    let of_segment = |segment: u32| {
        let with_runs = parts.iter().zip(runs);
        let within = with_runs.filter(|(part, _)| part.segment.sequence == first + segment);
        let mut hashes = Vec::new();
        for (_, run) in within {
            let types = run.type_names().iter().map(|name| Name::Type(name));
            let names = types.chain(run.tag_names().map(Name::Tag));
            let names = names.chain(run.key_names().map(Name::Key));
            hashes.extend(names.map(|name| name.hash(shared.seed())));
        }
        SegmentHashes::new(hashes)
    };
    (0..FEW).map(of_segment).collect()
}

/// Writes a filter and adds it to the catalog. Returns whether that succeeded.
fn place_filter(shared: &SharedState, first: u32, last: u32, bytes: &[u8], always: u64) -> bool {
    let path = shared.folders().index.join(filter_file::file_name(first, last));
    let written = derived::write(shared.disk(), &path, bytes);
    let mapped = written.and_then(|()| shared.maps().map(shared.disk(), &path));
    let parsed = |bytes| SegmentFilter::parse(bytes).filter(SegmentFilter::is_whole);
    let filter = match mapped.map(parsed) {
        Ok(Some(filter)) => filter,
        Ok(None) => return no_filter(&path, "the file does not have the bytes just written"),
        Err(error) => return no_filter(&path, &error.to_string()),
    };
    let (maps, made) = (shared.maps(), (filter, always));
    let file = SegmentFilterFile::made(maps, shared.folders(), (first, last), made);
    for replaced in shared.live_catalog().place_filter(file) {
        if replaced.path() != path {
            derived::remove_needless(shared.disk(), replaced.path());
        }
    }
    true
}

fn no_filter(path: &Path, error: &str) -> bool {
    tracing::warn!(file = %path.display(), error, "a group file cannot be written");
    false
}
