//! A server of NATS on a free port.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use diptych_nats::async_nats::{
    Client, ConnectOptions,
    jetstream::{self, stream},
};
use tempfile::TempDir;

/// A running server, which is killed at the end. It syncs each message, so that a kill loses none
/// that it acknowledged.
pub(super) struct NatsServer {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    child: Child,
}

impl NatsServer {
    /// Returns `None`, with a word about it, if the server is not installed.
    pub(super) fn start() -> Option<NatsServer> {
        Some(NatsServer::with(program()?, ""))
    }

    /// Three servers that replicate streams.
    pub(super) fn start_cluster() -> Option<[NatsServer; 3]> {
        let program = program()?;
        let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = free.map(|listener| listener.local_addr().unwrap().port());
        let routes = ports.map(|port| format!("nats-route://127.0.0.1:{port}")).join(", ");
        Some(ports.map(|port| {
            let cluster = format!("name: three, listen: \"127.0.0.1:{port}\", routes: [{routes}]");
            let more = format!("server_name: server-{port}\ncluster {{ {cluster} }}\n");
            NatsServer::with(program.clone(), &more)
        }))
    }

    fn with(program: PathBuf, more: &str) -> NatsServer {
        let folder = TempDir::new().unwrap();
        let store = folder.path().display();
        let jetstream = format!("jetstream {{ store_dir: \"{store}\", sync_interval: always }}\n");
        fs::write(folder.path().join("settings"), jetstream + more).unwrap();
        // The first start takes any free port.
        let child = run(&program, folder.path(), "-1");
        let port = port(&child, folder.path());
        NatsServer { program, folder, port, child }
    }

    pub(super) async fn client(&self) -> Client {
        let options = ConnectOptions::new()
            .max_reconnects(None)
            .reconnect_delay_callback(|_| Duration::from_millis(20));
        options.connect(format!("nats://127.0.0.1:{}", self.port)).await.unwrap()
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts a killed server again, on the port and with the messages that it had.
    pub(super) fn restart(&mut self) {
        self.child = run(&self.program, self.folder.path(), &self.port.to_string());
        port(&self.child, self.folder.path());
    }
}

/// The program, or a word that it is not installed.
fn program() -> Option<PathBuf> {
    let folder = env::var_os("DIPTYCH_NATS").map(PathBuf::from);
    if folder.is_none() {
        println!("DID NOT RUN: `cargo xtask test` installs the server of NATS");
    }
    folder.map(|folder| folder.join("python/bin/nats-server"))
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(program: &Path, folder: &Path, port: &str) -> Child {
    let mut command = Command::new(program);
    command.args(["--addr", "127.0.0.1", "--port", port, "--ports_file_dir"]).arg(folder);
    command.arg("--config").arg(folder.join("settings"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The port, once the server listens. The server writes it to a file then.
fn port(child: &Child, folder: &Path) -> u16 {
    let file = folder.join(format!("nats-server_{}.ports", child.id()));
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if let Ok(ports) = serde_json::from_str::<serde_json::Value>(&text) {
            let address = ports["nats"][0].as_str().unwrap();
            return address.rsplit_once(':').unwrap().1.parse().unwrap();
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("the server of NATS does not start");
}

/// Creates a stream whose name was deleted just before. The server may still remove its files.
pub(super) async fn create_again(context: &jetstream::Context, settings: stream::Config) {
    for _ in 0..100 {
        if context.create_stream(settings.clone()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the stream {} cannot be created again", settings.name);
}
