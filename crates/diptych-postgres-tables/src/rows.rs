//! Rows that a projection gives for bulk insert. They are encoded at once, and sent by one `COPY`
//! for each table.

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, Type};

use crate::{
    link::{Link, Value, quoted},
    trouble::StatementError,
};

/// Rows are sent before they take more memory than this.
const MOST_BYTES: usize = 4 << 20;

/// The signature of the format, the flags, and the length of the extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The mark of the end.
const END: i16 = -1;

/// Rows of one table that wait to be sent.
struct WaitingRows {
    table: String,
    columns: Vec<String>,
    types: Vec<Type>,
    sql: String,
    /// Empty, or the header and rows.
    bytes: BytesMut,
}

/// Rows that wait, in the order in which the tables were named first.
#[derive(Default)]
pub(crate) struct RowBuffers {
    tables: Vec<WaitingRows>,
    bytes: usize,
    /// Rows were refused when they were sent. They may belong to any event of the run.
    pub(crate) were_refused: bool,
}

impl RowBuffers {
    pub(crate) fn add(
        &mut self,
        link: &mut Link,
        table: &str,
        columns: &[&str],
        values: &[Value<'_>],
    ) -> Result<(), StatementError> {
        if columns.len() != values.len() {
            let reason = format!(
                "a row for table {table} has {} values for {} columns: give one for each",
                values.len(),
                columns.len()
            );
            return Err(StatementError::Refused { reason });
        }
        let is_it = |known: &WaitingRows| known.table == table && known.columns == columns;
        let at = match self.tables.iter().position(is_it) {
            Some(at) => at,
            None => {
                self.tables.push(WaitingRows::of(link, table, columns)?);
                self.tables.len() - 1
            }
        };
        let Some(waiting) = self.tables.get_mut(at) else { return Ok(()) };
        let before = waiting.bytes.len();
        waiting.add(values)?;
        self.bytes += waiting.bytes.len() - before;
        match self.bytes > MOST_BYTES {
            true => self.flush(link),
            false => Ok(()),
        }
    }

    /// Sends the rows.
    pub(crate) fn flush(&mut self, link: &mut Link) -> Result<(), StatementError> {
        self.bytes = 0;
        for waiting in &mut self.tables {
            if waiting.bytes.is_empty() {
                continue;
            }
            waiting.bytes.put_i16(END);
            let rows = waiting.bytes.split().freeze();
            if let Err(error) = link.copy(&waiting.sql, rows) {
                self.were_refused = true;
                return Err(error);
            }
        }
        Ok(())
    }
}

impl WaitingRows {
    fn of(link: &mut Link, table: &str, columns: &[&str]) -> Result<WaitingRows, StatementError> {
        let names: Vec<_> = columns.iter().map(|column| quoted(column)).collect();
        let (name, list) = (quoted(table), names.join(", "));
        let statement = link.prepared(&format!("select {list} from {name} limit 0"))?;
        let types = statement.columns().iter().map(|column| column.type_().clone()).collect();
        Ok(WaitingRows {
            table: table.to_owned(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            types,
            sql: format!("copy {name} ({list}) from stdin binary"),
            bytes: BytesMut::new(),
        })
    }

    /// Adds a row as a whole, or nothing.
    fn add(&mut self, values: &[Value<'_>]) -> Result<(), StatementError> {
        let before = self.bytes.len();
        if before == 0 {
            self.bytes.put_slice(HEADER);
        }
        self.bytes.put_i16(i16::try_from(values.len()).unwrap_or(i16::MAX));
        for (at, (value, wanted)) in values.iter().zip(&self.types).enumerate() {
            if let Err(cause) = put(value, wanted, &mut self.bytes) {
                self.bytes.truncate(before);
                return Err(StatementError::Value {
                    table: self.table.clone(),
                    column: self.columns.get(at).cloned().unwrap_or_default(),
                    wanted: wanted.to_string(),
                    cause,
                });
            }
        }
        Ok(())
    }
}

/// Puts the length of a value and the value.
fn put(
    value: &Value<'_>,
    wanted: &Type,
    bytes: &mut BytesMut,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let at = bytes.len();
    bytes.put_i32(-1);
    if let IsNull::No = value.to_sql_checked(wanted, bytes)? {
        let length = i32::try_from(bytes.len() - at - 4)?;
        if let Some(place) = bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(())
}
