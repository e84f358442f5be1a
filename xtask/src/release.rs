//! Checks before a release: every package builds from its own files, and the oldest supported Rust
//! compiles the crates that users add.

use std::{env, path::Path, process::Command};

/// The crates that have to compile with the oldest Rust. They use all other published crates.
const ADDED_BY_USERS: [&str; 9] = [
    "diptych",
    "diptych-server",
    "diptych-sqlite",
    "diptych-gateways",
    "diptych-nats",
    "diptych-postgres",
    "diptych-postgres-tables",
    "diptych-records",
    "diptych-cli",
];

/// The arguments of `cargo` that build the package of every published crate from its own files, and
/// publish nothing. This also works in a work tree with uncommitted changes.
pub(crate) const PACKAGES: [&str; 5] =
    ["publish", "--dry-run", "--workspace", "--locked", "--allow-dirty"];

/// The command that compiles the crates that users add, with all their features. It uses the oldest
/// Rust that the workspace states.
///
/// It builds in a folder of its own, because a second compiler would replace the artifacts of the
/// first. rustup installs the compiler on first use.
pub(crate) fn oldest_rust(root: &Path) -> Command {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let mut command = Command::new("rustup");
    command.args(["run", "--install", env!("CARGO_PKG_RUST_VERSION")]);
    command.args(["cargo", "check", "--locked", "--quiet", "--all-features"]);
    command.args(ADDED_BY_USERS.iter().flat_map(|name| ["--package", name]));
    // The cargo that runs this program sets its own compiler, which must not be used here.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command.env("CARGO_TARGET_DIR", target.join("oldest-rust")).current_dir(root);
    command
}
