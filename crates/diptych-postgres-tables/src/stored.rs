//! Tables of this crate in a schema, beside those of its projections. They are those of
//! `diptych-sqlite`, and for readers, too.

use diptych::{
    Position, Timestamp, Uuid,
    projection::{
        Checkpoint, PoisonRecord, PoisonRow, ReaderName, SchemaObject, StoredCheckpoint,
        StoredVersion, VersionSlot, VersionState,
    },
    store::{Epoch, EventChecksum, LogId, LogIdentity},
};
use tokio_postgres::Row;

use crate::{
    link::{Link, quoted},
    trouble::Answer,
};

const TABLES: &str = "
    create table if not exists diptych_checkpoint (
        name text primary key,
        version bigint not null,
        log uuid,
        epoch bigint,
        position bigint,
        recorded_at timestamptz,
        updated_at timestamptz not null,
        event text
    );
    create table if not exists diptych_schema (
        projection text not null,
        type text not null,
        name text not null,
        sql text not null,
        made bigint generated always as identity,
        primary key (type, name)
    );
    create table if not exists diptych_version (
        projection text not null,
        version bigint not null,
        state text not null,
        position bigint not null,
        difference text not null,
        primary key (projection, version)
    );
    create table if not exists diptych_reader (
        projection text not null,
        version bigint not null,
        name text not null,
        object text not null,
        primary key (projection, version, name)
    );
    create table if not exists diptych_poisoned (
        projection text not null,
        key text not null,
        position bigint not null,
        failed bigint not null,
        reason text not null,
        held bigint not null,
        primary key (projection, key)
    );
    create table if not exists diptych_skipped (
        projection text primary key,
        events text not null
    );";

/// Makes the schema and the tables that are missing.
pub(crate) fn create_tables(link: &mut Link, schema: &str) -> Answer<()> {
    // Two programs that begin at once would both make them.
    link.query("select pg_advisory_xact_lock(hashtextextended('diptych tables', 0))", &[])?;
    let known = "select exists (select 1 from pg_namespace where nspname = $1::text),
        6 = (select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = $1::text and c.relkind = 'r' and c.relname in ('diptych_checkpoint',
                'diptych_schema', 'diptych_version', 'diptych_reader', 'diptych_poisoned',
                'diptych_skipped'))";
    let (has_schema, has_tables) = match link.first(known, &[&schema])? {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => (false, false),
    };
    if !has_schema {
        link.execute_once(&format!("create schema {}", quoted(schema)))?;
    }
    match has_tables {
        true => Ok(()),
        false => link.batch(TABLES),
    }
}

/// The event of a checkpoint: its checksum.
fn event_text(checkpoint: Checkpoint) -> Option<String> {
    checkpoint.checksum.map(|checksum| checksum.to_string())
}

fn number(value: u64) -> i64 {
    value.cast_signed()
}

fn position(row: &Row, at: usize) -> Answer<Position> {
    Ok(Position::new(row.try_get::<_, i64>(at)?.cast_unsigned()))
}

fn version(row: &Row, at: usize) -> Answer<u32> {
    Ok(u32::try_from(row.try_get::<_, i64>(at)?).unwrap_or(u32::MAX))
}

pub(crate) fn checkpoint(link: &mut Link, name: &str) -> Answer<Option<StoredCheckpoint>> {
    let sql = "select version, log, epoch, position, event from diptych_checkpoint
        where name = $1";
    link.first(sql, &[&name])?.map(|row| stored(&row)).transpose()
}

fn stored(row: &Row) -> Answer<StoredCheckpoint> {
    let version = version(row, 0)?;
    let Some(log) = row.try_get::<_, Option<Uuid>>(1)? else {
        return Ok(StoredCheckpoint { version, checkpoint: None });
    };
    let epoch = Epoch::from_u64(row.try_get::<_, i64>(2)?.cast_unsigned());
    let log = LogIdentity { id: LogId::from_bytes(log.into_bytes()), epoch };
    let event = row.try_get::<_, Option<String>>(4)?;
    let checksum = event.and_then(|event| u64::from_str_radix(&event, 16).ok());
    let checkpoint = Checkpoint {
        log,
        position: position(row, 3)?,
        checksum: checksum.map(EventChecksum::from_u64),
    };
    Ok(StoredCheckpoint { version, checkpoint: Some(checkpoint) })
}

const MOVE: &str = "
    update diptych_checkpoint
    set log = $3, epoch = $4, position = $5, event = $6, updated_at = clock_timestamp(),
        recorded_at = coalesce($7::text::timestamptz, recorded_at)
    where name = $1 and version = $2 and log is not distinct from $8
        and epoch is not distinct from $9 and position is not distinct from $10
        and ($11::text is null or event is not distinct from $11)";

