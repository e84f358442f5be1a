//! A process that writes is killed at any moment. Every commit that it acknowledged must survive.
//!
//! The child is this test binary, with its work in environment variables. After each acknowledged
//! commit its writers append a line to a witness file. The parent kills the child with SIGKILL,
//! opens the log, and compares it with the witness file and with itself. `DIPTYCH_KILLS=1000` makes
//! more kills.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use diptych_log::{Durability, Log, LogOptions, disk::simulated::Random, verify};
use diptych_store::EventStore;

use crate::{
    backup_kills, check, histories,
    witness::{self, WitnessLine},
    writers,
};

const KILLS: u64 = 24;
const SEED: &str = "DIPTYCH_CRASH_SEED";
const ROLE: &str = "DIPTYCH_CRASH_ROLE";
const ROUND: &str = "DIPTYCH_CRASH_ROUND";
const FOLDER: &str = "DIPTYCH_CRASH_FOLDER";
pub(crate) const OPEN: &str = "the child has opened the log";
/// A child that is not killed ends by itself after this time.
pub(crate) const LIFE: Duration = Duration::from_secs(20);
/// If a log has more events than this, the test begins a new log.
const EVENTS: usize = 5_000;

#[test]
fn acknowledged_commits_survive_kills() {
    kill_again_and_again("write", kills());
}

#[test]
fn acknowledged_commits_survive_kills_between_syncs() {
    kill_again_and_again("write at intervals", kills() / 3);
}

/// The work of a child. If the parent did not start it, this test does nothing.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let number = |name| env::var(name).unwrap().parse::<u64>().unwrap();
    let folder = PathBuf::from(env::var(FOLDER).unwrap());
    let (seed, round) = (number(SEED), number(ROUND));
    if let Some(copy) = backup_kills::role(&role) {
        println!("{OPEN}");
        return copy(&folder, seed);
    }
    if [histories::RECORD, histories::RECORD_AT_INTERVALS].contains(&role.as_str()) {
        return histories::child(&role, &folder, seed, round);
    }
    let log = Log::open(folder.join("log"), options(&role, seed)).unwrap();
    if role != "hold" {
        let witness = folder.join("witness");
        witness::cut_off_unfinished(&witness);
        writers::start(&log, &witness, seed, round);
    }
    println!("{OPEN}");
    thread::sleep(LIFE);
}

pub(crate) fn kills() -> u64 {
    env::var("DIPTYCH_KILLS").map_or(KILLS, |text| text.parse().expect("DIPTYCH_KILLS"))
}

/// The sizes are small, so that segments and index files begin and end while processes are killed.
pub(crate) fn options(role: &str, seed: u64) -> LogOptions {
    let mut random = Random::new(seed);
    let at_intervals = Durability::Interval { interval: Duration::from_millis(3) };
    LogOptions {
        durability: match role {
            "write at intervals" | histories::RECORD_AT_INTERVALS => at_intervals,
            _ => Durability::Synced,
        },
        segment_bytes: *random.pick(&[8 << 10, 32 << 10, 128 << 10]).unwrap(),
        index_bytes: *random.pick(&[2 << 10, 8 << 10]).unwrap(),
        ..LogOptions::default()
    }
}

fn kill_again_and_again(role: &str, kills: u64) {
    let mut folder = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut identity) = (0, None);
    for round in 0..kills {
        let seed = 1_000 + round;
        let mut random = Random::new(seed);
        let child = TestChild::spawn(role, folder.path(), seed, round);
        thread::sleep(Duration::from_millis(5 + random.below(55)));
        child.kill();

        let options = options(role, seed + 1);
        if random.chance(25) {
            remove_index(&folder.path().join("log/index"), &mut random);
        }
        let witnessed = witness::read(&folder.path().join("witness"));
        let log = Log::open(folder.path().join("log"), options.clone()).unwrap();
        let events = compare(&log, &witnessed, round, &mut random);
        let found = EventStore::identity(&log);
        let before = *identity.get_or_insert(found);
        assert_eq!(found.id, before.id, "it became another log");
        if role == "write" {
            assert_eq!(found.epoch, before.epoch, "a new epoch, though nothing was lost");
        }
        log.close().unwrap();
        verify(folder.path().join("log"), &options, |_, _| {}).unwrap();
        acknowledged += witnessed.iter().filter(|commit| commit.round == round).count();
        if events > EVENTS {
            (folder, identity) = (tempfile::tempdir().unwrap(), None);
        }
    }
    println!("{kills} kills, {acknowledged} acknowledged commits, none lost");
    assert!(acknowledged as u64 > kills, "the children were killed before they could write");
}

/// Checks the log against the witness file and itself, and returns the number of its events.
pub(crate) fn compare(
    log: &Log,
    witnessed: &[WitnessLine],
    round: u64,
    random: &mut Random,
) -> usize {
    let scan = check::scan(log).unwrap();
    let found = witness::WriterCommits::of(&scan);
    found.has_all(witnessed);
    found.answers_for_keys(log, round, random);
    found.answers_for_sources(log);
    check::indexes(log, &scan, random).unwrap();
    scan.len()
}

/// Removes some index files: they are derived, so a log must work without them.
fn remove_index(folder: &Path, random: &mut Random) {
    for entry in fs::read_dir(folder).unwrap() {
        if random.chance(50) {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

/// A child that does not outlive the test.
pub(crate) struct TestChild(Child);

impl TestChild {
    pub(crate) fn spawn(role: &str, folder: &Path, seed: u64, round: u64) -> TestChild {
        let child = Command::new(env::current_exe().unwrap())
            .args(["crash::child", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(FOLDER, folder)
            .env(SEED, seed.to_string())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = TestChild(child);
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let is_open = |line: std::io::Result<String>| line.unwrap().contains(OPEN);
        assert!(lines.any(is_open), "the child of round {round} could not open the log");
        child
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        let status = self.0.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "the child ended by itself: {status}");
    }
}

impl Drop for TestChild {
    fn drop(&mut self) {
        // The child has already ended, unless the test fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Opens a file so that every write goes to its end as a whole.
pub(crate) fn append_to(path: &Path) -> File {
    File::options().create(true).append(true).open(path).unwrap()
}
