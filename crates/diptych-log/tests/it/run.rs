//! One run on the simulated disk, which follows from a seed: several lives of one log.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use diptych_log::{
    Background, Clustering, Damage, Durability, Log, LogOptions, OpenError, VerifyError,
    disk::{
        Disk,
        simulated::{Fault, Operation, Random, Sabotage, SimulatedDisk},
    },
    verify,
};
use diptych_store::{
    AcceptedCommit, Append, AppendError, CommitSync, EventStore, Limits, ReadError, TimeSource,
    Unavailable,
};

use crate::{
    model::{MayLose, Model, TakenCommit},
    requests::Requests,
};

pub(crate) const FOLDER: &str = "/data/log";

/// The steps of a run, which are printed if it fails.
pub(crate) type Trace = Rc<RefCell<Vec<String>>>;

pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.event_bytes = 4 << 10;
    limits.commit_bytes = 12 << 10;
    limits.tracking_sources = 4;
    limits.batch_events = 50;
    limits.batch_bytes = 6 << 10;
    limits
}

/// The sizes are small, so that segments and index files begin and end all the time.
pub(crate) fn options(random: &mut Random, durability: Durability) -> LogOptions {
    LogOptions {
        durability,
        limits: limits(),
        time: TimeSource::Caller,
        segment_bytes: (2 << 10) + random.below(14 << 10),
        index_bytes: (1 << 10) + random.below(3 << 10),
        queue_bytes: (2 << 10) + (random.index(30 << 10)),
        background: Background::Inline,
        // If clustering is off in one life of the log, a later life clusters its segments.
        clustering: if random.chance(25) { Clustering::Off } else { Clustering::Background },
        ..LogOptions::default()
    }
}

/// How a life of the log ends.
#[derive(Clone, Copy, Debug)]
enum End {
    PowerLoss,
    ProcessKill,
    Drop,
    Close,
}

/// One seed: several lives of one log, each from an opening to a crash or a close.
pub(crate) struct Run {
    random: Random,
    disk: SimulatedDisk,
    durability: Durability,
    requests: Requests,
    model: Model,
    /// The commits that the last end may have lost.
    may_lose: MayLose,
    /// Whether the log reported that it takes no more commits.
    failed: bool,
    trace: Trace,
}

impl Run {
    pub(crate) fn new(
        seed: u64,
        durability: Durability,
        sabotage: Option<Sabotage>,
        trace: Trace,
    ) -> Run {
        let mut random = Random::new(seed);
        let disk = SimulatedDisk::new(random.number());
        if let Some(sabotage) = sabotage {
            disk.set_sabotage(sabotage);
        }
        Run {
            random,
            disk,
            durability,
            requests: Requests::default(),
            model: Model::new(limits()),
            may_lose: MayLose::Nothing,
            failed: false,
            trace,
        }
    }

    pub(crate) fn run(&mut self) {
        for _ in 0..2 + self.random.below(4) {
            let log = self.open();
            let end = self.live(&log);
            self.end(log, end);
        }
        self.disk.set_capacity(u64::MAX);
        let log = self.open();
        self.refuse_again(&log);
        self.verify(log);
    }

    /// The number of segments at the end, and the number of clustered ones.
    pub(crate) fn segments(&self) -> (usize, usize) {
        let files = self.disk.contents();
        let is_segment = |path: &Path| path.extension().is_some_and(|ending| ending == "seg");
        let segments = files.iter().filter(|(path, _)| is_segment(path));
        let clustered = segments.clone().filter(|(_, bytes)| bytes.get(10) == Some(&1));
        (segments.count(), clustered.count())
    }

    fn note(&self, what: impl Into<String>) {
        self.trace.borrow_mut().push(what.into());
    }

    /// Opens the log, which may take several attempts, and compares it with the model.
    fn open(&mut self) -> Log {
        if self.random.chance(20) {
            self.arm(60);
        }
        for attempt in 0.. {
            assert!(attempt < 3, "the log does not open, although no fault is armed any more");
            match self.try_open() {
                Ok(log) if !self.disk.is_stopped() => {
                    let lost = self.recover(&log);
                    self.note(format!("open: head {}, {lost} lost", self.model.accepted()));
                    return log;
                }
                failed => self.failed_to_open(failed.err()),
            }
        }
        unreachable!()
    }

