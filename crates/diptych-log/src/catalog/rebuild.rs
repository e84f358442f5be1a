//! Building the index of a segment from its frames, and checking that an index file was made from
//! them.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use diptych_store::{
    KeyedCommit, Position, Timestamp,
    encoding::{Fields, Layout},
};

use crate::{
    catalog::segment::SegmentBytes,
    format::{
        chain::{self, Chain, Checkpoint},
        frame::{self, CONTROL, Frame, Link, SECTION, Section},
        recovery::FrameAt,
        segment::{self, Head, Order},
    },
    index::{Columns, Coverage, IndexFile},
};

/// Counts the files of one kind that an open log found unusable. After a restore, or the first open
/// by a newer version, these can be all: so the first is a warning, and the others are counted.
#[derive(Debug)]
pub(crate) struct UnusableFiles {
    kind: &'static str,
    count: AtomicU64,
}

impl UnusableFiles {
    pub(crate) fn new(kind: &'static str) -> UnusableFiles {
        UnusableFiles { kind, count: AtomicU64::new(0) }
    }

    pub(crate) fn note(&self, path: &Path, consequence: &str) {
        let (kind, file) = (self.kind, path.display());
        if self.count.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                %file,
                "{kind} is missing, damaged or of other records: {consequence}; others like it \
                 are counted, and only shown at level debug"
            );
        } else {
            tracing::debug!(%file, "{kind} is missing, damaged or of other records");
        }
    }
}

/// Says how many there were, once the log is closed.
impl Drop for UnusableFiles {
    fn drop(&mut self) {
        let count = *self.count.get_mut();
        if count > 1 {
            tracing::info!(count, "{} was missing, damaged or of other records", self.kind);
        }
    }
}

/// Whether an index file was made from the records of this segment.
pub(crate) fn is_bound(
    run: &IndexFile,
    coverage: &Coverage,
    SegmentBytes { head, bytes }: &SegmentBytes,
    link: Option<Link>,
) -> bool {
    let at_proof = usize::try_from(coverage.proof).ok().and_then(|proof| bytes.get(proof..));
    let chain = match (coverage.proof, link) {
        (proof @ 1.., _) => match at_proof.and_then(|bytes| Checkpoint::at(bytes, head)) {
            Some(checkpoint) => Some(checkpoint.chain),
            // A damaged checkpoint record does not make a whole index file unusable.
            None if head.order == Order::Arrival => chain::by_content(bytes, head, proof as usize),
            None => None,
        },
        (0, Some(link)) => Some(Chain::from_u64(link.chain)),
        (0, None) => Some(chain::sample(bytes, head, run.len(), |at| run.offset(at))),
    };
    chain == Some(coverage.chain)
}

pub(crate) fn sample(columns: &Columns, bytes: &[u8], head: &Head) -> Chain {
    let offset = |at: u32| columns.offsets.get(at as usize).copied();
    chain::sample(bytes, head, columns.len(), offset)
}

/// A checkpoint record that a scan found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    /// Its offset in the order of arrival.
    pub(crate) offset: u64,
    /// Its offset in the clustered segment.
    pub(crate) offset_clustered: u64,
    pub(crate) chain: Chain,
}

/// Columns of some events of a segment, from its frames.
pub(crate) struct Rebuilt {
    base: Position,
    last: Position,
    pub(crate) columns: Columns,
    pub(crate) tracking: frame::TrackingTable,
    /// Offset after the last frame that belongs to it.
    pub(crate) end: u64,
    /// Time of that frame.
    pub(crate) time: u64,
    /// When the last commit was recorded, as far as these frames tell.
    pub(crate) last_commit: Option<LastCommit>,
    /// The running checksum of all frames that were scanned, and of those before.
    pub(crate) chain: Chain,
    /// The first checkpoint record behind the events.
    pub(crate) proof: Option<Proof>,
    /// Bytes of the control records so far.
    control_bytes: u64,
}

/// When the last commit was recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LastCommit {
    /// In this segment, this long after its base time.
    Here(u64),
    /// In a segment before.
    Before(Timestamp),
}

impl Rebuilt {
    /// For the events `first..=last` of a segment whose first position is `base`; `chain` is the
    /// running checksum of what stands before the first frame that will be added.
    pub(crate) fn new(
        base: Position,
        (first, last): (Position, Position),
        chain: Chain,
    ) -> Rebuilt {
        Rebuilt {
            base,
            last,
            columns: Columns::new(first),
            tracking: frame::TrackingTable::new(),
            end: segment::HEADER as u64,
            time: 0,
            last_commit: None,
            chain,
            proof: None,
            control_bytes: 0,
        }
    }

    pub(crate) fn add(&mut self, commit: &[FrameAt<'_>]) {
        let (Some(first), Some(last)) = (commit.first(), commit.last()) else { return };
        let position = self.base.plus(u64::from(first.frame.position));
        commit.iter().for_each(|placed| self.sum(placed, position > self.last));
        if position > self.last {
            return;
        }
        let events = commit.iter().filter(|placed| !placed.frame.has(CONTROL));
        let head = position.plus(events.clone().count() as u64).before();
        if position >= self.columns.first {
            events.for_each(|placed| add_event(&mut self.columns, placed.offset, &placed.frame));
        }
        (self.end, self.time) = (last.offset + last.frame.size() as u64, last.frame.time);
        let section = first.frame.section().unwrap_or_default();
        self.remember(section, position, head, &first.frame);
    }

    /// Adds a frame to the running checksum. The first checkpoint record behind the events becomes
    /// the proof.
    fn sum(&mut self, FrameAt { offset, frame }: &FrameAt<'_>, is_behind: bool) {
        if frame.has(CONTROL) {
            if is_behind && self.proof.is_none() && is_checkpoint(frame) {
                let offset_clustered = segment::HEADER as u64 + self.control_bytes;
                let (offset, chain) = (*offset, self.chain);
                self.proof = Some(Proof { offset, offset_clustered, chain });
            }
            self.control_bytes += frame.size() as u64;
        }
        self.chain.add_frame(frame);
    }

    fn remember(&mut self, section: Section, first: Position, last: Position, frame: &Frame<'_>) {
        if let Some(key) = section.key
            && first >= self.columns.first
        {
            let commit = KeyedCommit { first, last, digest: key.digest };
            self.columns.keys.insert(key.name, commit);
        }
        if let Some(tracking) = section.tracking {
            self.tracking.insert(tracking.source.clone(), (tracking, last));
        }
        let begin = frame.has(CONTROL).then(|| frame.content().and_then(frame::take_begin));
        if let Some((time, table)) = begin.flatten() {
            self.last_commit = Some(LastCommit::Before(time));
            self.tracking = table;
        } else if !frame.has(CONTROL) || frame.has(SECTION) {
            self.last_commit = Some(LastCommit::Here(frame.time));
        }
    }
}

fn is_checkpoint(frame: &Frame<'_>) -> bool {
    frame.content().and_then(frame::take_checkpoint).is_some()
}

fn add_event(columns: &mut Columns, offset: u64, frame: &Frame<'_>) {
    let content = frame.content().unwrap_or(&[]);
    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
    match Layout::of(content) {
        Ok(layout) => {
            let event = Fields::new(content, layout);
            columns.push(offset, event.event_type(), event.tags());
        }
        // The event keeps its position; reading it reports the damage.
        Err(_) => columns.push(offset, "", std::iter::empty()),
    }
}
