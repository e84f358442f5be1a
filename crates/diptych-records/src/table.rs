//! The rows of a record as a table in SQLite.

use std::{fmt::Write, marker::PhantomData};

use diptych::Recorded;
use diptych_sqlite::{
    Projection, Transaction,
    rusqlite::{OptionalExtension, params_from_iter, types::Value as SqlValue},
};
use serde_json::Value;

use crate::{
    fact::RecordEvent,
    record::Record,
    row_json::{self, Fields},
};

/// The rows of a record as a table in SQLite, which any program reads.
///
/// ```
/// # use diptych::{App, Memory};
/// # use diptych_records::{Record, RecordTable, WithRecords};
/// use diptych_sqlite::Sqlite;
///
/// # async fn start<Customer: Record>() -> Result<(), Box<dyn std::error::Error>> {
/// let table = Sqlite::at("shop.db").projection(RecordTable::<Customer>::new());
/// let app = App::over(Memory::new()).records::<Customer>().projection(table).start().await?;
/// # Ok(()) }
/// ```
///
/// The table has the name of the record, with `_` in place of `-`, and a column for each field. The
/// key is the primary key, and each indexed field has an index. A truth value is 0 or 1, and a list
/// or an object is its JSON. Two more columns have the revision (`_revision`) and the whole row as
/// JSON (`_row`).
///
/// A row whose event cannot be applied is [poisoned](Projection::key) by its own key, and the
/// others go on.
#[derive(Debug)]
pub struct RecordTable<R> {
    table: String,
    version: u32,
    of: PhantomData<fn() -> R>,
}

impl<R: Record> RecordTable<R> {
    /// The table of this record.
    pub fn new() -> RecordTable<R> {
        RecordTable { table: R::NAME.replace('-', "_"), version: 1, of: PhantomData }
    }

    /// The version of the table, 1 at first. Raise it when the record gets or loses a field or an
    /// index: the table is then made anew from the log.
    #[must_use]
    pub fn version(mut self, version: u32) -> RecordTable<R> {
        self.version = version;
        self
    }

    fn column_list() -> String {
        let fields = R::FIELDS.iter().map(|field| quoted(field.name));
        let all: Vec<_> = fields.chain(["_revision".to_owned(), "_row".to_owned()]).collect();
        all.join(", ")
    }
}

impl<R: Record> Default for RecordTable<R> {
    fn default() -> RecordTable<R> {
        RecordTable::new()
    }
}

impl<R: Record> Projection for RecordTable<R> {
    type Event = RecordEvent<R>;

    fn name(&self) -> &str {
        &self.table
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn key(&self) -> Option<&str> {
        Some(R::NAME)
    }

    fn create(&self, tx: &Transaction<'_>) -> diptych_sqlite::Result {
        let table = quoted(&self.table);
        let mut sql = format!("CREATE TABLE {table} (");
        for field in R::FIELDS {
            let key = if field.name == R::KEY_FIELD { " PRIMARY KEY NOT NULL" } else { "" };
            write!(sql, "{}{key}, ", quoted(field.name))?;
        }
        sql.push_str("_revision INTEGER NOT NULL, _row TEXT NOT NULL);");
        for field in R::FIELDS.iter().filter(|field| field.is_indexed) {
            let index = quoted(&format!("{}_by_{}", self.table, field.name));
            write!(sql, "CREATE INDEX {index} ON {table} ({});", quoted(field.name))?;
        }
        tx.execute_batch(&sql)?;
        Ok(())
    }

    fn apply(
        &self,
        tx: &Transaction<'_>,
        event: &Recorded<RecordEvent<R>>,
    ) -> diptych_sqlite::Result {
        let (table, key_column) = (quoted(&self.table), quoted(R::KEY_FIELD));
        let key = sql_value(&serde_json::to_value(event.event.key())?);
        let select = format!("SELECT _row FROM {table} WHERE {key_column} = ?1");
        let mut select = tx.prepare_cached(&select)?;
        let json: Option<String> = select.query_row([&key], |row| row.get(0)).optional()?;
        let before: Option<R> = json.as_deref().map(serde_json::from_str).transpose()?;
        let Some(after) = event.event.after(before) else {
            let delete = format!("DELETE FROM {table} WHERE {key_column} = ?1");
            tx.prepare_cached(&delete)?.execute([&key])?;
            return Ok(());
        };
        let fields: Fields = row_json::fields(&after)?;
        let mut values: Vec<SqlValue> = Vec::with_capacity(R::FIELDS.len() + 2);
        for field in R::FIELDS {
            values.push(fields.get(field.name).map_or(SqlValue::Null, sql_value));
        }
        values.push(SqlValue::Integer(event.position.get().try_into()?));
        values.push(SqlValue::Text(serde_json::to_string(&after)?));
        let places: Vec<_> = (1..=values.len()).map(|number| format!("?{number}")).collect();
        let insert = format!(
            "INSERT OR REPLACE INTO {table} ({}) VALUES ({})",
            Self::column_list(),
            places.join(", ")
        );
        tx.prepare_cached(&insert)?.execute(params_from_iter(values))?;
        Ok(())
    }
}

/// The name as an identifier of SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn sql_value(value: &Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::Bool(value) => SqlValue::Integer((*value).into()),
        Value::String(text) => SqlValue::Text(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(whole), _, _) => SqlValue::Integer(whole),
            // SQLite has no whole numbers of this size, and a float would be another number.
            (None, Some(large), _) => SqlValue::Text(large.to_string()),
            (None, None, Some(float)) => SqlValue::Real(float),
            (None, None, None) => SqlValue::Text(number.to_string()),
        },
        other => SqlValue::Text(other.to_string()),
    }
}
