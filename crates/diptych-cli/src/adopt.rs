//! `diptych adopt`: takes a folder as a log where it is now.

use std::io::{self, Write};

use diptych_log::{AdoptReport, Adoption, LogOptions, adopt};
use serde::Serialize;

use crate::{
    args::{AdoptArgs, Folder},
    exit::Failure,
    folder,
    ndjson::write_json,
    table::count,
};

pub(crate) fn run(args: &AdoptArgs) -> Result<(), Failure> {
    let Folder { dir, wait } = &args.folder;
    folder::must_exist(&args.folder)?;
    let adoption = args.adoption();
    let options = LogOptions::default();
    let done = folder::when_free(wait.duration(), || adopt(dir, adoption, &options))?;
    let mut out = io::stdout().lock();
    if args.json {
        return Ok(write_json(&AdoptOutput::of(adoption, &done), &mut out)?);
    }
    let AdoptReport { identity, upto, .. } = done;
    let position = count(upto.get());
    let line = match adoption {
        Adoption::Moved => format!("the log {identity} goes on here"),
        Adoption::Copy => format!("a log of its own from position {position} on: {identity}"),
        Adoption::Replica => format!("a replica of {identity}: it takes no commits"),
    };
    Ok(writeln!(out, "{line}")?)
}

/// The report as the JSON output has it.
#[derive(Serialize)]
struct AdoptOutput {
    adopted: &'static str,
    log: String,
    epoch: String,
    upto: u64,
}

impl AdoptOutput {
    fn of(adoption: Adoption, done: &AdoptReport) -> AdoptOutput {
        let adopted = match adoption {
            Adoption::Moved => "moved",
            Adoption::Copy => "copy",
            Adoption::Replica => "replica",
        };
        let (log, epoch) = (done.identity.id.to_string(), done.identity.epoch.to_string());
        AdoptOutput { adopted, log, epoch, upto: done.upto.get() }
    }
}
