//! Clustering sealed segments: putting their frames into the other order of the module
//! `frame_order`, so that a reader of the events of one tag touches a few places of a segment
//! instead of many.
//!
//! A segment is clustered once the one after it is sealed too. Then that one is durable, and so
//! is the beginning of the one after it: however an open finds the end of the log, it never has to
//! go on in a clustered segment.
//!
//! The subtle thing is that the file is replaced under readers. Readers that still hold the old
//! parts of the index hold the old segment with them, which is pinned in memory before its name
//! goes to the new file, and is never opened again. Old and new file have different headers, and an
//! index file names its header. So whichever files a crash leaves, an index file that does not fit
//! is rebuilt.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

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
};

/// Bytes that go to the disk at a time, so that the syncs of commits never wait for more.
const CHUNK_BYTES: usize = 4 << 20;

/// How far clustering has come. The thread that clusters segments holds it.
#[derive(Debug, Default)]
pub(crate) struct Clusterer {
    /// The first segment that was not considered yet.
    next: u32,
}

/// The engine, as far as clustering needs it.
pub(crate) struct Breaks<'a> {
    /// Whether files may be changed: not those of a backup, and none after a failure.
    pub(crate) may_change: &'a dyn Fn() -> Result<(), ReadError>,
    /// Called now and then, for work that should not wait as long as clustering takes.
    pub(crate) between: &'a dyn Fn(),
    /// How many segments are archived. They are the first ones, and stay as they are.
    pub(crate) archived: u32,
}

/// The outcome of one step.
pub(crate) enum Step {
    /// Nothing any more.
    Done,
    /// A segment was clustered, in this time.
    Clustered(Duration),
    /// A segment is damaged: it stays as it is.
    Damaged(ReadError),
}

impl Clusterer {
    /// Clusters the next segment that can be clustered. After a failure it is tried again by the
    /// next call.
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

/// Whether clustering the segment would take more memory than it may: its clustered bytes are all
/// in memory.
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

/// Puts a clustered file in the place of a segment, and then the parts of its index.
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
    // From here on their names may lead to other files, or nowhere.
    parts.iter().try_for_each(|part| part.pin(shared.disk()))?;
    segment.pin(shared.disk()).map_err(failed)?;
    let replaced = replace_file(shared, path, &clustered.bytes, &published.bytes, between);
    drop(clustered.bytes);
    replaced.map_err(|error| storage_failed("cluster", path, error))?;
    let now = Arc::new(segment.read_again());
    let part = write_index_file(shared, &now, *base, events, &index);
    let part = part.map_err(|error| storage_failed("index", path, io::Error::other(error)))?;
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

/// Gives the name of a segment to its clustered bytes, once they are durable and verified to be
/// the same segment. If this fails, nothing has changed, unless the last step failed: then the
/// name leads to the old or to the new file.
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
    // An earlier attempt may have left one.
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
                return Err(io::Error::other("it reads differently from what was written"));
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

/// The parts of the first segment from `from` on that can be clustered, as far as the catalog shows
/// without reading a header; empty if there is none.
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
