//! A byte of a header is changed on its way, once. HTTP/2 keeps headers for later calls, so a
//! connection can be wrong from then on, although nothing changes bytes any more.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use diptych_remote::{RemoteOptions, RemoteStore};
use diptych_server::{LogServer, TokenScope};
use diptych_store::{Append, EventStore, Filter, Memory, Position, RawEvent, Read, Store, Tag};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::{Builder, Runtime},
};
use uuid::Uuid;

use crate::served_log::ServedLog;

/// The first bytes of a client.
const PREFACE: usize = 24;
/// The type of a frame with headers.
const HEADERS: u8 = 1;

/// A side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Client,
    Server,
}

/// The byte that is changed next: this one of the next headers of that side.
#[derive(Clone, Copy, Debug)]
struct Damage {
    by: Sender,
    at: usize,
}

/// The next order to the proxy, and counts of its work.
#[derive(Default)]
struct Orders {
    next: Option<Damage>,
    /// Bytes that were changed.
    changed: u32,
    connections: u32,
}

/// A proxy that changes one byte when it is told to, and is honest otherwise.
struct HeaderProxy {
    address: SocketAddr,
    orders: Arc<Mutex<Orders>>,
    _runtime: Runtime,
}

impl HeaderProxy {
    fn start(to: SocketAddr) -> HeaderProxy {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let orders = Arc::<Mutex<Orders>>::default();
        let given = orders.clone();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(to).await else { continue };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                given.lock().unwrap().connections += 1;
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, Frames::of(Sender::Client, &given)));
                tokio::spawn(pass(from_server, to_client, Frames::of(Sender::Server, &given)));
            }
        });
        HeaderProxy { address, orders, _runtime: runtime }
    }

    fn connect(&self, token: Option<&str>) -> RemoteStore {
        let mut options = RemoteOptions::default();
        options.token = token.map(str::to_owned);
        options.answer_time = Duration::from_secs(10);
        let address = format!("diptych://{}", self.address);
        pollster::block_on(RemoteStore::connect(&address, options)).unwrap()
    }

    fn damage(&self, next: Damage) {
        self.orders.lock().unwrap().next = Some(next);
    }

    fn changed(&self) -> u32 {
        self.orders.lock().unwrap().changed
    }

    fn connections(&self) -> u32 {
        self.orders.lock().unwrap().connections
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut frames: Frames) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        buffer[..read].iter_mut().for_each(|byte| frames.pass(byte));
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Finds the frames in the bytes of one side.
struct Frames {
    by: Sender,
    orders: Arc<Mutex<Orders>>,
    /// Bytes of the preface to come.
    preface: usize,
    /// The head of a frame, as far as it has come.
    head: Vec<u8>,
    /// Bytes of the frame to come, behind its head.
    rest: usize,
    /// The byte to change, counted from here.
    change_in: Option<usize>,
}

impl Frames {
    fn of(by: Sender, orders: &Arc<Mutex<Orders>>) -> Frames {
        let preface = if by == Sender::Client { PREFACE } else { 0 };
        let (orders, head) = (orders.clone(), Vec::new());
        Frames { by, orders, preface, head, rest: 0, change_in: None }
    }

    fn pass(&mut self, byte: &mut u8) {
        if self.preface > 0 {
            self.preface -= 1;
        } else if self.rest > 0 {
            self.rest -= 1;
            self.content(byte);
        } else {
            self.head.push(*byte);
            if let [high, middle, low, kind, _, _, _, _, _] = self.head[..] {
                self.rest = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.change_in = (kind == HEADERS).then(|| self.damage()).flatten();
                self.head.clear();
            }
        }
    }

    /// The byte to change in the headers that begin now.
    fn damage(&self) -> Option<usize> {
        let next = &mut self.orders.lock().unwrap().next;
        next.take_if(|next| next.by == self.by).map(|next| next.at)
    }

