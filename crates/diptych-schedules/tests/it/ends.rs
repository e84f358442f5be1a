//! Appends while the log is closed, its disk fails or is full, and callers give up: each call gets
//! an answer.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use diptych_log::{
    LogOptions, Tuning,
    disk::simulated::{Fault, Operation},
};
use diptych_store::sync::block_on;
use diptych_store::{AppendError, EventStore, Unavailable};
use shuttle::{
    rand::{Rng, thread_rng},
    thread,
};

use crate::{
    appends::{Answer, Way, caller, join},
    explore::{explore_and_reach, reached},
    log::{OpenLog, assert_at, assert_whole, commit, options, read_all, small},
};

fn callers_of_each_way(log: &OpenLog) -> [thread::JoinHandle<Vec<Answer>>; 4] {
    [
        caller(log, Way::Commit, &[("a", 2), ("b", 1)]),
        caller(log, Way::Commit, &[("c", 1)]),
        caller(log, Way::Append, &[("d", 1), ("e", 3)]),
        caller(log, Way::Task, &[("f", 1), ("g", 2)]),
    ]
}

/// Asserts that `all` has each commit that was acknowledged.
fn assert_acknowledged_are_in(all: &[String], answers: &[Answer]) {
    assert_whole(all);
    for (name, events, answer) in answers {
        if let Ok(synced) = answer {
            assert_at(all, synced, name, *events);
        }
    }
}

fn is_in(all: &[String], name: &str) -> bool {
    all.iter().any(|text| text.split(' ').next() == Some(name))
}

#[test]
fn every_append_ends_when_the_log_is_closed_and_accepted_ones_are_written() {
    explore_and_reach(&["acknowledged", "refused"], || {
        let queue_bytes = [1, 1 << 20][thread_rng().gen_range(0..2)];
        let log = OpenLog::with(LogOptions { queue_bytes, ..options() });
        let callers = callers_of_each_way(&log);
        let closers = [log.handle(), log.handle()].map(|log| thread::spawn(move || log.close()));
        let answers = join(callers);
        closers.into_iter().for_each(|closer| closer.join().unwrap().unwrap());
        let all = log.after_power_loss();
        assert_acknowledged_are_in(&all, &answers);
        for (name, _, answer) in &answers {
            match answer {
                Ok(_) => reached("acknowledged"),
                Err(AppendError::Unavailable(Unavailable::Closed)) => {
                    reached("refused");
                    assert!(!is_in(&all, name), "{name} was refused and is there");
                }
                Err(other) => panic!("{name}: {other}"),
            }
        }
        assert!(log.head().is_ended());
    });
}

#[test]
fn every_append_ends_when_a_write_or_a_sync_fails() {
    explore_and_reach(&["acknowledged", "refused", "open"], || {
        let queue_bytes = [1, 1 << 20][thread_rng().gen_range(0..2)];
        let log = OpenLog::with(LogOptions { queue_bytes, ..options() });
        let failing = [Operation::Write, Operation::Sync][thread_rng().gen_range(0..2)];
        log.disk.fail_after(thread_rng().gen_range(0..12), Fault::Io(failing));
        let answers = join(callers_of_each_way(&log));
        for (name, _, answer) in &answers {
            match answer {
                Ok(_) => reached("acknowledged"),
                Err(AppendError::Unavailable(Unavailable::Failed { .. })) => reached("refused"),
                Err(AppendError::OutcomeUnknown(_)) => reached("open"),
                Err(other) => panic!("{name}: {other}"),
            }
        }
        let all = log.after_power_loss();
        assert_acknowledged_are_in(&all, &answers);
        // Readers see no commit whose sync failed.
        assert!(read_all(&log).len() <= all.len());
        drop(log.handle().close());
    });
}

/// A log that has space goes on by itself.
fn wait_until_it_goes_on(log: &OpenLog) {
    for _ in 0..2_000 {
        if log.head().paused().is_none() {
            return;
        }
        thread::yield_now();
    }
    panic!("the log has space, and its head shows a pause");
}

/// Once, a thread that had found no space could show the pause after another one had ended it. The
/// head then showed a pause for ever, and waits for commits failed that were about to be written.
#[test]
fn a_pause_that_is_over_is_not_shown() {
    explore_and_reach(&["the disk is full"], || {
        let log = OpenLog::new();
        log.disk.set_capacity(log.disk.used_bytes() + 10);
        let callers =
            [caller(&log, Way::Commit, &[("a", 1)]), caller(&log, Way::Commit, &[("b", 1)])];
        log.disk.set_capacity(u64::MAX);
        drop(join(callers));
        if !log.disk.failures().is_empty() {
            reached("the disk is full");
        }
        wait_until_it_goes_on(&log);
        log.blocking().flush().unwrap();
        let last = Way::Append.commit(&log, commit("last", 1));
        assert!(last.is_ok(), "{last:?}");
    });
}

