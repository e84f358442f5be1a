//! Answers of readers: each is compared with the log, and with what the reader has to see already.

use std::collections::HashMap;

use super::{
    Report,
    book::{Book, Known, append_of},
    keys::{self, KeyUse},
    reads,
    subscriptions::Cursor,
    tracking::{self, TrackingWrite},
};
use crate::testing::history::{
    answer::{Answer, KeyedRecord, RefusalRecord, Sighting},
    file::Operation,
    line::Question,
    record::ReadRecord,
    violation::ViolationKind,
};

/// The positions that a reader has to see.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    /// An answer before the call showed it.
    pub(super) seen: u64,
    /// It was acknowledged before the call.
    pub(super) acknowledged: u64,
}

impl Floor {
    pub(super) fn highest(self) -> u64 {
        self.seen.max(self.acknowledged)
    }

    /// The promise that is broken by an answer that shows the log only up to `shown`.
    pub(super) fn broken_by(self, shown: u64) -> Option<(ViolationKind, String)> {
        if shown < self.seen {
            let text = format!("it shows the log up to {shown}, and was at {} before", self.seen);
            return Some((ViolationKind::HeadWentBack, text));
        }
        (shown < self.acknowledged).then(|| {
            let text = format!(
                "it shows the log up to {shown}, and {} was acknowledged before the call",
                self.acknowledged
            );
            (ViolationKind::UnreadableReceipt, text)
        })
    }
}

/// A client with its handle.
#[derive(Debug, Default)]
struct Reader {
    floor: Floor,
    has_other_writers: bool,
    subscription: Option<Cursor>,
}

/// The facts that the checks of all readers use.
pub(super) struct Readers<'b, 'o> {
    pub(super) book: &'b Book<'o>,
    pub(super) report: &'b mut Report,
    keys: HashMap<&'o str, Vec<KeyUse<'o>>>,
    tracking: HashMap<&'o str, Vec<TrackingWrite<'o>>>,
}

pub(super) fn check(book: &Book<'_>, report: &mut Report) {
    let (keys, tracking) = (keys::uses(book), tracking::writes(book));
    let mut readers = Readers { book, report, keys, tracking };
    let (mut reader, mut name) = (Reader::default(), None);
    for operation in book.operations {
        let client = (operation.call.round, operation.call.client);
        if name.replace(client) != Some(client) {
            reader = Reader::default();
        }
        readers.operation(&mut reader, operation);
    }
}

