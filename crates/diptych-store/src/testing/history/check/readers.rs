//! Answers of readers: each is compared with the log, and with what the reader has to see already.

use std::collections::HashMap;

use super::{
    Report,
    book::{Book, Fate, append_of},
    keys::{self, KeyUse},
    reads,
    sightings::{Floor, Sightings},
    subscriptions::Cursor,
    tracking::{self, TrackingWrite},
};
use crate::testing::history::{
    answer::{Answer, KeyedRecord, RefusalRecord, Sighting},
    file::CallRecord,
    line::Question,
    record::ReadRecord,
    violation::ViolationKind,
};

/// A client with its handle.
#[derive(Debug, Default)]
struct ReadingClient {
    floor: Floor,
    has_other_writers: bool,
    subscription: Option<Cursor>,
}

/// The facts that the checks of all readers use.
struct Readers<'b, 'o> {
    book: &'b Book<'o>,
    sightings: Sightings<'b, 'o>,
    keys: HashMap<&'o str, Vec<KeyUse<'o>>>,
    tracking: HashMap<&'o str, Vec<TrackingWrite<'o>>>,
}

pub(super) fn check(book: &Book<'_>, report: &mut Report) {
    let (keys, tracking) = (keys::uses(book), tracking::writes(book));
    let mut readers = Readers { book, sightings: Sightings::new(book, report), keys, tracking };
    let (mut reader, mut name) = (ReadingClient::default(), None);
    for operation in book.operations {
        let client = (operation.call.round, operation.call.client);
        if name.replace(client) != Some(client) {
            reader = ReadingClient::default();
        }
        readers.operation(&mut reader, operation);
    }
}

impl Readers<'_, '_> {
    fn operation(&mut self, reader: &mut ReadingClient, operation: &CallRecord) {
        let Some((time, answer)) = &operation.completed else { return };
        if let Answer::Connected { other_writers, .. } = answer {
            reader.has_other_writers = *other_writers;
        }
        let floor = self.floor(reader, operation);
        let shown = match (&operation.question, answer) {
            (_, Answer::Failed { error }) => {
                let text = format!("{} failed: {error}", operation.question);
                self.sightings.add(ViolationKind::UnexpectedError, operation, text);
                0
            }
            (_, Answer::Connected { head, .. }) => self.head(operation, floor, *head),
            (Question::Head, Answer::Position(Some(head))) => self.head(operation, floor, *head),
            (Question::HeadAfter { after }, Answer::Position(Some(head))) => {
                if head <= after {
                    let text = format!("the wait for a head above {after} ended at {head}");
                    self.sightings.add(ViolationKind::HeadWentBack, operation, text);
                }
                self.head(operation, floor, *head)
            }
            (Question::FreshHead, Answer::Position(Some(head))) => {
                self.fresh_head(operation, floor, *head)
            }
            (Question::Read(read), Answer::Events { events, upto }) => {
                self.read(operation, floor, read, (events, *upto))
            }
            (Question::Commits { after, .. }, Answer::Commits { commits, upto }) => {
                reads::commits(&mut self.sightings, operation, floor, *after, (commits, *upto))
            }
            (Question::Subscribe { filter, after }, _) => {
                reader.subscription = Some(Cursor::new(filter.clone(), *after));
                0
            }
            (Question::Next, answer) => match &mut reader.subscription {
                Some(cursor) => cursor.delivery(&mut self.sightings, operation, floor, answer),
                None => 0,
            },
            (Question::Append(_), answer) => {
                self.own_append(reader, operation, answer);
                return;
            }
            (_, answer) => self.look_up(reader, operation, floor, (*time, answer)),
        };
        let end = self.book.end(operation.call.round);
        reader.floor.seen = reader.floor.seen.max(shown.min(end));
    }

    /// The positions that the answer has to show. Clones of one handle, in a log without other
    /// writers, show each acknowledged commit at once.
    fn floor(&self, reader: &ReadingClient, operation: &CallRecord) -> Floor {
        let mut floor = reader.floor;
        if !reader.has_other_writers {
            let acknowledged = self.book.acknowledged.before(operation.invoked);
            floor.acknowledged = floor.acknowledged.max(acknowledged);
        }
        floor
    }

    fn own_append(&self, reader: &mut ReadingClient, operation: &CallRecord, answer: &Answer) {
        let end = self.book.end(operation.call.round);
        let has_events = append_of(operation).is_some_and(|append| !append.events.is_empty());
        match answer {
            Answer::Committed(receipt) if has_events => {
                let last = receipt.last.min(end);
                reader.floor.acknowledged = reader.floor.acknowledged.max(last);
            }
            // The commits that a refusal rests on are published before it.
            Answer::Refused(refusal) => {
                let shown = match refusal {
                    RefusalRecord::Conflict { at, .. } => *at,
                    RefusalRecord::AlreadyTracked { at, .. } => *at,
                    RefusalRecord::KeyTaken { last, .. } => *last,
                    RefusalRecord::KeyReused { last, .. } => *last,
                    RefusalRecord::Other(_) => 0,
                };
                reader.floor.seen = reader.floor.seen.max(shown.min(end));
            }
            _ => {}
        }
    }

    fn head(&mut self, operation: &CallRecord, floor: Floor, head: u64) -> u64 {
        if let Some((kind, text)) = floor.broken_by(head) {
            self.sightings.add(kind, operation, text);
        }
        self.position_of_the_log(operation, head, "the head");
        head
    }

