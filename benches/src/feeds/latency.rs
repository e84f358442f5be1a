//! Measures the time from an event of one service to the event that it causes in another.

use std::time::{Duration, Instant};

use diptych::App;
use diptych_benches::{
    durable::{grown_to, runtime},
    latency::Latencies,
    options::Options,
    table::{Row, Table},
};
use diptych_server::Server;
use diptych_store::{Append, Store};
use tokio::net::TcpListener;

use crate::{
    intake::{OWN, http},
    services::{ordering, placed, shipping},
};

/// The time that the way between two services may take beside five syncs.
const BESIDE: f64 = 1_000.0;
const AGAINST: &str = "a durable append (p50)";

pub(crate) fn table(options: &Options) -> Table {
    let table = Table::new(
        "latency: from a durable event to the durable event that it causes in another service, \
         over HTTP, one at a time"
            .to_owned(),
        "us",
        AGAINST,
    );
    let mut table = table.notes(&[
        "both services are in this process, so that one clock measures, and have a log each",
        "the sync of the first event is not counted",
        "goal of the half: five durable appends of the same run and 1 ms",
    ]);
    let (mut appends, mut half, mut most) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let (append, caused) = run(options);
        appends.push(append.quantile(0.5));
        half.push(caused.quantile(0.5));
        most.push(caused.quantile(0.99));
    }
    let goal = appends.iter().map(|append| 5.0 * append + BESIDE).collect();
    let row = |name, rates| Row { name, against: AGAINST, rates };
    table.rows = vec![
        row(AGAINST, appends),
        row("to the event of the other service (p50)", half),
        row("to the event of the other service (p99)", most),
        row("the goal of the half", goal),
    ];
    table
}

/// The durations of plain appends, and those from an event to its effect, in turns.
fn run(options: &Options) -> (Latencies, Latencies) {
    let folders = [options.folder(), options.folder(), options.folder()];
    let [source, own, plain] = [0, 1, 2].map(|number| folders[number].path());
    runtime().block_on(async {
        let publishing = ordering(source).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(publishing.clone()).serve(listener, std::future::pending());
        let serving = tokio::spawn(server);
        let shipping = shipping(own, http(address)).await;
        let beside = App::open(plain).unwrap().start().await.unwrap();
        let (mut appends, mut caused) = (Latencies::default(), Latencies::default());
        let (mut order, mut start) = (0, Instant::now());
        while start.elapsed() < options.turn() {
            appends.add(appended(beside.store(), order).await);
            appended(publishing.store(), order).await;
            let began = Instant::now();
            order += 1;
            grown_to(shipping.store(), OWN.plus(order)).await;
            caused.add(began.elapsed());
            if order == 20 {
                (appends, caused) = (Latencies::default(), Latencies::default());
                start = Instant::now();
            }
        }
        shipping.stop().await.unwrap();
        serving.abort();
        publishing.stop().await.unwrap();
        beside.stop().await.unwrap();
        (appends, caused)
    })
}

async fn appended(store: &Store, order: u64) -> Duration {
    let began = Instant::now();
    store.append(Append::event(placed(order))).await.unwrap().synced().await.unwrap();
    began.elapsed()
}
