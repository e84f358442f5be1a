//! `diptych copy`: copies whole commits from one log to another, and compares the digests of both.

mod commits;
mod digest;
mod move_log;
mod origin;

use std::{io, path::Path};

use diptych_log::{Access, Log, LogOptions};
use diptych_store::{LogIdentity, Store, TimeSource};
use serde::Serialize;

use crate::{
    address::LogAddress,
    args::{CopyArgs, LogPlace},
    copy::commits::{CopyPass, CopyReport},
    exit::{Exit, Failure},
    folder,
    ndjson::write_json,
    progress::Progress,
    remote,
    table::{count, counted, facts},
};

pub(crate) fn run(args: &CopyArgs) -> Result<(), Failure> {
    if args.moves {
        return move_log::run(args);
    }
    let from = LogPlace { address: args.from.clone(), wait: args.wait };
    let from = remote::open_to_read(&from)?;
    let progress = Progress::of_events(0);
    let show = |work, done, total| progress.events_of(work, done, total);
    let (report, to) = match &args.to {
        LogAddress::Folder(dir) => into_folder(args, &from, dir, show)?,
        LogAddress::Remote(address) => {
            let to = remote::connect_to_copy(address, args.wait)?;
            check_logs(from.identity(), to.identity())?;
            (CopyPass::begin(&from, &to)?.run(show)?, to.identity())
        }
    };
    drop(progress);
    tell(args, from.identity(), to, &report)?;
    must_be_equal(
        &report,
        "the copy differs from its source: find out which program appended to it, or verify both \
         logs; then copy into an empty place",
    )
}

fn must_be_equal(report: &CopyReport, advice: &str) -> Result<(), Failure> {
    match report.digests_are_equal() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Damage, advice)),
    }
}

fn into_folder(
    args: &CopyArgs,
    from: &Store,
    dir: &Path,
    show: impl Fn(&'static str, u64, u64),
) -> Result<(CopyReport, LogIdentity), Failure> {
    // Before anything is written: the folder may be the copy of another log.
    origin::check(dir, from.identity())?;
    let options =
        LogOptions { access: Access::Append, time: TimeSource::Caller, ..LogOptions::default() };
    let log = folder::when_free(args.wait.duration(), || Log::open(dir, options.clone()))?;
    let to = Store::new(log.clone());
    let copy = || {
        check_logs(from.identity(), to.identity())?;
        let pass = CopyPass::begin(from, &to)?;
        origin::note(dir, from.identity())?;
        pass.run(show)
    };
    let copied = copy();
    // An error of the copy takes precedence over an error of the close.
    let closed = log.close();
    let copied = copied?;
    closed?;
    Ok((copied, to.identity()))
}

fn check_logs(from: LogIdentity, to: LogIdentity) -> Result<(), Failure> {
    match from == to {
        true => Err(Failure::input(format!(
            "both addresses lead to one log, {to}: give another place for the copy"
        ))),
        false => Ok(()),
    }
}

fn tell(
    args: &CopyArgs,
    from: LogIdentity,
    to: LogIdentity,
    report: &CopyReport,
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if args.json {
        return Ok(write_json(&CopyOutput::of(from, to, report), &mut out)?);
    }
    let CopyReport { upto, events, commits, events_before, source_digest, target_digest } = report;
    let copied = format!(
        "{} in {}, up to position {}; {} before",
        counted(*events, "event"),
        counted(*commits, "commit"),
        count(upto.get()),
        counted(*events_before, "event"),
    );
    let done = if args.moves { "moved" } else { "copied" };
    facts(
        &mut out,
        &[
            (done, copied),
            ("from", from.to_string()),
            ("digest", source_digest.clone()),
            ("to", to.to_string()),
            ("digest", target_digest.clone()),
        ],
    )?;
    Ok(())
}

/// The report as the JSON output has it.
#[derive(Serialize)]
struct CopyOutput<'a> {
    from_log: String,
    from_epoch: String,
    from_digest: &'a str,
    log: String,
    epoch: String,
    digest: &'a str,
    upto: u64,
    events: u64,
    commits: u64,
    events_before: u64,
    ok: bool,
}

impl<'a> CopyOutput<'a> {
    fn of(from: LogIdentity, to: LogIdentity, report: &'a CopyReport) -> CopyOutput<'a> {
        CopyOutput {
            from_log: from.id.to_string(),
            from_epoch: from.epoch.to_string(),
            from_digest: &report.source_digest,
            log: to.id.to_string(),
            epoch: to.epoch.to_string(),
            digest: &report.target_digest,
            upto: report.upto.get(),
            events: report.events,
            commits: report.commits,
            events_before: report.events_before,
            ok: report.digests_are_equal(),
        }
    }
}