    fn failed_to_open(&mut self, error: Option<OpenError>) {
        self.note(format!("open fails: {error:?}"));
        let io = matches!(error, None | Some(OpenError::Io { .. }));
        assert!(io, "{error:?}");
        assert!(!self.disk.failures().is_empty(), "for no reason: {error:?}");
        self.disk.disarm();
        self.disk.set_capacity(u64::MAX);
        if self.disk.is_stopped() || self.random.chance(20) {
            let end = self.crash();
            self.note(format!("{end:?} while opening"));
        }
    }

    fn try_open(&mut self) -> Result<Log, OpenError> {
        let mut options = options(&mut self.random, self.durability);
        options.disk = Arc::new(self.disk.clone());
        Log::open(FOLDER, options)
    }

    fn recover(&mut self, log: &Log) -> usize {
        // The comparison reads from the disk, and these reads must not fail.
        self.disk.disarm();
        self.failed = false;
        let may_lose = std::mem::replace(&mut self.may_lose, MayLose::Nothing);
        self.model.recover(log, may_lose, &mut self.random)
    }

    /// Arms a random fault that occurs within this number of disk operations.
    fn arm(&mut self, within: u64) {
        let after = self.random.below(within);
        let fault = match self.random.below(10) {
            0..=3 => Fault::Stop,
            4 | 5 => Fault::Io(Operation::Sync),
            6 => Fault::Io(Operation::Write),
            7 => Fault::DiskFull,
            _ => Fault::Io(*self.random.pick(&Operation::ALL).unwrap()),
        };
        self.note(format!("armed: {fault:?} after {after} operations"));
        self.disk.fail_after(after, fault);
    }

    fn live(&mut self, log: &Log) -> End {
        match self.random.below(10) {
            0..=5 => self.arm(120),
            6 => self.disk.set_capacity(self.disk.used_bytes() + self.random.below(20 << 10)),
            _ => {}
        }
        for _ in 0..5 + self.random.below(60) {
            self.step(log);
            if self.disk.is_stopped() {
                return self.random_crash();
            }
            if self.failed && self.random.chance(30) {
                break;
            }
        }
        match self.random.below(8) {
            0 | 1 => End::Close,
            2 => End::Drop,
            _ => self.random_crash(),
        }
    }

    fn random_crash(&mut self) -> End {
        *self.random.pick(&[End::PowerLoss, End::PowerLoss, End::ProcessKill]).unwrap()
    }

    fn step(&mut self, log: &Log) {
        match self.random.below(20) {
            0..=11 => {
                let append = self.requests.any(&mut self.random, &self.model);
                self.append(log, append);
            }
            12 | 13 => {
                let append = self.requests.any(&mut self.random, &self.model);
                self.commit(log, append);
            }
            14..=17 => self.flush(log),
            _ => self.read(log),
        }
    }

    fn append(&mut self, log: &Log, append: Append) {
        self.model.offered(&append);
        let what = describe(&append);
        let outcome = self.ask(log, &append);
        match &outcome {
            Ok(accepted) => self.note(format!("{what}: {}..={}", accepted.first, accepted.last)),
            Err(error) => self.note(format!("{what}: {error}")),
        }
        match outcome {
            Err(AppendError::Unavailable(why)) => self.not_taken(&why),
            Err(AppendError::OutcomeUnknown(error)) => self.not_taken(&error.cause),
            decided => {
                assert!(!self.failed, "the log takes commits again: {decided:?}");
                self.model.decided(append, decided.map(TakenCommit::from));
            }
        }
        self.settle();
    }

    /// Appends, and flushes if the append waits. Without threads an append can wait for a flush:
    /// because the queue is full, or because the reason for a refusal is not synced yet.
    fn ask(&mut self, log: &Log, append: &Append) -> Result<AcceptedCommit, AppendError> {
        let mut context = Context::from_waker(Waker::noop());
        let mut asking = pin!(EventStore::append(log, append.clone()));
        for _ in 0..4 {
            if let Poll::Ready(outcome) = asking.as_mut().poll(&mut context) {
                return outcome;
            }
            self.flush(log);
        }
        panic!("an append still waits after a flush")
    }

