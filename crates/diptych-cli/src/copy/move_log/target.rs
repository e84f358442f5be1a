//! The new place of a log that moves.

use std::{
    fs,
    path::{self, Path, PathBuf},
};

use diptych_log::{Access, LogOptions};
use diptych_store::{Fence, LogIdentity, Store, TimeSource};
use pollster::block_on;

use crate::{
    address::LogAddress,
    args::{LogPlace, Wait},
    exit::Failure,
    folder, remote,
};

/// The place to which a log moves.
pub(super) struct MoveTarget {
    /// The place as the source notes it, without secrets.
    place: String,
    address: LogAddress,
    wait: Wait,
}

/// A log that is not whole yet.
pub(super) enum ArrivingLog {
    Folder(diptych_log::Arrival),
    Database(diptych_postgres::Arrival),
}

impl MoveTarget {
    /// Nothing is opened or made.
    pub(super) fn of(address: &LogAddress, wait: Wait) -> Result<MoveTarget, Failure> {
        let (place, address) = match address {
            LogAddress::Folder(dir) => {
                let dir = place_of(dir)?;
                (dir.display().to_string(), LogAddress::Folder(dir))
            }
            LogAddress::Remote(log) => {
                (remote::bare_address(log.address(), wait)?, address.clone())
            }
        };
        Ok(MoveTarget { place, address, wait })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Refuses the place of the source, and folders in it.
    pub(super) fn must_lie_outside(&self, from: &str) -> Result<(), Failure> {
        let is_within = match &self.address {
            LogAddress::Folder(dir) => dir.starts_with(from),
            LogAddress::Remote(_) => self.place == from,
        };
        match is_within {
            true => Err(Failure::input(format!(
                "{} is {from} or lies in it: give another place for the log",
                self.place
            ))),
            false => Ok(()),
        }
    }

    /// Begins or continues the move. `None` if the target takes commits of users.
    pub(super) fn begin(
        &self,
        identity: LogIdentity,
        from: &str,
    ) -> Result<Option<ArrivingLog>, Failure> {
        match &self.address {
            LogAddress::Folder(dir) => {
                let (access, time) = (Access::Append, TimeSource::Caller);
                let options = LogOptions { access, time, ..LogOptions::default() };
                let attempt = || diptych_log::Arrival::begin(dir, identity, from, &options);
                Ok(match folder::when_free(self.wait.duration(), attempt)? {
                    diptych_log::MoveTarget::Incomplete(log) => Some(ArrivingLog::Folder(log)),
                    diptych_log::MoveTarget::Complete => None,
                })
            }
            LogAddress::Remote(log) => {
                let options = remote::database_options(self.wait);
                let begin =
                    diptych_postgres::Arrival::begin(log.address(), identity, from, options);
                Ok(match block_on(begin)? {
                    diptych_postgres::MoveTarget::Incomplete(log) => {
                        Some(ArrivingLog::Database(log))
                    }
                    diptych_postgres::MoveTarget::Complete => None,
                })
            }
        }
    }

    /// The log, which has arrived.
    pub(super) fn reader(&self) -> Result<Store, Failure> {
        remote::open_to_read(&LogPlace { address: self.address.clone(), wait: self.wait })
    }

    /// How a target that is not whole is removed.
    pub(super) fn removal(&self) -> String {
        match &self.address {
            LogAddress::Folder(_) => "remove the target".to_owned(),
            LogAddress::Remote(_) => {
                let log = self.place.rsplit_once("log=").map_or("", |(_, log)| log);
                let log = log.replace('\'', "''");
                format!("remove the target by `select diptych.end_arrival('{log}')`")
            }
        }
    }
}

impl ArrivingLog {
    pub(super) fn store(&self) -> Store {
        match self {
            ArrivingLog::Folder(log) => Store::new(log.log().clone()),
            ArrivingLog::Database(log) => Store::new(log.store().clone()).pinned(),
        }
    }

    /// Opens the target to commits of users.
    pub(super) fn complete(self, fence: &Fence) -> Result<(), Failure> {
        match self {
            ArrivingLog::Folder(log) => Ok(log.complete(fence)?),
            ArrivingLog::Database(log) => Ok(block_on(log.complete(fence))?),
        }
    }

    /// Closes the target, which stays incomplete.
    pub(super) fn interrupt(self) -> Result<(), Failure> {
        match self {
            ArrivingLog::Folder(log) => Ok(log.interrupt()?),
            ArrivingLog::Database(log) => Ok(block_on(log.interrupt())?),
        }
    }
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
