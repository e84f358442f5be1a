//! Measures what questions about the past take from commands:
//! `cargo run --release -p diptych-server --example past_callers`.
//!
//! One process serves a log in a temporary folder. 16 clients send commands, each the next one
//! after the answer to the last one. This runs alone, beside 256 clients that ask about the past,
//! each about another position, and beside 256 clients that all ask about one position. Each
//! question folds the whole log up to its position, and a client asks the next one 100 ms after the
//! answer, or after 503 `busy`. The rounds take turns, so that a busy machine
//! disturbs all alike. Options: `--events N` (in the log before), `--seconds N` (of one part),
//! `--rounds N`, `--clients N` (who ask about the past).

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing)]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use diptych::{
    App, Command, DecisionContext, Event, Filter, Fold, Query, Recorded, Tag, store::Append,
};
use diptych_server::{CommandRoute, Server, ServerLimits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

const COMMANDERS: u64 = 16;
/// Time between an answer about the past and the next question of the same client.
const PAUSE: Duration = Duration::from_millis(100);
const ACCOUNTS: u64 = 1_000;

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event("paid")]
struct Paid {
    #[tag]
    account: u64,
    cents: u64,
}

#[derive(Clone, Default)]
struct Balances(Vec<u64>);

impl Fold for Balances {
    type Event = Paid;

    fn apply(&mut self, event: &Recorded<Paid>) {
        self.0.resize(ACCOUNTS as usize, 0);
        self.0[(event.event.account % ACCOUNTS) as usize] += event.event.cents;
    }
}

/// The sum of one account.
#[derive(Clone, Default)]
struct Account(u64);

impl Fold for Account {
    type Event = Paid;

    fn apply(&mut self, event: &Recorded<Paid>) {
        self.0 += event.event.cents;
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Pay {
    account: u64,
    cents: u64,
}

impl Command for Pay {
    type State = Account;
    type Event = Paid;
    type Rejection = Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("account", self.account))
    }

    fn decide(&self, _: &Account, _: &DecisionContext) -> Result<Vec<Paid>, Infallible> {
        Ok(vec![Paid { account: self.account, cents: self.cents }])
    }
}

#[derive(Deserialize, JsonSchema)]
struct Total {}

impl Query for Total {
    type View = Balances;
    type Answer = u64;

    fn answer(&self, balances: &Balances) -> u64 {
        balances.0.iter().sum()
    }
}

#[derive(Clone, Copy)]
struct Options {
    events: u64,
    seconds: f64,
    rounds: u32,
    clients: u64,
}

/// The questions beside the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OtherQueries {
    Nothing,
    /// Each client asks about another position each time.
    Different,
    /// All clients ask about one position, which moves with each round.
    Equal,
}

#[tokio::main]
async fn main() {
    let mut options = Options { events: 1_000_000, seconds: 5.0, rounds: 3, clients: 256 };
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--events" => options.events = value.parse().unwrap(),
            [name, value] if name == "--seconds" => options.seconds = value.parse().unwrap(),
            [name, value] if name == "--rounds" => options.rounds = value.parse().unwrap(),
            [name, value] if name == "--clients" => options.clients = value.parse().unwrap(),
            _ => panic!("options are --events N, --seconds N, --rounds N, --clients N"),
        }
    }
    let folder = std::env::temp_dir().join(format!("diptych-past-{}", std::process::id()));
    let app = App::open(&folder).unwrap().start().await.unwrap();
    fill(&app, options.events).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut limits = ServerLimits::default();
    (limits.peer_requests, limits.peer_connections) = (limits.requests, limits.connections);
    let server = Server::new(app.clone())
        .command(CommandRoute::<Pay>::infallible("pay"))
        .query::<Total>("total")
        .limits(limits);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(listener, async move { drop(stopped.await) }));
    let parts = [OtherQueries::Nothing, OtherQueries::Different, OtherQueries::Equal];
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..options.rounds {
        for (rates, beside) in rates.iter_mut().zip(parts) {
            let outcome = part(address, options, beside, round).await;
            println!("round {round}, {beside:?}: {outcome:?}");
            rates.push(outcome.commands);
        }
    }
    for (rates, beside) in rates.iter().zip(parts) {
        println!("{beside:?}: {:.0} commands a second (median)", median(rates));
    }
    let alone = median(&rates[0]);
    let ratio = |rates: &[f64]| median(rates) / alone;
    println!("beside different questions: {:.2} of the rate alone", ratio(&rates[1]));
    println!("beside equal questions:     {:.2} of the rate alone", ratio(&rates[2]));
    drop(stop);
    serving.await.unwrap().unwrap();
    app.stop().await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