    /// Appends and waits until the commit is synced, as most callers do.
    fn commit(&mut self, log: &Log, append: Append) {
        self.model.offered(&append);
        let what = describe(&append);
        let outcome = log.blocking().commit(append.clone());
        self.note(format!("{what}, and wait for it: {}", text(&outcome)));
        match outcome {
            Err(AppendError::Unavailable(why)) => self.not_taken(&why),
            Err(AppendError::OutcomeUnknown(error)) => {
                // While there is no space, the log keeps it.
                let held = matches!(error.cause, Unavailable::Storage { .. });
                let sync = CommitSync::new(self.model.next_commit(), EventStore::head(log));
                let taken = TakenCommit { sync: held.then_some(sync), ..TakenCommit::default() };
                self.model.decided(append, Ok(taken));
                self.not_taken(&error.cause);
            }
            decided => {
                assert!(!self.failed, "the log takes commits again: {decided:?}");
                self.model.decided(append, decided.map(TakenCommit::from));
            }
        }
        self.settle();
    }

    fn not_taken(&mut self, why: &Unavailable) {
        assert!(!self.disk.failures().is_empty(), "for no reason: {why:?}");
        self.failed |= matches!(why, Unavailable::Failed { .. });
    }

    fn flush(&mut self, log: &Log) {
        let outcome = log.blocking().flush();
        self.note(format!("flush: {}", text(&outcome)));
        if let Err(error) = &outcome {
            self.not_taken(&error.cause);
        }
        self.settle();
        if outcome.is_ok() && !self.failed {
            assert_eq!(self.model.unacknowledged(), 0, "flushed, and not acknowledged");
        }
        if self.failed {
            let append = self.requests.plain(&mut self.random);
            let refused = self.ask_failed(log, append);
            assert!(refused, "the log takes commits after a failure");
        }
    }

