//! Measures what consumers cost that wait for a feed.

use std::{net::SocketAddr, thread, time::Duration};

use diptych_benches::{
    device::{memory_kib_of, processor_seconds},
    durable::runtime,
    options::Options,
    table::{Contender, Table},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    task::JoinHandle,
};

use crate::{
    publisher::Publisher,
    services::{ordering, place},
};

const CONSUMERS: usize = 1_000;
/// Turns without consumers, and as many beside them.
const PAIRS: usize = 3;
/// Time in which consumers connect, and in which a server notices that they are gone.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    let table = |what: &str, unit| Table::new(format!("idle: {what}"), unit, "appends");
    let tables = vec![
        table("64 tasks append other events", "events/s, each synced").notes(&[
            "the consumers ask over HTTP, each on a connection, and wait for 60 s",
            "the events that are appended are outside of the feed",
        ]),
        table("64 tasks append beside 1,000 consumers of a feed", "events/s, each synced"),
        table("64 tasks append beside 1,000 consumers of a feed", "of the rate without them"),
        table("the publisher for each append beside 1,000", "of the processors without them"),
        table("1,000 consumers, memory of the publisher", "MiB"),
    ];
    let contender = Contender::several("appends", |_| run(options));
    Table::measure_all(tables, options, vec![contender])
}

fn run(options: &Options) -> Vec<f64> {
    let (folder, runtime) = (options.folder(), runtime());
    runtime.block_on(async {
        let app = ordering(folder.path()).await;
        place(app.store(), 0..1_000).await;
        app.stop().await.unwrap();
    });
    let mut publisher = Publisher::start(folder.path());
    publisher.append_others(options.turn());
    let (mut without, mut beside) = ([0.0; 2], [0.0; 2]);
    let mut memory = Vec::new();
    for _ in 0..PAIRS {
        turn(&mut publisher, options, &mut without);
        let before = memory_kib_of(publisher.process(), "VmRSS") as f64 / 1024.0;
        let consumers = Consumers::start(&runtime, publisher.address);
        memory.push(memory_kib_of(publisher.process(), "VmRSS") as f64 / 1024.0 - before);
        turn(&mut publisher, options, &mut beside);
        drop(consumers);
        thread::sleep(SETTLE);
    }
    let pairs = PAIRS as f64;
    let ([rate, cost], [rate_beside, cost_beside]) = (without, beside);
    vec![rate / pairs, rate_beside / pairs, rate_beside / rate, cost_beside / cost, memory[0]]
}

/// Adds the rate of a turn, and the processor time of the publisher for each append.
fn turn(publisher: &mut Publisher, options: &Options, [rates, costs]: &mut [f64; 2]) {
    let busy = processor_seconds(publisher.process());
    let rate = publisher.append_others(options.turn());
    *rates += rate;
    *costs += (processor_seconds(publisher.process()) - busy) / rate;
}

struct Consumers(Vec<JoinHandle<()>>);

impl Consumers {
    fn start(runtime: &Runtime, address: SocketAddr) -> Consumers {
        let consumers = (0..CONSUMERS).map(|_| runtime.spawn(wait_for_events(address))).collect();
        thread::sleep(SETTLE);
        Consumers(consumers)
    }
}

impl Drop for Consumers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Asks for the events after the end, again and again.
async fn wait_for_events(address: SocketAddr) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let question = "GET /feeds/orders?after=end&timeout=60000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    loop {
        connection.write_all(question.as_bytes()).await.unwrap();
        let mut answer = [0; 4_096];
        assert!(connection.read(&mut answer).await.unwrap() > 0, "the publisher hangs up");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
}
