//! A proxy between a store and its server that cuts all connections at a chosen message.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    thread,
};

use diptych_postgres_testing::ProxyPort;

pub(super) struct Proxy {
    port: ProxyPort,
    shared: Arc<ProxyState>,
}

#[derive(Default)]
struct ProxyState {
    /// Pieces from the server until all connections are cut. Below 0 none are.
    left: AtomicI64,
    cuts: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
    is_closed: AtomicBool,
}

impl Proxy {
    /// Forwards to the server on this port.
    pub(super) fn start(to: u16) -> Proxy {
        let shared = Arc::new(ProxyState { left: AtomicI64::new(-1), ..ProxyState::default() });
        let own = shared.clone();
        let port = ProxyPort::start(to, move |client, server| {
            if own.is_closed.load(Ordering::SeqCst) {
                return;
            }
            let both = [&client, &server].map(|end| end.try_clone().unwrap());
            own.open.lock().unwrap().extend(both);
            let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || forward(from, into, || true));
            let counts = own.clone();
            thread::spawn(move || forward(server, client, || counts.may_pass()));
        });
        Proxy { port, shared }
    }

    pub(super) fn port(&self) -> u16 {
        self.port.port()
    }

    /// Cuts all connections after this many further pieces from the server.
    pub(super) fn cut_after(&self, pieces: u64) {
        self.shared.left.store(pieces.cast_signed(), Ordering::SeqCst);
    }

    /// Cuts all connections, and refuses new ones until it is called again.
    pub(super) fn set_closed(&self, is_closed: bool) {
        self.shared.is_closed.store(is_closed, Ordering::SeqCst);
        self.shared.cut();
    }

    pub(super) fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.port.close();
        self.shared.cut();
    }
}

impl ProxyState {
    /// Whether a piece of the server arrives. If it does not, its connection ends.
    fn may_pass(&self) -> bool {
        if self.left.load(Ordering::SeqCst) < 0 || self.left.fetch_sub(1, Ordering::SeqCst) != 0 {
            return true;
        }
        self.cut();
        false
    }

    fn cut(&self) {
        for end in self.open.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
            self.cuts.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn forward(mut from: TcpStream, mut into: TcpStream, may_pass: impl Fn() -> bool) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !may_pass() || into.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    for end in [from, into] {
        let _ = end.shutdown(Shutdown::Both);
    }
}
