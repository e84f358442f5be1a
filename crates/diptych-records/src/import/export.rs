//! Plain tables from rows of a record, or from those of any view.

use std::{fmt::Write as _, fs, path::Path};

use diptych::Query;
use rusqlite::{Connection, params_from_iter, types::Value as SqlValue};
use serde::Serialize;
use serde_json::Value;

use super::{error::ImportError, sqlite_table::quoted};
use crate::{record::Record, records::Records, row_json::Fields, view::RecordView};

/// A plain table: its columns with their types, and its rows.
///
/// A truth value is 0 or 1, and a list or an object is its JSON. A whole number above those of
/// SQLite is a text.
#[derive(Clone, Debug)]
pub struct Export {
    table: String,
    key: Option<String>,
    columns: Vec<(String, ColumnType)>,
    rows: Vec<Fields>,
    nulls: String,
}

/// The type of a column, from its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnType {
    /// No row has a value.
    Unknown,
    Boolean,
    Integer,
    Real,
    Text,
    /// Values of several types.
    Mixed,
}

impl ColumnType {
    fn of(value: &Value) -> ColumnType {
        match sql_value(value) {
            SqlValue::Null => ColumnType::Unknown,
            SqlValue::Integer(_) if value.is_boolean() => ColumnType::Boolean,
            SqlValue::Integer(_) => ColumnType::Integer,
            SqlValue::Real(_) => ColumnType::Real,
            SqlValue::Text(_) | SqlValue::Blob(_) => ColumnType::Text,
        }
    }

    fn with(self, other: ColumnType) -> ColumnType {
        match (self, other) {
            (one, two) if one == two => one,
            (ColumnType::Unknown, of) | (of, ColumnType::Unknown) => of,
            _ => ColumnType::Mixed,
        }
    }

    /// A column with values of several types has no declared type, so that SQLite leaves each as
    /// it is.
    fn declaration(self) -> &'static str {
        match self {
            ColumnType::Boolean => " BOOLEAN",
            ColumnType::Integer => " INTEGER",
            ColumnType::Real => " REAL",
            ColumnType::Text => " TEXT",
            ColumnType::Unknown | ColumnType::Mixed => "",
        }
    }
}

impl Export {
    /// A table with these rows, each of which is an object in JSON, such as a struct. Its columns
    /// are the fields in the order in which they come.
    ///
    /// # Errors
    /// [`ImportError::Export`] if a row is no object.
    pub fn of<T: Serialize>(
        table: impl Into<String>,
        rows: impl IntoIterator<Item = T>,
    ) -> Result<Export, ImportError> {
        let mut all = Vec::new();
        for row in rows {
            let problem = match serde_json::to_value(row) {
                Ok(Value::Object(fields)) => {
                    all.push(fields);
                    continue;
                }
                Ok(other) => format!("it is {other} in JSON"),
                Err(error) => error.to_string(),
            };
            return Err(ImportError::Export { problem });
        }
        Ok(Export::with_columns(table.into(), Vec::new(), all))
    }

