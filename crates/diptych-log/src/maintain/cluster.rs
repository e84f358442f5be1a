//! Clusters sealed segments: puts their frames into the clustered order of the module
//! `frame_order`. A reader of the events of one tag then touches a few places of a segment instead
//! of many.
//!
//! A segment is clustered once the next segment, too, is sealed. At that time the next segment is
//! durable, and so is the beginning of the segment after it. The end of the log is therefore never
//! in a clustered segment, however an open finds it, and an open never has to append to a clustered
//! segment.
//!
//! The subtle point: the file is replaced while readers use it. A reader with old index parts needs
//! the old segment. So the old segment is pinned in memory before its name goes to the new file,
//! and it is never opened again by its name. The old and the new file have different headers, and
//! each index file contains the checksum of the header of its segment. So whichever files a crash
//! leaves, an open notices an index file that does not fit its segment, and rebuilds it.

use std::{io, path::Path, sync::Arc, time::Duration};

use diptych_store::ReadError;

use crate::{
    catalog::{Catalog, part::IndexPart, segment::Segment},
    disk::prefetch,
    error::{corruption, read_failed, storage_failed},
    folder::derived,
    format::{
        chain, frame_order,
        segment::{Head, Order},
    },
    index::{Coverage, IndexFile, merge},
    maintain::indexer::write_index_file,
    shared::SharedState,
    sync::Instant,
};

/// Bytes that are written between two syncs. The sync of a commit never has to wait for more.
const CHUNK_BYTES: usize = 4 << 20;

/// The progress of clustering. The thread that clusters segments owns it.
#[derive(Debug, Default)]
pub(crate) struct Clusterer {
    /// The first segment that was not considered yet.
    next: u32,
}

/// The calls into the engine that clustering makes.
pub(crate) struct Breaks<'a> {
    /// Fails if no file may be changed: in a backup, and after a failure of the log.
    pub(crate) may_change: &'a dyn Fn() -> Result<(), ReadError>,
    /// Called between two writes of clustering, for work that should not wait until clustering
    /// ends.
    pub(crate) between: &'a dyn Fn(),
    /// How many segments are archived. They are the first ones, and stay as they are.
    pub(crate) archived: u32,
}

/// The outcome of one step.
pub(crate) enum Step {
    /// No segment is left that can be clustered.
    Done,
    /// A segment was clustered, in this time.
    Clustered(Duration),
    /// A segment is damaged: it stays as it is.
    Damaged(ReadError),
}

