//! `diptych tail`: the last events, then those that come.
//!
//! One process at a time holds a folder, so tail must not keep it while it waits: nobody could
//! append. It opens the log, prints what is new and closes it again. While it waits it looks at
//! the files from outside, and opens the log only when they changed, or after [`LOOK_AGAIN`] in
//! case that a change fell between closing the log and the first look.

use std::{
    ffi::OsString,
    fs, io,
    io::{IsTerminal, Write},
    path::Path,
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant, SystemTime},
};

use diptych_log::Log;
use diptych_store::{EventStore, Filter, LogIdentity, Position, Read};

use crate::{
    args::{Folder, TailArgs},
    exit::{Exit, Failure},
    folder, read,
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long to believe that nothing changed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

pub(crate) fn run(args: &TailArgs) -> Result<(), Failure> {
    let begin = match args.after {
        Some(position) => Begin::After(position),
        None => Begin::Last(args.last),
    };
    let tail = Tail { folder: &args.folder, filter: args.which.filter(), begin };
    if args.until_head { tail.print_once() } else { tail.follow() }
}

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    /// After this position.
    After(Position),
    /// With so many of the last matching events.
    Last(usize),
}

/// What to follow.
pub(crate) struct Tail<'a> {
    pub(crate) folder: &'a Folder,
    pub(crate) filter: Filter,
    pub(crate) begin: Begin,
}

impl Tail<'_> {
    /// Prints what is there.
    pub(crate) fn print_once(&self) -> Result<(), Failure> {
        folder::with_existing_log(self.folder, |log| {
            self.print_new(log, self.start(log)?)?;
            Ok(())
        })
    }

    /// Prints what is there, then what comes, until the program is interrupted.
    pub(crate) fn follow(&self) -> Result<(), Failure> {
        let interrupted = on_interrupt()?;
        let (identity, mut upto) = folder::with_existing_log(self.folder, |log| {
            Ok((log.identity(), self.print_new(log, self.start(log)?)?))
        })?;
        if io::stderr().is_terminal() {
            // There is nowhere left to say that standard error is gone.
            let _ = writeln!(io::stderr(), "(position {upto}; waiting for more, Ctrl-C ends)");
        }
        while wait_for_change(&self.folder.dir, &interrupted)? {
            let printed = folder::with_existing_log(self.folder, |log| {
                must_be_same(identity, log.identity(), upto)?;
                self.print_new(log, upto)
            });
            match printed {
                Ok(now) => upto = now,
                // Whoever holds it changes the files when it lets go.
                Err(Failure::Stopped { exit: Exit::Held, .. }) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    fn start(&self, log: &Log) -> Result<Position, Failure> {
        let last = match self.begin {
            Begin::After(position) => return Ok(position),
            Begin::Last(0) => return Ok(log.head().position()),
            Begin::Last(events) => events,
        };
        let mut first = log.head().position().plus(1);
        let read = Read::backwards().limit(last);
        read::each_batch(log, &self.filter, read, |batch| {
            first = batch.iter().last().map_or(first, |event| event.position());
            Ok(())
        })?;
        Ok(first.before())
    }

    /// Prints what matches after a position, and says up to where that was.
    fn print_new(&self, log: &Log, after: Position) -> Result<Position, Failure> {
        read::print(log, &self.filter, Read::after(after))?;
        Ok(log.head().position())
    }
}

/// Positions of another log or epoch mean other events: going on would skip or repeat some.
fn must_be_same(before: LogIdentity, now: LogIdentity, upto: Position) -> Result<(), Failure> {
    if before == now {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!(
            "the folder held {before} up to position {upto} and now holds {now}: a backup was \
             restored or the log replaced; start again"
        ),
    ))
}

/// Gets one message when the program is asked to end, by Ctrl-C or by a polite kill.
fn on_interrupt() -> Result<Receiver<()>, Failure> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let handler = move || {
        // Asked a second time while the first was not heard: output is stuck, do not insist.
        if sender.try_send(()).is_err() {
            std::process::exit(0);
        }
    };
    ctrlc::set_handler(handler).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot listen for Ctrl-C: {error}"))
    })?;
    Ok(receiver)
}

/// Whether to look into the log again; not, once interrupted.
fn wait_for_change(dir: &Path, interrupted: &Receiver<()>) -> Result<bool, Failure> {
    let before = look(dir)?;
    let start = Instant::now();
    loop {
        // The sender lives as long as the program: an error is nothing but the time being up.
        if interrupted.recv_timeout(LOOK).is_ok() {
            return Ok(false);
        }
        if start.elapsed() >= LOOK_AGAIN || look(dir)? != before {
            return Ok(true);
        }
    }
}

/// What can be seen of the files from outside.
fn look(dir: &Path) -> Result<Vec<(OsString, u64, Option<SystemTime>)>, Failure> {
    let seen = || {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(of) => files.push((entry.file_name(), of.len(), of.modified().ok())),
                // It was removed meanwhile, which is a change as well.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        files.sort();
        Ok(files)
    };
    seen().map_err(|error: io::Error| {
        Failure::new(Exit::Failed, format!("cannot look into {}: {error}", dir.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_file_is_seen_from_outside() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("segment");
        let empty = look(dir.path()).unwrap();
        fs::write(&file, "1").unwrap();
        let one = look(dir.path()).unwrap();
        fs::write(&file, "12").unwrap();
        let two = look(dir.path()).unwrap();
        assert_ne!(empty, one);
        assert_ne!(one, two);
        assert_eq!(two, look(dir.path()).unwrap());
    }

    #[test]
    fn an_interrupt_ends_the_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, interrupted) = mpsc::sync_channel(1);
        sender.send(()).unwrap();
        assert!(!wait_for_change(dir.path(), &interrupted).unwrap());
    }

    #[test]
    fn another_log_in_the_folder_is_an_error() {
        let identity = LogIdentity::random();
        assert!(must_be_same(identity, identity, Position::START).is_ok());
        let error = must_be_same(identity, LogIdentity::random(), Position::new(7)).unwrap_err();
        assert!(error.to_string().contains("position 7"), "{error}");
    }
}