/// Moves the checkpoint if it and the version are exactly these. Returns whether it moved.
pub(crate) fn move_checkpoint(
    link: &mut Link,
    (name, version): (&str, u32),
    from: Option<Checkpoint>,
    to: Checkpoint,
    recorded_at: Option<Timestamp>,
) -> Answer<bool> {
    let log = |it: Checkpoint| Uuid::from_bytes(it.log.id.to_bytes());
    let epoch = |it: Checkpoint| number(it.log.epoch.to_u64());
    let changed = link.execute(
        MOVE,
        &[
            &name,
            &i64::from(version),
            &log(to),
            &epoch(to),
            &number(to.position.get()),
            &event_text(to),
            &recorded_at.map(|at| at.to_string()),
            &from.map(log),
            &from.map(epoch),
            &from.map(|it| number(it.position.get())),
            &from.and_then(event_text),
        ],
    )?;
    Ok(changed == 1)
}

/// As [`MOVE`], for a checkpoint in whatever epoch.
const MOVE_INLINE: &str = "
    set log = $3, epoch = $4, position = $5, event = $6, updated_at = clock_timestamp(),
        recorded_at = coalesce($7::text::timestamptz, recorded_at)
    where name = $1 and version = $2 and coalesce(log = $3, $8::bigint = 0)
        and coalesce(position, 0) = $8";

/// Makes these settings, and moves the checkpoint of rows that are beside their log, if it is at
/// this position. Both have the history of one database, so the epoch makes no difference. Returns
/// whether it moved.
pub(crate) fn move_inline(
    link: &mut Link,
    settings: &str,
    (schema, name, version): (&str, &str, u32),
    from: Position,
    to: Checkpoint,
    recorded_at: Option<Timestamp>,
) -> Answer<bool> {
    let sql = format!("update {}.diptych_checkpoint {MOVE_INLINE}", quoted(schema));
    let changed = link.execute_after(
        settings,
        &sql,
        &[
            &name,
            &i64::from(version),
            &Uuid::from_bytes(to.log.id.to_bytes()),
            &number(to.log.epoch.to_u64()),
            &number(to.position.get()),
            &event_text(to),
            &recorded_at.map(|at| at.to_string()),
            &number(from.get()),
        ],
    )?;
    Ok(changed == 1)
}

/// Notes that a projection made these objects and has applied no events yet.
pub(crate) fn begin(
    link: &mut Link,
    name: &str,
    version: u32,
    made: &[SchemaObject],
) -> Answer<()> {
    link.execute("delete from diptych_schema where projection = $1", &[&name])?;
    link.execute("delete from diptych_poisoned where projection = $1", &[&name])?;
    for SchemaObject { kind, name: object, sql } in made {
        let note = "insert into diptych_schema (projection, type, name, sql)
            values ($1, $2, $3, $4)";
        link.execute(note, &[&name, kind, object, sql])?;
    }
    let row = "insert into diptych_checkpoint (name, version, updated_at)
        values ($1, $2, clock_timestamp()) on conflict (name) do update set version = $2,
        log = null, epoch = null, position = null, recorded_at = null, event = null,
        updated_at = excluded.updated_at";
    link.execute(row, &[&name, &i64::from(version)])?;
    Ok(())
}

/// The objects that this projection made when it began, in order of creation.
pub(crate) fn made_by(link: &mut Link, name: &str) -> Answer<Vec<SchemaObject>> {
    let sql = "select type, name, sql from diptych_schema where projection = $1 order by made";
    let objects = link.query(sql, &[&name])?.into_iter().map(|row| {
        Ok(SchemaObject { kind: row.try_get(0)?, name: row.try_get(1)?, sql: row.try_get(2)? })
    });
    objects.collect()
}

/// The name under which the row and the objects of a version are stored.
pub(crate) fn row_name(projection: &str, slot: VersionSlot) -> String {
    match slot {
        VersionSlot::Served => projection.to_owned(),
        VersionSlot::Beside(version) => format!("{projection}@v{version}"),
    }
}

/// The rows of all versions, the served one first.
pub(crate) fn versions(link: &mut Link, projection: &str) -> Answer<Vec<StoredVersion>> {
    let sql = "select c.version, c.log, c.epoch, c.position, c.event, c.name, v.state, v.position,
            v.difference
        from diptych_checkpoint c
        left join diptych_version v on v.projection = $1 and v.version = c.version
        where c.name = $1 or c.name = $1 || '@v' || c.version order by c.name <> $1, c.version";
    let rows = link.query(sql, &[&projection])?;
    let rows = rows.iter().map(|row| {
        let found = stored(row)?;
        if row.try_get::<_, String>(5)? == projection {
            let (slot, state) = (VersionSlot::Served, VersionState::Served);
            return Ok(StoredVersion { slot, row: found, state });
        }
        let slot = VersionSlot::Beside(found.version);
        Ok(StoredVersion { slot, row: found, state: state(row)? })
    });
    rows.collect()
}

fn state(row: &Row) -> Answer<VersionState> {
    let Some(word) = row.try_get::<_, Option<String>>(6)? else {
        return Ok(VersionState::Building);
    };
    let at = position(row, 7)?;
    Ok(match word.as_str() {
        "equal" => VersionState::Equal { at },
        "different" => VersionState::Different { at, difference: row.try_get(8)? },
        "building" => VersionState::Building,
        _ => VersionState::Kept,
    })
}

