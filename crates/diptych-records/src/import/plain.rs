//! Imports, comparisons and exports of records without their type, for command lines.

use std::collections::{BTreeMap, BTreeSet};

use diptych::store::Store;
use serde_json::Value;

use super::{
    compare::{Comparison, difference_of, differing_keys},
    error::ImportError,
    export::Export,
    mapping::{RowDigest, digest, joined},
    plain_rows::{PlainRows, PlainShape},
    run::ImportReport,
    source::{Cell, RowSource},
};
use crate::row_json::Fields;

/// A record whose type the program does not have. Its rows are JSON objects.
///
/// It writes the events that a program with a [`Record`](trait@crate::Record) of the same name, key
/// and fields reads. It cannot check a row by the rules of that type.
///
/// A column of a CSV file is a number or a truth value if all its cells are, and an empty cell has
/// no value. A number is one that prints as the text of its cell, so `1.50`, `007` and numbers
/// without an exact `f64` make a column of texts. [`text_column`](PlainRecord::text_column) makes
/// all of them texts.
#[derive(Clone, Debug)]
pub struct PlainRecord {
    pub(super) shape: PlainShape,
    key_columns: Vec<String>,
    texts: BTreeSet<String>,
    columns: BTreeMap<String, Option<String>>,
    pub(super) is_deleting: bool,
}

/// A row of a table: its key, its fields and their digest.
pub(super) struct TableRow {
    pub(super) key: String,
    pub(super) fields: Fields,
    pub(super) digest: String,
    /// The bytes of its values as JSON, about.
    pub(super) bytes: usize,
}

impl PlainRecord {
    /// The record of this name, with the field that is its key.
    pub fn new(name: impl Into<String>, key: impl Into<String>) -> PlainRecord {
        PlainRecord {
            shape: PlainShape { name: name.into(), key: key.into(), unique: Vec::new() },
            key_columns: Vec::new(),
            texts: BTreeSet::new(),
            columns: BTreeMap::new(),
            is_deleting: false,
        }
    }

    /// A field whose value one row has at most, as `#[unique]` says in the type.
    #[must_use]
    pub fn unique(mut self, field: impl Into<String>) -> PlainRecord {
        self.shape.unique.push(field.into());
        self
    }

    /// Makes the key of several columns: their texts with `/` in between.
    #[must_use]
    pub fn key_columns(mut self, columns: Vec<String>) -> PlainRecord {
        self.key_columns = columns;
        self
    }

    /// Reads this column as the field of another name.
    #[must_use]
    pub fn rename(mut self, column: impl Into<String>, field: impl Into<String>) -> PlainRecord {
        self.columns.insert(column.into(), Some(field.into()));
        self
    }

    /// Leaves this column out.
    #[must_use]
    pub fn skip(mut self, column: impl Into<String>) -> PlainRecord {
        self.columns.insert(column.into(), None);
        self
    }

    /// Keeps the cells of this column of a CSV file as texts, also if all are numbers. An empty one
    /// is an empty text.
    #[must_use]
    pub fn text_column(mut self, column: impl Into<String>) -> PlainRecord {
        self.texts.insert(column.into());
        self
    }

    /// After all rows, deletes the rows here that came from the table and are no longer in it. It
    /// deletes nothing if the key of a row could not be read, because that row may be one here.
    #[must_use]
    pub fn delete_missing(mut self) -> PlainRecord {
        self.is_deleting = true;
        self
    }

