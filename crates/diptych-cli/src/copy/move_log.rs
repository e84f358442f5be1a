//! `diptych copy --move`: moves a log from one folder to another, with its identity.
//!
//! The steps, and what holds if the command is killed after a step:
//!
//! 1. The target becomes a log with the identity of the source, and takes the commits of the move
//!    alone. The source takes commits as before.
//! 2. All commits are copied beside the program that holds the source.
//! 3. The source is fenced. From now on neither folder takes commits of users.
//! 4. The rest is copied, and both logs are compared.
//! 5. The target takes commits.
//!
//! Each step is durable before the next one, and the next run continues after the last one.

use std::{
    fs,
    io::{self, Write},
    path::{self, Path, PathBuf},
};

use diptych_log::{Access, Arrival, Fence, LogOptions, MoveTarget, ReadOnlyLog, fence, fenced};
use diptych_store::{LogIdentity, Store, TimeSource};
use pollster::block_on;
use serde::Serialize;

use crate::{
    address::{LogAddress, RemoteLog},
    args::{CopyArgs, Folder},
    copy::{
        commits::{CopyPass, CopyReport},
        must_be_equal, tell,
    },
    exit::{Exit, Failure},
    folder,
    ndjson::write_json,
    progress::Progress,
    table::count,
};

pub(crate) fn run(args: &CopyArgs) -> Result<(), Failure> {
    let (from, to) = (folder_of(&args.from, "FROM")?, folder_of(&args.to, "TO")?);
    let source = folder::open_to_read(&Folder { dir: from.to_owned(), wait: args.wait })?;
    let identity = Store::new(source.clone()).identity();
    let (from, to) = (canonical(from)?, place_of(to)?);
    if to.starts_with(&from) {
        return Err(Failure::input(format!(
            "{} is {} or lies in it: give another folder for the log",
            to.display(),
            from.display()
        )));
    }
    let options =
        LogOptions { access: Access::Append, time: TimeSource::Caller, ..LogOptions::default() };
    // Before anything is written: the source may be unable to move.
    let before = fenced(&from, identity, &to, &options)?;
    let wait = args.wait.duration();
    let target = folder::when_free(wait, || Arrival::begin(&to, identity, &from, &options))?;
    let arrival = match (target, before) {
        (MoveTarget::Incomplete(arrival), _) => arrival,
        (MoveTarget::Complete, Some(fence)) => return moved_before(args, &to, &fence),
        (MoveTarget::Complete, None) => {
            return Err(Failure::input(format!(
                "{} and {} both take commits as {identity}: one of them is a copy; make it a log \
                 of its own with `diptych adopt --copy`",
                from.display(),
                to.display()
            )));
        }
    };
    let moved = Move { args, identity, from: &from, to: &to, options }.run(source, &arrival);
    match moved {
        Ok((fence, report)) => {
            arrival.complete(&fence)?;
            tell(args, identity, identity, &report)
        }
        Err(failure) => {
            // The error of the move takes precedence.
            drop(arrival.interrupt());
            Err(failure)
        }
    }
}

/// A move between two folders that has not ended.
struct Move<'a> {
    args: &'a CopyArgs,
    identity: LogIdentity,
    from: &'a Path,
    to: &'a Path,
    options: LogOptions,
}

impl Move<'_> {
    /// Everything up to the last step, which opens the target for commits.
    fn run(&self, source: ReadOnlyLog, arrival: &Arrival) -> Result<(Fence, CopyReport), Failure> {
        let progress = Progress::of_events(0);
        let show = |work, done, total| progress.events_of(work, done, total);
        let target = Store::new(arrival.log().clone());
        let before = CopyPass::begin(&Store::new(source), &target)?.copy(show)?;
        let Move { args, identity, from, to, options } = self;
        let fence = folder::when_free(args.wait.duration(), || fence(from, *identity, to, options));
        let fence = fence.map_err(|error| {
            Failure::from(error).and(
                "the source is not fenced, and goes on as before: end the program that holds it, \
                 then run this command again, which copies only the rest",
            )
        })?;
        let source =
            Store::new(folder::open_to_read(&Folder { dir: from.to_path_buf(), wait: args.wait })?);
        let rest = CopyPass::begin(&source, &target)?.run(show)?;
        let report = rest.with(&before);
        must_be_equal(
            &report,
            "the target differs from the source, and neither takes commits: verify the source, \
             remove the target, then run this command again",
        )?;
        Ok((fence, report))
    }
}

/// Reports a move that an earlier run finished.
fn moved_before(args: &CopyArgs, to: &Path, fence: &Fence) -> Result<(), Failure> {
    let target = folder::open_to_read(&Folder { dir: to.to_owned(), wait: args.wait })?;
    let head = block_on(Store::new(target).fresh_head())?;
    let upto = fence.upto();
    if head < upto {
        return Err(Failure::new(
            Exit::Damage,
            format!(
                "{} ends at position {head}, and the log had {upto} when it moved: verify the log",
                to.display()
            ),
        ));
    }
    let mut out = io::stdout().lock();
    if args.json {
        let identity = fence.identity();
        let (log, epoch) = (identity.id.to_string(), identity.epoch.to_string());
        let output = MovedBeforeOutput { moved_before: true, log, epoch, upto: upto.get() };
        return Ok(write_json(&output, &mut out)?);
    }
    let (to, upto) = (to.display(), count(upto.get()));
    Ok(writeln!(
        out,
        "the log moved to {to} before, up to position {upto}, and takes commits there"
    )?)
}

/// The report of a move that was complete before, as the JSON output has it.
#[derive(Serialize)]
struct MovedBeforeOutput {
    moved_before: bool,
    log: String,
    epoch: String,
    upto: u64,
}

/// Only folders move: a server holds a log of its own, with an identity that it cannot give up.
fn folder_of<'a>(address: &'a LogAddress, name: &str) -> Result<&'a Path, Failure> {
    match address {
        LogAddress::Folder(dir) => Ok(dir),
        LogAddress::Remote(RemoteLog::Database(_)) => Err(Failure::input(format!(
            "{name} is the database {address}, and --move works on folders: copy the log, and keep \
             programs from writing to the old one"
        ))),
        LogAddress::Remote(RemoteLog::Server(_)) => Err(Failure::input(format!(
            "{name} is the server {address}, and --move works on folders, because a server keeps \
             the log that it has: end the server, run the command on its machine with its folder, \
             then serve the new folder"
        ))),
    }
}

fn canonical(dir: &Path) -> Result<PathBuf, Failure> {
    fs::canonicalize(dir).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot find {}: {error}", dir.display()))
    })
}

/// The place of a folder that may be missing. The move notes it in the source.
fn place_of(dir: &Path) -> Result<PathBuf, Failure> {
    let whole = path::absolute(dir)
        .map_err(|error| Failure::input(format!("cannot use {}: {error}", dir.display())))?;
    let there = whole.ancestors().find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
    let Some((above, there)) = there else { return Ok(whole) };
    match whole.strip_prefix(above) {
        Ok(missing) if missing.as_os_str().is_empty() => Ok(there),
        Ok(missing) => Ok(there.join(missing)),
        Err(_) => Ok(whole),
    }
}
