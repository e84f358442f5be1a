//! Pages of live events, each encoded once.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use diptych::store::{Batch, EventRef, Position};
use diptych_remote::wire::{
    self, BatchEnds, EncodedReply,
    messages::{ReadReply, SubscribeReply, subscribe_reply::Delivery},
};

/// The memory of all pages of a feed that wait in mailboxes.
#[derive(Clone, Debug, Default)]
pub(crate) struct PageMemory(Arc<AtomicUsize>);

impl PageMemory {
    /// The bytes of all pages.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Some events of one read of the log: those that match a filter.
pub(crate) struct LivePage {
    batch: Arc<Batch>,
    /// Their indexes in the batch.
    events: Vec<u32>,
    head: Position,
    bytes: usize,
    encoded: OnceLock<EncodedReply>,
    as_messages: OnceLock<EncodedReply>,
    memory: PageMemory,
}

impl LivePage {
    pub(crate) fn new(
        batch: Arc<Batch>,
        events: Vec<u32>,
        head: Position,
        memory: &PageMemory,
    ) -> LivePage {
        let (encoded, as_messages) = (OnceLock::new(), OnceLock::new());
        let memory = memory.clone();
        let mut page = LivePage { batch, events, head, bytes: 0, encoded, as_messages, memory };
        page.bytes = page.events(Position::START).map(|event| event.bytes().len() + 8).sum();
        page.memory.0.fetch_add(page.bytes, Ordering::Relaxed);
        page
    }

    /// The bytes that the page takes while it waits.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The memory of all pages, this one included.
    pub(crate) fn all_bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// The position up to which every matching event is in this page, or in those before.
    pub(crate) fn upto(&self) -> Position {
        self.batch.upto()
    }

    fn events(&self, after: Position) -> impl Iterator<Item = EventRef<'_>> {
        let events = self.events.iter().filter_map(|&at| self.batch.get(at as usize));
        events.filter(move |event| event.position() > after)
    }

    /// The events after this position as a delivery, or `None` if there are none. The bytes are
    /// shared by all subscribers that lack the whole page.
    pub(crate) fn delivery(&self, after: Position, as_messages: bool) -> Option<EncodedReply> {
        let first = self.events(after).next()?;
        let is_whole = self.events(Position::START).next()?.position() == first.position();
        let shared = if as_messages { &self.as_messages } else { &self.encoded };
        Some(match is_whole {
            true => shared.get_or_init(|| self.encode(Position::START, as_messages)).clone(),
            false => self.encode(after, as_messages),
        })
    }

    fn encode(&self, after: Position, as_messages: bool) -> EncodedReply {
        let (upto, commit_end, head) = (self.upto(), self.batch.commit_end(), self.head);
        if !as_messages {
            let ends = BatchEnds { upto, commit_end, head };
            return EncodedReply::delivery(|| self.events(after), ends);
        }
        let batch = ReadReply {
            events: wire::recorded_messages(self.events(after)),
            upto: upto.get(),
            commit_end: commit_end.get(),
            head: head.get(),
            ..ReadReply::default()
        };
        let delivery = Some(Delivery::Batch(batch));
        EncodedReply::of(&SubscribeReply { delivery, ..SubscribeReply::default() })
    }
}

impl Drop for LivePage {
    fn drop(&mut self) {
        self.memory.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
