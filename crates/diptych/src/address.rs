//! Addresses of stores, as programs and the command line take them.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The schemes of addresses of servers.
const SERVER_SCHEMES: [&str; 4] = ["diptych", "diptychs", "http", "https"];
/// The schemes of addresses of databases.
const DATABASE_SCHEMES: [&str; 2] = ["postgres", "postgresql"];

/// The address of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreAddress {
    /// The folder of a log: `PATH` or `file:PATH`.
    Folder(PathBuf),
    /// A new store in memory, which ends with its handles: `memory:`.
    Memory,
    /// The log of a server: `diptych://host:port/log`. The client of the server parses the rest.
    Server(String),
    /// A log in PostgreSQL: `postgres://user@host/database?log=NAME`. The store parses the rest.
    Database(String),
}

/// A text that is no address of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{:?} is no address of a log: {problem}", without_secrets(address))]
pub struct InvalidAddress {
    address: String,
    problem: String,
}

impl StoreAddress {
    /// Parses an address. A text without a scheme is a folder, and so is a path that is no text.
    ///
    /// # Errors
    /// [`InvalidAddress`] if the address is empty, or has a scheme that this version does not know.
    pub fn parse(address: impl AsRef<OsStr>) -> Result<StoreAddress, InvalidAddress> {
        let address = address.as_ref();
        match address.to_str() {
            Some(text) => text.parse(),
            None => Ok(StoreAddress::Folder(Path::new(address).to_owned())),
        }
    }
}

impl FromStr for StoreAddress {
    type Err = InvalidAddress;

    fn from_str(address: &str) -> Result<StoreAddress, InvalidAddress> {
        let wrong = |problem: String| InvalidAddress { address: address.to_owned(), problem };
        match scheme(address) {
            None => folder(address).map_err(wrong),
            Some(("file", path)) => match path.strip_prefix("//") {
                Some(path) if path.starts_with('/') => folder(path).map_err(wrong),
                Some(_) => Err(wrong(
                    "a file: address names no host: write file:PATH, such as file:/var/bank"
                        .to_owned(),
                )),
                None => folder(path).map_err(wrong),
            },
            Some(("memory", "")) => Ok(StoreAddress::Memory),
            Some(("memory", _)) => {
                Err(wrong("a store in memory has no name: write memory:".into()))
            }
            Some((scheme, rest)) if SERVER_SCHEMES.contains(&scheme) => {
                match rest.starts_with("//") {
                    true => Ok(StoreAddress::Server(address.to_owned())),
                    false => Err(wrong(format!("write {scheme}://host:port/log"))),
                }
            }
            Some((scheme, rest)) if DATABASE_SCHEMES.contains(&scheme) => {
                match rest.starts_with("//") {
                    true => Ok(StoreAddress::Database(address.to_owned())),
                    false => Err(wrong(format!("write {scheme}://user@host/database?log=NAME"))),
                }
            }
            Some((scheme, _)) => Err(wrong(format!(
                "this version has no {scheme}: store; give a folder as PATH or file:PATH, \
                 diptych://host:port/log for the log of a server, \
                 postgres://user@host/database?log=NAME for one in PostgreSQL, and ./{scheme}:… \
                 for a folder of that name"
            ))),
        }
    }
}

impl InvalidAddress {
    /// The mistake, and the form that is right.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

fn folder(path: &str) -> Result<StoreAddress, String> {
    match path.is_empty() {
        true => Err("the address is empty: give the folder of a log".to_owned()),
        false => Ok(StoreAddress::Folder(PathBuf::from(path))),
    }
}

/// An address without its user, its password, and a parameter `password`, for messages.
pub fn without_secrets(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let place = rest[..end].rfind('@').map_or(rest, |at| &rest[at + 1..]);
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    let is_shown = |parameter: &&str| !parameter.is_empty() && !parameter.starts_with("password=");
    let shown: Vec<_> = query.split('&').filter(is_shown).collect();
    match shown.is_empty() {
        true => format!("{scheme}://{place}"),
        false => format!("{scheme}://{place}?{}", shown.join("&")),
    }
}

/// The scheme of an address and the rest. A single letter is not a scheme but a drive on Windows.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let begins = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    (scheme.len() > 1 && begins && scheme.chars().all(is_scheme)).then_some((scheme, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_folder_is_its_path_with_or_without_file() {
        for (address, path) in [
            ("bank", "bank"),
            ("file:bank", "bank"),
            ("file:/var/bank", "/var/bank"),
            ("file:///var/bank", "/var/bank"),
            ("./nats:x", "./nats:x"),
            (r"C:\bank", r"C:\bank"),
            ("2013:01", "2013:01"),
        ] {
            assert_eq!(StoreAddress::parse(address), Ok(StoreAddress::Folder(path.into())));
        }
    }

    #[test]
    fn an_address_of_a_server_is_kept_as_it_is() {
        for address in ["diptych://host:1/bank", "https://host", "diptychs://[::1]:7/log"] {
            assert_eq!(StoreAddress::parse(address), Ok(StoreAddress::Server(address.into())));
        }
        let address = "postgres://ann@db/shop?log=orders";
        assert_eq!(StoreAddress::parse(address), Ok(StoreAddress::Database(address.into())));
        assert_eq!(StoreAddress::parse("memory:"), Ok(StoreAddress::Memory));
    }

    #[test]
    fn a_message_has_no_secret_of_an_address() {
        for (address, shown) in [
            ("postgres://ann:pass@db/shop?log=a&password=pass", "postgres://db/shop?log=a"),
            ("postgres:///shop?password=pass", "postgres:///shop"),
            ("https://ada:p@ss@shop.example/?a=b@c", "https://shop.example/?a=b@c"),
            ("diptych://localhost/log", "diptych://localhost/log"),
            ("bank@home", "bank@home"),
        ] {
            assert_eq!(without_secrets(address), shown);
        }
        let error = StoreAddress::parse("mysql://ann:pass@db").unwrap_err().to_string();
        assert!(!error.contains("pass"), "{error}");
    }

    #[test]
    fn an_unknown_scheme_or_a_missing_part_is_an_error_that_names_the_right_form() {
        for (address, said) in [
            ("mysql://db/bank", "no mysql: store"),
            ("postgres:db", "write postgres://user@host/database"),
            ("memory:bank", "write memory:"),
            ("diptych:host", "write diptych://host:port/log"),
            ("file://host/bank", "names no host"),
            ("", "empty"),
            ("file:", "empty"),
        ] {
            let error = StoreAddress::parse(address).unwrap_err();
            assert!(error.problem().contains(said), "{address}: {error}");
        }
    }
}
