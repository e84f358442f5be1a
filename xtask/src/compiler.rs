//! The compiler that cargo calls for the crates of the workspace when the chores compile tests.
//!
//! Cargo knows one level of optimisation for a package. So the tests of an optimised library would
//! be optimised, too. That takes three times as long, and saves little, because the library does
//! the work. Cargo calls a copy of this program in place of the compiler, and the copy lowers the
//! level for tests, examples and other programs.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use crate::{Lints, root, target};

/// The name of the copy for these lints. Each has its own, because cargo keeps what two compilers
/// made apart by the names of the compilers.
fn name(lints: Lints) -> &'static str {
    match lints {
        Lints::Compiler => "xtask-rustc",
        Lints::Clippy => "xtask-clippy",
    }
}

/// The place of the copy. Cargo replaces the original while it compiles the workspace.
fn copy(lints: Lints) -> PathBuf {
    root().join(target()).join(format!("{}{}", name(lints), env::consts::EXE_SUFFIX))
}

/// Ensures that the copies are there. They must be before [`use_copy`].
pub(crate) fn prepare() -> io::Result<()> {
    let this = env::current_exe()?;
    let program = fs::read(&this)?;
    fs::create_dir_all(root().join(target()))?;
    for copy in [Lints::Compiler, Lints::Clippy].map(copy) {
        if fs::read(&copy).is_ok_and(|there| there == program) {
            continue;
        }
        let unfinished = copy.with_extension("tmp");
        fs::copy(&this, &unfinished)?;
        fs::rename(unfinished, copy)?;
    }
    Ok(())
}

/// Makes cargo compile the crates of the workspace by a copy, with these lints.
pub(crate) fn use_copy(command: &mut Command, lints: Lints) {
    // An environment variable in its place would be inherited by tests that start cargo.
    let wrapper = format!("build.rustc-workspace-wrapper={:?}", copy(lints).display().to_string());
    command.args(["--config", &wrapper]);
    if lints == Lints::Clippy {
        // Each warning is an error.
        command.env("CLIPPY_ARGS", "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__");
    }
}

/// Which lints the copy of this name has; `None` for this program itself.
fn lints_of(program: &Path) -> Option<Lints> {
    [Lints::Compiler, Lints::Clippy]
        .into_iter()
        .find(|lints| program.file_stem().is_some_and(|stem| stem == name(*lints)))
}

/// If this is a copy, which cargo calls in place of the compiler, compiles and returns its status.
pub(crate) fn compile() -> Option<ExitCode> {
    let lints = lints_of(&env::current_exe().ok()?)?;
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (rustc, arguments) = arguments.split_first()?;
    let mut command = match lints {
        Lints::Compiler => Command::new(rustc),
        // Clippy takes the name of the compiler, as cargo gives it to a program in its place.
        Lints::Clippy => {
            let mut clippy = Command::new("clippy-driver");
            clippy.arg(rustc);
            clippy
        }
    };
    let status = command.args(lowered(arguments)).status();
    Some(match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: cannot run {command:?}: {error}");
            ExitCode::FAILURE
        }
    })
}

/// These arguments of the compiler, without optimisation if they compile a program.
fn lowered(arguments: &[String]) -> Vec<String> {
    let is_type =
        |pair: &[String]| matches!(pair, [name, kind] if name == "--crate-type" && kind == "bin");
    let is_program =
        arguments.iter().any(|argument| argument == "--test") || arguments.windows(2).any(is_type);
    let lower = |argument: &String| match argument.starts_with("opt-level=") && is_program {
        true => "opt-level=0".to_owned(),
        false => argument.clone(),
    };
    arguments.iter().map(lower).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_copy_compiles() {
        for lints in [Lints::Compiler, Lints::Clippy] {
            assert_eq!(lints_of(&copy(lints)), Some(lints));
        }
        assert_eq!(lints_of(&root().join(target()).join("debug/xtask")), None);
        assert_eq!(compile(), None);
    }

    #[test]
    fn tests_and_programs_are_compiled_without_optimisation_and_libraries_as_asked() {
        let of = |line: &str| {
            let arguments: Vec<_> = line.split(' ').map(str::to_owned).collect();
            lowered(&arguments).join(" ")
        };
        let library = "--crate-name log src/lib.rs --crate-type lib -C opt-level=1 -C lto=off";
        assert_eq!(of(library), library);
        let tests = "--crate-name it tests/it/main.rs -C opt-level=1 --test -C lto=off";
        assert_eq!(of(tests), tests.replace("level=1", "level=0"));
        let program = "--crate-name scale examples/scale.rs --crate-type bin -C opt-level=1";
        assert_eq!(of(program), program.replace("level=1", "level=0"));
        let plain = "--crate-name it tests/it/main.rs --test";
        assert_eq!(of(plain), plain);
    }
}
