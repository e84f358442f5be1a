//! Checks of what a server says. A server with a mistake, or one that lies, must not make a handle
//! panic, loop, or give an answer that breaks the contract of a store.
//!
//! Each check answers with the statement that cannot be true. `Link::contradiction` makes an error
//! with the address of the server from it.

use diptych_store::{
    Batch, CommitBatch, Direction, Filter, KeyedCommit, Position, Read, Timestamp,
};

use crate::wire::messages::{Accepted, call_reply};

/// The greatest position of a log. At a million events a second it takes 292,000 years to get
/// there, and counters near it do not overflow.
const GREATEST: u64 = u64::MAX >> 1;

/// A statement that cannot be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contradiction(pub(crate) String);

/// The place of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitPlace {
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) recorded_at: Timestamp,
}

impl CommitPlace {
    pub(crate) fn of(accepted: &Accepted) -> CommitPlace {
        CommitPlace {
            first: accepted.first.into(),
            last: accepted.last.into(),
            recorded_at: Timestamp::from_micros(accepted.recorded_at),
        }
    }
}

type Check<T = ()> = Result<T, Contradiction>;

fn refuse<T>(statement: String) -> Check<T> {
    Err(Contradiction(statement))
}

/// A head of a reply.
pub(crate) fn head(head: u64) -> Check<Position> {
    match head <= GREATEST {
        true => Ok(Position::new(head)),
        false => refuse(format!("its log has {head} events")),
    }
}

/// A head that was asked for while this one was known.
pub(crate) fn fresh_head(head: Position, known: Position) -> Check {
    match head >= known {
        true => Ok(()),
        false => refuse(format!("its log ends at position {head}, after it had {known} events")),
    }
}

/// The facts about a read that its batch has to agree with.
pub(crate) struct ReadFacts<'r> {
    pub(crate) filter: &'r Filter,
    pub(crate) read: &'r Read,
    /// The head that was known before the server was asked.
    pub(crate) known: Position,
    /// The head of the reply.
    pub(crate) head: Position,
}

impl ReadFacts<'_> {
    pub(crate) fn check(&self, batch: &Batch) -> Check {
        let ReadFacts { filter, read, head, .. } = self;
        if batch.len() > read.limit {
            let (events, limit) = (batch.len(), read.limit);
            return refuse(format!("a read of at most {limit} events has {events}"));
        }
        let (above, upto) = (read.after, read.upto.min(*head));
        let mut last = None;
        for event in batch.iter() {
            let position = event.position();
            if position <= above || position > upto {
                return refuse(format!(
                    "a read of the positions after {above} up to {upto} has the event {position}"
                ));
            }
            let is_in_order = last.is_none_or(|last| match read.direction {
                Direction::Forwards => position > last,
                Direction::Backwards => position < last,
            });
            if !is_in_order {
                let last = last.unwrap_or_default();
                return refuse(format!("the event {position} comes after the event {last}"));
            }
            if !filter.matches(&event) {
                let name = event.event_type();
                return refuse(format!(
                    "the event {position} of the type {name:?} matches the filter {filter}"
                ));
            }
            last = Some(position);
        }
        match read.direction {
            Direction::Forwards => self.forwards(batch, last),
            Direction::Backwards => self.backwards(batch, last),
        }
    }

    fn forwards(&self, batch: &Batch, last: Option<Position>) -> Check {
        let ReadFacts { read, known, head, .. } = self;
        let upto = batch.upto();
        let least = last.unwrap_or(read.after.min(read.upto));
        let most = read.upto.max(read.after).min((*head).max(read.after));
        if upto < least || upto > most {
            return refuse(format!(
                "a read of the positions after {} up to {} considered all up to {upto}",
                read.after, read.upto
            ));
        }
        // The caller would read from here for ever.
        if read.limit > 0 && upto <= read.after && read.after < read.upto.min(*known) {
            return refuse(format!(
                "there is nothing after position {}, and its log has {known} events",
                read.after
            ));
        }
        match batch.commit_end() >= upto {
            true => Ok(()),
            false => refuse(format!(
                "the commit of the event {upto} ends at position {}",
                batch.commit_end()
            )),
        }
    }

    fn backwards(&self, batch: &Batch, last: Option<Position>) -> Check {
        let ReadFacts { read, known, head, .. } = self;
        let (upto, start) = (batch.upto(), read.upto.min(*head));
        // A read that considered nothing stands behind the first position.
        let behind = if read.limit == 0 { read.upto } else { start.max(read.after) };
        let most = last.unwrap_or(behind.plus(1));
        let has_work = read.limit > 0 && read.after < read.upto.min(*known);
        let is_progress = !has_work || (upto > read.after && upto <= start);
        match upto <= most && is_progress {
            true => Ok(()),
            false => refuse(format!(
                "a read from position {start} down to {} considered all down to {upto}",
                read.after.plus(1)
            )),
        }
    }
}

