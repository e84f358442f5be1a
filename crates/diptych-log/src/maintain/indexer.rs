//! Writes the index to files: each part once its records are durable. Once a segment is complete,
//! its files are merged into one.

use std::{io, sync::Arc, time::Duration};

use diptych_store::{Position, ReadError};

use crate::{
    catalog::{part::IndexPart, segment::Segment},
    error::WriteFailure,
    folder::derived,
    index::{Coverage, Index, IndexFile, index_file, merge},
    options::Tuning,
    shared::SharedState,
    sync::{Condvar, Instant, Mutex},
};

/// Number of parts of about the same size that are merged into one.
const RECENT: usize = 4;

/// A part of the index to write to a file once the records that it covers are durable.
#[derive(Debug)]
pub(crate) struct IndexJob {
    pub(crate) segment: Arc<Segment>,
    /// `None` if index files already have all events that this job covers.
    pub(crate) part: Option<Arc<IndexPart>>,
    pub(crate) coverage: Coverage,
    /// Whether this is the last part of its segment: then all its parts are merged into one file.
    pub(crate) seals: bool,
}

/// Parts of the index that wait for the indexer thread. [`Tuning::waiting_parts`] bounds them.
#[derive(Debug, Default)]
pub(crate) struct Indexer {
    jobs: Mutex<Jobs>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct Jobs {
    waiting: Vec<IndexJob>,
    /// An append waits for the next attempt.
    hurry: bool,
    stop: bool,
}

/// The next work of the indexer thread.
pub(crate) enum Work {
    /// Parts to write to files.
    Index(Vec<IndexJob>),
    /// Work that is never urgent: segment filters, clustering.
    Tidy,
    Stop,
}

/// Decides when the indexer thread does work that is never urgent: once no segment was completed
/// for [`Tuning::tidy_after`]. Until then the commits have the processor and the disk. The work
/// starts after [`Tuning::tidy_at_latest`] even if segments are completed all the time.
#[derive(Debug)]
pub(crate) struct TidyTimer {
    due: Option<Instant>,
    waits_since: Option<Instant>,
}

impl TidyTimer {
    /// A timer that is due at once, because a log that was just opened may have segments that are
    /// not clustered or have no filter.
    pub(crate) fn due_now() -> TidyTimer {
        TidyTimer { due: Some(Instant::now()), waits_since: None }
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Postpones the work, because a segment was completed.
    pub(crate) fn postpone(&mut self, tuning: &Tuning) {
        let now = Instant::now();
        let since = *self.waits_since.get_or_insert(now);
        // A limit is ignored if the clock cannot express its instant.
        let (soon, latest) =
            (now.checked_add(tuning.tidy_after), since.checked_add(tuning.tidy_at_latest));
        self.due = soon.into_iter().chain(latest).min();
    }

    /// Sets when there may be more work, after some was done; `None` if there is no more.
    pub(crate) fn set(&mut self, next: Option<Instant>) {
        self.due = next;
        self.waits_since = next.and(self.waits_since);
    }
}

impl Indexer {
    /// Gives these parts to the indexer thread, which writes them to files.
    pub(crate) fn hand_over(&self, jobs: Vec<IndexJob>) {
        self.jobs.lock().waiting.extend(jobs);
        self.work.notify_one();
    }

    /// Waits until there are jobs or the work that is never urgent is due. Jobs go first.
    pub(crate) fn wait(&self, due: Option<Instant>) -> Work {
        let mut jobs = self.jobs.lock();
        loop {
            if !jobs.waiting.is_empty() {
                return Work::Index(std::mem::take(&mut jobs.waiting));
            }
            match due {
                _ if jobs.stop => return Work::Stop,
                None => self.work.wait(&mut jobs),
                Some(due) if Instant::now() >= due => return Work::Tidy,
                Some(due) => drop(self.work.wait_until(&mut jobs, due)),
            }
        }
    }

    /// Takes the waiting parts. The indexer thread calls this in the middle of long work.
    pub(crate) fn take_waiting(&self) -> Vec<IndexJob> {
        std::mem::take(&mut self.jobs.lock().waiting)
    }

    /// Ends the wait before the next attempt.
    pub(crate) fn hurry(&self) {
        self.jobs.lock().hurry = true;
        self.work.notify_one();
    }

    /// Waits before failed work is tried again. Returns `false` if the thread should end instead.
    pub(crate) fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut jobs = self.jobs.lock();
        while !jobs.stop {
            if std::mem::take(&mut jobs.hurry) {
                return true;
            }
            if self.work.wait_until(&mut jobs, until).timed_out() {
                return !jobs.stop;
            }
        }
        false
    }

