//! A database is replaced by an older copy, and the `-wal` of the newer one is left beside it.
//!
//! SQLite puts the frames of that `-wal` over the older file. Of 24 ways to do it, 24 gave wrong
//! rows or a malformed database, and every wait for the rows said that all was well.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use diptych::{
    App, Memory, Recorded,
    follow::{ControlError, FollowState, FollowerControl, Refresh, WaitError},
    projection::{Target, TargetError},
};
use diptych_sqlite::{Sqlite, SqliteProjection, Transaction};

use crate::{
    follow::{End, follow},
    odd::{odd, row},
    shop::{Sales, Trade, app, assert_in_step, busy_app, happen, note, sales, sold},
};

/// Never reached unless something is wrong.
const LONG: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Runner {
    /// It has the database open.
    Open,
    /// It was killed: the files are as they were at that moment.
    Killed,
    /// It was stopped while a reader kept the `-wal` there, which was killed then.
    Stopped,
}

#[derive(Clone, Copy, Debug)]
enum Replacement {
    /// Another file takes its name.
    Renamed,
    /// Other bytes are written into it.
    Copied,
    /// The file is away, and another one comes later.
    Removed,
}

#[derive(Clone, Copy, Debug)]
enum Left {
    WalAndShm,
    Wal,
    Neither,
}

fn beside(file: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", file.display()))
}

/// A database with an older copy of itself, and a `-wal` that the copy has nothing of.
struct Scene {
    folder: tempfile::TempDir,
    app: App,
    file: PathBuf,
    older: PathBuf,
    random: fastrand::Rng,
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let [file, older] = ["report.db", "older.db"].map(|name| folder.path().join(name));
        let mut scene = Scene {
            app: busy_app(seed, 300),
            folder,
            file,
            older,
            random: fastrand::Rng::with_seed(seed),
        };
        follow(scene.app.store(), &mut sales(&scene.file), 50).unwrap();
        // Closed, so it is whole without a `-wal`.
        assert!(!beside(&scene.file, "-wal").exists());
        fs::copy(&scene.file, &scene.older).unwrap();
        scene.more(600);
        follow(scene.app.store(), &mut sales(&scene.file), 50).unwrap();
        scene
    }

    fn more(&mut self, events: usize) {
        happen(&self.app, &mut self.random, events);
    }

    /// The projection with rows in the `-wal` that are not in the file.
    fn running(&mut self) -> SqliteProjection<Sales> {
        self.more(200);
        let mut sales = sales(&self.file);
        follow(self.app.store(), &mut sales, 50).unwrap();
        assert!(fs::metadata(beside(&self.file, "-wal")).unwrap().len() > 0);
        sales
    }

    fn kill(&mut self, sales: SqliteProjection<Sales>) {
        self.move_to("killed.db");
        drop(sales);
    }

    /// The files as they are now, as if all who have them open were killed.
    fn move_to(&mut self, name: &str) {
        let now = self.folder.path().join(name);
        for end in ["", "-wal", "-shm"] {
            fs::copy(beside(&self.file, end), beside(&now, end)).unwrap();
        }
        self.file = now;
    }

    fn replace(&self, how: Replacement, left: Left) {
        match how {
            Replacement::Renamed => {
                let copy = self.folder.path().join("copy.db");
                fs::copy(&self.older, &copy).unwrap();
                fs::rename(copy, &self.file).unwrap();
            }
            Replacement::Copied => drop(fs::copy(&self.older, &self.file).unwrap()),
            Replacement::Removed => fs::remove_file(&self.file).unwrap(),
        }
        let ends: &[&str] = match left {
            Left::WalAndShm => &[],
            Left::Wal => &["-shm"],
            Left::Neither => &["-wal", "-shm"],
        };
        for end in ends {
            // A runner that was stopped may have left none.
            let _ = fs::remove_file(beside(&self.file, end));
        }
    }

    /// Goes on until the rows are those of the whole log. On the way it may stop once, if it says
    /// that the database was replaced; then a person does what it says.
    fn goes_on(&mut self, mut sales: SqliteProjection<Sales>) -> bool {
        self.more(30);
        let mut is_told = false;
        loop {
            let reason = match follow(self.app.store(), &mut sales, 7) {
                Ok(_) => break,
                Err(End::Target(TargetError::Broken { reason, .. })) => reason,
                Err(End::Stopped(stopped)) => stopped.to_string(),
                Err(other) => panic!("{other:?}"),
            };
            assert!(!is_told, "{reason}");
            is_told = true;
            if reason.contains("-wal beside it belongs to the file that was there before") {
                for end in ["-wal", "-shm"] {
                    fs::remove_file(beside(&self.file, end)).unwrap();
                }
            } else {
                assert!(reason.contains("overwritten while it was open"), "{reason}");
            }
        }
        assert_eq!(assert_in_step(self.app.store(), &self.file), self.app.head());
        drop(sales);
        assert_eq!(assert_in_step(self.app.store(), &self.file), self.app.head());
        let sound: String = crate::shop::reader(&self.file)
            .query_row("PRAGMA integrity_check", (), |row| row.get(0))
            .unwrap();
        assert_eq!(sound, "ok");
        is_told
    }
}

