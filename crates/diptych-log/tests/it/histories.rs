//! Recorded histories of concurrent clients, with kills in between, over the log of every kind:
//! threads or none, synced or at intervals, closed, without power, or killed as a process.
//!
//! `DIPTYCH_HISTORIES` sets how many histories of each kind are checked, and
//! `DIPTYCH_HISTORY_CALLS` how many calls each client makes between two kills.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use diptych_log::{
    Background, Durability, Log, LogOptions, ReadOnlyLog,
    disk::simulated::{Fault, Random, Sabotage, SimulatedDisk},
};
use diptych_store::{
    Store,
    testing::history::{
        Client, ClientOptions, Clock, Deployment, Drill, History, HistoryLine, Mix, Recorder,
        Survival, ViolationKind, check,
    },
};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crate::crash::{self, TestChild};

const HISTORIES: u64 = 2;
const CALLS: u64 = 120;
/// The roles of a child: it runs clients, over a log of this durability.
pub(crate) const RECORD: &str = "record";
pub(crate) const RECORD_AT_INTERVALS: &str = "record at intervals";
/// Number of clients in a child.
const CLIENTS_OF_A_CHILD: u64 = 3;
/// Clients of a child have numbers from here on.
const FIRST_OF_A_CHILD: u64 = 100;
const FOLDER: &str = "/data/log";

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect(name))
}

fn drill(seed: u64, kills: u64) -> Drill {
    Drill { kills, calls: number("DIPTYCH_HISTORY_CALLS", CALLS), ..Drill::new(seed) }
}

fn at_intervals() -> Durability {
    Durability::Interval { interval: Duration::from_millis(3) }
}

/// Small files, so that segments and index files begin and end while clients work.
fn options(seed: u64, durability: Durability, background: Background) -> LogOptions {
    let mut random = Random::new(seed);
    LogOptions {
        durability,
        background,
        segment_bytes: *random.pick(&[16 << 10, 64 << 10]).unwrap(),
        index_bytes: *random.pick(&[2 << 10, 8 << 10]).unwrap(),
        ..LogOptions::default()
    }
}

/// Checks several histories, each of a new deployment.
fn each_is_right<D: Deployment>(
    kills: u64,
    survival: Survival,
    deploy: impl Fn(u64) -> D,
) -> Vec<History> {
    let run = |seed| {
        let history = drill(seed, kills).run_and_check(&mut deploy(seed), survival);
        say(&history);
        history
    };
    (0..number("DIPTYCH_HISTORIES", HISTORIES)).map(run).collect()
}

/// Whether the history shows that acknowledged commits were lost.
fn has_losses(history: &History) -> bool {
    let violations = check(history, Survival::EveryCommit);
    violations.iter().any(|violation| violation.kind == ViolationKind::LostCommit)
}

fn say(history: &History) {
    let openings: Vec<_> = history.openings().iter().map(|opening| opening.head).collect();
    let (calls, commits) = (history.operations().len(), history.commits().len());
    println!("{calls} calls, {commits} commits, heads after starts: {openings:?}");
}

/// A log in a folder of this process. A kill closes it while clients call it.
struct InProcess {
    folder: TempDir,
    options: LogOptions,
    log: Option<Log>,
    pump: Option<Pump>,
}

impl InProcess {
    fn new(options: LogOptions) -> InProcess {
        InProcess { folder: tempfile::tempdir().unwrap(), options, log: None, pump: None }
    }
}

impl Deployment for InProcess {
    fn start(&mut self, _round: u64) {
        let log = Log::open(self.folder.path(), self.options.clone()).unwrap();
        self.pump = (self.options.background == Background::Inline).then(|| Pump::start(&log));
        self.log = Some(log);
    }

    fn connect(&mut self, _client: u64) -> Store {
        Store::new(self.log.clone().unwrap())
    }

    fn kill(&mut self) {
        self.pump = None;
        self.log.take().unwrap().close().unwrap();
    }
}

