//! Addresses of logs on servers: `diptych://host:port/log`, and `diptychs://host:port/log` with
//! encryption. `http://` and `https://` mean the same. Feeds have `/feeds/name` behind the port.

use crate::client::ConnectError;

/// The name of the log of a server that has one.
const DEFAULT_LOG: &str = "log";
/// The port of a server of logs.
const DEFAULT_PORT: u16 = 4500;

/// The part of an address before the name of a feed.
const FEEDS: &str = "feeds/";

/// The address of a log on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    pub(crate) endpoint: EndpointAddress,
    /// The name of the log.
    pub(crate) log: String,
}

/// The address of a feed on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FeedAddress {
    pub(crate) endpoint: EndpointAddress,
    /// The name of the feed.
    pub(crate) feed: String,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointAddress {
    /// With a scheme that HTTP knows.
    pub(crate) url: String,
    pub(crate) is_encrypted: bool,
}

impl ServerAddress {
    pub(crate) fn parse(address: &str) -> Result<ServerAddress, ConnectError> {
        let wrong = |problem| ConnectError::Address { address: address.to_owned(), problem };
        const FORM: &str =
            "write diptych://host:port/log, or diptychs://host:port/log with encryption";
        let (endpoint, path) = split(address, FORM).map_err(wrong)?;
        let log = if path.is_empty() { DEFAULT_LOG } else { path };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !log.chars().all(is_name) {
            return Err(wrong(
                "the name of a log has letters, digits, dashes, dots and underscores",
            ));
        }
        Ok(ServerAddress { endpoint, log: log.to_owned() })
    }
}

impl FeedAddress {
    pub(crate) fn parse(address: &str) -> Result<FeedAddress, ConnectError> {
        let wrong = |problem| ConnectError::FeedAddress { address: address.to_owned(), problem };
        const FORM: &str = "write diptych://host:port/feeds/name, or diptychs:// with encryption";
        let (endpoint, path) = split(address, FORM).map_err(wrong)?;
        let feed = path.strip_prefix(FEEDS).ok_or_else(|| wrong(FORM))?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if feed.is_empty() || !feed.chars().all(is_name) {
            return Err(wrong("the name of a feed has small letters, digits and dashes"));
        }
        Ok(FeedAddress { endpoint, feed: feed.to_owned() })
    }
}

/// The server of an address, and the path after it.
fn split<'a>(
    address: &'a str,
    form: &'static str,
) -> Result<(EndpointAddress, &'a str), &'static str> {
    let (scheme, rest) = address.split_once("://").ok_or(form)?;
    let is_encrypted = match scheme {
        "diptych" | "http" => false,
        "diptychs" | "https" => true,
        _ => return Err(form),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.is_empty() || host.contains(['@', '?', '#', ' ']) {
        return Err("the host is missing, or has characters that no host has");
    }
    // The last colon of an IPv6 address stands inside its brackets.
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let host = if has_port { host.to_owned() } else { format!("{host}:{DEFAULT_PORT}") };
    let scheme = if is_encrypted { "https" } else { "http" };
    Ok((EndpointAddress { url: format!("{scheme}://{host}"), is_encrypted }, path))
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
            assert_eq!((&*parsed.endpoint.url, &*parsed.log), (endpoint, log), "{address}");
            assert_eq!(parsed.endpoint.is_encrypted, endpoint.starts_with("https"), "{address}");
        }
    }

    #[test]
    fn an_address_of_a_feed_has_its_name_behind_the_word_feeds() {
        let parsed = FeedAddress::parse("diptychs://[::1]/feeds/orders-2").unwrap();
        assert_eq!((&*parsed.endpoint.url, &*parsed.feed), ("https://[::1]:4500", "orders-2"));
        for address in [
            "diptych://a",
            "diptych://a/orders",
            "diptych://a/feeds",
            "diptych://a/feeds/",
            "diptych://a/feeds/Orders",
            "diptych://a/feeds/orders/2",
            "feeds/orders",
        ] {
            let error = FeedAddress::parse(address).unwrap_err().to_string();
            assert!(error.contains("no address of a feed"), "{error}");
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
