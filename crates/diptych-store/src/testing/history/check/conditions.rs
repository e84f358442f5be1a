//! Conditions are evaluated again, over the log at the place of each commit.

use super::{
    Report,
    book::{Book, Fate, append_of},
};
use crate::testing::history::{
    answer::{Answer, RefusalRecord},
    file::CallRecord,
    record::AppendRecord,
    violation::ViolationKind,
};

pub(super) fn check(book: &Book<'_>, report: &mut Report) {
    for (operation, (first, _)) in book.written() {
        holds(book, operation, first - 1, report);
    }
    for operation in book.operations {
        let Some(append) = append_of(operation) else { continue };
        match &operation.completed {
            Some((_, Answer::Committed(receipt))) if append.events.is_empty() => {
                let upto = receipt.last.min(book.end(operation.call.round));
                holds(book, operation, upto, report);
            }
            Some((time, Answer::Refused(RefusalRecord::Conflict { at, after }))) => {
                let conflict = Conflict { at: *at, after: *after, answered: *time };
                if let Some(problem) = conflict.problem(book, operation, append) {
                    report.add(ViolationKind::WrongRefusal, Some(operation.call), problem);
                }
            }
            Some((_, Answer::Refused(RefusalRecord::Other(text)))) => {
                report.add(ViolationKind::WrongRefusal, Some(operation.call), text);
            }
            _ => {}
        }
    }
}

/// No condition of an accepted commit has a match up to the position before the commit.
fn holds(book: &Book<'_>, operation: &CallRecord, upto: u64, report: &mut Report) {
    let Some(append) = append_of(operation) else { return };
    for condition in &append.conditions {
        let Some(at) = book.log.last(&condition.fail_if, condition.after.saturating_add(1)..=upto)
        else {
            continue;
        };
        let is_old = book.accepted_at(at).is_some_and(|time| time < operation.invoked);
        let (kind, when) = match is_old {
            true => (ViolationKind::IgnoredCondition, "before it was requested"),
            false => (ViolationKind::StaleCondition, "by a concurrent request"),
        };
        let text = format!(
            "it was accepted after {upto}, although `{}` after {} matches {}, written {when}",
            condition.fail_if,
            condition.after,
            book.named(at)
        );
        report.add(kind, Some(operation.call), text);
    }
}

/// A refusal by a condition.
struct Conflict {
    at: u64,
    after: u64,
    /// Reading of the clock when the refusal was there.
    answered: u64,
}

impl Conflict {
    fn problem(
        &self,
        book: &Book<'_>,
        operation: &CallRecord,
        append: &AppendRecord,
    ) -> Option<String> {
        let Conflict { at, after, answered } = *self;
        if book.is_lost(operation.call.round, at) {
            return None;
        }
        if let Fate::Absent = Fate::of(operation)
            && at > book.log.head()
        {
            return Some(format!("the refusal names position {at}, which the log does not have"));
        }
        let matching = append.conditions.iter().filter(|condition| {
            condition.after < at && !book.log.matching(&condition.fail_if, at..=at).is_empty()
        });
        let lowest = matching.map(|condition| condition.after).min();
        match lowest {
            None => return Some(format!("no condition forbids {}", book.named(at))),
            Some(lowest) if lowest != after => {
                return Some(format!(
                    "the refusal names the condition after {after}, and {lowest} is the lowest of \
                     those that forbid position {at}"
                ));
            }
            Some(_) => {}
        }
        if book.writer(at).is_some_and(|writer| writer.invoked > answered) {
            return Some(format!("{} was requested after the refusal", book.named(at)));
        }
        let earlier = book.accepted.before(operation.invoked);
        let later = append.conditions.iter().filter_map(|condition| {
            let from = condition.after.max(at).saturating_add(1);
            book.log.last(&condition.fail_if, from..=earlier)
        });
        later.max().map(|later| {
            format!(
                "the refusal names position {at}, and {}, which a condition forbids too, was \
                 accepted before the request",
                book.named(later)
            )
        })
    }
}
