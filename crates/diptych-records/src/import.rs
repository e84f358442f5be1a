//! Tables of other systems: import, comparison, export.

mod batch;
mod compare;
mod csv_file;
mod error;
mod export;
mod mapping;
mod ndjson_file;
mod plain;
mod plain_import;
mod plain_keys;
mod plain_rows;
#[cfg(feature = "postgres")]
mod postgres;
mod run;
mod source;
mod sqlite_table;
mod verdict;

pub use compare::{Compare, Comparison, DifferenceKind, RANGE_KEYS, RowDifference, Sides};
pub use csv_file::CsvFile;
pub use error::ImportError;
pub use export::Export;
pub use ndjson_file::NdjsonFile;
pub use plain::PlainRecord;
#[cfg(feature = "postgres")]
pub use postgres::PostgresTable;
pub use run::{Import, ImportReport, LISTED_ROWS, RefusedRow};
pub use source::{Cell, RowSource};
pub use sqlite_table::SqliteTable;
