//! A connection for other tables in a database, such as those of projections.

use std::time::Duration;

use tokio_postgres::{Client, config::TargetSessionAttrs};

use crate::{address::DatabaseAddress, error::OpenError, session};

/// A connection to a database, for tables beside those of logs. It has the settings of the server,
/// and ends when the client is dropped.
#[derive(Debug)]
pub struct DatabaseConnection {
    /// The client of the connection.
    pub client: Client,
    /// The server and the database, without secrets, for messages.
    pub place: String,
}

/// Connects to the database of this address, encrypted if the address asks for that. Call it on a
/// runtime of tokio. The name of a log and replicas in the address have no effect.
///
/// # Errors
/// [`OpenError::Address`], [`OpenError::Pooler`] or [`OpenError::Server`].
pub async fn connect(address: &str, within: Duration) -> Result<DatabaseConnection, OpenError> {
    let mut parsed = DatabaseAddress::parse(address)?;
    parsed.config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    connected(parsed, within).await
}

/// Connects as [`connect`] does, also to a server that takes no writes, such as a standby.
///
/// # Errors
/// As [`connect`].
pub async fn connect_to_read(
    address: &str,
    within: Duration,
) -> Result<DatabaseConnection, OpenError> {
    let mut parsed = DatabaseAddress::parse(address)?;
    parsed.config.target_session_attrs(TargetSessionAttrs::Any);
    connected(parsed, within).await
}

async fn connected(
    parsed: DatabaseAddress,
    within: Duration,
) -> Result<DatabaseConnection, OpenError> {
    let place = parsed.place();
    let encryption = parsed.encryption(None)?;
    let address = (&parsed.config, encryption.as_ref());
    let connecting = session::within(within, async {
        let client = session::client(address, None).await?.client;
        session::refuse_pooler(&client, address, within).await?;
        Ok(client)
    });
    match connecting.await {
        Ok(client) => Ok(DatabaseConnection { client, place }),
        Err(fault) => Err(OpenError::of(place, fault)),
    }
}
