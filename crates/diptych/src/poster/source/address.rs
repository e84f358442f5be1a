//! Finds the source at an address, which may be away when the poster starts.

use std::time::Duration;

#[cfg(feature = "log")]
use diptych_log::{LogOptions, ReadOnlyLog};
#[cfg(feature = "postgres")]
use diptych_postgres::{OpenError, PostgresStore};
use diptych_remote::{ConnectError, RemoteStore};
use diptych_store::{ReadError, Store, Unavailable};
use tokio::time::{Instant, sleep};

#[cfg(feature = "postgres")]
use crate::app::database_options;
use crate::{
    address::{StoreAddress, without_secrets},
    app::AddressError,
    poster::{PosterError, PosterOptions},
};

/// The first and the longest pause before the next try.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Connects to the source. If it is away, tries again after a pause that grows.
pub(super) async fn connect(
    address: String,
    options: &PosterOptions,
) -> Result<Store, PosterError> {
    let deadline = Instant::now() + options.source_time;
    let mut pause = PAUSES.0;
    loop {
        let cause = match once(&address, options).await {
            Ok(store) => return Ok(store),
            Err(Failure::Memory) => return Err(PosterError::Memory),
            Err(Failure::Address(cause)) => cause,
        };
        // Posters that lost one source do not come back at the same time.
        let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        if !may_pass(&cause) || Instant::now() + wait >= deadline {
            let address = without_secrets(&address);
            return Err(PosterError::Source { address, cause });
        }
        let address = without_secrets(&address);
        tracing::warn!(address, %cause, "the source of the poster is away, and is tried again");
        sleep(wait).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

enum Failure {
    Memory,
    Address(AddressError),
}

async fn once(address: &str, options: &PosterOptions) -> Result<Store, Failure> {
    let failed = |cause: AddressError| Failure::Address(cause);
    match StoreAddress::parse(address).map_err(|error| failed(error.into()))? {
        StoreAddress::Memory => Err(Failure::Memory),
        StoreAddress::Server(address) => {
            let store = RemoteStore::connect(&address, options.remote.clone()).await;
            Ok(Store::new(store.map_err(|error| failed(error.into()))?))
        }
        #[cfg(feature = "postgres")]
        StoreAddress::Database(address) => {
            let mut database = database_options(options.remote.clone());
            database.create = false;
            let store = PostgresStore::open(&address, database).await;
            Ok(Store::new(store.map_err(|error| failed(error.into()))?))
        }
        #[cfg(not(feature = "postgres"))]
        StoreAddress::Database(_) => Err(failed(AddressError::NoDatabases)),
        #[cfg(feature = "log")]
        StoreAddress::Folder(folder) => {
            let log = ReadOnlyLog::open(folder, LogOptions::default());
            Ok(Store::new(log.map_err(|error| failed(error.into()))?))
        }
        #[cfg(not(feature = "log"))]
        StoreAddress::Folder(folder) => {
            Err(failed(AddressError::NoFolders { folder: folder.display().to_string() }))
        }
    }
}

/// Whether another try can help.
fn may_pass(cause: &AddressError) -> bool {
    match cause {
        AddressError::Invalid(_) | AddressError::NoDatabases => false,
        // A server that starts, or a schema that its owner makes a little later.
        #[cfg(feature = "postgres")]
        AddressError::Database(cause) => {
            !matches!(cause, OpenError::Address { .. } | OpenError::Unsuitable { .. })
        }
        AddressError::Server(ConnectError::Server { cause, .. }) => {
            // The server itself refused, for example because it does not know the token.
            !matches!(cause, ReadError::Unavailable(Unavailable::Server { .. }))
        }
        AddressError::Server(ConnectError::Thread(_)) => true,
        AddressError::Server(_) => false,
        #[cfg(feature = "log")]
        // The folder may come with its first backup, or with a mount.
        AddressError::Folder(_) => true,
        _ => false,
    }
}
