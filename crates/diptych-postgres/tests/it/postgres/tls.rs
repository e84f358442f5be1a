//! Connections with TLS, to a server with a certificate of its own authority.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::PathBuf,
};

use diptych_postgres::{PostgresOptions, PostgresStore};
use diptych_store::{Append, Store};
use pollster::block_on;

use super::{
    append, event, logged, payloads,
    server::{PostgresServer, runtime},
};

/// A server that takes TLS, and the file with its certificate.
fn encrypted(hosts: &[&str]) -> Option<(PostgresServer, PathBuf)> {
    let mut server = PostgresServer::start()?;
    let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let owner = fs::metadata(server.folder()).unwrap();
    let file = |name: &str, text: String| {
        let path = server.folder().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        path
    };
    let certificate = file("server.crt", made.cert.pem());
    let key = file("server.key", made.signing_key.serialize_pem());
    for (setting, path) in [("ssl_cert_file", &certificate), ("ssl_key_file", &key)] {
        server.execute("postgres", &format!("alter system set {setting} = '{}'", path.display()));
    }
    server.execute("postgres", "alter system set ssl = on");
    server.stop();
    server.restart();
    Some((server, certificate))
}

fn open(address: &str, authorities: Option<PathBuf>) -> Result<Store, String> {
    let mut options = PostgresOptions::default();
    options.authorities = authorities;
    let store = block_on(PostgresStore::open(address, options));
    store.map(Store::new).map_err(|error| error.to_string())
}

/// Numbers of connections of stores with TLS, and without it.
fn connections(server: &PostgresServer) -> (i64, i64) {
    let sql = "select count(*) filter (where ssl) as with_tls, count(*) filter (where not ssl) as \
               without from pg_stat_ssl join pg_stat_activity using (pid) where application_name \
               = 'diptych'";
    runtime().block_on(async {
        let row = server.client("postgres").await.query_one(sql, &[]).await.unwrap();
        (row.get("with_tls"), row.get("without"))
    })
}

#[test]
fn every_connection_of_a_store_is_encrypted_and_its_server_is_checked() {
    let Some((server, certificate)) = encrypted(&["localhost", "127.0.0.1"]) else { return };
    let plain = server.address("postgres", "main");
    let required = format!("{plain}&sslmode=require");
    let named = format!("{plain}&sslrootcert={}", certificate.display());
    for (address, authorities) in [(&required, Some(certificate.clone())), (&named, None)] {
        let store = open(address, authorities).unwrap();
        append(&store, Append::event(event(0, "k:1"))).unwrap();
        assert!(!payloads(&store).is_empty());
        let (with_tls, without) = connections(&server);
        assert!(with_tls >= 2 && without == 0, "{with_tls} with TLS, {without} without");
    }
    // The authorities of the system did not issue the certificate.
    let error = open(&required, None).err().unwrap();
    assert!(error.contains("certificate"), "{error}");
    let wrong = server.folder().join("missing.crt");
    let error = open(&required, Some(wrong)).err().unwrap();
    assert!(error.contains("missing.crt"), "{error}");
}

#[test]
fn a_server_with_the_certificate_of_another_host_or_without_tls_is_refused() {
    let Some((server, certificate)) = encrypted(&["db.example"]) else { return };
    let required = format!("{}&sslmode=require", server.address("postgres", "main"));
    let error = open(&required, Some(certificate.clone())).err().unwrap();
    assert!(error.contains("not valid for name"), "{error}");
    server.execute("postgres", "alter system set ssl = off");
    server.execute("postgres", "select pg_reload_conf()");
    let plain = server.address("postgres", "main");
    drop(open(&plain, None).unwrap());
    let mut error = String::new();
    // The server may read its settings a little later.
    while !error.contains("does not support TLS") {
        error = open(&required, Some(certificate.clone())).err().unwrap();
    }
}

/// Once, `sslmode=prefer` was taken, and no connection was encrypted.
#[test]
fn no_connection_is_unencrypted_by_the_choice_of_a_server_or_without_a_word() {
    logged::collect();
    let Some((server, certificate)) = encrypted(&["db.example"]) else { return };
    let plain = server.address("postgres", "main");
    for mode in ["prefer", "allow"] {
        let error = open(&format!("{plain}&sslmode={mode}"), None).err().unwrap();
        assert!(error.contains("say sslmode=require"), "{error}");
    }
    assert_eq!(connections(&server), (0, 0));
    let named = plain.replace("127.0.0.1", "db.example") + "&hostaddr=127.0.0.1";
    let full = format!("{named}&sslmode=verify-full");
    let store = open(&full, Some(certificate)).unwrap();
    append(&store, Append::event(event(0, "k:1"))).unwrap();
    let (with_tls, without) = connections(&server);
    assert!(with_tls >= 2 && without == 0, "{with_tls} with TLS, {without} without");
    drop(store);
    let warned = || logged::text().matches("hosts=\"db.example\"").count();
    drop(open(&format!("{named}&sslmode=disable"), None).unwrap());
    assert_eq!(warned(), 0);
    for _ in 0..2 {
        drop(open(&named, None).unwrap());
    }
    assert_eq!(warned(), 1, "it is told once");
    logged::line(&["db.example", "not encrypted", "add sslmode=require"]);
}
