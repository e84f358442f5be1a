//! A client is killed, or its connection is reset, while its commits are in flight.

use std::{
    env,
    future::{Future, pending},
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use diptych::store::{Position, ReadCommits, Store};
use diptych_log::{Log, LogOptions};
use diptych_remote::wire::messages::{
    AppendReply, AppendRequest, Call, Event, call_reply, log_client::LogClient,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::mpsc,
};
use tonic::{Streaming, transport::Endpoint};

use crate::{append_stream::open_session, door_server::in_time, served_log::ServedLog};

const ADDRESS: &str = "DIPTYCH_APPENDING_ADDRESS";
const SESSION: &str = "DIPTYCH_APPENDING_SESSION";
const READY: &str = "the client appends";
/// Events of each commit.
const COMMIT_EVENTS: u64 = 3;
/// Commits of one message.
const MESSAGE_CALLS: u64 = 20;
/// Commits in the log before the client goes.
const COMMITS: u64 = 200;

/// A commit whose events say which one it is.
fn numbered(session: u8, number: u64) -> Call {
    let event = |part| Event {
        r#type: "counted".to_owned(),
        payload: format!("{session}/{number}/{part}").into_bytes(),
        ..Event::default()
    };
    Call { number, events: (0..COMMIT_EVENTS).map(event).collect(), ..Call::default() }
}

/// Opens this session.
async fn open(
    address: SocketAddr,
    session: u8,
) -> (mpsc::Sender<AppendRequest>, Streaming<AppendReply>) {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut log = LogClient::new(in_time(endpoint.connect()).await.unwrap());
    open_session(&mut log, session, AppendRequest::default()).await
}

/// Sends one commit after another, and waits for none.
async fn append_without_end(address: SocketAddr, session: u8) {
    let (requests, mut replies) = open(address, session).await;
    tokio::spawn(async move { while let Ok(Some(_)) = replies.message().await {} });
    println!("{READY}");
    for message in 0.. {
        let first = message * MESSAGE_CALLS + 1;
        let calls = (first..first + MESSAGE_CALLS).map(|number| numbered(session, number));
        let request = AppendRequest { calls: calls.collect(), ..AppendRequest::default() };
        if requests.send(request).await.is_err() {
            return pending().await;
        }
    }
}

/// A client in a process of its own: this test binary, which runs the test below.
struct ClientProcess(Child);

impl ClientProcess {
    fn start(address: SocketAddr, session: u8) -> ClientProcess {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "killed_clients::a_process_appends", "--nocapture"]);
        command.env(ADDRESS, address.to_string()).env(SESSION, session.to_string());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(READY)), "the process appends nothing");
        ClientProcess(child)
    }
}

impl Drop for ClientProcess {
    /// Kills the process with SIGKILL.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does nothing, unless this process is the child of another test.
#[test]
fn a_process_appends() {
    let (Ok(address), Ok(session)) = (env::var(ADDRESS), env::var(SESSION)) else { return };
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(append_without_end(address.parse().unwrap(), session.parse().unwrap()));
}

/// The numbers of the commits after this position, each of which has to be whole.
async fn commits(store: &Store, session: u8, after: Position) -> Vec<u64> {
    let (mut read, mut numbers) = (ReadCommits::after(after), Vec::new());
    while read.after < store.head().position() {
        let batch = store.commits(read.clone()).await.unwrap();
        for commit in batch.iter() {
            let events = commit.events().map(|event| event.payload().to_vec());
            let events: Vec<String> =
                events.map(|payload| String::from_utf8(payload).unwrap()).collect();
            let number = events[0].split('/').nth(1).unwrap().parse().unwrap();
            let whole: Vec<String> =
                (0..COMMIT_EVENTS).map(|part| format!("{session}/{number}/{part}")).collect();
            assert_eq!(events, whole, "a commit is not whole");
            numbers.push(number);
        }
        read.after = batch.upto();
    }
    numbers
}

/// A log in a folder, whose commits need a moment until they are durable.
struct FolderServer {
    store: Store,
    served: ServedLog,
    _folder: tempfile::TempDir,
}

impl FolderServer {
    fn start() -> FolderServer {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), LogOptions::default()).unwrap();
        let store = Store::new(log);
        FolderServer { served: ServedLog::start(store.clone()), store, _folder: folder }
    }

    /// Waits until the client has made some commits after this position.
    async fn has_commits_after(&self, position: Position) {
        let enough = position.get() + COMMITS * COMMIT_EVENTS;
        in_time(self.store.head().after(Position::new(enough))).await.unwrap();
    }

    /// Checks the log after a client went, and goes on with its session.
    async fn check(&self, session: u8, before: Position) {
        let (requests, mut replies) = open(self.served.address, session).await;
        // The server answers once the commits that it has read are made.
        let opened = in_time(replies.message()).await.unwrap().unwrap().opened.unwrap();
        assert!(opened.resumed, "the server has lost the session");
        let numbers = commits(&self.store, session, before).await;
        let made = numbers.len() as u64;
        assert!(made >= COMMITS, "{made}");
        assert!(numbers.into_iter().eq(1..=made), "commits are missing, or in another order");

        // The next connection asks for the last outcomes, and makes the commits after them.
        let wanted = made - 4..=made + 5;
        let calls = wanted.clone().map(|number| numbered(session, number)).collect();
        requests.send(AppendRequest { calls, ..AppendRequest::default() }).await.unwrap();
        let (mut places, mut synced) = (Vec::new(), 0);
        while synced < wanted.clone().count() {
            for reply in in_time(replies.message()).await.unwrap().unwrap().replies {
                match reply.outcome.unwrap() {
                    call_reply::Outcome::Accepted(place) => {
                        places.push((reply.number, place.first));
                        synced += usize::from(place.synced);
                    }
                    call_reply::Outcome::Synced(_) => synced += 1,
                    call_reply::Outcome::Failure(failure) => panic!("{failure:?}"),
                }
            }
        }
        places.sort_unstable();
        let place = |number| (number, before.get() + (number - 1) * COMMIT_EVENTS + 1);
        assert!(places.iter().copied().eq(wanted.map(place)), "{places:?}");
        let numbers = commits(&self.store, session, before).await;
        assert!(numbers.into_iter().eq(1..=made + 5), "a commit was made twice");
    }
}

fn run(work: impl Future<Output = ()>) {
    Runtime::new().unwrap().block_on(work);
}

#[test]
fn a_killed_client_leaves_whole_commits_in_order_and_its_session_goes_on() {
    let log = FolderServer::start();
    for session in 1..=3 {
        let before = log.store.head().position();
        let client = ClientProcess::start(log.served.address, session);
        run(log.has_commits_after(before));
        drop(client);
        run(log.check(session, before));
    }
}

/// Passes on the bytes of one connection. Its end resets the connection to the server.
async fn relay(listener: TcpListener, to: SocketAddr) {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut server = TcpStream::connect(to).await.unwrap();
    server.set_zero_linger().unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

#[test]
fn a_client_whose_connection_is_reset_leaves_whole_commits_in_order_and_its_session_goes_on() {
    let log = FolderServer::start();
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let passing = runtime.spawn(relay(listener, log.served.address));
    let client = runtime.spawn(append_without_end(address, 1));
    run(log.has_commits_after(Position::START));
    passing.abort();
    run(log.check(1, Position::START));
    client.abort();
}