/// Once, the writer slept on until the next append, if its next attempt was due before the caller
/// that had found no space ended its turn.
#[test]
fn accepted_commits_are_written_once_there_is_space_also_without_another_append() {
    explore_and_reach(&["the disk is full"], || {
        let log = OpenLog::new();
        log.disk.set_capacity(log.disk.used_bytes() + 10);
        let caller = caller(&log, Way::Commit, &[("a", 1)]);
        (0..thread_rng().gen_range(0..20)).for_each(|_| thread::yield_now());
        log.disk.set_capacity(u64::MAX);
        let [(_, _, answer)] = &join([caller])[..] else { panic!("one commit has one answer") };
        if answer.is_err() {
            reached("the disk is full");
        }
        wait_until_it_goes_on(&log);
        log.blocking().flush().unwrap();
        assert_eq!(read_all(&log).len(), 1);
    });
}

#[test]
fn every_append_ends_while_the_disk_is_full_and_accepted_ones_are_written_later() {
    explore_and_reach(&["acknowledged", "refused", "open"], || {
        let log = OpenLog::new();
        log.disk.set_capacity(log.disk.used_bytes() + thread_rng().gen_range(0..300));
        let callers = callers_of_each_way(&log);
        let freed = thread::spawn({
            let disk = log.disk.clone();
            move || {
                (0..thread_rng().gen_range(0..20)).for_each(|_| thread::yield_now());
                disk.set_capacity(u64::MAX);
            }
        });
        let answers = join(callers);
        freed.join().unwrap();
        wait_until_it_goes_on(&log);
        log.blocking().flush().unwrap();
        let all = read_all(&log);
        assert_acknowledged_are_in(&all, &answers);
        for (name, _, answer) in &answers {
            match answer {
                Ok(_) => reached("acknowledged"),
                Err(AppendError::OutcomeUnknown(_)) => {
                    reached("open");
                    assert!(is_in(&all, name), "{name} was accepted and is not there");
                }
                Err(AppendError::Unavailable(Unavailable::Storage { .. })) => {
                    reached("refused");
                    assert!(!is_in(&all, name), "{name} was refused and is there");
                }
                Err(other) => panic!("{name}: {other}"),
            }
        }
        assert_eq!(log.after_power_loss(), all);
    });
}

/// Also operations of the indexer and of clustering fail, or find no space once.
#[test]
fn every_append_ends_whatever_operation_fails() {
    explore_and_reach(&["acknowledged", "refused", "open", "the index cannot be written"], || {
        let tuning = Tuning { waiting_parts: 1, ..small().tuning };
        let log = OpenLog::with(LogOptions { tuning, ..small() });
        let kind = Operation::ALL[thread_rng().gen_range(0..Operation::ALL.len())];
        let fault = match thread_rng().gen_bool(0.3) {
            true => Fault::DiskFull,
            false => Fault::Io(kind),
        };
        log.disk.fail_after(thread_rng().gen_range(0..60), fault);
        let answers = join(callers_of_each_way(&log));
        for (name, _, answer) in &answers {
            match answer {
                Ok(_) => reached("acknowledged"),
                Err(AppendError::Unavailable(_)) => reached("refused"),
                Err(AppendError::OutcomeUnknown(_)) => reached("open"),
                Err(other) => panic!("{name}: {other}"),
            }
        }
        if log.disk.failures().iter().any(|failure| failure.contains("index")) {
            reached("the index cannot be written");
        }
        let closed = log.handle().close();
        log.disk.disarm();
        let all = log.after_power_loss();
        assert_acknowledged_are_in(&all, &answers);
        for (name, _, answer) in &answers {
            if matches!(answer, Err(AppendError::OutcomeUnknown(_))) && closed.is_ok() {
                assert!(
                    is_in(&all, name),
                    "{name} was accepted, everything synced, and it is gone"
                );
            }
        }
    });
}

/// Some tasks are dropped while they wait for room, or for the sync.
#[test]
fn callers_that_give_up_take_no_wake_up_from_others() {
    explore_and_reach(
        &["a caller gives up", "its commit is there", "its commit is not there"],
        || {
            let log = OpenLog::with(LogOptions { queue_bytes: 1, ..options() });
            let impatient = [1, 2].map(|polls| {
                let log = log.handle();
                thread::spawn(move || {
                    let mut context = Context::from_waker(Waker::noop());
                    let mut whole = pin!(async {
                        let accepted = log.append(commit("gone", 2)).await?;
                        Ok::<_, AppendError>(accepted.synced().await?)
                    });
                    for _ in 0..polls {
                        match whole.as_mut().poll(&mut context) {
                            Poll::Ready(synced) => {
                                synced.unwrap();
                                return;
                            }
                            Poll::Pending => thread::yield_now(),
                        }
                    }
                    reached("a caller gives up");
                })
            });
            let callers = [
                caller(&log, Way::Task, &[("a", 1), ("b", 1)]),
                caller(&log, Way::Append, &[("c", 2)]),
                caller(&log, Way::Commit, &[("d", 1)]),
            ];
            let answers = join(callers);
            impatient.into_iter().for_each(|caller| caller.join().unwrap());
            log.blocking().flush().unwrap();
            let all = read_all(&log);
            match is_in(&all, "gone") {
                true => reached("its commit is there"),
                false => reached("its commit is not there"),
            }
            assert!(answers.iter().all(|(_, _, answer)| answer.is_ok()), "{answers:?}");
            assert_acknowledged_are_in(&all, &answers);
            let last = block_on(log.append(commit("last", 1))).unwrap();
            block_on(last.synced()).unwrap();
        },
    );
}
