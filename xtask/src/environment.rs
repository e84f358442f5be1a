//! Folders below the target folder with pinned packages of other languages, for suites that run
//! programs in these languages.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    root,
    tools::{PYTHON, install_package},
};

/// Packages of Python, and of npm if the repository lists some. Node itself comes as a Python
/// package, because the versions of distributions differ, and some are too old.
#[derive(Debug)]
pub(crate) struct Environment {
    /// The folder below the target folder.
    name: &'static str,
    /// The folder of the repository with the lists of packages.
    lists: &'static str,
    /// The variable that names the environment to the tests.
    variable: &'static str,
}

/// The generators of clients, and all that the generated clients need.
pub(crate) const CLIENT_GENERATORS: Environment = Environment {
    name: "client-generators",
    lists: "crates/diptych-server/tests/clients",
    variable: "DIPTYCH_CLIENT_GENERATORS",
};

/// axe-core, which looks over the pages in the browser.
pub(crate) const BROWSER: Environment = Environment {
    name: "browser",
    lists: "crates/diptych-cli/tests/browser",
    variable: "DIPTYCH_BROWSER",
};

/// The server of NATS, which comes as a Python package.
pub(crate) const NATS: Environment = Environment {
    name: "nats",
    lists: "crates/diptych-nats/tests/server",
    variable: "DIPTYCH_NATS",
};

/// Libraries of npm that read and write the formats which other systems share.
pub(crate) const FORMATS: Environment = Environment {
    name: "formats",
    lists: "crates/diptych-gateways/tests/formats",
    variable: "DIPTYCH_FORMATS",
};

/// The packages, each with its exact version.
const REQUIREMENTS: &str = "requirements.txt";
const PACKAGE: &str = "package.json";
const LOCK: &str = "package-lock.json";

impl Environment {
    /// The variable that leads the tests to the environment.
    pub(crate) fn variable(&self) -> (&'static str, PathBuf) {
        (self.variable, self.folder())
    }

    fn folder(&self) -> PathBuf {
        let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        // Cargo starts in the root, too.
        root().join(target).join(self.name)
    }

    fn lists(&self) -> PathBuf {
        root().join(self.lists)
    }

    /// Ensures that the packages are installed. The error says what is missing.
    pub(crate) fn install(&self) -> Result<(), String> {
        let (folder, lists) = (self.folder(), self.lists());
        let failed = |error: io::Error| format!("{}: {error}", folder.display());
        let wanted = self.wanted()?;
        let stamp = folder.join("installed");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        println!("installing the packages of {} into {}", self.lists, folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed)?;
        }
        let python = folder.join("python");
        make_python(&python)?;
        let mut pip = Command::new(python.join("bin/pip"));
        pip.args([
            "install",
            "--quiet",
            "--no-compile",
            "--disable-pip-version-check",
            "--requirement",
        ]);
        run(pip.arg(lists.join(REQUIREMENTS)))?;
        if self.has_npm() {
            self.install_npm(&python)?;
        }
        fs::write(stamp, wanted).map_err(failed)
    }

    fn install_npm(&self, python: &Path) -> Result<(), String> {
        let npm = self.folder().join("npm");
        let failed = |error: io::Error| format!("{}: {error}", npm.display());
        fs::create_dir_all(&npm).map_err(failed)?;
        for list in [PACKAGE, LOCK] {
            fs::copy(self.lists().join(list), npm.join(list)).map_err(failed)?;
        }
        // A script of a package could do anything, and none of these needs one.
        let mut npm_ci = Command::new(python.join("bin/npm"));
        npm_ci.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
        run(npm_ci.env("PATH", path_with(&python.join("bin"))).current_dir(&npm))
    }

    fn has_npm(&self) -> bool {
        self.lists().join(PACKAGE).exists()
    }

    /// The contents of all lists of packages.
    fn wanted(&self) -> Result<String, String> {
        let read = |list| {
            let path = self.lists().join(list);
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let lists: &[_] = match self.has_npm() {
            true => &[REQUIREMENTS, PACKAGE, LOCK],
            false => &[REQUIREMENTS],
        };
        lists.iter().copied().map(read).collect()
    }
}

/// Makes a virtual environment. Debian and Ubuntu have the module for that in a package of its own.
fn make_python(folder: &Path) -> Result<(), String> {
    let make = || {
        let mut command = Command::new("python3");
        run(command.args(["-m", "venv", "--clear"]).arg(folder))
    };
    make().or_else(|error| match install_package(PYTHON.package) {
        true => make(),
        false => Err(format!("{error}; {}", PYTHON.missing())),
    })
}

/// The search path with this folder first.
fn path_with(first: &Path) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let all = [first.to_owned()].into_iter().chain(env::split_paths(&path));
    env::join_paths(all).unwrap_or(path)
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(format!("{program} ended with {status}: it needs the registries of Python and npm"))
        }
        Err(error) => Err(format!("{program} cannot be started: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another version would change the tests without a change of the repository.
    #[test]
    fn every_package_has_an_exact_version() {
        for environment in [&CLIENT_GENERATORS, &BROWSER, &FORMATS, &NATS] {
            let lists = environment.lists();
            let requirements = fs::read_to_string(lists.join(REQUIREMENTS)).unwrap();
            let packages = requirements.lines().filter(|line| !line.starts_with('#'));
            for package in packages {
                assert!(package.split("==").count() == 2 && !package.contains('*'), "{package}");
            }
            if !environment.has_npm() {
                continue;
            }
            let package = fs::read_to_string(lists.join(PACKAGE)).unwrap();
            let (_, dependencies) = package.split_once("\"dependencies\": {").unwrap();
            let (dependencies, _) = dependencies.split_once('}').unwrap();
            for dependency in dependencies.lines().filter(|line| line.contains(':')) {
                assert!(!dependency.contains(['^', '~', '*', '>']), "{dependency}");
            }
        }
    }
}