impl Readers<'_, '_> {
    fn operation(&mut self, reader: &mut Reader, operation: &Operation) {
        let Some((time, answer)) = &operation.completed else { return };
        if let Answer::Connected { other_writers, .. } = answer {
            reader.has_other_writers = *other_writers;
        }
        let floor = self.floor(reader, operation);
        let shown = match (&operation.question, answer) {
            (_, Answer::Failed { error }) => {
                let text = format!("{} failed: {error}", operation.question);
                self.add(ViolationKind::UnexpectedError, operation, text);
                0
            }
            (_, Answer::Connected { head, .. }) => self.head(operation, floor, *head),
            (Question::Head, Answer::Position(Some(head))) => self.head(operation, floor, *head),
            (Question::HeadAfter { after }, Answer::Position(Some(head))) => {
                if head <= after {
                    let text = format!("the wait for a head above {after} ended at {head}");
                    self.add(ViolationKind::HeadWentBack, operation, text);
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
                reads::commits(self, operation, floor, *after, (commits, *upto))
            }
            (Question::Subscribe { filter, after }, _) => {
                reader.subscription = Some(Cursor::new(filter.clone(), *after));
                0
            }
            (Question::Next, answer) => match &mut reader.subscription {
                Some(cursor) => cursor.delivery(self, operation, floor, answer),
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

    pub(super) fn add(&mut self, kind: ViolationKind, operation: &Operation, text: String) {
        self.report.add(kind, Some(operation.call), text);
    }

    /// The positions that the answer has to show. Clones of one handle, in a log without other
    /// writers, show each acknowledged commit at once.
    fn floor(&self, reader: &Reader, operation: &Operation) -> Floor {
        let mut floor = reader.floor;
        if !reader.has_other_writers {
            let acknowledged = self.book.acknowledged.before(operation.invoked);
            floor.acknowledged = floor.acknowledged.max(acknowledged);
        }
        floor
    }

    fn own_append(&self, reader: &mut Reader, operation: &Operation, answer: &Answer) {
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

    fn head(&mut self, operation: &Operation, floor: Floor, head: u64) -> u64 {
        if let Some((kind, text)) = floor.broken_by(head) {
            self.add(kind, operation, text);
        }
        self.position_of_the_log(operation, head, "the head");
        head
    }

    fn fresh_head(&mut self, operation: &Operation, floor: Floor, head: u64) -> u64 {
        let acknowledged = self.book.acknowledged.before(operation.invoked);
        if head < floor.seen {
            return self.head(operation, floor, head);
        }
        if head < acknowledged {
            let text =
                format!("the fresh head is {head}, and {acknowledged} was acknowledged before");
            self.add(ViolationKind::StaleFreshHead, operation, text);
        }
        self.position_of_the_log(operation, head, "the fresh head");
        head
    }

    /// Checks that a head is the end of a commit that was requested by then.
    fn position_of_the_log(&mut self, operation: &Operation, head: u64, what: &str) {
        let book = self.book;
        if book.is_lost(operation.call.round, head) || head == 0 {
            return;
        }
        let Some((time, _)) = &operation.completed else { return };
        let requested = book.requested.before(*time);
        if head > requested {
            let text = format!("{what} is {head}, and only {requested} was requested");
            self.add(ViolationKind::PhantomEvent, operation, text);
            return;
        }
        let end = book.log.commit_at(head).map(|commit| book.log.commits[commit].last);
        if end != Some(head) {
            let text = format!("{what} is {head}, within the commit that ends at {end:?}");
            self.add(ViolationKind::HalfCommit, operation, text);
        }
    }

    /// Compares an event with the log. Returns whether it can be compared.
    pub(super) fn sighting(&mut self, operation: &Operation, event: &Sighting) -> bool {
        let book = self.book;
        let Sighting(position, checksum) = *event;
        if book.is_lost(operation.call.round, position) {
            return false;
        }
        let Some(known) = book.log.checksum(position) else {
            let text = format!("it shows an event at {position}, which the log does not have");
            self.add(ViolationKind::PhantomEvent, operation, text);
            return false;
        };
        let time = operation.completed.as_ref().map_or(u64::MAX, |(time, _)| *time);
        if known != checksum {
            let text = format!("the event at {position} differs from that in the log");
            self.add(ViolationKind::ChangedEvent, operation, text);
        } else if book.writer(position).is_some_and(|writer| writer.invoked > time) {
            let text = format!("it shows {} before the request", book.named(position));
            self.add(ViolationKind::PhantomEvent, operation, text);
        }
        true
    }

    fn read(
        &mut self,
        operation: &Operation,
        floor: Floor,
        read: &ReadRecord,
        (events, upto): (&[Sighting], u64),
    ) -> u64 {
        let comparable: Vec<bool> =
            events.iter().map(|event| self.sighting(operation, event)).collect();
        let comparable = comparable.into_iter().all(|comparable| comparable);
        reads::read(self, operation, floor, read, (events, upto), comparable)
    }

    fn look_up(
        &mut self,
        reader: &Reader,
        operation: &Operation,
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
            self.add(kind, operation, text);
        }
        0
    }

    fn keyed(
        &self,
        operation: &Operation,
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
        reader: &Reader,
        operation: &Operation,
        source: &str,
        (time, found): (u64, Option<u64>),
    ) -> Option<String> {
        let writes = self.tracking.get(source).map_or(&[][..], Vec::as_slice);
        let is_visible = |write: &&TrackingWrite<'_>| {
            let acknowledged = matches!(Known::of(write.operation), Known::Acknowledged(_));
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
