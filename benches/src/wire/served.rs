//! Servers in child processes of this program.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use diptych_benches::{
    engines::{self, KINDS},
    options::Options,
};

use crate::{
    connection::{Connection, Wire},
    ours::{self, Remote},
};

/// The first argument of a child process.
const CHILD: &str = "--as-child";

pub(crate) const DIPTYCH: &str = "Diptych";
pub(crate) const UMADB: &str = "UmaDB 0.7";

/// A kind of served log.
#[derive(Clone, Copy)]
pub(crate) struct ServerKind {
    pub(crate) name: &'static str,
    /// The log below the server, to fill it without the network.
    pub(crate) local: engines::Kind,
    pub(crate) serve: fn(&Path, SocketAddr),
    connect: fn(SocketAddr) -> Arc<dyn Connection>,
}

pub(crate) const OURS: ServerKind = ServerKind {
    name: DIPTYCH,
    local: KINDS[0],
    serve: ours::serve,
    connect: |address| Arc::new(Wire(Remote::connect(address, true))),
};

/// Diptych, whose subscribers are subscriptions of a store in place of calls.
pub(crate) const BY_STORE: ServerKind = ServerKind {
    name: "Diptych, subscription of a store",
    connect: |address| Arc::new(Wire(Remote::connect(address, false))),
    ..OURS
};

#[cfg(feature = "umadb")]
const PEER: ServerKind = ServerKind {
    name: UMADB,
    local: KINDS[2],
    serve: crate::umadb::serve,
    connect: |address| Arc::new(Wire(crate::umadb::UmaDbConnection::connect(address))),
};

/// The kinds that are compared.
pub(crate) const SERVED: &[ServerKind] = &[
    OURS,
    #[cfg(feature = "umadb")]
    PEER,
];

/// Notes that a reader needs to interpret the rows.
pub(crate) const ABOUT: &[&str] = &[
    "events have a payload of 256 bytes, one of 8 types, an account and a tenant as tags",
    "server and clients are two processes of one machine, connected by TCP without encryption",
    "UmaDB: its server and its client for tasks, each with its default options",
];

/// Whether these are the arguments of a child process.
pub(crate) fn is_child(arguments: &[String]) -> bool {
    arguments.first().is_some_and(|first| first == CHILD)
}

/// The command that starts a child process.
pub(crate) fn child(what: &str, name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([CHILD, what, name]).stdin(Stdio::null());
    command
}

/// A running server. It is killed when this value is dropped.
pub(crate) struct Server {
    kind: ServerKind,
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(kind: ServerKind, folder: &Path) -> Server {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        // All kinds of Diptych have one server.
        let name = SERVED.iter().find(|one| kind.name.starts_with(one.name)).unwrap().name;
        let mut command = child("serve", name);
        command.arg(folder).arg(address.to_string()).stdout(Stdio::null());
        Server { kind, child: command.spawn().unwrap(), address }
    }

    /// Connections to the server, once it is ready.
    pub(crate) fn connect(&self, count: u64) -> Vec<Arc<dyn Connection>> {
        (0..count).map(|_| (self.kind.connect)(self.address)).collect()
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one turn with a server of a new log.
pub(crate) fn on_fresh_log<T>(
    options: &Options,
    kind: ServerKind,
    connections: u64,
    turn: impl FnOnce(&Server, &[Arc<dyn Connection>]) -> T,
) -> T {
    let folder = options.folder();
    let server = Server::start(kind, &folder.path().join("log"));
    turn(&server, &server.connect(connections))
}
