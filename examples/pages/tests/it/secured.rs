//! The log with encryption and tokens.

use std::{fs, path::Path};

use diptych_remote::{RemoteOptions, RemoteStore};
use diptych_server::{TokenFile, TokenScope};
use diptych_store::{Append, EventStore, RawEvent};
use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::{programs::program, service::Service};

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_log_serves_those_who_have_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let token = files(folder.path());
    let service = Service::start(program("secured_log"), folder.path());
    let (_, port) = service.address.rsplit_once(':').unwrap();
    let address = format!("diptychs://localhost:{port}/log");
    let mut options = RemoteOptions::default();
    options.authorities = Some(folder.path().join("certificate.pem"));

    let refused = RemoteStore::connect(&address, options.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("token"), "{refused}");
    options.token = Some(token);
    let store = RemoteStore::connect(&address, options).await.unwrap();
    let accepted = store.append(Append::event(RawEvent::new("paid", "{}"))).await.unwrap();
    accepted.synced().await.unwrap();
    drop(store);
    tokio::task::spawn_blocking(|| service.stop("INT")).await.unwrap();
}

/// Writes the certificate, its key and the tokens, and returns a token.
fn files(folder: &Path) -> String {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("certificate.pem"), cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    let mut tokens = TokenFile::read_or_new(folder.join("tokens.toml")).unwrap();
    let token = tokens.issue("shop", [TokenScope::Read, TokenScope::Append]).unwrap();
    tokens.save().unwrap();
    token
}
