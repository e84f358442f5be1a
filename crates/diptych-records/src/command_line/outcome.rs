//! The result of a command, as text and as JSON.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    path::Path,
    process::ExitCode,
};

use serde::Serialize;

use crate::import::{
    Comparison, DifferenceKind, Export, ImportError, ImportReport, RefusedRow, RowDifference,
};

/// The exit code if rows were refused or differ, as of the program `diptych`.
const REFUSED: u8 = 3;

/// The number of rows that a text lists. JSON has more of them.
const SHOWN_ROWS: usize = 20;

/// The result of a command about a record. It prints as text, and is an object in JSON.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum RecordOutcome {
    /// The report of an import.
    Imported(ImportReport),
    /// The result of a comparison.
    Compared {
        /// Whether both have the same rows.
        equal: bool,
        /// The numbers and the differences.
        #[serde(flatten)]
        comparison: Comparison,
    },
    /// A table that was written.
    Exported {
        /// The file.
        file: String,
        /// The table.
        table: String,
        /// The number of its rows.
        rows: u64,
        /// The statement of SQL that creates the table.
        ddl: String,
    },
}

impl From<Comparison> for RecordOutcome {
    fn from(comparison: Comparison) -> RecordOutcome {
        RecordOutcome::Compared { equal: comparison.is_equal(), comparison }
    }
}

impl RecordOutcome {
    pub(super) fn exported(file: &Path, export: &Export) -> RecordOutcome {
        RecordOutcome::Exported {
            file: file.display().to_string(),
            table: export.table().to_owned(),
            rows: export.rows() as u64,
            ddl: export.ddl(),
        }
    }

    /// Whether no row was refused, and no row differs.
    pub fn is_clean(&self) -> bool {
        match self {
            RecordOutcome::Imported(report) => report.refused == 0,
            RecordOutcome::Compared { equal, .. } => *equal,
            RecordOutcome::Exported { .. } => true,
        }
    }

    /// Prints the outcome on standard output. A reader that goes away is no error.
    pub(super) fn print(&self, is_json: bool) -> Result<ExitCode, ImportError> {
        let mut out = io::stdout().lock();
        let written = match is_json {
            true => serde_json::to_writer(&mut out, self)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(out)),
            false => write!(out, "{self}"),
        };
        match written {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(ImportError::file(Path::new("standard output"), error))
            }
            _ if self.is_clean() => Ok(ExitCode::SUCCESS),
            _ => Ok(ExitCode::from(REFUSED)),
        }
    }
}

impl fmt::Display for RecordOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordOutcome::Imported(report) => {
                let ImportReport { read, created, changed, unchanged, deleted, refused, .. } =
                    report;
                writeln!(f, "rows       {read}")?;
                writeln!(f, "created    {created}")?;
                writeln!(f, "changed    {changed}")?;
                writeln!(f, "unchanged  {unchanged}")?;
                writeln!(f, "deleted    {deleted}")?;
                writeln!(f, "refused    {refused}")?;
                refusals(f, *refused, &report.refusals)
            }
            RecordOutcome::Compared { comparison, .. } => compared(f, comparison),
            RecordOutcome::Exported { file, table, rows, .. } => {
                writeln!(f, "rows   {rows}")?;
                writeln!(f, "table  {}", printable(table))?;
                writeln!(f, "file   {}", printable(file))
            }
        }
    }
}

fn compared(f: &mut fmt::Formatter<'_>, comparison: &Comparison) -> fmt::Result {
    let Comparison { there, here, differing, refused, .. } = comparison;
    writeln!(f, "rows there  {there}")?;
    writeln!(f, "rows here   {here}")?;
    writeln!(f, "differing   {differing}")?;
    writeln!(f, "refused     {refused}")?;
    for RowDifference { key, kind } in comparison.differences.iter().take(SHOWN_ROWS) {
        let key = printable(key);
        match kind {
            DifferenceKind::MissingHere => writeln!(f, "{key}: is missing here")?,
            DifferenceKind::MissingThere => writeln!(f, "{key}: is missing there")?,
            DifferenceKind::OtherValues { fields } => {
                for (field, sides) in fields {
                    let (field, there, here) = (printable(field), &sides.there, &sides.here);
                    writeln!(f, "{key}: {field} is {there} there, and {here} here")?;
                }
            }
        }
    }
    left_out(f, *differing)?;
    refusals(f, *refused, &comparison.refusals)
}

fn refusals(f: &mut fmt::Formatter<'_>, all: u64, listed: &[RefusedRow]) -> fmt::Result {
    for RefusedRow { row, key, reason } in listed.iter().take(SHOWN_ROWS) {
        let reason = printable(reason);
        match key {
            Some(key) => writeln!(f, "row {row} with key {}: {reason}", printable(key))?,
            None => writeln!(f, "row {row}: {reason}")?,
        }
    }
    left_out(f, all)
}

fn left_out(f: &mut fmt::Formatter<'_>, all: u64) -> fmt::Result {
    match all.saturating_sub(SHOWN_ROWS as u64) {
        0 => Ok(()),
        more => writeln!(f, "… and {more} more: the output in JSON lists them"),
    }
}

/// A text on one line, without characters that move the cursor of a terminal.
fn printable(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => plain.extend(c.escape_default()),
            false => plain.push(c),
        }
    }
    plain
}
