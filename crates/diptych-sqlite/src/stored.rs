//! Tables of this crate in a database, beside those of its projections.
//!
//! `diptych_checkpoint` is also for readers, so it uses text that any tool shows. `diptych_schema`
//! lists the objects that each projection made, as SQLite describes them. A rebuild removes these.
//! A version beside the served one has a row and a list under a name of its own, `NAME@vVERSION`.
//! `diptych_version` and `diptych_reader` have the states of these, and the names for readers.
//! `diptych_file` is for [`bond`].

use diptych::{
    Position, Timestamp, Uuid,
    projection::{
        Checkpoint, ReaderName, SchemaObject, StoredCheckpoint, StoredVersion, VersionSlot,
        VersionState,
    },
    store::{Epoch, EventChecksum, LogId, LogIdentity},
};
use rusqlite::{Connection, OptionalExtension, Row, named_params, types::Type};

use crate::{bond, poison, schema::object};

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
    );
    CREATE TABLE IF NOT EXISTS diptych_version (
        projection TEXT NOT NULL,
        version INTEGER NOT NULL,
        state TEXT NOT NULL,
        position INTEGER NOT NULL,
        difference TEXT NOT NULL,
        PRIMARY KEY (projection, version)
    );
    CREATE TABLE IF NOT EXISTS diptych_reader (
        projection TEXT NOT NULL,
        version INTEGER NOT NULL,
        name TEXT NOT NULL,
        object TEXT NOT NULL,
        PRIMARY KEY (projection, version, name)
    );";

pub(crate) fn create_tables(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)?;
    connection.execute_batch(bond::TABLE)?;
    connection.execute_batch(poison::TABLES)?;
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

pub(crate) fn checkpoint(
    connection: &Connection,
    name: &str,
) -> rusqlite::Result<Option<StoredCheckpoint>> {
    let mut find = connection.prepare_cached(
        "SELECT version, log, epoch, position, event FROM diptych_checkpoint WHERE name = ?1",
    )?;
    find.query_row([name], stored).optional()
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredCheckpoint> {
    let version = row.get(0)?;
    let Some(log) = row.get::<_, Option<String>>(1)? else {
        return Ok(StoredCheckpoint { version, checkpoint: None });
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
    Ok(StoredCheckpoint { version, checkpoint })
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
    made: &[SchemaObject],
) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM diptych_schema WHERE projection = ?1", [name])?;
    poison::clear(connection, name)?;
    for SchemaObject { kind, name: object, sql } in made {
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
pub(crate) fn made_by(connection: &Connection, name: &str) -> rusqlite::Result<Vec<SchemaObject>> {
    let mut find = connection.prepare(
        "SELECT type, name, sql FROM diptych_schema WHERE projection = ?1 ORDER BY rowid",
    )?;
    find.query_map([name], object)?.collect()
}

/// The name under which the row and the objects of a version are stored.
pub(crate) fn row_name(projection: &str, slot: VersionSlot) -> String {
    match slot {
        VersionSlot::Served => projection.to_owned(),
        VersionSlot::Beside(version) => format!("{projection}@v{version}"),
    }
}

/// The rows of all versions, the served one first.
pub(crate) fn versions(
    connection: &Connection,
    projection: &str,
) -> rusqlite::Result<Vec<StoredVersion>> {
    let mut find = connection.prepare_cached(
        "SELECT version, log, epoch, position, event, name FROM diptych_checkpoint
         WHERE name = ?1 OR name = ?1 || '@v' || version ORDER BY name <> ?1, version",
    )?;
    let rows = find.query_map([projection], |row| Ok((stored(row)?, row.get::<_, String>(5)?)))?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let rows = rows.into_iter().map(|(row, name)| {
        let (slot, state) = match name == projection {
            true => (VersionSlot::Served, VersionState::Served),
            false => {
                let state = state(connection, projection, row.version)?;
                (VersionSlot::Beside(row.version), state)
            }
        };
        Ok(StoredVersion { slot, row, state })
    });
    rows.collect()
}

fn state(
    connection: &Connection,
    projection: &str,
    version: u32,
) -> rusqlite::Result<VersionState> {
    let mut find = connection.prepare_cached(
        "SELECT state, position, difference FROM diptych_version
         WHERE projection = ?1 AND version = ?2",
    )?;
    let state = find.query_row((projection, version), |row| {
        let (word, at) = (row.get::<_, String>(0)?, Position::new(row.get(1)?));
        Ok(match word.as_str() {
            "equal" => VersionState::Equal { at },
            "different" => VersionState::Different { at, difference: row.get(2)? },
            "building" => VersionState::Building,
            _ => VersionState::Kept,
        })
    });
    Ok(state.optional()?.unwrap_or(VersionState::Building))
}

pub(crate) fn set_state(
    connection: &Connection,
    projection: &str,
    version: u32,
    state: &VersionState,
) -> rusqlite::Result<()> {
    let (word, at, difference) = match state {
        VersionState::Equal { at } => ("equal", *at, ""),
        VersionState::Different { at, difference } => ("different", *at, difference.as_str()),
        VersionState::Building => ("building", Position::START, ""),
        _ => ("kept", Position::START, ""),
    };
    connection.execute(
        "INSERT OR REPLACE INTO diptych_version VALUES (?1, ?2, ?3, ?4, ?5)",
        (projection, version, word, at.get(), difference),
    )?;
    Ok(())
}

/// Moves the row and the list of objects to another name.
pub(crate) fn rename(connection: &Connection, from: &str, to: &str) -> rusqlite::Result<()> {
    connection.execute("UPDATE diptych_checkpoint SET name = ?2 WHERE name = ?1", [from, to])?;
    let objects = "UPDATE diptych_schema SET projection = ?2 WHERE projection = ?1";
    connection.execute(objects, [from, to])?;
    poison::rename(connection, from, to)
}

/// Removes all that is stored about a version beside the served one.
pub(crate) fn forget(
    connection: &Connection,
    projection: &str,
    version: u32,
) -> rusqlite::Result<()> {
    let row = row_name(projection, VersionSlot::Beside(version));
    connection.execute("DELETE FROM diptych_checkpoint WHERE name = ?1", [&row])?;
    connection.execute("DELETE FROM diptych_schema WHERE projection = ?1", [&row])?;
    for table in ["diptych_version", "diptych_reader"] {
        let sql = format!("DELETE FROM {table} WHERE projection = ?1 AND version = ?2");
        connection.execute(&sql, (projection, version))?;
    }
    poison::forget(connection, &row)
}

/// The names for readers of this version.
pub(crate) fn readers(
    connection: &Connection,
    projection: &str,
    version: u32,
) -> rusqlite::Result<Vec<ReaderName>> {
    let mut find = connection.prepare_cached(
        "SELECT name, object FROM diptych_reader
         WHERE projection = ?1 AND version = ?2 ORDER BY name",
    )?;
    let names = find.query_map((projection, version), |row| {
        Ok(ReaderName { name: row.get(0)?, object: row.get(1)? })
    })?;
    names.collect()
}

pub(crate) fn set_readers(
    connection: &Connection,
    projection: &str,
    version: u32,
    readers: &[ReaderName],
) -> rusqlite::Result<()> {
    let old = "DELETE FROM diptych_reader WHERE projection = ?1 AND version = ?2";
    connection.execute(old, (projection, version))?;
    for ReaderName { name, object } in readers {
        let values = (projection, version, name, object);
        connection.execute("INSERT INTO diptych_reader VALUES (?1, ?2, ?3, ?4)", values)?;
    }
    Ok(())
}
