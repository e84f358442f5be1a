//! The inline projections of a store.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::task::spawn_blocking;
use tokio_postgres::Client;

use super::{InlineRows, RowsBatch, RowsError};

/// The inline projections that a store writes.
#[derive(Default)]
pub(crate) struct InlineSet {
    rows: Vec<Mutex<Box<dyn InlineRows>>>,
    entries: Vec<RowsEntry>,
    /// Whether some are not named any more, as far as a log line told it.
    has_ended: AtomicBool,
}

/// How the row of a log names an inline projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowsEntry {
    pub(crate) name: String,
    pub(crate) version: u32,
}

impl RowsEntry {
    pub(crate) fn text(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// The version under which one of these texts names this projection.
    pub(crate) fn version_in(&self, named: &[String]) -> Option<u32> {
        let of = |text: &String| {
            let (name, version) = text.rsplit_once('@')?;
            (name == self.name).then(|| version.parse().unwrap_or(u32::MAX))
        };
        named.iter().find_map(of)
    }
}

impl fmt::Debug for InlineSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.entries).finish()
    }
}

impl InlineSet {
    pub(crate) fn new(rows: Vec<Box<dyn InlineRows>>) -> InlineSet {
        let entries =
            rows.iter().map(|rows| RowsEntry { name: rows.name(), version: rows.version() });
        let entries = entries.collect();
        let rows = rows.into_iter().map(Mutex::new).collect();
        InlineSet { rows, entries, has_ended: AtomicBool::new(false) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn entries(&self) -> &[RowsEntry] {
        &self.entries
    }

    /// The name that two of them share, or that no row of a log can have.
    pub(crate) fn misnamed(&self) -> Option<&str> {
        let names = || self.entries.iter().map(|entry| entry.name.as_str());
        let is_twice = |name: &str| names().filter(|other| *other == name).count() > 1;
        names().find(|name| name.is_empty() || name.contains('\0') || is_twice(name))
    }

    /// Begins a transaction that writes all of them, as a statement without parameters.
    pub(crate) fn begin(&self) -> String {
        let mut list = String::from("{");
        for entry in &self.entries {
            let text = entry.text().replace('\\', "\\\\").replace('"', "\\\"");
            let comma = if list.len() > 1 { "," } else { "" };
            list.push_str(&format!("{comma}\"{text}\""));
        }
        list.push('}');
        let literal = list.replace('\\', "\\\\").replace('\'', "''");
        format!("begin; set local diptych.inline = E'{literal}'")
    }

    /// Works with one of them on a thread where blocking is allowed.
    pub(crate) async fn on_thread<T: Send + 'static>(
        self: &Arc<Self>,
        at: usize,
        work: impl FnOnce(&mut dyn InlineRows) -> Result<T, RowsError> + Send + 'static,
    ) -> Result<T, RowsError> {
        let set = self.clone();
        let done = spawn_blocking(move || match set.rows.get(at) {
            Some(rows) => work(&mut **rows.lock()),
            None => Err(RowsError::Broken { reason: "it is not there".to_owned() }),
        });
        done.await.unwrap_or_else(|error| Err(RowsError::Broken { reason: error.to_string() }))
    }

    /// Writes the rows of all projections that the row of the log names. The error has the name of
    /// the projection.
    pub(crate) async fn write(
        self: &Arc<Self>,
        client: &Arc<Client>,
        named: &[String],
        batch: RowsBatch,
    ) -> Result<(), (String, RowsError)> {
        let is_named = |at: &usize| {
            let entry = self.entries.get(*at);
            entry.is_some_and(|entry| entry.version_in(named) == Some(entry.version))
        };
        let wanted: Vec<usize> = (0..self.rows.len()).filter(is_named).collect();
        let has_ended = wanted.len() < self.rows.len();
        if self.has_ended.swap(has_ended, Ordering::Relaxed) != has_ended {
            tracing::warn!(
                inline = ?named,
                writes = ?self.entries,
                "the inline projections that the log has changed: others are not written"
            );
        }
        let (set, client) = (self.clone(), client.clone());
        let done = spawn_blocking(move || {
            for at in wanted {
                let (Some(rows), Some(entry)) = (set.rows.get(at), set.entries.get(at)) else {
                    continue;
                };
                let written = rows.lock().write(&client, &batch);
                written.map_err(|error| (entry.name.clone(), error))?;
            }
            Ok(())
        });
        // It ends without an answer only if it panics, or if the runtime of the store ends.
        let failed = |error: tokio::task::JoinError| {
            Err(("of the store".to_owned(), RowsError::Broken { reason: error.to_string() }))
        };
        done.await.unwrap_or_else(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_of_a_log_names_a_projection_with_its_version() {
        let entry = RowsEntry { name: "shop.sales@v1".to_owned(), version: 7 };
        let named = ["shop.sales@3".to_owned(), "shop.sales@v1@12".to_owned()];
        assert_eq!(entry.version_in(&named), Some(12));
        assert_eq!(entry.version_in(&[entry.text()]), Some(7));
        assert_eq!(entry.version_in(&[]), None);
    }

    #[test]
    fn names_cannot_end_the_setting_early() {
        let entries = vec![RowsEntry { name: "a'b\\c\"d".to_owned(), version: 1 }];
        let set = InlineSet { entries, ..InlineSet::default() };
        let expected = r#"begin; set local diptych.inline = E'{"a''b\\\\c\\"d@1"}'"#;
        assert_eq!(set.begin(), expected);
    }
}
