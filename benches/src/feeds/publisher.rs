//! The service that publishes, in a process of its own.

use std::{
    io::{BufRead, BufReader, Write, stdin, stdout},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use diptych_benches::durable::runtime;
use diptych_server::{LogServer, Server, ServerLimits};
use diptych_store::{Append, RawEvent, Store};
use tokio::net::TcpListener;

use crate::services::ordering;

/// The first argument of the child process.
pub(crate) const CHILD: &str = "--as-publisher";

/// Clients that append within the process of the publisher.
const CLIENTS: usize = 64;

/// A running publisher. It is killed when this value is dropped.
pub(crate) struct Publisher {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    /// The address of the native wire.
    pub(crate) wire: SocketAddr,
}

impl Publisher {
    /// Publishes the log in this folder.
    pub(crate) fn start(folder: &Path) -> Publisher {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(CHILD).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let questions = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let address = line(&mut answers).parse().unwrap();
        let wire = line(&mut answers).parse().unwrap();
        Publisher { child, questions, answers, address, wire }
    }

    /// Appends events outside of the feed for this time. Returns how many a second were durable.
    pub(crate) fn append_others(&mut self, time: Duration) -> f64 {
        writeln!(self.questions, "{}", time.as_millis()).unwrap();
        line(&mut self.answers).parse().unwrap()
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(answers: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Prints the addresses of the feed over HTTP and over the native wire, then a rate for each line
/// with a number of milliseconds.
pub(crate) fn child(folder: &Path) {
    let runtime = runtime();
    let app = runtime.block_on(ordering(folder));
    let store = app.store().clone();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    writeln!(stdout(), "{}", listener.local_addr().unwrap()).unwrap();
    let wire = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    writeln!(stdout(), "{}", wire.local_addr().unwrap()).unwrap();
    let many = 100_000;
    let mut limits = ServerLimits::default();
    (limits.requests, limits.peer_requests) = (many, many);
    (limits.connections, limits.peer_connections) = (many, many);
    (limits.streams, limits.peer_streams) = (many, many);
    let log = LogServer::new(store.clone()).feeds(app.feeds()).limits(limits);
    runtime.spawn(log.serve(wire, std::future::pending()));
    let serving = Server::new(app).limits(limits).serve(listener, std::future::pending());
    runtime.spawn(serving);
    for line in stdin().lines() {
        let time = Duration::from_millis(line.unwrap().parse().unwrap());
        let rate = runtime.block_on(appended(&store, time));
        writeln!(stdout(), "{rate}").unwrap();
    }
}

async fn appended(store: &Store, time: Duration) -> f64 {
    let (count, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let begin = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (store, count, over) = (store.clone(), count.clone(), over.clone());
            tokio::spawn(async move {
                while !over.load(Relaxed) {
                    let other = RawEvent::new("stock-counted", vec![b'x'; 160]);
                    let accepted = store.append(Append::event(other)).await.unwrap();
                    accepted.synced().await.unwrap();
                    count.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    let rate = count.load(Relaxed) as f64 / begin.elapsed().as_secs_f64();
    over.store(true, Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    rate
}
