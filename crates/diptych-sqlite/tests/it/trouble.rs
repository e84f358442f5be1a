//! The file, not the event, is what is wrong.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use diptych::projection::{Target, TargetError};
use diptych_sqlite::{Sqlite, rusqlite::Connection};

use crate::{
    follow::{follow, trouble},
    odd::{odd, row},
    shop::{Sales, assert_in_step, busy_app, happen, position, reader, sales},
};

fn broken(error: TargetError) -> String {
    match error {
        TargetError::Broken { reason, .. } => reason,
        other => panic!("not broken: {other:?}"),
    }
}

fn unavailable(error: TargetError) -> String {
    match error {
        TargetError::Unavailable { reason, .. } => reason,
        other => panic!("not unavailable: {other:?}"),
    }
}

#[test]
fn a_file_that_is_locked_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(14, 20);
    let place = Sqlite::at(&file).busy_timeout(Duration::from_millis(1));
    let mut sales = place.projection(Sales);
    for _ in 0..2 {
        // First when there are no tables yet, then when there are.
        let lock = Connection::open(&file).unwrap();
        lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let reason = unavailable(trouble(follow(app.store(), &mut sales, 5)));
        assert!(reason.contains("report.db") && reason.contains("locked"), "{reason}");
        lock.execute_batch("ROLLBACK").unwrap();
        follow(app.store(), &mut sales, 5).unwrap();
        assert_in_step(app.store(), &file);
        happen(&app, &mut fastrand::Rng::with_seed(14), 3);
    }
}

/// The last row id that there is. Without another one SQLite says that it is full.
const LAST_ID: &str = "9223372036854775807";

#[test]
fn a_database_that_is_full_is_tried_again_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(15, 60);
    let is_full = Arc::new(AtomicBool::new(true));
    let full = Arc::clone(&is_full);
    let mut odd = odd(move |tx, event| {
        row(tx, event)?;
        if event.position.get() > 20 && full.load(Ordering::SeqCst) {
            tx.execute(&format!("INSERT INTO large VALUES ({LAST_ID})"), ())?;
            tx.execute("INSERT INTO large VALUES (NULL)", ())?;
        }
        Ok(())
    });
    odd.create = "CREATE TABLE odd (position INTEGER, cents INTEGER);
        CREATE TABLE large (id INTEGER PRIMARY KEY AUTOINCREMENT)";
    let mut odd = Sqlite::at(&file).projection(odd);
    let reason = unavailable(trouble(follow(app.store(), &mut odd, 5)));
    assert!(reason.contains("full"), "{reason}");
    let in_step = |upto: u64| {
        let sql = "SELECT count(*), max(position), (SELECT count(*) FROM large) FROM odd";
        let (rows, last, large): (u64, u64, u64) =
            reader(&file).query_row(sql, (), |row| row.try_into()).unwrap();
        assert!(rows > 0 && last <= upto && large == 0, "{rows} {last} {large}");
    };
    let upto = position(&mut odd).unwrap();
    in_step(upto);
    unavailable(trouble(follow(app.store(), &mut odd, 5)));
    assert_eq!(position(&mut odd), Some(upto));

    is_full.store(false, Ordering::SeqCst);
    follow(app.store(), &mut odd, 5).unwrap();
    assert_eq!(position(&mut odd), Some(app.store().head().position().get()));
    in_step(60);
}

#[test]
fn a_file_that_is_no_database_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let text = "not a database, but somebody's letter. ".repeat(100);
    fs::write(&file, &text).unwrap();
    let app = busy_app(16, 5);
    let reason = broken(trouble(follow(app.store(), &mut sales(&file), 5)));
    assert!(reason.contains("file is not a database"), "{reason}");
    assert!(broken(sales(&file).reset().unwrap_err()).contains("not a database"));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_damaged_database_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(17, 400);
    follow(app.store(), &mut sales(&file), 50).unwrap();
    let pages = fs::metadata(&file).unwrap().len() / 4096;
    let mut damaged = File::options().write(true).open(&file).unwrap();
    damaged.seek(SeekFrom::Start(4096)).unwrap();
    damaged.write_all(&vec![0xA5; usize::try_from(4096 * (pages - 1)).unwrap()]).unwrap();
    drop(damaged);
    happen(&app, &mut fastrand::Rng::with_seed(17), 3);
    let reason = broken(trouble(follow(app.store(), &mut sales(&file), 50)));
    assert!(reason.contains("malformed"), "{reason}");
}

