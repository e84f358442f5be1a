//! Measures subscribers: how late they get an event, what idle ones cost, and many of the same
//! events.
//!
//! An event carries the time of its append in its payload.

use std::{
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant},
};

use diptych_benches::{
    appends::{self, CallReport},
    device::{memory_kib_of, processor_seconds},
    engines::Pending,
    latency::Latencies,
    options::Options,
    table::{Contender, Table},
    workload::{Entry, Numbers},
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::interval,
};

use crate::{
    RUNTIME,
    connection::Connection,
    served::{ABOUT, BY_STORE, SERVED, Server, ServerKind, UMADB, on_fresh_log},
};

const CONNECTIONS: u64 = 8;
const IDLE: usize = 1_000;
/// Turns of appends without idle subscribers, and as many beside them.
const PAIRS: usize = 3;
/// Clients that append beside idle subscribers.
const CLIENTS: u64 = 64;
const FAN_OUT: usize = 100;
/// Events appended in each millisecond of the part `fanout`.
const EVENTS_OF_MS: u64 = 5;
/// Appends of the part `fanout` that may be in flight.
const IN_FLIGHT: usize = 1_024;
/// An account without events.
const NO_ACCOUNT: u64 = u64::MAX;
/// Time in which subscribers connect, and in which the last deliveries arrive.
const SETTLE: Duration = Duration::from_secs(1);

/// The begin of all times in events.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now() -> u64 {
    BEGIN.elapsed().as_nanos() as u64
}

/// An event of account 0 with the present time.
fn stamped(numbers: &mut Numbers) -> Entry {
    Entry { account: 0, amount: now(), ..Entry::random(numbers) }
}

