//! Positions of sources only grow, and refusals name the position that is stored.

use std::collections::HashMap;

use super::{
    Report,
    book::{Book, Fate, append_of},
};
use crate::testing::history::{
    answer::{Answer, RefusalRecord},
    file::CallRecord,
    record::TrackingRecord,
    violation::ViolationKind,
};

/// A stored position of a source.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrackingWrite<'o> {
    pub(super) operation: &'o CallRecord,
    pub(super) position: u64,
    /// The head when it was stored.
    pub(super) at: u64,
    has_events: bool,
    /// Reading of the clock when it was accepted, if a client knows it.
    accepted: Option<u64>,
}

/// The stored positions of each source, in the order of the log. A commit without events leaves no
/// trace once another one follows, so those with an unknown outcome are not here.
pub(super) fn writes<'o>(book: &Book<'o>) -> HashMap<&'o str, Vec<TrackingWrite<'o>>> {
    let mut writes: HashMap<&str, Vec<TrackingWrite<'o>>> = HashMap::new();
    let mut add = |operation: &'o CallRecord, at: u64, has_events: bool| {
        let tracking = append_of(operation).and_then(|append| append.tracking.as_ref());
        let Some(given) = tracking else { return };
        let accepted = Fate::of(operation).receipt().map(|receipt| receipt.accepted);
        let position = given.position;
        let write = TrackingWrite { operation, position, at, has_events, accepted };
        writes.entry(&given.source).or_default().push(write);
    };
    for (operation, (_, last)) in book.written() {
        add(operation, last, true);
    }
    for operation in book.operations {
        let has_no_events = append_of(operation).is_some_and(|append| append.events.is_empty());
        if let Fate::Acknowledged(receipt) = Fate::of(operation)
            && has_no_events
            && !book.may_be_lost_alone(operation.call.round, receipt.last)
        {
            add(operation, receipt.last, false);
        }
    }
    for writes in writes.values_mut() {
        writes.sort_by_key(|write| (write.at, !write.has_events, write.position));
    }
    writes
}

/// Whether the position of a source may come from a commit without events whose outcome no client
/// knows.
pub(super) fn may_be_unknown(book: &Book<'_>, source: &str, position: u64) -> bool {
    book.operations.iter().any(|operation| {
        let tracking = append_of(operation).and_then(|append| append.tracking.as_ref());
        let is_it =
            tracking.is_some_and(|given| given.source == source && given.position == position);
        let fate = Fate::of(operation);
        // One that a kill may have cost can have survived, too.
        let is_spared = append_of(operation).is_some_and(|append| append.events.is_empty())
            && fate
                .receipt()
                .is_some_and(|receipt| book.may_be_lost_alone(operation.call.round, receipt.last));
        is_it && (is_spared || matches!(fate, Fate::Unknown(_)))
    })
}

pub(super) fn check(book: &Book<'_>, report: &mut Report) {
    let writes = writes(book);
    for (source, writes) in &writes {
        for pair in writes.windows(2) {
            let [before, after] = [pair[0], pair[1]];
            if after.position <= before.position {
                let text = format!(
                    "{source} was stored up to {} at head {}, and then up to {} at head {}",
                    before.position, before.at, after.position, after.at
                );
                report.add(ViolationKind::WrongTracking, Some(after.operation.call), text);
            }
        }
    }
    lost_alone(book, &writes, report);
    for operation in book.operations {
        let Some((time, Answer::Refused(refusal))) = &operation.completed else { continue };
        if let Some(text) = problem(book, operation, &writes, (*time, refusal)) {
            report.add(ViolationKind::WrongTracking, Some(operation.call), text);
        }
    }
}

/// The newest commit without events of each source is in the log, after each event.
fn lost_alone(
    book: &Book<'_>,
    writes: &HashMap<&str, Vec<TrackingWrite<'_>>>,
    report: &mut Report,
) {
    let mut stored: HashMap<(&str, u64), u64> = HashMap::new();
    for commit in &book.log.alone {
        if let Some(TrackingRecord { source, position }) = &commit.tracking {
            let newest = stored.entry((source, commit.last)).or_default();
            *newest = (*newest).max(*position);
        }
    }
    for (source, writes) in writes {
        for write in writes.iter().filter(|write| !write.has_events) {
            let newest = stored.get(&(*source, write.at)).copied();
            if newest.is_none_or(|newest| newest < write.position) {
                let text = format!(
                    "{source} up to {} was acknowledged at head {}, and the log has {newest:?} \
                     there",
                    write.position, write.at
                );
                report.add(ViolationKind::LostCommit, Some(write.operation.call), text);
            }
        }
    }
}

/// The problem with a refusal, if there is one.
fn problem(
    book: &Book<'_>,
    operation: &CallRecord,
    writes: &HashMap<&str, Vec<TrackingWrite<'_>>>,
    (time, refusal): (u64, &RefusalRecord),
) -> Option<String> {
    let given = append_of(operation).and_then(|append| append.tracking.as_ref());
    let Some(given) = given else {
        let is_about_tracking = matches!(refusal, RefusalRecord::AlreadyTracked { .. });
        return is_about_tracking.then(|| "a request without tracking was refused for it".into());
    };
    let writes = writes.get(given.source.as_str()).map_or(&[][..], Vec::as_slice);
    let earlier = writes
        .iter()
        .filter(|write| write.accepted.is_some_and(|accepted| accepted < operation.invoked));
    let lowest = earlier.map(|write| write.position).max().unwrap_or_default();
    let TrackingRecord { source, position } = given;
    let RefusalRecord::AlreadyTracked { tracked, at } = *refusal else {
        return (lowest >= *position).then(|| {
            format!("{source} was at {lowest}, above {position}, and another check refused first")
        });
    };
    let is_stored = writes
        .iter()
        .any(|write| write.position == tracked && write.at == at && write.operation.invoked < time);
    let is_explained = is_stored
        || book.may_be_lost_alone(operation.call.round, at)
        || may_be_unknown(book, source, tracked);
    let is_right = is_explained && tracked >= *position && tracked >= lowest;
    (!is_right).then(|| {
        format!(
            "{source} up to {position} was refused, because it was stored up to {tracked} at head \
             {at}: the log does not have that, or has a later one"
        )
    })
}
