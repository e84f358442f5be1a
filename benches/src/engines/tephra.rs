//! tephra 0.4, an embedded event store with the same kind of condition.
//!
//! It acknowledges an append after its writer thread has synced the batch that holds it. The sync
//! is `fdatasync`; no option changes that. Appends of several threads share one sync. Segments have
//! the size that its documentation shows; all other settings are its defaults. It does not cache
//! the states of decisions, so every decision reads its account.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tephra::{
    AppendCondition, AppendError, Event, EventType, Position, PositionRange, Query, QueryItem,
    SegmentConfig, SegmentSet, Tag, Tags, WriteCoordinator, WriteHandle, WriterConfig, read::Reads,
};

use crate::{
    engines::{Engine, Pending, Subscriber},
    workload::{Balance, Entry, Fold, Numbers, PAYLOAD_BYTES},
};

const SEGMENT_BYTES: usize = 256 << 20;

pub struct Tephra {
    coordinator: WriteCoordinator,
    handle: WriteHandle,
}

impl Tephra {
    pub fn open(folder: &Path) -> Tephra {
        let set = SegmentSet::open(folder, SegmentConfig::new(SEGMENT_BYTES)).unwrap();
        let (coordinator, handle) = WriteCoordinator::start(set, WriterConfig::default()).unwrap();
        Tephra { coordinator, handle }
    }

    pub fn append_all(&self, entries: impl Iterator<Item = Entry>) {
        let events = entries.map(|entry| event(&entry)).collect();
        self.handle.append(events, None).unwrap();
    }

    /// Reads one account, and appends to it on the condition that the account has no new event.
    /// Returns false if the log refuses the append.
    pub fn decide(&self, numbers: &mut Numbers, fold: Fold) -> bool {
        let entry = Entry::random(numbers);
        self.decide_on(&entry, fold, event(&entry))
    }

    fn decide_on(&self, entry: &Entry, fold: Fold, event: Event) -> bool {
        let query = account(entry.account);
        let mut balance = Balance::default();
        let mut reads = self.handle.read(&query, Position::ZERO, None);
        let upto = reads.watermark();
        while let Some(read) = reads.next() {
            fold.event(&mut balance, read.unwrap().event.data());
        }
        assert!(balance.events > 0, "an account without events: the log is not filled");
        let unchanged = AppendCondition::new(query).after(upto);
        match self.handle.append(vec![event], Some(unchanged)) {
            Ok(_) => true,
            Err(AppendError::Conflict { .. }) => false,
            Err(error) => panic!("tephra: {error}"),
        }
    }

    pub fn close(self) {
        self.coordinator.shutdown();
    }
}

impl Engine for Tephra {
    fn append(&self, entry: &Entry) {
        self.handle.append(vec![plain(entry)], None).unwrap();
    }

    fn append_async(&self, entry: Entry) -> Pending<'_> {
        Box::pin(async move {
            self.handle.append_async(vec![plain(&entry)], None).await.unwrap();
        })
    }

    fn append_batches(&self, batches: &[Vec<Entry>]) -> Duration {
        let batches: Vec<Vec<_>> =
            batches.iter().map(|batch| batch.iter().map(plain).collect()).collect();
        let start = Instant::now();
        for batch in batches {
            self.handle.append(batch, None).unwrap();
        }
        start.elapsed()
    }

    fn pipelined(&self, entries: &[Entry], in_flight: usize) -> Duration {
        let events: Vec<_> = entries.iter().map(plain).collect();
        let count = events.len();
        let (reply, replies) = flume::unbounded::<(u64, Result<PositionRange, AppendError>)>();
        let start = Instant::now();
        for (number, event) in events.into_iter().enumerate() {
            if number >= in_flight {
                replies.recv().unwrap().1.unwrap();
            }
            self.handle.append_submit(vec![event], None, number as u64, reply.clone()).unwrap();
        }
        for _ in 0..count.min(in_flight) {
            replies.recv().unwrap().1.unwrap();
        }
        start.elapsed()
    }

    fn read_account(&self, account: u64) -> u64 {
        count(self.handle.read(&self::account(account), Position::ZERO, None))
    }

    fn replay(&self) -> u64 {
        count(self.handle.read(&Query::all(), Position::ZERO, None))
    }

    fn decide(&self, entry: &Entry) -> bool {
        self.decide_on(entry, Fold::Bytes, plain(entry))
    }

    fn subscribe(&self) -> Option<Subscriber> {
        let mut subscription = self.handle.subscribe(Query::all(), self.handle.head());
        Some(Box::new(move || match subscription.next_batch() {
            Some(batch) => batch.unwrap().len() as u64,
            None => 0,
        }))
    }

    fn close(self: Box<Self>) {
        Tephra::close(*self);
    }
}

fn count(mut reads: Reads) -> u64 {
    let (mut events, mut bytes) = (0, 0);
    while let Some(read) = reads.next() {
        events += 1;
        bytes += read.unwrap().event.data().len();
    }
    assert_eq!(bytes, events as usize * PAYLOAD_BYTES);
    events
}

fn account(account: u64) -> Query {
    Query::item(QueryItem::with_tags(Tags::new([tag("account", account)]).unwrap()))
}

fn event(entry: &Entry) -> Event {
    of_payload(entry, entry.payload().as_bytes())
}

/// An event with a payload that costs almost nothing to make.
fn plain(entry: &Entry) -> Event {
    of_payload(entry, &entry.bytes())
}

fn of_payload(entry: &Entry, payload: &[u8]) -> Event {
    let tags = [tag("account", entry.account), tag("tenant", entry.tenant)];
    let event_type = EventType::new(entry.event_type).unwrap();
    Event::new(&event_type, &Tags::new(tags).unwrap(), payload).unwrap()
}

fn tag(key: &str, value: u64) -> Tag {
    Tag::new(format!("{key}:{value}")).unwrap()
}
