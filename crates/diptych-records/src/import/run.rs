//! The run of an import.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
    thread,
};

use diptych::{App, Event, ExecuteError, Query, store::Limits};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    batch::{ImportRows, Outcome, Outcomes, Withdraw},
    error::ImportError,
    mapping::{Mapping, RowReader, SourceRow},
    source::RowSource,
};
use crate::{fact::RecordEvent, record::Record, records::Records, view::RecordView};

/// Items and terms of a filter that are left to the options of a command.
const SPARE_ITEMS: usize = 16;
/// The bytes of values after which a batch ends. A commit may have more.
const BATCH_BYTES: usize = 1 << 20;
/// The number of refused rows that a report lists. It counts every row.
pub const LISTED_ROWS: usize = 1_000;

/// An import of a table, from [`Records::import`].
#[derive(Debug)]
#[must_use = "an import does nothing until it runs"]
pub struct Import<R: Record, S> {
    app: App,
    table: S,
    mapping: Mapping,
    is_deleting: bool,
    of: std::marker::PhantomData<fn() -> R>,
}

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// Rows of the table.
    pub read: u64,
    /// Rows that are new here.
    pub created: u64,
    /// Rows that had changed there.
    pub changed: u64,
    /// Rows that are as they were at the last import.
    pub unchanged: u64,
    /// Rows that are no longer there, and were deleted here.
    pub deleted: u64,
    /// Rows that were not imported.
    pub refused: u64,
    /// The first [`LISTED_ROWS`] refused rows.
    pub refusals: Vec<RefusedRow>,
    /// The refused rows whose key could not be read. Each may be any row that is here.
    #[serde(skip)]
    pub(super) unnamed: u64,
}

/// A row that was not imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RefusedRow {
    /// The number of the row in the table, from 1.
    pub row: u64,
    /// Its key, if it could be read.
    pub key: Option<String>,
    /// The reason.
    pub reason: String,
}

impl ImportReport {
    pub(super) fn refuse(&mut self, row: u64, key: Option<String>, reason: String) {
        self.refused += 1;
        self.unnamed += u64::from(key.is_none());
        if self.refusals.len() < LISTED_ROWS {
            self.refusals.push(RefusedRow { row, key, reason });
        }
    }

    /// Refuses a row whose key an earlier row has, in the field of this name.
    pub(super) fn refuse_twice(&mut self, row: u64, field: &str, key: String) {
        let reason = format!("{field}: an earlier row has this key: a key names one row");
        self.refuse(row, Some(key), reason);
    }
}

impl<R: Record> Records<R> {
    /// Imports a table of another system. Each row becomes a baseline event (`customer-imported`)
    /// with its origin: source, table, key and digest.
    ///
    /// A second run appends nothing for a row that is as it was at the last run, and its change
    /// otherwise. So a run that was stopped half-way goes on with the next one, and repeated runs
    /// follow a table that is still in use.
    pub fn import<S: RowSource>(&self, table: S) -> Import<R, S> {
        Import {
            app: self.app().clone(),
            table,
            mapping: Mapping::default(),
            is_deleting: false,
            of: std::marker::PhantomData,
        }
    }
}

/// Rows of the table on their way into the log, with their numbers.
type Batch<R> = Vec<(u64, Result<SourceRow<R>, String>)>;

impl<R: Record, S: RowSource> Import<R, S> {
    /// Reads this column as the field of another name.
    pub fn rename(mut self, column: impl Into<String>, field: impl Into<String>) -> Import<R, S> {
        self.mapping.columns.insert(column.into(), Some(field.into()));
        self
    }

    /// Makes the key of several columns, which together name a row: their texts with `/` in
    /// between. Inside of a text `/` is `%2F`, and `%` is `%25`.
    pub fn key_of(mut self, columns: &[&str]) -> Import<R, S> {
        self.mapping.key = columns.iter().map(|column| (*column).to_owned()).collect();
        self
    }

    /// Leaves this column out.
    pub fn skip(mut self, column: impl Into<String>) -> Import<R, S> {
        self.mapping.columns.insert(column.into(), None);
        self
    }

    /// After all rows, deletes the rows here that came from this table and are no longer in it. It
    /// deletes nothing if the key of a row could not be read, because that row may be one here.
    pub fn delete_missing(mut self) -> Import<R, S> {
        self.is_deleting = true;
        self
    }

    /// Imports all rows. Rows that do not fit are listed in the report, and the others imported.
    ///
    /// # Errors
    /// [`ImportError`] if the table cannot be read or mapped, or the log refuses a batch.
    pub async fn run(self) -> Result<ImportReport, ImportError> {
        self.run_with(|_| ()).await
    }

