//! A process that projects is killed at any moment. At any point, rows equal a fold of the log up
//! to the checkpoint.
//!
//! The child is this test binary again, told by its environment what to do. It writes to the log
//! and projects it, with a reset now and then: in small batches, or as an app does it. More kills:
//! `DIPTYCH_KILLS=1000`.

use std::{
    env,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use diptych::{
    App, Position, Store,
    projection::{Target, VersionChange, VersionOutcome},
};
use diptych_sqlite::{Sqlite, SwitchPolicy};
use pollster::block_on;

use crate::{
    beside::{assert_whole, takings},
    follow::follow,
    shop::{Trade, assert_in_step, happen, sales},
};

const KILLS: u64 = 40;
const SEED: &str = "DIPTYCH_KILL_SEED";
const FOLDER: &str = "DIPTYCH_KILL_FOLDER";
const BEGUN: &str = "the child has begun";
/// A child that is not killed ends by itself after this time.
const LIFE: Duration = Duration::from_secs(20);

#[test]
fn rows_are_a_fold_up_to_the_checkpoint_after_any_kill() {
    kill("kill::child", assert_in_step);
}

#[test]
fn so_they_are_when_an_app_projects() {
    kill("kill::child_with_an_app", assert_in_step);
}

#[test]
fn readers_see_one_whole_version_after_a_kill_at_any_step_of_a_switch() {
    kill("kill::child_that_switches", |store, file| assert_whole(store, file).0);
}

fn kill(child: &str, assert_in_step: impl Fn(&Store, &Path) -> Position) {
    let folder = tempfile::tempdir().unwrap();
    let seed = env::var("DIPTYCH_SEED").map_or(0xD1, |text| text.parse().unwrap());
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let kills = env::var("DIPTYCH_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let (mut positions, mut identity) = (Vec::new(), None);
    for round in 0..kills {
        let child = TestChild::spawn(child, folder.path(), seed + round);
        thread::sleep(Duration::from_millis(random.u64(..60)));
        child.kill();
        let app = open(folder.path());
        assert_eq!(*identity.get_or_insert(app.identity()), app.identity());
        let file = folder.path().join("report.db");
        positions.push(assert_in_step(app.store(), &file).get());
        let whole: String = crate::shop::reader(&file)
            .query_row("PRAGMA integrity_check", (), |row| row.get(0))
            .unwrap();
        assert_eq!(whole, "ok");
        block_on(app.stop()).unwrap();
    }
    let app = open(folder.path());
    let file = folder.path().join("report.db");
    if child == "kill::child_that_switches" {
        for version in [1, 2] {
            follow(app.store(), &mut side_by_side(&file, version), 100).unwrap();
        }
    } else {
        follow(app.store(), &mut sales(&file), 100).unwrap();
    }
    let last = assert_in_step(app.store(), &file);
    assert_eq!(last, app.store().head().position());
    println!("{kills} kills, at {positions:?} of {last}");
    positions.dedup();
    assert!(positions.len() as u64 > kills / 3, "the children hardly got to project");
}

/// The work of a child. As a test without a parent it does nothing.
#[test]
fn child() {
    let Ok(folder) = env::var(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let mut random = fastrand::Rng::with_seed(env::var(SEED).unwrap().parse().unwrap());
    let app = open(&folder);
    let mut sales = sales(&folder.join("report.db"));
    sales.checkpoint().unwrap();
    println!("{BEGUN}");
    let begun = Instant::now();
    while begun.elapsed() < LIFE {
        let events = random.usize(1..200);
        happen(&app, &mut random, events);
        follow(app.store(), &mut sales, random.usize(1..8)).unwrap();
        if random.u32(..10) == 0 {
            sales.reset().unwrap();
        }
    }
}

/// Kills a child whose app runs the projection.
#[test]
fn child_with_an_app() {
    let Ok(folder) = env::var(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let mut random = fastrand::Rng::with_seed(env::var(SEED).unwrap().parse().unwrap());
    let builder = App::open(folder.join("log")).unwrap();
    let app = block_on(builder.projection(sales(&folder.join("report.db"))).start()).unwrap();
    let report = app.projection("sales").unwrap();
    happen(&app, &mut random, 1);
    block_on(report.caught_up(LIFE)).unwrap();
    println!("{BEGUN}");
    let begun = Instant::now();
    while begun.elapsed() < LIFE {
        let events = random.usize(1..200);
        happen(&app, &mut random, events);
        if random.u32(..10) == 0 {
            block_on(report.rebuild()).unwrap();
        }
    }
}

fn side_by_side(file: &Path, version: u32) -> impl Target<Event = Trade> {
    Sqlite::at(file).projection(takings(version)).beside(SwitchPolicy::ByCommand)
}

/// Builds two versions, compares them, and switches forward and back all the time.
#[test]
fn child_that_switches() {
    let Ok(folder) = env::var(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let mut random = fastrand::Rng::with_seed(env::var(SEED).unwrap().parse().unwrap());
    let app = open(&folder);
    let file = folder.join("report.db");
    let [mut old, mut new] = [1, 2].map(|version| side_by_side(&file, version));
    old.checkpoint().unwrap();
    println!("{BEGUN}");
    let begun = Instant::now();
    while begun.elapsed() < LIFE {
        let events = random.usize(1..100);
        happen(&app, &mut random, events);
        follow(app.store(), &mut old, random.usize(20..200)).unwrap();
        follow(app.store(), &mut new, random.usize(20..200)).unwrap();
        let equal = |change| assert_eq!(change, VersionOutcome::Done);
        let forward = VersionChange::Forward { compares: true, needs_equal_position: true };
        equal(new.change(forward).unwrap());
        match random.u32(..20) {
            0 => new.reset().unwrap(),
            1 => old.reset().unwrap(),
            _ => equal(old.change(forward).unwrap()),
        }
    }
}

fn open(folder: &Path) -> App {
    block_on(App::open(folder.join("log")).unwrap().start()).unwrap()
}

/// A child that does not outlive the test.
struct TestChild(Child);

impl TestChild {
    fn spawn(child: &str, folder: &Path, seed: u64) -> TestChild {
        let child = Command::new(env::current_exe().unwrap())
            .args([child, "--exact", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .env(SEED, seed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = TestChild(child);
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let begun = lines.any(|line| line.unwrap().contains(BEGUN));
        assert!(begun, "the child of seed {seed} could not begin");
        child
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        let status = self.0.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "the child ended by itself: {status}");
    }
}

impl Drop for TestChild {
    fn drop(&mut self) {
        // It is gone already unless the test fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