    /// Tells the thread to end once it has done the waiting work.
    pub(crate) fn stop(&self) {
        self.jobs.lock().stop = true;
        self.work.notify_one();
    }
}

/// Writes a part of the index to a file, and merges files of its segment.
///
/// After an error the log is still whole, and this can be called again. But if every call fails,
/// the log must stop at some time: without index files the index in memory would grow for ever.
pub(crate) fn write_part(shared: &SharedState, job: &mut IndexJob) -> Result<(), WriteFailure> {
    let seed = shared.seed();
    if let Some(part) = &job.part {
        // The part no longer grows, so no writer waits for this lock, and no reader behind a
        // writer.
        let encoded = part.ask(shared.disk(), |index| match index {
            Index::Memory(columns) => {
                (index_file::encode(columns, &job.coverage, seed), columns.first, columns.len())
            }
            Index::File(file) => {
                let bytes = index_file::encode(&file.columns(), &job.coverage, seed);
                (bytes, file.first(), file.len())
            }
        });
        let (bytes, first, events) = encoded.map_err(stops)?;
        let written = write_index_file(shared, &job.segment, first, events, &bytes)?;
        shared.live_catalog().replace_parts(std::slice::from_ref(part), written);
        // If the merge fails, the next attempt begins with the merge.
        job.part = None;
    }
    let parts = parts_in_files(shared, &job.segment);
    if job.seals {
        merge(shared, job, &parts)?;
        job.segment.seal();
    } else if let Some(recent) = recent(&parts) {
        merge(shared, job, recent)?;
    }
    Ok(())
}

fn parts_in_files(shared: &SharedState, segment: &Arc<Segment>) -> Vec<Arc<IndexPart>> {
    let of_segment =
        |part: &&Arc<IndexPart>| Arc::ptr_eq(&part.segment, segment) && part.path().is_some();
    let catalog = shared.catalog();
    catalog.of_segment(segment.sequence).iter().filter(of_segment).cloned().collect()
}

pub(crate) fn write_index_file(
    shared: &SharedState,
    segment: &Arc<Segment>,
    first: Position,
    events: u32,
    bytes: &[u8],
) -> Result<IndexPart, WriteFailure> {
    let last = first.plus(u64::from(events)).before();
    let path = shared.folders().index.join(index_file::file_name(segment.sequence, first, last));
    let failed = |error: io::Error| WriteFailure::of("write", &path, error);
    derived::write(shared.disk(), &path, bytes).map_err(failed)?;
    let run = shared.maps().map(shared.disk(), &path).map_err(failed)?;
    let (run, _) = IndexFile::parse(run)
        .ok_or_else(|| format!("{} does not have the bytes just written", path.display()))?;
    Ok(IndexPart::loaded(segment.clone(), path, run))
}

/// Merges the files of these parts into one. `job` is the job of the last part.
fn merge(
    shared: &SharedState,
    job: &IndexJob,
    parts: &[Arc<IndexPart>],
) -> Result<(), WriteFailure> {
    let [first, _, ..] = parts else { return Ok(()) };
    let runs = parts.iter().map(|part| part.run(shared.disk()).map_err(stops));
    let runs = runs.collect::<Result<Vec<_>, _>>()?;
    let events = runs.iter().map(IndexFile::len).sum();
    let merged = merge::merge(&runs, &job.coverage, shared.seed());
    // If a part between them has no file, they cannot be merged, and stay as they are.
    let Some(merged) = merged else { return Ok(()) };
    // Readers may still use these parts after their files were removed.
    let pinned = parts.iter().try_for_each(|part| part.pin(shared.disk()));
    pinned.map_err(stops)?;
    let merged = write_index_file(shared, &job.segment, first.first, events, &merged)?;
    shared.live_catalog().replace_parts(parts, merged);
    for path in parts.iter().filter_map(|part| part.path()) {
        derived::remove_needless(shared.disk(), path);
    }
    Ok(())
}

fn stops(error: ReadError) -> WriteFailure {
    WriteFailure::Stops(error.to_string())
}

/// The last parts of a segment, if at least [`RECENT`] of them are of about the same size. They
/// should be merged into one file, because every look-up searches each file.
fn recent(parts: &[Arc<IndexPart>]) -> Option<&[Arc<IndexPart>]> {
    let newest = parts.last()?.events();
    let alike = |part: &&Arc<IndexPart>| part.events() <= newest.saturating_mul(2);
    let count = parts.iter().rev().take_while(alike).count();
    (count >= RECENT).then(|| parts.get(parts.len() - count..)).flatten()
}
