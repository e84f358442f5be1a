//! The comparison of a table with the rows here.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc, thread};

use diptych::{App, Query};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    error::ImportError,
    mapping::{Mapping, RowReader, digest},
    run::{ImportReport, LISTED_ROWS, RefusedRow},
    source::RowSource,
};
use crate::{
    record::Record,
    records::Records,
    row_json::{Fields, fields},
    view::RecordView,
};

/// The number of keys in a range whose digests are compared.
pub const RANGE_KEYS: usize = 1_000;

/// A comparison of a table with the rows here, from [`Records::compare`].
#[derive(Debug)]
#[must_use = "a comparison does nothing until it runs"]
pub struct Compare<R: Record, S> {
    app: App,
    table: S,
    mapping: Mapping,
    of: PhantomData<fn() -> R>,
}

/// The result of a comparison. It is about the fields that have a column.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Rows of the table.
    pub there: u64,
    /// Rows of the record.
    pub here: u64,
    /// Ranges of keys.
    pub ranges: u64,
    /// Ranges whose digests differ.
    pub differing_ranges: u64,
    /// Rows that differ.
    pub differing: u64,
    /// The first [`LISTED_ROWS`] differing rows, in order of their keys.
    pub differences: Vec<RowDifference>,
    /// Rows of the table that are no rows of the record.
    pub refused: u64,
    /// The first [`LISTED_ROWS`] refused rows.
    pub refusals: Vec<RefusedRow>,
}

impl Comparison {
    /// Whether both have the same rows.
    pub fn is_equal(&self) -> bool {
        self.differing == 0 && self.refused == 0
    }

    pub(super) fn list(&mut self, key: impl ToString, kind: Option<DifferenceKind>) {
        let Some(kind) = kind else { return };
        self.differing += 1;
        if self.differences.len() < LISTED_ROWS {
            self.differences.push(RowDifference { key: key.to_string(), kind });
        }
    }
}

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RowDifference {
    /// Its key.
    pub key: String,
    /// The difference.
    #[serde(flatten)]
    pub kind: DifferenceKind,
}

/// The way in which a row differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// The table has the row, and the record has not.
    MissingHere,
    /// The record has the row, and the table has not.
    MissingThere,
    /// Both have it, with other values.
    OtherValues {
        /// The fields that differ.
        fields: BTreeMap<String, Sides>,
    },
}

/// The two values of a field.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Sides {
    /// The value in the table.
    pub there: Value,
    /// The value of the record.
    pub here: Value,
}

impl<R: Record> Records<R> {
    /// Compares a table of another system with the rows here: first the digests of ranges of keys,
    /// and then the rows of those ranges that differ. The table is read a second time for these.
    pub fn compare<S: RowSource>(&self, table: S) -> Compare<R, S> {
        let app = self.app().clone();
        Compare { app, table, mapping: Mapping::default(), of: PhantomData }
    }
}

/// The digest of each row.
type Digests<R> = BTreeMap<<R as Record>::Key, String>;
/// The values of some rows.
type Values<R> = BTreeMap<<R as Record>::Key, Fields>;

impl<R: Record, S: RowSource> Compare<R, S> {
    /// Reads this column as the field of another name.
    pub fn rename(mut self, column: impl Into<String>, field: impl Into<String>) -> Compare<R, S> {
        self.mapping.columns.insert(column.into(), Some(field.into()));
        self
    }

    /// Makes the key of several columns, which together name a row: their texts with `/` in
    /// between. Inside of a text `/` is `%2F`, and `%` is `%25`.
    pub fn key_of(mut self, columns: &[&str]) -> Compare<R, S> {
        self.mapping.key = columns.iter().map(|column| (*column).to_owned()).collect();
        self
    }

    /// Leaves this column out.
    pub fn skip(mut self, column: impl Into<String>) -> Compare<R, S> {
        self.mapping.columns.insert(column.into(), None);
        self
    }

