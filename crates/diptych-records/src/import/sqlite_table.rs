//! Rows of a table in SQLite.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, types::ValueRef};

use super::{
    csv_file::names,
    error::ImportError,
    source::{Cell, RowSource},
};

/// A table or view in a file of SQLite. Each read sees one state, also while others write.
#[derive(Clone, Debug)]
pub struct SqliteTable {
    path: PathBuf,
    name: String,
    table: String,
    columns: Vec<String>,
}

impl SqliteTable {
    /// The table of this name in the file at this path, which is opened for reading only.
    ///
    /// # Errors
    /// [`ImportError`] if there is no such file or table.
    pub fn open(
        path: impl AsRef<Path>,
        table: impl Into<String>,
    ) -> Result<SqliteTable, ImportError> {
        let path = path.as_ref().to_owned();
        let (name, _) = names(&path);
        let mut table = SqliteTable { path, name, table: table.into(), columns: Vec::new() };
        let read = || {
            let connection = table.connection()?;
            let statement = connection.prepare(&table.select())?;
            Ok(statement.column_names().map(str::to_owned).collect())
        };
        table.columns = read().map_err(|error| table.fault(error))?;
        Ok(table)
    }

    /// The name of the other system, in place of that of the file.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> SqliteTable {
        self.name = name.into();
        self
    }

    fn connection(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(&self.path, flags)
    }

    fn select(&self) -> String {
        format!("SELECT * FROM {}", quoted(&self.table))
    }

    fn fault(&self, source: rusqlite::Error) -> ImportError {
        let path = self.path.display().to_string();
        ImportError::Sqlite { path, table: self.table.clone(), source: source.into() }
    }
}

/// The name as an identifier of SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl RowSource for SqliteTable {
    fn name(&self) -> &str {
        &self.name
    }

    fn table(&self) -> &str {
        &self.table
    }

    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn read(
        &mut self,
        row: &mut dyn FnMut(&[Cell]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let fault = |error| self.fault(error);
        let connection = self.connection().map_err(fault)?;
        let mut statement = connection.prepare(&self.select()).map_err(fault)?;
        let mut rows = statement.query([]).map_err(fault)?;
        let (mut cells, mut number) = (Vec::with_capacity(self.columns.len()), 0);
        while let Some(read) = rows.next().map_err(fault)? {
            number += 1;
            cells.clear();
            for (at, column) in self.columns.iter().enumerate() {
                let cell = cell(read.get_ref(at).map_err(fault)?).ok_or_else(|| {
                    let problem = format!("column {column} has text that is no UTF-8");
                    ImportError::Row { table: self.table.clone(), row: number, problem }
                })?;
                cells.push(cell);
            }
            row(&cells)?;
        }
        Ok(())
    }
}

fn cell(value: ValueRef<'_>) -> Option<Cell> {
    Some(match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(whole) => Cell::Integer(whole),
        ValueRef::Real(real) => Cell::Real(real),
        ValueRef::Text(bytes) => Cell::Text(std::str::from_utf8(bytes).ok()?.to_owned()),
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_owned()),
    })
}
