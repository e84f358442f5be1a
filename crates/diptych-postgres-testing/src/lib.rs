//! A server of PostgreSQL in a folder of its own, on a free port, for the tests of several crates.

// A test fails by panicking, and so may what it calls.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod disk;
mod pooler;
mod proxy_port;
mod standby;

use std::{
    env,
    ffi::OsString,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diptych_postgres::{PostgresOptions, PostgresStore};
pub use disk::SmallDisk;
pub use pooler::Pooler;
pub use proxy_port::ProxyPort;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// A running server. It ends with this value, and also if the program of the tests is killed: a
/// shell ends it when the pipe to the shell closes.
pub struct PostgresServer {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    /// The shell, and the pipe that keeps it waiting.
    shell: Child,
    pipe: Option<ChildStdin>,
}

/// Starts the server with the program `$0`, and ends it with the pipe. Without the word to keep the
/// folder, the tests are gone, and the folder goes, too.
const SHELL: &str = "\"$0\" -D \"$@\" & server=$!; word=$(cat); kill -QUIT $server 2>/dev/null; \
    wait; [ \"$word\" = keep ] || rm -rf \"$PWD\"";

/// Settings of every server. Commits are synced, so that a kill loses none.
const SETTINGS: &str = "listen_addresses = '127.0.0.1'\n\
    fsync = on\n\
    max_connections = 400\n\
    shared_buffers = 64MB\n\
    log_min_messages = fatal\n";

impl PostgresServer {
    /// Returns `None`, with a word about it, if there are no programs of the server.
    pub fn start() -> Option<PostgresServer> {
        PostgresServer::with("")
    }

    /// As [`start`](PostgresServer::start), with more lines of settings.
    pub fn with(more: &str) -> Option<PostgresServer> {
        PostgresServer::with_wal_in(more, None)
    }

    /// As [`with`](PostgresServer::with), with the write-ahead log in this folder.
    pub fn with_wal_in(more: &str, wal: Option<&Path>) -> Option<PostgresServer> {
        PostgresServer::made(more, wal, TempDir::new().unwrap())
    }

    /// As [`start`](PostgresServer::start), with its data in memory where the system has a folder
    /// with room for that: for tests of many commits that do not lose power. A sync takes no time
    /// there.
    pub fn in_memory() -> Option<PostgresServer> {
        let memory = Path::new("/dev/shm");
        let folder = match has_room(memory) {
            true => TempDir::new_in(memory),
            false => TempDir::new(),
        };
        PostgresServer::made("", None, folder.unwrap())
    }

    fn made(more: &str, wal: Option<&Path>, folder: TempDir) -> Option<PostgresServer> {
        let programs = programs()?;
        for_server_user(folder.path());
        let data = folder.path().join("data");
        let mut initdb = command(&programs.join("initdb"), folder.path());
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"]);
        initdb.args(wal.map(|wal| format!("--waldir={}", wal.display())));
        let made =
            initdb.args(["--no-sync", "--wal-segsize=1"]).arg("-D").arg(&data).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let settings = data.join("postgresql.conf");
        let sockets = format!("unix_socket_directories = '{}'\n", folder.path().display());
        let text = fs::read_to_string(&settings).unwrap() + SETTINGS + &sockets + more;
        fs::write(&settings, text).unwrap();
        let port = free_port();
        let (shell, pipe) = run(&programs, &folder, port);
        let server = PostgresServer { programs, folder, port, shell, pipe: Some(pipe) };
        server.wait();
        Some(server)
    }

    /// Waits until the server answers.
    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.answers() {
            assert!(Instant::now() < deadline, "the server does not start");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn answers(&self) -> bool {
        let runtime = runtime();
        runtime.block_on(async { self.try_client("postgres").await.is_ok() })
    }

    /// The address of a log in a database.
    pub fn address(&self, database: &str, log: &str) -> String {
        self.address_at(self.port, database, log)
    }

    /// The address through a proxy on this port.
    pub fn address_at(&self, port: u16, database: &str, log: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/{database}?log={log}")
    }

    /// The port of the server on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection beside the store, for what other programs do.
    pub async fn client(&self, database: &str) -> Client {
        self.try_client(database).await.unwrap()
    }

    /// A connection through a proxy or a pooler on this port.
    pub async fn client_at(&self, port: u16, database: &str) -> Client {
        self.try_client_at(port, database).await.unwrap()
    }

    async fn try_client(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        self.try_client_at(self.port, database).await
    }

    async fn try_client_at(
        &self,
        port: u16,
        database: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let address = format!("postgres://postgres@127.0.0.1:{port}/{database}");
        let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Executes statements in this database.
    pub fn execute(&self, database: &str, sql: &str) {
        runtime().block_on(async {
            self.client(database).await.batch_execute(sql).await.unwrap();
        });
    }

    /// Opens a log in the first database.
    pub fn open(&self, log: &str) -> PostgresStore {
        self.open_with(log, PostgresOptions::default())
    }

    /// Opens a log in the first database with these options.
    pub fn open_with(&self, log: &str, options: PostgresOptions) -> PostgresStore {
        let address = self.address("postgres", log);
        pollster::block_on(PostgresStore::open(&address, options)).unwrap()
    }

    /// A program of the installation of the server, such as `pg_dump`, that connects to it. Returns
    /// `None`, with a word about it, if it is not installed.
    pub fn program(&self, name: &str) -> Option<Command> {
        let program = self.programs.join(name);
        if !program.exists() {
            let missing = format!("{} is missing: install it", program.display());
            assert!(env::var_os("CI").is_none(), "{missing}");
            println!("DID NOT RUN: {missing}");
            return None;
        }
        let mut command = command(&program, self.folder.path());
        let port = self.port.to_string();
        command.envs([("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGUSER", "postgres")]);
        Some(command)
    }

    /// Writes a dump of a database into this file of the folder of the server. Returns `None` if
    /// the program is not installed.
    pub fn dump(&self, database: &str, file: &str) -> Option<()> {
        let mut dump = self.program("pg_dump")?;
        finish(dump.args(["--format=custom", "--file", file, database]));
        Some(())
    }

    /// Makes the database anew from a dump, and ends the connections to the old one.
    pub fn restore(&self, database: &str, file: &str) {
        self.execute("template1", &format!("drop database \"{database}\" with (force)"));
        self.execute("template1", &format!("create database \"{database}\""));
        let mut restore = self.program("pg_restore").expect("pg_restore beside pg_dump");
        finish(restore.args(["--exit-on-error", "--dbname", database, file]));
    }

    /// Lets no file of the server grow beyond this many bytes, or any file without a number. The
    /// system answers as if such a file did not fit its disk.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let own = self.process();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
        for process in children.split_whitespace().chain([own.as_str()]) {
            let mut set = command("prlimit".as_ref(), self.folder.path());
            let set = set.args(["--pid", process, &format!("--fsize={limit}:")]).output().unwrap();
            // A child may have ended.
            assert!(set.status.success() || process != own, "{set:?}");
        }
    }

    /// The number of the first process of the server.
    fn process(&self) -> String {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        text.lines().next().unwrap().to_owned()
    }

    /// Kills the server and all its processes, at once.
    pub fn kill(&mut self) {
        let process = self.process();
        // While it stands still it starts no process that would outlive it.
        Command::new("kill").args(["-STOP", &process]).output().unwrap();
        let state = format!("/proc/{process}/status");
        while !fs::read_to_string(&state).unwrap().contains("T (stopped)") {
            thread::yield_now();
        }
        let children = format!("/proc/{process}/task/{process}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        let mut all = vec![process];
        all.extend(children.split_whitespace().map(str::to_owned));
        Command::new("kill").arg("-9").args(&all).output().unwrap();
        self.end();
        // A process of the server that is left uses its shared memory.
        while all.iter().any(|process| is_running(process)) {
            thread::yield_now();
        }
    }

    /// Stops the server, which writes everything before.
    pub fn stop(&mut self) {
        let mut stop = command(&self.programs.join("pg_ctl"), self.folder.path());
        let stopped = stop.args(["stop", "-m", "fast", "-D"]).arg(self.data()).output().unwrap();
        assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
        self.end();
    }

    /// Starts the server again, on its port and with its data.
    pub fn restart(&mut self) {
        self.end();
        // The number in it may be that of another process by now.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
        let (shell, pipe) = run(&self.programs, &self.folder, self.port);
        (self.shell, self.pipe) = (shell, Some(pipe));
        self.wait();
    }

    /// The folder of the data of the server.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Copies the data of a stopped server from one place to another.
    pub fn copy(&self, from: &Path, to: &Path) {
        let _ = fs::remove_dir_all(to);
        let copied = Command::new("cp").arg("-a").args([from, to]).output().unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    }

    /// The folder of the server, which belongs to its user.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn end(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            pipe.write_all(b"keep").unwrap();
        }
        self.shell.wait().unwrap();
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// One server for tests that only need logs of their own. The shell ends it with the program.
pub fn shared() -> Option<&'static PostgresServer> {
    static SERVER: OnceLock<Option<PostgresServer>> = OnceLock::new();
    // The caller may be within a runtime, where it cannot wait for another one.
    let start = || thread::spawn(PostgresServer::start).join().unwrap();
    SERVER.get_or_init(start).as_ref()
}

/// A name that no other log of the shared server has.
pub fn new_name() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("log-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A runtime for connections beside a store.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The folder with the programs of the server, or a word that it is not installed: a folder
/// that `DIPTYCH_POSTGRES` names, or the newest of the versions in it, the newest of Debian, or one
/// of the path.
fn programs() -> Option<PathBuf> {
    static FOUND: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut known = FOUND.lock().unwrap();
    if known.is_some() {
        return known.clone();
    }
    let named = env::var_os("DIPTYCH_POSTGRES").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = env::split_paths(&path).collect();
    let has_all = |folder: &PathBuf| {
        ["initdb", "postgres", "pg_ctl"].iter().all(|program| folder.join(program).exists())
    };
    *known = match named {
        // The tests are meant for this one.
        Some(named) => {
            let mut found = [named.clone()].into_iter().chain(newest_first(&named));
            let found = found.find(has_all);
            let found = found.unwrap_or_else(|| {
                panic!("DIPTYCH_POSTGRES names {named:?}, which lacks a program")
            });
            Some(readable_programs(&found))
        }
        None => newest_first("/usr/lib/postgresql".as_ref()).chain(on_path).find(has_all),
    };
    if known.is_none() {
        let missing = "PostgreSQL is missing: install it (on Debian or Ubuntu the package \
                       postgresql), or name the folder of its programs in DIPTYCH_POSTGRES";
        assert!(env::var_os("CI").is_none(), "{missing}");
        println!("DID NOT RUN: {missing}");
    }
    known.clone()
}

/// The folders of programs in a folder with versions, as Debian has it.
fn newest_first(versions: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let found = fs::read_dir(versions).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = found.map(|entry| entry.path().join("bin")).collect();
    found.sort_by_key(|folder| {
        let version = folder.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        std::cmp::Reverse(version.and_then(|version| version.parse::<u32>().ok()))
    });
    found.into_iter()
}

/// The programs, where the user of the server can come to them, with all that belongs to them.
fn readable_programs(programs: &Path) -> PathBuf {
    let whole = match tree(programs) {
        Some(tree) => tree,
        None => programs.parent().expect("a folder of programs has libraries beside it"),
    };
    let own = programs.strip_prefix(whole).unwrap();
    readable(whole, own.join("postgres").to_str().unwrap(), None).join(own)
}

/// The folder into which the packages of Debian with these programs were unpacked.
fn tree(programs: &Path) -> Option<&Path> {
    let versions = programs.parent()?.parent()?;
    let tree = versions.ancestors().nth(3)?;
    (versions == tree.join("usr/lib/postgresql") && tree.parent().is_some()).then_some(tree)
}

/// The variable that leads unpacked programs to the libraries that were unpacked with them.
fn libraries(programs: &Path) -> Option<(&'static str, OsString)> {
    let tree = tree(programs)?;
    let folders = ["usr/lib", "lib"]
        .map(|folder| tree.join(folder).join(format!("{}-linux-gnu", env::consts::ARCH)));
    Some(("LD_LIBRARY_PATH", env::join_paths(folders).unwrap()))
}

fn finish(command: &mut Command) {
    let done = command.output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {told}", command.get_program().display());
}

/// Whether the process runs. One that ended can wait for its parent.
fn is_running(process: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_some_and(|state| !state.trim_start().starts_with('Z'))
}

/// The user that the server runs as, if the tests run as root: PostgreSQL refuses that.
fn other_user() -> Option<(u32, u32)> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let own = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    if own.split_whitespace().nth(1) != Some("0") {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let named = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse().ok());
        Some((fields.next()??, fields.next()??))
    };
    Some(named("postgres").or_else(|| named("nobody")).expect("a user besides root"))
}

/// The folder, or a copy of it if the user that the server runs as cannot come to it: a target
/// folder may lie in the home of root. `program` is a path in it, and runs with these libraries.
fn readable(folder: &Path, program: &str, libraries: Option<&str>) -> PathBuf {
    let runs = |folder: &Path| {
        let mut version = command(&folder.join(program), Path::new("/"));
        let libraries = libraries.map(|libraries| folder.join(libraries));
        version.envs(libraries.map(|libraries| ("LD_LIBRARY_PATH", libraries)));
        version.arg("--version").output().is_ok_and(|told| told.status.success())
    };
    if runs(folder) {
        return folder.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    (folder, fs::metadata(folder).and_then(|found| found.modified()).ok()).hash(&mut hasher);
    let copy = env::temp_dir().join(format!("diptych-programs-{:016x}", hasher.finish()));
    if !copy.exists() {
        let made = TempDir::new_in(env::temp_dir()).unwrap();
        let to = made.path().join("copy");
        finish(Command::new("cp").arg("-a").arg(folder).arg(&to));
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
        // Another program may have been faster.
        let _ = fs::rename(&to, &copy);
    }
    assert!(runs(&copy), "the user of the server cannot run {program} in {}", folder.display());
    copy
}

/// Gives the folder or file to the user that the server runs as, and to no other.
fn for_server_user(folder: &Path) {
    if let Some((user, group)) = other_user() {
        chown(folder, Some(user), Some(group)).unwrap();
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
}

/// A new folder that belongs to the user of the server.
fn data_folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    for_server_user(folder.path());
    folder
}

/// Whether a server with a small log fits into this file system. Containers often have less.
fn has_room(folder: &Path) -> bool {
    let told = Command::new("df").args(["--output=avail", "--block-size=1M"]).arg(folder).output();
    let text = told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned());
    let free = text.ok().and_then(|text| text.lines().nth(1)?.trim().parse::<u64>().ok());
    free.is_some_and(|megabytes| megabytes >= 1_000)
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

/// The program as a user that may run a server.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    command.envs(program.parent().and_then(libraries));
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group);
    }
    command
}

fn run(programs: &Path, folder: &TempDir, port: u16) -> (Child, ChildStdin) {
    let mut shell = command(Path::new("sh"), folder.path());
    shell.args(["-c", SHELL]).arg(programs.join("postgres")).arg(folder.path().join("data"));
    shell.args(["-p", &port.to_string()]).envs(libraries(programs));
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut shell = shell.spawn().unwrap();
    let pipe = shell.stdin.take().unwrap();
    (shell, pipe)
}
