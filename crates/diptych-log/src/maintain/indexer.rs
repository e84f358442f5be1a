//! Writing the index to files: each part once its records are durable, and one file for a whole
//! segment once that is complete.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use diptych_store::Position;
use parking_lot::{Condvar, Mutex};

use crate::{
    append::accept::Job,
    catalog::{Catalog, IndexPart},
    engine::Engine,
    folder::derived,
    format::segment::Segment,
    index::{Index, IndexFile, index_file, merge},
    maintain::cluster::Progress,
    options::Background,
};

/// Number of parts of about one size that are merged into one.
const RECENT: usize = 4;

/// Work that is never urgent waits until no segment was completed for this long: while many commits
/// come, they get the processor and the disk.
const CALM: Duration = Duration::from_secs(2);
/// Work that has waited for this long is done anyway, with pauses.
const PATIENCE: Duration = Duration::from_secs(30);

/// Parts that wait for the indexer thread. Their number is bounded where they are made.
#[derive(Debug, Default)]
pub(crate) struct Indexer {
    jobs: Mutex<Jobs>,
    work: Condvar,
    pub(crate) clustered: Progress,
}

#[derive(Debug, Default)]
struct Jobs {
    waiting: Vec<Job>,
    stop: bool,
}

/// The next work of the indexer thread.
enum Work {
    Index(Vec<Job>),
    Tidy,
    Stop,
}

impl Indexer {
    /// Waits for jobs, which go first, or until a segment is due to be clustered.
    fn wait(&self, due: Option<Instant>) -> Work {
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
}

impl Engine {
    /// Has these parts written to files: by the indexer thread, or at once if there is none.
    pub(crate) fn index_all(&self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        match self.options.background {
            Background::Inline => {
                for job in jobs {
                    let seals = job.seals;
                    self.index(job);
                    if seals {
                        self.build_filters();
                        self.cluster_at_once();
                    }
                }
            }
            Background::Threads => {
                self.indexer.jobs.lock().waiting.extend(jobs);
                self.indexer.work.notify_one();
            }
        }
    }

    /// The indexer thread.
    pub(crate) fn run_indexer(&self) {
        // Segments of a log that was opened may not be clustered or grouped yet.
        let mut due = Some(Instant::now());
        let mut waits_since = None;
        loop {
            match self.indexer.wait(due) {
                Work::Index(jobs) => {
                    let seals = jobs.iter().any(|job| job.seals);
                    jobs.into_iter().for_each(|job| self.index(job));
                    if seals {
                        let now = Instant::now();
                        let since = *waits_since.get_or_insert(now);
                        due = Some((now + CALM).min(since + PATIENCE));
                    }
                }
                Work::Tidy => {
                    due = self.tidy();
                    waits_since = due.and(waits_since);
                }
                Work::Stop => return,
            }
        }
    }

    /// Does work that is never urgent: builds a group, or else clusters a segment. Answers when to
    /// come again, if there may be more.
    fn tidy(&self) -> Option<Instant> {
        if self.build_next_filter() { Some(Instant::now()) } else { self.cluster_next() }
    }

    /// Indexes the waiting parts, for the indexer thread while it does something that takes long.
    pub(crate) fn index_waiting(&self) {
        let jobs = std::mem::take(&mut self.indexer.jobs.lock().waiting);
        jobs.into_iter().for_each(|job| self.index(job));
    }

    /// Lets the thread end once it has done the waiting work.
    pub(crate) fn stop_indexer(&self) {
        self.indexer.jobs.lock().stop = true;
        self.indexer.work.notify_one();
    }

    pub(crate) fn index(&self, job: Job) {
        // After a failure nothing is written: a part that is missing would be merged over.
        let failed = self.state.lock().failed();
        if !failed && let Err(error) = self.write_part(&job) {
            // The log is whole without it, but without index files memory would fill up.
            self.fail(&error);
        }
        let woken = {
            let mut state = self.state.lock();
            state.waiting_parts = state.waiting_parts.saturating_sub(1);
            std::mem::take(&mut state.room)
        };
        woken.into_iter().for_each(std::task::Waker::wake);
    }

