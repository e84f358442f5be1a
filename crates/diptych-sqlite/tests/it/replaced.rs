//! The log under a projection becomes another one, in three ways. Each is noticed before anything
//! is taken in, and the rows stay what they were.

use std::{fs, path::Path};

use diptych::{
    App, LogIdentity,
    projection::{ReplacedError, Target},
};
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

    let app = open(&log);
    let error = replaced(follow(app.store(), &mut sales(&file), 4));
    assert!(matches!(error, ReplacedError::AboveHead { .. }), "{error}");
    assert_eq!(Totals::asked(&reader(&file)), before);
}

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
