//! Apps over the store at an address: a folder, the log of a server, or memory.

#[cfg(feature = "log")]
use diptych_log::OpenError;
#[cfg(feature = "postgres")]
use diptych_postgres::{PostgresOptions, PostgresStore};
use diptych_remote::{ConnectError, RemoteOptions, RemoteStore};
use diptych_store::Memory;

use super::{App, AppBuilder};
use crate::address::{InvalidAddress, StoreAddress};

/// Why an address leads to no store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The text is no address.
    #[error(transparent)]
    Invalid(#[from] InvalidAddress),
    /// The log in the folder cannot be opened.
    #[cfg(feature = "log")]
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// The program has no log for folders.
    #[error(
        "{folder} is a folder, and this program has no log for folders: build it with the \
             feature `log` of `diptych`, or give the address of a server"
    )]
    NoFolders {
        /// The folder.
        folder: String,
    },
    /// The log of the server cannot be used.
    #[error(transparent)]
    Server(#[from] ConnectError),
    /// The log in the database cannot be used.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Database(#[from] diptych_postgres::OpenError),
    /// The program has no logs in databases.
    #[error(
        "the address is one of a database, and this program has no logs in databases: build it \
         with the feature `postgres` of `diptych`"
    )]
    NoDatabases,
}

impl App {
    /// Connects to the store at an address. So one program works on a folder today and on the log
    /// of a server tomorrow, by another address:
    ///
    /// | address | store |
    /// |---|---|
    /// | `PATH`, `file:PATH` | the log in this folder, as [`open`](App::open) opens it |
    /// | `diptych://host:port/log` | the log of a server, such as `diptych serve` |
    /// | `postgres://user@host/database?log=NAME` | a log in PostgreSQL (feature `postgres`) |
    /// | `memory:` | a new store in memory, for tests and trials |
    ///
    /// The builder is the one of [`open`](App::open). Over the log of a server, any number of apps
    /// write: each decides on its own copy of the state, and the server refuses an append that
    /// conflicts with another one. The command is then [decided again](AppBuilder::retries). Every
    /// command waits for a round trip to the server. Snapshots need a place of their own
    /// ([`snapshots_in`](AppBuilder::snapshots_in)).
    ///
    /// ```no_run
    /// # use diptych::{App, Command};
    /// # async fn run<C: Command>(command: C) -> Result<(), Box<dyn std::error::Error>> {
    /// let address = std::env::var("LOG").unwrap_or_else(|_| "data".to_owned());
    /// let app = App::connect(&address).await?.start().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AddressError`] if the text is no address, the folder cannot be opened, or the server does
    /// not answer in [`answer_time`](RemoteOptions::answer_time).
    pub async fn connect(address: &str) -> Result<AppBuilder, AddressError> {
        App::connect_with(address, RemoteOptions::default()).await
    }

    /// Connects to the store at an address, with these options for the connection to a server. For
    /// a database only times and authorities count. They have no effect on a folder, and none in
    /// memory.
    ///
    /// # Errors
    /// As [`connect`](App::connect).
    pub async fn connect_with(
        address: &str,
        options: RemoteOptions,
    ) -> Result<AppBuilder, AddressError> {
        match StoreAddress::parse(address)? {
            #[cfg(feature = "log")]
            StoreAddress::Folder(folder) => Ok(App::open(folder)?),
            #[cfg(not(feature = "log"))]
            StoreAddress::Folder(folder) => {
                Err(AddressError::NoFolders { folder: folder.display().to_string() })
            }
            StoreAddress::Memory => Ok(App::over(Memory::new()).close_store()),
            StoreAddress::Server(address) => {
                let store = RemoteStore::connect(&address, options).await?;
                Ok(App::over(store).close_store())
            }
            #[cfg(feature = "postgres")]
            StoreAddress::Database(address) => {
                let store = PostgresStore::open(&address, database_options(options)).await?;
                Ok(App::over(store).close_store())
            }
            #[cfg(not(feature = "postgres"))]
            StoreAddress::Database(_) => Err(AddressError::NoDatabases),
        }
    }
}

/// The options of a database that those of a server have, too.
#[cfg(feature = "postgres")]
pub(crate) fn database_options(options: RemoteOptions) -> PostgresOptions {
    let mut database = PostgresOptions::default();
    database.answer_time = options.answer_time;
    database.connect_time = options.connect_time;
    database.authorities = options.authorities;
    database
}
