//! Measures reads of a large log, and decisions over it.

use std::{sync::Arc, time::Instant};

use diptych_benches::{
    appends,
    engines::{COMMIT, load},
    options::Options,
    table::{Contender, Table, progress},
    workload::{ACCOUNTS, Entry, Numbers},
};
use tempfile::TempDir;

use crate::{
    connection::Connection,
    served::{ABOUT, SERVED, Server, ServerKind, UMADB},
    writes::with_latencies,
};

/// A server of a filled log.
struct LoadedServer {
    kind: ServerKind,
    connections: Vec<Arc<dyn Connection>>,
    _server: Server,
    _folder: TempDir,
}

impl LoadedServer {
    fn start(kind: ServerKind, options: &Options, connections: u64) -> LoadedServer {
        progress(&format!("loading {}", kind.name));
        let folder = options.folder();
        let path = folder.path().join("log");
        let engine = (kind.local.open)(&path);
        load(&*engine, 1, options.events, ACCOUNTS, COMMIT);
        engine.settle();
        engine.close();
        let server = Server::start(kind, &path);
        let connections = server.connect(connections);
        LoadedServer { kind, connections, _server: server, _folder: folder }
    }

    fn all(options: &Options, connections: u64) -> Vec<LoadedServer> {
        let chosen = SERVED.iter().filter(|kind| kind.name.contains(&options.name));
        chosen.map(|kind| LoadedServer::start(*kind, options, connections)).collect()
    }
}

pub(crate) fn reads(options: &Options) -> Vec<Table> {
    let servers = LoadedServer::all(options, 1);
    let whole = |server| {
        let LoadedServer { kind, connections, .. }: &LoadedServer = server;
        Contender::new(kind.name, move |_| {
            let (mut events, start) = (0, Instant::now());
            while start.elapsed() < options.turn() {
                events += connections[0].replay();
            }
            events as f64 / start.elapsed().as_secs_f64()
        })
    };
    let title = format!("reads: everything in order, {} events", options.events);
    let whole = Table::new(title, "events/s", UMADB)
        .notes(ABOUT)
        .measure(options, servers.iter().map(whole).collect());
    let title = "reads: one account of about 100 events, 1 client";
    let account = by_clients(options, &servers, title, "accounts/s", |connection, numbers| {
        assert!(connection.read_account(Entry::random(numbers).account) > 0);
    });
    [whole].into_iter().chain(account).collect()
}

pub(crate) fn decide(options: &Options) -> Vec<Table> {
    let with = |clients| {
        let servers = LoadedServer::all(options, clients);
        let title = format!("decide: {clients} clients read an account, append on condition");
        by_clients(options, &servers, &title, "decisions/s, each synced", |connection, numbers| {
            connection.decide(&Entry::random(numbers));
        })
    };
    [1, 8].into_iter().flat_map(with).collect()
}

/// Runs `one` in a loop on a thread for each connection. Each time it takes a random connection.
fn by_clients(
    options: &Options,
    servers: &[LoadedServer],
    title: &str,
    unit: &'static str,
    one: impl Fn(&dyn Connection, &mut Numbers) + Sync,
) -> Vec<Table> {
    let one = &one;
    let contender = |server| {
        let LoadedServer { kind, connections, .. }: &LoadedServer = server;
        Contender::several(kind.name, move |round| {
            let count = connections.len();
            let one = |numbers: &mut Numbers| {
                one(&*connections[numbers.draw() as usize % count], numbers);
            };
            appends::threads(count as u64, round, options.turn(), || (), one).figures()
        })
    };
    let tables = with_latencies(title, unit);
    Table::measure_all(tables, options, servers.iter().map(contender).collect())
}