    /// Compares all rows.
    ///
    /// # Errors
    /// [`ImportError`] if the table cannot be read or mapped, or the view stands still.
    pub async fn run(self) -> Result<Comparison, ImportError> {
        let Compare { app, mut table, mapping, .. } = self;
        let mut reader = mapping.reader::<R>(&table)?;
        let names: Arc<[&'static str]> = reader.names().collect();
        let (there, report, mut table, mut reader) = on_thread(move || {
            let (mut there, mut report) = (Digests::<R>::new(), ImportReport::default());
            each(&mut table, &mut reader, &mut report, |key, fields| {
                there.insert(key, digest(&fields)).is_none()
            })?;
            Ok((there, report, table, reader))
        })
        .await?;
        let asked = RowsHere::<R> { names: names.clone(), only: None, of: PhantomData };
        let rows = app.query(asked).strong().await?.value;
        let here: Digests<R> = rows.into_iter().map(|(key, row)| (key, digest(&row))).collect();
        let mut comparison = Comparison {
            there: report.read,
            here: here.len() as u64,
            refused: report.refused,
            refusals: report.refusals,
            ..Comparison::default()
        };
        let keys = Arc::new(differing_keys(&there, &here, &mut comparison));
        if keys.is_empty() {
            return Ok(comparison);
        }
        let wanted = keys.clone();
        let there = on_thread(move || {
            let mut values = Values::<R>::new();
            each(&mut table, &mut reader, &mut ImportReport::default(), |key, fields| {
                if wanted.binary_search(&key).is_ok() {
                    values.entry(key).or_insert(fields);
                }
                true
            })?;
            Ok(values)
        })
        .await?;
        let asked = RowsHere::<R> { names, only: Some(keys.clone()), of: PhantomData };
        let here = app.query(asked).strong().await?.value;
        for key in keys.iter() {
            comparison.list(key, difference_of(there.get(key), here.get(key)));
        }
        Ok(comparison)
    }
}

/// The result of work that blocks.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImportError> + Send + 'static,
) -> Result<T, ImportError> {
    let (sender, result) = oneshot::channel();
    // The receiver lives until the result is there, unless the caller gave up.
    thread::spawn(move || drop(sender.send(work())));
    result.await.map_err(|_| ImportError::Stopped)?
}

/// Calls the function with each row of the table. It tells whether the key is a new one.
fn each<R: Record>(
    table: &mut dyn RowSource,
    reader: &mut RowReader<R>,
    report: &mut ImportReport,
    mut row: impl FnMut(R::Key, Fields) -> bool,
) -> Result<(), ImportError> {
    table.read(&mut |cells| {
        report.read += 1;
        let number = report.read;
        match reader.row(cells) {
            Err(reason) => report.refuse(number, None, reason),
            Ok(read) => {
                let key = read.key.to_string();
                if !row(read.key, read.fields) {
                    report.refuse_twice(number, R::KEY_FIELD, key);
                }
            }
        }
        Ok(())
    })
}

/// The keys of all rows in ranges whose digests differ, in order.
pub(super) fn differing_keys<K: Ord + Clone + std::fmt::Display>(
    there: &BTreeMap<K, String>,
    here: &BTreeMap<K, String>,
    comparison: &mut Comparison,
) -> Vec<K> {
    let mut all: Vec<&K> = there.keys().chain(here.keys()).collect();
    all.sort_unstable();
    all.dedup();
    let mut differing = Vec::new();
    for range in all.chunks(RANGE_KEYS) {
        let digest = |side: &BTreeMap<K, String>| {
            let mut hasher = blake3::Hasher::new();
            for key in range {
                let digest = side.get(key).map_or("", String::as_str);
                let text = format!("{key}\n{digest}\n");
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text.as_bytes());
            }
            hasher.finalize()
        };
        comparison.ranges += 1;
        if digest(there) != digest(here) {
            comparison.differing_ranges += 1;
            differing.extend(range.iter().map(|key| (*key).clone()));
        }
    }
    differing
}

pub(super) fn difference_of(
    there: Option<&Fields>,
    here: Option<&Fields>,
) -> Option<DifferenceKind> {
    let (there, here) = match (there, here) {
        (None, None) => return None,
        (Some(_), None) => return Some(DifferenceKind::MissingHere),
        (None, Some(_)) => return Some(DifferenceKind::MissingThere),
        (Some(there), Some(here)) => (there, here),
    };
    let value = |of: &Fields, name: &str| of.get(name).cloned().unwrap_or(Value::Null);
    let names = there.keys().chain(here.keys());
    let differing = names.filter(|name| there.get(*name) != here.get(*name));
    let fields: BTreeMap<_, _> = differing
        .map(|name| (name.clone(), Sides { there: value(there, name), here: value(here, name) }))
        .collect();
    (!fields.is_empty()).then_some(DifferenceKind::OtherValues { fields })
}

/// The values of rows, of the fields with these names.
struct RowsHere<R: Record> {
    names: Arc<[&'static str]>,
    only: Option<Arc<Vec<R::Key>>>,
    of: PhantomData<fn() -> R>,
}

impl<R: Record> Query for RowsHere<R> {
    type View = RecordView<R>;
    type Answer = Values<R>;

    fn answer(&self, view: &RecordView<R>) -> Values<R> {
        let mut values = Values::<R>::new();
        let mut put = |row: &R| {
            let mut fields = fields(row).unwrap_or_default();
            fields.retain(|name, _| self.names.contains(&name.as_str()));
            values.insert(row.key(), fields);
        };
        match &self.only {
            None => view.iter().for_each(|entry| put(&entry.row)),
            Some(keys) => {
                keys.iter().filter_map(|key| view.get(key)).for_each(|entry| put(&entry.row));
            }
        }
        values
    }
}
