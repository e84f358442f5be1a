//! The poisoned keys of projections, in tables beside their checkpoints.
//!
//! `diptych_poisoned` is also for readers, who mark the rows of these keys.

use diptych::{
    Position,
    projection::{PoisonRecord, PoisonRow},
};
use rusqlite::{Connection, OptionalExtension};

pub(crate) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS diptych_poisoned (
        projection TEXT NOT NULL,
        key TEXT NOT NULL,
        position INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        reason TEXT NOT NULL,
        held INTEGER NOT NULL,
        PRIMARY KEY (projection, key)
    );
    CREATE TABLE IF NOT EXISTS diptych_skipped (
        projection TEXT NOT NULL PRIMARY KEY,
        events TEXT NOT NULL
    );";

/// The poisoned keys of the version with this row, and its skipped events.
pub(crate) fn stored(connection: &Connection, row: &str) -> rusqlite::Result<PoisonRecord> {
    let mut find = connection.prepare_cached(
        "SELECT key, position, failed, reason, held FROM diptych_poisoned
         WHERE projection = ?1 ORDER BY key",
    )?;
    let keys = find.query_map([row], |row| {
        Ok(PoisonRow {
            key: row.get(0)?,
            at: Position::new(row.get(1)?),
            failed: Position::new(row.get(2)?),
            reason: row.get(3)?,
            held: row.get(4)?,
        })
    })?;
    let keys = keys.collect::<rusqlite::Result<_>>()?;
    let mut find =
        connection.prepare_cached("SELECT events FROM diptych_skipped WHERE projection = ?1")?;
    let skipped: Option<String> = find.query_row([row], |row| row.get(0)).optional()?;
    Ok(PoisonRecord { keys, skipped: skipped.unwrap_or_default().into_bytes() })
}

pub(crate) fn store(
    connection: &Connection,
    row: &str,
    record: &PoisonRecord,
) -> rusqlite::Result<()> {
    let before = stored(connection, row)?;
    if before == *record {
        return Ok(());
    }
    clear(connection, row)?;
    let mut add = connection
        .prepare_cached("INSERT INTO diptych_poisoned VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for PoisonRow { key, at, failed, reason, held } in &record.keys {
        add.execute((row, key, at.get(), failed.get(), reason, held))?;
    }
    if before.skipped != record.skipped {
        let events = String::from_utf8_lossy(&record.skipped);
        let sql = "INSERT OR REPLACE INTO diptych_skipped VALUES (?1, ?2)";
        connection.execute(sql, (row, events))?;
    }
    Ok(())
}

/// Removes the poisoned keys, of a version whose rows are made again.
pub(crate) fn clear(connection: &Connection, row: &str) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM diptych_poisoned WHERE projection = ?1", [row])?;
    Ok(())
}

/// Moves all that is stored about a version to another name.
pub(crate) fn rename(connection: &Connection, from: &str, to: &str) -> rusqlite::Result<()> {
    for table in ["diptych_poisoned", "diptych_skipped"] {
        let sql = format!("UPDATE {table} SET projection = ?2 WHERE projection = ?1");
        connection.execute(&sql, [from, to])?;
    }
    Ok(())
}

/// Removes all that is stored about a version.
pub(crate) fn forget(connection: &Connection, row: &str) -> rusqlite::Result<()> {
    clear(connection, row)?;
    connection.execute("DELETE FROM diptych_skipped WHERE projection = ?1", [row])?;
    Ok(())
}
