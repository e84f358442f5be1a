//! Events in tables of SQLite, as a program would write them by hand if it needs nothing else.
//!
//! The journal is a WAL with `synchronous = FULL`: a transaction is durable when it is committed.
//! One thread writes: it puts all waiting requests into one transaction, and answers them after the
//! commit. Every reading thread has a connection of its own.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use rusqlite::{Connection, Transaction};
use tokio::sync::oneshot;

use crate::{
    engines::{Engine, Pending, Subscriber},
    workload::{Entry, PAYLOAD_BYTES},
};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS events (
        position INTEGER PRIMARY KEY, type TEXT NOT NULL, payload BLOB NOT NULL,
        recorded_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS tags (
        tag TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (tag, position)
    ) STRICT, WITHOUT ROWID;";
const OF_TAG: &str = "SELECT events.position, payload FROM tags
    JOIN events ON events.position = tags.position WHERE tag = ?1 ORDER BY tags.position";
const IN_ORDER: &str =
    "SELECT position, type, payload, recorded_at FROM events WHERE position > ?1 ORDER BY position";
const CHANGED: &str = "SELECT 1 FROM tags WHERE tag = ?1 AND position > ?2 LIMIT 1";
const HEAD: &str = "SELECT coalesce(max(position), 0) FROM events";

/// The largest number of requests in one transaction.
const TOGETHER: usize = 4_096;

pub struct Sqlite {
    file: PathBuf,
    requests: Sender<Request>,
    idle: Mutex<Vec<Connection>>,
    writer: JoinHandle<()>,
}

struct Request {
    events: Vec<EventRow>,
    unless: Option<TagChange>,
    answer: oneshot::Sender<bool>,
}

struct EventRow {
    event_type: &'static str,
    tags: [String; 2],
    payload: Vec<u8>,
}

/// Refuses the request if there is an event with this tag after this position.
struct TagChange {
    tag: String,
    after: i64,
}

impl Sqlite {
    pub fn open(folder: &Path) -> Sqlite {
        std::fs::create_dir_all(folder).unwrap();
        let file = folder.join("events.db");
        let connection = connect(&file);
        connection.execute_batch(TABLES).unwrap();
        let (requests, waiting) = channel();
        let writer = thread::spawn(move || write(connection, &waiting));
        Sqlite { file, requests, idle: Mutex::default(), writer }
    }

    fn submit(&self, events: Vec<EventRow>, unless: Option<TagChange>) -> oneshot::Receiver<bool> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { events, unless, answer }).unwrap();
        answered
    }

    fn reading<T>(&self, read: impl FnOnce(&Connection) -> T) -> T {
        let idle = self.idle.lock().unwrap().pop();
        let connection = idle.unwrap_or_else(|| connect_to_read(&self.file));
        let answer = read(&connection);
        self.idle.lock().unwrap().push(connection);
        answer
    }
}

fn connect(file: &Path) -> Connection {
    let connection = Connection::open(file).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    connection
}

/// A connection that reads through a memory mapping, which is faster.
fn connect_to_read(file: &Path) -> Connection {
    let connection = connect(file);
    connection.pragma_update(None, "mmap_size", 1_i64 << 34).unwrap();
    connection
}

fn write(mut connection: Connection, waiting: &Receiver<Request>) {
    let mut head: i64 = connection.query_row(HEAD, (), |row| row.get(0)).unwrap();
    while let Ok(first) = waiting.recv() {
        let transaction = connection.transaction().unwrap();
        let requests = [first].into_iter().chain(waiting.try_iter().take(TOGETHER - 1));
        let mut answers = Vec::new();
        for request in requests {
            let done = insert(&transaction, &mut head, &request);
            answers.push((request.answer, done));
        }
        transaction.commit().unwrap();
        for (answer, done) in answers {
            let _ = answer.send(done);
        }
    }
}

fn insert(transaction: &Transaction<'_>, head: &mut i64, request: &Request) -> bool {
    if let Some(TagChange { tag, after }) = &request.unless {
        let mut changed = transaction.prepare_cached(CHANGED).unwrap();
        if changed.exists((tag, after)).unwrap() {
            return false;
        }
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let recorded_at = now.as_micros() as i64;
    let mut event = transaction.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4)");
    let event = event.as_mut().unwrap();
    let mut tag = transaction.prepare_cached("INSERT INTO tags VALUES (?1, ?2)").unwrap();
    for row in &request.events {
        *head += 1;
        event.execute((*head, row.event_type, &row.payload, recorded_at)).unwrap();
        for name in &row.tags {
            tag.execute((name, *head)).unwrap();
        }
    }
    true
}