#[cfg(unix)]
#[test]
fn rows_are_never_a_mixture_of_two_databases() {
    let mut seed = 100;
    for runner in [Runner::Open, Runner::Killed, Runner::Stopped] {
        for how in [Replacement::Renamed, Replacement::Copied, Replacement::Removed] {
            for left in [Left::WalAndShm, Left::Wal, Left::Neither] {
                seed += 1;
                let mut scene = Scene::new(seed);
                let mut sales = scene.running();
                match runner {
                    Runner::Open => {}
                    Runner::Killed => {
                        scene.kill(sales);
                        sales = crate::shop::sales(&scene.file);
                    }
                    Runner::Stopped => {
                        let reader = crate::shop::reader(&scene.file);
                        reader.execute_batch("BEGIN; SELECT * FROM sale").unwrap();
                        drop(sales);
                        scene.move_to("stopped.db");
                        drop(reader);
                        sales = crate::shop::sales(&scene.file);
                    }
                }
                scene.replace(how, left);
                let is_told = scene.goes_on(sales);
                println!("{runner:?} {how:?} {left:?}: told {is_told}");
            }
        }
    }
}

/// The older copy is one that `VACUUM INTO` made, which is not in WAL mode.
#[cfg(unix)]
#[test]
fn nor_with_a_copy_that_a_vacuum_made() {
    for runner in [Runner::Open, Runner::Killed] {
        let mut scene = Scene::new(77);
        let mut sales = scene.running();
        let vacuumed = scene.folder.path().join("vacuumed.db");
        let reader = crate::shop::reader(&scene.file);
        reader.execute("VACUUM INTO ?1", [vacuumed.to_string_lossy()]).unwrap();
        drop(reader);
        scene.older = vacuumed;
        scene.more(300);
        follow(scene.app.store(), &mut sales, 20).unwrap();
        if matches!(runner, Runner::Killed) {
            scene.kill(sales);
            sales = crate::shop::sales(&scene.file);
        }
        scene.replace(Replacement::Renamed, Left::WalAndShm);
        scene.goes_on(sales);
    }
}

/// Rows went to a file without a name: readers did not see them, and after a kill they were gone.
#[cfg(unix)]
#[test]
fn nothing_is_lost_if_only_its_wal_is_removed() {
    for ends in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]] {
        let mut scene = Scene::new(90);
        let mut sales = scene.running();
        let before = sales.checkpoint().unwrap();
        for end in ends {
            fs::remove_file(beside(&scene.file, end)).unwrap();
        }
        sales.confirm(before).unwrap();
        assert_eq!(assert_in_step(scene.app.store(), &scene.file), scene.app.head());
        assert!(!scene.goes_on(sales), "it is told of {ends:?}");
    }
}