/// Writes what callers of a log without threads have appended.
struct Pump {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    fn start(log: &Log) -> Pump {
        let stop = Arc::<AtomicBool>::default();
        let (log, stopped) = (log.clone(), stop.clone());
        let pump = move || {
            while !stopped.load(Ordering::Relaxed) {
                log.blocking().flush().unwrap();
                thread::sleep(Duration::from_micros(100));
            }
        };
        Pump { stop, thread: Some(thread::spawn(pump)) }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || thread::panicking());
    }
}

#[test]
fn a_log_with_threads_has_a_right_history() {
    each_is_right(2, Survival::EveryCommit, |seed| {
        InProcess::new(options(seed, Durability::Synced, Background::Threads))
    });
}

#[test]
fn a_log_without_threads_has_a_right_history() {
    each_is_right(2, Survival::EveryCommit, |seed| {
        InProcess::new(options(seed, Durability::Synced, Background::Inline))
    });
}

#[test]
fn a_log_that_syncs_at_intervals_has_a_right_history() {
    each_is_right(2, Survival::EveryCommit, |seed| {
        InProcess::new(options(seed, at_intervals(), Background::Threads))
    });
}

/// A log on a simulated disk. A kill is a loss of power.
struct WithoutPower {
    disk: SimulatedDisk,
    options: LogOptions,
    log: Option<Log>,
    random: Random,
    /// A lie of the disk, from the first start on.
    sabotage: Option<Sabotage>,
}

impl WithoutPower {
    fn new(seed: u64, durability: Durability) -> WithoutPower {
        WithoutPower {
            disk: SimulatedDisk::new(seed),
            options: options(seed, durability, Background::Threads),
            log: None,
            random: Random::new(seed),
            sabotage: None,
        }
    }
}

impl Deployment for WithoutPower {
    fn start(&mut self, _round: u64) {
        let disk = Arc::new(self.disk.clone());
        self.log = Some(Log::open(FOLDER, LogOptions { disk, ..self.options.clone() }).unwrap());
        if let Some(sabotage) = self.sabotage {
            self.disk.set_sabotage(sabotage);
        }
    }

    fn connect(&mut self, _client: u64) -> Store {
        Store::new(self.log.clone().unwrap())
    }

    fn kill(&mut self) {
        // Nothing is acknowledged any more, before the image of the next start is taken.
        self.disk.fail_after(0, Fault::Stop);
        while !self.disk.is_stopped() {
            // The fault strikes with the next operation, which clients may not ask for.
            let _ = diptych_log::disk::Disk::list(&self.disk, Path::new(FOLDER));
        }
        let after = self.disk.power_loss(self.random.number());
        self.disk = after;
    }
}

#[test]
fn a_log_that_loses_power_has_a_right_history() {
    each_is_right(4, Survival::EveryCommit, |seed| WithoutPower::new(seed, Durability::Synced));
}

/// An interval that does not end during the test, so that a loss of power costs much.
#[test]
fn a_log_that_loses_power_between_syncs_has_a_right_history_of_what_is_left() {
    let long = Durability::Interval { interval: Duration::from_secs(3_600) };
    let histories = each_is_right(4, Survival::Prefix, |seed| WithoutPower::new(seed, long));
    assert!(histories.iter().any(has_losses), "no loss of power cost a commit");
    each_is_right(4, Survival::Prefix, |seed| WithoutPower::new(seed, at_intervals()));
}

/// The disk answers each sync and does nothing, so the log acknowledges too early. Sometimes it
/// notices that at its next start and refuses. The checker finds the losses of the other runs.
#[test]
fn a_log_that_acknowledges_before_the_sync_loses_commits() {
    let is_lossy = |seed| {
        let mut deployment = WithoutPower::new(seed, Durability::Synced);
        deployment.sabotage = Some(Sabotage::AcknowledgeBeforeSync);
        // A damaged file of a new segment would stop the next start.
        deployment.options.segment_bytes = 4 << 20;
        deployment.options.index_bytes = 1 << 20;
        let run = AssertUnwindSafe(|| drill(seed, 1).run(&mut deployment));
        let history = catch_unwind(run);
        history.is_ok_and(|history| has_losses(&history))
    };
    assert!((0..60).any(is_lossy), "no loss was found");
}