    fn content(&mut self, byte: &mut u8) {
        match self.change_in {
            Some(0) => {
                // Different bits of different bytes.
                *byte ^= 1 << (self.rest % 8);
                self.orders.lock().unwrap().changed += 1;
                self.change_in = None;
            }
            Some(to_come) => self.change_in = Some(to_come - 1),
            None => {}
        }
    }
}

fn append(memory: &Store, event: RawEvent) {
    let accepted = pollster::block_on(memory.append(Append::event(event))).unwrap();
    pollster::block_on(accepted.synced()).unwrap();
}

/// Runs `calls` over a connection of its own for each byte of the headers, which is changed in the
/// first headers of `calls`. Returns how many bytes there are.
fn for_each_byte(by: Sender, calls: impl Fn(&RemoteStore, &Store, Damage)) -> usize {
    for at in 0.. {
        let memory = Store::new(Memory::new());
        let event = RawEvent::new("counted", "1").tag(Tag::new("a", 1));
        append(&memory, event);
        let served = ServedLog::start(memory.clone());
        let proxy = HeaderProxy::start(served.address);
        let store = proxy.connect(None);
        // The watch of the head has its headers.
        append(&memory, RawEvent::new("seen", "1"));
        let seen = pollster::block_on(store.head().after(Position::new(1))).unwrap();
        assert_eq!(seen.get(), 2);
        let damage = Damage { by, at };
        proxy.damage(damage);
        calls(&store, &memory, damage);
        if proxy.changed() == 0 {
            return at;
        }
    }
    0
}

#[test]
fn a_read_with_damaged_headers_is_asked_again_over_another_connection() {
    for (by, least) in [(Sender::Client, 40), (Sender::Server, 2)] {
        let bytes = for_each_byte(by, |store, _, damage| {
            // The second one finds what the first one left in the tables.
            for _ in 0..2 {
                let counted = pollster::block_on(store.count(&Tag::new("a", 1), Position::MAX));
                assert_eq!(counted.unwrap_or_else(|error| panic!("{damage:?}: {error}")), 1);
            }
        });
        assert!(bytes > least, "{bytes} bytes of headers of the {by:?}");
    }
}

#[test]
fn an_append_over_a_stream_with_damaged_headers_is_made_once() {
    for (by, least) in [(Sender::Client, 40), (Sender::Server, 2)] {
        let bytes = for_each_byte(by, |store, memory, damage| {
            for position in 3..5 {
                let event = RawEvent::new("appended", "1").id(Uuid::new_v4());
                let accepted = pollster::block_on(store.append(Append::event(event)));
                let accepted = accepted.unwrap_or_else(|error| panic!("{damage:?}: {error}"));
                assert_eq!(accepted.first, Position::new(position), "{damage:?}");
            }
            let batch = pollster::block_on(memory.read(&Filter::everything(), Read::all()));
            assert_eq!(batch.unwrap().len(), 4, "{damage:?}");
        });
        assert!(bytes > least, "{bytes} bytes of headers of the {by:?}");
    }
}

#[test]
fn a_server_that_refuses_calls_does_not_get_a_connection_for_each() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let server = LogServer::new(Store::new(Memory::new())).token("reader", [TokenScope::Read]);
    runtime.spawn(async move { server.serve(listener, std::future::pending()).await.unwrap() });
    let proxy = HeaderProxy::start(address);
    let store = proxy.connect(Some("reader"));
    let began = Instant::now();
    for _ in 0..20 {
        let append = store.append(Append::event(RawEvent::new("appended", "1")));
        let error = pollster::block_on(append).unwrap_err().to_string();
        assert!(error.contains("the token does not allow this"), "{error}");
    }
    // One more tells whether the first one was wrong. A slow machine may need longer.
    let more = 1 + began.elapsed().as_secs() as u32 / 4;
    assert!(proxy.connections() <= 1 + more, "{} connections", proxy.connections());
}