    /// Like [`run`](Import::run), and tells the counts after each batch.
    ///
    /// # Errors
    /// As of [`run`](Import::run).
    pub async fn run_with(
        self,
        mut progress: impl FnMut(&ImportReport),
    ) -> Result<ImportReport, ImportError> {
        let Import { app, mut table, mapping, is_deleting, .. } = self;
        let mut reader = mapping.reader::<R>(&table)?;
        let (source, name) = (table.name().to_owned(), table.table().to_owned());
        let columns: Vec<_> = reader.names().collect();
        let most = most_rows::<R>(&app.store().limits());
        let (sender, mut batches) = mpsc::channel(4);
        let reading = thread::spawn(move || read(&mut table, &mut reader, most, &sender));
        let mut seen = BTreeSet::new();
        let mut report = ImportReport::default();
        while let Some(batch) = batches.recv().await {
            let command = ImportRows::<R> {
                source: source.clone(),
                table: name.clone(),
                columns: columns.clone(),
                rows: Vec::new(),
                outcomes: Outcomes::default(),
            };
            import(&app, command, batch, &mut seen, &mut report).await?;
            progress(&report);
        }
        reading.join().map_err(|_| ImportError::Stopped)??;
        if is_deleting && report.unnamed == 0 {
            let gone = app.query(KeysWithout::<R>(Arc::new(seen))).strong().await?.value;
            for keys in gone.chunks(most) {
                let (keys, source, table) = (keys.to_vec(), source.clone(), name.clone());
                let command = Withdraw::<R> { keys, source, table };
                report.deleted += executed(app.execute(command).await)?;
            }
            progress(&report);
        }
        Ok(report)
    }
}

/// Reads the table into batches, on a thread of its own.
fn read<R: Record>(
    table: &mut dyn RowSource,
    reader: &mut RowReader<R>,
    most: usize,
    batches: &mpsc::Sender<Batch<R>>,
) -> Result<(), ImportError> {
    let (mut batch, mut number, mut bytes) = (Vec::with_capacity(most), 0, 0);
    let send = |batch: &mut Batch<R>| {
        let full = std::mem::replace(batch, Vec::with_capacity(most));
        batches.blocking_send(full).map_err(|_| ImportError::Stopped)
    };
    let ended = table.read(&mut |cells| {
        number += 1;
        let row = reader.row(cells);
        bytes += row.as_ref().map_or(0, |row| row.bytes);
        batch.push((number, row));
        match batch.len() == most || bytes >= BATCH_BYTES {
            true => {
                bytes = 0;
                send(&mut batch)
            }
            false => Ok(()),
        }
    });
    if !batch.is_empty() {
        send(&mut batch)?;
    }
    ended
}

/// The largest number of rows of a batch. The filter of its command has an item for each row and
/// each unique value, and each item has all types of the record.
fn most_rows<R: Record>(limits: &Limits) -> usize {
    let unique = R::FIELDS.iter().filter(|field| field.unique.is_some()).count();
    let terms = RecordEvent::<R>::types().len() + 1;
    let items = limits.filter_items.min(limits.filter_terms / terms);
    (items.saturating_sub(SPARE_ITEMS) / (1 + unique)).max(1)
}

async fn import<R: Record>(
    app: &App,
    mut command: ImportRows<R>,
    batch: Batch<R>,
    seen: &mut BTreeSet<R::Key>,
    report: &mut ImportReport,
) -> Result<(), ImportError> {
    let mut numbers = Vec::with_capacity(batch.len());
    for (number, row) in batch {
        report.read += 1;
        match row {
            Err(reason) => report.refuse(number, None, reason),
            Ok(row) if seen.insert(row.key.clone()) => {
                numbers.push((number, row.key.to_string()));
                command.rows.push(row);
            }
            Ok(row) => {
                report.refuse_twice(number, R::KEY_FIELD, row.key.to_string());
            }
        }
    }
    if command.rows.is_empty() {
        return Ok(());
    }
    let outcomes = command.outcomes.clone();
    executed(app.execute(command).await)?;
    let outcomes = std::mem::take(&mut *outcomes.lock().unwrap_or_else(PoisonError::into_inner));
    for (outcome, (number, key)) in outcomes.into_iter().zip(numbers) {
        match outcome {
            Outcome::Created => report.created += 1,
            Outcome::Changed => report.changed += 1,
            Outcome::Unchanged => report.unchanged += 1,
            Outcome::Refused(reason) => report.refuse(number, Some(key), reason),
        }
    }
    Ok(())
}

/// The number of events that were stored.
fn executed(
    result: Result<diptych::Receipt, ExecuteError<crate::refusal::Refusal>>,
) -> Result<u64, ImportError> {
    match result {
        Ok(receipt) => Ok(receipt.events()),
        Err(ExecuteError::Failed(error)) => Err(error.into()),
        // These commands refuse rows one by one, unless one is no JSON.
        Err(ExecuteError::Rejected(refusal)) => {
            Err(ImportError::Export { problem: refusal.to_string() })
        }
    }
}

/// The keys of rows that are not among these.
struct KeysWithout<R: Record>(Arc<BTreeSet<R::Key>>);

impl<R: Record> Query for KeysWithout<R> {
    type View = RecordView<R>;
    type Answer = Vec<R::Key>;

    fn answer(&self, view: &RecordView<R>) -> Vec<R::Key> {
        let keys = view.iter().map(|entry| entry.row.key());
        keys.filter(|key| !self.0.contains(key)).collect()
    }
}
