//! Rows of a table in PostgreSQL.

mod array;
mod shape;
mod stream;

use std::{fmt, time::Duration};

use diptych_postgres::DatabaseConnection;
use tokio_postgres::Client;

use self::shape::Shape;
use super::{
    error::ImportError,
    source::{Cell, RowSource},
    sqlite_table::quoted,
};

/// How long a server may take to let a client in.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// The texts of values do not depend on settings of the role or of the database. A table may take
/// longer to read than other statements may.
const SETTINGS: &str = "set timezone = 'UTC'; set datestyle = 'ISO, YMD'; \
    set intervalstyle = 'iso_8601'; set bytea_output = 'hex'; set extra_float_digits = 3; \
    set statement_timeout = 0; set lock_timeout = '10s'; \
    begin isolation level repeatable read read only";

/// A table, a view, or the rows of a `select` in a database of PostgreSQL. Each read sees one
/// state, also while others write, and changes nothing there.
///
/// Whole numbers, floats, truth values and JSON are what they are. Decimals, dates, intervals,
/// addresses and values of enumerations are their texts. Timestamps are texts such as
/// `2024-02-29T23:59:59.5`, and those with a zone such as `2024-02-29T23:59:59.5Z`, in UTC. Bytes
/// are base64, and arrays are lists.
///
/// Rows come one after another, so that the table does not sit in memory. The transaction lasts as
/// long as the read.
#[derive(Clone)]
pub struct PostgresTable {
    /// It may have a password.
    address: String,
    place: String,
    name: String,
    table: String,
    statement: String,
    columns: Vec<String>,
    shapes: Vec<Shape>,
}

impl fmt::Debug for PostgresTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PostgresTable");
        shown.field("place", &self.place).field("table", &self.table);
        shown.field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl PostgresTable {
    /// The table or view of this name, or `schema.table`, in the database of an address such as
    /// `postgres://ann@localhost/shop`. Any server will do, also a standby. It blocks until the
    /// server has described the columns.
    ///
    /// # Errors
    /// [`ImportError::Database`] if the server cannot be reached, or has no such table.
    pub fn open(
        address: impl Into<String>,
        table: impl Into<String>,
    ) -> Result<PostgresTable, ImportError> {
        let table = table.into();
        let named = match table.split_once('.') {
            Some((schema, table)) => format!("{}.{}", quoted(schema), quoted(table)),
            None => quoted(&table),
        };
        PostgresTable::described(address.into(), table, format!("select * from {named}"))
    }

    /// The rows of a `select`. The name stands for the table in the origin of each row, so it has
    /// to be the same for the next import.
    ///
    /// # Errors
    /// [`ImportError::Database`] if the server cannot be reached, or refuses the statement.
    pub fn select(
        address: impl Into<String>,
        name: impl Into<String>,
        statement: &str,
    ) -> Result<PostgresTable, ImportError> {
        let statement = statement.trim().trim_end_matches(';').to_owned();
        PostgresTable::described(address.into(), name.into(), statement)
    }

    /// The name of the other system, in place of host and database.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> PostgresTable {
        self.name = name.into();
        self
    }

    fn described(
        address: String,
        table: String,
        statement: String,
    ) -> Result<PostgresTable, ImportError> {
        let mut opened = PostgresTable {
            address,
            place: "PostgreSQL".to_owned(),
            name: String::new(),
            table,
            statement,
            columns: Vec::new(),
            shapes: Vec::new(),
        };
        let (place, columns) = stream::on_runtime(async {
            let DatabaseConnection { client, place } = opened.connect().await?;
            let at = PostgresTable { place: place.clone(), ..opened.clone() };
            Ok((place, at.describe(&client).await?))
        })?;
        (opened.columns, opened.shapes) = columns.into_iter().unzip();
        (opened.name, opened.place) = (place.clone(), place);
        Ok(opened)
    }

    /// Connects, and begins the transaction.
    async fn connect(&self) -> Result<DatabaseConnection, ImportError> {
        let connected = diptych_postgres::connect_to_read(&self.address, CONNECT_TIME).await;
        let connection = connected.map_err(|error| self.trouble(error.to_string()))?;
        let begun = connection.client.batch_execute(SETTINGS).await;
        begun.map_err(|error| self.fault(&error))?;
        Ok(connection)
    }

    /// The names of the columns, with the forms of their values.
    async fn describe(&self, client: &Client) -> Result<Vec<(String, Shape)>, ImportError> {
        let prepared = client.prepare(&self.statement).await;
        let prepared = prepared.map_err(|error| self.fault(&error))?;
        let columns = prepared.columns().iter();
        Ok(columns.map(|column| (column.name().to_owned(), Shape::of(column.type_()))).collect())
    }

    fn trouble(&self, problem: impl Into<String>) -> ImportError {
        let (place, table) = (self.place.clone(), self.table.clone());
        ImportError::Database { place, table, problem: problem.into() }
    }

    fn fault(&self, error: &tokio_postgres::Error) -> ImportError {
        self.trouble(match error.as_db_error() {
            Some(refused) => {
                let hint = refused.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                let (message, code) = (refused.message(), refused.code().code());
                format!("{message} ({code}){hint}; check the table and the rights of the role")
            }
            None => {
                let cause = std::error::Error::source(error);
                let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                format!("{error}{cause}; check the server, and run it again")
            }
        })
    }
}

impl RowSource for PostgresTable {
    fn name(&self) -> &str {
        &self.name
    }

    fn table(&self) -> &str {
        &self.table
    }

    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn unreadable(&self, column: &str) -> Option<String> {
        let mut columns = self.columns.iter().zip(&self.shapes);
        let (_, shape) = columns.find(|(name, _)| *name == column)?;
        let Shape::Unreadable(of) = shape else { return None };
        Some(format!(
            "has the type {of}, which has no form in JSON: cast it in a select, or skip it"
        ))
    }

    fn read(
        &mut self,
        row: &mut dyn FnMut(&[Cell]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let (mut cells, mut number) = (Vec::with_capacity(self.columns.len()), 0);
        self.lines(&mut |line| {
            number += 1;
            cells.clear();
            let mut fields = line.split(|byte| *byte == b'\t');
            for (column, shape) in self.columns.iter().zip(&self.shapes) {
                let cell = fields.next().ok_or("is missing").and_then(|field| shape.cell(field));
                cells.push(cell.map_err(|problem| ImportError::Row {
                    table: self.table.clone(),
                    row: number,
                    problem: format!("column {column} {problem}"),
                })?);
            }
            row(&cells)
        })
    }
}