    pub(super) fn with_columns(table: String, names: Vec<String>, rows: Vec<Fields>) -> Export {
        let mut columns: Vec<_> =
            names.into_iter().map(|name| (name, ColumnType::Unknown)).collect();
        for (name, value) in rows.iter().flatten() {
            let of = ColumnType::of(value);
            match columns.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = known.with(of),
                None => columns.push((name.clone(), of)),
            }
        }
        Export { table, key: None, columns, rows, nulls: String::new() }
    }

    /// The name of the table, in place of its own.
    #[must_use]
    pub fn named(mut self, table: impl Into<String>) -> Export {
        self.table = table.into();
        self
    }

    /// The name of the table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The column with the primary key.
    #[must_use]
    pub fn key(mut self, column: impl Into<String>) -> Export {
        self.key = Some(column.into());
        self
    }

    /// The text of a cell without a value in CSV, such as `\N`; empty by default.
    #[must_use]
    pub fn nulls(mut self, text: impl Into<String>) -> Export {
        self.nulls = text.into();
        self
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The statement of SQL that creates the table.
    pub fn ddl(&self) -> String {
        let mut sql = format!("CREATE TABLE {} (", quoted(&self.table));
        for (at, (name, of)) in self.columns.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let key = match &self.key {
                Some(key) if key == name => " PRIMARY KEY NOT NULL",
                _ => "",
            };
            // A write into a `String` does not fail.
            let _ = write!(sql, "{comma}\n  {}{}{key}", quoted(name), of.declaration());
        }
        sql.push_str("\n);\n");
        sql
    }

    /// Writes the table into a new CSV file, and its statement of SQL into one beside it: `.sql`.
    /// A file that exists is left as it is.
    ///
    /// # Errors
    /// [`ImportError`] if a file cannot be written, or the cells do not tell no value from a text.
    pub fn to_csv(&self, path: impl AsRef<Path>) -> Result<(), ImportError> {
        let path = path.as_ref();
        self.check_nulls()?;
        let fault = |error| ImportError::file(path, error);
        let file = fs::File::create_new(path).map_err(fault)?;
        let mut writer = csv::Writer::from_writer(file);
        let as_io = |error: csv::Error| match error.into_kind() {
            csv::ErrorKind::Io(error) => fault(error),
            other => fault(std::io::Error::other(format!("{other:?}"))),
        };
        writer.write_record(self.columns.iter().map(|(name, _)| name)).map_err(as_io)?;
        for row in &self.rows {
            let cells = self.columns.iter().map(|(name, _)| {
                let text = row.get(name).and_then(text);
                text.unwrap_or_else(|| self.nulls.clone())
            });
            writer.write_record(cells).map_err(as_io)?;
        }
        writer.flush().map_err(fault)?;
        let ddl = path.with_extension("sql");
        let write = fs::File::create_new(&ddl)
            .and_then(|mut file| std::io::Write::write_all(&mut file, self.ddl().as_bytes()));
        write.map_err(|error| ImportError::file(&ddl, error))
    }

    /// # Errors
    /// [`ImportError::Nulls`] if a column has both no value and the text for it.
    fn check_nulls(&self) -> Result<(), ImportError> {
        for (column, _) in &self.columns {
            let (mut has_null, mut has_text) = (false, false);
            for row in &self.rows {
                match row.get(column).and_then(text) {
                    None => has_null = true,
                    Some(text) => has_text |= text == self.nulls,
                }
            }
            if has_null && has_text {
                return Err(ImportError::Nulls { column: column.clone() });
            }
        }
        Ok(())
    }

    /// Writes the table into a file of SQLite, which is made if there is none. A table of the same
    /// name is left as it is, and is an error.
    ///
    /// # Errors
    /// [`ImportError::Sqlite`] if the table cannot be written; the file is as it was then.
    pub fn to_sqlite(&self, path: impl AsRef<Path>) -> Result<(), ImportError> {
        let path = path.as_ref();
        let write = || -> rusqlite::Result<()> {
            let mut connection = Connection::open(path)?;
            let transaction = connection.transaction()?;
            transaction.execute_batch(&self.ddl())?;
            let names: Vec<_> = self.columns.iter().map(|(name, _)| quoted(name)).collect();
            let places: Vec<_> = (1..=names.len()).map(|number| format!("?{number}")).collect();
            let (names, places) = (names.join(", "), places.join(", "));
            let table = quoted(&self.table);
            let insert = format!("INSERT INTO {table} ({names}) VALUES ({places})");
            let mut insert = transaction.prepare(&insert)?;
            for row in &self.rows {
                let value = |name: &String| row.get(name).map_or(SqlValue::Null, sql_value);
                let values = self.columns.iter().map(|(name, _)| value(name));
                insert.execute(params_from_iter(values))?;
            }
            drop(insert);
            transaction.commit()
        };
        let at = path.display().to_string();
        write().map_err(|source| ImportError::Sqlite {
            path: at,
            table: self.table.clone(),
            source: source.into(),
        })
    }
}

impl<R: Record> Records<R> {
    /// All rows as a plain table, with the name of the record (`_` in place of `-`) and its fields
    /// in their order.
    ///
    /// # Errors
    /// [`ImportError`] if the view stands still.
    pub async fn export(&self) -> Result<Export, ImportError> {
        let rows = self.app().query(AllRows::<R>(std::marker::PhantomData)).strong().await?.value;
        let names = R::FIELDS.iter().map(|field| field.name.to_owned()).collect();
        let table = R::NAME.replace('-', "_");
        Ok(Export::with_columns(table, names, rows).key(R::KEY_FIELD))
    }
}

/// All rows, in order of their keys.
struct AllRows<R>(std::marker::PhantomData<fn() -> R>);

impl<R: Record> Query for AllRows<R> {
    type View = RecordView<R>;
    type Answer = Vec<Fields>;

    fn answer(&self, view: &RecordView<R>) -> Vec<Fields> {
        let rows = view.iter().map(|entry| crate::row_json::fields(&entry.row));
        rows.map(Result::unwrap_or_default).collect()
    }
}

fn sql_value(value: &Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::Bool(value) => SqlValue::Integer((*value).into()),
        Value::String(text) => SqlValue::Text(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(whole), _, _) => SqlValue::Integer(whole),
            // SQLite has no whole numbers of this size, and a float would be another number.
            (None, None, Some(float)) => SqlValue::Real(float),
            _ => SqlValue::Text(number.to_string()),
        },
        other => SqlValue::Text(other.to_string()),
    }
}

/// The cell of CSV with this value, if there is a value.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
