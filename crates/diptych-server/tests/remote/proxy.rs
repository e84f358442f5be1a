//! A proxy between client and server that delays, cuts off, swallows, or changes bytes.
//!
//! `DIPTYCH_DAMAGED_CALLS=300` makes more calls over a connection that changes bytes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diptych_remote::{AppendAnswer, RemoteOptions, RemoteStore};
use diptych_store::{
    Append, AppendError, EventStore, Filter, Memory, Position, RawEvent, Read, Store,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::{Builder, Runtime},
    sync::watch,
};
use uuid::Uuid;

use crate::served_log::ServedLog;

/// How the proxy treats the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// Passes them on.
    Passes,
    /// Passes nothing on, and answers nothing: the peer is there, and says nothing.
    Swallows,
    /// Changes one bit in some pieces.
    Flips,
    /// Passes a part of a piece on, and closes the connection.
    Truncates,
    /// Holds each piece back for some time.
    Delays,
    /// Passes on what the client says, and nothing of what the server says.
    LosesReplies,
}

const MODES: [Mode; 6] =
    [Mode::Passes, Mode::Swallows, Mode::Flips, Mode::Truncates, Mode::Delays, Mode::LosesReplies];

pub(crate) struct Proxy {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
    /// Changes when all connections are to be closed.
    cut: watch::Sender<u64>,
    _runtime: Runtime,
}

impl Proxy {
    pub(crate) fn start(to: SocketAddr) -> Proxy {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mode = Arc::new(AtomicU8::new(Mode::Passes as u8));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (of_connection, pieces) = (mode.clone(), Arc::new(AtomicU64::new(0)));
        let (cut, cuts) = watch::channel(0);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(to).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                for (from, to, from_server) in
                    [(from_client, to_server, false), (from_server, to_client, true)]
                {
                    let (mode, pieces) = (of_connection.clone(), pieces.clone());
                    let mut cuts = cuts.clone();
                    cuts.mark_unchanged();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = pass(from, to, from_server, mode, pieces) => {}
                            _ = cuts.changed() => {}
                        }
                    });
                }
            }
        });
        Proxy { address, mode, cut, _runtime: runtime }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// Closes all connections.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    fn connect(&self, answer_time: Duration) -> RemoteStore {
        self.connect_with(answer_time, Duration::from_millis(400))
    }

    pub(crate) fn connect_with(&self, answer_time: Duration, heartbeat: Duration) -> RemoteStore {
        let mut options = RemoteOptions::default();
        options.heartbeat = heartbeat;
        options.answer_time = answer_time;
        options.append_answer = AppendAnswer::Synced;
        let address = format!("diptych://{}", self.address);
        pollster::block_on(RemoteStore::connect(&address, options)).unwrap()
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    from_server: bool,
    mode: Arc<AtomicU8>,
    pieces: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let number = pieces.fetch_add(1, Ordering::SeqCst);
        let mut piece = &mut buffer[..read];
        // The same places in every run.
        let place = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize;
        match MODES[usize::from(mode.load(Ordering::SeqCst))] {
            Mode::Passes => {}
            Mode::Swallows => continue,
            Mode::LosesReplies if from_server => continue,
            Mode::LosesReplies => {}
            Mode::Flips if number.is_multiple_of(7) => piece[place % read] ^= 1 << (place % 8),
            Mode::Flips => {}
            Mode::Truncates if number.is_multiple_of(11) => {
                piece = &mut piece[..place % read];
                let _ = to.write_all(piece).await;
                return;
            }
            Mode::Truncates => {}
            Mode::Delays => tokio::time::sleep(Duration::from_millis(place as u64 % 20)).await,
        }
        if to.write_all(piece).await.is_err() {
            return;
        }
    }
}

/// Appends this number of events through the proxy. Returns the ids of those with an unknown
/// outcome. Every other append was acknowledged at the given position.
fn append(store: &RemoteStore, events: u64) -> (Vec<(Uuid, Position)>, Vec<Uuid>) {
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    for number in 0..events {
        let id = Uuid::new_v4();
        let event = RawEvent::new("counted", format!("the number {number}")).id(id);
        match pollster::block_on(store.append(Append::event(event))) {
            Ok(accepted) => acknowledged.push((id, accepted.first)),
            Err(AppendError::OutcomeUnknown(_)) => unknown.push(id),
            Err(AppendError::Unavailable(_)) => {}
            Err(error) => panic!("append {number}: {error}"),
        }
    }
    (acknowledged, unknown)
}

/// Each event is in the log once, where it was acknowledged, with the bytes that were sent.
fn check(memory: &Store, acknowledged: &[(Uuid, Position)]) {
    let batch = pollster::block_on(memory.read(&Filter::everything(), Read::all())).unwrap();
    let mut ids: Vec<Uuid> = batch.iter().map(|event| event.id().unwrap()).collect();
    for (id, position) in acknowledged {
        assert_eq!(ids.get(position.get() as usize - 1), Some(id));
    }
    for event in batch.iter() {
        let text = std::str::from_utf8(event.payload()).unwrap();
        assert!(text.strip_prefix("the number ").unwrap().parse::<u64>().is_ok(), "{text}");
    }
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all, "an event is there twice");
}

