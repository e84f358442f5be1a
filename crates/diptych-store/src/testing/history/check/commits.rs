//! Each append is compared with the log: an acknowledged commit is there, a refused one is not, one
//! with an unknown outcome is there whole or not at all.

use std::collections::{BTreeMap, HashMap};

use super::{
    Report, Survival,
    book::{Fate, LogMatch, append_of, ends},
};
use crate::testing::history::{
    answer::{CommitRecord, Receipt},
    file::CallRecord,
    line::Opening,
    log_model::LogModel,
    record::AppendRecord,
    violation::ViolationKind,
};

/// Finds the commit of each operation in the log.
pub(super) fn check(
    log: &LogModel<'_>,
    operations: &[CallRecord],
    openings: &[&Opening],
    survival: Survival,
    report: &mut Report,
) -> LogMatch {
    let mut search = Search {
        places: places(log),
        authors: HashMap::new(),
        ends: ends(openings, log.head(), survival),
        log,
        report,
    };
    let find = |(index, operation)| match append_of(operation) {
        Some(append) if !append.events.is_empty() => search.find(index, operation, append),
        _ => None,
    };
    let commits = operations.iter().enumerate().map(find).collect();
    search.foreign_events();
    let authors = search.authors;
    times(log, report);
    LogMatch { commits, authors }
}

/// The positions of each payload.
fn places<'h>(log: &LogModel<'h>) -> HashMap<&'h str, Vec<u64>> {
    let mut places: HashMap<&str, Vec<u64>> = HashMap::new();
    for commit in &log.commits {
        for (position, event) in (commit.first..).zip(&commit.events) {
            places.entry(event.payload.as_str()).or_default().push(position);
        }
    }
    places
}

/// The recorded times never decrease.
fn times(log: &LogModel<'_>, report: &mut Report) {
    for pair in log.commits.windows(2) {
        let [before, after] = [pair[0], pair[1]];
        if after.recorded_at < before.recorded_at {
            let text = format!(
                "the commit at {} was recorded {} microseconds before the commit at {}",
                after.first,
                before.recorded_at - after.recorded_at,
                before.first
            );
            report.add(ViolationKind::WrongTime, None, text);
        }
    }
}

struct Search<'s, 'h> {
    log: &'s LogModel<'h>,
    places: HashMap<&'h str, Vec<u64>>,
    authors: HashMap<u64, usize>,
    ends: BTreeMap<u64, u64>,
    report: &'s mut Report,
}

impl Search<'_, '_> {
    fn find(
        &mut self,
        index: usize,
        operation: &CallRecord,
        append: &AppendRecord,
    ) -> Option<usize> {
        let call = Some(operation.call);
        let payloads = append.events.iter().map(|event| event.payload.as_str());
        let found: Vec<&[u64]> = payloads
            .map(|payload| self.places.get(payload).map_or(&[][..], Vec::as_slice))
            .collect();
        let all: Vec<u64> = found.iter().flat_map(|places| places.iter().copied()).collect();
        self.authors.extend(all.iter().map(|position| (*position, index)));
        let known = Fate::of(operation);
        if all.is_empty() {
            if let Fate::Acknowledged(receipt) = known {
                self.missing(index, operation, append, receipt);
            }
            return None;
        }
        let mut add = |kind, text| self.report.add(kind, call, text);
        if let Fate::Absent = known {
            let text = format!("the commit was refused, and its events are at {all:?}");
            add(ViolationKind::RefusedCommit, text);
            return None;
        }
        if found.iter().any(|places| places.len() > 1) {
            add(ViolationKind::DoubledCommit, format!("its events are at {all:?}"));
            return None;
        }
        let commit = self.log.commit_at(all[0])?;
        let record = self.log.commits[commit];
        let whole: Vec<u64> = (record.first..=record.last).collect();
        if all != whole || all.len() != append.events.len() {
            let text = format!(
                "its {} events are at {all:?}, where the log has a commit from {} to {}",
                append.events.len(),
                record.first,
                record.last
            );
            add(ViolationKind::HalfCommit, text);
            return None;
        }
        self.compare(operation, append, record);
        Some(commit)
    }

    /// An acknowledged commit is not in the log.
    fn missing(
        &mut self,
        index: usize,
        operation: &CallRecord,
        append: &AppendRecord,
        receipt: &Receipt,
    ) {
        let Receipt { first, last, .. } = *receipt;
        let end = self.ends.get(&operation.call.round).copied().unwrap_or(self.log.head());
        if first > end && end < self.log.head() {
            // It is behind the prefix that survived, which the epoch has to show.
            return;
        }
        let positions = first..=last;
        let is_other = |position: u64| {
            let commit = self.log.commit_at(position).map(|commit| self.log.commits[commit]);
            let record = commit.and_then(|commit| {
                commit.events.get(usize::try_from(position - commit.first).ok()?)
            });
            record.is_some_and(|record| {
                let written = append.events.get((position - first) as usize);
                // The beginning of a payload names its call.
                let name = |text: &str| text.split(':').next().map(str::to_owned);
                written.is_some_and(|event| name(&event.payload) == name(&record.payload))
            })
        };
        let call = Some(operation.call);
        if positions.clone().all(is_other) {
            self.authors.extend(positions.map(|position| (position, index)));
            let text = format!("the events at {first} to {last} have other payloads than written");
            self.report.add(ViolationKind::ChangedCommit, call, text);
        } else {
            let text = format!("it was acknowledged at {first} to {last}, and is not in the log");
            self.report.add(ViolationKind::LostCommit, call, text);
        }
    }

    /// A commit is in the log as it was written, at the positions of its receipt.
    fn compare(&mut self, operation: &CallRecord, append: &AppendRecord, record: &CommitRecord) {
        let call = Some(operation.call);
        let CommitRecord { first, last, .. } = *record;
        let mut add = |kind, text: String| self.report.add(kind, call, text);
        if let Some(receipt) = Fate::of(operation).receipt() {
            if (receipt.first, receipt.last) != (first, last) {
                let text = format!(
                    "its receipt has the positions {} to {}, and it is at {first} to {last}",
                    receipt.first, receipt.last
                );
                add(ViolationKind::WrongReceipt, text);
            }
            if receipt.recorded_at != record.recorded_at {
                let text = format!(
                    "its receipt has the time {}, and it was recorded at {}",
                    receipt.recorded_at, record.recorded_at
                );
                add(ViolationKind::WrongTime, text);
            }
        }
        let changed = |what: &str| format!("the {what} of the commit at {first} is another one");
        for (position, (written, read)) in
            (first..=last).zip(append.events.iter().zip(&record.events))
        {
            let is_as_written = written == read
                && self.log.checksum(position) == self.log.computed_checksum(position);
            if !is_as_written {
                let text = format!("the event at {position} differs from the one that was written");
                add(ViolationKind::ChangedCommit, text);
            }
        }
        if append.key != record.key {
            add(ViolationKind::ChangedCommit, changed("key"));
        }
        if append.tracking != record.tracking {
            add(ViolationKind::ChangedCommit, changed("tracking"));
        }
    }

    fn foreign_events(&mut self) {
        for position in 1..=self.log.head() {
            if !self.authors.contains_key(&position) {
                let text = format!("no client wrote the event at {position}");
                self.report.add(ViolationKind::ForeignEvent, None, text);
            }
        }
    }
}
