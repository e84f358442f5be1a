//! A client that a common generator makes from the OpenAPI document has every route of a record,
//! and a program that uses it works against a running server.
//!
//! The generator is no part of the machine: the suite "generated clients" of `cargo xtask test`
//! installs it and names its folder. Without that folder this test says so, and tests nothing.

use std::{env, fs, path::Path, process::Command};

use diptych_records::{ServeRecords, WithRecords};
use diptych_server::Server;
use tokio::{net::TcpListener, sync::oneshot};

use crate::{Client, Customer, app, client};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/keep_customers.py");

/// Runs a program to its end, in this folder.
fn run(folder: &Path, program: &mut Command) {
    let output = program.current_dir(folder).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program:?}: {}\n{text}", output.status);
}

/// Warnings are failures: the generator leaves out what it warns about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_client_has_every_route_of_a_record_and_works() {
    let Some(generators) = env::var_os("DIPTYCH_CLIENT_GENERATORS") else {
        println!("DID NOT RUN: `cargo xtask test` installs the generators of clients");
        return;
    };
    let python = Path::new(&generators).join("python/bin");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let described: Client = client().await;
    let document = described.get("/openapi.json").await.body.to_string();
    fs::write(path("openapi.json"), document).unwrap();
    // Formatting the client takes longer than making it.
    fs::write(path("config.yaml"), "post_hooks: []\n").unwrap();
    let mut generator = Command::new(python.join("openapi-python-client"));
    generator.args(["generate", "--fail-on-warning", "--meta", "none"]);
    generator.args(["--path", "openapi.json", "--config", "config.yaml"]);
    run(folder.path(), generator.args(["--output-path", "customers_client"]));
    for route in ["list", "create", "get", "replace", "patch", "delete", "history"] {
        let module = path(&format!("customers_client/api/customer/{route}_customer.py"));
        assert!(module.exists(), "{}", module.display());
    }

    let app = app().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::new(app.clone()).records::<Customer>("/customers");
    let serving = tokio::spawn(server.serve(listener, async move { drop(stopped.await) }));
    let mut program = Command::new(python.join("python"));
    program.arg(PROGRAM).arg(&address);
    program.env("PYTHONPATH", folder.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    run(folder.path(), &mut program);
    drop(stop);
    serving.await.unwrap().unwrap();
    let left = app.records::<Customer>().get("ben".to_owned()).strong().await.unwrap().value;
    assert_eq!(left.map(|entry| entry.row.city).as_deref(), Some("Oslo"));
    app.stop().await.unwrap();
}
