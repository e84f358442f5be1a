//! `diptych copy --move`: moves a log to another place, with its identity. Each place is a folder
//! or a log in PostgreSQL.
//!
//! The steps, and what holds if the command is killed after a step:
//!
//! 1. The target becomes a log with the identity of the source, and takes the commits of the move
//!    alone. The source takes commits as before.
//! 2. All commits are copied beside the programs that use the source.
//! 3. The source is fenced. From now on neither place takes commits of users.
//! 4. The rest is copied, and both logs are compared.
//! 5. The target takes commits.
//!
//! Each step is durable before the next one, and the next run continues after the last one.

mod source;
mod target;

use std::io::{self, Write};

use diptych_store::{Fence, LogIdentity, Store};
use pollster::block_on;
use serde::Serialize;

use crate::{
    address::{LogAddress, RemoteLog},
    args::CopyArgs,
    copy::{
        commits::{CopyPass, CopyReport},
        must_be_equal, tell,
    },
    exit::{Exit, Failure},
    ndjson::write_json,
    progress::Progress,
    table::count,
};

use self::{
    source::MoveSource,
    target::{ArrivingLog, MoveTarget},
};

pub(crate) fn run(args: &CopyArgs) -> Result<(), Failure> {
    must_be_no_servers(args)?;
    let source = MoveSource::open(&args.from, args.wait)?;
    let target = MoveTarget::of(&args.to, args.wait)?;
    let (identity, from, to) = (source.identity(), source.place(), target.place());
    target.must_lie_outside(from)?;
    // Before anything is written: the source may be unable to move.
    let before = source.fenced(to)?;
    let arriving = match (target.begin(identity, from)?, before) {
        (Some(arriving), _) => arriving,
        (None, Some(fence)) => return moved_before(args, &target, &fence),
        (None, None) => {
            return Err(Failure::input(format!(
                "{from} and {to} both take commits as {identity}: if both addresses lead to one \
                 log, give another place; otherwise one of them is a copy, which is made a log of \
                 its own with `diptych copy`, or with `diptych adopt --copy` if it is a folder"
            )));
        }
    };
    let moved = Move { source: &source, target: &target, identity, before }.run(&arriving);
    match moved {
        Ok((fence, report)) => {
            arriving.complete(&fence)?;
            tell(args, identity, identity, &report)
        }
        Err(failure) => {
            // The error of the move takes precedence.
            drop(arriving.interrupt());
            Err(failure)
        }
    }
}

/// A move that has not ended.
struct Move<'a> {
    source: &'a MoveSource,
    target: &'a MoveTarget,
    identity: LogIdentity,
    /// The fence of an earlier run.
    before: Option<Fence>,
}

impl Move<'_> {
    /// Everything up to the last step, which opens the target for commits.
    fn run(&self, arriving: &ArrivingLog) -> Result<(Fence, CopyReport), Failure> {
        let progress = Progress::of_events(0);
        let show = |work, done, total| progress.events_of(work, done, total);
        let Move { source, target, identity, before } = self;
        let to = arriving.store();
        let copy = || CopyPass::begin(&source.reader()?, &to)?.copy(show);
        let copied = copy().map_err(|failure| match before {
            Some(_) => failure.and(FENCED),
            None => failure.and("the source is not fenced, and goes on as before"),
        })?;
        let fence = source.fence(*identity, target.place())?;
        let rest = || CopyPass::begin(&source.reader()?, &to)?.run(show);
        let report = rest().map_err(|failure| failure.and(FENCED))?.with(&copied);
        must_be_equal(
            &report,
            &format!(
                "the target differs from the source, and neither takes commits: verify the source, \
                 {}, then run this command again",
                target.removal()
            ),
        )?;
        Ok((fence, report))
    }
}

/// The state after a failure behind the fence.
const FENCED: &str =
    "the source is fenced, and the target takes no commits yet: run this command again";

/// Reports a move that an earlier run finished.
fn moved_before(args: &CopyArgs, target: &MoveTarget, fence: &Fence) -> Result<(), Failure> {
    let head = block_on(Store::known_head(&target.reader()?))?;
    let (to, upto) = (target.place(), fence.upto());
    if head < upto {
        return Err(Failure::new(
            Exit::Damage,
            format!(
                "{to} ends at position {head}, and the log had {upto} when it moved: verify the log"
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
    let upto = count(upto.get());
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

/// Refuses servers: a server holds the folder of one log, which it can neither fence nor give
/// another identity.
fn must_be_no_servers(args: &CopyArgs) -> Result<(), Failure> {
    let CopyArgs { from, to, .. } = args;
    if let LogAddress::Remote(RemoteLog::Server(_)) = from {
        let to = match to {
            LogAddress::Remote(RemoteLog::Server(_)) => "TO".to_owned(),
            to => to.to_string(),
        };
        return Err(Failure::input(format!(
            "FROM is the server {from}, which keeps the log that it has: stop its `diptych serve`, \
             and move the folder that it serves, on its machine: `diptych copy --move FOLDER {to}`"
        )));
    }
    if let LogAddress::Remote(RemoteLog::Server(_)) = to {
        return Err(Failure::input(format!(
            "TO is the server {to}, which keeps the log that it has: move the log into a new \
             folder on its machine, then serve that: `diptych copy --move {from} FOLDER` and \
             `diptych serve --data FOLDER`; a copy with an identity of its own goes into a server \
             that runs with --receive-copy, without --move"
        )));
    }
    Ok(())
}
