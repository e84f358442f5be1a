//! `diptych restore`: makes a log from a backup. Events can be appended to that log.

use std::io::{self, Write};

use diptych_log::{LogOptions, RestoreReport, restore};
use indicatif::BinaryBytes;
use serde::Serialize;

use crate::{
    args::{Folder, RestoreArgs},
    backup::failure,
    exit::Failure,
    folder,
    ndjson::write_json,
    progress::Progress,
    table::{count, counted},
};

pub(crate) fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let Folder { dir, wait } = &args.folder;
    folder::must_exist(&Folder { dir: args.from.clone(), wait: *wait })?;
    let progress = Progress::new(Some(0));
    let done = folder::when_free(wait.duration(), || {
        restore(&args.from, dir, &LogOptions::default(), |done, total| {
            progress.bytes(done, Some(total));
        })
    });
    drop(progress);
    let done = done.map_err(|error| failure(error, "the backup is unchanged"))?;
    let mut out = io::stdout().lock();
    if args.json {
        return Ok(write_json(&RestoreOutput::from(&done), &mut out)?);
    }
    Ok(writeln!(out, "{}", as_line(&done))?)
}

fn as_line(done: &RestoreReport) -> String {
    let RestoreReport { identity, upto, copied, kept, bytes, .. } = done;
    format!(
        "restored up to position {} as {identity}: {} copied, {} kept; {} written and verified",
        count(upto.get()),
        counted(*copied, "segment"),
        count(*kept),
        BinaryBytes(*bytes)
    )
}

/// The report as the JSON output has it.
#[derive(Serialize)]
struct RestoreOutput {
    log: String,
    epoch: String,
    epoch_of_backup: String,
    upto: u64,
    copied: u64,
    kept: u64,
    bytes: u64,
}

impl From<&RestoreReport> for RestoreOutput {
    fn from(done: &RestoreReport) -> RestoreOutput {
        RestoreOutput {
            log: done.identity.id.to_string(),
            epoch: done.identity.epoch.to_string(),
            epoch_of_backup: done.backup.epoch.to_string(),
            upto: done.upto.get(),
            copied: done.copied,
            kept: done.kept,
            bytes: done.bytes,
        }
    }
}
