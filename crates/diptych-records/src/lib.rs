//! Records of [Diptych](diptych): create, read, update and delete over an event log, without
//! handlers.
//!
//! ```
//! use diptych::{App, Memory};
//! use diptych_records::{Record, WithRecords};
//! use serde::{Deserialize, Serialize};
//! use serde_json::json;
//!
//! #[derive(Clone, PartialEq, Serialize, Deserialize, Record)]
//! #[record("customer")]
//! struct Customer {
//!     #[key]
//!     id: u64,
//!     #[unique]
//!     email: String,
//!     #[index]
//!     city: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = App::over(Memory::new()).records::<Customer>().start().await?;
//! let customers = app.records::<Customer>();
//! let ann = Customer { id: 1, email: "ann@example.org".into(), city: "Rome".into() };
//! customers.create(ann).await?;
//! let receipt = customers.patch(1, json!({ "city": "Oslo" })).await?;
//! let ann = customers.get(1).after(&receipt).await?;
//! assert_eq!(ann.as_ref().map(|entry| entry.row.city.as_str()), Some("Oslo"));
//! # Ok(()) }
//! ```
//!
//! The events are facts about a row: `customer-created`, `customer-changed` with the old and new
//! values of the changed fields, `customer-deleted`. They carry no intent: they say that the city
//! is another one, and not that the customer moved. The [guide] shows how commands with a meaning
//! replace plain changes, one field at a time.
//!
//! # Where to go next
//!
//! | page | contents |
//! |---|---|
//! | [`Record`](derive@Record) | the derive and its attributes |
//! | [`Records`], [`List`] | changes, rows, lists, history |
//! | [`RowFold`], [`RecordIntents`] | further views, and events with a meaning |
//! | [Records][guide] | the guide, from the first row to the first command |
//!
//! # Features
//!
//! | feature | default | contents |
//! |---|---|---|
//! | `derive` | yes | `#[derive(Record)]` |
//! | `command-line` | no | commands for the tables of your own records (`RecordCommand`) |
//! | `http` | no | REST routes, with one line for each record (`ServeRecords`) |
//! | `import` | no | tables of other systems: [import], comparison and export |
//! | `postgres` | no | import from tables of PostgreSQL |
//! | `sqlite` | no | the rows as a table in SQLite (`RecordTable`) |
//!
//! [import]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/import.md
//! [guide]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/records.md

mod beginning;
#[cfg(feature = "command-line")]
mod command_line;
mod commands;
mod fact;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "import")]
mod import;
mod journal;
mod list;
mod record;
mod records;
mod refusal;
mod row_fold;
mod row_json;
mod state;
#[cfg(feature = "sqlite")]
mod table;
mod value;
mod view;

#[cfg(feature = "derive")]
#[doc = include_str!("derive.md")]
pub use diptych_macros::Record;

pub use beginning::{Knowledge, ListKnowledge};
#[cfg(feature = "command-line")]
pub use command_line::{
    ColumnArgs, CompareArgs, ExportArgs, ImportArgs, RecordCommand, RecordOutcome, TableArgs,
    TableFormat,
};
pub use commands::{Create, Delete, Patch, Replace};
pub use fact::{Origin, RecordEvent};
#[cfg(feature = "http")]
pub use http::{ServeRecords, mount};
#[cfg(feature = "postgres")]
pub use import::PostgresTable;
#[cfg(feature = "import")]
pub use import::{
    Cell, Compare, Comparison, CsvFile, DifferenceKind, Export, Import, ImportError, ImportReport,
    LISTED_ROWS, NdjsonFile, PlainRecord, RANGE_KEYS, RefusedRow, RowDifference, RowSource, Sides,
    SqliteTable,
};
pub use journal::{Change, Changes, HISTORY_EVENTS, Journal};
pub use list::{List, MAX_PAGE_ROWS, PAGE_ROWS, Page};
pub use record::{EventNames, Field, KEY_BYTES, NoIntents, Record, RecordIntents, RecordKey};
pub use records::{Records, UPDATE_TRIES, UpdateError, WithRecords, check_record};
pub use refusal::Refusal;
pub use row_fold::{RowChanges, RowFold};
pub use row_json::Fields;
pub use state::{Holders, Row};
#[cfg(feature = "sqlite")]
pub use table::RecordTable;
pub use value::IndexValue;
pub use view::{Entry, Get, RecordView};

/// Support for the code that `#[derive(Record)]` writes.
#[doc(hidden)]
pub mod private {
    pub use diptych::Invalid;
}