fn row(entry: &Entry) -> EventRow {
    let tags = [format!("account:{}", entry.account), format!("tenant:{}", entry.tenant)];
    EventRow { event_type: entry.event_type, tags, payload: entry.bytes() }
}

/// Reads the events of a tag. Returns their number and the position of the last.
fn of_tag(connection: &Connection, tag: &str) -> (u64, i64) {
    let mut read = connection.prepare_cached(OF_TAG).unwrap();
    let mut rows = read.query([tag]).unwrap();
    let (mut events, mut bytes, mut last) = (0, 0, 0);
    while let Some(row) = rows.next().unwrap() {
        events += 1;
        last = row.get(0).unwrap();
        bytes += row.get_ref(1).unwrap().as_blob().unwrap().len();
    }
    assert_eq!(bytes, events as usize * PAYLOAD_BYTES);
    (events, last)
}

fn in_order(connection: &Connection, after: i64) -> u64 {
    let mut read = connection.prepare_cached(IN_ORDER).unwrap();
    let mut rows = read.query([after]).unwrap();
    let (mut events, mut bytes) = (0, 0);
    while let Some(row) = rows.next().unwrap() {
        events += 1;
        bytes += row.get_ref(2).unwrap().as_blob().unwrap().len();
    }
    assert_eq!(bytes, events as usize * PAYLOAD_BYTES);
    events
}

impl Engine for Sqlite {
    fn append(&self, entry: &Entry) {
        self.submit(vec![row(entry)], None).blocking_recv().unwrap();
    }

    fn append_async(&self, entry: Entry) -> Pending<'_> {
        Box::pin(async move {
            self.submit(vec![row(&entry)], None).await.unwrap();
        })
    }

    fn append_batches(&self, batches: &[Vec<Entry>]) -> Duration {
        let batches: Vec<Vec<_>> =
            batches.iter().map(|batch| batch.iter().map(row).collect()).collect();
        let start = Instant::now();
        for batch in batches {
            self.submit(batch, None).blocking_recv().unwrap();
        }
        start.elapsed()
    }

    fn pipelined(&self, entries: &[Entry], in_flight: usize) -> Duration {
        let rows: Vec<_> = entries.iter().map(row).collect();
        let mut waiting = VecDeque::with_capacity(in_flight);
        let start = Instant::now();
        for row in rows {
            if waiting.len() >= in_flight
                && let Some(first) = waiting.pop_front()
            {
                oneshot::Receiver::blocking_recv(first).unwrap();
            }
            waiting.push_back(self.submit(vec![row], None));
        }
        for answer in waiting {
            answer.blocking_recv().unwrap();
        }
        start.elapsed()
    }

    fn read_account(&self, account: u64) -> u64 {
        self.reading(|connection| of_tag(connection, &format!("account:{account}")).0)
    }

    fn replay(&self) -> u64 {
        self.reading(|connection| in_order(connection, 0))
    }

    fn decide(&self, entry: &Entry) -> bool {
        let tag = format!("account:{}", entry.account);
        let (events, after) = self.reading(|connection| of_tag(connection, &tag));
        assert!(events > 0, "an account without events: the log is not filled");
        let unchanged = TagChange { tag, after };
        self.submit(vec![row(entry)], Some(unchanged)).blocking_recv().unwrap()
    }

    /// Polls, and pauses for 50 microseconds after a poll without events.
    fn subscribe(&self) -> Option<Subscriber> {
        let connection = connect_to_read(&self.file);
        let mut seen: i64 = connection.query_row(HEAD, (), |row| row.get(0)).unwrap();
        Some(Box::new(move || {
            let events = in_order(&connection, seen);
            seen += events as i64;
            if events == 0 {
                thread::sleep(Duration::from_micros(50));
            }
            events
        }))
    }

    fn close(self: Box<Self>) {
        let Sqlite { requests, writer, .. } = *self;
        drop(requests);
        writer.join().unwrap();
    }
}
