//! Reads of a long part of the log, batch after batch.
//!
//! A reader that goes on where its last batch ended gets its batches from one call: the server
//! sends the next ones while the reader works on this one. Events never change, so a batch that
//! waits is as good as a new one. A call whose batches are not taken ends soon.

use std::{sync::Arc, time::Duration};

use diptych_store::{Batch, Direction, Filter, LogIdentity, Position, Read};
use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::{
    client::{
        checks::{self, ReadFacts},
        link::{History, Link},
    },
    wire::{self, messages::ReadRequest},
};

/// The readers that are known. A further one takes the place of the first.
const READERS: usize = 8;
/// Decoded batches that wait for their reader. Others wait in the window of the connection.
const WAITING_BATCHES: usize = 2;
/// The longest time in which a reader takes no batch.
const IDLE: Duration = Duration::from_secs(1);

/// The readers of a store.
#[derive(Default)]
pub(crate) struct ReadAhead {
    readers: Mutex<Vec<Reader>>,
}

/// A reader that is expected to go on after its last batch.
pub(crate) struct Reader {
    history: LogIdentity,
    filter: Filter,
    limit: usize,
    after: Position,
    /// The batches of its call. `None` until the reader has gone on once.
    batches: Option<mpsc::Receiver<Batch>>,
}

impl ReadAhead {
    /// The reader that goes on with this read.
    pub(crate) fn take(
        &self,
        history: LogIdentity,
        filter: &Filter,
        read: &Read,
    ) -> Option<Reader> {
        let mut readers = self.readers.lock();
        let at = readers.iter().position(|reader| {
            reader.after == read.after
                && reader.limit == read.limit
                && reader.history == history
                && reader.filter == *filter
        });
        (read.direction == Direction::Forwards).then_some(())?;
        at.map(|at| readers.remove(at))
    }

    /// Expects that the reader goes on.
    pub(crate) fn put(&self, reader: Reader) {
        let mut readers = self.readers.lock();
        if readers.len() >= READERS {
            readers.remove(0);
        }
        readers.push(reader);
    }
}

impl Reader {
    /// A reader that may go on after this batch. `None` if it has all that it asked for, or all
    /// that there is.
    pub(crate) fn of(
        history: &History,
        filter: &Filter,
        read: &Read,
        batch: &Batch,
    ) -> Option<Reader> {
        let end = read.upto.min(history.head().position());
        let goes_on = read.direction == Direction::Forwards && batch.upto() < end;
        goes_on.then(|| Reader {
            history: history.identity,
            filter: filter.clone(),
            limit: read.limit,
            after: batch.upto(),
            batches: None,
        })
    }

    /// Whether it has a call.
    pub(crate) fn has_call(&self) -> bool {
        self.batches.is_some()
    }

    /// A task that reads ahead for the reader. The caller runs it.
    pub(crate) fn call(&mut self, link: Arc<Link>) -> impl Future<Output = ()> + Send + use<> {
        let (send, batches) = mpsc::channel(WAITING_BATCHES);
        self.batches = Some(batches);
        let limit = u32::try_from(self.limit).unwrap_or(0);
        let read = Read::after(self.after);
        let request =
            ReadRequest { batch_events: limit, ..wire::read_request(&self.filter, &read, 0) };
        let (history, after, filter) = (link.history(), self.after, self.filter.clone());
        let is_same = history.identity == self.history;
        async move {
            if is_same {
                read_ahead(&link, &history, (request, filter), after, send).await;
            }
        }
    }

    /// The next batch of its call, if there is one that this read can have.
    pub(crate) async fn next(&mut self, upto: Position) -> Option<Batch> {
        let batch = self.batches.as_mut()?.recv().await?;
        self.after = batch.upto();
        (batch.upto() <= upto && batch.len() <= self.limit).then_some(batch)
    }
}

/// Reads batches until the end of the log, or until something is wrong. Then the reader makes a
/// call of its own, which says what.
async fn read_ahead(
    link: &Link,
    history: &History,
    (request, filter): (ReadRequest, Filter),
    mut after: Position,
    send: mpsc::Sender<Batch>,
) {
    let answer_time = link.options().answer_time;
    let (mut log, _) = link.caller_as(Some(history.identity));
    let Ok(Ok(stream)) = timeout(answer_time, log.read(request)).await else { return };
    let mut stream = stream.into_inner();
    loop {
        let place = tokio::select! {
            place = send.reserve() => place,
            () = sleep(IDLE) => return,
        };
        let Ok(place) = place else { return };
        let Ok(Ok(Some(reply))) = timeout(answer_time, stream.message()).await else { return };
        let head = Position::new(reply.head);
        let Ok(batch) = wire::batch_of(reply) else { return };
        if !goes_on(&batch, &filter, after, head) {
            return;
        }
        after = batch.upto();
        history.advance(head);
        place.send(batch);
    }
}

/// Whether a batch that a server sends by itself is the next one after this position: its events
/// match, stand in their order, and are in the log. A server with a mistake is not believed.
pub(crate) fn goes_on(batch: &Batch, filter: &Filter, after: Position, head: Position) -> bool {
    let read = Read::after(after);
    let facts = ReadFacts { filter, read: &read, known: after, head };
    after < batch.upto() && checks::head(head.get()).is_ok() && facts.check(batch).is_ok()
}

#[cfg(test)]
mod tests {
    use diptych_store::{BatchBuilder, Limits, RawEvent, Tag, Timestamp, encoding};

    use super::*;

    fn batch(positions: &[u64], upto: u64, commit_end: u64) -> Batch {
        let mut bytes = Vec::new();
        let event = RawEvent::new("a", "1").tag(Tag::new("k", 1));
        encoding::encode(&event, &Limits::default(), &mut bytes).unwrap();
        let (mut builder, end) = (BatchBuilder::new(), bytes.len() as u32);
        let chunk = builder.chunk(bytes.into());
        for position in positions {
            builder.push((*position).into(), Timestamp::NEVER, chunk, 0, end).unwrap();
        }
        builder.finish(upto.into(), commit_end.into())
    }

    #[test]
    fn a_batch_that_cannot_be_the_next_one_is_refused() {
        let (mine, other) = (Filter::tag(Tag::new("k", 1)), Filter::tag(Tag::new("k", 2)));
        let goes_on = |batch: &Batch, filter: &Filter, head: u64| {
            super::goes_on(batch, filter, 5.into(), head.into())
        };
        assert!(goes_on(&batch(&[6, 9], 9, 10), &mine, 12));
        assert!(goes_on(&batch(&[], 9, 9), &other, 9));
        for (what, batch, filter, head) in [
            ("it goes nowhere", batch(&[], 5, 5), &mine, 12),
            ("an event from before", batch(&[5, 9], 9, 9), &mine, 12),
            ("an event twice", batch(&[6, 6], 9, 9), &mine, 12),
            ("an event behind its end", batch(&[6, 10], 9, 9), &mine, 12),
            ("another filter", batch(&[6], 9, 9), &other, 12),
            ("above the head", batch(&[6], 9, 9), &mine, 8),
            ("a commit that ends before", batch(&[6], 9, 8), &mine, 12),
            ("a head that no log has", batch(&[6], 9, 9), &mine, u64::MAX),
        ] {
            assert!(!goes_on(&batch, filter, head), "{what}");
        }
    }
}