/// A log in a child process, which is killed by SIGKILL. Clients of the child write, and clients of
/// this process read beside it. After the last kill this process opens the log itself.
struct InChild {
    role: &'static str,
    folder: TempDir,
    seed: u64,
    kills: u64,
    round: u64,
    random: Random,
    child: Option<TestChild>,
    log: Option<Log>,
}

impl InChild {
    fn new(role: &'static str, seed: u64, kills: u64) -> InChild {
        InChild {
            role,
            folder: tempfile::tempdir().unwrap(),
            seed,
            kills,
            round: 0,
            random: Random::new(seed),
            child: None,
            log: None,
        }
    }

    fn log_folder(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Deployment for InChild {
    fn start(&mut self, round: u64) {
        self.round = round;
        if round < self.kills {
            let child = TestChild::spawn(self.role, self.folder.path(), self.seed, round);
            self.child = Some(child);
        } else {
            let options = crash::options(self.role, self.seed);
            self.log = Some(Log::open(self.log_folder(), options).unwrap());
        }
    }

    fn connect(&mut self, _client: u64) -> Store {
        let options = crash::options(self.role, self.seed);
        match &self.log {
            Some(log) => Store::new(log.clone()),
            None => Store::new(ReadOnlyLog::open(self.log_folder(), options).unwrap()),
        }
    }

    fn kill(&mut self) {
        thread::sleep(Duration::from_millis(5 + self.random.below(80)));
        self.child.take().unwrap().kill();
    }

    fn collect(&mut self) -> Vec<HistoryLine> {
        if self.round >= self.kills {
            return Vec::new();
        }
        let path = record_of(self.folder.path(), self.round);
        History::read(&path).unwrap().lines().to_vec()
    }
}

fn record_of(folder: &Path, round: u64) -> PathBuf {
    folder.join(format!("history-{round}.ndjson"))
}

/// Nanoseconds since the start of the machine, which all of its processes read alike.
fn monotonic() -> Clock {
    Clock::of(|| {
        let now = clock_gettime(ClockId::Monotonic);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    })
}

/// The life of a child, until it is killed.
pub(crate) fn child(role: &str, folder: &Path, seed: u64, round: u64) {
    let log = Log::open(folder.join("log"), crash::options(role, seed)).unwrap();
    let recorder = Recorder::to_file(monotonic(), &record_of(folder, round)).unwrap();
    println!("{}", crash::OPEN);
    thread::scope(|scope| {
        for client in FIRST_OF_A_CHILD..FIRST_OF_A_CHILD + CLIENTS_OF_A_CHILD {
            let (recorder, store) = (&recorder, Store::new(log.clone()));
            scope.spawn(move || {
                let options = ClientOptions::new(seed);
                Client::new(store, recorder, (round, client), &options).run(5_000);
            });
        }
    });
    thread::sleep(crash::LIFE);
}

fn killed_children(role: &'static str) {
    for seed in 0..number("DIPTYCH_HISTORIES", HISTORIES) {
        let kills = 4;
        let readers = Drill {
            mix: Mix::of_readers(),
            clients: 2,
            clock: monotonic(),
            ..drill(2_000 + seed, kills)
        };
        let mut deployment = InChild::new(role, 2_000 + seed, kills);
        let history = readers.run_and_check(&mut deployment, Survival::EveryCommit);
        say(&history);
        let written = history.commits().len() as u64;
        assert!(written > kills, "the children hardly got to write: {written} commits");
    }
}

#[test]
fn a_log_whose_process_is_killed_has_a_right_history() {
    killed_children(RECORD);
}

#[test]
fn a_log_at_intervals_whose_process_is_killed_has_a_right_history() {
    killed_children(RECORD_AT_INTERVALS);
}
