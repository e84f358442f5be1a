//! Seeded runs on the simulated disk: commits, reads, faults, crashes, and after each opening a
//! comparison with the model.
//!
//! A run is its seed: it fails again when it is run again, and says how. More of them:
//! `DIPTYCH_SIM_SEEDS=100000`; a single one, with all that it did: `DIPTYCH_SIM_SEED=7`.

use std::{
    cell::RefCell,
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use diptych_log::{
    Background, Damage, Durability, Log, LogOptions, OpenError, VerifyError,
    disk::{
        Disk,
        simulated::{Fault, Operation, Random, Sabotage, SimulatedDisk},
    },
    verify,
};
use diptych_store::{
    Accepted, Append, AppendError, EventStore, Limits, ReadError, TimeSource, Unavailable,
};

use crate::{
    model::{MayLose, Model, Taken},
    requests::Requests,
};

const SEEDS: u64 = 150;
const FOLDER: &str = "/data/log";
/// An interval that never ends during a run, so that only the log itself decides to sync.
const LONG: Durability = Durability::Interval { interval: Duration::from_secs(3600) };

#[test]
fn synced_commits_survive_everything() {
    for_each_seed("synced_commits_survive_everything", |seed, trace| {
        Run::new(seed, Durability::Synced, None, trace).run();
    });
}

#[test]
fn a_prefix_of_commits_synced_at_intervals_survives() {
    for_each_seed("a_prefix_of_commits_synced_at_intervals_survives", |seed, trace| {
        Run::new(seed, LONG, None, trace).run();
    });
}

#[test]
fn a_seed_replays() {
    for seed in 0..20 {
        let traces = [(); 2].map(|()| {
            let trace = Trace::default();
            Run::new(seed, Durability::Synced, None, trace.clone()).run();
            trace.take()
        });
        assert_eq!(traces[0], traces[1], "seed {seed}");
    }
}

#[test]
fn acknowledging_before_the_sync_is_noticed() {
    is_noticed(Sabotage::AcknowledgeBeforeSync);
}

#[test]
fn going_on_after_a_failed_sync_is_noticed() {
    is_noticed(Sabotage::ForgetFailedSync);
}

#[test]
fn forgetting_to_sync_the_folder_is_noticed() {
    is_noticed(Sabotage::ForgetDirSync);
}

/// The checks above are worth something only if they fail where they should.
fn is_noticed(sabotage: Sabotage) {
    const AT_MOST: u64 = 500;
    for seed in 0..AT_MOST {
        let run = || Run::new(seed, Durability::Synced, Some(sabotage), Trace::default()).run();
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            return println!("{sabotage:?} is noticed by run {} of {AT_MOST}", seed + 1);
        }
    }
    panic!("{sabotage:?} is not noticed in {AT_MOST} runs");
}

#[test]
fn one_sync_makes_a_whole_batch_durable() {
    let disk = SimulatedDisk::new(1);
    let mut options = options(&mut Random::new(1), Durability::Synced);
    (options.segment_bytes, options.index_bytes) = (1 << 20, 1 << 20);
    options.disk = Arc::new(disk.clone());
    let log = Log::open(FOLDER, options).unwrap();
    let mut requests = Requests::default();
    let mut random = Random::new(2);
    // The first commit brings a time of its own, far from the clock: it begins a segment.
    let _ = log.blocking().append(requests.plain(&mut random)).unwrap();
    log.blocking().flush().unwrap();
    let before = disk.count(Operation::Sync);
    for _ in 0..10 {
        let append = requests.plain(&mut random);
        let _ = log.blocking().append(append).unwrap();
    }
    log.blocking().flush().unwrap();
    assert_eq!(disk.count(Operation::Sync), before + 1);
}

/// Once, a part of the index in the middle of a segment could not be written, and those before
/// and after it were merged as if they followed each other.
#[test]
fn an_index_file_that_cannot_be_written_leaves_reads_right() {
    for index_bytes in [600, 900, 1200] {
        for after in 0..60 {
            fail_to_write_index(index_bytes, after);
        }
    }
}

fn fail_to_write_index(index_bytes: u64, after: u64) {
    let disk = SimulatedDisk::new(1);
    let mut random = Random::new(3);
    let mut options = options(&mut random, Durability::Synced);
    (options.segment_bytes, options.index_bytes) = (3 << 10, index_bytes);
    (options.queue_bytes, options.disk) = (1 << 20, Arc::new(disk.clone()));
    let log = Log::open(FOLDER, options.clone()).unwrap();
    let (mut model, mut requests) = (Model::new(limits()), Requests::default());
    disk.fail_after(after, Fault::Io(Operation::Map));
    for _ in 0..20 {
        let append = requests.plain(&mut random);
        let Ok(accepted) = log.blocking().append(append.clone()) else { break };
        model.decided(append, Ok(accepted.into()));
    }
    let _ = log.blocking().flush();
    let _ = model.settle();
    disk.disarm();
    model.check_published(&log, &mut random).unwrap();
    drop(log);
    let log = Log::open(FOLDER, options).unwrap();
    model.recover(&log, MayLose::Unacknowledged, &mut random);
}

