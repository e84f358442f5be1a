//! `diptych tail`: prints the last events, then new ones.
//!
//! One process at a time holds a folder, and most often that is the process whose events tail
//! should follow. So tail opens the log for reading, to find where to begin, and then follows from
//! outside: it polls the head that the writer has published. The log of a server is followed over
//! the network (`server`).

mod server;

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use diptych_log::{Follower, LogOptions};
use diptych_store::{Filter, InvalidRequest, Position, Read, Store};

use crate::{
    address::LogAddress,
    args::{Folder, LogPlace, TailArgs},
    exit::{Exit, Failure},
    folder, read, remote,
    tail::server::ServerTail,
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
    let tail = Tail { place: &args.place, filter: args.which.filter(), begin };
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
    pub(crate) place: &'a LogPlace,
    pub(crate) filter: Filter,
    pub(crate) begin: Begin,
}

impl Tail<'_> {
    /// Prints events until it has reached the head.
    pub(crate) fn print_once(&self) -> Result<(), Failure> {
        match &self.place.address {
            LogAddress::Folder(dir) => {
                let mut follower = self.begin_in_folder(dir)?;
                loop {
                    self.print_some(&mut follower)?;
                    if follower.upto() == follower.head() {
                        return Ok(());
                    }
                }
            }
            LogAddress::Remote(_) => {
                let (log, after) = self.begin_on_server()?;
                read::print(&log, &self.filter, Read::after(after))
            }
        }
    }

    /// Prints events up to the head, then new ones, until the program is interrupted.
    pub(crate) fn follow(&self) -> Result<(), Failure> {
        match &self.place.address {
            LogAddress::Folder(dir) => self.follow_folder(dir),
            LogAddress::Remote(address) => {
                let (log, upto) = self.begin_on_server()?;
                ServerTail { log, address, filter: &self.filter, upto }.follow()
            }
        }
    }

    fn follow_folder(&self, dir: &Path) -> Result<(), Failure> {
        let interrupted = on_interrupt()?;
        let mut follower = self.begin_in_folder(dir)?;
        let mut waited = false;
        loop {
            self.print_some(&mut follower)?;
            let pause = match follower.upto() == follower.head() {
                true => LOOK,
                false => Duration::ZERO,
            };
            if pause > Duration::ZERO && !waited {
                say_waiting(follower.upto());
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
    fn begin_in_folder(&self, dir: &Path) -> Result<Follower, Failure> {
        let folder = Folder { dir: dir.to_owned(), wait: self.place.wait };
        folder::must_exist(&folder)?;
        let after = match self.begin {
            Begin::After(position) => position,
            Begin::Last(events) => {
                start_in(&remote::open_to_read(self.place)?, &self.filter, events)?
            }
        };
        Ok(Follower::open(dir, after, LogOptions::default())?)
    }

    /// Connects, and finds the position after which printing begins.
    fn begin_on_server(&self) -> Result<(Store, Position), Failure> {
        let log = remote::open_to_read(self.place)?;
        let after = match self.begin {
            Begin::After(position) => {
                let head = pollster::block_on(log.known_head())?;
                if position > head {
                    return Err(InvalidRequest::AboveHead { position, head }.into());
                }
                position
            }
            Begin::Last(events) => start_in(&log, &self.filter, events)?,
        };
        Ok((log, after))
    }
}

/// Says, on a terminal, that everything is printed and the program waits.
fn say_waiting(upto: Position) {
    if io::stderr().is_terminal() {
        say(&format!("(position {upto}; waiting for more, Ctrl-C ends)"));
    }
}

/// Prints a message to standard error.
fn say(text: &str) {
    // Ignored: there is no other place to report that standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// The position before the last `events` matching events.
fn start_in(log: &Store, filter: &Filter, events: usize) -> Result<Position, Failure> {
    let mut first = pollster::block_on(log.known_head())?.plus(1);
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
