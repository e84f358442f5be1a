//! Statements of a projection that would break the promise about its rows.

use diptych::Recorded;
use diptych_sqlite::{Result, Sqlite, Transaction, rusqlite::Connection};

use crate::{
    follow::{follow, refused, trouble},
    odd::{Odd, odd, row},
    shop::{Trade, app, assert_in_step, busy_app, note, position, reader, sales, sold},
};

/// Five events, of which the third meets this: where it was refused, why, and the rows.
fn at_the_third(
    hostile: impl Fn(&Transaction<'_>) -> Result + Send + 'static,
) -> (u64, String, Vec<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    note(&app, (1..=5).map(|number| sold(1, 1, number)));
    let mut odd = Sqlite::at(&file).projection(odd(third(hostile)));
    for batch_events in [10, 1] {
        // Refused each time, and never any further.
        refused(follow(app.store(), &mut odd, batch_events));
        assert_eq!(position(&mut odd), Some(2));
    }
    let (at, reason) = refused(follow(app.store(), &mut odd, 10));
    (at, reason, positions(&reader(&file)))
}

fn third(
    hostile: impl Fn(&Transaction<'_>) -> Result + Send + 'static,
) -> impl Fn(&Transaction<'_>, &Recorded<Trade>) -> Result + Send + 'static {
    move |tx, event| {
        row(tx, event)?;
        if event.position.get() == 3 {
            hostile(tx)?;
        }
        Ok(())
    }
}

fn positions(report: &Connection) -> Vec<u64> {
    let mut find = report.prepare("SELECT position FROM odd ORDER BY rowid").unwrap();
    find.query_map((), |row| row.get(0)).unwrap().collect::<std::result::Result<_, _>>().unwrap()
}

#[test]
fn a_transaction_cannot_be_ended_from_within() {
    for sql in ["COMMIT", "END", "ROLLBACK", "COMMIT; BEGIN", "BEGIN", "ROLLBACK; BEGIN"] {
        let (at, reason, rows) = at_the_third(move |tx| Ok(tx.execute_batch(sql)?));
        assert!(reason.starts_with("a projection must not begin, commit"), "{reason}");
        assert_eq!((at, rows), (3, vec![1, 2]), "{sql}");
    }
}

#[test]
fn an_attempt_to_end_it_that_is_passed_over_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    note(&app, (1..=5).map(|number| sold(1, 1, number)));
    let mut odd = Sqlite::at(&file).projection(odd(|tx, event| {
        row(tx, event)?;
        let _ = tx.execute_batch("ROLLBACK");
        let _ = tx.execute_batch("COMMIT");
        Ok(())
    }));
    follow(app.store(), &mut odd, 2).unwrap();
    assert_eq!(positions(&reader(&file)), [1, 2, 3, 4, 5]);
}

#[test]
fn statements_after_a_rollback_are_not_committed_separately() {
    let (at, reason, rows) = at_the_third(|tx| {
        let twice = "INSERT OR ROLLBACK INTO odd (rowid, position) VALUES (1, 77)";
        assert!(tx.execute(twice, ()).is_err());
        assert!(tx.is_autocommit(), "there is no transaction any more");
        let alone = tx.execute("INSERT INTO odd VALUES (88, 1)", ());
        assert!(alone.is_err(), "{alone:?}");
        Ok(())
    });
    assert!(reason.contains("the transaction ended early"), "{reason}");
    assert_eq!((at, rows), (3, vec![1, 2]));
}

#[test]
fn savepoints_are_fine() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    note(&app, (1..=3).map(|number| sold(1, 1, number)));
    let mut odd = Sqlite::at(&file).projection(odd(|tx, event| {
        tx.execute_batch("SAVEPOINT mine")?;
        row(tx, event)?;
        tx.execute_batch("ROLLBACK TO mine; RELEASE mine; SAVEPOINT left_open")?;
        row(tx, event)
    }));
    follow(app.store(), &mut odd, 2).unwrap();
    assert_eq!(positions(&reader(&file)), [1, 2, 3]);
}

#[test]
fn a_projection_writes_only_to_its_own_objects() {
    let cases = [
        (
            "UPDATE diptych_checkpoint SET position = 99",
            "diptych_checkpoint does not belong to this",
        ),
        ("DELETE FROM diptych_schema", "diptych_schema does not belong to this"),
        ("CREATE TABLE more (x)", "made in `create`, not in `apply`"),
        ("CREATE TEMP TABLE more (x)", "made in `create`, not in `apply`"),
        ("DROP TABLE odd", "made in `create`, not in `apply`"),
        ("ALTER TABLE odd ADD COLUMN x", "made in `create`, not in `apply`"),
        ("CREATE INDEX by_cents ON odd (cents)", "made in `create`, not in `apply`"),
        ("ATTACH ':memory:' AS other", "must not attach"),
    ];
    for (sql, why) in cases {
        let (at, reason, rows) = at_the_third(move |tx| Ok(tx.execute_batch(sql)?));
        assert!(reason.contains(why), "{sql}: {reason}");
        assert_eq!((at, rows), (3, vec![1, 2]), "{sql}");
    }
}

#[test]
fn the_tables_of_another_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = busy_app(6, 20);
    follow(app.store(), &mut sales(&file), 10).unwrap();

    let mut writer = Sqlite::at(&file)
        .projection(odd(|tx, _| Ok(tx.execute("DELETE FROM shop_total", ()).map(drop)?)));
    let (_, reason) = refused(follow(app.store(), &mut writer, 10));
    assert!(reason.contains("shop_total does not belong to this projection"), "{reason}");

    let creates = [
        ("CREATE TABLE sale (x)", "table sale already exists"),
        ("CREATE TABLE IF NOT EXISTS sale (x)", "the table sale exists already, and is not"),
        ("CREATE TABLE mine (x); DROP TABLE IF EXISTS sale", "sale was there before"),
        ("CREATE TABLE IF NOT EXISTS sale (x); DELETE FROM sale", "sale was there before"),
        ("CREATE TABLE IF NOT EXISTS sale (x); ALTER TABLE sale ADD COLUMN y", "sale was there"),
        (
            "CREATE TABLE IF NOT EXISTS sale (x);
             CREATE TRIGGER t AFTER INSERT ON sale BEGIN SELECT 1; END",
            "sale was there before",
        ),
        ("DROP TABLE IF EXISTS diptych_checkpoint", "diptych_checkpoint was there before"),
        ("CREATE TABLE mine (x); DELETE FROM sale", "no such table: sale"),
        ("CREATE TABLE mine (x); COMMIT", "must not begin, commit"),
    ];
    for (create, why) in creates {
        let odd = Odd { name: "bad", create, ..odd(row) };
        let error = trouble(follow(app.store(), &mut Sqlite::at(&file).projection(odd), 10));
        let is_broken = matches!(error, diptych::projection::TargetError::Broken { .. });
        assert!(is_broken, "{create}: {error}");
        assert!(error.to_string().contains(why), "{create}: {error}");
        assert!(!reader(&file).table_exists(None, "mine").unwrap());
    }
    assert_in_step(app.store(), &file);
}