/// The `-wal` of a large commit is moved into the file at once. It must not be moved into a file
/// that was put there while the projection worked.
#[cfg(unix)]
#[test]
fn a_file_that_is_put_there_during_a_batch_is_left_as_it_is() {
    const LARGE_BYTES: u32 = 8 << 20;
    let folder = tempfile::tempdir().unwrap();
    let [file, older] = ["report.db", "older.db"].map(|name| folder.path().join(name));
    let app = app();
    note(&app, [sold(1, 1, 1)]);
    follow(app.store(), &mut Sqlite::at(&file).projection(odd(row)), 10).unwrap();
    fs::copy(&file, &older).unwrap();
    note(&app, [sold(1, 1, 2)]);
    let (from, to) = (older.clone(), file.clone());
    let large = move |tx: &Transaction<'_>, event: &Recorded<Trade>| {
        let blob = "INSERT INTO odd VALUES (?1, zeroblob(?2))";
        tx.execute(blob, (event.position.get(), LARGE_BYTES))?;
        fs::copy(&from, &to)?;
        Ok(())
    };
    let mut replaced = Sqlite::at(&file).projection(odd(large));
    follow(app.store(), &mut replaced, 10).unwrap();
    assert_eq!(fs::read(&file).unwrap(), fs::read(&older).unwrap());
    let error = replaced.confirm(None).unwrap_err().to_string();
    assert!(error.contains("overwritten while it was open"), "{error}");
    drop(replaced);
    assert_eq!(fs::read(&file).unwrap(), fs::read(&older).unwrap());
}

/// A `-wal` that was cut off at any moment is of its file, and is not taken for a foreign one:
/// also after a checkpoint that a reader kept from being complete.
#[test]
fn a_wal_of_its_own_is_never_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(78, 50);
    let mut random = fastrand::Rng::with_seed(78);
    let mut sales = sales(&file);
    let mut reader = None;
    for round in 0..150 {
        happen(&app, &mut random, 20);
        follow(app.store(), &mut sales, 5).unwrap();
        let other = diptych_sqlite::rusqlite::Connection::open(&file).unwrap();
        match random.u32(..6) {
            0 => {
                let held = crate::shop::reader(&file);
                held.execute_batch("BEGIN; SELECT count(*) FROM sale").unwrap();
                reader = Some(held);
            }
            1 => reader = None,
            2 => drop(other.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))),
            3 => other
                .execute_batch("CREATE TABLE IF NOT EXISTS p (x); INSERT INTO p VALUES (1)")
                .unwrap(),
            _ => {}
        }
        drop(other);
        let killed = folder.path().join(format!("killed-{round}.db"));
        for end in ["", "-wal"] {
            fs::copy(beside(&file, end), beside(&killed, end)).unwrap();
        }
        let mut after = crate::shop::sales(&killed);
        let found = after.checkpoint().unwrap().unwrap();
        assert_eq!(found.position, app.head());
        assert_eq!(assert_in_step(app.store(), &killed), app.head());
    }
    drop(reader);
}

async fn started(file: &Path, refresh: Refresh) -> (App, FollowerControl) {
    let projection = Sqlite::at(file).projection(Sales);
    let app = App::over(Memory::new()).projection_with(projection, refresh).start().await.unwrap();
    let sales = app.projection("sales").unwrap();
    (app, sales)
}

