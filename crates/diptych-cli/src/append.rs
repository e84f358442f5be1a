//! `diptych append`: appends events from standard input to the log.
//!
//! It submits commits without waiting for earlier ones, so that reading the input, writing and
//! syncing overlap. It acknowledges each commit once it is durable, in order, and all commits in
//! flight when the input pauses. After an error, too, it first settles all commits in flight. So
//! the error can name the first line that was not written.

use std::{collections::VecDeque, io, num::NonZeroUsize, time::Duration};

use diptych_log::{FutureTime, LogOptions};
use diptych_store::{
    AcceptedCommit, Append, AppendCondition, AppendError, Filter, Key, Position, Refusal, Store,
};
use serde::Serialize;

use crate::{
    address::{LogAddress, RemoteLog},
    args::{AppendArgs, Folder},
    batches::{Batches, digest, nothing_from},
    exit::{Exit, Failure},
    folder,
    input::PausingInput,
    lines::NextInput,
    ndjson::{self, RecordedTime},
    progress::Progress,
    remote,
    table::counted,
};

/// The largest number of commits that are accepted and not yet synced. The log itself bounds their
/// bytes.
const IN_FLIGHT_COMMITS: usize = 64;

/// Events in one commit without `--batch`.
const BATCH_EVENTS: usize = 1_000;

pub(crate) fn run(args: &AppendArgs) -> Result<(), Failure> {
    let future_time = match args.accept_future_time {
        true => FutureTime::Accept,
        false => FutureTime::Refuse,
    };
    match &args.place.address {
        LogAddress::Folder(dir) => {
            let options = LogOptions { future_time, ..LogOptions::default() };
            let folder = Folder { dir: dir.clone(), wait: args.place.wait };
            folder::with_log(&folder, &options, |log| load(args, &Store::new(log.clone())))
        }
        LogAddress::Remote(log) if args.accept_future_time => {
            let instead = match log {
                RemoteLog::Server(_) => "give it to the `diptych serve` of this log",
                RemoteLog::Database(_) => "leave it out, because a database has no such bound",
            };
            Err(Failure::input(format!("--accept-future-time is for a folder: {instead}")))
        }
        LogAddress::Remote(address) => load(args, &remote::connect(address, args.place.wait)?),
    }
}

fn load(args: &AppendArgs, log: &Store) -> Result<(), Failure> {
    let mut load = Load::new(log);
    let loaded = match OneCommit::of(args) {
        Some(one) => load.one_commit(&one, args.recorded()),
        None => load.batches(args),
    };
    // A failed sync takes precedence over wrong input, because accepted commits may be lost.
    load.settle().and(loaded)?;
    load.progress.finish(&counted(load.events, "event"));
    Ok(())
}

/// The options that make all input one commit.
struct OneCommit {
    key: Option<String>,
    condition: Option<AppendCondition>,
}

impl OneCommit {
    fn of(args: &AppendArgs) -> Option<OneCommit> {
        let fail_if = args.fail_if.iter().cloned().reduce(Filter::or);
        let after = args.after.unwrap_or(Position::START);
        let condition = fail_if.map(|fail_if| AppendCondition { fail_if, after });
        let key = args.key.clone();
        (key.is_some() || condition.is_some()).then_some(OneCommit { key, condition })
    }
}

/// Loads one input.
struct Load<'a> {
    log: &'a Store,
    in_flight: VecDeque<AcceptedCommit>,
    events: u64,
    progress: Progress,
}

/// The line that acknowledges a commit.
#[derive(Serialize)]
struct Acknowledgement {
    first: u64,
    last: u64,
    events: u64,
    /// The log already had a commit under this key, made by an equal request.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    repeated: bool,
}

