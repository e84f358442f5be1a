//! Starts of the store, and the order of commits in time.

use std::collections::BTreeMap;

use super::{
    Report, Survival,
    book::{Book, Fate, append_of},
};
use crate::testing::history::{answer::Answer, line::Opening, violation::ViolationKind};

pub(super) fn check(
    book: &Book<'_>,
    openings: &[&Opening],
    kills: &BTreeMap<u64, u64>,
    report: &mut Report,
) {
    identities(book, openings, report);
    order(book, report);
    for operation in book.operations {
        let (time, error) = match &operation.completed {
            Some((time, Answer::Unavailable { error } | Answer::Unknown { error, .. })) => {
                (time, error)
            }
            _ => continue,
        };
        if kills.get(&operation.call.round).is_none_or(|kill| time < kill) {
            let text = format!("{} failed before a kill: {error}", operation.question);
            report.add(ViolationKind::UnexpectedError, Some(operation.call), text);
        }
    }
}

/// The id of the log never changes. Its epoch changes if acknowledged commits are lost, and it may
/// change when the store was killed.
fn identities(book: &Book<'_>, openings: &[&Opening], report: &mut Report) {
    for pair in openings.windows(2) {
        let [before, after] = [pair[0], pair[1]];
        if before.log != after.log {
            let text = format!("the log of round {} has another id", after.round);
            report.add(ViolationKind::ChangedIdentity, None, text);
        }
        let is_before = |round: u64| round < after.round;
        let acknowledged = book.operations.iter().filter_map(|operation| {
            let Fate::Acknowledged(receipt) = Fate::of(operation) else { return None };
            let has_events = append_of(operation).is_some_and(|append| !append.events.is_empty());
            let counts = has_events && operation.call.round == before.round;
            counts.then_some(receipt.last)
        });
        let highest = acknowledged.max().unwrap_or_default();
        let is_lost = is_before(before.round) && highest > after.head;
        if book.survival == Survival::Prefix && is_lost && before.epoch == after.epoch {
            let text = format!(
                "round {} begins at {}, {highest} was acknowledged before, and the epoch is still \
                 {}",
                after.round, after.head, after.epoch
            );
            report.add(ViolationKind::KeptEpoch, None, text);
        }
    }
    for operation in book.operations {
        let Some((_, Answer::Connected { log, epoch, .. })) = &operation.completed else {
            continue;
        };
        let mut of_round = openings.iter().filter(|opening| opening.round == operation.call.round);
        if of_round.any(|opening| opening.log != *log || opening.epoch != *epoch) {
            let text = format!("a handle has the log {log} and the epoch {epoch}");
            report.add(ViolationKind::ChangedIdentity, Some(operation.call), text);
        }
    }
}

/// A commit that was accepted before another was requested has the lower positions.
fn order(book: &Book<'_>, report: &mut Report) {
    for (operation, (first, last)) in book.written() {
        let earlier = book.accepted.before(operation.invoked);
        if earlier >= first {
            let text = format!(
                "it is at {first} to {last}, and {} was accepted before the request",
                book.named(earlier)
            );
            report.add(ViolationKind::RealTimeOrder, Some(operation.call), text);
        }
    }
    for operation in book.operations {
        let has_no_events = append_of(operation).is_some_and(|append| append.events.is_empty());
        let Fate::Acknowledged(receipt) = Fate::of(operation) else { continue };
        let earlier = book.accepted.before(operation.invoked);
        if has_no_events && !book.is_lost(operation.call.round, earlier) && receipt.last < earlier {
            let text = format!(
                "it was checked against the log up to {}, and {} was accepted before the request",
                receipt.last,
                book.named(earlier)
            );
            report.add(ViolationKind::RealTimeOrder, Some(operation.call), text);
        }
    }
}
