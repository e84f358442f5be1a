//! A server of a log in a process of its own, which can be killed.

use std::{
    env,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use diptych::store::Store;
use diptych_log::{Log, LogOptions};
use diptych_server::LogServer;
use tokio::runtime::Builder;

const FOLDER: &str = "DIPTYCH_SERVED_FOLDER";
const ADDRESS: &str = "DIPTYCH_SERVED_ADDRESS";
const READY: &str = "the log is served";

/// The process: this test binary, which runs the test below.
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl ServerProcess {
    /// Serves the log of the folder at this address.
    pub(crate) fn start(folder: &Path, address: SocketAddr) -> ServerProcess {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "child::a_process_serves_a_log", "--nocapture"]);
        command.env(FOLDER, folder).env(ADDRESS, address.to_string());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ready = lines.any(|line| line.unwrap().contains(READY));
        assert!(is_ready, "the process does not serve the log");
        ServerProcess { child, address }
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that is free now, for a server that is started again and again.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Does nothing, unless this process is the child of another test.
#[test]
fn a_process_serves_a_log() {
    let (Ok(folder), Ok(address)) = (env::var(FOLDER), env::var(ADDRESS)) else { return };
    // Small files, so that segments end while clients work.
    let options = LogOptions { segment_bytes: 256 << 10, ..LogOptions::default() };
    let log = Log::open(folder, options).unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async move {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        println!("{READY}");
        LogServer::new(Store::new(log)).serve(listener, std::future::pending()).await.unwrap();
    });
}