    /// Compares a table with the rows here, and tells the number of events of the log that were
    /// read, and of all events.
    ///
    /// # Errors
    /// [`ImportError`] if the table or the log cannot be read.
    pub async fn compare(
        &self,
        store: &Store,
        table: &mut dyn RowSource,
        progress: impl FnMut(u64, u64),
    ) -> Result<Comparison, ImportError> {
        let mut report = ImportReport::default();
        let rows = self.read(table, &mut report)?;
        let names = self.columns_of(table)?;
        // A field without a value may be missing in the object.
        let there: BTreeMap<_, _> = rows
            .into_iter()
            .map(|TableRow { key, mut fields, .. }| {
                fields.retain(|_, value| !value.is_null());
                (key, fields)
            })
            .collect();
        let mut state = PlainRows::default();
        state.follow(&self.shape, store, progress).await?;
        let mut here = BTreeMap::new();
        for (key, row) in state.rows {
            if let Some(mut row) = row.row {
                row.retain(|name, value| names.contains(name) && !value.is_null());
                here.insert(key, row);
            }
        }
        let digests = |of: &BTreeMap<String, Fields>| {
            of.iter().map(|(key, fields)| (key.clone(), digest(fields))).collect()
        };
        let mut comparison = Comparison {
            there: report.read,
            here: here.len() as u64,
            refused: report.refused,
            refusals: report.refusals,
            ..Comparison::default()
        };
        for key in differing_keys(&digests(&there), &digests(&here), &mut comparison) {
            comparison.list(&key, difference_of(there.get(&key), here.get(&key)));
        }
        Ok(comparison)
    }

    /// All rows as a plain table, with the name of the record (`_` in place of `-`). It tells the
    /// number of events of the log that were read, and of all events.
    ///
    /// # Errors
    /// [`ImportError`] if the log cannot be read, or has events of the record with a meaning of
    /// their own.
    pub async fn export(
        &self,
        store: &Store,
        progress: impl FnMut(u64, u64),
    ) -> Result<Export, ImportError> {
        let mut state = PlainRows::default();
        state.follow(&self.shape, store, progress).await?;
        let rows = state.rows.into_values().filter_map(|row| row.row).collect();
        let table = self.shape.name.replace('-', "_");
        Ok(Export::with_columns(table, vec![self.shape.key.clone()], rows).key(&self.shape.key))
    }

    /// The fields of the columns of a table.
    fn fields(&self, table: &dyn RowSource) -> Result<Vec<Option<String>>, ImportError> {
        let columns = table.columns();
        let wrong = |problem| ImportError::Mapping { table: table.table().to_owned(), problem };
        let named = self.columns.keys().chain(&self.key_columns).chain(&self.texts);
        if let Some(unknown) = named.into_iter().find(|name| !columns.contains(name)) {
            let problem = format!("it has no column {unknown}; it has {}", columns.join(", "));
            return Err(wrong(problem));
        }
        let field = |column: &String| match self.columns.get(column) {
            Some(renamed) => renamed.clone(),
            None => Some(column.clone()),
        };
        let fields: Vec<_> = columns.iter().map(field).collect();
        let mut names: Vec<_> = fields.iter().flatten().collect();
        names.sort_unstable();
        if let Some([one, ..]) = names.windows(2).find(|two| two.first() == two.last()) {
            return Err(wrong(format!("two columns are field {one}: skip either")));
        }
        let is_read = |(column, field): &(&String, &Option<String>)| {
            field.is_some().then(|| table.unreadable(column)).flatten().is_some()
        };
        if let Some((column, _)) = columns.iter().zip(&fields).find(is_read) {
            let problem = table.unreadable(column).unwrap_or_default();
            return Err(wrong(format!("column {column} {problem}")));
        }
        match (names.contains(&&self.shape.key), self.key_columns.is_empty()) {
            (true, true) | (false, false) => Ok(fields),
            (false, true) => {
                let problem = format!("no column is {}, the key: name its column", self.shape.key);
                Err(wrong(problem))
            }
            (true, false) => {
                let problem = format!(
                    "a column is {}, and the key is made of others: skip that column",
                    self.shape.key
                );
                Err(wrong(problem))
            }
        }
    }

    /// All rows of a table. Those that have no key are refused.
    fn read(
        &self,
        table: &mut dyn RowSource,
        report: &mut ImportReport,
    ) -> Result<Vec<TableRow>, ImportError> {
        let (mut rows, mut seen) = (Vec::new(), BTreeSet::new());
        self.each_row(table, &mut |row| {
            report.read += 1;
            match row {
                Err(reason) => report.refuse(report.read, None, reason),
                Ok(row) if seen.insert(row.key.clone()) => rows.push(row),
                Ok(row) => report.refuse_twice(report.read, &self.shape.key, row.key),
            }
            Ok(())
        })?;
        Ok(rows)
    }

