//! Opens logs for reading, wherever they are, and connects to those of servers.

use std::{env, error::Error, path::PathBuf, time::Duration};

use diptych_postgres::{MoveError, OpenError, PostgresDatabase, PostgresOptions, PostgresStore};
use diptych_remote::{ConnectError, RemoteOptions, RemoteStore};
use diptych_store::{ReadError, Store, TimeSource, Unavailable};

use crate::{
    address::{LogAddress, RemoteLog},
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
        LogAddress::Remote(log) => connect_to_read(log, place.wait),
    }
}

/// Connects to a log, which must exist.
pub(crate) fn connect_to_read(log: &RemoteLog, wait: Wait) -> Result<Store, Failure> {
    match log {
        RemoteLog::Server(address) => connect_to_server(address, wait),
        RemoteLog::Database(address) => {
            open_database(address, wait, |options| options.create = false)
        }
    }
}

/// Connects to a log that takes the times of a copy.
pub(crate) fn connect_to_copy(log: &RemoteLog, wait: Wait) -> Result<Store, Failure> {
    match log {
        RemoteLog::Server(address) => connect_to_server(address, wait),
        RemoteLog::Database(address) => {
            open_database(address, wait, |options| options.time = TimeSource::Caller)
        }
    }
}

/// Connects to a log. A log in a database is made if it is missing, as a folder is.
pub(crate) fn connect(log: &RemoteLog, wait: Wait) -> Result<Store, Failure> {
    match log {
        RemoteLog::Server(address) => connect_to_server(address, wait),
        RemoteLog::Database(address) => open_database(address, wait, |_| ()),
    }
}

/// Makes a log in a database, as far as it is missing.
pub(crate) fn make_database(
    address: &str,
    wait: Wait,
    partition_events: u64,
) -> Result<Store, Failure> {
    open_database(address, wait, |options| options.partition_events = partition_events)
}

/// Opens a log in a database, which must exist, to move it.
pub(crate) fn open_to_move(address: &str, wait: Wait) -> Result<PostgresStore, Failure> {
    let mut options = database_options(wait);
    options.create = false;
    pollster::block_on(PostgresStore::open(address, options)).map_err(|error| match error {
        OpenError::Schema { .. } => {
            let advice = "`diptych postgres migrate` brings an older schema up to date";
            database_failure(error).and(advice)
        }
        _ => database_failure(error),
    })
}

/// The address of a log in a database without user and secrets.
pub(crate) fn bare_address(address: &str, wait: Wait) -> Result<String, Failure> {
    let database = PostgresDatabase::at(address, database_options(wait));
    Ok(database.map_err(database_failure)?.bare_address())
}

fn open_database(
    address: &str,
    wait: Wait,
    set: impl Fn(&mut PostgresOptions),
) -> Result<Store, Failure> {
    let mut options = database_options(wait);
    set(&mut options);
    let store = pollster::block_on(PostgresStore::open(address, options));
    let store = store.map_err(|error| match error {
        OpenError::Schema { .. } | OpenError::NoLog { .. } => {
            let advice = "a command that writes to the log makes it";
            Failure::new(Exit::Failed, format!("{error}; {advice}"))
        }
        _ => database_failure(error),
    })?;
    Ok(Store::new(store).pinned())
}

/// The options of a connection to a database, from the arguments and the environment.
pub(crate) fn database_options(wait: Wait) -> PostgresOptions {
    let mut options = PostgresOptions::default();
    options.connect_time = wait.duration().max(SHORTEST_WAIT);
    options.authorities = env::var_os(AUTHORITIES).map(PathBuf::from);
    options
}

pub(crate) fn database_failure(error: OpenError) -> Failure {
    match error {
        OpenError::Address { .. } => Failure::input(error.to_string()),
        _ => Failure::new(Exit::Failed, error.to_string()),
    }
}

impl From<MoveError> for Failure {
    fn from(error: MoveError) -> Failure {
        match error {
            MoveError::Open(error) => database_failure(error),
            MoveError::Source { .. } | MoveError::Target { .. } => {
                Failure::input(error.to_string())
            }
            _ => Failure::new(Exit::Failed, error.to_string()),
        }
    }
}

/// Connects to the log of a server. The handle ends with an error if the log has another history
/// later, for example because a backup was restored.
fn connect_to_server(address: &str, wait: Wait) -> Result<Store, Failure> {
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
