//! The note in the folder of a copy that says which log it is a copy of.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::Path,
};

use diptych_remote::wire::{history_header, history_of_header};
use diptych_store::LogIdentity;

use crate::exit::{Exit, Failure};

/// The name of the note. It has the id and the epoch of the source, as in the header of a call to
/// its server.
const NOTE: &str = "copied-from";

/// Refuses a folder that is the copy of another log.
pub(crate) fn check(dir: &Path, from: LogIdentity) -> Result<(), Failure> {
    let path = dir.join(NOTE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("read", &path, &error)),
    };
    match history_of_header(text.trim()) {
        // The epoch changes when the source is restored. Checksums show whether both still agree.
        Some(noted) if noted.id == from.id => Ok(()),
        Some(noted) => Err(Failure::input(format!(
            "{} is a copy of the log {noted}, and the source is the log {from}: give another \
             folder for the copy, or the other source",
            dir.display()
        ))),
        None => Err(Failure::input(format!(
            "{} does not name a log: remove it if the folder is a copy of {from}",
            path.display()
        ))),
    }
}

/// Notes the source of the copy.
pub(crate) fn note(dir: &Path, from: LogIdentity) -> Result<(), Failure> {
    let path = dir.join(NOTE);
    let write = || -> io::Result<()> {
        let mut file = File::create(&path)?;
        writeln!(file, "{}", history_header(from))?;
        file.sync_all()
    };
    write().map_err(|error| failed("write", &path, &error))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {what} {}: {error}", path.display()))
}
