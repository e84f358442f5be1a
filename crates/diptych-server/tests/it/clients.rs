//! Clients that common generators make from the OpenAPI document. Each has every command and query,
//! and a program that uses it works against a running server.
//!
//! The generators are no part of the machine: the suite "generated clients" of `cargo xtask test`
//! installs them and names their folder. Without that folder these tests say so, and test nothing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::served::TheatreServer;

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// The folder with the generators.
fn generators() -> Option<PathBuf> {
    let folder = env::var_os("DIPTYCH_CLIENT_GENERATORS").map(PathBuf::from);
    if folder.is_none() {
        println!("DID NOT RUN: `cargo xtask test` installs the generators of clients");
    }
    folder
}

/// A server, and its document in a folder for a client.
struct Generation {
    served: TheatreServer,
    catalogue: Value,
    folder: TempDir,
    document: PathBuf,
}

impl Generation {
    async fn begin() -> Generation {
        let served = TheatreServer::new().await;
        let catalogue = served.get("/catalogue").await.ok();
        let folder = tempfile::tempdir().unwrap();
        let document = folder.path().join("openapi.json");
        fs::write(&document, served.get("/openapi.json").await.body).unwrap();
        Generation { served, catalogue, folder, document }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The names of all commands or queries.
    fn names(&self, kind: &str) -> Vec<&str> {
        let entries = self.catalogue[kind].as_array().unwrap();
        assert!(!entries.is_empty());
        entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect()
    }

    fn address(&self) -> String {
        format!("http://{}", self.served.address)
    }
}

/// Runs a program to its end, in this folder. Returns its output.
#[track_caller]
fn run(folder: &Path, program: &mut Command) -> String {
    let output = program.current_dir(folder).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program:?}: {}\n{text}", output.status);
    text
}

/// Warnings are failures: the generator leaves out what it warns about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_client_has_every_command_and_query_and_works() {
    let Some(generators) = generators() else { return };
    let generation = Generation::begin().await;
    let python = generators.join("python/bin");
    let package = generation.path("theatre_client");
    let config = generation.path("config.yaml");
    // Formatting the client takes longer than making it.
    fs::write(&config, "post_hooks: []\n").unwrap();
    let mut generator = Command::new(python.join("openapi-python-client"));
    generator.args(["generate", "--fail-on-warning", "--meta", "none"]);
    generator.arg("--path").arg(&generation.document).arg("--config").arg(config);
    run(generation.folder.path(), generator.arg("--output-path").arg(&package));
    let has = |part: &str, name: &str| {
        let module = package.join(format!("api/{part}/{}.py", name.replace('-', "_")));
        assert!(module.exists(), "{}", module.display());
    };
    generation.names("commands").into_iter().for_each(|name| has("commands", name));
    for name in generation.names("queries") {
        has("queries", name);
        has("queries", &format!("{name}-by-post"));
    }
    let mut program = Command::new(python.join("python"));
    program.arg(format!("{PROGRAMS}/take_seats.py")).arg(generation.address());
    program.env("PYTHONPATH", generation.folder.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    run(generation.folder.path(), &mut program);
    assert_eq!(generation.served.head(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_typescript_client_has_every_command_and_query_and_works() {
    let Some(generators) = generators() else { return };
    let generation = Generation::begin().await;
    let (npm, node) = (generators.join("npm"), generators.join("python/bin/node"));
    // Node and the compiler look for packages in this folder and above.
    let folder = tempfile::tempdir_in(&npm).unwrap();
    let script = |name: &str| {
        let mut command = Command::new(&node);
        command.arg(npm.join("node_modules").join(name));
        command
    };
    let types = folder.path().join("theatre.d.ts");
    let mut generator = script("openapi-typescript/bin/cli.js");
    run(folder.path(), generator.arg(&generation.document).arg("--output").arg(&types));
    let text = fs::read_to_string(&types).unwrap();
    let has = |operation: &str| {
        assert!(text.contains(&format!("operations[\"{operation}\"]")), "{operation}");
    };
    generation.names("commands").into_iter().for_each(has);
    for name in generation.names("queries") {
        has(name);
        has(&format!("{name}-by-post"));
    }
    for file in ["take_seats.ts", "tsconfig.json", "package.json"] {
        fs::copy(format!("{PROGRAMS}/{file}"), folder.path().join(file)).unwrap();
    }
    run(folder.path(), script("typescript/bin/tsc").args(["--project", "tsconfig.json"]));
    let mut program = Command::new(&node);
    program.args(["--disable-warning=ExperimentalWarning", "take_seats.ts"]);
    run(folder.path(), program.arg(generation.address()));
    assert_eq!(generation.served.head(), 2);
}