    fn fresh_head(&mut self, operation: &CallRecord, floor: Floor, head: u64) -> u64 {
        let acknowledged = self.book.acknowledged.before(operation.invoked);
        if head < floor.seen {
            return self.head(operation, floor, head);
        }
        if head < acknowledged {
            let text =
                format!("the fresh head is {head}, and {acknowledged} was acknowledged before");
            self.sightings.add(ViolationKind::StaleFreshHead, operation, text);
        }
        self.position_of_the_log(operation, head, "the fresh head");
        head
    }

    /// Checks that a head is the end of a commit that was requested by then.
    fn position_of_the_log(&mut self, operation: &CallRecord, head: u64, what: &str) {
        let book = self.book;
        if book.is_lost(operation.call.round, head) || head == 0 {
            return;
        }
        let Some((time, _)) = &operation.completed else { return };
        let requested = book.requested.before(*time);
        if head > requested {
            let text = format!("{what} is {head}, and only {requested} was requested");
            self.sightings.add(ViolationKind::PhantomEvent, operation, text);
            return;
        }
        let end = book.log.commit_at(head).map(|commit| book.log.commits[commit].last);
        if end != Some(head) {
            let text = format!("{what} is {head}, within the commit that ends at {end:?}");
            self.sightings.add(ViolationKind::HalfCommit, operation, text);
        }
    }

    fn read(
        &mut self,
        operation: &CallRecord,
        floor: Floor,
        read: &ReadRecord,
        (events, upto): (&[Sighting], u64),
    ) -> u64 {
        let comparable: Vec<bool> =
            events.iter().map(|event| self.sightings.sighting(operation, event)).collect();
        let comparable = comparable.into_iter().all(|comparable| comparable);
        reads::read(&mut self.sightings, operation, floor, read, (events, upto), comparable)
    }

    fn look_up(
        &mut self,
        reader: &ReadingClient,
        operation: &CallRecord,
        floor: Floor,
        (time, answer): (u64, &Answer),
    ) -> u64 {
        let (kind, problem) = match (&operation.question, answer) {
            (Question::Last { filter, upto }, Answer::Position(found)) => (
                ViolationKind::WrongLookUp,
                reads::last(self.book, operation, floor, (filter, *upto), *found),
            ),
            (Question::Count { tag, upto }, Answer::Count(count)) => {
                let book = self.book;
                let low = book.log.count(tag, floor.highest().min(*upto));
                let high = book.log.count(tag, book.requested.before(time).min(*upto));
                let is_lossy = book.end(operation.call.round) < book.log.head();
                let is_wrong = *count < low || *count > high && !is_lossy;
                let problem = is_wrong.then(|| {
                    format!("{tag} has {count} events up to {upto}, and not {low} to {high}")
                });
                (ViolationKind::WrongLookUp, problem)
            }
            (Question::Keyed { key }, Answer::Keyed(found)) => {
                (ViolationKind::WrongReceipt, self.keyed(operation, floor, key, found.as_ref()))
            }
            (Question::Tracked { source }, Answer::Tracked(found)) => (
                ViolationKind::WrongTracking,
                self.tracked(reader, operation, source, (time, *found)),
            ),
            _ => return 0,
        };
        if let Some(text) = problem {
            self.sightings.add(kind, operation, text);
        }
        0
    }

    fn keyed(
        &self,
        operation: &CallRecord,
        floor: Floor,
        key: &str,
        found: Option<&KeyedRecord>,
    ) -> Option<String> {
        let uses = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        let Some(found) = found else {
            let visible = uses.iter().find(|used| used.last <= floor.highest());
            return visible.map(|used| {
                format!("the key {key} finds nothing, and has the commit at {}", used.first)
            });
        };
        let is_it = |used: &KeyUse<'_>| {
            (used.first, used.last, used.digest) == (found.first, found.last, &*found.digest)
        };
        let is_lost = self.book.is_lost(operation.call.round, found.last);
        (!is_lost && !uses.iter().any(is_it)).then(|| {
            format!(
                "the key {key} finds {} to {} with digest {}, which the log does not have",
                found.first, found.last, found.digest
            )
        })
    }

    fn tracked(
        &self,
        reader: &ReadingClient,
        operation: &CallRecord,
        source: &str,
        (time, found): (u64, Option<u64>),
    ) -> Option<String> {
        let writes = self.tracking.get(source).map_or(&[][..], Vec::as_slice);
        let is_visible = |write: &&TrackingWrite<'_>| {
            let acknowledged = matches!(Fate::of(write.operation), Fate::Acknowledged(_));
            let own = write.operation.call.client == operation.call.client
                && write.operation.call.round == operation.call.round;
            let completed = write.operation.completed.as_ref().map(|(time, _)| *time);
            acknowledged
                && (own || !reader.has_other_writers)
                && completed.is_some_and(|completed| completed < operation.invoked)
        };
        let lowest = writes.iter().filter(is_visible).map(|write| write.position).max();
        if found.unwrap_or_default() < lowest.unwrap_or_default() {
            return Some(format!(
                "{source} is at {found:?}, and {lowest:?} was acknowledged before"
            ));
        }
        let found = found?;
        let is_written =
            writes.iter().any(|write| write.position == found && write.operation.invoked < time);
        let is_explained = is_written
            || self.book.may_be_lost_alone(operation.call.round, u64::MAX)
            || tracking::may_be_unknown(self.book, source, found);
        (!is_explained).then(|| format!("{source} is at {found}, which no commit stored"))
    }
}