#[test]
fn a_search_index_and_a_trigger_of_its_own_work_and_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.db");
    let app = app();
    note(&app, (1..=5).map(|number| sold(number, 1, 1)));
    let mut odd = odd(|tx, event| {
        let Trade::Sold { shop, .. } = &event.event else { return Ok(()) };
        tx.execute("INSERT INTO found (shop) VALUES (?1)", [shop])?;
        row(tx, event)
    });
    odd.create = "
        CREATE VIRTUAL TABLE found USING fts5 (shop);
        CREATE TABLE odd (position INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER);
        CREATE TABLE counted (how_many INTEGER);
        INSERT INTO counted VALUES (0);
        CREATE TRIGGER counting AFTER INSERT ON odd BEGIN
            UPDATE counted SET how_many = how_many + 1;
        END;
        CREATE VIEW doubled AS SELECT 2 * how_many AS twice FROM counted;";
    let mut odd = Sqlite::at(&file).projection(odd);
    for _ in 0..2 {
        follow(app.store(), &mut odd, 2).unwrap();
        let report = reader(&file);
        let number = |sql: &str| -> i64 { report.query_row(sql, (), |row| row.get(0)).unwrap() };
        assert_eq!(number("SELECT twice FROM doubled"), 10);
        assert_eq!(number("SELECT count(*) FROM found WHERE found MATCH '\"shop-3\"'"), 1);
        assert_eq!(number("SELECT count(*) FROM found"), 5);
        diptych::projection::Target::reset(&mut odd).unwrap();
    }
    let kept: i64 =
        reader(&file).query_row("SELECT count(*) FROM found", (), |row| row.get(0)).unwrap();
    assert_eq!(kept, 0);
}
