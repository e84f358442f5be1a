//! A connection for other tables in a database, such as those of projections.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, NoTls, config::TargetSessionAttrs};

use crate::{
    address::DatabaseAddress,
    error::OpenError,
    failure::{Fault, no_answer},
};

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
/// runtime of tokio. The name of a log in the address has no effect.
///
/// # Errors
/// [`OpenError::Address`] or [`OpenError::Server`].
pub async fn connect(address: &str, within: Duration) -> Result<DatabaseConnection, OpenError> {
    connected(DatabaseAddress::parse(address)?, within).await
}

/// Connects as [`connect`] does, also to a server that takes no writes, such as a standby.
///
/// # Errors
/// [`OpenError::Address`] or [`OpenError::Server`].
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
    let connecting = async {
        Ok::<_, tokio_postgres::Error>(match encryption {
            Some(encryption) => {
                let (client, connection) = parsed.config.connect(encryption).await?;
                tokio::spawn(connection);
                client
            }
            None => {
                let (client, connection) = parsed.config.connect(NoTls).await?;
                tokio::spawn(connection);
                client
            }
        })
    };
    let fault = match timeout(within, connecting).await {
        Ok(Ok(client)) => return Ok(DatabaseConnection { client, place }),
        Ok(Err(error)) => Fault::from(error),
        Err(_) => Fault::Connection(no_answer(within)),
    };
    Err(OpenError::Server { place, cause: fault.into_read_error() })
}
