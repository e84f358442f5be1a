//! Addresses of stores on the command line. A store is a folder today: `PATH` or `file:PATH`.

use std::{ffi::OsString, path::PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};

/// Parses the address of a store that is a folder.
pub(crate) fn folder() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(parse)
}

fn parse(address: OsString) -> Result<PathBuf, String> {
    // A path that is not text has no scheme.
    let Some(text) = address.to_str() else { return Ok(PathBuf::from(address)) };
    let path = match scheme(text) {
        None => text,
        Some(("file", path)) => match path.strip_prefix("//") {
            Some(path) if path.starts_with('/') => path,
            Some(_) => {
                return Err("a file: address names no host: write file:PATH, such as \
                            file:/var/bank"
                    .to_owned());
            }
            None => path,
        },
        Some((scheme, _)) => {
            return Err(format!(
                "this version opens folders only, and no {scheme}: store; give PATH or \
                 file:PATH, and ./{scheme}:… for a folder of that name"
            ));
        }
    };
    match path.is_empty() {
        true => Err("the address is empty: give the folder of a log".to_owned()),
        false => Ok(PathBuf::from(path)),
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

    fn folder(address: &str) -> Result<PathBuf, String> {
        parse(address.into())
    }

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
            assert_eq!(folder(address), Ok(PathBuf::from(path)), "{address}");
        }
    }

    #[test]
    fn an_address_of_another_scheme_is_an_error_that_names_the_scheme() {
        for address in ["postgres://db/bank", "diptych://host:1/bank", "memory:", "https://x"] {
            let (scheme, _) = address.split_once(':').unwrap();
            let error = folder(address).unwrap_err();
            assert!(error.contains(&format!("no {scheme}: store")), "{error}");
        }
        assert!(folder("file://host/bank").unwrap_err().contains("names no host"));
        assert!(folder("").unwrap_err().contains("empty"));
        assert!(folder("file:").unwrap_err().contains("empty"));
    }
}