/// Puts another database at its place, whole and without a `-wal`.
fn put(file: &Path, other: Option<&Path>) {
    for end in ["", "-wal", "-shm"] {
        fs::remove_file(beside(file, end)).unwrap();
    }
    if let Some(other) = other {
        fs::copy(other, file).unwrap();
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn waits_notice_a_database_that_was_replaced_while_no_event_came() {
    for is_removed in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let [file, older] = ["report.db", "older.db"].map(|name| folder.path().join(name));
        let (app, sales) = started(&file, Refresh::Live).await;
        note(&app, (1..=5).map(|number| sold(1, 1, number)));
        sales.caught_up(LONG).await.unwrap();
        let vacuum = "VACUUM INTO ?1";
        crate::shop::reader(&file).execute(vacuum, [older.to_string_lossy()]).unwrap();
        let receipt = note(&app, (6..=9).map(|number| sold(1, 1, number)));
        let other = (!is_removed).then_some(older.as_path());

        sales.after(&receipt, LONG).await.unwrap();
        put(&file, other);
        assert_eq!(sales.after(&receipt, LONG).await.unwrap(), app.head());
        assert_eq!(assert_in_step(app.store(), &file), app.head());

        put(&file, other);
        assert_eq!(sales.caught_up(LONG).await.unwrap(), app.head());
        assert_eq!(assert_in_step(app.store(), &file), app.head());

        // A paused one does not make the rows, and does not say that they are there.
        sales.pause().await.unwrap();
        put(&file, other);
        let late = sales.caught_up(Duration::from_millis(50)).await;
        assert!(matches!(late, Err(WaitError::NotYet(_))), "{late:?}");
        assert!(sales.resume().await.unwrap() < app.head());
        sales.caught_up(LONG).await.unwrap();
        assert_eq!(assert_in_step(app.store(), &file), app.head());

        put(&file, other);
        assert!(sales.refresh().await.unwrap() < app.head());
        sales.caught_up(LONG).await.unwrap();
        assert_eq!(assert_in_step(app.store(), &file), app.head());
        app.stop().await.unwrap();
    }
}

/// A report that rests makes its rows again, or nothing would until the next refresh.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_rests_comes_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let (app, sales) = started(&file, Refresh::OnDemand).await;
    let receipt = note(&app, [sold(1, 1, 1), sold(1, 1, 2)]);
    sales.refresh().await.unwrap();
    sales.after(&receipt, LONG).await.unwrap();
    put(&file, None);
    assert_eq!(sales.after(&receipt, LONG).await.unwrap(), app.head());
    assert_eq!(assert_in_step(app.store(), &file), app.head());
    app.stop().await.unwrap();
}

/// An overwritten file may be half of a copy: it is left alone until a person says that it is
/// complete.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_overwritten_stops_the_projection_until_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let [file, older] = ["report.db", "older.db"].map(|name| folder.path().join(name));
    let (app, sales) = started(&file, Refresh::Live).await;
    note(&app, (1..=50).map(|number| sold(1, 1, number)));
    sales.caught_up(LONG).await.unwrap();
    let vacuum = "VACUUM INTO ?1";
    crate::shop::reader(&file).execute(vacuum, [older.to_string_lossy()]).unwrap();
    note(&app, (51..=99).map(|number| sold(1, 1, number)));
    sales.caught_up(LONG).await.unwrap();

    fs::copy(&older, &file).unwrap();
    for _ in 0..2 {
        let error = sales.caught_up(LONG).await.unwrap_err();
        assert!(error.to_string().contains("overwritten while it was open"), "{error}");
        assert!(matches!(sales.status().state, FollowState::Stopped(_)));
        let refresh = sales.refresh().await.unwrap_err();
        assert!(matches!(refresh, ControlError::Stopped(_)), "{refresh}");
    }
    sales.resume().await.unwrap();
    assert_eq!(sales.caught_up(LONG).await.unwrap(), app.head());
    assert_eq!(assert_in_step(app.store(), &file), app.head());
    app.stop().await.unwrap();
}

/// The text that a person reads after resuming a projection whose database cannot be used.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn resume_says_why_it_does_not_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let (app, sales) = started(&file, Refresh::Live).await;
    note(&app, [sold(1, 1, 1)]);
    sales.caught_up(LONG).await.unwrap();
    sales.pause().await.unwrap();
    put(&file, None);
    fs::write(&file, "not a database, but a letter. ".repeat(100)).unwrap();
    let error = sales.resume().await.unwrap_err();
    assert!(error.to_string().contains("not a database"), "{error}");
    fs::remove_file(&file).unwrap();
    sales.resume().await.unwrap();
    sales.caught_up(LONG).await.unwrap();
    assert_eq!(assert_in_step(app.store(), &file), app.head());
    app.stop().await.unwrap();
}
