//! Addresses of logs in PostgreSQL.

use std::path::{Path, PathBuf};

use tokio_postgres::{
    Config,
    config::{Host, SslMode, TargetSessionAttrs},
};

use crate::{error::OpenError, options::PostgresOptions, tls::Encryption};

/// The parameter of an address that names the log.
const LOG: &str = "log=";
/// The parameter that names the file with the certificates of authorities.
const AUTHORITIES: &str = "sslrootcert=";

/// An address such as `postgres://user@host/database?log=main`.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseAddress {
    pub(crate) config: Config,
    log: Option<String>,
    authorities: Option<PathBuf>,
}

impl DatabaseAddress {
    /// Takes the log out of the address; the rest is for the driver.
    pub(crate) fn parse(address: &str) -> Result<DatabaseAddress, OpenError> {
        let wrong = |problem: String| OpenError::Address { problem };
        let is_url = address.starts_with("postgres://") || address.starts_with("postgresql://");
        if !is_url {
            let problem = "it has to begin with postgres://, as in postgres://ann@localhost/shop";
            return Err(wrong(problem.to_owned()));
        }
        let (base, query) = address.split_once('?').unwrap_or((address, ""));
        let (logs, others): (Vec<&str>, Vec<&str>) = query
            .split('&')
            .filter(|parameter| !parameter.is_empty())
            .partition(|parameter| parameter.starts_with(LOG));
        let log = match logs.as_slice() {
            [] => None,
            [one] => one.strip_prefix(LOG).map(str::to_owned),
            _ => return Err(wrong("it names several logs".to_owned())),
        };
        let (authorities, others): (Vec<&str>, Vec<&str>) =
            others.into_iter().partition(|parameter| parameter.starts_with(AUTHORITIES));
        let authorities = authorities.last().and_then(|named| named.strip_prefix(AUTHORITIES));
        let rest = match others.is_empty() {
            true => base.to_owned(),
            false => format!("{base}?{}", others.join("&")),
        };
        // The text of the error has no part of the address, which may contain a password.
        let mut config: Config = rest.parse().map_err(|error| wrong(format!("{error}")))?;
        if authorities.is_some() {
            config.ssl_mode(SslMode::Require);
        }
        if config.get_application_name().is_none() {
            config.application_name("diptych");
        }
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(DatabaseAddress { config, log, authorities: authorities.map(PathBuf::from) })
    }

    /// The log that the address or the options name. Without both it is `main`.
    pub(crate) fn log_name(&self, options: &PostgresOptions) -> String {
        let named = self.log.as_ref().or(options.log.as_ref());
        named.map_or("main", String::as_str).to_owned()
    }

    /// The encryption that the address asks for. These authorities count if it names none.
    pub(crate) fn encryption(
        &self,
        authorities: Option<&Path>,
    ) -> Result<Option<Encryption>, OpenError> {
        if self.config.get_ssl_mode() != SslMode::Require {
            return Ok(None);
        }
        let encryption = Encryption::new(self.authorities.as_deref().or(authorities));
        encryption.map(Some).map_err(|problem| OpenError::Address { problem })
    }

    /// The server and the database, without secrets, for messages.
    pub(crate) fn place(&self) -> String {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        });
        let hosts: Vec<_> = hosts.collect();
        format!("{}/{}", hosts.join(","), self.config.get_dbname().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_server_database_and_log() {
        let address = "postgresql://ann:secret@db:5433/shop?log=orders&connect_timeout=3";
        let parsed = DatabaseAddress::parse(address).unwrap();
        assert_eq!(parsed.log.as_deref(), Some("orders"));
        assert_eq!(parsed.config.get_ports(), [5433]);
        assert_eq!(parsed.place(), "db/shop");
        let plain = DatabaseAddress::parse("postgres://ann@localhost/shop").unwrap();
        assert_eq!(plain.log, None);
    }

    #[test]
    fn a_wrong_address_is_refused_without_its_password() {
        for address in [
            "mysql://ann:secret@db/shop",
            "postgres://ann:secret@db/shop?unknown=1",
            "postgres://ann:secret@db/shop?log=a&log=b",
            "postgres://ann:secret@db/shop?sslmode=sometimes",
        ] {
            let text = DatabaseAddress::parse(address).unwrap_err().to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
