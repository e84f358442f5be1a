//! Measures how fast a service takes in a feed of another process.

use std::{net::SocketAddr, time::Instant};

use diptych::{
    Position,
    collaboration::{FeedCursor, FeedRead, FeedSource},
    remote::{RemoteFeed, RemoteOptions},
};
use diptych_benches::{
    durable::{grown_to, runtime},
    options::Options,
    table::{Contender, Table},
};
use diptych_gateways::HttpFeed;

use crate::{
    publisher::Publisher,
    services::{ordering, place, shipping},
};

/// The log of a service that takes in has one event about its intake.
pub(crate) const OWN: Position = Position::new(1);
const PLAIN: &str = "own events, 1,000 in a commit";

pub(crate) fn table(options: &Options) -> Table {
    let count = options.number("--published");
    let folder = options.folder();
    runtime().block_on(async {
        let app = ordering(folder.path()).await;
        place(app.store(), 0..count).await;
        app.stop().await.unwrap();
    });
    let publisher = Publisher::start(folder.path());
    let (address, wire) = (publisher.address, publisher.wire);
    let table = Table::new(
        "intake: a feed of another process, until every event is durable".to_owned(),
        "events/s",
        PLAIN,
    );
    let table = table.notes(&[
        "each event becomes one private event of about 220 bytes; pages of 1,000 events",
        "the publisher and the service that takes in share the processors of one machine",
        "goal: 20,000 events a second over HTTP, 50,000 over the native wire",
    ]);
    let contenders = vec![
        Contender::new(PLAIN, |_| plainly(options, count)),
        Contender::new("pages alone, over HTTP", |_| pages(&http(address), count)),
        Contender::new("pages alone, over the native wire", |_| pages(&native(wire), count)),
        Contender::new("an intake, over HTTP", |_| taken_in(options, http(address), count)),
        Contender::new("an intake, over the native wire", |_| {
            taken_in(options, native(wire), count)
        }),
    ];
    table.measure(options, contenders)
}

pub(crate) fn http(address: SocketAddr) -> HttpFeed {
    HttpFeed::new(&format!("http://{address}/feeds/orders"), HttpFeed::options()).unwrap()
}

fn native(address: SocketAddr) -> RemoteFeed {
    let address = format!("diptych://{address}/feeds/orders");
    RemoteFeed::new(&address, RemoteOptions::default()).unwrap()
}

fn plainly(options: &Options, count: u64) -> f64 {
    let folder = options.folder();
    runtime().block_on(async {
        let app = ordering(folder.path()).await;
        let began = Instant::now();
        place(app.store(), 0..count).await;
        let rate = count as f64 / began.elapsed().as_secs_f64();
        app.stop().await.unwrap();
        rate
    })
}

/// Reads all pages and keeps nothing.
fn pages(source: &impl FeedSource, count: u64) -> f64 {
    runtime().block_on(async {
        let (began, mut after) = (Instant::now(), Position::START);
        while after.get() < count {
            after = source.read(FeedRead::after(FeedCursor::Position(after))).await.unwrap().upto;
        }
        count as f64 / began.elapsed().as_secs_f64()
    })
}

fn taken_in(options: &Options, source: impl FeedSource, count: u64) -> f64 {
    let folder = options.folder();
    runtime().block_on(async {
        let began = Instant::now();
        let app = shipping(folder.path(), source).await;
        grown_to(app.store(), OWN.plus(count)).await;
        let rate = count as f64 / began.elapsed().as_secs_f64();
        app.stop().await.unwrap();
        rate
    })
}
