//! Addresses of logs on servers: `diptych://host:port/log`, and `diptychs://host:port/log` with
//! encryption. `http://` and `https://` mean the same.

use crate::client::ConnectError;

/// The name of the log of a server that has one.
const DEFAULT_LOG: &str = "log";
/// The port of a server of logs.
const DEFAULT_PORT: u16 = 4500;

/// The address of a log on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    /// The address of the server, with a scheme that HTTP knows.
    pub(crate) endpoint: String,
    /// The name of the log.
    pub(crate) log: String,
    pub(crate) is_encrypted: bool,
}

impl ServerAddress {
    pub(crate) fn parse(address: &str) -> Result<ServerAddress, ConnectError> {
        let wrong = |problem| ConnectError::Address { address: address.to_owned(), problem };
        const FORM: &str =
            "write diptych://host:port/log, or diptychs://host:port/log with encryption";
        let (scheme, rest) = address.split_once("://").ok_or_else(|| wrong(FORM))?;
        let is_encrypted = match scheme {
            "diptych" | "http" => false,
            "diptychs" | "https" => true,
            _ => return Err(wrong(FORM)),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() || host.contains(['@', '?', '#', ' ']) {
            return Err(wrong("the host is missing, or has characters that no host has"));
        }
        let log = if path.is_empty() { DEFAULT_LOG } else { path };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !log.chars().all(is_name) {
            return Err(wrong(
                "the name of a log has letters, digits, dashes, dots and underscores",
            ));
        }
        // The last colon of an IPv6 address stands inside its brackets.
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let host = if has_port { host.to_owned() } else { format!("{host}:{DEFAULT_PORT}") };
        let scheme = if is_encrypted { "https" } else { "http" };
        let endpoint = format!("{scheme}://{host}");
        Ok(ServerAddress { endpoint, log: log.to_owned(), is_encrypted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_a_host_and_perhaps_a_port_and_the_name_of_a_log() {
        for (address, endpoint, log) in [
            ("diptych://localhost", "http://localhost:4500", "log"),
            ("diptych://localhost:7/", "http://localhost:7", "log"),
            ("diptych://[::1]:7/orders", "http://[::1]:7", "orders"),
            ("https://[::1]/log", "https://[::1]:4500", "log"),
        ] {
            let parsed = ServerAddress::parse(address).unwrap();
            assert_eq!((&*parsed.endpoint, &*parsed.log), (endpoint, log), "{address}");
            assert_eq!(parsed.is_encrypted, endpoint.starts_with("https"), "{address}");
        }
    }

    #[test]
    fn an_address_of_another_form_is_an_error() {
        for address in ["localhost:4500", "ftp://a", "diptych://", "diptych://a/b/c", "http://u@h"]
        {
            assert!(ServerAddress::parse(address).is_err(), "{address}");
        }
    }
}
