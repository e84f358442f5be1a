//! The chores of this repository. `cargo xtask check` must pass before a change is merged.
//! `cargo xtask test` runs every suite of tests.
//!
//! This program depends only on the standard library, so that it builds in a second.

// Printing is the purpose of this program. A panic is acceptable if the terminal has gone away.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod compiler;
mod environment;
mod group;
mod release;
mod suites;
mod summary;
mod tools;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use suites::Tier;

const USAGE: &str = "\
usage: cargo xtask <chore>

  check         formatting, clippy and rustdoc with warnings denied, then the suites of tests
  check --long  the same, clippy of benches, fuzz and protocol, release, randomised suites with
                ten times the counts
  test          the suites of tests, with a summary
  test --long   the same, and the suites of the long tier
  suite NAME... these suites of either tier, by the names that a summary prints
  deny          licences, advisories and sources of the dependencies (needs cargo-deny)
  record-wire   records the conversation of a client and a server of this version, for the tests
                of later versions
  release       every package builds from its own files, and with the oldest supported Rust
                (needs rustup; downloads that Rust on first use)
";

fn main() -> ExitCode {
    if let Some(status) = compiler::compile() {
        return status;
    }
    if let Err(error) = compiler::prepare() {
        eprintln!("xtask: cannot copy itself into {}: {error}", target().display());
        return ExitCode::FAILURE;
    }
    let chores: Vec<String> = env::args().skip(1).collect();
    let passed = match chores.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["check"] => gates() && suites::run(Tier::Check, Lints::Clippy),
        ["check", "--long"] => gates() && long_gates() && suites::run(Tier::Long, Lints::Clippy),
        ["test"] => suites::run(Tier::Check, Lints::Compiler),
        ["test", "--long"] => suites::run(Tier::Long, Lints::Compiler),
        ["suite", names @ ..] => suites::run_named(names),
        ["deny"] => deny(),
        ["release"] => release(),
        ["record-wire"] => gate("conversation of this version", &mut record_wire()),
        _ => {
            eprint!("{USAGE}");
            false
        }
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The benches are a workspace of their own, so commands for the main workspace do not cover them.
const BENCHES: [&str; 2] = ["--manifest-path", "benches/Cargo.toml"];

/// Two peers of the log in PostgreSQL bring another SQLite, so these benches are apart as well.
const POSTGRES_BENCHES: [&str; 2] = ["--manifest-path", "benches/postgres/Cargo.toml"];

/// The drivers of the coverage-guided fuzzer are a workspace of their own, too. Their targets are
/// in the main workspace.
const FUZZ: [&str; 2] = ["--manifest-path", "fuzz/Cargo.toml"];

/// The program that generates the messages of the wire. Only a change of them needs it.
const PROTOCOL: [&str; 2] = ["--manifest-path", "protocol/Cargo.toml"];

/// Which lints see the code when the tests are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lints {
    /// Those of the compiler.
    Compiler,
    /// Those of clippy too, and a warning is an error. Clippy compiles as the compiler does. So the
    /// gate compiles the workspace once, and not once for clippy and once for the tests.
    Clippy,
}

impl Lints {
    /// Cargo, compiling the crates of the workspace with these lints.
    pub(crate) fn cargo(self) -> Command {
        let mut command = cargo();
        compiler::use_copy(&mut command, self);
        command
    }
}

/// Records the conversation of this version (docs/reference/wire.md, "Versions").
fn record_wire() -> Command {
    let mut record = cargo();
    record.args(["test", "-p", "diptych-server", "--all-features", "--test", "remote", "--"]);
    record.args(["--exact", "compat::recorded_conversations_and_samples_are_never_changed"]);
    record.env("DIPTYCH_COMPAT", "record");
    record
}

