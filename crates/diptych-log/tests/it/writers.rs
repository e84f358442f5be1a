//! The writers of a child process that will be killed. Several threads commit, and write to the
//! witness file which commits were acknowledged.

use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use diptych_log::{Log, disk::simulated::Random};
use diptych_store::{
    AcceptedCommit, Append, AppendCondition, AppendError, Digest, EventStore, Filter, Key,
    Position, Refusal, SyncedCommit, Tag, Tracking,
};

use crate::{
    crash::append_to,
    witness::{self, CommitWords, WitnessLine},
};

const WRITERS: u64 = 4;
const COUNTERS: u64 = 6;

/// Starts writers that write until the process ends.
pub(crate) fn start(log: &Log, witness: &Path, seed: u64, round: u64) {
    static NEVER: AtomicBool = AtomicBool::new(false);
    for mut writer in Writer::several(log, witness, seed, round) {
        // The parent must notice a writer that panics, even if the other writers continue.
        let write = move || {
            let written = catch_unwind(AssertUnwindSafe(|| writer.write_until(&NEVER)));
            process::exit(if written.is_ok() { 0 } else { 101 });
        };
        thread::spawn(write);
    }
}

pub(crate) struct Writer {
    log: Log,
    witness: std::fs::File,
    random: Random,
    round: u64,
    name: u64,
    number: u64,
}

impl Writer {
    pub(crate) fn several(log: &Log, witness: &Path, seed: u64, round: u64) -> Vec<Writer> {
        let writer = |name| Writer {
            log: log.clone(),
            witness: append_to(witness),
            random: Random::new(seed * WRITERS + name),
            round,
            name,
            number: 0,
        };
        (0..WRITERS).map(writer).collect()
    }

    pub(crate) fn write_until(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            match self.random.below(10) {
                0..=2 => self.count(),
                3 | 4 => self.use_key(),
                5 => self.track(),
                6 | 7 => self.commit_one(),
                _ => self.commit_several(),
            }
        }
    }

    /// The description of the next commit: its round, writer and number. The kind of the commit
    /// adds the rest.
    fn next(&mut self) -> CommitWords {
        self.number += 1;
        CommitWords {
            round: self.round,
            writer: self.name,
            number: self.number,
            ..CommitWords::default()
        }
    }

    /// Commits the next number of a counter that all writers share. Only the condition prevents
    /// that a number is used twice.
    fn count(&mut self) {
        let counter = self.random.below(COUNTERS);
        let tag = Tag::new("counter", counter);
        let mut told = self.next();
        loop {
            let after = EventStore::head(&self.log).position();
            let value = self.log.blocking().count(&tag, after).unwrap() + 1;
            told.counted = Some((counter, value));
            let fail_if = Filter::tag(tag.clone());
            let append = self.append(&told).condition(AppendCondition { fail_if, after });
            match self.log.blocking().commit(append) {
                Ok(committed) => return self.bear_witness(&told, committed),
                Err(AppendError::Refused(Refusal::Conflict { .. })) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    /// Commits with a key that several writers use at about the same time. Only one of them
    /// succeeds.
    fn use_key(&mut self) {
        let mut told = self.next();
        let name = witness::key(self.round, self.number / 2);
        told.key = Some(name.clone());
        let key = Key::new(&name, Digest::of(name.as_bytes()));
        let append = self.append(&told).key(key);
        match self.log.blocking().commit(append.clone()) {
            Ok(committed) => {
                self.bear_witness(&told, committed);
                let SyncedCommit { first, last } = committed;
                match self.log.blocking().commit(append) {
                    Err(AppendError::Refused(refusal)) => {
                        assert_eq!(refusal, Refusal::KeyTaken { first, last });
                    }
                    other => panic!("a key was taken twice: {other:?}"),
                }
            }
            Err(AppendError::Refused(Refusal::KeyTaken { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    fn track(&mut self) {
        let source = witness::source(self.name);
        let stored = self.log.blocking().tracked(&source).unwrap();
        let position = stored.map_or(0, |tracking| tracking.position.get()) + 1;
        let mut told = self.next();
        told.tracked = Some((self.name, position));
        let append = self.append(&told).tracking(Tracking::new(source, position));
        let committed = self.log.blocking().commit(append).unwrap();
        self.bear_witness(&told, committed);
    }

    fn commit_one(&mut self) {
        let told = self.next();
        let append = self.append(&told);
        let committed = self.log.blocking().commit(append).unwrap();
        self.bear_witness(&told, committed);
    }

    /// Appends several commits before it waits for any of them.
    fn commit_several(&mut self) {
        let mut accepted: Vec<(CommitWords, AcceptedCommit)> = Vec::new();
        for _ in 0..1 + self.random.below(6) {
            let told = self.next();
            let append = self.append(&told);
            accepted.push((told, self.log.blocking().append(append).unwrap()));
        }
        for (told, accepted) in accepted {
            let committed = pollster::block_on(accepted.synced()).unwrap();
            self.bear_witness(&told, committed);
        }
    }

    fn append(&mut self, told: &CommitWords) -> Append {
        let events = 1 + self.random.below(4);
        Append::events((0..events).map(|index| told.event(index, events)))
    }

    /// Appends a line to the witness file with one write: after a kill the line is there or not.
    fn bear_witness(&mut self, told: &CommitWords, committed: SyncedCommit) {
        let line = WitnessLine {
            round: told.round,
            writer: told.writer,
            number: told.number,
            positions: (committed.first.get(), committed.last.get()),
        };
        assert!(committed.first > Position::START);
        self.witness.write_all(line.to_line().as_bytes()).unwrap();
    }
}
