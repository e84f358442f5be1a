//! Callers and the writer: positions, acknowledgements, and commits that stay whole.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use diptych_log::{Durability, Log, LogOptions, Tuning};
use diptych_store::sync::block_on;
use diptych_store::{Append, AppendError, EventStore, Position, SyncedCommit};
use shuttle::thread::{self, JoinHandle};

use crate::{
    explore::{explore, explore_and_reach, reached},
    log::{OpenLog, assert_at, assert_whole, commit, commit_of, options, read_all},
};

/// The ways to commit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// A thread that may write by itself, or waits for its batch.
    Commit,
    /// A thread that leaves the write to the writer thread, and then waits for the sync.
    Append,
    /// A task.
    Task,
}

impl Way {
    pub(crate) fn commit(self, log: &Log, append: Append) -> Result<SyncedCommit, AppendError> {
        match self {
            Way::Commit => log.blocking().commit(append),
            Way::Append => Ok(block_on(log.blocking().append(append)?.synced())?),
            Way::Task => block_on(async { Ok(log.append(append).await?.synced().await?) }),
        }
    }
}

/// A commit of a caller: its name, its number of events, and the answer.
pub(crate) type Answer = (String, usize, Result<SyncedCommit, AppendError>);

/// A caller that makes these commits, one after another.
pub(crate) fn caller(
    log: &OpenLog,
    way: Way,
    commits: &'static [(&'static str, usize)],
) -> JoinHandle<Vec<Answer>> {
    let (log, more_bytes) = (log.handle(), log.more_bytes);
    thread::spawn(move || {
        let answer = |&(name, events): &(&str, usize)| {
            let commit = commit_of(name, events, more_bytes);
            (name.to_owned(), events, way.commit(&log, commit))
        };
        commits.iter().map(answer).collect()
    })
}

pub(crate) fn join(callers: impl IntoIterator<Item = JoinHandle<Vec<Answer>>>) -> Vec<Answer> {
    callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
}

/// Callers of each way; some find the writer idle, and some wait for the batch of another.
pub(crate) fn callers_commit() {
    let log = OpenLog::new();
    let callers = [
        caller(&log, Way::Commit, &[("a", 2), ("b", 1)]),
        caller(&log, Way::Commit, &[("c", 1), ("d", 2)]),
        caller(&log, Way::Append, &[("e", 3)]),
        caller(&log, Way::Task, &[("f", 1), ("g", 2)]),
    ];
    let mut before = Position::START;
    let answers = join(callers);
    let all = read_all(&log);
    assert_whole(&all);
    let mut positions = 0;
    for (name, events, answer) in &answers {
        let synced = answer.as_ref().unwrap();
        assert_at(&all, synced, name, *events);
        positions += events;
        let same_caller = !["a", "c", "e", "f"].contains(&name.as_str());
        assert!(!same_caller || synced.first > before, "{name} is before the commit before it");
        before = synced.last;
    }
    assert_eq!(all.len(), positions, "an event is there that no caller committed, or twice");
    assert_eq!(log.head().position(), Position::new(positions as u64));
    assert_eq!(log.after_power_loss(), all, "an acknowledged commit is not durable");
}

#[test]
fn every_accepted_commit_is_acknowledged_once_at_its_own_positions_and_is_whole() {
    explore(callers_commit);
}

/// An append that has to wait when it is first offered.
fn waiting(log: &OpenLog) -> JoinHandle<Vec<Answer>> {
    let log = log.handle();
    thread::spawn(move || {
        let mut append = pin!(log.append(commit("waits", 1)));
        let first = poll_fn(|context| Poll::Ready(append.as_mut().poll(context)));
        let accepted = match block_on(first) {
            Poll::Ready(accepted) => accepted,
            Poll::Pending => {
                reached("an append waits");
                block_on(append)
            }
        };
        vec![("waits".to_owned(), 1, Ok(block_on(accepted.unwrap().synced()).unwrap()))]
    })
}

/// With a queue of one commit, appends wait for room, and are woken for each batch.
#[test]
fn every_append_that_waits_for_room_in_the_queue_gets_some() {
    explore_and_reach(&["an append waits"], || {
        let log = OpenLog::with(LogOptions { queue_bytes: 1, ..options() });
        let callers = [
            caller(&log, Way::Task, &[("a", 1), ("b", 2)]),
            caller(&log, Way::Append, &[("c", 1), ("d", 1)]),
            caller(&log, Way::Commit, &[("e", 1)]),
            waiting(&log),
        ];
        let answers = join(callers);
        assert!(answers.iter().all(|(_, _, answer)| answer.is_ok()), "{answers:?}");
        assert_eq!(read_all(&log).len(), 7);
    });
}

/// While one index part waits to be written, appends wait for the indexer.
#[test]
fn every_append_that_waits_for_the_index_goes_on() {
    explore_and_reach(&["an append waits"], || {
        let tuning = Tuning { waiting_parts: 1, ..options().tuning };
        let log = OpenLog::with(LogOptions { index_bytes: 60, tuning, ..options() });
        let callers = [
            caller(&log, Way::Task, &[("a", 1), ("b", 2)]),
            caller(&log, Way::Append, &[("c", 1), ("d", 1)]),
            caller(&log, Way::Commit, &[("e", 1)]),
            waiting(&log),
        ];
        let answers = join(callers);
        assert!(answers.iter().all(|(_, _, answer)| answer.is_ok()), "{answers:?}");
        assert_eq!(read_all(&log).len(), 7);
    });
}

/// With deferred syncs, `flush` makes everything durable that was accepted before it.
#[test]
fn a_flush_makes_every_commit_before_it_durable() {
    explore_and_reach(&["a commit was not durable before"], || {
        let durability = Durability::Interval { interval: Duration::from_millis(5) };
        let log = OpenLog::with(LogOptions { durability, ..options() });
        let callers = [
            caller(&log, Way::Append, &[("a", 1), ("b", 2)]),
            caller(&log, Way::Commit, &[("c", 1)]),
        ];
        let flusher = thread::spawn({
            let (log, disk) = (log.handle(), log.disk.clone());
            move || {
                let before = log.head().position();
                log.blocking().flush().unwrap();
                (before, OpenLog::left_on(&disk))
            }
        });
        let answers = join(callers);
        assert!(answers.iter().all(|(_, _, answer)| answer.is_ok()), "{answers:?}");
        if log.after_power_loss().len() < 4 {
            reached("a commit was not durable before");
        }
        let (before, durable) = flusher.join().unwrap();
        assert_whole(&durable);
        assert!(durable.len() as u64 >= before.get(), "{durable:?} is not up to {before}");
        log.blocking().flush().unwrap();
        assert_eq!(log.after_power_loss().len(), 4);
    });
}
