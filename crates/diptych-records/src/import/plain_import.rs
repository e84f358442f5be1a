//! Imports of records without their type.

use std::{collections::BTreeSet, thread};

use diptych::store::{Append, AppendCondition, AppendError, Filter, RawEvent, Refusal, Store, Tag};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    error::ImportError,
    plain::{PlainRecord, TableRow},
    plain_keys::PlainKeys,
    plain_rows::PlainRows,
    run::ImportReport,
    source::RowSource,
    verdict::{Verdict, followed, verdict},
};
use crate::{fact::Origin, row_json::difference};

/// The largest number of rows in a commit.
const COMMIT_ROWS: usize = 1_000;
/// The bytes of rows after which a commit ends.
const COMMIT_BYTES: usize = 1 << 20;
/// The bytes of payloads after which a commit ends. They also have the rows as they were before.
const PAYLOAD_BYTES: usize = 4 << 20;
/// Batches of rows that are read ahead.
const BATCHES: usize = 2;
/// How often a batch is decided again, because the record was changed meanwhile.
const TRIES: u32 = 100;
/// The bytes of an event besides its payload, at most.
const EVENT_BYTES: usize = 32 << 10;

/// Rows of a table in order, each as a row of the record or with the reason why it is none.
type TableRows = Vec<Result<TableRow, String>>;

impl PlainRecord {
    /// Imports a table, and tells the number of rows that are done. The table is read on a thread
    /// of its own, row by row. The keys of all rows are in memory, and the rows are not.
    ///
    /// # Errors
    /// [`ImportError`] if the table cannot be read or mapped, or the log refuses a batch.
    pub async fn import(
        &self,
        store: &Store,
        table: impl RowSource,
        mut progress: impl FnMut(u64),
    ) -> Result<ImportReport, ImportError> {
        let mut run = PlainRun {
            record: self,
            store,
            columns: self.columns_of(&table)?,
            source: table.name().to_owned(),
            table: table.table().to_owned(),
            keys: PlainKeys::default(),
            report: ImportReport::default(),
        };
        run.keys.follow(&self.shape, store).await?;
        let (sender, mut batches) = mpsc::channel(BATCHES);
        let most = COMMIT_ROWS.min(store.limits().commit_events);
        let record = self.clone();
        let reading = thread::spawn(move || record.batches(table, most, &sender));
        while let Some(batch) = batches.recv().await {
            run.import(batch).await?;
            progress(run.report.read);
        }
        reading.join().map_err(|_| ImportError::Stopped)??;
        if self.is_deleting && run.report.unnamed == 0 {
            run.delete().await?;
        }
        Ok(run.report)
    }

    /// Reads the table into batches.
    fn batches(
        &self,
        mut table: impl RowSource,
        most: usize,
        batches: &mpsc::Sender<TableRows>,
    ) -> Result<(), ImportError> {
        let (mut batch, mut bytes) = (TableRows::new(), 0);
        let send = |batch: &mut TableRows| {
            batches.blocking_send(std::mem::take(batch)).map_err(|_| ImportError::Stopped)
        };
        let ended = self.each_row(&mut table, &mut |row| {
            bytes += row.as_ref().map_or(0, |row| row.bytes);
            batch.push(row);
            match batch.len() == most || bytes >= COMMIT_BYTES {
                true => {
                    bytes = 0;
                    send(&mut batch)
                }
                false => Ok(()),
            }
        });
        // The rows before an error are imported.
        if !batch.is_empty() {
            send(&mut batch)?;
        }
        ended
    }
}

/// An import that runs.
struct PlainRun<'a> {
    record: &'a PlainRecord,
    store: &'a Store,
    /// The fields that the table gives.
    columns: BTreeSet<String>,
    source: String,
    table: String,
    keys: PlainKeys,
    report: ImportReport,
}

