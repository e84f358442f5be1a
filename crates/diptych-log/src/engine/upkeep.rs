//! Upkeep: index files for the commits that are durable, then segment filters and clustering.

use std::time::Duration;

use diptych_store::{ReadError, Unavailable};

use super::Engine;
use crate::{
    error::WriteFailure,
    maintain::{
        cluster::{Breaks, Clusterer, Step},
        filters,
        indexer::{self, IndexJob, TidyTimer, Work},
    },
    options::Clustering,
    sync::Instant,
};

/// The pause while another thread clusters.
const BUSY: Duration = Duration::from_millis(50);
/// The pause before the index is written again after a failure. It doubles with each attempt.
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause after a segment was clustered, whatever the multiple.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

impl Engine {
    /// Has these parts written to files: by the indexer thread, or at once if there is none.
    pub(super) fn index_all(&self, jobs: Vec<IndexJob>) {
        if jobs.is_empty() {
            return;
        }
        self.indexer.hand_over(jobs);
        if self.is_inline() {
            self.index_waiting();
        }
    }

    /// Writes the parts that wait, in a log without threads. Those for which there is no space wait
    /// on.
    fn index_waiting(&self) {
        let mut jobs = self.indexer.take_waiting().into_iter();
        while let Some(job) = jobs.next() {
            let seals = job.seals;
            if let Some(job) = self.index(job) {
                return self.indexer.hand_over(std::iter::once(job).chain(jobs).collect());
            }
            if seals {
                filters::build_all(&self.shared);
                self.cluster_at_once();
            }
        }
    }

    /// Tries again to write the parts for which there was no space.
    pub(super) fn index_again(&self) {
        if self.is_inline() && self.acceptor.is_paused() {
            self.index_waiting();
        }
    }

    /// Has the indexer thread try again now, for an append that waits for it.
    pub(super) fn hurry_index(&self) {
        if self.acceptor.is_paused() && self.acceptor.index_paused().is_some() {
            self.indexer.hurry();
        }
    }

    /// The indexer thread.
    pub(crate) fn run_indexer(&self) {
        let mut timer = TidyTimer::due_now();
        loop {
            match self.indexer.wait(timer.due()) {
                Work::Index(jobs) => {
                    let seals = jobs.iter().any(|job| job.seals);
                    jobs.into_iter().for_each(|job| drop(self.index(job)));
                    if seals {
                        timer.postpone(&self.shared.options().tuning);
                    }
                }
                Work::Tidy => timer.set(self.tidy()),
                Work::Stop => return,
            }
        }
    }

    /// Writes a part of the index to a file, and frees it before another part may wait. Answers the
    /// part if there is no space for it and no thread that could wait for some.
    fn index(&self, mut job: IndexJob) -> Option<IndexJob> {
        let (mut failing_since, mut pause) = (None, FIRST_RETRY);
        // After a failure nothing is written: a part that is missing would be merged over.
        while !self.acceptor.has_failed()
            && let Err(failure) = indexer::write_part(&self.shared, &mut job)
        {
            let since = *failing_since.get_or_insert_with(Instant::now);
            let patience = self.shared.options().tuning.index_patience;
            let is_late = since.elapsed() >= patience;
            match failure {
                WriteFailure::Full(why) if self.is_inline() => {
                    self.pause_index(why);
                    return Some(job);
                }
                WriteFailure::Full(why) if is_late => self.pause_index(why),
                // Without threads nothing could remove the cause meanwhile.
                failure if is_late || self.is_inline() => {
                    self.fail(&failure.to_string());
                    break;
                }
                failure => tracing::warn!(
                    error = %failure,
                    "the index cannot be written, and is tried again; appends get slow, then wait, \
                     and the log takes no commits after {patience:?}"
                ),
            }
            if !self.indexer.pause(pause) {
                tracing::warn!("the newest part of the index stays in the log");
                return None;
            }
            pause = pause.saturating_mul(2).min(LONGEST_RETRY);
        }
        drop(job);
        self.resume_index();
        self.acceptor.part_is_written();
        None
    }

    /// Does work that is never urgent: builds a segment filter, or else clusters a segment. Answers
    /// when to come again, if there may be more.
    fn tidy(&self) -> Option<Instant> {
        if filters::build_next(&self.shared) { Some(Instant::now()) } else { self.cluster_next() }
    }

    /// Clusters a segment in the background; answers when to come again, if there may be more.
    fn cluster_next(&self) -> Option<Instant> {
        let Some(mut clusterer) = self.clusterer.try_lock() else {
            // A caller of `cluster_all` is at work, and index jobs may come meanwhile.
            return Some(Instant::now() + BUSY);
        };
        self.cluster_or_warn(&mut clusterer)
    }

    /// Clusters every segment that can be clustered, for a log without threads.
    fn cluster_at_once(&self) {
        let mut clusterer = self.clusterer.lock();
        while self.cluster_or_warn(&mut clusterer).is_some() {}
    }

    /// Clusters one segment. After a failure it is tried again when the next segment is sealed, or
    /// by the next open.
    fn cluster_or_warn(&self, clusterer: &mut Clusterer) -> Option<Instant> {
        if self.shared.options().clustering == Clustering::Off {
            return None;
        }
        // Clustering takes longer than the index should wait.
        let between =
            || self.indexer.take_waiting().into_iter().for_each(|job| drop(self.index(job)));
        let archived = self.archived_segments();
        let breaks = Breaks { may_change: &|| self.check_changes(), between: &between, archived };
        match clusterer.cluster_next(&self.shared, &breaks) {
            Ok(Step::Done) => None,
            Ok(Step::Clustered(took)) => {
                let pause = took.saturating_mul(self.shared.options().tuning.cluster_pause);
                Some(Instant::now() + pause.min(LONGEST_PAUSE))
            }
            Ok(Step::Damaged(error)) => {
                tracing::warn!(%error, "a segment is damaged, and stays as it is");
                Some(Instant::now())
            }
            Err(ReadError::Unavailable(error @ Unavailable::Storage { .. })) => {
                tracing::warn!(%error, "a segment cannot be clustered, and stays as it is");
                None
            }
            // The log is closed, or has stopped taking commits.
            Err(_) => None,
        }
    }

    /// Clusters every segment that can be clustered, including those that failed before.
    pub(crate) fn cluster_all(&self) -> Result<(), ReadError> {
        let (mut anew, mut all) = (Clusterer::default(), Ok(()));
        // A segment that is complete for the caller may still wait for its index file.
        self.check_changes()?;
        self.flush().map_err(|error| error.cause)?;
        if !self.is_inline() {
            self.acceptor.wait_for_parts();
        }
        loop {
            let step = {
                let _one_at_a_time = self.clusterer.lock();
                let may_change: &dyn Fn() -> Result<(), ReadError> = &|| self.check_changes();
                let archived = self.archived_segments();
                let breaks = Breaks { may_change, between: &|| {}, archived };
                anew.cluster_next(&self.shared, &breaks)?
            };
            match step {
                Step::Done => return all,
                Step::Clustered(_) => {}
                Step::Damaged(error) => all = all.and(Err(error)),
            }
        }
    }

    /// Whether files may be changed: not those of a backup, none after a failure, and none while
    /// there is no space.
    pub(crate) fn check_changes(&self) -> Result<(), ReadError> {
        self.shared.check_open()?;
        match self.acceptor.ended().or_else(|| self.acceptor.writer_paused()) {
            None => Ok(()),
            Some(why) => Err(why.into()),
        }
    }
}
