//! Programs of the system that a suite needs: found, or installed where that is allowed.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

/// A program, and the package of Debian and Ubuntu that has it.
#[derive(Debug)]
pub(crate) struct Tool {
    program: &'static str,
    package: &'static str,
}

/// Says which files belong to the repository.
pub(crate) const GIT: Tool = Tool { program: "git", package: "git" };

/// The browser that pages are tested in.
pub(crate) const CHROMIUM: Tool = Tool { program: "chromium", package: "chromium" };

/// Lets a test drive that browser.
pub(crate) const CHROMEDRIVER: Tool = Tool { program: "chromedriver", package: "chromium-driver" };

/// Sees to it that the tool is there; else says what to install.
///
/// It installs only as root on Debian or Ubuntu: there it is a container or somebody's explicit
/// wish. Elsewhere the system is its owner's.
pub(crate) fn install(tool: &Tool) -> Result<(), String> {
    let Tool { program, package } = tool;
    if is_installed(program) {
        return Ok(());
    }
    if is_root() && Path::new("/etc/debian_version").exists() {
        println!("installing {package}");
        let _ = apt_get(&["update"]);
        if apt_get(&["install", "--yes", "--no-install-recommends", package])
            && is_installed(program)
        {
            return Ok(());
        }
    }
    Err(tool.missing())
}

impl Tool {
    fn missing(&self) -> String {
        let Tool { program, package } = self;
        format!("{program} is missing: install it (on Debian or Ubuntu the package {package})")
    }
}

/// Whether there is such a program on the path.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let name = format!("{program}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&path).any(|dir| dir.join(&name).is_file())
}

fn apt_get(args: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The owner of this process is root, as the kernel tells it without any foreign call.
fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    effective.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_or_not() {
        assert!(is_installed("cargo"));
        assert!(!is_installed("no-such-program"));
    }

    #[test]
    fn a_tool_that_is_there_is_not_installed_and_a_missing_one_is_named_with_its_package() {
        let cargo = Tool { program: "cargo", package: "no-such-package" };
        assert_eq!(install(&cargo), Ok(()));
        assert!(GIT.missing().contains("the package git"), "{}", GIT.missing());
    }
}
