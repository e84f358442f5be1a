//! Addresses of logs on the command line.

use std::{ffi::OsString, fmt, path::PathBuf, str::FromStr};

use clap::builder::{OsStringValueParser, TypedValueParser};
use diptych::remote::{StoreAddress, without_secrets};

/// The address of a log that outlives the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogAddress {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A log that is no folder.
    Remote(RemoteLog),
}

/// The address of a log that is no folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RemoteLog {
    /// The log of a server.
    Server(String),
    /// A log in a database.
    Database(String),
}

impl RemoteLog {
    /// The whole address, with its secrets.
    pub(crate) fn address(&self) -> &str {
        match self {
            RemoteLog::Server(address) | RemoteLog::Database(address) => address,
        }
    }
}

impl fmt::Display for RemoteLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_secrets(self.address()))
    }
}

/// Parses the address of a log.
pub(crate) fn log() -> impl TypedValueParser<Value = LogAddress> {
    OsStringValueParser::new().try_map(parse)
}

/// Parses the address of a log that is a folder.
pub(crate) fn folder() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(parse_folder)
}

/// Parses the address of a log in PostgreSQL.
pub(crate) fn database() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().try_map(parse_database)
}

fn parse_database(address: OsString) -> Result<String, String> {
    match StoreAddress::parse(address).map_err(|error| error.problem().to_owned())? {
        StoreAddress::Database(address) => Ok(address),
        _ => Err("this command works on a log in PostgreSQL: give an address such as \
                  postgres://ann@localhost/shop?log=orders"
            .to_owned()),
    }
}

/// A service that is asked for its part of a flow, with the name that the tree shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceAddress {
    pub(crate) name: String,
    pub(crate) at: ServicePlace,
}

/// The place of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServicePlace {
    /// An application over HTTP.
    Http(String),
    /// A log.
    Log(LogAddress),
}

impl FromStr for ServiceAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ServiceAddress, String> {
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        let is_name = |name: &str| !name.is_empty() && name.chars().all(is_plain);
        let named = text.split_once('=').filter(|(name, _)| is_name(name));
        let address = named.map_or(text, |(_, address)| address);
        let name = named.map_or_else(|| without_secrets(text), |(name, _)| name.to_owned());
        let is_http = ["http://", "https://"].iter().any(|scheme| address.starts_with(scheme));
        let at = match is_http {
            true => ServicePlace::Http(address.to_owned()),
            false => ServicePlace::Log(parse(address.into())?),
        };
        Ok(ServiceAddress { name, at })
    }
}

impl fmt::Display for LogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogAddress::Folder(folder) => write!(f, "{}", folder.display()),
            LogAddress::Remote(log) => write!(f, "{log}"),
        }
    }
}

fn parse(address: OsString) -> Result<LogAddress, String> {
    match StoreAddress::parse(address).map_err(|error| error.problem().to_owned())? {
        StoreAddress::Folder(folder) => Ok(LogAddress::Folder(folder)),
        StoreAddress::Server(address) => Ok(LogAddress::Remote(RemoteLog::Server(address))),
        StoreAddress::Database(address) => Ok(LogAddress::Remote(RemoteLog::Database(address))),
        _ => Err("a command works with no memory: store, which would end with the command; give \
                  a folder or the address of a server"
            .to_owned()),
    }
}

/// Parses the address of a log that is a folder.
pub(crate) fn parse_folder(address: OsString) -> Result<PathBuf, String> {
    match parse(address)? {
        LogAddress::Folder(folder) => Ok(folder),
        LogAddress::Remote(RemoteLog::Server(_)) => {
            Err("this command works on the files of a log: run it on the machine of the server, \
                 with the folder that the server serves"
                .to_owned())
        }
        LogAddress::Remote(RemoteLog::Database(_)) => {
            Err("this command works on the files of a log, and a database has none: give a folder"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_a_folder_or_on_a_server() {
        assert_eq!(parse("file:bank".into()), Ok(LogAddress::Folder("bank".into())));
        let server = "diptych://localhost/log";
        assert_eq!(
            parse(server.into()),
            Ok(LogAddress::Remote(RemoteLog::Server(server.to_owned())))
        );
        let database = "postgres://ann:secret@db/shop?log=orders";
        let parsed = parse(database.into()).unwrap();
        assert_eq!(parsed, LogAddress::Remote(RemoteLog::Database(database.to_owned())));
        assert_eq!(parsed.to_string(), "postgres://db/shop?log=orders");
        assert!(parse("memory:".into()).unwrap_err().contains("no memory: store"));
        assert!(parse("nats://x".into()).unwrap_err().contains("no nats: store"));
    }

    #[test]
    fn a_service_is_over_http_or_a_log_and_may_have_a_name() {
        let of = |text: &str| text.parse::<ServiceAddress>().map(|of| (of.name, of.at));
        let http = |url: &str| ServicePlace::Http(url.to_owned());
        let url = "https://shipping.example/?a=b";
        assert_eq!(of(url), Ok((url.to_owned(), http(url))));
        assert_eq!(of(&format!("shipping={url}")), Ok(("shipping".to_owned(), http(url))));
        let secret = "https://ada:pass@shipping.example/?a=b@c";
        let shown = "https://shipping.example/?a=b@c";
        assert_eq!(of(secret), Ok((shown.to_owned(), http(secret))));
        let secret = "https://ada:p@ss@shipping.example";
        assert_eq!(of(secret), Ok(("https://shipping.example".to_owned(), http(secret))));
        let log = RemoteLog::Server("diptych://localhost/log".to_owned());
        let log = ServicePlace::Log(LogAddress::Remote(log));
        assert_eq!(of("bills=diptych://localhost/log"), Ok(("bills".to_owned(), log)));
        let folder = ServicePlace::Log(LogAddress::Folder("bank".into()));
        assert_eq!(of("bank"), Ok(("bank".to_owned(), folder)));
        assert!(of("x=memory:").unwrap_err().contains("no memory: store"));
    }

    #[test]
    fn a_command_on_a_database_refuses_every_other_address() {
        let address = "postgres://ann@db/shop?log=orders";
        assert_eq!(parse_database(address.into()), Ok(address.to_owned()));
        for address in ["bank", "diptych://localhost/log", "memory:"] {
            let error = parse_database(address.into()).unwrap_err();
            assert!(error.contains("a log in PostgreSQL"), "{error}");
        }
    }

    #[test]
    fn a_command_on_files_refuses_the_address_of_a_server() {
        assert_eq!(parse_folder("bank".into()), Ok("bank".into()));
        let error = parse_folder("diptych://localhost/log".into()).unwrap_err();
        assert!(error.contains("on the machine of the server"), "{error}");
        let error = parse_folder("postgres://localhost/shop".into()).unwrap_err();
        assert!(error.contains("a database has none"), "{error}");
    }
}
