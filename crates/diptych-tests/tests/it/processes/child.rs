//! Programs in processes of their own, which die by SIGKILL. Each is this test binary, with its
//! work in environment variables.

use std::{
    env,
    io::{BufRead, BufReader, Lines},
    net::{SocketAddr, TcpListener},
    ops::Range,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use diptych::Store;
use diptych_log::{Log, LogOptions};
use diptych_server::LogServer;
use tokio::runtime::{Builder, Runtime};

use super::{
    fuse::{Death, Fuse, Point, mortal_store, points},
    kills::gateway_policy,
    nodes,
    provider::{Keys, Provider},
    shop::{live, shop, varied},
};

const ROLE: &str = "DIPTYCH_PROCESS_ROLE";
const FOLDER: &str = "DIPTYCH_PROCESS_FOLDER";
const NUMBERS: &str = "DIPTYCH_PROCESS_NUMBERS";
const ADDRESS: &str = "DIPTYCH_PROCESS_ADDRESS";
const READY: &str = "the program is ready";

const KEYS: [Keys; 3] = [Keys::Ignored, Keys::Listed, Keys::Once];

/// A program over a folder that dies at a point.
pub(crate) struct FuseWork<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) point: Point,
    pub(crate) nth: u32,
    pub(crate) seed: u64,
    pub(crate) orders: Range<u64>,
    pub(crate) keys: Keys,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgramEnd {
    Killed,
    Itself,
}

fn command(role: &str, folder: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "processes::child::a_program", "--nocapture"]);
    command.env(ROLE, role).env(FOLDER, folder).env("RUST_BACKTRACE", "0");
    command
}

impl FuseWork<'_> {
    /// Runs the program until its end.
    pub(crate) fn run(&self) -> ProgramEnd {
        let point = points().iter().position(|point| *point == self.point).unwrap() as u64;
        let keys = KEYS.iter().position(|keys| *keys == self.keys).unwrap() as u64;
        let Range { start, end } = self.orders;
        let numbers = [point, u64::from(self.nth), self.seed, start, end, keys];
        let numbers = numbers.map(|number| number.to_string()).join(" ");
        let output = command("fuse", self.folder).env(NUMBERS, numbers).output().unwrap();
        match (output.status.signal(), output.status.success()) {
            (Some(9), _) => ProgramEnd::Killed,
            (_, true) => ProgramEnd::Itself,
            _ => panic!("{:?}: {}", self.point, String::from_utf8_lossy(&output.stderr)),
        }
    }
}

/// A program that serves a log, or runs the process over such a server.
pub(crate) struct Program(Child, Option<Lines<BufReader<ChildStdout>>>);

impl Program {
    /// Serves the log of the folder.
    pub(crate) fn server(folder: &Path, address: SocketAddr) -> Program {
        Program::start("serve", folder, address).expect("the server starts")
    }

    /// Runs the process over the server. `None` if it ended before it was ready: the server was
    /// killed then.
    pub(crate) fn node(folder: &Path, address: SocketAddr) -> Option<Program> {
        Program::start("node", folder, address)
    }

    fn start(role: &str, folder: &Path, address: SocketAddr) -> Option<Program> {
        let mut command = command(role, folder);
        command.env(ADDRESS, address.to_string()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Program(command.spawn().unwrap(), None);
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let is_ready = lines.any(|line| line.is_ok_and(|line| line.contains(READY)));
        // A test that runs for long says so, and must not find its output closed.
        child.1 = Some(lines);
        is_ready.then_some(child)
    }

    /// The exit code, if it ended by itself.
    pub(crate) fn exit(&mut self) -> Option<i32> {
        self.0.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }
}

impl Drop for Program {
    /// SIGKILL.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that is free now, for a server that is started again and again.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A child tells its parent that it is ready.
#[allow(clippy::print_stdout)]
pub(crate) fn ready() {
    println!("{READY}");
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Does nothing, unless this process is the child of another test.
#[test]
fn a_program() {
    let Ok(role) = env::var(ROLE) else { return };
    let folder = PathBuf::from(env::var(FOLDER).unwrap());
    match role.as_str() {
        "fuse" => burn(&folder),
        "serve" => serve(&folder),
        "node" => runtime().block_on(nodes::node(&folder, &address().to_string())),
        other => panic!("no such role: {other}"),
    }
}

fn address() -> SocketAddr {
    env::var(ADDRESS).unwrap().parse().unwrap()
}

fn burn(folder: &Path) {
    let numbers = env::var(NUMBERS).unwrap();
    let numbers: Vec<u64> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
    let [point, nth, seed, start, end, keys] = numbers[..] else { panic!("{numbers:?}") };
    let doomed = Some((points()[point as usize], nth as u32));
    let (fuse, keys) = (Fuse::new(doomed, Death::Killed), KEYS[keys as usize]);
    let mut random = fastrand::Rng::with_seed(seed * 1_000 + point);
    // Small files, so that segments end while programs die.
    let options = LogOptions { segment_bytes: 64 << 10, ..LogOptions::default() };
    let log = Log::open(folder.join("log"), options).unwrap();
    let store = Store::new(log.clone());
    let mortal = mortal_store(store.clone(), fuse.clone());
    let provider = Provider::new(folder.join("effects"), keys, fuse.clone());
    let builder = shop(Store::new(mortal), provider, gateway_policy(keys), varied(&mut random));
    runtime().block_on(async {
        let app = builder.start().await.unwrap();
        live(&app, &store, start..end, &fuse).await;
        app.stop().await.unwrap();
    });
    log.close().unwrap();
}

fn serve(folder: &Path) {
    let options = LogOptions { segment_bytes: 256 << 10, ..LogOptions::default() };
    let log = Log::open(folder.join("log"), options).unwrap();
    runtime().block_on(async move {
        let listener = tokio::net::TcpListener::bind(address()).await.unwrap();
        ready();
        LogServer::new(Store::new(log)).serve(listener, std::future::pending()).await.unwrap();
    });
}