    fn ask_failed(&mut self, log: &Log, append: Append) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let outcome = pin!(EventStore::append(log, append)).poll(&mut context);
        matches!(outcome, Poll::Ready(Err(AppendError::Unavailable(Unavailable::Failed { .. }))))
    }

    fn settle(&mut self) {
        if let Err(error) = self.model.settle() {
            self.note(format!("accepted, but {error}"));
            self.not_taken(&error.cause);
        }
    }

    fn read(&mut self, log: &Log) {
        self.settle();
        let outcome = self.model.check_published(log, &mut self.random);
        self.note(format!("read: {}", text(&outcome)));
        if let Err(error) = outcome {
            assert!(matches!(error, ReadError::Unavailable(_)), "{error:?}");
            assert!(!self.disk.failures().is_empty(), "for no reason: {error:?}");
        }
    }

    fn end(&mut self, log: Log, end: End) {
        self.note(format!("{end:?}; failures: {:?}", self.disk.failures()));
        self.may_lose = MayLose::Unacknowledged;
        match end {
            End::PowerLoss => self.power_loss(),
            End::ProcessKill => self.disk = self.disk.process_kill(),
            End::Drop => drop(log),
            End::Close => {
                let closed = log.close();
                self.note(format!("closed: {}", text(&closed)));
                self.disk.disarm();
                match closed {
                    Ok(()) => {
                        // This also holds if an index file could not be written: only the commits
                        // count.
                        self.model.settle().unwrap();
                        assert_eq!(self.model.unacknowledged(), 0, "closed, not acknowledged");
                        self.model.flushed();
                        self.may_lose = MayLose::Nothing;
                    }
                    Err(error) => self.not_taken(&error.cause),
                }
            }
        }
        let untroubled = self.disk.failures().is_empty();
        if self.disk.is_stopped() || self.random.chance(20) {
            let closed = self.may_lose == MayLose::Nothing;
            let end = self.crash();
            self.note(format!("{end:?} after that"));
            if closed && untroubled {
                self.may_lose = MayLose::Nothing;
            }
        }
        self.disk.disarm();
        self.disk.set_capacity(u64::MAX);
        if self.random.chance(25) {
            self.lose_the_newest_segment();
        }
        if self.random.chance(25) {
            self.damage_index();
        }
        if self.random.chance(10) {
            self.disk.set_capacity(self.disk.used_bytes() + self.random.below(3 << 10));
            self.note("the disk is nearly full");
        }
    }

    fn crash(&mut self) -> End {
        let end = self.random_crash();
        match end {
            End::PowerLoss => self.power_loss(),
            _ => self.disk = self.disk.process_kill(),
        }
        end
    }

    fn power_loss(&mut self) {
        self.disk = self.disk.power_loss(self.random.number());
        if self.durability != Durability::Synced {
            self.may_lose = MayLose::AnyTail;
        }
    }

    /// Checks, on a copy of the disk, that an open notices a loss: the newest segment with
    /// acknowledged commits is missing, and so are the published head and the whole index.
    fn lose_the_newest_segment(&self) {
        let disk = self.disk.process_kill();
        let files: Vec<_> = disk.contents().into_iter().map(|(path, _)| path).collect();
        let base = |path: &Path| path.file_stem()?.to_str()?.split_once('-')?.1.parse::<u64>().ok();
        let is_segment = |path: &&PathBuf| path.extension().is_some_and(|ending| ending == "seg");
        let newest = files.iter().filter(is_segment).max();
        let Some((newest, base)) = newest.and_then(|path| Some((path, base(path)?))) else {
            return;
        };
        if base > self.model.acknowledged() {
            return;
        }
        let goes = |path: &&PathBuf| {
            *path == newest || path.ends_with("head") || path.starts_with(format!("{FOLDER}/index"))
        };
        for path in files.iter().filter(goes) {
            disk.remove(path).unwrap();
        }
        let disk = Arc::new(disk);
        let opened = Log::open(FOLDER, LogOptions { disk, ..LogOptions::default() });
        let refused = matches!(opened, Err(OpenError::Corrupt(_)));
        assert!(refused, "acknowledged commits from {base} on are gone: {opened:?}");
    }

    /// Removes or damages index files. They are derived, so this may happen at any time while the
    /// log is closed.
    fn damage_index(&mut self) {
        let folder = Path::new(FOLDER).join("index");
        let mut names = self.disk.list(&folder).unwrap();
        names.sort();
        for name in names {
            let path = folder.join(&name);
            if self.random.chance(40) {
                self.disk.remove(&path).unwrap();
                self.note(format!("{name} is gone"));
            } else if self.random.chance(30) {
                let bytes = self.random.index(600);
                let bytes = self.random.bytes(bytes);
                self.disk.remove(&path).unwrap();
                let file = self.disk.create(&path, 0).unwrap();
                file.write_at(0, &bytes).unwrap();
                self.note(format!("{name} is noise"));
            }
        }
    }

    /// Checks that the log makes the same decisions after a crash as before.
    fn refuse_again(&mut self, log: &Log) {
        for _ in 0..5 {
            let Some(again) = self.model.some_append(&mut self.random).cloned() else {
                return;
            };
            self.append(log, again);
        }
        self.flush(log);
        self.read(log);
    }

    /// Checks that a verification finds the log in order after it was read and closed. The log has
    /// rewritten damaged index files by then, unless a write failed.
    fn verify(&mut self, log: Log) {
        if self.failed {
            return;
        }
        log.close().unwrap();
        let mut options = options(&mut self.random, self.durability);
        options.disk = Arc::new(self.disk.clone());
        match verify(FOLDER, &options, |_, _| {}) {
            Ok(verified) => assert_eq!(verified.events, self.model.accepted().get()),
            Err(VerifyError::Damaged(damage)) if !self.disk.failures().is_empty() => {
                let in_index = |damage: &Damage| damage.file.starts_with("/data/log/index");
                assert!(damage.iter().all(in_index), "{damage:?}");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn describe(append: &Append) -> String {
    let sizes: Vec<_> = append.events.iter().map(|event| event.payload.len()).collect();
    let key = append.key.as_ref().map(|key| &key.name);
    let tracking = append.tracking.as_ref();
    let tracking = tracking.map(|tracking| (&tracking.source, tracking.position.get()));
    let conditions = append.conditions.iter();
    let conditions: Vec<_> =
        conditions.map(|condition| (condition.fail_if.to_string(), condition.after)).collect();
    format!("append {sizes:?} key {key:?} tracking {tracking:?} unless {conditions:?}")
}

fn text<T, E: std::fmt::Display>(outcome: &Result<T, E>) -> String {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}