/// Whole commits after a position. `known` is the head before the server was asked, and `head` that
/// of the reply.
pub(crate) fn commits(
    batch: &CommitBatch,
    after: Position,
    known: Position,
    head: Position,
) -> Check {
    let mut last = after;
    for commit in batch.iter() {
        for event in commit.events() {
            let position = event.position();
            // Every event is in a commit, so none is left out.
            if position != last.plus(1) {
                return refuse(format!("the event after position {last} is at {position}"));
            }
            last = position;
        }
        if commit.last() != last {
            return refuse(format!(
                "a commit that ends at position {} has its last event at {last}",
                commit.last()
            ));
        }
    }
    let upto = batch.upto();
    if upto < last || upto > head.max(after) {
        return refuse(format!(
            "the commits after position {after} were considered up to {upto}, and the last one \
             ends at {last}"
        ));
    }
    match upto <= after && after < known {
        true => refuse(format!("no commit is after position {after}, and its log has {known}")),
        false => Ok(()),
    }
}

/// The last matching event up to a position.
pub(crate) fn last(found: Option<u64>, upto: Position, head: Position) -> Check<Option<Position>> {
    let Some(found) = found.map(Position::new) else { return Ok(None) };
    let upto = upto.min(head);
    match found > Position::START && found <= upto {
        true => Ok(Some(found)),
        false => refuse(format!("the last event up to position {upto} is at {found}")),
    }
}

/// The number of events up to a position.
pub(crate) fn count(count: u64, upto: Position, head: Position) -> Check<u64> {
    let upto = upto.min(head);
    match count <= upto.get() {
        true => Ok(count),
        false => refuse(format!("{count} events are at the positions up to {upto}")),
    }
}

/// The commit under a key.
pub(crate) fn keyed(commit: KeyedCommit, head: Position) -> Check<KeyedCommit> {
    let KeyedCommit { first, last, .. } = commit;
    // A commit without events begins after its end.
    let is_range = first > Position::START && first <= last.plus(1) && last <= head;
    match is_range {
        true => Ok(commit),
        false => refuse(format!("a commit is at {first} to {last} of a log of {head} events")),
    }
}

/// The names of types, each once and in order.
pub(crate) fn types(types: Vec<String>) -> Check<Vec<String>> {
    let unordered = types.iter().zip(types.iter().skip(1)).find(|(one, next)| one >= next);
    match unordered {
        None => Ok(types),
        Some((one, next)) => {
            let statement = format!("the type {next:?} follows {one:?} in the list of types");
            Err(Contradiction(statement))
        }
    }
}

/// The outcome of a call with this number of events, which was sent when the log ended at `after`.
/// `known` is the place at which its commit was accepted before.
pub(crate) fn outcome(
    outcome: &call_reply::Outcome,
    (events, after): (u64, Position),
    known: Option<CommitPlace>,
) -> Check {
    match outcome {
        call_reply::Outcome::Accepted(accepted) => place(&CommitPlace::of(accepted), events, after),
        call_reply::Outcome::Synced(_) if known.is_none() => {
            refuse("a commit is synced that it has not accepted".to_owned())
        }
        _ => Ok(()),
    }
}

/// The place of a commit with this number of events, which was not in the log up to `after`.
fn place(place: &CommitPlace, events: u64, after: Position) -> Check {
    let CommitPlace { first, last, .. } = *place;
    let is_new = last.get() <= GREATEST
        && match events {
            0 => last >= after && first == last.plus(1),
            _ => first > after && first.plus(events - 1) == last,
        };
    match is_new {
        true => Ok(()),
        false => refuse(format!(
            "a new commit of {events} events after position {after} is at {first} to {last}"
        )),
    }
}
