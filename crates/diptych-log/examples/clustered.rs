//! Measures what clustering costs and gives: `cargo run --release -p diptych-log --example
//! clustered`.
//!
//! The workload is that of the example `figures`: payload of 256 bytes, one of 8 event types, tags
//! `account:` (1 of 10,000) and `tenant:` (1 of 100). Options: `--dir DIR` (a temporary folder if
//! not given), `--segments N`.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing)]

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use diptych_log::{Clustering, Log, LogOptions};
use diptych_store::{Append, EventStore, Filter, Position, RawEvent, Read, Tag};

const TYPES: [&str; 8] = ["ev0", "ev1", "ev2", "ev3", "ev4", "ev5", "ev6", "ev7"];
/// About as many as a segment of 64 MiB holds.
const EVENTS_OF_SEGMENT: u64 = 222_000;

fn main() {
    let mut dir = std::env::temp_dir().join(format!("diptych-clustered-{}", std::process::id()));
    let mut segments = 6;
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--dir" => dir = PathBuf::from(value),
            [name, value] if name == "--segments" => segments = value.parse().unwrap(),
            _ => panic!("options are --dir DIR, --segments N"),
        }
    }
    let options = || LogOptions { clustering: Clustering::Off, ..LogOptions::default() };
    let log = Log::open(&dir, options()).unwrap();
    write(&log, segments * EVENTS_OF_SEGMENT);
    log.close().unwrap();
    let log = Log::open(&dir, options()).unwrap();
    measure(&log, "as they arrived");
    let start = Instant::now();
    log.blocking().cluster().unwrap();
    // The last complete segment and the current one are not clustered.
    let clustered = log.blocking().stats().unwrap().segments - 2;
    let each = start.elapsed() / u32::try_from(clustered).unwrap();
    println!("{clustered} segments clustered, each in {each:.1?}");
    measure(&log, "clustered");
    log.close().unwrap();
    let log = Log::open(&dir, options()).unwrap();
    measure(&log, "clustered, opened again");
    log.close().unwrap();
    fs::remove_dir_all(&dir).unwrap();
}

/// A small generator of numbers; the same ones in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ (mixed >> 27)
    }
}

fn write(log: &Log, events: u64) {
    let mut numbers = Numbers(2);
    for _ in 0..events / 1_000 {
        let events = (0..1_000).map(|_| {
            let number = numbers.next();
            RawEvent::new(TYPES[(number % 8) as usize], vec![number as u8; 256])
                .tag(Tag::new("account", (number >> 8) % 10_000))
                .tag(Tag::new("tenant", (number >> 40) % 100))
        });
        let _ = log.blocking().append(Append::events(events)).unwrap();
    }
    log.blocking().flush().unwrap();
}

fn measure(log: &Log, name: &str) {
    let events = log.head().position().get();
    let stats = log.blocking().stats().unwrap();
    let each = |bytes: u64| bytes as f64 / events as f64;
    println!(
        "{name}: {:.2} bytes an event, {:.2} of them index, {:.2} allocated",
        each(stats.segment_bytes + stats.index_bytes),
        each(stats.index_bytes),
        each(stats.allocated_bytes)
    );
    let scans: Vec<Duration> = (0..5).map(|_| scan(log, events)).collect();
    let nanos = |time: Duration| time.as_nanos() as f64 / events as f64;
    println!(
        "  full scan: first {:.1} ns an event, then at best {:.1}",
        nanos(scans[0]),
        nanos(scans.iter().min().copied().unwrap_or_default())
    );
    for key in ["account", "tenant"] {
        let (mut numbers, mut found, start) = (Numbers(3), 0, Instant::now());
        for _ in 0..300 {
            let most = if key == "account" { 10_000 } else { 100 };
            let filter = Filter::tag(Tag::new(key, numbers.next() % most));
            found += log.blocking().read(&filter, Read::all().limit(1_000)).unwrap().len();
        }
        let nanos = start.elapsed().as_nanos() as f64 / found as f64;
        println!("  by {key}: {nanos:.1} ns an event, {} events a read", found / 300);
    }
}

fn scan(log: &Log, events: u64) -> Duration {
    let (mut after, mut count, start) = (Position::START, 0, Instant::now());
    while count < events {
        let batch = log.blocking().read(&Filter::everything(), Read::after(after)).unwrap();
        count += batch.len() as u64;
        after = batch.upto();
    }
    start.elapsed()
}
