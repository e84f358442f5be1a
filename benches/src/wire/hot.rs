//! Measures two processes that decide on one account as fast as they can.

use std::{
    convert::Infallible,
    net::SocketAddr,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use diptych::{
    App, Command, DecisionContext, Event, EventType, Filter, Fold, Recorded,
    event::{EncodedEvent, SchemaError},
    store::RawEvent,
};
use diptych_benches::{
    engines::diptych::{account, event},
    latency::Latencies,
    options::Options,
    table::{Contender, Table},
    workload::{Entry, Numbers, TYPES},
};
use diptych_remote::AppendAnswer;

use crate::{
    RUNTIME,
    connection::Client,
    ours::{self, Remote},
    served::{OURS, SERVED, Server, ServerKind, UMADB, child},
    writes::with_latencies,
};

const PROCESSES: usize = 2;
const TASKS: u64 = 16;

const BY_HAND: &str = "Diptych, by hand";
const APP_SYNCED: &str = "Diptych, commands of an app, Synced";
const APP_ACCEPTED: &str = "Diptych, commands of an app, Accepted";

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    let peers = SERVED.iter().filter(|kind| kind.name == UMADB).map(|kind| (UMADB, *kind));
    let ours = [BY_HAND, APP_SYNCED, APP_ACCEPTED].map(|name| (name, OURS));
    let contender =
        |(name, kind)| Contender::several(name, move |round| turn(options, name, kind, round));
    let title = "hot: 2 processes with 16 tasks each decide on one account";
    let mut tables = with_latencies(title, "acknowledged/s, each synced");
    tables[0].notes = &[
        "by hand, and UmaDB: ask for the account's last event, append if it still is, else again",
        "Accepted: an append answers before it is synced, and the command answers when it is",
        "p50 and p99 are of commands with all their retries: the mean of the two processes",
    ];
    tables.push(Table::new(format!("{title}, conflicts"), "conflicts for an acknowledged", UMADB));
    Table::measure_all(tables, options, peers.chain(ours).map(contender).collect())
}

fn turn(options: &Options, name: &str, kind: ServerKind, round: u64) -> Vec<f64> {
    let folder = options.folder();
    let server = Server::start(kind, &folder.path().join("log"));
    drop(server.connect(1));
    let start = |process: usize| {
        let mut command = child("hot", name);
        command.arg(server.address.to_string());
        command.arg((round * 10 + process as u64).to_string()).arg(options.seconds.to_string());
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..PROCESSES).map(start).collect();
    let outputs = children.into_iter().map(|child| child.wait_with_output().unwrap());
    let mut sums = [0.0; 4];
    for output in outputs {
        assert!(output.status.success(), "a client of the part `hot` failed");
        let text = String::from_utf8(output.stdout).unwrap();
        for (sum, figure) in sums.iter_mut().zip(text.split_whitespace()) {
            *sum += figure.parse::<f64>().unwrap();
        }
    }
    let [rate, p50, p99, conflicts] = sums;
    vec![rate, p50 / PROCESSES as f64, p99 / PROCESSES as f64, conflicts / rate]
}

/// Runs in a child process. Prints the rate, two quantiles, and the conflicts per second.
pub(crate) fn run(name: &str, address: SocketAddr, round: u64, seconds: f64) {
    match name {
        BY_HAND => by_hand(&Remote::connect(address, false), round, seconds),
        APP_SYNCED => by_app(address, AppendAnswer::Synced, round, seconds),
        APP_ACCEPTED => by_app(address, AppendAnswer::Accepted, round, seconds),
        #[cfg(feature = "umadb")]
        UMADB => by_hand(&crate::umadb::UmaDbConnection::connect(address), round, seconds),
        _ => panic!("this program has no such contender"),
    }
}

fn by_hand(client: &impl Client, round: u64, seconds: f64) {
    let conflicts = AtomicU64::new(0);
    repeat(round, seconds, &conflicts, async |entry| {
        loop {
            let last = client.last(entry.account).await;
            if client.append_if(entry, last).await {
                return true;
            }
            conflicts.fetch_add(1, Ordering::Relaxed);
        }
    });
}

fn by_app(address: SocketAddr, append_answer: AppendAnswer, round: u64, seconds: f64) {
    let app = App::over(ours::store(address, append_answer));
    let app = RUNTIME.block_on(app.start()).unwrap();
    let conflicts = AtomicU64::new(0);
    repeat(round, seconds, &conflicts, async |entry| {
        let is_done = app.execute(Touch(entry)).await.is_ok();
        conflicts.store(app.stats().conflicts, Ordering::Relaxed);
        is_done
    });
}

/// Runs `one` in a loop in several futures of this thread.
fn repeat(round: u64, seconds: f64, conflicts: &AtomicU64, one: impl AsyncFn(Entry) -> bool) {
    let (start, turn) = (Instant::now(), Duration::from_secs_f64(seconds));
    let client = async |task| {
        let (mut numbers, mut latencies) = (Numbers::of_caller(round, task), Latencies::default());
        while start.elapsed() < turn {
            let entry = Entry { account: 0, ..Entry::random(&mut numbers) };
            let start = Instant::now();
            if one(entry).await {
                latencies.add(start.elapsed());
            }
        }
        latencies
    };
    let all = RUNTIME.block_on(futures_util::future::join_all((0..TASKS).map(client)));
    let mut latencies = Latencies::default();
    all.iter().for_each(|one| latencies.merge(one));
    let taken = start.elapsed().as_secs_f64();
    println!("{}", latencies.count() as f64 / taken);
    println!("{} {}", latencies.quantile(0.5), latencies.quantile(0.99));
    println!("{}", conflicts.load(Ordering::Relaxed) as f64 / taken);
}

/// An event of the workload. Its payload is not decoded.
struct AccountEvent(Entry);

impl Event for AccountEvent {
    fn types() -> Vec<EventType> {
        TYPES.map(|name| EventType::new(name).tags(&["account", "tenant"])).to_vec()
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        Ok(event(&self.0))
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<AccountEvent, SchemaError> {
        let known = TYPES.iter().find(|name| **name == encoded.event_type);
        let event_type = known.ok_or_else(|| encoded.unknown::<AccountEvent>())?;
        Ok(AccountEvent(Entry { event_type, account: 0, tenant: 0, amount: 0 }))
    }
}

/// The number of events of an account.
#[derive(Default)]
struct Count(u64);

impl Fold for Count {
    type Event = AccountEvent;

    fn apply(&mut self, _: &Recorded<AccountEvent>) {
        self.0 += 1;
    }
}

/// Appends one event to an account. Its boundary is every event of the account.
struct Touch(Entry);

impl Command for Touch {
    type State = Count;
    type Event = AccountEvent;
    type Rejection = Infallible;

    fn boundary(&self) -> Filter {
        account(self.0.account)
    }

    fn decide(&self, _: &Count, _: &DecisionContext) -> Result<Vec<AccountEvent>, Infallible> {
        Ok(vec![AccountEvent(self.0)])
    }
}
