//! Imports, comparisons and exports of records without their type, for command lines.

use std::collections::{BTreeMap, BTreeSet};

use diptych::store::{Append, AppendCondition, AppendError, Filter, Limits, RawEvent, Store, Tag};
use serde_json::{Value, json};

use super::{
    compare::{Comparison, difference_of, differing_keys},
    error::ImportError,
    export::Export,
    mapping::{digest, joined},
    plain_rows::{PlainRow, PlainRows, PlainShape},
    run::ImportReport,
    source::{Cell, RowSource},
    verdict::{Verdict, followed, verdict},
};
use crate::{
    fact::Origin,
    row_json::{Fields, difference},
};

/// The largest number of rows in a commit.
const COMMIT_ROWS: usize = 1_000;
/// The bytes of payloads after which a commit ends.
const COMMIT_BYTES: usize = 1 << 20;
/// How often a batch is decided again, because the record was changed meanwhile.
const TRIES: u32 = 100;

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
    shape: PlainShape,
    key_columns: Vec<String>,
    texts: BTreeSet<String>,
    columns: BTreeMap<String, Option<String>>,
    is_deleting: bool,
}

/// A row of a table: its key, its fields and their digest.
struct TableRow {
    key: String,
    fields: Fields,
    digest: String,
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

    /// Imports a table, and tells the number of rows that are done, and of all rows.
    ///
    /// # Errors
    /// [`ImportError`] if the table cannot be read or mapped, or the log refuses a batch.
    pub async fn import(
        &self,
        store: &Store,
        table: &mut dyn RowSource,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<ImportReport, ImportError> {
        let mut report = ImportReport::default();
        let all = self.read(table, &mut report)?;
        let columns = self.columns_of(table)?;
        let mut here = PlainRows::default();
        here.follow(&self.shape, store, |_, _| ()).await?;
        let (source, name) = (table.name().to_owned(), table.table().to_owned());
        let origin = |row: &TableRow| Origin {
            source: source.clone(),
            table: name.clone(),
            digest: row.digest.clone(),
        };
        let mut rest = all.as_slice();
        let mut tries = 1;
        while !rest.is_empty() {
            let mut batch = PlainBatch::default();
            for (number, row) in rest {
                if batch.is_full(&store.limits()) {
                    break;
                }
                batch.rows += 1;
                let decided = self.decide(row, &columns, origin(row), &mut here, &mut batch);
                if let Err(reason) = decided {
                    batch.refused.push((*number, row.key.clone(), reason));
                }
            }
            if !self.append(store, &batch, &mut here, tries).await? {
                tries += 1;
                continue;
            }
            tries = 1;
            batch.count(&mut report);
            rest = rest.get(batch.rows..).unwrap_or_default();
            progress((all.len() - rest.len()) as u64, all.len() as u64);
        }
        if self.is_deleting && report.unnamed == 0 {
            let keys = all.iter().map(|(_, row)| row.key.as_str()).collect();
            self.delete(store, (&source, &name), &keys, &mut here, &mut report).await?;
        }
        Ok(report)
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
            .map(|(_, TableRow { key, mut fields, .. })| {
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

    /// All rows of a table with their numbers. Those that have no key are refused.
    fn read(
        &self,
        table: &mut dyn RowSource,
        report: &mut ImportReport,
    ) -> Result<Vec<(u64, TableRow)>, ImportError> {
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
        let (mut rows, mut seen) = (Vec::new(), BTreeSet::new());
        table.read(&mut |cells| {
            report.read += 1;
            match self.row(&fields, &kinds, &key_columns, cells) {
                Err(reason) => report.refuse(report.read, None, reason),
                Ok(row) if seen.insert(row.key.clone()) => rows.push((report.read, row)),
                Ok(row) => {
                    let reason = "an earlier row has this key: a key names one row".to_owned();
                    report.refuse(report.read, Some(row.key), reason);
                }
            }
            Ok(())
        })?;
        Ok(rows)
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
                (None, _) => return Err(format!("{name}: {cell:?} is no value of JSON")),
            }
        }
        if !key_columns.is_empty() {
            fields.insert(self.shape.key.clone(), joined(key_columns, cells)?.into());
        }
        let key = self.shape.key_of(&fields)?;
        let digest = digest(&fields);
        Ok(TableRow { key, fields, digest })
    }

    /// The fields that a table gives.
    fn columns_of(&self, table: &dyn RowSource) -> Result<BTreeSet<String>, ImportError> {
        let mut columns: BTreeSet<_> = self.fields(table)?.into_iter().flatten().collect();
        columns.insert(self.shape.key.clone());
        Ok(columns)
    }

    /// Decides one row, and puts its event into the batch.
    ///
    /// # Errors
    /// The reason for which the row stays as it is.
    fn decide(
        &self,
        row: &TableRow,
        columns: &BTreeSet<String>,
        origin: Origin,
        here: &mut PlainRows,
        batch: &mut PlainBatch,
    ) -> Result<(), String> {
        let traced = here.rows.get(&row.key);
        let known = traced.and_then(|traced| traced.origin.as_ref());
        if known.is_some_and(|known| known.digest == row.digest) {
            batch.unchanged += 1;
            return Ok(());
        }
        let before = traced.and_then(|traced| traced.row.as_ref());
        let after = followed(before, columns.iter().map(String::as_str), &row.fields);
        let verdict = verdict(before, known, &after, &origin)?;
        if verdict == Verdict::Keep {
            batch.unchanged += 1;
            return Ok(());
        }
        let tags = self.shape.unique_tags(&after);
        let is_other = |tag: &Tag| here.holders.get(tag).is_some_and(|holder| *holder != row.key);
        if tags.iter().any(is_other) {
            return Err("another row has its unique value: change either".to_owned());
        }
        match before {
            None => {
                batch.created += 1;
                let payload = json!({ "row": after, "origin": origin });
                batch.event(self.raw("imported", &row.key, &payload, tags));
            }
            Some(before) => {
                batch.changed += 1;
                let (old, new) = difference(before, &after);
                let both = [&old, &new].into_iter().flat_map(|side| self.shape.unique_tags(side));
                let (key, tags) = (after.get(&self.shape.key), both.collect());
                let payload = json!({ "key": key, "old": old, "new": new, "origin": origin });
                batch.event(self.raw("changed", &row.key, &payload, tags));
            }
        }
        here.put(&self.shape, row.key.clone(), PlainRow { row: Some(after), origin: Some(origin) });
        Ok(())
    }

    fn raw(&self, what: &str, key: &str, payload: &Value, tags: Vec<Tag>) -> (RawEvent, usize) {
        let json = payload.to_string();
        let bytes = json.len();
        let event = RawEvent::new(self.shape.event(what), json.into_bytes());
        let event = event.version(1).tag(Tag::new(&self.shape.name, key));
        (tags.into_iter().fold(event, RawEvent::tag), bytes)
    }

    /// Stores a batch, unless the record was changed meanwhile. Then the rows are read again.
    async fn append(
        &self,
        store: &Store,
        batch: &PlainBatch,
        here: &mut PlainRows,
        tries: u32,
    ) -> Result<bool, ImportError> {
        if batch.events.is_empty() {
            return Ok(true);
        }
        let names =
            ["created", "changed", "deleted", "imported"].map(|what| self.shape.event(what));
        let condition = AppendCondition { fail_if: Filter::types(names), after: here.upto };
        let append = Append::events(batch.events.clone()).condition(condition);
        match store.append(append).await {
            Ok(commit) => {
                here.upto = commit.synced().await.map_err(AppendError::from)?.last;
                Ok(true)
            }
            Err(AppendError::Refused(_)) if tries < TRIES => {
                *here = PlainRows::default();
                here.follow(&self.shape, store, |_, _| ()).await?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn delete(
        &self,
        store: &Store,
        (source, table): (&str, &str),
        keys: &BTreeSet<&str>,
        here: &mut PlainRows,
        report: &mut ImportReport,
    ) -> Result<(), ImportError> {
        let mut tries = 1;
        loop {
            let mut batch = PlainBatch::default();
            for (key, row) in &here.rows {
                let PlainRow { row: Some(row), origin: Some(origin) } = row else { continue };
                if keys.contains(key.as_str()) || origin.source != source || origin.table != table {
                    continue;
                }
                if batch.is_full(&store.limits()) {
                    break;
                }
                let key_value = row.get(&self.shape.key);
                let payload = json!({ "key": key_value, "old": row, "origin": origin });
                batch.event(self.raw("deleted", key, &payload, self.shape.unique_tags(row)));
                batch.keys.push(key.clone());
            }
            if batch.events.is_empty() {
                return Ok(());
            }
            if !self.append(store, &batch, here, tries).await? {
                tries += 1;
                continue;
            }
            report.deleted += batch.keys.len() as u64;
            for key in batch.keys {
                here.put(&self.shape, key, PlainRow::default());
            }
        }
    }
}

/// Rows that are committed together.
#[derive(Default)]
struct PlainBatch {
    rows: usize,
    events: Vec<RawEvent>,
    bytes: usize,
    created: u64,
    changed: u64,
    unchanged: u64,
    refused: Vec<(u64, String, String)>,
    /// The keys of rows that are deleted.
    keys: Vec<String>,
}

impl PlainBatch {
    fn is_full(&self, limits: &Limits) -> bool {
        self.events.len() >= COMMIT_ROWS.min(limits.commit_events) || self.bytes >= COMMIT_BYTES
    }

    fn event(&mut self, (event, bytes): (RawEvent, usize)) {
        self.events.push(event);
        self.bytes += bytes;
    }

    fn count(&self, report: &mut ImportReport) {
        report.created += self.created;
        report.changed += self.changed;
        report.unchanged += self.unchanged;
        for (number, key, reason) in &self.refused {
            report.refuse(*number, Some(key.clone()), reason.clone());
        }
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
