//! Opens logs for reading, wherever they are, and connects to those of servers.

use std::{env, error::Error, path::PathBuf, time::Duration};

use diptych_remote::{ConnectError, RemoteOptions, RemoteStore};
use diptych_store::{ReadError, Store, Unavailable};

use crate::{
    address::LogAddress,
    args::{Folder, LogPlace, Wait},
    exit::{Exit, Failure},
    folder,
};

/// The environment variable with the token for servers that ask for one. As an argument it could be
/// seen by other users of the machine.
const TOKEN: &str = "DIPTYCH_TOKEN";
/// The environment variable with the file of certificates that may vouch for an encrypted server.
const AUTHORITIES: &str = "DIPTYCH_AUTHORITIES";
/// The shortest wait for the first answer of a server.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// Opens a log, which must exist, for reading.
pub(crate) fn open_to_read(place: &LogPlace) -> Result<Store, Failure> {
    match &place.address {
        LogAddress::Folder(dir) => {
            let folder = Folder { dir: dir.clone(), wait: place.wait };
            Ok(Store::new(folder::open_to_read(&folder)?))
        }
        LogAddress::Server(address) => connect(address, place.wait),
    }
}

/// Connects to the log of a server. The handle ends with an error if the log has another history
/// later, for example because a backup was restored.
pub(crate) fn connect(address: &str, wait: Wait) -> Result<Store, Failure> {
    // A server that is away is reported after the time that the user gave. Later calls have the
    // time of a restart of the server.
    let options = options();
    let mut first = options.clone();
    first.answer_time = wait.duration().max(SHORTEST_WAIT);
    pollster::block_on(RemoteStore::connect(address, first)).map_err(failure)?;
    let store = RemoteStore::connect(address, options);
    Ok(Store::new(pollster::block_on(store).map_err(failure)?).pinned())
}

/// The options of a connection, from the environment.
pub(crate) fn options() -> RemoteOptions {
    let mut options = RemoteOptions::default();
    options.token = env::var(TOKEN).ok();
    options.authorities = env::var_os(AUTHORITIES).map(PathBuf::from);
    options
}

fn failure(error: ConnectError) -> Failure {
    match &error {
        ConnectError::Address { .. } => Failure::input(error.to_string()),
        ConnectError::Server {
            address,
            cause: ReadError::Unavailable(Unavailable::Backend(cause)),
        } => Failure::new(
            Exit::Failed,
            format!(
                "no log answers at {address} ({}): start its server with `diptych serve`, or \
                 correct the address",
                last_cause(&**cause)
            ),
        ),
        _ => Failure::new(Exit::Failed, error.to_string()),
    }
}

/// The last cause of an error. Those before it only repeat that a connection failed.
fn last_cause(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => last_cause(cause),
        None => error.to_string(),
    }
}
