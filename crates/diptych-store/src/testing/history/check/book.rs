//! The facts that several checks ask for: the place of each commit, and the log at a moment.

use std::collections::{BTreeMap, HashMap};

use super::Survival;
use crate::testing::history::{
    answer::{Answer, Receipt},
    file::CallRecord,
    line::{Opening, Question},
    log_model::LogModel,
    record::AppendRecord,
};

/// The outcome of an append, as its client knows it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate<'o> {
    Acknowledged(&'o Receipt),
    /// The receipt is there if the commit was accepted.
    Unknown(Option<&'o Receipt>),
    /// Nothing was written.
    Absent,
}

impl<'o> Fate<'o> {
    pub(super) fn of(operation: &'o CallRecord) -> Fate<'o> {
        match &operation.completed {
            None => Fate::Unknown(None),
            Some((_, Answer::Committed(receipt))) => Fate::Acknowledged(receipt),
            Some((_, Answer::Unknown { accepted, .. })) => Fate::Unknown(accepted.as_ref()),
            Some(_) => Fate::Absent,
        }
    }

    pub(super) fn receipt(self) -> Option<&'o Receipt> {
        match self {
            Fate::Acknowledged(receipt) => Some(receipt),
            Fate::Unknown(receipt) => receipt,
            Fate::Absent => None,
        }
    }
}

/// The operations and the log, put together.
#[derive(Debug)]
pub(super) struct LogMatch {
    /// For each operation, the index of its commit in the log.
    pub(super) commits: Vec<Option<usize>>,
    /// For each position, the index of the operation whose event is there, even if the rest of its
    /// commit is not.
    pub(super) authors: HashMap<u64, usize>,
}

/// The arguments of the call, if it is an append.
pub(super) fn append_of(operation: &CallRecord) -> Option<&AppendRecord> {
    match &operation.question {
        Question::Append(append) => Some(append),
        _ => None,
    }
}

/// The highest number that was reached before a time.
#[derive(Debug, Default)]
pub(super) struct Timeline(Vec<(u64, u64)>);

impl Timeline {
    fn of(points: impl Iterator<Item = (u64, u64)>) -> Timeline {
        let mut points: Vec<_> = points.collect();
        points.sort_unstable();
        let mut highest = 0;
        for (_, number) in &mut points {
            highest = highest.max(*number);
            *number = highest;
        }
        Timeline(points)
    }

    pub(super) fn before(&self, time: u64) -> u64 {
        let count = self.0.partition_point(|(at, _)| *at < time);
        count.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// For each round, the last position up to which its log is that of the end.
pub(super) fn ends(openings: &[&Opening], head: u64, survival: Survival) -> BTreeMap<u64, u64> {
    let (mut ends, mut end) = (BTreeMap::new(), head);
    for opening in openings.iter().rev() {
        ends.insert(opening.round, end);
        if survival == Survival::Prefix {
            end = end.min(opening.head);
        }
    }
    ends
}

/// A history with its log.
#[derive(Debug)]
pub(super) struct Book<'o> {
    pub(super) log: LogModel<'o>,
    pub(super) operations: &'o [CallRecord],
    pub(super) survival: Survival,
    /// For each operation, the index of its commit in the log.
    commits: Vec<Option<usize>>,
    /// For each position, the index of the operation that wrote the event.
    writers: Vec<Option<usize>>,
    ends: BTreeMap<u64, u64>,
    /// Positions of commits by the time when they were accepted.
    pub(super) accepted: Timeline,
    /// Positions of commits by the time when they were acknowledged.
    pub(super) acknowledged: Timeline,
    /// Positions of events by the time when they were requested.
    pub(super) requested: Timeline,
}

impl<'o> Book<'o> {
    pub(super) fn new(
        log: LogModel<'o>,
        operations: &'o [CallRecord],
        found: LogMatch,
        openings: &[&Opening],
        survival: Survival,
    ) -> Book<'o> {
        let LogMatch { commits, authors } = found;
        let author = |position: u64| authors.get(&position).copied();
        let writers: Vec<_> = (1..=log.head()).map(author).collect();
        let ends = ends(openings, log.head(), survival);
        let empty = Timeline::default;
        let book = Book {
            log,
            operations,
            survival,
            commits,
            writers,
            ends,
            accepted: empty(),
            acknowledged: empty(),
            requested: empty(),
        };
        let written = || book.written().collect::<Vec<_>>().into_iter();
        let accepted = written().filter_map(|(operation, (_, last))| {
            Fate::of(operation).receipt().map(|receipt| (receipt.accepted, last))
        });
        let accepted = Timeline::of(accepted);
        let acknowledged = written().filter_map(|(operation, (_, last))| {
            let time = operation.completed.as_ref().map(|(time, _)| *time);
            matches!(Fate::of(operation), Fate::Acknowledged(_)).then_some((time?, last))
        });
        let acknowledged = Timeline::of(acknowledged);
        let requested = (1..=book.log.head()).map(|position| {
            let writer = book.writer(position);
            (writer.map_or(0, |writer| writer.invoked), position)
        });
        let requested = Timeline::of(requested);
        Book { accepted, acknowledged, requested, ..book }
    }

    /// The operations whose commits are in the log, with their positions there.
    pub(super) fn written(&self) -> impl Iterator<Item = (&'o CallRecord, (u64, u64))> {
        let all = self.operations.iter().zip(&self.commits);
        all.filter_map(|(operation, commit)| Some((operation, self.positions((*commit)?))))
    }

    fn positions(&self, commit: usize) -> (u64, u64) {
        let record = self.log.commits[commit];
        (record.first, record.last)
    }

    /// The operation that wrote the event at this position.
    pub(super) fn writer(&self, position: u64) -> Option<&'o CallRecord> {
        let index = usize::try_from(position.checked_sub(1)?).ok()?;
        (*self.writers.get(index)?).map(|operation| &self.operations[operation])
    }

    /// The time when the commit with this event was accepted, if a client knows it.
    pub(super) fn accepted_at(&self, position: u64) -> Option<u64> {
        Fate::of(self.writer(position)?).receipt().map(|receipt| receipt.accepted)
    }

    /// The last position up to which the log of this round is that of the end.
    pub(super) fn end(&self, round: u64) -> u64 {
        self.ends.get(&round).copied().unwrap_or_else(|| self.log.head())
    }

    /// Whether nothing can be said about this position of this round, because it was lost.
    pub(super) fn is_lost(&self, round: u64, position: u64) -> bool {
        self.survival == Survival::Prefix && position > self.end(round)
    }

    /// Whether a commit without events, which was accepted at this head, may be lost although the
    /// events up to the head survived.
    pub(super) fn may_be_lost_alone(&self, round: u64, head: u64) -> bool {
        let is_last = self.ends.last_key_value().is_none_or(|(last, _)| *last == round);
        self.survival == Survival::Prefix && !is_last && head >= self.end(round)
    }

    /// A position with the call that wrote it, for messages.
    pub(super) fn named(&self, position: u64) -> String {
        match self.writer(position) {
            Some(CallRecord { call, .. }) => format!(
                "position {position} (call {} of client {} in round {})",
                call.number, call.client, call.round
            ),
            None => format!("position {position}"),
        }
    }
}