/// The number of calls over a connection that changes bytes. Each waits for its time to end if the
/// change hides its answer.
fn damaged_calls() -> u64 {
    std::env::var("DIPTYCH_DAMAGED_CALLS").map_or(24, |text| text.parse().unwrap())
}

fn run(mode: Mode, events: u64) {
    let memory = Store::new(Memory::new());
    let served = ServedLog::start(memory.clone());
    let proxy = Proxy::start(served.address);
    let store = proxy.connect(Duration::from_secs(20));
    proxy.set(mode);
    let (acknowledged, _) = append(&store, events);
    proxy.set(Mode::Passes);
    assert!(!acknowledged.is_empty(), "nothing came through");
    check(&memory, &acknowledged);
    // The connection is well again, and reads what was written. Changed bytes can stay in the table
    // of headers that both ends of HTTP/2 keep, so that such a connection is wrong until it ends.
    let store = match mode {
        Mode::Flips => proxy.connect(Duration::from_secs(20)),
        _ => store,
    };
    let batch = pollster::block_on(store.read(&Filter::everything(), Read::all())).unwrap();
    assert!(batch.len() >= acknowledged.len());
}

#[test]
fn a_connection_with_delays_loses_and_doubles_nothing() {
    run(Mode::Delays, 40);
}

#[test]
fn a_connection_that_is_cut_off_again_and_again_loses_and_doubles_nothing() {
    run(Mode::Truncates, 60);
}

#[test]
fn a_connection_that_changes_bytes_writes_nothing_wrong() {
    run(Mode::Flips, damaged_calls());
}

/// Once a damaged message was a final error, which ends followers.
#[test]
fn a_connection_that_changes_bytes_gives_readers_right_answers() {
    let memory = Store::new(Memory::new());
    let served = ServedLog::start(memory.clone());
    let proxy = Proxy::start(served.address);
    let store = proxy.connect(Duration::from_secs(20));
    append(&store, 20);
    let right = pollster::block_on(memory.read(&Filter::everything(), Read::all())).unwrap();
    proxy.set(Mode::Flips);
    let mut answers = 0;
    for _ in 0..damaged_calls() {
        match pollster::block_on(store.read(&Filter::everything(), Read::all())) {
            Ok(batch) => {
                assert!(
                    batch
                        .iter()
                        .map(|event| event.to_raw())
                        .eq(right.iter().map(|event| event.to_raw()))
                );
                answers += 1;
            }
            // The name of the call, of the log or of its history was changed.
            Err(error) => {
                let text = error.to_string();
                assert!(!text.contains("changed on its way"), "{text}");
            }
        }
    }
    assert!(answers > damaged_calls() / 2, "{answers} answers");
}

/// Once such a connection hung for ever, because the peer does not close it.
#[test]
fn a_connection_that_swallows_everything_is_noticed_and_made_again() {
    const HEARTBEAT: Duration = Duration::from_secs(1);
    // A busy machine runs threads late.
    const DELAY: Duration = Duration::from_secs(2);
    let memory = Store::new(Memory::new());
    let served = ServedLog::start(memory.clone());
    let proxy = Proxy::start(served.address);
    let store = proxy.connect_with(Duration::from_secs(60), HEARTBEAT);
    let (acknowledged, _) = append(&store, 1);
    assert_eq!((acknowledged.len(), store.head().paused().is_some()), (1, false));
    proxy.set(Mode::Swallows);
    let appending = {
        let store = store.clone();
        thread::spawn(move || append(&store, 3))
    };
    let began = Instant::now();
    // The head says that the log takes no commits now.
    while store.head().paused().is_none() {
        assert!(began.elapsed() < Duration::from_secs(15), "the connection is not noticed");
        thread::sleep(Duration::from_millis(5));
    }
    let noticed = began.elapsed();
    assert!(noticed < 2 * HEARTBEAT + DELAY, "noticed after {noticed:?}");
    let text = store.head().paused().unwrap().to_string();
    assert!(text.contains("the connection to the server of the log was lost"), "{text}");

    proxy.set(Mode::Passes);
    let (later, unknown) = appending.join().unwrap();
    assert_eq!((later.len(), unknown.len()), (3, 0));
    let acknowledged = [acknowledged, later].concat();
    check(&memory, &acknowledged);
    while store.head().paused().is_some() {
        assert!(began.elapsed() < Duration::from_secs(60), "the head is not followed again");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_call_on_a_dead_connection_ends_with_its_time() {
    let memory = Store::new(Memory::new());
    let served = ServedLog::start(memory.clone());
    let proxy = Proxy::start(served.address);
    let store = proxy.connect(Duration::from_secs(1));
    proxy.set(Mode::Swallows);
    let began = Instant::now();
    let error = pollster::block_on(store.fresh_head()).unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(900), "{error}");
    let event = Append::event(RawEvent::new("a", ""));
    let error = pollster::block_on(store.append(event)).unwrap_err();
    // The append may have been sent, and nothing tells more.
    let is_right = matches!(error, AppendError::OutcomeUnknown(_) | AppendError::Unavailable(_));
    assert!(is_right, "{error}");
}

/// With the defaults a dead connection is noticed within 15 seconds.
#[test]
fn the_default_heartbeat_notices_a_dead_connection_in_time() {
    let heartbeat = RemoteOptions::default().heartbeat;
    assert!(heartbeat + heartbeat / 2 <= Duration::from_secs(15));
}
