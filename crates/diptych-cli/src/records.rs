//! `diptych import`, `diptych compare` and `diptych export`: tables of other systems, and rows of
//! records whose types this program does not have.

use std::io::{self, ErrorKind, Write};

use diptych_log::LogOptions;
use diptych_records::{ColumnArgs, ImportError, PlainRecord, RecordOutcome};
use diptych_store::Store;

use crate::{
    address::LogAddress,
    args::{CompareTableArgs, ExportTableArgs, Folder, ImportTableArgs, RecordArgs},
    exit::{Exit, Failure},
    folder,
    ndjson::write_json,
    progress::Progress,
    remote,
};

pub(crate) fn import(args: &ImportTableArgs) -> Result<(), Failure> {
    // Before the log is made.
    let table = args.import.table.open()?;
    let mut record = plain(&args.record, &args.import.columns, &args.text_column);
    for field in &args.unique {
        record = record.unique(field);
    }
    if args.import.delete_missing {
        record = record.delete_missing();
    }
    let run = |log: &Store| {
        let progress = Progress::of_rows();
        let show = |done| progress.rows(done);
        Ok(pollster::block_on(record.import(log, table, show))?)
    };
    let report = match &args.place.address {
        LogAddress::Folder(dir) => {
            let folder = Folder { dir: dir.clone(), wait: args.place.wait };
            folder::with_log(&folder, &LogOptions::default(), |log| run(&Store::new(log.clone())))?
        }
        LogAddress::Remote(address) => run(&remote::connect(address, args.place.wait)?)?,
    };
    tell(
        &RecordOutcome::Imported(report),
        args.import.json,
        "rows were refused: change them, or the rows here, and import the table again",
    )
}

pub(crate) fn compare(args: &CompareTableArgs) -> Result<(), Failure> {
    let mut table = args.compare.table.open()?;
    let record = plain(&args.record, &args.compare.columns, &args.text_column);
    let log = remote::open_to_read(&args.place)?;
    let progress = Progress::of_events(0);
    let show = |done, all| progress.items(done, all);
    let comparison = pollster::block_on(record.compare(&log, &mut table, show))?;
    drop(progress);
    tell(
        &comparison.into(),
        args.compare.json,
        "rows differ: import the table again, or change either side",
    )
}

pub(crate) fn export(args: &ExportTableArgs) -> Result<(), Failure> {
    args.export.format()?;
    let record = PlainRecord::new(&args.record.record, &args.record.key);
    let log = remote::open_to_read(&args.place)?;
    let progress = Progress::of_events(0);
    let show = |done, all| progress.items(done, all);
    let export = pollster::block_on(record.export(&log, show))?;
    drop(progress);
    tell(&args.export.write(export)?, args.export.json, "")
}

fn plain(record: &RecordArgs, columns: &ColumnArgs, texts: &[String]) -> PlainRecord {
    let mut plain = PlainRecord::new(&record.record, &record.key);
    plain = plain.key_columns(columns.key_columns.clone());
    for (column, field) in &columns.rename {
        plain = plain.rename(column, field);
    }
    for column in &columns.skip {
        plain = plain.skip(column);
    }
    texts.iter().fold(plain, PlainRecord::text_column)
}

/// Prints the outcome. If rows were refused or differ, the command fails with this message.
fn tell(outcome: &RecordOutcome, is_json: bool, unclean: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match is_json {
        true => write_json(outcome, &mut out)?,
        false => write!(out, "{outcome}")?,
    }
    match outcome.is_clean() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Refused, unclean)),
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Failure {
        let exit = match error {
            ImportError::Append(error) => return (*error).into(),
            ImportError::Read(error) => return (*error).into(),
            ImportError::File { ref source, .. } => match source.kind() {
                ErrorKind::NotFound
                | ErrorKind::AlreadyExists
                | ErrorKind::PermissionDenied
                | ErrorKind::IsADirectory => Exit::Input,
                _ => Exit::Failed,
            },
            ImportError::Format { .. }
            | ImportError::Row { .. }
            | ImportError::Mapping { .. }
            | ImportError::Sqlite { .. }
            | ImportError::Database { .. }
            | ImportError::Nulls { .. }
            | ImportError::Plain { .. } => Exit::Input,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}
