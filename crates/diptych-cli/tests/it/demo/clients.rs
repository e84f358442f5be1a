//! Clients that common generators make from the demo's OpenAPI document.
//!
//! The suite "generated clients" of `cargo xtask test` installs the generators and names their
//! folder. Without that folder this test says so, and tests nothing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{Demo, DemoServer};

/// Runs a program to its end, in this folder.
#[track_caller]
fn run(folder: &Path, program: &mut Command) {
    let output = program.current_dir(folder).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program:?}: {}\n{text}", output.status);
}

/// The ids of all operations of the document.
fn operations(document: &Value) -> Vec<&str> {
    let paths = document["paths"].as_object().unwrap().values();
    let operations = paths.flat_map(|path| path.as_object().unwrap().values());
    operations.map(|operation| operation["operationId"].as_str().unwrap()).collect()
}

/// A program that loads every module of the Python client.
const LOAD_ALL: &str = "
import importlib, pkgutil, flights_client
for module in pkgutil.walk_packages(flights_client.__path__, 'flights_client.'):
    importlib.import_module(module.name)
";

/// Warnings of the generator are failures: it leaves out what it warns about.
#[test]
fn clients_of_the_demo_have_every_operation() {
    let Some(generators) = env::var_os("DIPTYCH_CLIENT_GENERATORS").map(PathBuf::from) else {
        println!("DID NOT RUN: `cargo xtask test` installs the generators of clients");
        return;
    };
    let demo = Demo::new();
    let served = DemoServer::start(&demo, &["--until", "2013-01-01T00:00:00Z"]);
    let document = served.get("/openapi.json");
    drop(served);
    let operations = operations(&document);
    assert!(operations.len() > 30, "{operations:?}");
    let folder = demo.dir.path();
    let python = generators.join("python/bin");
    fs::write(folder.join("openapi.json"), document.to_string()).unwrap();
    // Formatting the client takes longer than making it.
    fs::write(folder.join("config.yaml"), "post_hooks: []\n").unwrap();
    let mut generator = Command::new(python.join("openapi-python-client"));
    generator.args(["generate", "--fail-on-warning", "--meta", "none", "--path", "openapi.json"]);
    generator.args(["--config", "config.yaml", "--output-path", "flights_client"]);
    run(folder, &mut generator);
    for operation in &operations {
        let module = format!("{}.py", operation.replace('-', "_"));
        let parts = fs::read_dir(folder.join("flights_client/api")).unwrap();
        let mut parts = parts.map(|part| part.unwrap().path().join(&module));
        assert!(parts.any(|module| module.exists()), "{operation}");
    }
    run(folder, Command::new(python.join("python")).args(["-c", LOAD_ALL]));
    let npm = generators.join("npm/node_modules");
    let script = |name: &str| {
        let mut command = Command::new(python.join("node"));
        command.arg(npm.join(name));
        command
    };
    let cli = "openapi-typescript/bin/cli.js";
    run(folder, script(cli).args(["openapi.json", "--output", "flights.d.ts"]));
    let types = fs::read_to_string(folder.join("flights.d.ts")).unwrap();
    for operation in operations {
        assert!(types.contains(&format!("operations[\"{operation}\"]")), "{operation}");
    }
    run(folder, script("typescript/bin/tsc").args(["--noEmit", "--strict", "flights.d.ts"]));
}