impl Clusterer {
    /// Clusters the next segment that can be clustered. After an error the next call tries the same
    /// segment again.
    pub(crate) fn cluster_next(
        &mut self,
        shared: &SharedState,
        breaks: &Breaks<'_>,
    ) -> Result<Step, ReadError> {
        loop {
            (breaks.may_change)()?;
            self.next = self.next.max(breaks.archived + 1);
            let parts = next_of(&shared.catalog(), self.next);
            let Some(segment) = parts.first().map(|part| &part.segment) else {
                return Ok(Step::Done);
            };
            let order = segment.order(shared.disk());
            let start = Instant::now();
            let step = match order.map_err(|error| read_failed(&segment.path, error)) {
                Ok(Order::Clustered) => None,
                Ok(Order::Arrival) if is_too_large(shared, segment)? => None,
                Ok(Order::Arrival) => match cluster(shared, segment, &parts, breaks.between) {
                    Ok(()) => Some(Step::Clustered(start.elapsed())),
                    Err(error @ ReadError::Corrupt(_)) => Some(Step::Damaged(error)),
                    Err(error) => return Err(error),
                },
                Err(error @ ReadError::Corrupt(_)) => Some(Step::Damaged(error)),
                Err(error) => return Err(error),
            };
            self.next = segment.sequence + 1;
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }
}

/// Whether the segment is larger than `tidy_bytes`. Clustering takes at least as much memory as the
/// segment is long, because all clustered bytes are in memory.
fn is_too_large(shared: &SharedState, segment: &Segment) -> Result<bool, ReadError> {
    let file = shared.disk().open_read(&segment.path, 0).and_then(|file| file.size());
    let bytes = file.map_err(|error| read_failed(&segment.path, error))?;
    let limit = shared.options().tuning.tidy_bytes;
    if bytes > limit {
        let file = segment.path.display();
        tracing::debug!(%file, bytes, limit, "a segment above tidy_bytes stays as it is");
    }
    Ok(bytes > limit)
}

/// Replaces a segment by its clustered file, and then its index parts by one new part.
fn cluster(
    shared: &SharedState,
    segment: &Arc<Segment>,
    parts: &[Arc<IndexPart>],
    between: &dyn Fn(),
) -> Result<(), ReadError> {
    let Segment { path, base, .. } = &**segment;
    let failed = |error: io::Error| read_failed(path, error);
    let runs = parts.iter().map(|part| part.run(shared.disk()));
    let runs = runs.collect::<Result<Vec<_>, _>>()?;
    let published = segment.published(shared.disk()).map_err(failed)?;
    prefetch::ask_for_all(&published.bytes, 0, published.bytes.len());
    let clustered = frame_order::cluster(&published.bytes)
        .map_err(|error| corruption(path, error.offset, error.what))?;
    let head = Head::of(&clustered.header);
    let coverage = runs.last().and_then(IndexFile::coverage).map(|coverage| {
        let chain = coverage.chain;
        let proof = chain::find_checkpoint(&clustered.bytes, &head, chain);
        let proof = proof.filter(|_| coverage.proof > 0).unwrap_or(0);
        Coverage { checksum: head.checksum, proof, ..coverage }
    });
    let index = coverage.filter(|_| runs.first().is_some_and(|run| run.first() == *base));
    let index =
        index.and_then(|index| merge::merge_at(&runs, &clustered.offsets, &index, shared.seed()));
    let Some(index) = index else {
        return Err(corruption(path, 0, "the index and the log disagree").into());
    };
    let events = clustered.offsets.len() as u32;
    // From here on the names of these files may lead to other files, or to none.
    parts.iter().try_for_each(|part| part.pin(shared.disk()))?;
    segment.pin(shared.disk()).map_err(failed)?;
    let replaced = replace_file(shared, path, &clustered.bytes, &published.bytes, between);
    drop(clustered.bytes);
    replaced.map_err(|error| storage_failed("cluster", path, error))?;
    let now = Arc::new(segment.read_again());
    let part = write_index_file(shared, &now, *base, events, &index);
    let part =
        part.map_err(|error| storage_failed("index", path, io::Error::other(error.to_string())))?;
    let written = part.path().map(Path::to_owned);
    shared.live_catalog().replace_parts(parts, part);
    for path in parts.iter().filter_map(|part| part.path()) {
        if written.as_deref() != Some(path) {
            derived::remove_needless(shared.disk(), path);
        }
    }
    tracing::debug!(file = %path.display(), "a segment is clustered");
    Ok(())
}

/// Writes the clustered bytes of a segment to a file, syncs it, reads it back, and gives it the
/// name of the segment. Before that, this verifies that the bytes are the same segment. After an
/// error the name still leads to the old file. The exception is an error of the last step, the
/// rename and its sync: then the name leads to the old or to the new file.
fn replace_file(
    shared: &SharedState,
    path: &Path,
    clustered: &[u8],
    arrival: &[u8],
    between: &dyn Fn(),
) -> io::Result<()> {
    if !frame_order::is_clustering_of(clustered, arrival).is_ok_and(|is| is) {
        return Err(io::Error::other("the clustered bytes are another segment"));
    }
    let (disk, temporary) = (shared.disk(), path.with_extension("tmp"));
    // An earlier attempt may have left a file with this name.
    let _ = disk.remove(&temporary);
    let replaced = || {
        let file = disk.create(&temporary, 0)?;
        for (offset, chunk) in (0..).step_by(CHUNK_BYTES).zip(clustered.chunks(CHUNK_BYTES)) {
            file.write_at(offset, chunk)?;
            file.sync()?;
            between();
        }
        for (offset, chunk) in (0..).step_by(CHUNK_BYTES).zip(clustered.chunks(CHUNK_BYTES)) {
            if file.read_at(offset, chunk.len())? != chunk {
                return Err(io::Error::other("the file does not have the bytes just written"));
            }
        }
        disk.rename(&temporary, path)?;
        disk.sync_dir(&shared.folders().segments)
    };
    replaced().inspect_err(|_| {
        // A useless file should not keep a full disk full.
        let _ = disk.remove(&temporary);
    })
}

/// The index parts of the next segment from `from` on, if it can be clustered as far as the catalog
/// shows without reading a header; otherwise empty.
fn next_of(catalog: &Catalog, from: u32) -> Vec<Arc<IndexPart>> {
    let parts = &catalog.parts;
    let mut sealed = parts.iter().rev().filter(|part| part.segment.is_sealed());
    let last = sealed.next().map_or(0, |part| part.segment.sequence);
    let start = parts.partition_point(|part| part.segment.sequence < from);
    let Some(first) = parts.get(start).filter(|part| part.segment.sequence < last) else {
        return Vec::new();
    };
    let of_segment = parts.iter().skip(start);
    let of_segment = of_segment.take_while(|part| Arc::ptr_eq(&part.segment, &first.segment));
    let of_segment: Vec<_> = of_segment.cloned().collect();
    let written = |part: &Arc<IndexPart>| part.segment.is_sealed() && part.path().is_some();
    if of_segment.iter().all(written) { of_segment } else { Vec::new() }
}

#[cfg(test)]
mod tests;
