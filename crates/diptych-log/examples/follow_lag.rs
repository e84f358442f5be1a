//! Measures how far a log that is opened for reading is behind its writer:
//! `cargo run --release -p diptych-log --example follow_lag`.
//!
//! One thread commits single events, each after the sync of the last one. Another waits for each at
//! the head of a `ReadOnlyLog`. The two share nothing but the folder. Options: `--dir DIR` (a
//! temporary folder if not given), `--commits N`, `--pause-us N` between two commits.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing)]

use std::{
    fs,
    path::PathBuf,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use diptych_log::{Log, LogOptions, ReadOnlyLog};
use diptych_store::{Append, EventStore, Position, RawEvent, Tag};
use pollster::block_on;

fn main() {
    let (mut dir, mut commits, mut pause) = (std::env::temp_dir(), 5_000_u64, 1_000);
    dir.push(format!("diptych-lag-{}", std::process::id()));
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--dir" => dir = PathBuf::from(value),
            [name, value] if name == "--commits" => commits = value.parse().unwrap(),
            [name, value] if name == "--pause-us" => pause = value.parse().unwrap(),
            _ => panic!("options are --dir DIR, --commits N, --pause-us N"),
        }
    }
    let log = Log::open(&dir, LogOptions::default()).unwrap();
    let reader = ReadOnlyLog::open(&dir, LogOptions::default()).unwrap();
    let first = log.head().position();
    let (sender, acknowledged) = mpsc::channel();
    let writer = thread::spawn(move || {
        for number in 0..commits {
            let event = RawEvent::new("measured", vec![7; 256]).tag(Tag::new("n", number % 100));
            let committed = log.blocking().commit(Append::event(event)).unwrap();
            sender.send((committed.last, Instant::now())).unwrap();
            thread::sleep(Duration::from_micros(pause));
        }
        log.close().unwrap();
    });
    let (mut seen, mut lags) = (first, Vec::new());
    let last = Position::new(first.get() + commits);
    while seen < last {
        seen = block_on(reader.head().after(seen)).unwrap();
        let now = Instant::now();
        while lags.len() < (seen.get() - first.get()) as usize {
            let (_, at) = acknowledged.recv().unwrap();
            lags.push(now.saturating_duration_since(at));
        }
    }
    writer.join().unwrap();
    lags.sort();
    let at = |percent: usize| lags[(lags.len() - 1) * percent / 100];
    println!("{} commits, behind the acknowledgement:", lags.len());
    println!("p50 {:?}, p90 {:?}, p99 {:?}, most {:?}", at(50), at(90), at(99), at(100));
    drop(reader);
    fs::remove_dir_all(dir).unwrap();
}
