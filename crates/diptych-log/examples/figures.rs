//! Measures the log on this machine: `cargo run --release -p diptych-log --example figures`.
//!
//! The workload: payload of 256 bytes, one of 8 event types, tags `account:` (1 of 10,000) and
//! `tenant:` (1 of 100). Every append is acknowledged after its sync. Options: `--dir DIR` (a
//! temporary folder if not given), `--seconds N` for each row of appends, `--events N`.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing)]

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use diptych_log::{Log, LogOptions};
use diptych_store::{
    Append, AppendCondition, Digest, EventStore, Filter, Key, Position, RawEvent, Read, Tag,
};
use pollster::block_on;

const TYPES: [&str; 8] =
    ["type-0", "type-1", "type-2", "type-3", "type-4", "type-5", "type-6", "type-7"];

fn main() {
    let options = Options::from_arguments();
    println!("folder {}", options.dir.display());
    raw_limit(&options);
    for writers in [1, 8, 64, 256] {
        appends(&options, writers);
    }
    pipelined(&options);
    batches_then_reads(&options);
    keys(&options);
    fs::remove_dir_all(&options.dir).unwrap();
}

struct Options {
    dir: PathBuf,
    seconds: f64,
    events: u64,
}

impl Options {
    fn from_arguments() -> Options {
        let mut options = Options {
            dir: std::env::temp_dir().join(format!("diptych-figures-{}", std::process::id())),
            seconds: 3.0,
            events: 1_000_000,
        };
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        for pair in arguments.chunks(2) {
            match pair {
                [name, value] if name == "--dir" => options.dir = value.into(),
                [name, value] if name == "--seconds" => options.seconds = value.parse().unwrap(),
                [name, value] if name == "--events" => options.events = value.parse().unwrap(),
                _ => panic!("options are --dir DIR, --seconds N, --events N"),
            }
        }
        fs::create_dir_all(&options.dir).unwrap();
        options
    }

