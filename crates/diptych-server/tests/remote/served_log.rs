//! A log on a server, on a thread of its own.

use std::{net::SocketAddr, sync::mpsc, thread, time::Duration};

use diptych::store::Store;
use diptych_remote::{AppendAnswer, RemoteOptions, RemoteStore};
use diptych_server::{LogServer, ServerLimits};
use tokio::{net::TcpListener, runtime::Builder, sync::oneshot};

/// A running server. It stops when this value is dropped.
pub(crate) struct ServedLog {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl ServedLog {
    /// Serves this store at a free port.
    pub(crate) fn start(store: Store) -> ServedLog {
        ServedLog::start_at(store, "127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn start_at(store: Store, address: SocketAddr) -> ServedLog {
        let (stop, stopped) = oneshot::channel();
        let (bound, address_of) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = TcpListener::bind(address).await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                let stopped = async { drop(stopped.await) };
                let mut limits = ServerLimits::default();
                limits.stop_time = Duration::from_millis(500);
                LogServer::new(store).limits(limits).serve(listener, stopped).await.unwrap();
            });
        });
        let address = address_of.recv().unwrap();
        ServedLog { address, stop: Some(stop), thread: Some(thread) }
    }
}

/// A connection to the log at this address.
pub(crate) fn connect(address: SocketAddr, append_answer: AppendAnswer) -> RemoteStore {
    let address = format!("diptych://{address}");
    let mut options = RemoteOptions::default();
    options.append_answer = append_answer;
    pollster::block_on(RemoteStore::connect(&address, options)).unwrap()
}

impl Drop for ServedLog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
