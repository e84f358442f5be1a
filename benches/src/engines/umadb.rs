//! The core of UmaDB 0.7, used as its server uses it, but without the network.
//!
//! A writer thread takes all waiting requests and commits them together, with two syncs. Reads run
//! on the threads of their callers. Storage options are the core's defaults, which the server uses
//! too.

use std::{
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};
use umadb_core::{
    db::UmaDb as Reader,
    mvcc::{Mvcc, StorageOptions},
    writer_thread_blocking::writer_thread_blocking,
    writer_thread_request::WriterThreadRequest,
};
use umadb_dcb::{
    DcbAppendCondition, DcbError, DcbEvent, DcbEventStoreSync, DcbQuery, DcbQueryItem, DcbResult,
};

use crate::{
    engines::{Engine, Pending, Subscriber},
    quiet::LedAway,
    workload::{Entry, PAYLOAD_BYTES},
};

/// The largest number of requests that wait for the writer thread, as in the server.
const QUEUE: usize = 1024;
/// The largest number of events in one commit of the writer thread.
const COMMIT: usize = 2_000;
/// Events in one read of a replay. A bound is needed because a read returns its whole answer in
/// memory.
const READ: u32 = 10_000;

pub struct UmaDb {
    reader: Arc<Reader>,
    requests: mpsc::Sender<WriterThreadRequest>,
    head: watch::Receiver<Option<u64>>,
    writer: JoinHandle<()>,
}

type Answer = oneshot::Receiver<DcbResult<u64>>;

impl UmaDb {
    pub fn open(folder: &Path) -> UmaDb {
        std::fs::create_dir_all(folder).unwrap();
        let mvcc = {
            // The core prints its options when it opens.
            let _led_away = LedAway::new();
            Arc::new(Mvcc::new(false, StorageOptions::default().db_path(folder)).unwrap())
        };
        let reader = Arc::new(Reader::from_arc(mvcc.clone()));
        let (requests, waiting) = mpsc::channel(QUEUE);
        let (publisher, head) = watch::channel(reader.head().unwrap());
        let writer =
            thread::spawn(move || writer_thread_blocking(mvcc, waiting, publisher, COMMIT));
        UmaDb { reader, requests, head, writer }
    }

    fn submit(&self, events: Vec<DcbEvent>, condition: Option<DcbAppendCondition>) -> Answer {
        let (request, answer) = request(events, condition);
        self.requests.blocking_send(request).unwrap();
        answer
    }
}

fn request(
    events: Vec<DcbEvent>,
    condition: Option<DcbAppendCondition>,
) -> (WriterThreadRequest, Answer) {
    let (response_tx, answer) = oneshot::channel();
    let (tracking_info, cancel) = (None, None);
    let request =
        WriterThreadRequest::Append { events, condition, tracking_info, response_tx, cancel };
    (request, answer)
}

pub fn event(entry: &Entry) -> DcbEvent {
    DcbEvent::new()
        .event_type(entry.event_type)
        .tags([format!("account:{}", entry.account), format!("tenant:{}", entry.tenant)])
        .data(entry.bytes())
}

pub fn account(account: u64) -> DcbQuery {
    DcbQuery::new().item(DcbQueryItem::new().tags([format!("account:{account}")]))
}

fn read(reader: &Reader, query: Option<DcbQuery>, start: u64, limit: Option<u32>) -> u64 {
    let (mut events, mut bytes) = (0, 0);
    for event in reader.read(query, Some(start), false, limit).unwrap() {
        events += 1;
        bytes += event.unwrap().event.data.len();
    }
    assert_eq!(bytes, events as usize * PAYLOAD_BYTES);
    events
}

impl Engine for UmaDb {
    fn append(&self, entry: &Entry) {
        self.submit(vec![event(entry)], None).blocking_recv().unwrap().unwrap();
    }

    fn append_async(&self, entry: Entry) -> Pending<'_> {
        Box::pin(async move {
            let (request, answer) = request(vec![event(&entry)], None);
            self.requests.send(request).await.unwrap();
            answer.await.unwrap().unwrap();
        })
    }

    fn append_batches(&self, batches: &[Vec<Entry>]) -> Duration {
        let batches: Vec<Vec<_>> =
            batches.iter().map(|batch| batch.iter().map(event).collect()).collect();
        let start = Instant::now();
        for batch in batches {
            self.submit(batch, None).blocking_recv().unwrap().unwrap();
        }
        start.elapsed()
    }

    fn pipelined(&self, entries: &[Entry], in_flight: usize) -> Duration {
        let events: Vec<_> = entries.iter().map(event).collect();
        let mut waiting = std::collections::VecDeque::with_capacity(in_flight);
        let start = Instant::now();
        for event in events {
            if waiting.len() >= in_flight
                && let Some(first) = waiting.pop_front()
            {
                Answer::blocking_recv(first).unwrap().unwrap();
            }
            waiting.push_back(self.submit(vec![event], None));
        }
        for answer in waiting {
            answer.blocking_recv().unwrap().unwrap();
        }
        start.elapsed()
    }

    fn read_account(&self, account: u64) -> u64 {
        read(&self.reader, Some(self::account(account)), 1, None)
    }

    fn replay(&self) -> u64 {
        let mut events = 0;
        loop {
            match read(&self.reader, None, events + 1, Some(READ)) {
                0 => return events,
                read => events += read,
            }
        }
    }

    fn decide(&self, entry: &Entry) -> bool {
        let query = account(entry.account);
        let mut answer = self.reader.read(Some(query.clone()), None, false, None).unwrap();
        let (events, head) = answer.collect_with_head().unwrap();
        assert!(!events.is_empty(), "an account without events: the log is not filled");
        let bytes: usize = events.iter().map(|event| event.event.data.len()).sum();
        assert_eq!(bytes, events.len() * PAYLOAD_BYTES);
        let unchanged = DcbAppendCondition::new(query).after(head);
        match self.submit(vec![event(entry)], Some(unchanged)).blocking_recv().unwrap() {
            Ok(_) => true,
            Err(DcbError::IntegrityError(_)) => false,
            Err(error) => panic!("UmaDB: {error}"),
        }
    }

    fn subscribe(&self) -> Option<Subscriber> {
        let (reader, mut head) = (self.reader.clone(), self.head.clone());
        let mut seen = reader.head().unwrap().unwrap_or(0);
        Some(Box::new(move || {
            if head.borrow_and_update().unwrap_or(0) <= seen
                && pollster::block_on(head.changed()).is_err()
            {
                return 0;
            }
            let events = read(&reader, None, seen + 1, None);
            seen += events;
            events
        }))
    }

    fn close(self: Box<Self>) {
        let UmaDb { requests, writer, .. } = *self;
        drop(requests);
        writer.join().unwrap();
    }
}
