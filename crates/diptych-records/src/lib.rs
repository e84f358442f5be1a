#![doc = include_str!("../README.md")]

mod commands;
mod fact;
#[cfg(feature = "http")]
mod http;
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

pub use commands::{Create, Delete, Patch, Replace};
pub use fact::RecordEvent;
#[cfg(feature = "http")]
pub use http::{ServeRecords, mount};
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
