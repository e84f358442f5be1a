//! Checks before a release: every package builds from its own files, and the oldest supported Rust
//! compiles the crates that users add.

use std::{env, fs, path::Path, process::Command};

/// The crates that have to compile with the oldest Rust. They use all other published crates.
const ADDED_BY_USERS: [&str; 4] = ["diptych", "diptych-server", "diptych-sqlite", "diptych-cli"];

/// The arguments of `cargo` that build the package of every published crate, and publish nothing.
/// With `verify`, cargo also compiles each package from its own files.
pub(crate) fn package_arguments(verify: bool) -> Vec<&'static str> {
    // Packages of a work tree with changes are checked too.
    let mut arguments = vec!["publish", "--dry-run", "--workspace", "--locked", "--allow-dirty"];
    if !verify {
        arguments.push("--no-verify");
    }
    arguments
}

/// The command that compiles the crates of users with the oldest Rust that `manifest` (the
/// `Cargo.toml` of the workspace) states. `None` if it states no version.
///
/// It builds in a folder of its own, because a second compiler would replace the artifacts of the
/// first. rustup installs the compiler on first use.
pub(crate) fn oldest_rust(root: &Path) -> Option<Command> {
    let manifest = fs::read_to_string(root.join("Cargo.toml")).ok()?;
    let version = stated_version(&manifest)?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let mut command = Command::new("rustup");
    command.args(["run", "--install", version, "cargo", "check", "--locked", "--quiet"]);
    command.args(ADDED_BY_USERS.iter().flat_map(|name| ["--package", name]));
    // The cargo that runs this program sets its own compiler, which must not be used here.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command.env("CARGO_TARGET_DIR", target.join("oldest-rust")).current_dir(root);
    Some(command)
}

fn stated_version(manifest: &str) -> Option<&str> {
    let value = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \""))?;
    value.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_manifest() {
        let manifest = "[workspace.package]\nrust-version = \"1.90\" # why\n";
        assert_eq!(stated_version(manifest), Some("1.90"));
        assert_eq!(stated_version("[workspace]\n"), None);
    }

    #[test]
    fn a_check_with_verification_compiles_the_packages() {
        assert!(package_arguments(false).contains(&"--no-verify"));
        assert!(!package_arguments(true).contains(&"--no-verify"));
    }
}
