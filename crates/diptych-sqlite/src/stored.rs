//! Tables of this crate in a database, beside those of its projections.
//!
//! `diptych_checkpoint` is also for readers, so it uses text that any tool shows. `diptych_schema`
//! lists the objects that each projection made, as SQLite describes them. A reset removes these.
//! `diptych_file` is for [`bond`].

use std::{collections::HashSet, sync::Arc};

use diptych::{
    Epoch, EventChecksum, LogId, LogIdentity, Position, Timestamp, Uuid, projection::Checkpoint,
};
use rusqlite::{Connection, OptionalExtension, Row, named_params, types::Type};

use crate::bond;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS diptych_checkpoint (
        name TEXT NOT NULL PRIMARY KEY,
        version INTEGER NOT NULL,
        log TEXT,
        epoch INTEGER,
        position INTEGER,
        recorded_at TEXT,
        updated_at TEXT NOT NULL,
        event TEXT
    );
    CREATE TABLE IF NOT EXISTS diptych_schema (
        projection TEXT NOT NULL,
        type TEXT NOT NULL,
        name TEXT NOT NULL,
        sql TEXT NOT NULL,
        PRIMARY KEY (type, name)
    );";

/// The row of a projection in `diptych_checkpoint`.
pub(crate) struct Stored {
    pub(crate) version: u32,
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// The objects that a projection made, as they are in the database now.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) objects: Vec<Object>,
    pub(crate) names: Arc<HashSet<String>>,
    /// SQLite's counter of schema changes at the time of the last check.
    pub(crate) schema: i64,
    /// A foreign key of its tables, or one that refers to them, is checked only at a commit.
    pub(crate) has_deferred_keys: bool,
}

/// A table, index, view or trigger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Object {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) sql: String,
}

pub(crate) fn create_tables(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)?;
    connection.execute_batch(bond::TABLE)?;
    // Tables that an older program made have no column for the event.
    let mut columns = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let columns = columns.query_map(["diptych_checkpoint"], |row| row.get::<_, String>(0))?;
    let columns = columns.collect::<rusqlite::Result<Vec<_>>>()?;
    match columns.iter().any(|column| column == "event") {
        true => Ok(()),
        false => connection.execute_batch("ALTER TABLE diptych_checkpoint ADD COLUMN event TEXT"),
    }
}

/// The event of a checkpoint: its position and its checksum. An older program moves the position
/// column and leaves this column as it is; the position in the text reveals that.
fn event_text(checkpoint: Checkpoint) -> Option<String> {
    let checksum = checkpoint.checksum?;
    Some(format!("{}:{checksum}", checkpoint.position))
}

fn event_checksum(text: &str, position: Position) -> Option<EventChecksum> {
    let (at, checksum) = text.split_once(':')?;
    let checksum = u64::from_str_radix(checksum, 16).ok()?;
    (at.parse() == Ok(position.get())).then(|| EventChecksum::from_u64(checksum))
}

pub(crate) fn checkpoint(connection: &Connection, name: &str) -> rusqlite::Result<Option<Stored>> {
    let mut find = connection.prepare_cached(
        "SELECT version, log, epoch, position, event FROM diptych_checkpoint WHERE name = ?1",
    )?;
    find.query_row([name], stored).optional()
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let version = row.get(0)?;
    let Some(log) = row.get::<_, Option<String>>(1)? else {
        return Ok(Stored { version, checkpoint: None });
    };
    let id = Uuid::parse_str(&log).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error))
    })?;
    let epoch = Epoch::from_u64(row.get::<_, i64>(2)?.cast_unsigned());
    let position = Position::new(row.get(3)?);
    let log = LogIdentity { id: LogId::from_bytes(id.into_bytes()), epoch };
    let event = row.get::<_, Option<String>>(4)?;
    let checksum = event.and_then(|event| event_checksum(&event, position));
    let checkpoint = Some(Checkpoint { log, position, checksum });
    Ok(Stored { version, checkpoint })
}

/// Moves the checkpoint if it and the version are exactly these. Returns whether it moved.
pub(crate) fn move_checkpoint(
    connection: &Connection,
    name: &str,
    version: u32,
    from: Option<Checkpoint>,
    to: Checkpoint,
    recorded_at: Option<Timestamp>,
) -> rusqlite::Result<bool> {
    let mut change = connection.prepare_cached(
        "UPDATE diptych_checkpoint
         SET log = :log, epoch = :epoch, position = :position, updated_at = :now, event = :event,
             recorded_at = coalesce(:recorded_at, recorded_at)
         WHERE name = :name AND version = :version
             AND log IS :from_log AND epoch IS :from_epoch AND position IS :from_position
             AND (:from_event IS NULL OR event IS :from_event)",
    )?;
    let changed = change.execute(named_params! {
        ":name": name,
        ":version": version,
        ":log": to.log.id.to_string(),
        ":epoch": to.log.epoch.to_u64().cast_signed(),
        ":position": to.position.get(),
        ":event": event_text(to),
        ":now": Timestamp::now().to_string(),
        ":recorded_at": recorded_at.map(|at| at.to_string()),
        ":from_log": from.map(|from| from.log.id.to_string()),
        ":from_epoch": from.map(|from| from.log.epoch.to_u64().cast_signed()),
        ":from_position": from.map(|from| from.position.get()),
        ":from_event": from.and_then(event_text),
    })?;
    Ok(changed == 1)
}