/// Once, an open found a file that the one before it could not make durable, and took it as it was.
#[test]
fn a_first_open_that_fails_costs_nothing_later() {
    for kind in [Operation::Write, Operation::Sync, Operation::SyncDir, Operation::CreateDir] {
        for (after, time) in (0..20).flat_map(|n| [(n, TimeSource::Clock), (n, TimeSource::Caller)])
        {
            let disk = SimulatedDisk::new(after);
            let options = || LogOptions {
                time,
                disk: Arc::new(disk.clone()),
                ..options(&mut Random::new(1), Durability::Synced)
            };
            disk.fail_after(after, Fault::Io(kind));
            drop(Log::open(FOLDER, options()));
            disk.disarm();
            let log = Log::open(FOLDER, options()).unwrap();
            let mut append = Requests::default().plain(&mut Random::new(2));
            append.recorded_at = append.recorded_at.filter(|_| time == TimeSource::Caller);
            let committed = log.blocking().commit(append).unwrap();
            for seed in 0..40 {
                let disk = Arc::new(disk.power_loss(seed));
                let log = Log::open(FOLDER, LogOptions { disk, ..options() }).unwrap();
                let head = EventStore::head(&log).position();
                assert_eq!(head, committed.last, "{kind:?} after {after}, seed {seed}");
            }
        }
    }
}

type Trace = Rc<RefCell<Vec<String>>>;

fn for_each_seed(test: &str, run: impl Fn(u64, Trace)) {
    let number = |name| env::var(name).ok().map(|text| text.parse().expect(name));
    let only: Option<u64> = number("DIPTYCH_SIM_SEED");
    let seeds = match only {
        Some(seed) => seed..seed + 1,
        None => 0..number("DIPTYCH_SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let trace = Trace::default();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, trace.clone())));
        if outcome.is_err() || only.is_some() {
            eprintln!("seed {seed}:\n  {}", trace.borrow().join("\n  "));
        }
        assert!(
            outcome.is_ok(),
            "seed {seed} fails; again: DIPTYCH_SIM_SEED={seed} cargo test -p diptych-log \
             --features testing --test it simulated::{test} -- --exact --nocapture"
        );
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.event_bytes = 4 << 10;
    limits.commit_bytes = 12 << 10;
    limits.tracking_sources = 4;
    limits.batch_events = 50;
    limits.batch_bytes = 6 << 10;
    limits
}

/// Small, so that segments and index files begin and end all the time.
fn options(random: &mut Random, durability: Durability) -> LogOptions {
    LogOptions {
        durability,
        limits: limits(),
        time: TimeSource::Caller,
        segment_bytes: (2 << 10) + random.below(14 << 10),
        index_bytes: (1 << 10) + random.below(3 << 10),
        queue_bytes: (2 << 10) + (random.index(30 << 10)),
        background: Background::Inline,
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
struct Run {
    random: Random,
    disk: SimulatedDisk,
    durability: Durability,
    requests: Requests,
    model: Model,
    /// What the last end may have cost.
    may_lose: MayLose,
    /// The log said that it takes nothing more.
    failed: bool,
    trace: Trace,
}

impl Run {
    fn new(seed: u64, durability: Durability, sabotage: Option<Sabotage>, trace: Trace) -> Run {
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

    fn run(&mut self) {
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

    fn note(&self, what: impl Into<String>) {
        self.trace.borrow_mut().push(what.into());
    }

    /// Opens the log, which may take several attempts, and compares it with the model.
    fn open(&mut self) -> Log {
        if self.random.chance(20) {
            self.arm(60);
        }
        for attempt in 0.. {
            assert!(attempt < 3, "it does not open, though nothing is wrong any more");
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
        // The comparison reads; it is not what is to fail.
        self.disk.disarm();
        self.failed = false;
        let may_lose = std::mem::replace(&mut self.may_lose, MayLose::Nothing);
        self.model.recover(log, may_lose, &mut self.random)
    }

    /// Lets something go wrong within about this many operations of the disk.
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
                self.model.decided(append, decided.map(Taken::from));
            }
        }
        self.settle();
    }

    /// Without threads an append can wait for a flush: because the queue is full, or because the
    /// refusal rests on what is not synced yet.
    fn ask(&mut self, log: &Log, append: &Append) -> Result<Accepted, AppendError> {
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

    /// Appends and waits, as most callers do.
    fn commit(&mut self, log: &Log, append: Append) {
        self.model.offered(&append);
        let what = describe(&append);
        let outcome = log.blocking().commit(append.clone());
        self.note(format!("{what}, and wait for it: {}", text(&outcome)));
        match outcome {
            Err(AppendError::Unavailable(why)) => self.not_taken(&why),
            Err(AppendError::OutcomeUnknown(error)) => {
                self.model.decided(append, Ok(Taken::default()));
                self.not_taken(&error.cause);
            }
            decided => {
                assert!(!self.failed, "the log takes commits again: {decided:?}");
                self.model.decided(append, decided.map(Taken::from));
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
            self.failed = true;
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
                        assert!(!self.failed, "closed as if nothing had happened");
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

    /// The index is derived: it can go at any time, as long as nobody has it open.
    fn damage_index(&mut self) {
        let folder = std::path::Path::new(FOLDER).join("index");
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

    /// What was refused before a crash is refused after it.
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

    /// A log that was read and closed in order has nothing to find fault with, index files
    /// included: those that were no good are written again, unless that failed.
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
    let condition = append.condition.as_ref();
    let condition = condition.map(|condition| (condition.fail_if.to_string(), condition.after));
    format!("append {sizes:?} key {key:?} tracking {tracking:?} unless {condition:?}")
}

fn text<T, E: std::fmt::Display>(outcome: &Result<T, E>) -> String {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}