    fn write_part(&self, job: &Job) -> Result<(), String> {
        if let Some(part) = &job.part {
            // Nothing is added to the part any more, so this lock holds up no reader.
            let encoded = part.ask(self.disk(), |index| match index {
                Index::Memory(columns) => (
                    index_file::encode(columns, &job.coverage, self.seed),
                    columns.first,
                    columns.len(),
                ),
                Index::File(run) => (
                    index_file::encode(&run.columns(), &job.coverage, self.seed),
                    run.first(),
                    run.len(),
                ),
            });
            let (bytes, first, events) = encoded.map_err(|error| error.to_string())?;
            let written = self.write_run(&job.segment, first, events, &bytes)?;
            self.replace(std::slice::from_ref(part), written);
        }
        let parts = self.parts_in_files(&job.segment);
        if job.seals {
            self.merge(job, &parts)?;
            job.segment.seal();
        } else if let Some(recent) = recent(&parts) {
            self.merge(job, recent)?;
        }
        Ok(())
    }

    fn parts_in_files(&self, segment: &Arc<Segment>) -> Vec<Arc<IndexPart>> {
        let of_segment =
            |part: &&Arc<IndexPart>| Arc::ptr_eq(&part.segment, segment) && part.path().is_some();
        self.catalog().parts.iter().filter(of_segment).cloned().collect()
    }

    pub(crate) fn write_run(
        &self,
        segment: &Arc<Segment>,
        first: Position,
        events: u32,
        bytes: &[u8],
    ) -> Result<IndexPart, String> {
        let last = first.plus(u64::from(events)).before();
        let path = self.folders.index.join(index_file::file_name(segment.sequence, first, last));
        let failed = |error: io::Error| format!("cannot write {}: {error}", path.display());
        derived::write(self.disk(), &path, bytes).map_err(failed)?;
        let run = self.disk().map(&path).map_err(failed)?;
        let (run, _) = IndexFile::parse(run)
            .ok_or_else(|| format!("{} is not what was written a moment ago", path.display()))?;
        Ok(IndexPart::loaded(segment.clone(), path, run))
    }

    /// Merges the files of these parts into one. The job is about the last part.
    fn merge(&self, job: &Job, parts: &[Arc<IndexPart>]) -> Result<(), String> {
        let [first, _, ..] = parts else { return Ok(()) };
        let runs =
            parts.iter().map(|part| part.run(self.disk()).map_err(|error| error.to_string()));
        let runs = runs.collect::<Result<Vec<_>, _>>()?;
        let events = runs.iter().map(IndexFile::len).sum();
        let merged = merge::merge(&runs, &job.coverage, self.seed);
        // A part between them could not be written to a file: they stay as they are.
        let Some(merged) = merged else { return Ok(()) };
        let merged = self.write_run(&job.segment, first.first, events, &merged)?;
        self.replace(parts, merged);
        for path in parts.iter().filter_map(|part| part.path()) {
            derived::remove_needless(self.disk(), path);
        }
        Ok(())
    }

    pub(crate) fn replace(&self, old: &[Arc<IndexPart>], new: IndexPart) {
        let mut catalog = self.catalog.write();
        let replaced: Catalog = catalog.replaced(old, Arc::new(new));
        *catalog = Arc::new(replaced);
    }
}

/// The last parts of a segment, if at least [`RECENT`] of them are of about one size. They should
/// be merged into one file, because every look-up searches each file.
fn recent(parts: &[Arc<IndexPart>]) -> Option<&[Arc<IndexPart>]> {
    let newest = parts.last()?.events();
    let alike = |part: &&Arc<IndexPart>| part.events() <= newest.saturating_mul(2);
    let count = parts.iter().rev().take_while(alike).count();
    (count >= RECENT).then(|| parts.get(parts.len() - count..)).flatten()
}

/// Whether these parts, given by first and last position, cover `first..=last` without a gap.
pub(crate) fn covers(parts: &[(Position, Position)], first: Position, last: Position) -> bool {
    let end = parts
        .iter()
        .try_fold(first, |next, (from, to)| (*from == next && to >= from).then(|| to.plus(1)));
    end == Some(last.plus(1))
}
