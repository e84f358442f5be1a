//! Addresses of logs on the command line.

use std::{ffi::OsString, path::PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use diptych::remote::StoreAddress;

/// The address of a log that outlives the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogAddress {
    /// A folder of this machine.
    Folder(PathBuf),
    /// The log of a server.
    Server(String),
}

/// Parses the address of a log.
pub(crate) fn log() -> impl TypedValueParser<Value = LogAddress> {
    OsStringValueParser::new().try_map(parse)
}

/// Parses the address of a log that is a folder.
pub(crate) fn folder() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(parse_folder)
}

fn parse(address: OsString) -> Result<LogAddress, String> {
    match StoreAddress::parse(address).map_err(|error| error.problem().to_owned())? {
        StoreAddress::Folder(folder) => Ok(LogAddress::Folder(folder)),
        StoreAddress::Server(address) => Ok(LogAddress::Server(address)),
        _ => Err("a command works with no memory: store, which would end with the command; give \
                  a folder or the address of a server"
            .to_owned()),
    }
}

/// Parses the address of a log that is a folder.
pub(crate) fn parse_folder(address: OsString) -> Result<PathBuf, String> {
    match parse(address)? {
        LogAddress::Folder(folder) => Ok(folder),
        LogAddress::Server(_) => Err("this command works on the files of a log: run it on the \
                                      machine of the server, with the folder that the server \
                                      serves"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_a_folder_or_on_a_server() {
        assert_eq!(parse("file:bank".into()), Ok(LogAddress::Folder("bank".into())));
        let server = "diptych://localhost/log";
        assert_eq!(parse(server.into()), Ok(LogAddress::Server(server.to_owned())));
        assert!(parse("memory:".into()).unwrap_err().contains("no memory: store"));
        assert!(parse("nats://x".into()).unwrap_err().contains("no nats: store"));
    }

    #[test]
    fn a_command_on_files_refuses_the_address_of_a_server() {
        assert_eq!(parse_folder("bank".into()), Ok("bank".into()));
        let error = parse_folder("diptych://localhost/log".into()).unwrap_err();
        assert!(error.contains("on the machine of the server"), "{error}");
    }
}