/// Notes that a projection made these objects and has applied no events yet.
pub(crate) fn begin(
    connection: &Connection,
    name: &str,
    version: u32,
    made: &[Object],
) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM diptych_schema WHERE projection = ?1", [name])?;
    for Object { kind, name: object, sql } in made {
        let values = (name, kind, object, sql);
        connection.execute("INSERT INTO diptych_schema VALUES (?1, ?2, ?3, ?4)", values)?;
    }
    connection.execute(
        "INSERT OR REPLACE INTO diptych_checkpoint (name, version, updated_at)
         VALUES (?1, ?2, ?3)",
        (name, version, Timestamp::now().to_string()),
    )?;
    Ok(())
}

/// The objects that this projection made when it began, in order of creation.
pub(crate) fn made_by(connection: &Connection, name: &str) -> rusqlite::Result<Vec<Object>> {
    let mut find = connection.prepare(
        "SELECT type, name, sql FROM diptych_schema WHERE projection = ?1 ORDER BY rowid",
    )?;
    find.query_map([name], object)?.collect()
}

/// All objects in the database, without SQLite's internal ones.
pub(crate) fn present(connection: &Connection) -> rusqlite::Result<Vec<Object>> {
    let mut find = connection.prepare(
        "SELECT type, name, sql FROM sqlite_schema
         WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid",
    )?;
    find.query_map((), object)?.collect()
}

fn object(row: &Row<'_>) -> rusqlite::Result<Object> {
    Ok(Object { kind: row.get(0)?, name: row.get(1)?, sql: row.get(2)? })
}

pub(crate) fn names(objects: &[Object]) -> Arc<HashSet<String>> {
    Arc::new(objects.iter().map(|object| object.name.clone()).collect())
}

/// SQLite's counter of schema changes.
pub(crate) fn schema_count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA schema_version")?.query_row((), |row| row.get(0))
}

/// Finds a table among `made` with a foreign key to a table that is not among them. Returns both
/// names.
pub(crate) fn foreign_reference(
    connection: &Connection,
    made: &[Object],
) -> rusqlite::Result<Option<(String, String)>> {
    let is_own = |name: &str| made.iter().any(|object| object.name.eq_ignore_ascii_case(name));
    for table in made.iter().filter(|object| object.kind == "table") {
        let referred = references(connection, &table.name)?;
        if let Some(foreign) = referred.into_iter().find(|name| !is_own(name)) {
            return Ok(Some((table.name.clone(), foreign)));
        }
    }
    Ok(None)
}

/// The tables that the foreign keys of this one refer to.
fn references(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut find =
        connection.prepare_cached("SELECT \"table\" FROM pragma_foreign_key_list(?1)")?;
    find.query_map([table], |row| row.get(0))?.collect()
}

/// Whether a key of these tables, or one that refers to them, is checked only at a commit.
pub(crate) fn has_deferred_keys(
    connection: &Connection,
    made: &[Object],
    present: &[Object],
) -> rusqlite::Result<bool> {
    // A table without the word has no deferred key. A table that has the word elsewhere is only
    // checked needlessly.
    let has_the_word = |table: &&Object| {
        table.kind == "table" && table.sql.to_ascii_lowercase().contains("deferred")
    };
    for table in present.iter().filter(has_the_word) {
        let is_own = |name: &str| made.iter().any(|own| own.name.eq_ignore_ascii_case(name));
        let referred = references(connection, &table.name)?;
        if referred.iter().any(|name| is_own(name) || is_own(&table.name)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Finds a trigger or unique index on a table among `made` that is not itself among them.
pub(crate) fn foreign_rule(
    connection: &Connection,
    made: &[Object],
) -> rusqlite::Result<Option<(Object, String)>> {
    let mut find = connection.prepare(
        "SELECT type, name, sql, tbl_name FROM sqlite_schema
         WHERE type = 'trigger' OR type = 'index' AND sql LIKE 'CREATE UNIQUE%'",
    )?;
    let mut rows = find.query(())?;
    while let Some(row) = rows.next()? {
        let (rule, table) = (object(row)?, row.get::<_, String>(3)?);
        let is_own = |name: &str| made.iter().any(|own| own.name == name);
        if is_own(&table) && !is_own(&rule.name) {
            return Ok(Some((rule, table)));
        }
    }
    Ok(None)
}

/// Removes these objects, last made first. Skips objects that are already gone.
pub(crate) fn remove(connection: &Connection, objects: &[Object]) -> rusqlite::Result<()> {
    // Lets tables that refer to each other go in any order.
    connection.pragma_update(None, "defer_foreign_keys", true)?;
    let is_virtual = |object: &&Object| object.sql.starts_with("CREATE VIRTUAL");
    // Dropping a virtual table also drops its own tables, which must not be removed before it.
    let (first, rest): (Vec<_>, Vec<_>) = objects.iter().rev().partition(is_virtual);
    for Object { kind, name, .. } in first.into_iter().chain(rest) {
        let name = name.replace('"', "\"\"");
        connection.execute_batch(&format!("DROP {kind} IF EXISTS \"{name}\""))?;
    }
    Ok(())
}