/// Subscribers that record how late they get their events.
struct Listeners {
    latencies: Vec<Arc<Mutex<Latencies>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Listeners {
    fn start(connections: &[Arc<dyn Connection>], count: usize, account: u64) -> Listeners {
        let mut listeners = Listeners { latencies: Vec::new(), tasks: Vec::new() };
        for connection in connections.iter().cycle().take(count) {
            let latencies = Arc::new(Mutex::new(Latencies::default()));
            listeners.latencies.push(latencies.clone());
            let seen = move |amount| {
                let took = Duration::from_nanos(now() - amount);
                latencies.lock().unwrap().add(took);
            };
            let listen: Pending<'static> = connection.listen(Some(account), Box::new(seen));
            listeners.tasks.push(RUNTIME.spawn(listen));
        }
        std::thread::sleep(SETTLE);
        listeners
    }

    /// Forgets the latencies so far, and returns them.
    fn take(&self) -> Latencies {
        let mut all = Latencies::default();
        for latencies in &self.latencies {
            all.merge(&std::mem::take(&mut *latencies.lock().unwrap()));
        }
        all
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn quantiles(latencies: &Latencies) -> [f64; 2] {
    [0.5, 0.99].map(|part| latencies.quantile(part))
}

pub(crate) fn one(options: &Options) -> Vec<Table> {
    let contender = |kind: ServerKind| {
        Contender::several(kind.name, move |round| {
            on_fresh_log(options, kind, 2, |_, connected| {
                let listeners = Listeners::start(&connected[1..], 1, 0);
                let appender = connected[0].clone();
                let (turn, mut numbers) = (options.turn(), Numbers::of_caller(round, 0));
                let mut append_for = async |turn: Duration| {
                    let mut latencies = Latencies::default();
                    let start = Instant::now();
                    while start.elapsed() < turn {
                        let start = Instant::now();
                        appender.append_async(stamped(&mut numbers)).await;
                        latencies.add(start.elapsed());
                    }
                    latencies
                };
                RUNTIME.block_on(append_for(Duration::from_millis(300)));
                listeners.take();
                let acknowledged = RUNTIME.block_on(append_for(turn));
                std::thread::sleep(SETTLE / 2);
                let ([ack, ack99], [got, got99]) =
                    (quantiles(&acknowledged), quantiles(&listeners.take()));
                vec![ack, ack99, got, got99, got - ack, got99 - ack99]
            })
        })
    };
    let table = |what: &str| Table::new(format!("subscriber: {what}"), "us, less is better", UMADB);
    let mut tables = vec![
        table("append to its acknowledgement, p50"),
        table("append to its acknowledgement, p99"),
        table("append to a subscriber, p50"),
        table("append to a subscriber, p99"),
        table("the subscriber after the acknowledgement, p50"),
        table("the subscriber after the acknowledgement, p99"),
    ];
    tables[0].notes = &[
        "one client appends, another one with a connection of its own subscribes to the account",
        "Diptych alone: by the call Subscribe of the protocol",
    ];
    let kinds = SERVED.iter().copied().chain([BY_STORE]);
    Table::measure_all(tables, options, kinds.map(contender).collect())
}

/// Appends of several turns, and what they cost the server.
#[derive(Default)]
struct AppendTurns {
    latencies: Latencies,
    rates: f64,
    busy: f64,
}

impl AppendTurns {
    fn add(&mut self, server: &Server, turn: impl FnOnce() -> CallReport) {
        let busy = processor_seconds(server.process());
        let CallReport { per_second, latencies } = turn();
        self.latencies.merge(&latencies);
        self.rates += per_second;
        self.busy += processor_seconds(server.process()) - busy;
    }

    /// The rate, its quantiles, and the processor time of the server for each append.
    fn figures(&self, turn: Duration) -> [f64; 4] {
        let [p50, p99] = quantiles(&self.latencies);
        let seconds = (turn + appends::WARM_UP).as_secs_f64();
        let microseconds = self.busy * 1e6 / (self.rates * seconds);
        [self.rates / PAIRS as f64, p50, p99, microseconds]
    }
}

pub(crate) fn idle(options: &Options) -> Vec<Table> {
    let contender = |kind: ServerKind| {
        Contender::several(kind.name, move |round| {
            on_fresh_log(options, kind, CONNECTIONS, |server, connected| {
                let turn = options.turn();
                let appends = || appends::tasks(&RUNTIME, connected, CLIENTS, round, turn);
                let memory = || memory_kib_of(server.process(), "VmRSS") as f64 / 1024.0;
                let (mut without, mut beside) = (AppendTurns::default(), AppendTurns::default());
                // Appends grow what the server has in memory too, so they come first.
                without.add(server, appends);
                let before = memory();
                let mut listeners = Listeners::start(connected, IDLE, NO_ACCOUNT);
                let subscribed = memory() - before;
                // Other programs of the machine come and go, so the turns alternate.
                for pair in 1..=PAIRS {
                    beside.add(server, appends);
                    if pair < PAIRS {
                        drop(listeners);
                        std::thread::sleep(SETTLE / 2);
                        without.add(server, appends);
                        listeners = Listeners::start(connected, IDLE, NO_ACCOUNT);
                    }
                }
                let (without, beside) = (without.figures(turn), beside.figures(turn));
                let mut figures = vec![subscribed];
                figures.extend(without.iter().chain(&beside));
                figures.extend([beside[0] / without[0], beside[3] / without[3]]);
                figures
            })
        })
    };
    let table = |what: &str, unit| Table::new(format!("idle: {what}"), unit, UMADB);
    let tables = vec![
        table("1,000 subscribers over 8 connections, memory of the server", "MiB").notes(ABOUT),
        table("64 clients over 8 connections append", "events/s, each synced"),
        table("64 clients append, p50", "us, less is better"),
        table("64 clients append, p99", "us, less is better"),
        table("the server for each append", "us of processors, less is better"),
        table("64 clients append beside 1,000 subscribers", "events/s, each synced"),
        table("64 clients append beside 1,000 subscribers, p50", "us, less is better"),
        table("64 clients append beside 1,000 subscribers, p99", "us, less is better"),
        table("the server for each append beside 1,000", "us of processors, less is better"),
        table("64 clients append beside 1,000 subscribers", "of the rate without them"),
        table("the server for each append beside 1,000", "of the processors without them"),
    ];
    Table::measure_all(tables, options, SERVED.iter().copied().map(contender).collect())
}

pub(crate) fn fan_out(options: &Options) -> Vec<Table> {
    let contender = |kind: ServerKind| {
        Contender::several(kind.name, move |round| {
            on_fresh_log(options, kind, CONNECTIONS + 1, |server, connected| {
                let listeners = Listeners::start(&connected[1..], FAN_OUT, 0);
                let append = |turn| RUNTIME.block_on(paced(&connected[0], round, turn));
                append(SETTLE);
                listeners.take();
                let (start, busy) = (Instant::now(), processor_seconds(server.process()));
                let acknowledged = append(options.turn());
                let taken = start.elapsed().as_secs_f64();
                let busy = processor_seconds(server.process()) - busy;
                let delivered = listeners.take();
                let [p50, p99] = quantiles(&delivered);
                let [ack50, ack99] = quantiles(&acknowledged);
                let rate = delivered.count() as f64 / taken;
                let appended = acknowledged.count() as f64 / taken;
                vec![rate, p50, p99, busy / taken, appended, ack50, ack99]
            })
        })
    };
    let table = |what: &str, unit| Table::new(format!("fanout: {what}"), unit, UMADB);
    let tables = vec![
        table("100 subscribers of the same 5,000 events a second", "delivered events/s"),
        table("append to a subscriber, p50", "us, less is better"),
        table("append to a subscriber, p99", "us, less is better"),
        table("processors that the server used", "processors, less is better"),
        table("appended", "events/s, each synced"),
        table("append to its acknowledgement, p50", "us, less is better"),
        table("append to its acknowledgement, p99", "us, less is better"),
    ];
    Table::measure_all(tables, options, SERVED.iter().copied().map(contender).collect())
}

/// Appends events of one account at a steady rate, each as a commit of its own. The rate falls if
/// too many are in flight.
async fn paced(connection: &Arc<dyn Connection>, round: u64, turn: Duration) -> Latencies {
    let (mut numbers, mut tick) =
        (Numbers::of_caller(round, 0), interval(Duration::from_millis(1)));
    let (mut appends, mut latencies) = (JoinSet::new(), Latencies::default());
    let start = Instant::now();
    while start.elapsed() < turn {
        tick.tick().await;
        for _ in 0..EVENTS_OF_MS {
            while let Some(took) = appends.try_join_next() {
                latencies.add(took.unwrap());
            }
            if appends.len() >= IN_FLIGHT {
                latencies.add(appends.join_next().await.unwrap().unwrap());
            }
            let (connection, entry) = (connection.clone(), stamped(&mut numbers));
            appends.spawn(async move {
                let start = Instant::now();
                connection.append_async(entry).await;
                start.elapsed()
            });
        }
    }
    appends.join_all().await.into_iter().for_each(|took| latencies.add(took));
    latencies
}
