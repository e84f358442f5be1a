//! `diptych archive`: moves complete segments of a log to another folder, from which they are read
//! as before, and brings them back.

use std::io::{self, Write};

use diptych_log::{
    Access, ArchiveError, ArchiveReport, Background, Clustering, Log, LogOptions,
    bring_back_archive, relocate_archive,
};
use indicatif::BinaryBytes;
use serde::Serialize;

use crate::{
    args::{ArchiveArgs, Folder},
    exit::{Exit, Failure},
    folder::{self, MaybeHeld},
    ndjson::write_json,
    progress::Progress,
    table::{count, counted},
};

pub(crate) fn run(args: &ArchiveArgs) -> Result<(), Failure> {
    let Folder { dir, wait } = &args.folder;
    let options = LogOptions {
        access: Access::Append,
        background: Background::Inline,
        clustering: Clustering::Off,
        ..LogOptions::default()
    };
    folder::must_exist(&args.folder)?;
    let done = match &args.relocated {
        None if args.back => {
            let back = || {
                let progress = Progress::new(Some(0));
                let done = bring_back_archive(dir, &options, |done, total| {
                    progress.bytes(done, Some(total));
                });
                drop(progress);
                done
            };
            folder::when_free(wait.duration(), back).map_err(failure)?
        }
        Some(to) => folder::when_free(wait.duration(), || relocate_archive(dir, to, &options))
            .map_err(failure)?,
        None => {
            let open = || Log::open(dir, options.clone()).map_err(ArchiveError::from);
            let log = folder::when_free(wait.duration(), open).map_err(failure)?;
            let done = archive(&log, args);
            // An error of the archiving takes precedence over an error of the close.
            let closed = log.close();
            let done = done?;
            closed?;
            done
        }
    };
    let mut out = io::stdout().lock();
    if args.json {
        return Ok(write_json(&ArchiveOutput::from(&done), &mut out)?);
    }
    let line = if args.back { back_as_line(&done) } else { as_line(&done) };
    Ok(writeln!(out, "{line}")?)
}

fn archive(log: &Log, args: &ArchiveArgs) -> Result<ArchiveReport, Failure> {
    let progress = Progress::new(Some(0));
    let to = args.to.clone().unwrap_or_default();
    let done = log.archive(to, args.limit(), |done, total| progress.bytes(done, Some(total)));
    drop(progress);
    done.map_err(failure)
}

fn as_line(done: &ArchiveReport) -> String {
    let ArchiveReport { folder, moved, bytes, archived, upto, .. } = done;
    format!(
        "{} moved ({}); {}, up to position {}, in the archive {}",
        counted(*moved, "segment"),
        BinaryBytes(*bytes),
        counted(*archived, "segment"),
        count(upto.get()),
        folder.display()
    )
}

fn back_as_line(done: &ArchiveReport) -> String {
    let ArchiveReport { folder, moved, bytes, .. } = done;
    format!(
        "{} brought back ({}) from {}; the log has no archive now",
        counted(*moved, "segment"),
        BinaryBytes(*bytes),
        folder.display()
    )
}

/// The report as the JSON output has it.
#[derive(Serialize)]
struct ArchiveOutput {
    log: String,
    epoch: String,
    archive: String,
    moved: u64,
    bytes: u64,
    archived: u64,
    upto: u64,
}

impl From<&ArchiveReport> for ArchiveOutput {
    fn from(done: &ArchiveReport) -> ArchiveOutput {
        ArchiveOutput {
            log: done.identity.id.to_string(),
            epoch: done.identity.epoch.to_string(),
            archive: done.folder.display().to_string(),
            moved: done.moved,
            bytes: done.bytes,
            archived: done.archived,
            upto: done.upto.get(),
        }
    }
}

impl MaybeHeld for ArchiveError {
    fn is_held(&self) -> bool {
        matches!(self, ArchiveError::Open(error) if error.is_held())
    }
}

fn failure(error: ArchiveError) -> Failure {
    let is_held = error.is_held();
    let failure = match error {
        ArchiveError::Open(error) => error.into(),
        ArchiveError::Damaged(_) => Failure::new(Exit::Damage, error.to_string()),
        ArchiveError::Target { .. } => Failure::input(error.to_string()),
        other => Failure::new(Exit::Failed, other.to_string()),
    };
    match is_held {
        true => failure.and("a program that has the log open archives it with `Log::archive`"),
        false => failure,
    }
}
