//! Opens the folder of a log, and retries while another process holds it.

use std::{
    fs,
    io::ErrorKind,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use diptych_log::{Background, Log, LogOptions, MoveError, OpenError, ReadOnlyLog, VerifyError};

use crate::{args::Folder, exit::Failure};

/// Pause between two attempts to open a folder that another process holds.
const RETRY: Duration = Duration::from_millis(20);

/// Opens the log, or creates it if it is missing, runs `work` with it, and closes it.
pub(crate) fn with_log<T>(
    folder: &Folder,
    options: &LogOptions,
    work: impl FnOnce(&Log) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let log = when_free(folder.wait.duration(), || Log::open(&folder.dir, options.clone()))?;
    let done = work(&log);
    // An error of `work` takes precedence over an error of the close.
    let closed = log.close();
    let done = done?;
    closed?;
    Ok(done)
}

/// Opens a log, which must exist, for reading. No process that holds the folder is in the way.
pub(crate) fn open_to_read(folder: &Folder) -> Result<ReadOnlyLog, Failure> {
    must_exist(folder)?;
    let options = LogOptions { background: Background::Inline, ..LogOptions::default() };
    Ok(ReadOnlyLog::open(&folder.dir, options)?)
}

/// Whether a folder is that of a log.
pub(crate) fn has_log(dir: &Path) -> bool {
    dir.join("segments").is_dir()
}

/// Refuses a folder that has no segments of a log, because commands that only read must not create
/// a log.
pub(crate) fn must_exist(folder: &Folder) -> Result<(), Failure> {
    let dir = &folder.dir;
    let is_segment = |entry: fs::DirEntry| entry.path().extension().is_some_and(|is| is == "seg");
    let problem = match fs::read_dir(dir.join("segments")) {
        Ok(mut entries) => {
            if entries.any(|entry| entry.is_ok_and(is_segment)) {
                return Ok(());
            }
            "it has no segments".to_owned()
        }
        // The folder is missing, or nothing in it belongs to a log.
        Err(error) if error.kind() == ErrorKind::NotFound => "it has no segments".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::input(format!(
        "there is no log in {}: {problem}; give the folder of a log, or make one with \
         `diptych append`",
        dir.display()
    )))
}

/// Retries `attempt` while another process holds the folder, for at most `wait`.
pub(crate) fn when_free<T, E: MaybeHeld>(
    wait: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.is_held() && start.elapsed() < wait => thread::sleep(RETRY),
            done => return done,
        }
    }
}

/// Errors that can mean that another process holds the folder.
pub(crate) trait MaybeHeld {
    fn is_held(&self) -> bool;
}

impl MaybeHeld for OpenError {
    fn is_held(&self) -> bool {
        matches!(self, OpenError::Held { .. })
    }
}

impl MaybeHeld for MoveError {
    fn is_held(&self) -> bool {
        matches!(self, MoveError::Open(error) if error.is_held())
    }
}

impl MaybeHeld for VerifyError {
    fn is_held(&self) -> bool {
        matches!(self, VerifyError::Open(error) if error.is_held())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> OpenError {
        OpenError::Held { folder: "data".into(), owner: "process 1".into(), advice: "stop it" }
    }

    #[test]
    fn a_folder_that_becomes_free_in_time_is_opened() {
        let mut tries = 0;
        let opened = when_free(Duration::from_secs(60), || {
            tries += 1;
            if tries < 3 { Err(held()) } else { Ok(tries) }
        });
        assert_eq!(opened.unwrap(), 3);
    }

    #[test]
    fn without_a_wait_there_is_one_attempt() {
        let mut tries = 0;
        let opened: Result<(), _> = when_free(Duration::ZERO, || {
            tries += 1;
            Err(held())
        });
        assert!(opened.unwrap_err().is_held());
        assert_eq!(tries, 1);
    }

    #[test]
    fn other_errors_are_not_retried() {
        let mut tries = 0;
        let opened: Result<(), _> = when_free(Duration::from_secs(60), || {
            tries += 1;
            Err(OpenError::Io { what: "open".into(), cause: std::io::Error::other("no") })
        });
        assert!(opened.is_err());
        assert_eq!(tries, 1);
    }
}