/// The events of a commit, and its counts.
#[derive(Default)]
struct Decisions {
    rows: usize,
    events: Vec<RawEvent>,
    bytes: usize,
    created: u64,
    changed: u64,
    unchanged: u64,
    refused: Vec<(u64, String, String)>,
}

impl PlainRun<'_> {
    async fn import(&mut self, batch: TableRows) -> Result<(), ImportError> {
        let mut rows = Vec::with_capacity(batch.len());
        for row in batch {
            self.report.read += 1;
            let number = self.report.read;
            match row {
                Err(reason) => self.report.refuse(number, None, reason),
                Ok(row) if self.keys.see(&row.key) => rows.push((number, row)),
                Ok(row) => self.report.refuse_twice(number, &self.record.shape.key, row.key),
            }
        }
        let (mut rest, mut tries) = (rows.as_slice(), 1);
        while !rest.is_empty() {
            let decided = self.decide_all(rest).await?;
            if !self.append(&decided.events, tries).await? {
                tries += 1;
                continue;
            }
            tries = 1;
            rest = rest.get(decided.rows..).unwrap_or_default();
            self.report.created += decided.created;
            self.report.changed += decided.changed;
            self.report.unchanged += decided.unchanged;
            for (number, key, reason) in decided.refused {
                self.report.refuse(number, Some(key), reason);
            }
        }
        Ok(())
    }

    async fn decide_all(&mut self, rows: &[(u64, TableRow)]) -> Result<Decisions, ImportError> {
        let is_needed = |row: &&TableRow| {
            self.keys.is_known(&row.key) && !self.keys.came(&row.key, &row.digest)
        };
        let needed: Vec<_> = rows.iter().map(|(_, row)| row).filter(is_needed).collect();
        let needed: Vec<_> = needed.into_iter().map(|row| row.key.as_str()).collect();
        let shape = &self.record.shape;
        let here = PlainRows::of_keys(shape, self.store, &needed, self.keys.upto).await?;
        let mut decided = Decisions::default();
        for (number, row) in rows {
            if decided.bytes >= PAYLOAD_BYTES {
                break;
            }
            decided.rows += 1;
            if let Err(reason) = self.decide(row, &here, &mut decided) {
                decided.refused.push((*number, row.key.clone(), reason));
            }
        }
        Ok(decided)
    }

    /// Decides one row.
    ///
    /// # Errors
    /// The reason for which the row stays as it is.
    fn decide(
        &mut self,
        row: &TableRow,
        here: &PlainRows,
        decided: &mut Decisions,
    ) -> Result<(), String> {
        if self.keys.came(&row.key, &row.digest) {
            decided.unchanged += 1;
            return Ok(());
        }
        let traced = here.rows.get(&row.key);
        let known = traced.and_then(|traced| traced.origin.as_ref());
        let before = traced.and_then(|traced| traced.row.as_ref());
        let after = followed(before, self.columns.iter().map(String::as_str), &row.fields);
        let origin = Origin {
            source: self.source.clone(),
            table: self.table.clone(),
            digest: row.digest.clone(),
        };
        if verdict(before, known, &after, &origin)? == Verdict::Keep {
            decided.unchanged += 1;
            return Ok(());
        }
        let shape = &self.record.shape;
        let unique: Vec<_> = shape.unique_values(&after).collect();
        if let Some((field, _)) = unique.iter().find(|(_, tag)| self.keys.is_taken(&row.key, tag)) {
            return Err(format!("another row has this {field}: change either"));
        }
        let (old, new, event) = match before {
            None => {
                let payload = json!({ "row": after, "origin": origin });
                let tags = unique.into_iter().map(|(_, tag)| tag).collect();
                let event = self.raw("imported", &row.key, &payload, tags)?;
                decided.created += 1;
                (None, after, event)
            }
            Some(before) => {
                let (old, new) = difference(before, &after);
                let both = [&old, &new].into_iter().flat_map(|side| shape.unique_tags(side));
                let (key, tags) = (after.get(&shape.key), both.collect());
                let payload = json!({ "key": key, "old": old, "new": new, "origin": origin });
                let event = self.raw("changed", &row.key, &payload, tags)?;
                decided.changed += 1;
                (Some(old), new, event)
            }
        };
        decided.bytes += event.payload.len();
        decided.events.push(event);
        self.keys.put(shape, &row.key, (&old.unwrap_or_default(), &new), Some(&origin));
        Ok(())
    }

    /// The event with this payload.
    ///
    /// # Errors
    /// The reason for which the log does not take it.
    fn raw(
        &self,
        what: &str,
        key: &str,
        payload: &Value,
        tags: Vec<Tag>,
    ) -> Result<RawEvent, String> {
        let shape = &self.record.shape;
        let (json, most) = (payload.to_string(), self.store.limits().event_bytes);
        if json.len() + EVENT_BYTES > most {
            let bytes = json.len();
            return Err(format!(
                "its event would have {bytes} bytes, and an event of this log has {most} at most: \
                 skip large columns"
            ));
        }
        let event = RawEvent::new(shape.event(what), json.into_bytes());
        let event = event.version(1).tag(Tag::new(&shape.name, key));
        Ok(tags.into_iter().fold(event, RawEvent::tag))
    }

    /// Stores the events of a batch, unless the record was changed meanwhile. Then the keys are
    /// read again.
    async fn append(&mut self, events: &[RawEvent], tries: u32) -> Result<bool, ImportError> {
        if events.is_empty() {
            return Ok(true);
        }
        let shape = &self.record.shape;
        let names = ["created", "changed", "deleted", "imported"].map(|what| shape.event(what));
        let condition = AppendCondition { fail_if: Filter::types(names), after: self.keys.upto };
        let append = Append::events(events.to_vec()).condition(condition);
        match self.store.append(append).await {
            Ok(commit) => {
                self.keys.upto = commit.synced().await.map_err(AppendError::from)?.last;
                Ok(true)
            }
            Err(AppendError::Refused(Refusal::Conflict { .. })) if tries < TRIES => {
                self.keys.again(shape, self.store).await?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the rows here that came from the table and are no longer in it.
    async fn delete(&mut self) -> Result<(), ImportError> {
        let most = COMMIT_ROWS.min(self.store.limits().commit_events);
        let mut tries = 1;
        loop {
            let missing = self.keys.missing(&self.source, &self.table);
            let mut is_stored = true;
            for keys in missing.chunks(most) {
                is_stored = self.delete_some(keys, tries).await?;
                if !is_stored {
                    break;
                }
            }
            if is_stored {
                return Ok(());
            }
            tries += 1;
        }
    }

    async fn delete_some(&mut self, keys: &[Box<str>], tries: u32) -> Result<bool, ImportError> {
        let shape = &self.record.shape;
        let names: Vec<_> = keys.iter().map(|key| &**key).collect();
        let here = PlainRows::of_keys(shape, self.store, &names, self.keys.upto).await?;
        let (mut events, mut gone, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut rows = here.rows.into_iter().peekable();
        while let Some((key, row)) = rows.next() {
            if let Some(fields) = row.row {
                let key_value = fields.get(&shape.key);
                let payload = json!({ "key": key_value, "old": fields, "origin": row.origin });
                let event = self.raw("deleted", &key, &payload, shape.unique_tags(&fields));
                let event = event.map_err(|problem| ImportError::Plain {
                    record: shape.name.clone(),
                    problem: format!("row {key} is to be deleted, and {problem}"),
                })?;
                bytes += event.payload.len();
                events.push(event);
                gone.push((key, fields));
            }
            if bytes < PAYLOAD_BYTES && rows.peek().is_some() {
                continue;
            }
            if !self.append(&events, tries).await? {
                return Ok(false);
            }
            for (key, fields) in gone.drain(..) {
                self.keys.remove(shape, &key, &fields, true);
                self.report.deleted += 1;
            }
            events.clear();
            bytes = 0;
        }
        Ok(true)
    }
}
