//! A port in front of a server, for proxies that cut connections.

use std::{
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// A free loopback port whose connections are handed to a proxy. It ends when dropped.
#[derive(Debug)]
pub struct ProxyPort {
    port: u16,
    is_over: Arc<AtomicBool>,
}

impl ProxyPort {
    /// Connects each client to the server on the port `to`. `pass` gets the client and the server.
    /// It runs on the thread that accepts, so it leaves the bytes to other threads.
    ///
    /// # Panics
    ///
    /// Panics if the machine has no free port.
    pub fn start(
        to: u16,
        mut pass: impl FnMut(TcpStream, TcpStream) + Send + 'static,
    ) -> ProxyPort {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = is_over.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                if let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", to))) {
                    pass(client, server);
                }
            }
        });
        ProxyPort { port, is_over }
    }

    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Takes no further clients.
    pub fn close(&self) {
        if !self.is_over.swap(true, Ordering::SeqCst) {
            // Wakes the thread that accepts.
            let _ = TcpStream::connect(("127.0.0.1", self.port));
        }
    }
}

impl Drop for ProxyPort {
    fn drop(&mut self) {
        self.close();
    }
}