    fn fresh(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(name);
        let _ = fs::remove_dir_all(&dir);
        dir
    }
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

fn event(numbers: &mut Numbers) -> RawEvent {
    let number = numbers.next();
    RawEvent::new(TYPES[(number % 8) as usize], vec![number as u8; 256])
        .tag(Tag::new("account", (number >> 8) % 10_000))
        .tag(Tag::new("tenant", (number >> 40) % 100))
}

/// Payload, type and tags of an event, on average.
fn content_bytes(events: u64) -> f64 {
    let mut numbers = Numbers(2);
    let bytes = (0..events).map(|_| {
        let event = event(&mut numbers);
        let tags: usize = event.tags.iter().map(|tag| tag.as_str().len()).sum();
        event.payload.len() + event.event_type.len() + tags
    });
    bytes.sum::<usize>() as f64 / events as f64
}

fn raw_limit(options: &Options) {
    let path = options.fresh("raw");
    let file = File::create(&path).unwrap();
    let (mut syncs, start) = (0_u64, Instant::now());
    while start.elapsed().as_secs_f64() < options.seconds {
        file.write_all_at(&[7; 310], syncs * 310).unwrap();
        file.sync_data().unwrap();
        syncs += 1;
    }
    let rate = syncs as f64 / start.elapsed().as_secs_f64();
    println!("{:<44}{:>12.0}/s", "raw: 310 bytes appended and synced", rate);
}

fn appends(options: &Options, writers: u64) {
    let log = Log::open(options.fresh("appends"), LogOptions::default()).unwrap();
    let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    thread::scope(|scope| {
        for writer in 0..writers {
            let (log, count, stop) = (&log, &count, &stop);
            scope.spawn(move || {
                let mut numbers = Numbers(writer);
                while !stop.load(Ordering::Relaxed) {
                    log.blocking().commit(Append::event(event(&mut numbers))).unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(Duration::from_secs_f64(options.seconds));
        stop.store(true, Ordering::Relaxed);
    });
    let rate = count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    println!("{:<44}{:>12.0}/s", format!("append, {writers} writers, 1 event each"), rate);
    let head = log.head().position().get();
    log.close().unwrap();
    let (used, allocated) = sizes(&options.dir.join("appends"));
    println!(
        "{:<44}{:>12.1} used, {:.1} allocated",
        "  bytes on disk an event",
        used as f64 / head as f64,
        allocated as f64 / head as f64
    );
}

fn pipelined(options: &Options) {
    let log = Log::open(options.fresh("pipelined"), LogOptions::default()).unwrap();
    let (mut numbers, mut waiting) = (Numbers(1), std::collections::VecDeque::new());
    let (mut count, start) = (0_u64, Instant::now());
    while start.elapsed().as_secs_f64() < options.seconds {
        waiting.push_back(log.blocking().append(Append::event(event(&mut numbers))).unwrap());
        if waiting.len() >= 1024 {
            block_on(waiting.pop_front().unwrap().synced()).unwrap();
        }
        count += 1;
    }
    for accepted in waiting {
        block_on(accepted.synced()).unwrap();
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("{:<44}{:>12.0}/s", "append, 1 thread, 1,024 in flight", rate);
    log.close().unwrap();
}

fn batches_then_reads(options: &Options) {
    let dir = options.fresh("batches");
    let log = Log::open(&dir, LogOptions::default()).unwrap();
    let (mut numbers, mut fifths) = (Numbers(2), Vec::new());
    let start = Instant::now();
    for batch in 0..options.events / 1000 {
        if batch % (options.events / 5000).max(1) == 0 {
            fifths.push(Instant::now());
        }
        let events = (0..1000).map(|_| event(&mut numbers));
        log.blocking().commit(Append::events(events)).unwrap();
    }
    let rate = options.events as f64 / start.elapsed().as_secs_f64();
    println!("{:<44}{:>12.0} events/s", "append, 1 writer, 1,000 events each", rate);
    if let [first, second, .., last] = fifths.as_slice() {
        let ratio = (*second - *first).as_secs_f64() / last.elapsed().as_secs_f64();
        println!("{:<44}{:>12.2}", "  last fifth against the first", ratio);
    }
    println!("{:<44}{:>12} KiB", "  peak memory so far", peak_memory_kib());
    let start = Instant::now();
    log.close().unwrap();
    println!("{:<44}{:>12.2} ms", "close", start.elapsed().as_secs_f64() * 1e3);
    let (used, allocated) = sizes(&dir);
    let content = content_bytes(options.events);
    println!(
        "{:<44}{:>12.1} used, {:.1} allocated",
        format!("bytes on disk an event ({content:.1} of content)"),
        used as f64 / options.events as f64,
        allocated as f64 / options.events as f64
    );
    let start = Instant::now();
    let log = Log::open(&dir, LogOptions::default()).unwrap();
    println!("{:<44}{:>12.2} ms", "open after a clean close", start.elapsed().as_secs_f64() * 1e3);
    for round in ["replay, first", "replay, warm"] {
        replay(&log, round);
    }
    tag_reads(&log);
    conditions(&log);
    drop(log);
}

fn replay(log: &Log, name: &str) {
    let (mut after, mut events, mut bytes, start) = (Position::START, 0_u64, 0, Instant::now());
    loop {
        let batch = log.blocking().read(&Filter::everything(), Read::after(after)).unwrap();
        if batch.is_empty() {
            break;
        }
        for event in batch.iter() {
            events += 1;
            bytes += event.payload().len();
        }
        after = batch.upto();
    }
    assert_eq!(bytes as u64, events * 256);
    let rate = events as f64 / start.elapsed().as_secs_f64();
    println!("{:<44}{:>12.0} events/s", name, rate);
}

fn tag_reads(log: &Log) {
    let (mut numbers, mut times, mut events) = (Numbers(3), Vec::new(), 0);
    for _ in 0..2000 {
        let filter = Filter::tag(Tag::new("account", numbers.next() % 10_000));
        let start = Instant::now();
        let batch = log.blocking().read(&filter, Read::all()).unwrap();
        let payload: usize = batch.iter().map(|event| event.payload().len()).sum();
        times.push(start.elapsed());
        events += batch.len();
        assert_eq!(payload, batch.len() * 256);
    }
    times.sort();
    let name = format!("read one account ({} events), p50 / p99", events / 2000);
    println!("{:<44}{:>12.1?} / {:.1?}", name, times[1000], times[1980]);
}

fn conditions(log: &Log) {
    let mut numbers = Numbers(4);
    let head = log.head().position();
    let (rounds, start) = (2000_u64, Instant::now());
    for _ in 0..rounds {
        let tag = Tag::new("account", numbers.next() % 10_000);
        let fail_if = Filter::tag(tag);
        let after = log.blocking().last(&fail_if, head).unwrap().unwrap_or_default();
        let condition = AppendCondition { fail_if, after };
        let accepted = log.blocking().append(Append::default().condition(condition)).unwrap();
        assert_eq!(accepted.last, head);
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / rounds as f64;
    println!("{:<44}{:>12.2} us", "last of an account, and condition on it", each);
}

fn keys(options: &Options) {
    let log = Log::open(options.fresh("keys"), LogOptions::default()).unwrap();
    let mut numbers = Numbers(5);
    for round in 0..4 {
        let mut waiting = Vec::new();
        let start = Instant::now();
        for number in 0..50_000_u64 {
            let key = Key::new(format!("request {round} {number}"), Digest([7; 16]));
            let append = Append::event(event(&mut numbers)).key(key);
            waiting.push(log.blocking().append(append).unwrap());
        }
        block_on(waiting.pop().unwrap().synced()).unwrap();
        let rate = 50_000.0 / start.elapsed().as_secs_f64();
        let name = format!("append with a new key, {} there", round * 50_000);
        println!("{:<44}{:>12.0}/s", name, rate);
    }
    log.close().unwrap();
}

fn sizes(dir: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let (used, allocated) = match metadata.is_dir() {
            true => sizes(&entry.path()),
            false => (metadata.len(), metadata.blocks() * 512),
        };
        sum = (sum.0 + used, sum.1 + allocated);
    }
    sum
}

fn peak_memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: 0 kB");
    let _ = std::io::stdout().flush();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}
