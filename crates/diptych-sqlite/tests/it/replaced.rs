//! The log under a projection becomes another one, in three ways. Each is noticed before anything
//! is taken in, and the rows stay what they were.

use std::{fs, path::Path, time::Duration};

use diptych::{
    App, AppBuilder,
    projection::{ReplacedError, Target},
    store::LogIdentity,
};
use diptych_sqlite::rusqlite::Connection;
use pollster::block_on;

use crate::{
    follow::{End, follow, follow_as},
    shop::{Totals, assert_in_step, busy_app, note, reader, sales, sold},
};

fn replaced(end: Result<u64, End>) -> ReplacedError {
    match end {
        Err(End::Replaced(error)) => error,
        other => panic!("it was not noticed: {other:?}"),
    }
}

#[test]
fn another_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let (one, other) = (busy_app(9, 40), busy_app(10, 80));
    let mut sales = sales(&file);
    follow(one.store(), &mut sales, 10).unwrap();
    let error = replaced(follow(other.store(), &mut sales, 10));
    assert!(matches!(error, ReplacedError::OtherLog { .. }), "{error}");
    assert_eq!(assert_in_step(one.store(), &file), one.store().head().position());

    sales.reset().unwrap();
    follow(other.store(), &mut sales, 10).unwrap();
    assert_eq!(assert_in_step(other.store(), &file), other.store().head().position());
}

#[test]
fn another_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(11, 40);
    let mut sales = sales(&file);
    follow(app.store(), &mut sales, 10).unwrap();
    note(&app, [sold(1, 1, 1)]);
    let restored = LogIdentity { epoch: app.identity().epoch.next(), ..app.identity() };
    let error = replaced(follow_as(restored, app.store(), &mut sales, 10));
    assert!(matches!(error, ReplacedError::OtherEpoch { .. }), "{error}");
    assert_eq!(assert_in_step(app.store(), &file).get(), 40);
}

#[test]
fn an_older_copy_of_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let [log, backup, file] = ["log", "backup", "report.db"].map(|name| folder.path().join(name));
    let open = |log: &Path| block_on(App::open(log).unwrap().start()).unwrap();
    let app = open(&log);
    note(&app, (1..=10).map(|number| sold(1, 1, number)));
    block_on(app.stop()).unwrap();
    copy(&log, &backup);

    let app = open(&log);
    note(&app, (11..=15).map(|number| sold(1, 1, number)));
    follow(app.store(), &mut sales(&file), 4).unwrap();
    assert_eq!(assert_in_step(app.store(), &file).get(), 15);
    let before = Totals::asked(&reader(&file));
    block_on(app.stop()).unwrap();
    fs::remove_dir_all(&log).unwrap();
    copy(&backup, &log);
    adopt(&log, Adoption::Moved, &LogOptions::default()).unwrap();

    let app = open(&log);
    let error = replaced(follow(app.store(), &mut sales(&file), 4));
    assert!(matches!(error, ReplacedError::AboveHead { .. }), "{error}");
    assert_eq!(Totals::asked(&reader(&file)), before);
}

/// The copy went on past the rows, so its positions say nothing: the events there do. It was found
/// with a projection that was live, with rows of events that no log has.
#[test]
fn an_older_copy_of_its_files_that_went_on() {
    let folder = tempfile::tempdir().unwrap();
    let [log, backup, file] = ["log", "backup", "report.db"].map(|name| folder.path().join(name));
    let open = |log: &Path| App::open(log).unwrap().projection(sales(&file));
    let run = |builder: AppBuilder| block_on(builder.start()).unwrap();
    let app = run(App::open(&log).unwrap());
    note(&app, (1..=10).map(|number| sold(1, 1, number)));
    block_on(app.stop()).unwrap();
    copy(&log, &backup);

    let app = run(open(&log));
    let last = note(&app, (11..=15).map(|number| sold(1, 1, number)));
    block_on(app.projection("sales").unwrap().after(&last, LONG)).unwrap();
    block_on(app.stop()).unwrap();
    let before = Totals::asked(&reader(&file));
    fs::remove_dir_all(&log).unwrap();
    copy(&backup, &log);
    adopt(&log, Adoption::Moved, &LogOptions::default()).unwrap();
    let app = run(App::open(&log).unwrap());
    note(&app, (1..=9).map(|number| sold(2, 2, number)));
    block_on(app.stop()).unwrap();

    let app = run(open(&log));
    let projection = app.projection("sales").unwrap();
    let error = block_on(projection.caught_up(LONG)).unwrap_err().to_string();
    assert!(error.contains("of position 15 of a history that the log no longer has"), "{error}");
    assert_eq!(Totals::asked(&reader(&file)), before);
    block_on(projection.rebuild()).unwrap();
    block_on(projection.caught_up(LONG)).unwrap();
    assert_eq!(assert_in_step(app.store(), &file).get(), 19);
    block_on(app.stop()).unwrap();
}

/// Tables that an older program made have no column for the event, and one that still runs moves
/// the checkpoint without it. Both are taken to be of this log, and get it with the next batch.
#[test]
fn a_checkpoint_that_an_older_program_stored_is_bound_by_the_next_batch() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(12, 40);
    follow(app.store(), &mut sales(&file), 10).unwrap();
    let event = || -> Option<String> {
        let sql = "SELECT event FROM diptych_checkpoint WHERE name = 'sales'";
        reader(&file).query_row(sql, (), |row| row.get(0)).unwrap()
    };
    let at = |position: u64| {
        let checksum = block_on(app.store().checksum(position.into())).unwrap().unwrap();
        Some(format!("{position}:{checksum}"))
    };
    assert_eq!(event(), at(40));
    for by_hand in [
        "ALTER TABLE diptych_checkpoint DROP COLUMN event",
        "UPDATE diptych_checkpoint SET event = '39:0000000000000001'",
        "UPDATE diptych_checkpoint SET event = 'what is this'",
    ] {
        Connection::open(&file).unwrap().execute_batch(by_hand).unwrap();
        let mut sales = sales(&file);
        assert_eq!(sales.checkpoint().unwrap().unwrap().checksum, None, "{by_hand}");
        let last = note(&app, [sold(1, 1, 1)]).last();
        follow(app.store(), &mut sales, 10).unwrap();
        assert_eq!(event(), at(last.get()), "{by_hand}");
    }
    assert_in_step(app.store(), &file);
}

const LONG: Duration = Duration::from_secs(10);

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}