#[test]
fn a_folder_and_memory_are_no_places() {
    let folder = tempfile::tempdir().unwrap();
    let app = busy_app(18, 5);
    let reason = broken(trouble(follow(app.store(), &mut sales(folder.path()), 5)));
    assert!(reason.contains("it is a folder: name a file"), "{reason}");
    let reason = broken(trouble(follow(app.store(), &mut sales(Path::new(":memory:")), 5)));
    assert!(reason.contains("name a file"), "{reason}");
}

#[test]
fn a_file_that_can_only_be_read_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(19, 20);
    follow(app.store(), &mut sales(&file), 5).unwrap();
    happen(&app, &mut fastrand::Rng::with_seed(19), 3);
    // By name, because a privileged user may write to any file.
    let read_only = format!("file:{}?mode=ro", file.display());
    let reason = broken(trouble(follow(app.store(), &mut sales(Path::new(&read_only)), 5)));
    assert!(reason.contains("readonly"), "{reason}");
    assert_in_step(app.store(), &file);
}

/// A row that goes to a file without a name is lost to readers.
#[cfg(unix)]
#[test]
fn a_file_that_was_removed_or_replaced_under_it_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let [file, backup] = ["report.db", "backup.db"].map(|name| folder.path().join(name));
    let app = busy_app(20, 20);
    let mut sales = sales(&file);
    follow(app.store(), &mut sales, 5).unwrap();
    let vacuum = "VACUUM INTO ?1";
    reader(&file).execute(vacuum, [backup.to_string_lossy()]).unwrap();
    let mut random = fastrand::Rng::with_seed(20);
    happen(&app, &mut random, 3);
    follow(app.store(), &mut sales, 5).unwrap();

    // Moved from under a runner, which then is told that the checkpoint is gone.
    let at = sales.checkpoint().unwrap();
    for name in ["report.db", "report.db-wal", "report.db-shm"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    let error = sales.apply(&[], at, at.unwrap()).unwrap_err();
    assert!(matches!(error, TargetError::Moved { found: None }), "{error}");
    follow(app.store(), &mut sales, 5).unwrap();
    assert_eq!(assert_in_step(app.store(), &file), app.store().head().position());

    for name in ["report.db", "report.db-wal", "report.db-shm"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    fs::rename(&backup, &file).unwrap();
    assert_eq!(position(&mut sales), Some(20));
    follow(app.store(), &mut sales, 5).unwrap();
    assert_eq!(assert_in_step(app.store(), &file), app.store().head().position());
}

/// "Cannot open" was taken for a fault of the file, and stopped the projection for good.
#[test]
fn a_folder_that_is_briefly_not_there_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let [place, away] = ["reports", "away"].map(|name| folder.path().join(name));
    let file = place.join("report.db");
    let app = busy_app(21, 20);
    let reason = unavailable(trouble(follow(app.store(), &mut sales(&file), 5)));
    assert!(reason.contains("unable to open database file"), "{reason}");
    fs::create_dir(&place).unwrap();
    let mut sales = sales(&file);
    follow(app.store(), &mut sales, 5).unwrap();

    fs::rename(&place, &away).unwrap();
    happen(&app, &mut fastrand::Rng::with_seed(21), 3);
    unavailable(trouble(follow(app.store(), &mut sales, 5)));
    fs::rename(&away, &place).unwrap();
    follow(app.store(), &mut sales, 5).unwrap();
    assert_eq!(assert_in_step(app.store(), &file), app.store().head().position());
}

const DESCRIPTORS: &str = "DIPTYCH_FEW_DESCRIPTORS";

/// In a process of its own, because the others would have no descriptors either.
#[cfg(unix)]
#[test]
fn a_process_that_has_no_descriptor_left_tries_again() {
    let child = "trouble::child_with_few_descriptors";
    let ran = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 60; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([child, "--exact", "--nocapture", "--test-threads=1"])
        .env(DESCRIPTORS, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let wrong = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}\n{wrong}");
}

#[cfg(unix)]
#[test]
fn child_with_few_descriptors() {
    if std::env::var(DESCRIPTORS).is_err() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(22, 20);
    let mut sales = sales(&file);
    let open = || std::iter::repeat_with(|| File::open("/dev/null")).map_while(Result::ok);
    let all: Vec<_> = open().collect();
    let reason = unavailable(trouble(follow(app.store(), &mut sales, 5)));
    assert!(reason.contains("unable to open database file"), "{reason}");
    drop(all);
    follow(app.store(), &mut sales, 5).unwrap();
    assert_eq!(assert_in_step(app.store(), &file), app.store().head().position());
}