pub(crate) fn set_state(
    link: &mut Link,
    projection: &str,
    version: u32,
    state: &VersionState,
) -> Answer<()> {
    let (word, at, difference) = match state {
        VersionState::Equal { at } => ("equal", *at, ""),
        VersionState::Different { at, difference } => ("different", *at, difference.as_str()),
        VersionState::Building => ("building", Position::START, ""),
        _ => ("kept", Position::START, ""),
    };
    let sql = "insert into diptych_version values ($1, $2, $3, $4, $5)
        on conflict (projection, version) do update
        set state = excluded.state, position = excluded.position,
            difference = excluded.difference";
    let (version, at) = (i64::from(version), number(at.get()));
    link.execute(sql, &[&projection, &version, &word, &at, &difference])?;
    Ok(())
}

/// Moves the row, the list of objects and the poisoned keys to another name.
pub(crate) fn rename(link: &mut Link, from: &str, to: &str) -> Answer<()> {
    for sql in [
        "update diptych_checkpoint set name = $2 where name = $1",
        "update diptych_schema set projection = $2 where projection = $1",
        "update diptych_poisoned set projection = $2 where projection = $1",
        "update diptych_skipped set projection = $2 where projection = $1",
    ] {
        link.execute(sql, &[&from, &to])?;
    }
    Ok(())
}

/// Removes all that is stored about a version beside the served one.
pub(crate) fn forget(link: &mut Link, projection: &str, version: u32) -> Answer<()> {
    let row = row_name(projection, VersionSlot::Beside(version));
    for sql in [
        "delete from diptych_checkpoint where name = $1",
        "delete from diptych_schema where projection = $1",
        "delete from diptych_poisoned where projection = $1",
        "delete from diptych_skipped where projection = $1",
    ] {
        link.execute(sql, &[&row])?;
    }
    for sql in [
        "delete from diptych_version where projection = $1 and version = $2",
        "delete from diptych_reader where projection = $1 and version = $2",
    ] {
        link.execute(sql, &[&projection, &i64::from(version)])?;
    }
    Ok(())
}

/// The names for readers of this version.
pub(crate) fn readers(link: &mut Link, projection: &str, version: u32) -> Answer<Vec<ReaderName>> {
    let sql = "select name, object from diptych_reader
        where projection = $1 and version = $2 order by name collate \"C\"";
    let rows = link.query(sql, &[&projection, &i64::from(version)])?;
    let names =
        rows.iter().map(|row| Ok(ReaderName { name: row.try_get(0)?, object: row.try_get(1)? }));
    names.collect()
}

pub(crate) fn set_readers(
    link: &mut Link,
    projection: &str,
    version: u32,
    readers: &[ReaderName],
) -> Answer<()> {
    let version = i64::from(version);
    let old = "delete from diptych_reader where projection = $1 and version = $2";
    link.execute(old, &[&projection, &version])?;
    for ReaderName { name, object } in readers {
        let sql = "insert into diptych_reader values ($1, $2, $3, $4)";
        link.execute(sql, &[&projection, &version, name, object])?;
    }
    Ok(())
}

/// The poisoned keys of the version with this row, and its skipped events.
pub(crate) fn poison(link: &mut Link, row: &str) -> Answer<PoisonRecord> {
    let sql = "select key, position, failed, reason, held from diptych_poisoned
        where projection = $1 order by key collate \"C\"";
    let keys = link.query(sql, &[&row])?.into_iter().map(|row| {
        Ok(PoisonRow {
            key: row.try_get(0)?,
            at: position(&row, 1)?,
            failed: position(&row, 2)?,
            reason: row.try_get(3)?,
            held: row.try_get::<_, i64>(4)?.cast_unsigned(),
        })
    });
    let keys = keys.collect::<Answer<_>>()?;
    let skipped =
        link.first("select events from diptych_skipped where projection = $1", &[&row])?;
    let skipped: String = skipped.map_or(Ok(String::new()), |row| row.try_get(0))?;
    Ok(PoisonRecord { keys, skipped: skipped.into_bytes() })
}

pub(crate) fn set_poison(link: &mut Link, row: &str, record: &PoisonRecord) -> Answer<()> {
    link.execute("delete from diptych_poisoned where projection = $1", &[&row])?;
    for PoisonRow { key, at, failed, reason, held } in &record.keys {
        let sql = "insert into diptych_poisoned values ($1, $2, $3, $4, $5, $6)";
        // Text of the server has no zero bytes.
        let reason = reason.replace('\0', "\u{fffd}");
        let (at, failed) = (number(at.get()), number(failed.get()));
        link.execute(sql, &[&row, key, &at, &failed, &reason, &number(*held)])?;
    }
    let events = String::from_utf8_lossy(&record.skipped);
    let sql = "insert into diptych_skipped values ($1, $2)
        on conflict (projection) do update set events = excluded.events";
    link.execute(sql, &[&row, &events])?;
    Ok(())
}
