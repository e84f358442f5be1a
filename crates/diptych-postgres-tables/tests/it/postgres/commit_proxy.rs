//! A proxy between a projection and its server that cuts the connection at a commit.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use diptych_postgres_testing::ProxyPort;

/// The message of a commit.
const COMMIT: &[u8] = b"Q\0\0\0\x0bcommit\0";

/// A proxy that treats commits in turn: the first passes, the second never arrives at the server,
/// and the answer to the third is lost.
pub(super) struct CommitProxy {
    port: ProxyPort,
    commits: Arc<AtomicU64>,
}

impl CommitProxy {
    /// Forwards to the server on this port.
    pub(super) fn start(to: u16) -> CommitProxy {
        let commits = Arc::new(AtomicU64::new(0));
        let count = commits.clone();
        let port = ProxyPort::start(to, move |client, server| {
            let is_lost = Arc::new(AtomicBool::new(false));
            let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (count, loses) = (count.clone(), is_lost.clone());
            thread::spawn(move || forward(from, into, |bytes| passes(&count, bytes, &loses)));
            let answers = move |_: &[u8]| !is_lost.load(Ordering::SeqCst);
            thread::spawn(move || forward(server, client, answers));
        });
        CommitProxy { port, commits }
    }

    pub(super) fn port(&self) -> u16 {
        self.port.port()
    }

    /// The number of commits so far.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }
}

/// Whether this piece arrives at the server. If the answer is lost, the next piece of the server
/// ends the connection.
fn passes(commits: &AtomicU64, bytes: &[u8], is_lost: &AtomicBool) -> bool {
    if !bytes.windows(COMMIT.len()).any(|part| part == COMMIT) {
        return true;
    }
    let number = commits.fetch_add(1, Ordering::SeqCst);
    is_lost.store(number % 3 == 2, Ordering::SeqCst);
    number % 3 != 1
}

fn forward(mut from: TcpStream, mut into: TcpStream, passes: impl Fn(&[u8]) -> bool) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !passes(&bytes[..count]) || into.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    for end in [from, into] {
        let _ = end.shutdown(Shutdown::Both);
    }
}