/// Runs the checks of both tiers that execute no tests. Stops at the first failure, because later
/// checks would mostly repeat its messages.
fn gates() -> bool {
    let compile = ["test", "--no-run", "--workspace", "--all-targets", "--all-features"];
    gate("formatting", cargo().args(["fmt", "--all", "--check"]))
        && gate("formatting of benches", cargo().arg("fmt").args(BENCHES).arg("--check"))
        && gate("formatting of benches", cargo().arg("fmt").args(POSTGRES_BENCHES).arg("--check"))
        && gate("formatting of fuzz", cargo().arg("fmt").args(FUZZ).arg("--check"))
        && gate("formatting of protocol", cargo().arg("fmt").args(PROTOCOL).arg("--check"))
        && gate("Cargo.lock of benches", &mut unchanged_lock(BENCHES))
        && gate("Cargo.lock of benches", &mut unchanged_lock(POSTGRES_BENCHES))
        && gate("Cargo.lock of fuzz", &mut unchanged_lock(FUZZ))
        && gate("clippy", Lints::Clippy.cargo().args(compile))
        && gate("rustdoc", &mut rustdoc())
}

/// Rustdoc, with warnings denied. It finds the build scripts and the macros compiled for the tests.
fn rustdoc() -> Command {
    let mut rustdoc = cargo();
    rustdoc.args(["doc", "--quiet", "--workspace", "--all-features", "--no-deps"]);
    rustdoc.env("RUSTDOCFLAGS", "-D warnings");
    rustdoc
}

/// Fails if the lock file of a workspace beside the main one lacks a dependency of a crate that it
/// uses.
fn unchanged_lock(workspace: [&str; 2]) -> Command {
    let mut update = cargo();
    update.args(["update", "--workspace", "--locked", "--quiet"]).args(workspace);
    update
}

/// Runs the checks of the long tier that execute no tests. The benches compile the databases that
/// they compare with, the drivers of the fuzzer compile libFuzzer, and the release checks compile
/// everything again.
fn long_gates() -> bool {
    let of = |workspace: [&str; 2]| {
        let mut clippy = cargo();
        clippy.arg("clippy").args(workspace).args(["--all-targets", "--", "-D", "warnings"]);
        clippy
    };
    let mut generated = cargo();
    generated.args(["run", "--quiet", "--locked"]).args(PROTOCOL).args(["--", "--check"]);
    gate("clippy of benches", &mut of(BENCHES))
        && gate("clippy of benches", &mut of(POSTGRES_BENCHES))
        && gate("clippy of fuzz", &mut of(FUZZ))
        && gate("clippy of protocol", &mut of(PROTOCOL))
        && gate("the generated messages", &mut generated)
        && release()
}

fn gate(name: &str, command: &mut Command) -> bool {
    println!("== {name}");
    let passed = command.status().is_ok_and(|status| status.success());
    if !passed {
        eprintln!("xtask: {name} failed");
    }
    passed
}

/// Checks what users build: the published packages, and the oldest Rust.
fn release() -> bool {
    gate("packages", cargo().args(release::PACKAGES))
        && gate("oldest Rust", &mut release::oldest_rust(root()))
}

fn deny() -> bool {
    if !tools::is_installed("cargo-deny") {
        eprintln!("xtask: cargo-deny is missing: install it with `cargo install cargo-deny`");
        return false;
    }
    gate("cargo-deny", cargo().args(["deny", "--all-features", "check"]))
}

/// Where cargo builds, absolute or from the root folder.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from)
}

/// The cargo that started this program, in the root folder of the repository.
fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // Cargo describes the package that it runs in these. Build scripts of some crates depend on
    // them, so a plain `cargo test` after this one would compile those crates again.
    for (name, _) in env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|of| name.as_encoded_bytes().starts_with(of.as_bytes()))
        {
            command.env_remove(name);
        }
    }
    command
}

fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once, `cargo test` after `cargo xtask test` compiled half of the workspace again.
    #[test]
    fn a_cargo_that_this_program_starts_does_not_see_the_package_of_this_program() {
        let command = cargo();
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).collect();
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
            assert!(env::var_os(name).is_some(), "{name} is not set in a test");
            assert!(removed.iter().any(|(removed, _)| *removed == name), "{name}");
        }
    }
}