    /// Calls the function with each row of a table, or with the reason why it is none.
    pub(super) fn each_row(
        &self,
        table: &mut dyn RowSource,
        each: &mut dyn FnMut(Result<TableRow, String>) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let fields = self.fields(table)?;
        // The texts of a table with types are texts.
        let mut kinds = vec![Kind { is_text: true, ..Kind::default() }; fields.len()];
        if !table.is_typed() {
            let columns = table.columns().to_vec();
            for (kind, column) in kinds.iter_mut().zip(&columns) {
                kind.is_text = self.texts.contains(column);
            }
            table.read(&mut |cells| {
                kinds.iter_mut().zip(cells).for_each(|(kind, cell)| kind.see(cell));
                Ok(())
            })?;
        }
        let place = |name: &String| table.columns().iter().position(|column| column == name);
        let key_columns: Vec<_> = self.key_columns.iter().filter_map(place).collect();
        table.read(&mut |cells| each(self.row(&fields, &kinds, &key_columns, cells)))
    }

    fn row(
        &self,
        names: &[Option<String>],
        kinds: &[Kind],
        key_columns: &[usize],
        cells: &[Cell],
    ) -> Result<TableRow, String> {
        let mut fields = Fields::new();
        for ((name, kind), cell) in names.iter().zip(kinds).zip(cells) {
            let Some(name) = name else { continue };
            match (kind.json(cell), cell) {
                (Some(value), _) => drop(fields.insert(name.clone(), value)),
                (None, Cell::Absent) => {}
                (None, _) => return Err(format!("{name}: {}", cell.problem())),
            }
        }
        if !key_columns.is_empty() {
            fields.insert(self.shape.key.clone(), joined(key_columns, cells)?.into());
        }
        let key = self.shape.key_of(&fields)?;
        let RowDigest { text: digest, bytes } = RowDigest::of(&fields);
        Ok(TableRow { key, fields, digest, bytes })
    }

    /// The fields that a table gives.
    pub(super) fn columns_of(
        &self,
        table: &dyn RowSource,
    ) -> Result<BTreeSet<String>, ImportError> {
        let mut columns: BTreeSet<_> = self.fields(table)?.into_iter().flatten().collect();
        columns.insert(self.shape.key.clone());
        Ok(columns)
    }
}

/// The texts of a column, which may all be numbers or truth values.
#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    /// The cells are texts, whatever they look like.
    is_text: bool,
    has_other: bool,
    has_whole: bool,
    has_float: bool,
    has_truth: bool,
}

impl Kind {
    fn see(&mut self, cell: &Cell) {
        let Cell::Text(text) = cell else { return };
        if self.is_text || self.has_other {
            return;
        }
        // JavaScript and other readers of JSON have no larger whole numbers.
        let is_exact = |whole: i64| whole.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS;
        let whole = text.parse::<i64>().ok().filter(|whole| is_exact(*whole));
        let is_whole = whole.is_some_and(|whole| whole.to_string() == *text);
        let float = text.parse::<f64>().ok().filter(|float| float.is_finite());
        let printed = float.and_then(|float| serde_json::to_string(&float).ok());
        let is_float = printed.as_deref() == Some(text.as_str());
        match text.as_str() {
            "true" | "false" => self.has_truth = true,
            _ if is_whole => self.has_whole = true,
            _ if is_float => self.has_float = true,
            _ => self.has_other = true,
        }
    }

    fn json(self, cell: &Cell) -> Option<Value> {
        if self.is_text && *cell == Cell::Blank {
            return Some(String::new().into());
        }
        let Cell::Text(text) = cell else { return cell.json(super::source::Form::Own) };
        let is_number = !self.has_truth && !self.has_other && !self.is_text;
        let is_truth = !self.has_whole && !self.has_float && !self.has_other && !self.is_text;
        match text.as_str() {
            "true" | "false" if is_truth => Some((text == "true").into()),
            _ if is_number && self.has_float => text.parse::<f64>().ok().map(Value::from),
            _ if is_number => text.parse::<i64>().ok().map(Value::from),
            _ => Some(text.as_str().into()),
        }
    }
}
