//! `diptych backup`: backs a log up into another folder, even while another process writes to the
//! log.

use std::io::{self, Write};

use diptych_log::{BackupError, BackupOptions, BackupReport, OpenError, SealedSegments, backup};
use indicatif::BinaryBytes;
use serde::Serialize;

use crate::{
    args::BackupArgs,
    exit::{Exit, Failure},
    folder::{self, MaybeHeld},
    ndjson::write_json,
    progress::Progress,
    table::{count, counted},
};

pub(crate) fn run(args: &BackupArgs) -> Result<(), Failure> {
    folder::must_exist(&args.folder)?;
    let sealed = if args.copy { SealedSegments::Copy } else { SealedSegments::Link };
    let options = BackupOptions { sealed, ..BackupOptions::default() };
    let progress = Progress::new(Some(0));
    let done = folder::when_free(args.folder.wait.duration(), || {
        backup(&args.folder.dir, &args.to, &options, |done, total| {
            progress.bytes(done, Some(total));
        })
    });
    drop(progress);
    let done =
        done.map_err(|error| failure(error, "the earlier contents of the backup are unchanged"))?;
    let mut out = io::stdout().lock();
    if args.json {
        return Ok(write_json(&BackupOutput::from(&done), &mut out)?);
    }
    Ok(writeln!(out, "{}", as_line(&done))?)
}

fn as_line(done: &BackupReport) -> String {
    let BackupReport { identity, from, upto, linked, copied, kept, bytes, .. } = done;
    let what = match upto.get() - from.get() {
        0 => format!("nothing new up to position {}", count(upto.get())),
        _ => format!("positions {} to {}", count(from.get() + 1), count(upto.get())),
    };
    format!(
        "backed up {what} of {identity}: {} linked, {} copied, {} kept; {} written and verified",
        counted(*linked, "segment"),
        count(*copied),
        count(*kept),
        BinaryBytes(*bytes)
    )
}

/// The report as the JSON output has it.
#[derive(Serialize)]
struct BackupOutput {
    log: String,
    epoch: String,
    from: u64,
    upto: u64,
    linked: u64,
    copied: u64,
    kept: u64,
    bytes: u64,
}

impl From<&BackupReport> for BackupOutput {
    fn from(done: &BackupReport) -> BackupOutput {
        BackupOutput {
            log: done.identity.id.to_string(),
            epoch: done.identity.epoch.to_string(),
            from: done.from.get(),
            upto: done.upto.get(),
            linked: done.linked,
            copied: done.copied,
            kept: done.kept,
            bytes: done.bytes,
        }
    }
}

impl MaybeHeld for BackupError {
    fn is_held(&self) -> bool {
        matches!(self, BackupError::Open(error) if error.is_held())
    }
}

/// The failure for an error of a backup or a restore. For an I/O error it adds `stand`, the state
/// of the backup, and the advice to try again.
pub(crate) fn failure(error: BackupError, stand: &str) -> Failure {
    match error {
        BackupError::Open(error @ OpenError::Io { .. }) => {
            Failure::from(error).and(stand).and("fix the cause, then run the command again")
        }
        BackupError::Open(error) => error.into(),
        BackupError::Damaged(_) => Failure::new(Exit::Damage, error.to_string()),
        BackupError::Target { .. } => Failure::input(error.to_string()),
        other => Failure::new(Exit::Failed, other.to_string()),
    }
}
