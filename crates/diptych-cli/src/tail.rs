//! `diptych tail`: prints the last events, then new ones.
//!
//! One process at a time holds a folder, and most often that is the process whose events tail
//! should follow. So tail opens the log for reading, to find where to begin, and then follows from
//! outside: it polls the head that the writer has published.

use std::{
    io::{self, IsTerminal, Write},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use diptych_log::{Follower, LogOptions, ReadOnlyLog};
use diptych_store::{EventStore, Filter, Position, Read};

use crate::{
    args::{Folder, TailArgs},
    exit::{Exit, Failure},
    folder, read,
};

/// Pause between two polls when there are no new events.
const LOOK: Duration = Duration::from_millis(50);
/// The largest number of events that are printed between two checks for an interrupt.
const BATCH: usize = 1_024;

pub(crate) fn run(args: &TailArgs) -> Result<(), Failure> {
    let begin = match args.after {
        Some(position) => Begin::After(position),
        None => Begin::Last(args.last),
    };
    let tail = Tail { folder: &args.folder, filter: args.which.filter(), begin };
    if args.until_head { tail.print_once() } else { tail.follow() }
}

/// The place where printing begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    /// After this position.
    After(Position),
    /// With this number of the last matching events.
    Last(usize),
}

/// A log to follow, and the place where printing begins.
pub(crate) struct Tail<'a> {
    pub(crate) folder: &'a Folder,
    pub(crate) filter: Filter,
    pub(crate) begin: Begin,
}

impl Tail<'_> {
    /// Prints events until it has reached the head.
    pub(crate) fn print_once(&self) -> Result<(), Failure> {
        let mut follower = self.begin()?;
        loop {
            self.print_some(&mut follower)?;
            if follower.upto() == follower.head() {
                return Ok(());
            }
        }
    }

    /// Prints events up to the head, then new ones, until the program is interrupted.
    pub(crate) fn follow(&self) -> Result<(), Failure> {
        let interrupted = on_interrupt()?;
        let mut follower = self.begin()?;
        let mut waited = false;
        loop {
            self.print_some(&mut follower)?;
            let pause = match follower.upto() == follower.head() {
                true => LOOK,
                false => Duration::ZERO,
            };
            if pause > Duration::ZERO && !waited && io::stderr().is_terminal() {
                let upto = follower.upto();
                // Ignored: there is no other place to report that standard error is closed.
                let _ = writeln!(io::stderr(), "(position {upto}; waiting for more, Ctrl-C ends)");
                waited = true;
            }
            // The sender lives as long as the program, so an error means only that the pause is
            // over.
            if interrupted.recv_timeout(pause).is_ok() {
                return Ok(());
            }
        }
    }

    fn print_some(&self, follower: &mut Follower) -> Result<(), Failure> {
        let batch = follower.next(&self.filter, BATCH)?;
        read::print_batch(&batch)
    }

    /// Opens a follower at the position where printing begins.
    fn begin(&self) -> Result<Follower, Failure> {
        folder::must_exist(self.folder)?;
        let after = match self.begin {
            Begin::After(position) => position,
            Begin::Last(events) => {
                start_in(&folder::open_to_read(self.folder)?, &self.filter, events)?
            }
        };
        Ok(Follower::open(&self.folder.dir, after, LogOptions::default())?)
    }
}

/// The position before the last `events` matching events.
fn start_in(log: &ReadOnlyLog, filter: &Filter, events: usize) -> Result<Position, Failure> {
    let mut first = log.head().position().plus(1);
    if events > 0 {
        read::each_batch(log, filter, Read::backwards().limit(events), |batch| {
            first = batch.iter().last().map_or(first, |event| event.position());
            Ok(())
        })?;
    }
    Ok(first.before())
}

/// Returns a receiver of one message. The message comes when the program should end: on Ctrl-C or
/// on a termination signal.
fn on_interrupt() -> Result<Receiver<()>, Failure> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let handler = move || {
        // A second signal before the first was received means that output is stuck, so exit at
        // once.
        if sender.try_send(()).is_err() {
            std::process::exit(0);
        }
    };
    ctrlc::set_handler(handler).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot listen for Ctrl-C: {error}"))
    })?;
    Ok(receiver)
}
