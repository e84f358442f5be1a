//! Reads and look-ups of events: each answer is that of the log at a moment of the call.

use super::{
    book::Book,
    sightings::{Floor, Sightings},
};
use crate::{
    filter::Filter,
    testing::history::{
        answer::{CommitRecord, Sighting},
        file::CallRecord,
        record::ReadRecord,
        violation::ViolationKind,
    },
};

/// Checks a batch of events. Returns the position that it shows.
pub(super) fn read(
    sightings: &mut Sightings<'_, '_>,
    operation: &CallRecord,
    floor: Floor,
    read: &ReadRecord,
    (events, upto): (&[Sighting], u64),
    is_comparable: bool,
) -> u64 {
    let positions: Vec<u64> = events.iter().map(|event| event.0).collect();
    let is_ordered = positions.windows(2).all(|pair| match read.backwards {
        true => pair[0] > pair[1],
        false => pair[0] < pair[1],
    });
    if !is_ordered || positions.len() as u64 > read.limit {
        let question = &operation.question;
        let text = format!("{question} gave {positions:?}: another order, or more than the limit");
        sightings.add(ViolationKind::WrongRead, operation, text);
        return 0;
    }
    match read.backwards {
        true => backwards(sightings, operation, floor, read, (&positions, upto), is_comparable),
        false => forwards(sightings, operation, floor, read, (&positions, upto), is_comparable),
    }
}

fn forwards(
    sightings: &mut Sightings<'_, '_>,
    operation: &CallRecord,
    floor: Floor,
    read: &ReadRecord,
    (positions, upto): (&[u64], u64),
    is_comparable: bool,
) -> u64 {
    let ReadRecord { filter, after, .. } = read;
    let visible = read.upto.min(floor.highest());
    if visible > *after && upto <= *after {
        // The read made no progress, so it does not see what it has to see.
        if let Some((kind, text)) = floor.broken_by(*after) {
            sightings.add(kind, operation, text);
        }
        return 0;
    }
    let end = sightings.book.end(operation.call.round);
    let is_at_start = upto == *after && positions.is_empty();
    if upto > read.upto.max(*after) {
        let text = format!("{} considered the log up to {upto}", operation.question);
        sightings.add(ViolationKind::WrongRead, operation, text);
        return 0;
    }
    if upto > sightings.book.log.head() && !is_at_start && is_comparable {
        if !sightings.book.is_lost(operation.call.round, upto) {
            let text = format!("it considered the log up to {upto}, beyond its end");
            sightings.add(ViolationKind::PhantomEvent, operation, text);
        }
        return 0;
    }
    let expected = sightings.book.log.matching(filter, after.saturating_add(1)..=upto.min(end));
    compare(sightings, operation, &expected, positions, end);
    upto
}

fn backwards(
    sightings: &mut Sightings<'_, '_>,
    operation: &CallRecord,
    floor: Floor,
    read: &ReadRecord,
    (positions, upto): (&[u64], u64),
    is_comparable: bool,
) -> u64 {
    let end = sightings.book.end(operation.call.round);
    let ascending: Vec<u64> = positions.iter().rev().copied().collect();
    let highest = ascending.last().copied().unwrap_or_default();
    if !is_comparable {
        return 0;
    }
    if highest > read.upto || ascending.first().is_some_and(|lowest| *lowest <= read.after) {
        let text = format!("{} gave {positions:?}", operation.question);
        sightings.add(ViolationKind::WrongRead, operation, text);
        return 0;
    }
    // The read began at a head that is not below what the client has to see, nor below its answer.
    let begin = read.upto.min(floor.highest().max(highest)).min(end);
    let low = upto.max(read.after.saturating_add(1));
    let expected = sightings.book.log.matching(&read.filter, low..=begin);
    compare(sightings, operation, &expected, &ascending, end);
    highest
}

/// Compares ascending positions.
fn compare(
    sightings: &mut Sightings<'_, '_>,
    operation: &CallRecord,
    expected: &[u64],
    positions: &[u64],
    end: u64,
) {
    let is_in = |list: &[u64], position: &u64| list.binary_search(position).is_ok();
    let missing: Vec<_> = expected.iter().filter(|position| !is_in(positions, position)).collect();
    let surplus: Vec<_> = positions
        .iter()
        .filter(|position| **position <= end && !is_in(expected, position))
        .collect();
    if !missing.is_empty() || !surplus.is_empty() {
        let question = &operation.question;
        let text = format!("{question} left out {missing:?} and gave {surplus:?} too much");
        sightings.add(ViolationKind::WrongRead, operation, text);
    }
}

/// Checks a batch of whole commits. Returns the position that it shows.
pub(super) fn commits(
    sightings: &mut Sightings<'_, '_>,
    operation: &CallRecord,
    floor: Floor,
    after: u64,
    (commits, upto): (&[CommitRecord], u64),
) -> u64 {
    let book = sightings.book;
    let mut problem = None;
    let (mut at, end) = (after, book.end(operation.call.round));
    for commit in commits.iter().filter(|commit| !commit.events.is_empty()) {
        if book.is_lost(operation.call.round, commit.last) {
            return end;
        }
        let known = book.log.commit_at(at.saturating_add(1)).map(|index| book.log.commits[index]);
        if known != Some(commit) {
            problem = Some(format!(
                "the commit after {at} was read with {} to {}, and differs from that in the log",
                commit.first, commit.last
            ));
            break;
        }
        at = commit.last;
    }
    if problem.is_none() && upto != at {
        problem = Some(format!("the commits end at {at}, and the batch says {upto}"));
    }
    if let Some(text) = problem {
        sightings.add(ViolationKind::WrongCommits, operation, text);
        return 0;
    }
    if upto <= after
        && let Some((kind, text)) = floor.broken_by(upto)
    {
        sightings.add(kind, operation, text);
    }
    upto
}

/// The problem with the last match that was found, if there is one.
pub(super) fn last(
    book: &Book<'_>,
    operation: &CallRecord,
    floor: Floor,
    (filter, upto): (&Filter, u64),
    found: Option<u64>,
) -> Option<String> {
    let round = operation.call.round;
    let from = found.unwrap_or_default();
    if book.is_lost(round, from) {
        return None;
    }
    if let Some(at) = found {
        let is_match = at <= upto && !book.log.matching(filter, at..=at).is_empty();
        if !is_match {
            return Some(format!("the last match of `{filter}` is {at}, which does not match"));
        }
    }
    let visible = upto.min(floor.highest()).min(book.end(round));
    let later = book.log.last(filter, from.saturating_add(1)..=visible)?;
    Some(format!(
        "the last match of `{filter}` is {found:?}, and {} was visible",
        book.named(later)
    ))
}
