//! The log that moves, at its old place.

use std::{
    fs,
    path::{Path, PathBuf},
};

use diptych_log::{LogOptions, fence, fenced};
use diptych_postgres::{MoveError, PostgresStore};
use diptych_store::{EventStore, Fence, LogIdentity, Store};
use pollster::block_on;

use crate::{
    address::{LogAddress, RemoteLog},
    args::{Folder, Wait},
    exit::{Exit, Failure},
    folder, remote,
};

/// The log that moves. It must exist.
pub(super) struct MoveSource {
    identity: LogIdentity,
    /// The place as the target notes it, without secrets.
    place: String,
    at: SourcePlace,
}

enum SourcePlace {
    Folder(Folder),
    Database(PostgresStore),
}

impl MoveSource {
    pub(super) fn open(address: &LogAddress, wait: Wait) -> Result<MoveSource, Failure> {
        match address {
            LogAddress::Folder(dir) => {
                let dir = match fs::exists(dir) {
                    Ok(true) => canonical(dir)?,
                    // The open says it better.
                    _ => dir.clone(),
                };
                let place = dir.display().to_string();
                let folder = Folder { dir, wait };
                let identity = folder::open_to_read(&folder)?.identity();
                Ok(MoveSource { identity, place, at: SourcePlace::Folder(folder) })
            }
            LogAddress::Remote(RemoteLog::Database(address) | RemoteLog::Server(address)) => {
                let place = remote::bare_address(address, wait)?;
                let log = remote::open_to_move(address, wait)?;
                let identity = log.identity();
                Ok(MoveSource { identity, place, at: SourcePlace::Database(log) })
            }
        }
    }

    pub(super) fn identity(&self) -> LogIdentity {
        self.identity
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The log as it is now. The handle ends if the log gets another history.
    pub(super) fn reader(&self) -> Result<Store, Failure> {
        Ok(match &self.at {
            SourcePlace::Folder(folder) => Store::new(folder::open_to_read(folder)?),
            SourcePlace::Database(log) => Store::new(log.clone()).pinned(),
        })
    }

    /// The fence of an earlier move to this place.
    pub(super) fn fenced(&self, to: &str) -> Result<Option<Fence>, Failure> {
        match &self.at {
            SourcePlace::Folder(folder) => {
                Ok(fenced(&folder.dir, self.identity, to, &LogOptions::default())?)
            }
            SourcePlace::Database(log) => Ok(block_on(log.fenced(to))?),
        }
    }

    /// Fences the log. A folder has to be free for that, and a database has not.
    pub(super) fn fence(&self, identity: LogIdentity, to: &str) -> Result<Fence, Failure> {
        match &self.at {
            SourcePlace::Folder(Folder { dir, wait }) => {
                let options = LogOptions::default();
                let attempt = || fence(dir, identity, to, &options);
                let fence = folder::when_free(wait.duration(), attempt);
                fence.map_err(|error| {
                    Failure::from(error).and(
                        "the source is not fenced, and goes on as before: end the program that \
                         holds it, then run this command again, which copies only the rest",
                    )
                })
            }
            SourcePlace::Database(log) => {
                block_on(log.fence(identity, to)).map_err(|error| match error {
                    MoveError::Open(_) => Failure::from(error).and(
                        "the source may be fenced by now, and the target takes no commits yet: run \
                         this command again",
                    ),
                    _ => error.into(),
                })
            }
        }
    }
}

fn canonical(dir: &Path) -> Result<PathBuf, Failure> {
    fs::canonicalize(dir).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot find {}: {error}", dir.display()))
    })
}
