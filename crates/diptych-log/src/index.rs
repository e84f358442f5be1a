//! The index: which events have a tag, a type or a key, and which segments. Derived from the log;
//! in memory for the newest events, in files for the rest.

pub(crate) mod columns;
pub(crate) mod find;
pub(crate) mod hash;
pub(crate) mod index_file;
pub(crate) mod merge;
mod name_table;
pub(crate) mod newest;
pub(crate) mod postings;
pub(crate) mod segment_filter;

pub(crate) use columns::Columns;
pub(crate) use find::Index;
pub(crate) use hash::{Name, Seed};
pub(crate) use index_file::{Coverage, IndexFile};
pub(crate) use newest::Newest;
pub(crate) use segment_filter::NameQuery;
