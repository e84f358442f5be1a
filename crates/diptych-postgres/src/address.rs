//! Addresses of logs in PostgreSQL.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use tokio_postgres::{
    Config,
    config::{Host, SslMode, TargetSessionAttrs},
};

use crate::{error::OpenError, options::PostgresOptions, tls::Encryption};

/// The parameter of an address that names the log.
const LOG: &str = "log=";
/// The parameter that names the file with the certificates of authorities.
const AUTHORITIES: &str = "sslrootcert=";
/// The parameter that says whether connections are encrypted.
const ENCRYPTION: &str = "sslmode=";
/// The parameter that names replicas beside the primary.
const REPLICAS: &str = "replicas=";
/// The parameter that says which kind of server is meant.
const SERVER: &str = "target_session_attrs=";
/// Parameters of hosts, which are those of the primary.
const HOSTS: [&str; 3] = ["host=", "hostaddr=", "port="];

/// The kind of server that a store works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerRole {
    /// The server that takes writes.
    Primary,
    /// A replica, only to read. If none answers, the primary is read.
    Replica { or_primary: bool },
}

/// A replica that an address names beside its primary.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaAddress {
    /// Host and port as the address has them.
    pub(crate) name: String,
    pub(crate) config: Config,
}

/// An address such as `postgres://user@host/database?log=main`.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseAddress {
    pub(crate) config: Config,
    pub(crate) role: ServerRole,
    pub(crate) replicas: Vec<ReplicaAddress>,
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
        let (named, others) = take(others, REPLICAS);
        let (servers, others) = take(others, SERVER);
        let role = servers.last().map_or(Ok(ServerRole::Primary), |word| role_of(word));
        let role = role.map_err(wrong)?;
        let (modes, others) = take(others, ENCRYPTION);
        let mode = mode_of(&modes, authorities.is_some()).map_err(wrong)?;
        check_encryption(&others, mode).map_err(wrong)?;
        let config = config_of(base, &others, mode).map_err(wrong)?;
        let mut address = DatabaseAddress {
            config,
            role,
            replicas: Vec::new(),
            log,
            authorities: authorities.map(PathBuf::from),
        };
        address.config.target_session_attrs(match role {
            ServerRole::Primary => TargetSessionAttrs::ReadWrite,
            ServerRole::Replica { .. } => TargetSessionAttrs::ReadOnly,
        });
        let is_host = |parameter: &&str| HOSTS.iter().any(|host| parameter.starts_with(host));
        let own: Vec<&str> = others.into_iter().filter(|other| !is_host(other)).collect();
        for name in named.iter().flat_map(|names| names.split(',')) {
            let base = at_host(base, name).map_err(wrong)?;
            let config = config_of(&base, &own, mode).map_err(wrong)?;
            address.replicas.push(ReplicaAddress { name: name.to_owned(), config });
        }
        if role != ServerRole::Primary && !address.replicas.is_empty() {
            let problem = "it names replicas beside a replica: list all replicas as its hosts";
            return Err(wrong(problem.to_owned()));
        }
        Ok(address)
    }

    /// The log that the address or the options name. Without both it is `main`.
    pub(crate) fn log_name(&self, options: &PostgresOptions) -> String {
        let named = self.log.as_ref().or(options.log.as_ref());
        named.map_or("main", String::as_str).to_owned()
    }

    /// The hosts on other machines to which connections are not encrypted, although the address
    /// does not ask for that.
    pub(crate) fn plain_hosts(&self) -> Vec<String> {
        // The mode of a config whose address names none.
        if self.config.get_ssl_mode() != SslMode::Prefer {
            return Vec::new();
        }
        let is_here = |name: &str| {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        let replicas = self.replicas.iter().map(|replica| &replica.config);
        let hosts = std::iter::once(&self.config).chain(replicas).flat_map(Config::get_hosts);
        let names = hosts.filter_map(|host| match host {
            Host::Tcp(name) => (!is_here(name)).then(|| name.clone()),
            #[cfg(unix)]
            Host::Unix(_) => None,
        });
        let mut names: Vec<String> = names.collect();
        if self.config.get_hosts().is_empty() {
            let addresses = self.config.get_hostaddrs().iter();
            names.extend(addresses.filter(|at| !at.is_loopback()).map(IpAddr::to_string));
        }
        names
    }

    /// The encryption that the address asks for. These authorities count if it names none.
    pub(crate) fn encryption(
        &self,
        authorities: Option<&Path>,
    ) -> Result<Option<Encryption>, OpenError> {
        if self.config.get_ssl_mode() != SslMode::Require {
            warn_of_plain(self.plain_hosts());
            return Ok(None);
        }
        let encryption = Encryption::new(self.authorities.as_deref().or(authorities));
        encryption.map(Some).map_err(|problem| OpenError::Address { problem })
    }

    /// The address of the log with servers, ports, database and log, without user and secrets.
    pub(crate) fn bare(&self, options: &PostgresOptions) -> String {
        let (hosts, ports) = (self.config.get_hosts(), self.config.get_ports());
        let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(PORT);
        let mut servers: Vec<String> = Vec::new();
        let mut parameters: Vec<String> = Vec::new();
        for (at, host) in hosts.iter().enumerate() {
            match host {
                Host::Tcp(name) if name.contains(':') => {
                    servers.push(format!("[{name}]:{}", port(at)));
                }
                Host::Tcp(name) => servers.push(format!("{name}:{}", port(at))),
                #[cfg(unix)]
                Host::Unix(path) => {
                    parameters.push(format!("host={}", encoded(&path.display().to_string())));
                    parameters.push(format!("port={}", port(at)));
                }
            }
        }
        if hosts.is_empty() {
            let addresses = self.config.get_hostaddrs().iter().enumerate();
            servers.extend(addresses.map(|(at, host)| match host.is_ipv6() {
                true => format!("[{host}]:{}", port(at)),
                false => format!("{host}:{}", port(at)),
            }));
        }
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        parameters.push(format!("log={}", self.log_name(options)));
        format!("postgres://{}/{}?{}", servers.join(","), encoded(database), parameters.join("&"))
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

/// Warns once of each host.
fn warn_of_plain(mut hosts: Vec<String>) {
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut warned = WARNED.lock();
    hosts.retain(|host| warned.insert(host.clone()));
    if !hosts.is_empty() {
        tracing::warn!(
            hosts = hosts.join(","),
            "connections to a server elsewhere are not encrypted: add sslmode=require to the \
             address, or sslmode=disable if the network is trusted"
        );
    }
}

/// The port of a server of PostgreSQL that an address does not name.
const PORT: u16 = 5432;

/// The text as a part of an address.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Takes the values of one parameter out of the others.
fn take<'a>(all: Vec<&'a str>, name: &str) -> (Vec<&'a str>, Vec<&'a str>) {
    let (named, others): (Vec<&str>, Vec<&str>) =
        all.into_iter().partition(|parameter| parameter.starts_with(name));
    (named.into_iter().filter_map(|named| named.strip_prefix(name)).collect(), others)
}

fn role_of(word: &str) -> Result<ServerRole, String> {
    match word {
        "read-write" | "primary" => Ok(ServerRole::Primary),
        "read-only" | "standby" => Ok(ServerRole::Replica { or_primary: false }),
        "prefer-standby" => Ok(ServerRole::Replica { or_primary: true }),
        _ => Err("target_session_attrs has to be read-write for the primary, read-only for a \
                  replica, or prefer-standby for a replica or else the primary"
            .to_owned()),
    }
}

/// Whether connections are encrypted, if the address says so. Each connection is encrypted and its
/// server is checked, or no connection is encrypted. A word for anything between is refused: the
/// address would promise more, or less, than is done.
fn mode_of(words: &[&str], has_authorities: bool) -> Result<Option<SslMode>, String> {
    let mode = match words {
        [] => has_authorities.then_some(SslMode::Require),
        ["disable"] => Some(SslMode::Disable),
        ["require" | "verify-full"] => Some(SslMode::Require),
        [word @ ("allow" | "prefer")] => {
            return Err(format!(
                "sslmode={word} leaves it to the server whether connections are encrypted, so \
                 anyone between can turn that off: say sslmode=require to encrypt each connection, \
                 or sslmode=disable to encrypt none"
            ));
        }
        ["verify-ca"] => {
            return Err("sslmode=verify-ca does not check the name of the server, and here that \
                        is always checked: say sslmode=require, and use the name that the \
                        certificate has"
                .to_owned());
        }
        [_] => {
            return Err("sslmode has to be require, to encrypt each connection and to check the \
                        certificate of its server, or disable, to encrypt none"
                .to_owned());
        }
        _ => return Err("it says sslmode several times: say it once".to_owned()),
    };
    if has_authorities && mode == Some(SslMode::Disable) {
        return Err(
            "sslrootcert is for encrypted connections, and sslmode=disable asks for none: \
                    leave one of them out"
                .to_owned(),
        );
    }
    Ok(mode)
}

/// Refuses parameters of encryption that cannot be honoured.
fn check_encryption(parameters: &[&str], mode: Option<SslMode>) -> Result<(), String> {
    for parameter in parameters {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (name, value) {
            ("sslcert" | "sslkey" | "sslpassword", _) => {
                return Err(format!(
                    "{name} is for certificates of clients, which are not supported: leave it out, \
                     and let the role log in with a password"
                ));
            }
            ("channel_binding", "require") => {
                return Err("channel_binding=require cannot be kept: leave it out; with \
                            sslmode=require the certificate of the server is checked"
                    .to_owned());
            }
            ("sslnegotiation", "direct") if mode != Some(SslMode::Require) => {
                return Err("sslnegotiation=direct is for encrypted connections: say \
                            sslmode=require, too"
                    .to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

/// The connection to a server. The text of the error has no part of the address, which may contain
/// a password.
fn config_of(base: &str, parameters: &[&str], mode: Option<SslMode>) -> Result<Config, String> {
    let text = match parameters.is_empty() {
        true => base.to_owned(),
        false => format!("{base}?{}", parameters.join("&")),
    };
    let mut config: Config = text.parse().map_err(|error| format!("{error}"))?;
    if let Some(mode) = mode {
        config.ssl_mode(mode);
    }
    if config.get_application_name().is_none() {
        config.application_name("diptych");
    }
    Ok(config)
}

/// The address with this host and port in the place of its own.
fn at_host(base: &str, host: &str) -> Result<String, String> {
    if host.is_empty() || host.contains(['/', '@', ' ']) {
        return Err("replicas has to be hosts with their ports, as in \
                    replicas=two.example:5432,three.example:5432"
            .to_owned());
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("postgres", base));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let user = authority.rsplit_once('@').map_or(String::new(), |(user, _)| format!("{user}@"));
    Ok(format!("{scheme}://{user}{host}/{database}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_have_the_user_and_the_database_of_their_primary() {
        let address = "postgres://ann:secret@db:5433/shop?log=orders&replicas=two:5434,three&\
                       connect_timeout=3";
        let parsed = DatabaseAddress::parse(address).unwrap();
        let ports = parsed.replicas.iter().map(|replica| {
            assert_eq!(replica.config.get_user(), Some("ann"));
            assert_eq!(replica.config.get_dbname(), Some("shop"));
            (replica.name.clone(), replica.config.get_ports().to_vec())
        });
        let expected = vec![("two:5434".to_owned(), vec![5434]), ("three".to_owned(), vec![5432])];
        assert_eq!(ports.collect::<Vec<_>>(), expected);
        let socket = "postgres:///shop?host=/var/run/postgresql&replicas=two:5434";
        let parsed = DatabaseAddress::parse(socket).unwrap();
        assert_eq!(parsed.replicas[0].config.get_hosts(), [Host::Tcp("two".to_owned())]);
        for wrong in ["replicas=", "replicas=a,,b", "target_session_attrs=read-only&replicas=a"] {
            let error = DatabaseAddress::parse(&format!("postgres://db/shop?{wrong}")).unwrap_err();
            assert!(error.to_string().contains("replica"), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_address_says_which_kind_of_server_is_meant() {
        let role = |word: &str| {
            let address = format!("postgres://db/shop?target_session_attrs={word}");
            DatabaseAddress::parse(&address).map(|parsed| parsed.role).map_err(|e| e.to_string())
        };
        assert_eq!(role("read-write"), Ok(ServerRole::Primary));
        assert_eq!(role("read-only"), Ok(ServerRole::Replica { or_primary: false }));
        assert_eq!(role("prefer-standby"), Ok(ServerRole::Replica { or_primary: true }));
        assert!(role("any").unwrap_err().contains("prefer-standby"));
    }

    fn refusal(parameters: &str) -> String {
        let address = format!("postgres://ann:secret@db/shop?{parameters}");
        let text = DatabaseAddress::parse(&address).unwrap_err().to_string();
        assert!(!text.contains("secret"), "{text}");
        text
    }

    #[test]
    fn every_connection_is_encrypted_or_none_and_other_words_are_refused_with_the_next_step() {
        let mode = |parameters: &str| {
            let address = format!("postgres://ann@db/shop?{parameters}&replicas=two:5432");
            let parsed = DatabaseAddress::parse(&address).unwrap();
            let modes = [&parsed.config, &parsed.replicas[0].config].map(Config::get_ssl_mode);
            assert_eq!(modes[0], modes[1], "replicas are as the primary");
            modes[0]
        };
        for encrypted in [
            "sslmode=require",
            "sslmode=verify-full",
            "sslrootcert=ca.pem",
            "log=a&sslmode=require",
        ] {
            assert_eq!(mode(encrypted), SslMode::Require, "{encrypted}");
        }
        assert_eq!(mode("sslmode=require&sslnegotiation=direct"), SslMode::Require);
        assert_eq!(mode("sslmode=disable"), SslMode::Disable);
        for word in ["prefer", "allow"] {
            let text = refusal(&format!("sslmode={word}"));
            assert!(text.contains("say sslmode=require to encrypt each connection"), "{text}");
            assert!(text.contains("or sslmode=disable to encrypt none"), "{text}");
        }
        let text = refusal("sslmode=verify-ca");
        assert!(text.contains("use the name that the certificate has"), "{text}");
        let text = refusal("sslmode=sometimes");
        assert!(text.contains("has to be require"), "{text}");
        let text = refusal("sslmode=require&sslmode=disable");
        assert!(text.contains("several times"), "{text}");
        let text = refusal("sslmode=disable&sslrootcert=ca.pem");
        assert!(text.contains("leave one of them out"), "{text}");
        let text = refusal("sslmode=require&sslcert=own.pem");
        assert!(text.contains("certificates of clients"), "{text}");
        let text = refusal("sslmode=require&channel_binding=require");
        assert!(text.contains("leave it out"), "{text}");
        let text = refusal("sslnegotiation=direct");
        assert!(text.contains("say sslmode=require, too"), "{text}");
    }

    #[test]
    fn hosts_elsewhere_without_encryption_are_known_unless_the_address_asks_for_that() {
        let plain = |address: &str| DatabaseAddress::parse(address).unwrap().plain_hosts();
        let all = plain("postgres://ann@db.example,localhost,127.0.0.1/shop?replicas=two:5432");
        assert_eq!(all, ["db.example", "two"]);
        assert_eq!(plain("postgres:///shop?user=ann&hostaddr=10.0.0.1"), ["10.0.0.1"]);
        for known in [
            "postgres://ann@[::1]/shop",
            "postgres:///shop?host=/var/run/postgresql",
            "postgres://ann@db.example/shop?sslmode=disable",
            "postgres://ann@db.example/shop?sslmode=require",
        ] {
            assert_eq!(plain(known), Vec::<String>::new(), "{known}");
        }
    }

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
    fn a_bare_address_names_the_log_and_has_no_user_and_no_secret() {
        let bare = |address: &str| {
            let parsed = DatabaseAddress::parse(address).unwrap();
            let bare = parsed.bare(&PostgresOptions::default());
            let again = DatabaseAddress::parse(&bare).unwrap();
            assert_eq!(again.bare(&PostgresOptions::default()), bare, "it leads to the same log");
            bare
        };
        let secret = "postgres://ann:a/b@db/shop?log=orders&password=c&connect_timeout=3";
        assert_eq!(bare(secret), "postgres://db:5432/shop?log=orders");
        assert_eq!(
            bare("postgresql://one,two:5433/shop"),
            "postgres://one:5432,two:5433/shop?log=main"
        );
        assert_eq!(bare("postgres://ann@[::1]:7/"), "postgres://[::1]:7/ann?log=main");
        assert_eq!(bare("postgres://db:8/a%20shop"), "postgres://db:8/a%20shop?log=main");
        assert_eq!(
            bare("postgres:///shop?host=/var/run/postgresql&log=bank"),
            "postgres:///shop?host=/var/run/postgresql&port=5432&log=bank"
        );
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
