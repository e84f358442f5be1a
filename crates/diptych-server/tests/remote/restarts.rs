//! A server is restarted while calls have no answer, and what the client was told about it is lost,
//! too.

use std::{thread, time::Duration};

use diptych_remote::RemoteStore;
use diptych_store::{
    Append, AppendError, Digest, Filter, Key, Memory, RawEvent, Read, ReadError, Refusal, Store,
    SyncedCommit, Unavailable,
};
use uuid::Uuid;

use crate::{
    child::free_address,
    proxy::{Mode, Proxy},
    served_log::ServedLog,
};

const ANSWER_TIME: Duration = Duration::from_secs(20);
/// Longer than a test, so that only the test closes connections.
const HEARTBEAT: Duration = Duration::from_secs(60);

fn event() -> Append {
    Append::event(RawEvent::new("counted", "1").id(Uuid::new_v4()))
}

fn commit(store: &RemoteStore, append: Append) -> Result<SyncedCommit, AppendError> {
    use diptych_store::EventStore;
    pollster::block_on(async { Ok(store.append(append).await?.synced().await?) })
}

fn events(store: &Store) -> usize {
    pollster::block_on(store.read(&Filter::everything(), Read::all())).unwrap().len()
}

/// Waits until this is true.
fn eventually(what: &str, is_true: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if is_true() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not in time: {what}");
}

/// Once the second stream to the new server counted as resumed, because the first one had opened
/// the session there. The calls were then executed again.
#[test]
fn a_restart_whose_first_answer_is_lost_too_doubles_nothing() {
    let (memory, address) = (Store::new(Memory::new()), free_address());
    let server = ServedLog::start_at(memory.clone(), address);
    let proxy = Proxy::start(address);
    let store = proxy.connect_with(ANSWER_TIME, HEARTBEAT);
    commit(&store, event()).unwrap();

    proxy.set(Mode::LosesReplies);
    let appending = {
        let store = store.clone();
        thread::spawn(move || commit(&store, event()))
    };
    eventually("the server has the commit", || events(&memory) == 2);
    drop(server);
    let server = ServedLog::start_at(memory.clone(), address);
    proxy.cut();
    // The client opens its session at the new server, whose answer is lost.
    thread::sleep(Duration::from_millis(500));
    proxy.set(Mode::Passes);
    proxy.cut();
    assert_eq!(appending.join().unwrap().unwrap().first.get(), 2);
    assert_eq!(events(&memory), 2);
    drop(server);
}

/// Another process committed the request under its key while the server was away. That commit is
/// not the one of this process: its events, and what they rest on, can differ.
#[test]
fn a_commit_of_another_process_under_the_key_is_a_refusal() {
    let (memory, address) = (Store::new(Memory::new()), free_address());
    let server = ServedLog::start_at(memory.clone(), address);
    let proxy = Proxy::start(address);
    let store = proxy.connect_with(ANSWER_TIME, HEARTBEAT);
    commit(&store, event()).unwrap();

    proxy.set(Mode::Swallows);
    let key = || Key::new("request-1", Digest::of(b"the request"));
    let appending = {
        let store = store.clone();
        thread::spawn(move || commit(&store, event().key(key())))
    };
    // The call is on its way.
    thread::sleep(Duration::from_millis(300));
    let other = pollster::block_on(memory.append(event().key(key()))).unwrap();
    drop(server);
    let server = ServedLog::start_at(memory.clone(), address);
    proxy.set(Mode::Passes);
    proxy.cut();
    let refused = appending.join().unwrap().unwrap_err();
    let AppendError::Refused(Refusal::KeyTaken { first, .. }) = refused else {
        panic!("{refused}")
    };
    assert_eq!(first, other.first);
    assert_eq!(events(&memory), 2);
    drop(server);
}

/// Once the watch could take the new history first. The appends of the old one were then written
/// into it.
#[test]
fn appends_made_for_another_history_are_not_written() {
    for _ in 0..4 {
        let (memory, address) = (Store::new(Memory::new()), free_address());
        let server = ServedLog::start_at(memory, address);
        let proxy = Proxy::start(address);
        let store = proxy.connect_with(ANSWER_TIME, HEARTBEAT);
        commit(&store, event()).unwrap();
        proxy.set(Mode::Swallows);
        let appending: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                thread::spawn(move || commit(&store, event()))
            })
            .collect();
        let reading = {
            let store = store.clone();
            thread::spawn(move || {
                use diptych_store::EventStore;
                pollster::block_on(store.read(&Filter::everything(), Read::all()))
            })
        };
        thread::sleep(Duration::from_millis(100));
        drop(server);

        let other = Store::new(Memory::new());
        let server = ServedLog::start_at(other.clone(), address);
        proxy.set(Mode::Passes);
        proxy.cut();
        for appending in appending {
            let cause = match appending.join().unwrap().unwrap_err() {
                AppendError::Unavailable(cause) => cause,
                AppendError::OutcomeUnknown(unknown) => unknown.cause,
                error => panic!("{error}"),
            };
            assert!(matches!(cause, Unavailable::HistoryChanged(_)), "{cause}");
        }
        let error = reading.join().unwrap().unwrap_err();
        let ReadError::Unavailable(cause) = error else { panic!("{error}") };
        assert!(matches!(cause, Unavailable::HistoryChanged(_)), "{cause}");
        assert_eq!(events(&other), 0);
        // The store goes on in the new history.
        commit(&store, event()).unwrap();
        assert_eq!(events(&other), 1);
        drop(server);
    }
}

/// A server that takes the call and never answers.
#[test]
fn an_append_without_an_outcome_ends_with_its_time() {
    let (memory, address) = (Store::new(Memory::new()), free_address());
    let server = ServedLog::start_at(memory, address);
    let proxy = Proxy::start(address);
    let store = proxy.connect_with(Duration::from_secs(1), HEARTBEAT);
    commit(&store, event()).unwrap();
    proxy.set(Mode::LosesReplies);
    let error = commit(&store, event()).unwrap_err();
    assert!(matches!(error, AppendError::OutcomeUnknown(_)), "{error}");
    drop(server);
}