impl<'a> Load<'a> {
    fn new(log: &'a Store) -> Load<'a> {
        Load { log, in_flight: VecDeque::new(), events: 0, progress: Progress::of_input() }
    }

    fn batches(&mut self, args: &AppendArgs) -> Result<(), Failure> {
        let limits = self.log.limits();
        let events_per_commit = args.batch.map_or(BATCH_EVENTS, NonZeroUsize::get);
        let events_per_commit = events_per_commit.min(limits.commit_events);
        let input = PausingInput::new(io::stdin(), Duration::from_millis(args.flush_ms));
        let input = input.map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot start a thread for the input: {error}"))
        })?;
        let batches = Batches::new(input, limits, events_per_commit);
        let mut batches = batches.keeping(args.recorded());
        if args.batch.is_none() {
            batches = batches.ending_at_pauses();
        }
        loop {
            match batches.next()? {
                NextInput::Part(batch) => {
                    self.progress.bytes(batches.read_bytes(), None);
                    self.submit(Append::events(batch.events), batch.first_line)?;
                }
                NextInput::Pause => self.settle()?,
                NextInput::End => return Ok(()),
            }
        }
    }

    fn one_commit(&mut self, one: &OneCommit, recorded: RecordedTime) -> Result<(), Failure> {
        let limits = self.log.limits();
        let batches = Batches::new(io::stdin().lock(), limits.clone(), limits.commit_events);
        let mut batches = batches.keeping(recorded);
        let batch = batches.first()?;
        let has_more = batches.has_more().map_err(|failure| failure.and("nothing was written"))?;
        if has_more {
            return Err(Failure::input(format!(
                "the input does not fit in one commit (limits: commit_events {}, commit_bytes \
                 {}), and with --key or --fail-if all of it is one commit: split the input; \
                 nothing was written",
                limits.commit_events, limits.commit_bytes
            )));
        }
        let mut append = Append::events(batch.events);
        append.conditions.extend(one.condition.clone());
        if let Some(name) = &one.key {
            append.key = Some(Key::new(name, digest(&append.events, &limits)?));
        }
        self.submit(append, batch.first_line)
    }

    /// Submits a commit whose first event is on line `first_line`.
    fn submit(&mut self, append: Append, first_line: u64) -> Result<(), Failure> {
        if self.in_flight.len() == IN_FLIGHT_COMMITS {
            self.settle_first()?;
        }
        match pollster::block_on(self.log.append(append)) {
            Ok(accepted) => {
                self.in_flight.push_back(accepted);
                Ok(())
            }
            Err(AppendError::Refused(Refusal::KeyTaken { first, last })) => {
                self.acknowledge(first, last, true)
            }
            // The outcome of this commit is unknown. The message of the error says so.
            Err(error @ AppendError::OutcomeUnknown(_)) => Err(error.into()),
            Err(error) => Err(Failure::from(error).and(&nothing_from(first_line))),
        }
    }

    /// Waits for all commits in flight and acknowledges them.
    fn settle(&mut self) -> Result<(), Failure> {
        while !self.in_flight.is_empty() {
            self.settle_first()?;
        }
        Ok(())
    }

    fn settle_first(&mut self) -> Result<(), Failure> {
        let Some(accepted) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let (first, last) = (accepted.first, accepted.last);
        pollster::block_on(accepted.synced()).map_err(|error| {
            // All later commits fail together with this one. The error of this one tells the cause.
            self.in_flight.clear();
            let durable = format!("everything before position {first} is durable");
            Failure::from(error).and(&durable)
        })?;
        self.acknowledge(first, last, false)
    }

    fn acknowledge(
        &mut self,
        first: Position,
        last: Position,
        repeated: bool,
    ) -> Result<(), Failure> {
        let events = (last.get() + 1).saturating_sub(first.get());
        if !repeated {
            self.events += events;
            self.progress.events(self.events);
        }
        let (first, last) = (first.get(), last.get());
        let line = Acknowledgement { first, last, events, repeated };
        let print = || ndjson::write_json(&line, &mut io::stdout().lock());
        match self.progress.print(print).map_err(Failure::from) {
            // The rest of the input is still appended if the reader of the acknowledgements is
            // gone.
            Err(Failure::ReaderGone) => Ok(()),
            printed => printed,
        }
    }
}
