//! Beginning anew: by a reset, and by tables that changed.

use diptych::projection::{Target, TargetError};
use diptych_sqlite::{
    Sqlite,
    rusqlite::{Connection, OptionalExtension},
};

use crate::{
    follow::{follow, trouble},
    odd::{Odd, odd, row},
    shop::{app, assert_in_step, busy_app, note, position, reader, sales, sold},
};

fn broken(outcome: Result<u64, crate::follow::End>) -> String {
    match trouble(outcome) {
        TargetError::Broken { reason, .. } => reason,
        other => panic!("not broken: {other:?}"),
    }
}

fn objects(file: &std::path::Path) -> Vec<String> {
    let report = reader(file);
    let mut find = report
        .prepare(
            "SELECT name FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'diptych%'
             ORDER BY name",
        )
        .unwrap();
    find.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_reset_gives_the_same_rows_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(7, 100);
    let mut sales = sales(&file);
    follow(app.store(), &mut sales, 9).unwrap();
    for batch_events in [1, 13] {
        sales.reset().unwrap();
        assert_eq!(assert_in_step(app.store(), &file).get(), 0);
        follow(app.store(), &mut sales, batch_events).unwrap();
        assert_eq!(assert_in_step(app.store(), &file), app.store().head().position());
    }
}

#[test]
fn a_reset_under_a_runner_is_noticed_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(8, 20);
    let mut sales_one = sales(&file);
    follow(app.store(), &mut sales_one, 10).unwrap();
    let at = sales_one.checkpoint().unwrap().unwrap();
    sales(&file).reset().unwrap();
    let error = sales_one.apply(&[], Some(at), at).unwrap_err();
    assert!(matches!(error, TargetError::Moved { found: None }), "{error}");
    follow(app.store(), &mut sales_one, 10).unwrap();
    assert_eq!(assert_in_step(app.store(), &file), app.store().head().position());
}

#[test]
fn a_new_version_makes_other_tables_and_removes_those_of_the_old() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    note(&app, (1..=3).map(|number| sold(1, 1, number)));
    let old = Odd {
        create: "CREATE TABLE odd (position INTEGER, cents INTEGER);
                 CREATE TABLE \"of \"\"old\"\"\" (x);
                 CREATE VIEW all_odd AS SELECT * FROM odd;
                 CREATE INDEX odd_by_cents ON odd (cents);",
        ..odd(row)
    };
    follow(app.store(), &mut Sqlite::at(&file).projection(old), 10).unwrap();
    assert_eq!(objects(&file), ["all_odd", "odd", "odd_by_cents", "of \"old\""]);
    // Objects of other programs stay.
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE of_people (x)").unwrap();

    let new = || Odd {
        create: "CREATE TABLE odd (position INTEGER PRIMARY KEY, cents INTEGER, more TEXT)",
        version: 3,
        ..odd(|tx, event| {
            tx.execute("INSERT INTO odd VALUES (?1, 1, 'x')", [event.position.get()])?;
            Ok(())
        })
    };
    let mut new_one = Sqlite::at(&file).projection(new());
    assert_eq!(position(&mut new_one), None);
    follow(app.store(), &mut new_one, 2).unwrap();
    assert_eq!(objects(&file), ["odd", "of_people"]);
    let more: i64 = reader(&file)
        .query_row("SELECT count(*) FROM odd WHERE more = 'x'", (), |row| row.get(0))
        .unwrap();
    assert_eq!(more, 3);
    // The next start finds it as it is.
    assert_eq!(position(&mut Sqlite::at(&file).projection(new())), Some(3));

    // An older program does not undo it, unless told so.
    let mut old = Sqlite::at(&file).projection(odd(row));
    let reason = broken(follow(app.store(), &mut old, 10));
    assert!(reason.contains("have version 3, and this program has version 1"), "{reason}");
    old.reset().unwrap();
    follow(app.store(), &mut old, 10).unwrap();

    // The newer one, still running, does not write to tables of the older.
    let at = old.checkpoint().unwrap().unwrap();
    let error = new_one.apply(&[], Some(at), at).unwrap_err();
    assert!(error.to_string().contains("rebuilt in version 1"), "{error}");
}

#[test]
fn tables_that_changed_without_a_new_version_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    note(&app, (1..=3).map(|number| sold(1, 1, number)));
    follow(app.store(), &mut Sqlite::at(&file).projection(odd(row)), 10).unwrap();
    // An index that another program adds to a table of a report is no change.
    let index = "CREATE INDEX of_people ON odd (cents)";
    Connection::open(&file).unwrap().execute_batch(index).unwrap();
    assert_eq!(position(&mut Sqlite::at(&file).projection(odd(row))), Some(3));

    let create =
        "CREATE TABLE odd (position INTEGER, cents INTEGER); CREATE INDEX i ON odd (cents)";
    let mut changed = Sqlite::at(&file).projection(Odd { create, ..odd(row) });
    let reason = broken(follow(app.store(), &mut changed, 10));
    assert!(reason.contains("(index i), and its version did not: raise the version"), "{reason}");
    changed.reset().unwrap();
    follow(app.store(), &mut changed, 10).unwrap();
    assert_eq!(objects(&file), ["i", "odd"]);
}

#[test]
fn tables_and_checkpoints_that_were_removed_by_hand_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    note(&app, (1..=3).map(|number| sold(1, 1, number)));
    let mut odd = Sqlite::at(&file).projection(odd(row));
    follow(app.store(), &mut odd, 10).unwrap();
    let by_hand = |sql: &str| Connection::open(&file).unwrap().execute_batch(sql).unwrap();

    by_hand("DROP TABLE odd");
    let reason = broken(follow(app.store(), &mut odd, 10));
    assert!(reason.contains("table odd of projection odd was removed: rebuild"), "{reason}");
    odd.reset().unwrap();
    follow(app.store(), &mut odd, 10).unwrap();

    // Without its row the place of the rows is unknown, so it begins anew.
    let at = odd.checkpoint().unwrap().unwrap();
    by_hand("DELETE FROM diptych_checkpoint");
    let error = odd.apply(&[], Some(at), at).unwrap_err();
    assert!(error.to_string().contains("checkpoint of projection odd is gone"), "{error}");
    follow(app.store(), &mut odd, 10).unwrap();
    let rows = "SELECT count(*) FROM odd";
    let rows: Option<u64> = reader(&file).query_row(rows, (), |row| row.get(0)).optional().unwrap();
    assert_eq!(rows, Some(3));

    by_hand("UPDATE diptych_checkpoint SET log = 'no log'");
    let reason = broken(follow(app.store(), &mut odd, 10));
    assert!(reason.contains("reading what is stored about projections"), "{reason}");
    odd.reset().unwrap();
    follow(app.store(), &mut odd, 10).unwrap();
}
