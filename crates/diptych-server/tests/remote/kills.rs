//! The server is killed, or restarted, while clients append. Nothing that was acknowledged is lost,
//! and nothing is there twice.

use std::{
    collections::HashMap,
    env,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use diptych_remote::{AppendAnswer, RemoteStore};
use diptych_store::{
    AcceptedCommit, Append, AppendCondition, AppendError, CommitNumber, CommitSync, Digest,
    EventStore, Filter, Head, HeadPublisher, Key, Memory, Position, RawEvent, Read, Store, Tag,
    Timestamp, Unavailable, testing::WrappedStore,
};
use uuid::Uuid;

use crate::{
    child::{ServerProcess, free_address},
    served_log::{ServedLog, connect},
};

const CLIENTS: u64 = 4;
/// Appends of one client under way at one time.
const TASKS: u64 = 16;

fn kills() -> u64 {
    env::var("DIPTYCH_KILLS").map_or(8, |text| text.parse().unwrap())
}

/// The appends of all clients: their ids, and where they were acknowledged.
#[derive(Default)]
struct Witness {
    numbers: AtomicU64,
    acknowledged: parking_lot::Mutex<HashMap<Uuid, Position>>,
    unknown: parking_lot::Mutex<Vec<Uuid>>,
    stop: AtomicBool,
}

impl Witness {
    /// Appends one event after another until the test ends. Each has an id; every second one has a
    /// key, too.
    fn append(&self, store: &RemoteStore) {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let id = Uuid::new_v4();
            let event = RawEvent::new("counted", number.to_string()).id(id);
            let mut append = Append::event(event.tag(Tag::new("number", number)));
            if number.is_multiple_of(2) {
                append = append.key(Key::new(format!("key-{number}"), Digest::of(b"counted")));
            }
            let synced = pollster::block_on(async {
                let accepted = store.append(append).await?;
                Ok::<_, AppendError>(accepted.synced().await?)
            });
            match synced {
                Ok(commit) => drop(self.acknowledged.lock().insert(id, commit.first)),
                Err(AppendError::OutcomeUnknown(_)) => self.unknown.lock().push(id),
                // A store whose server lost commits has ended.
                Err(AppendError::Unavailable(Unavailable::Failed { .. })) => return,
                Err(error) => panic!("append {number}: {error}"),
            }
        }
    }

    /// Compares the log with what was acknowledged.
    fn check(&self, store: &RemoteStore) {
        let mut found: HashMap<Uuid, Vec<Position>> = HashMap::new();
        let mut after = Position::START;
        let head = pollster::block_on(store.fresh_head()).unwrap();
        while after < head {
            let read = Read::after(after).upto(head);
            let batch = pollster::block_on(store.read(&Filter::everything(), read)).unwrap();
            for event in batch.iter() {
                found.entry(event.id().unwrap()).or_default().push(event.position());
            }
            after = batch.upto();
        }
        let twice = found.iter().find(|(_, positions)| positions.len() > 1);
        assert!(twice.is_none(), "an event is there twice: {twice:?}");
        for (id, position) in &*self.acknowledged.lock() {
            assert_eq!(found.get(id), Some(&vec![*position]), "event {id}");
        }
    }
}

/// Kills the server again and again under load. Returns what the clients saw.
fn kill_under_load(answer: AppendAnswer) -> Arc<Witness> {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut server = ServerProcess::start(folder.path(), address);
    let witness = Arc::new(Witness::default());
    let tasks: Vec<_> = (0..CLIENTS).map(|_| clients(&witness, address, answer)).collect();
    for _ in 0..kills() {
        let before = witness.acknowledged.lock().len();
        // Each life of the server does something.
        while witness.acknowledged.lock().len() < before + 50 {
            thread::sleep(Duration::from_millis(2));
        }
        server.kill();
        server = ServerProcess::start(folder.path(), address);
    }
    witness.stop.store(true, Ordering::Relaxed);
    tasks.into_iter().flatten().for_each(|task| task.join().unwrap());
    witness.check(&connect(server.address, answer));
    witness
}

/// The tasks of one client. If its store ends, it connects again.
fn clients(
    witness: &Arc<Witness>,
    address: SocketAddr,
    answer: AppendAnswer,
) -> Vec<thread::JoinHandle<()>> {
    let store = connect(address, answer);
    let task = |_| {
        let (witness, mut store) = (witness.clone(), store.clone());
        thread::spawn(move || {
            while !witness.stop.load(Ordering::Relaxed) {
                witness.append(&store);
                if store.head().is_ended() {
                    store = connect(address, answer);
                }
            }
        })
    };
    (0..TASKS).map(task).collect()
}

#[test]
fn a_killed_server_loses_and_doubles_nothing_and_its_clients_go_on() {
    let witness = kill_under_load(AppendAnswer::Synced);
    assert!(witness.unknown.lock().is_empty(), "an outcome stayed unknown");
}

#[test]
fn a_killed_server_loses_and_doubles_nothing_that_was_synced() {
    kill_under_load(AppendAnswer::Accepted);
}

/// A commit that the server accepted and never synced is lost with the server. Its positions then
/// have other events. A decision that rested on it must not be written.
#[test]
fn a_store_ends_if_its_server_lost_a_commit_that_it_had_accepted() {
    let memory = Store::new(Memory::new());
    let line = HeadPublisher::new(Position::START);
    let address = free_address();
    let never_synced = never_synced(memory.clone(), line.head());
    let server = ServedLog::start_at(Store::new(never_synced), address);
    let store = connect(address, AppendAnswer::Accepted);
    let event = || Append::event(RawEvent::new("a", "").id(Uuid::new_v4()));
    let accepted = pollster::block_on(store.append(event())).unwrap();
    let rests_on = AppendCondition { fail_if: Filter::everything(), after: accepted.last };
    drop(server);

    // Another log of the same history, in which the event does not exist.
    let server = ServedLog::start_at(memory, address);
    let lost = pollster::block_on(accepted.synced()).unwrap_err();
    assert!(lost.to_string().contains("lost commits that it had accepted"), "{lost}");
    let refused = pollster::block_on(store.append(event().condition(rests_on))).unwrap_err();
    let Unavailable::Failed { .. } = unavailable(refused) else { panic!("it went on") };
    assert!(store.head().is_ended());
    drop(server);
}

/// A store whose commits are accepted and never synced. `line` publishes none of them.
fn never_synced(memory: Store, line: Head) -> WrappedStore {
    WrappedStore::over(memory).append_by(move |memory, _| {
        let first = memory.head().position().plus(1);
        let sync = CommitSync::new(CommitNumber(1), line.clone());
        let recorded_at = Timestamp::now();
        async move { Ok(AcceptedCommit { first, last: first, recorded_at, sync }) }
    })
}

fn unavailable(error: AppendError) -> Unavailable {
    match error {
        AppendError::Unavailable(unavailable) => unavailable,
        other => panic!("another error: {other}"),
    }
}
