//! The schema of a database as SQLite describes it.

use diptych::projection::{ReaderName, SchemaObject};
use rusqlite::{Connection, Row};

/// All objects in the database, without SQLite's internal ones.
pub(crate) fn present(connection: &Connection) -> rusqlite::Result<Vec<SchemaObject>> {
    let mut find = connection.prepare(
        "SELECT type, name, sql FROM sqlite_schema
         WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid",
    )?;
    find.query_map((), object)?.collect()
}

/// The view by which readers find an object under a name that all versions share. SQLite keeps its
/// text as it is here.
pub(crate) fn reader_view(reader: &ReaderName) -> SchemaObject {
    let [name, object] = [&reader.name, &reader.object].map(|name| name.replace('"', "\"\""));
    let sql = format!("CREATE VIEW \"{name}\" AS SELECT * FROM \"{object}\"");
    SchemaObject { kind: "view".to_owned(), name: reader.name.clone(), sql }
}

pub(crate) fn object(row: &Row<'_>) -> rusqlite::Result<SchemaObject> {
    Ok(SchemaObject { kind: row.get(0)?, name: row.get(1)?, sql: row.get(2)? })
}

/// SQLite's counter of schema changes.
pub(crate) fn schema_count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA schema_version")?.query_row((), |row| row.get(0))
}

/// Finds a table among `made` with a foreign key to a table that is not among them. Returns both
/// names.
pub(crate) fn foreign_reference(
    connection: &Connection,
    made: &[SchemaObject],
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

/// Whether a foreign key of the tables among `made`, or one that refers to them, is checked only at
/// the commit.
pub(crate) fn has_deferred_keys(
    connection: &Connection,
    made: &[SchemaObject],
    present: &[SchemaObject],
) -> rusqlite::Result<bool> {
    // A table whose SQL lacks the word has no deferred key. If the word stands elsewhere in the
    // SQL, the result can be a needless `true`, which only costs time.
    let has_the_word = |table: &&SchemaObject| {
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

/// Finds a trigger or unique index that is not among `made`, on a table that is.
pub(crate) fn foreign_rule(
    connection: &Connection,
    made: &[SchemaObject],
) -> rusqlite::Result<Option<(SchemaObject, String)>> {
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
pub(crate) fn remove(connection: &Connection, objects: &[SchemaObject]) -> rusqlite::Result<()> {
    // So tables that refer to each other can be dropped in any order.
    connection.pragma_update(None, "defer_foreign_keys", true)?;
    let is_virtual = |object: &&SchemaObject| object.sql.starts_with("CREATE VIRTUAL");
    // Dropping a virtual table also drops its own tables, which must not be removed before it.
    let (first, rest): (Vec<_>, Vec<_>) = objects.iter().rev().partition(is_virtual);
    for SchemaObject { kind, name, .. } in first.into_iter().chain(rest) {
        let name = name.replace('"', "\"\"");
        connection.execute_batch(&format!("DROP {kind} IF EXISTS \"{name}\""))?;
    }
    Ok(())
}
