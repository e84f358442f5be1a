//! A report answers questions that no program foresaw, and says how fresh the answers are.

use diptych::{
    Position, Timestamp,
    projection::{Checkpoint, Target},
};
use diptych_sqlite::Sqlite;

use crate::{
    follow::follow,
    odd::{odd, row},
    shop::{Totals, app, assert_in_step, busy_app, note, position, reader, returned, sales, sold},
};

#[test]
fn queries_of_the_rows_equal_a_fold_of_the_log() {
    for (seed, batch_events) in [(1, 1), (2, 7), (3, 1_000)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.db");
        let app = busy_app(seed, 300);
        let mut sales = sales(&file);
        follow(app.store(), &mut sales, batch_events).unwrap();
        assert_eq!(assert_in_step(app.store(), &file), app.store().head().position());
        let asked = Totals::asked(&reader(&file));
        assert!(asked.months.len() == 12 && asked.shops.len() == 5, "{asked:?}");
    }
}

#[test]
fn the_checkpoint_says_how_fresh_the_rows_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    let mut sales = sales(&file);
    assert_eq!(sales.checkpoint().unwrap(), None);

    note(&app, [sold(1, 1, 100), returned(1, 40)]);
    follow(app.store(), &mut sales, 10).unwrap();
    let (log, epoch, position, recorded_at, updated_at): (String, i64, u64, String, String) =
        reader(&file)
            .query_row(
                "SELECT log, epoch, position, recorded_at, updated_at FROM diptych_checkpoint
                 WHERE name = 'sales' AND version = 1",
                (),
                |row| row.try_into(),
            )
            .unwrap();
    let identity = app.identity();
    assert_eq!(log, identity.id.to_string());
    assert_eq!(epoch.cast_unsigned(), identity.epoch.to_u64());
    assert_eq!(position, 2);
    let [recorded_at, updated_at] =
        [recorded_at, updated_at].map(|at| at.parse::<Timestamp>().unwrap());
    assert!(recorded_at <= updated_at, "{recorded_at} {updated_at}");

    // SQLite's own functions understand it.
    let behind = "SELECT unixepoch(updated_at) - unixepoch(recorded_at) FROM diptych_checkpoint";
    let behind: i64 = reader(&file).query_row(behind, (), |row| row.get(0)).unwrap();
    assert!((0..100).contains(&behind), "{behind}");
}

#[test]
fn an_empty_batch_moves_the_checkpoint_and_not_the_freshness() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    note(&app, [sold(1, 1, 100)]);
    let mut sales = sales(&file);
    follow(app.store(), &mut sales, 10).unwrap();
    let recorded_at = || -> String {
        let sql = "SELECT recorded_at FROM diptych_checkpoint";
        reader(&file).query_row(sql, (), |row| row.get(0)).unwrap()
    };
    let before = recorded_at();
    let from = sales.checkpoint().unwrap();
    let to = Checkpoint { log: app.identity(), position: Position::new(9), checksum: None };
    sales.apply(&[], from, to).unwrap();
    assert_eq!((position(&mut sales), recorded_at()), (Some(9), before));
}

#[test]
fn two_projections_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(4, 50);
    let mut sales = sales(&file);
    let mut odd = Sqlite::at(&file).projection(odd(row));
    follow(app.store(), &mut sales, 10).unwrap();
    assert_eq!(position(&mut odd), None);
    follow(app.store(), &mut odd, 10).unwrap();
    assert_eq!(position(&mut odd), position(&mut sales));

    // A reset of one is none of the other.
    odd.reset().unwrap();
    assert_eq!(position(&mut odd), None);
    assert_in_step(app.store(), &file);
    let rows: u64 =
        reader(&file).query_row("SELECT count(*) FROM odd", (), |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
}

#[test]
fn a_reader_sees_whole_batches_and_delays_no_writer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(5, 30);
    let mut sales = sales(&file);
    follow(app.store(), &mut sales, 10).unwrap();
    let mut reader = reader(&file);
    let report = reader.transaction().unwrap();
    let before = Totals::asked(&report);
    note(&app, [sold(1, 1, 1)]);
    follow(app.store(), &mut sales, 10).unwrap();
    assert_eq!(Totals::asked(&report), before);
    report.finish().unwrap();
    assert_ne!(Totals::asked(&reader), before);
}
