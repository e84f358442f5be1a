//! Programs that a suite needs. They are found on the path, or installed where that is allowed.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

/// A program, and the Debian and Ubuntu package that contains it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    program: &'static str,
    pub(crate) package: &'static str,
}

/// The program with which the tidy tests list the files of the repository.
pub(crate) const GIT: Tool = Tool { program: "git", package: "git" };

/// The browser in which pages are tested.
pub(crate) const CHROMIUM: Tool = Tool { program: "chromium", package: "chromium" };

/// The program through which a test controls that browser.
pub(crate) const CHROMEDRIVER: Tool = Tool { program: "chromedriver", package: "chromium-driver" };

/// The server in which logs are tested.
pub(crate) const POSTGRES: Tool = Tool { program: "postgres", package: "postgresql" };

/// Python, with the module for virtual environments, which Debian and Ubuntu have in a package of
/// its own.
pub(crate) const PYTHON: Tool = Tool { program: "python3", package: "python3-venv" };

/// Ensures that the tool is installed. The error says what to install.
///
/// It installs a package only if it runs as root on Debian or Ubuntu. Then it runs in a container,
/// or its owner started it as root on purpose. On other systems the owner decides what to install.
pub(crate) fn install(tool: &Tool) -> Result<(), String> {
    let Tool { program, package } = tool;
    if is_installed(program) {
        return Ok(());
    }
    match install_package(package) && is_installed(program) {
        true => Ok(()),
        false => Err(tool.missing()),
    }
}

/// Installs a package of Debian or Ubuntu, if this process may do so.
pub(crate) fn install_package(package: &str) -> bool {
    println!("installing {package}");
    update_packages() && apt_get(&["install", "--yes", "--no-install-recommends", package])
}

/// Brings the lists of packages up to date, if this process may do so. Returns whether it may.
pub(crate) fn update_packages() -> bool {
    let may = is_root() && Path::new("/etc/debian_version").exists();
    if may {
        // Without the network, packages may be there already.
        let _ = apt_get(&["update"]);
    }
    may
}

impl Tool {
    pub(crate) fn missing(&self) -> String {
        let Tool { program, package } = self;
        format!("{program} is missing: install it (on Debian or Ubuntu the package {package})")
    }
}

/// Whether a program of this name is on the path, or where Debian has the versions of PostgreSQL.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let name = format!("{program}{}", env::consts::EXE_SUFFIX);
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = versions.map(|version| version.path().join("bin"));
    env::split_paths(&path).chain(versions).any(|dir| dir.join(&name).is_file())
}

fn apt_get(args: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether this process runs as root. The kernel's status file tells that without a foreign
/// function call.
fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    effective.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_on_the_path_is_installed() {
        assert!(is_installed("cargo"));
        assert!(!is_installed("no-such-program"));
    }

    #[test]
    fn an_installed_tool_is_kept_and_the_error_for_a_missing_tool_names_its_package() {
        let cargo = Tool { program: "cargo", package: "no-such-package" };
        assert_eq!(install(&cargo), Ok(()));
        assert!(GIT.missing().contains("the package git"), "{}", GIT.missing());
    }
}
