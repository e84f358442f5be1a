//! A key has one commit, and a repeated request gets the receipt of that commit.

use std::collections::HashMap;

use super::{
    Report,
    book::{Book, append_of},
};
use crate::testing::history::{
    answer::{Answer, RefusalRecord},
    file::CallRecord,
    record::KeyRecord,
    violation::ViolationKind,
};

/// A commit of the log with a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyUse<'o> {
    pub(super) operation: &'o CallRecord,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) digest: &'o str,
}

/// The commits of each key, in the order of the log.
pub(super) fn uses<'o>(book: &Book<'o>) -> HashMap<&'o str, Vec<KeyUse<'o>>> {
    let mut uses: HashMap<&str, Vec<KeyUse<'o>>> = HashMap::new();
    for (operation, (first, last)) in book.written() {
        let key = append_of(operation).and_then(|append| append.key.as_ref());
        if let Some(KeyRecord { name, digest }) = key {
            uses.entry(name).or_default().push(KeyUse { operation, first, last, digest });
        }
    }
    for uses in uses.values_mut() {
        uses.sort_by_key(|used| used.first);
    }
    uses
}

pub(super) fn check(book: &Book<'_>, report: &mut Report) {
    let uses = uses(book);
    for (name, uses) in &uses {
        for pair in uses.windows(2) {
            let [before, after] = [pair[0], pair[1]];
            let text = format!("the key {name} has the commit at {} already", before.first);
            report.add(ViolationKind::KeyUsedTwice, Some(after.operation.call), text);
        }
    }
    for operation in book.operations {
        let key = append_of(operation).and_then(|append| append.key.as_ref());
        let (Some(key), Some((time, answer))) = (key, &operation.completed) else { continue };
        let uses = uses.get(key.name.as_str()).map_or(&[][..], Vec::as_slice);
        if let Some(problem) = problem(book, operation, key, (*time, answer), uses) {
            report.add(ViolationKind::WrongReceipt, Some(operation.call), problem);
        }
    }
}

fn problem(
    book: &Book<'_>,
    operation: &CallRecord,
    key: &KeyRecord,
    (time, answer): (u64, &Answer),
    uses: &[KeyUse<'_>],
) -> Option<String> {
    let (first, last, is_same) = match answer {
        Answer::Refused(RefusalRecord::KeyTaken { first, last }) => (*first, *last, true),
        Answer::Refused(RefusalRecord::KeyReused { first, last }) => (*first, *last, false),
        Answer::Refused(RefusalRecord::Conflict { .. }) => {
            // Keys are checked first, so a condition is not even asked under a used key.
            let is_earlier = |used: &&KeyUse<'_>| {
                let accepted = book.accepted_at(used.first);
                accepted.is_some_and(|accepted| accepted < operation.invoked)
            };
            return uses.iter().find(is_earlier).map(|used| {
                format!(
                    "the key {} has the commit at {}, and the repeated request got a conflict",
                    key.name, used.first
                )
            });
        }
        _ => return None,
    };
    if book.is_lost(operation.call.round, last) {
        return None;
    }
    let given =
        format!("the refusal names {first} to {last} as the commit of the key {}", key.name);
    let Some(used) = uses.iter().find(|used| (used.first, used.last) == (first, last)) else {
        let places: Vec<_> = uses.iter().map(|used| (used.first, used.last)).collect();
        return Some(format!("{given}, and the log has it at {places:?}"));
    };
    if (used.digest == key.digest) != is_same {
        let relation = if is_same { "another" } else { "the same" };
        return Some(format!("{given}, which has {relation} digest"));
    }
    (used.operation.invoked > time).then(|| format!("{given}, which was requested later"))
}
