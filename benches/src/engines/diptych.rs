//! diptych-log through its own interface, without the framework.

use std::{
    collections::VecDeque,
    path::Path,
    time::{Duration, Instant},
};

use diptych_log::{Clustering, Log, LogOptions};
use diptych_store::{
    Append, AppendCondition, AppendError, Delivery, EventStore, Filter, Position, RawEvent, Read,
    Store, SubscribeOptions, Tag,
};
use pollster::block_on;

use crate::{
    engines::{Engine, Pending, Subscriber},
    workload::{Entry, PAYLOAD_BYTES},
};

pub struct Diptych {
    pub log: Log,
    clusters: bool,
}

impl Diptych {
    pub fn open(folder: &Path) -> Diptych {
        Diptych { log: Log::open(folder, LogOptions::default()).unwrap(), clusters: true }
    }

    /// Opens the log without clustering: segments keep their events in arrival order.
    pub fn unclustered(folder: &Path) -> Diptych {
        let options = LogOptions { clustering: Clustering::Off, ..LogOptions::default() };
        Diptych { log: Log::open(folder, options).unwrap(), clusters: false }
    }

    /// Reads all matching events, batch by batch. Returns their number, and the position up to
    /// which the log was read.
    pub fn read(&self, filter: &Filter) -> (u64, Position) {
        let head = self.log.head().position();
        let (mut events, mut bytes, mut read) = (0, 0, Read::all());
        loop {
            let batch = self.log.blocking().read(filter, read).unwrap();
            events += batch.len();
            bytes += batch.iter().map(|event| event.payload().len()).sum::<usize>();
            if batch.upto() >= head {
                assert_eq!(bytes, events * PAYLOAD_BYTES);
                return (events as u64, batch.upto());
            }
            read = Read::after(batch.upto());
        }
    }
}

pub fn event(entry: &Entry) -> RawEvent {
    RawEvent::new(entry.event_type, entry.bytes())
        .tag(Tag::new("account", entry.account))
        .tag(Tag::new("tenant", entry.tenant))
}

pub fn account(account: u64) -> Filter {
    Filter::tag(Tag::new("account", account))
}

impl Engine for Diptych {
    fn append(&self, entry: &Entry) {
        self.log.blocking().commit(Append::event(event(entry))).unwrap();
    }

    fn append_async(&self, entry: Entry) -> Pending<'_> {
        Box::pin(async move {
            let append = Append::event(event(&entry));
            EventStore::append(&self.log, append).await.unwrap().synced().await.unwrap();
        })
    }

    fn append_batches(&self, batches: &[Vec<Entry>]) -> Duration {
        let batches: Vec<_> =
            batches.iter().map(|batch| Append::events(batch.iter().map(event))).collect();
        let start = Instant::now();
        for batch in batches {
            self.log.blocking().commit(batch).unwrap();
        }
        start.elapsed()
    }

    fn pipelined(&self, entries: &[Entry], in_flight: usize) -> Duration {
        let appends: Vec<_> = entries.iter().map(|entry| Append::event(event(entry))).collect();
        let mut waiting = VecDeque::with_capacity(in_flight);
        let start = Instant::now();
        for append in appends {
            if waiting.len() >= in_flight
                && let Some(first) = waiting.pop_front()
            {
                block_on(diptych_store::AcceptedCommit::synced(first)).unwrap();
            }
            waiting.push_back(self.log.blocking().append(append).unwrap());
        }
        for accepted in waiting {
            block_on(accepted.synced()).unwrap();
        }
        start.elapsed()
    }

    fn read_account(&self, account: u64) -> u64 {
        self.read(&self::account(account)).0
    }

    fn replay(&self) -> u64 {
        self.read(&Filter::everything()).0
    }

    fn decide(&self, entry: &Entry) -> bool {
        let fail_if = account(entry.account);
        let (events, after) = self.read(&fail_if);
        assert!(events > 0, "an account without events: the log is not filled");
        let append = Append::event(event(entry)).condition(AppendCondition { fail_if, after });
        match self.log.blocking().commit(append) {
            Ok(_) => true,
            Err(AppendError::Refused(_)) => false,
            Err(error) => panic!("diptych-log: {error}"),
        }
    }

    fn subscribe(&self) -> Option<Subscriber> {
        let head = self.log.head().position();
        let store = Store::new(self.log.clone());
        let options = SubscribeOptions::default();
        let mut subscription = store.subscribe(Filter::everything(), head, options);
        Some(Box::new(move || match block_on(subscription.next()).unwrap() {
            Delivery::Batch(batch) => batch.len() as u64,
            _ => 0,
        }))
    }

    fn settle(&self) {
        if self.clusters {
            self.log.blocking().cluster().unwrap();
        }
    }

    fn close(self: Box<Self>) {
        self.log.close().unwrap();
    }
}