async fn fill(app: &App, events: u64) {
    for first in (0..events).step_by(1_000) {
        let commit = first..events.min(first + 1_000);
        let commit = commit.map(|at| Paid { account: at % ACCOUNTS, cents: 1 }.encode().unwrap());
        app.store().append(Append::events(commit)).await.unwrap().synced().await.unwrap();
    }
}

#[derive(Debug)]
#[allow(dead_code, reason = "it is printed")]
struct Outcome {
    /// Commands a second.
    commands: f64,
    /// Answers about the past a second.
    answers: f64,
    /// Questions a second that found no place.
    busy: f64,
}

async fn part(address: SocketAddr, options: Options, beside: OtherQueries, round: u32) -> Outcome {
    let is_over = Arc::new(AtomicBool::new(false));
    let [commands, answers, busy] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    if beside != OtherQueries::Nothing {
        for client in 0..options.clients {
            let (is_over, answers, busy) = (is_over.clone(), answers.clone(), busy.clone());
            clients.push(tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                let mut asked = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let from_end = match beside {
                        OtherQueries::Different => (asked * options.clients + client) % 100_000,
                        _ => u64::from(round),
                    };
                    asked += 1;
                    let at = options.events - 1 - from_end;
                    let status = connection.get(&format!("/queries/total?_as_of={at}")).await;
                    match status {
                        200 => answers.fetch_add(1, Ordering::Relaxed),
                        503 => busy.fetch_add(1, Ordering::Relaxed),
                        other => panic!("status {other}"),
                    };
                    tokio::time::sleep(PAUSE).await;
                }
            }));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let began = Instant::now();
    answers.store(0, Ordering::Relaxed);
    busy.store(0, Ordering::Relaxed);
    for client in 0..COMMANDERS {
        let (is_over, commands) = (is_over.clone(), commands.clone());
        clients.push(tokio::spawn(async move {
            let mut connection = Connection::open(address).await;
            let body = format!("{{\"account\":{client},\"cents\":1}}");
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(connection.post("/commands/pay", &body).await, 200);
                commands.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    tokio::time::sleep(Duration::from_secs_f64(options.seconds)).await;
    let took = began.elapsed().as_secs_f64();
    let rate = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / took;
    let outcome = Outcome { commands: rate(&commands), answers: rate(&answers), busy: rate(&busy) };
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    outcome
}

/// A connection that is kept open.
struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(address: SocketAddr) -> Connection {
        Connection(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    async fn get(&mut self, target: &str) -> u16 {
        self.ask(format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await
    }

    async fn post(&mut self, target: &str, body: &str) -> u16 {
        let head = format!("POST {target} HTTP/1.1\r\nhost: localhost\r\n");
        let length = body.len();
        let head = format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n");
        self.ask(format!("{head}\r\n{body}")).await
    }

    /// Sends a request, and returns the status of its answer.
    async fn ask(&mut self, request: String) -> u16 {
        self.0.get_mut().write_all(request.as_bytes()).await.unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            }
            match line.split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap();
                }
                _ => {}
            }
        }
        self.0.read_exact(&mut vec![0; length]).await.unwrap();
        status
    }
}
