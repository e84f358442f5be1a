//! pgbouncer in front of a server.

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{PostgresServer, command, for_server_user, readable};

/// A running pgbouncer. It ends with this value, and also if the program of the tests is killed.
pub struct Pooler {
    folder: TempDir,
    server: u16,
    port: u16,
    shell: Child,
    pipe: Option<ChildStdin>,
}

/// Starts the program `$0` with its settings, and ends it with the pipe.
const SHELL: &str = "\"$0\" -q \"$1\" & pooler=$!; echo $pooler > pid; cat; \
    kill -KILL $pooler 2>/dev/null; wait; rm -rf \"$PWD\"";

impl Pooler {
    /// Starts it with this `pool_mode` and more lines of settings. Returns `None`, with a word
    /// about it, if there is no pgbouncer.
    pub fn start(server: &PostgresServer, mode: &str, more: &str) -> Option<Pooler> {
        let (program, libraries) = program()?;
        let folder = TempDir::new().unwrap();
        for_server_user(folder.path());
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let settings = folder.path().join("pgbouncer.ini");
        fs::write(&settings, text((server.port(), port), mode, more)).unwrap();
        fs::write(folder.path().join("users"), "\"postgres\" \"\"\n").unwrap();
        let mut shell = command("sh".as_ref(), folder.path());
        shell.args(["-c", SHELL]).arg(program).arg(&settings).envs(libraries);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = shell.spawn().unwrap();
        let pipe = shell.stdin.take();
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "pgbouncer does not start");
            thread::sleep(Duration::from_millis(5));
        }
        Some(Pooler { folder, server: server.port(), port, shell, pipe })
    }

    /// The port of the pooler on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the `pool_mode` for connections that come later.
    pub fn set_mode(&self, mode: &str) {
        let settings = self.folder.path().join("pgbouncer.ini");
        fs::write(settings, text((self.server, self.port), mode, "")).unwrap();
        let process = fs::read_to_string(self.folder.path().join("pid")).unwrap();
        let told = Command::new("kill").args(["-HUP", process.trim()]).output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.pipe.take());
        self.shell.wait().unwrap();
    }
}

fn text((server, port): (u16, u16), mode: &str, more: &str) -> String {
    format!(
        "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = users\n\
         max_client_conn = 300\ndefault_pool_size = 40\nadmin_users = postgres\n\
         pool_mode = {mode}\n{more}\n"
    )
}

/// The program and the variables that it needs. If the path has none, it is in the folder that
/// `DIPTYCH_PGBOUNCER` names, where `cargo xtask check` unpacked it.
fn program() -> Option<(PathBuf, Vec<(&'static str, PathBuf)>)> {
    let path = env::var_os("PATH").unwrap_or_default();
    let known = env::split_paths(&path).chain(["/usr/sbin".into()]);
    let known = known.map(|folder| (folder.join("pgbouncer"), Vec::new()));
    let unpacked = env::var_os("DIPTYCH_PGBOUNCER").map(|folder| {
        let libraries = format!("usr/lib/{}-linux-gnu", env::consts::ARCH);
        let program = "usr/sbin/pgbouncer";
        let folder = PathBuf::from(folder).join("debian");
        if !folder.join(program).exists() {
            return (folder.join(program), Vec::new());
        }
        let folder = readable(&folder, program, Some(&libraries));
        (folder.join(program), vec![("LD_LIBRARY_PATH", folder.join(libraries))])
    });
    let found = known.chain(unpacked).find(|(program, _)| program.exists());
    if found.is_none() {
        let missing = "pgbouncer is missing: install it (on Debian or Ubuntu the package \
                       pgbouncer), or run the tests with cargo xtask check";
        assert!(env::var_os("CI").is_none(), "{missing}");
        println!("DID NOT RUN: {missing}");
    }
    found
}
